"""Two processes write one row: what one of them took away does not come back by the other one's
write.
"""

import pytest
from django.db import connection

from clusters.api import clusters as clusters_api
from clusters.models import Cluster
from hub.auth import group_refresh, oidc
from hub.auth.accounts import save_account, set_password
from hub.auth.identities import update_identity
from hub.auth.oidc import Identity
from hub.engine.errors import NotFound
from hub.models import Account, LoginSession, change_setting, locked_setting, setting
from projects.api import repositories
from projects.models import Repository

pytestmark = pytest.mark.django_db

IDENTITY = Identity("https://idp", "u1", "", email_verified=False, name="U", groups=("ops",))


@pytest.fixture
def account():
    return Account.objects.create(
        name="company:u1",
        issuer="https://idp",
        subject="u1",
        provider="company",
        capabilities=["login"],
    )


WRITES = {
    "groups": lambda row: update_identity(row, IDENTITY),
    "a password": lambda row: set_password(row, "a long password", "u1"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_concurrently_disabled_account_stays_disabled(account, write):
    read_before = Account.objects.get(pk=account.pk)
    Account.objects.filter(pk=account.pk).update(enabled=False, capabilities=[])

    write(read_before)

    now = Account.objects.get(pk=account.pk)
    assert (now.enabled, now.capabilities) == (False, [])


def test_a_concurrent_password_change_stays(account, monkeypatch):
    Account.objects.filter(pk=account.pk).update(password="old", issuer="")
    before = Account.save

    def meanwhile(row, *args, **options):
        Account.objects.filter(pk=row.pk).update(password="new")
        return before(row, *args, **options)

    monkeypatch.setattr(Account, "save", meanwhile)
    save_account(account.name, "admin", capabilities=["login", "apiKey"])

    assert Account.objects.get(pk=account.pk).password == "new"


def test_a_concurrently_deleted_account_does_not_come_back(account):
    read_before = Account.objects.get(pk=account.pk)
    Account.objects.filter(pk=account.pk).delete()

    with pytest.raises(NotFound):
        set_password(read_before, "a long password", "u1")

    assert not Account.objects.exists()


@pytest.mark.parametrize("meanwhile", ["disabled", "deleted"])
def test_groups_of_an_account_that_went_while_the_provider_was_asked(
    account, monkeypatch, meanwhile
):
    session = LoginSession.objects.create(
        account=account, expires_at=account.created_at, refresh={"refresh_token": "r"}
    )
    rows = Account.objects.filter(pk=account.pk)

    def answer(*_, **__):
        rows.update(enabled=False) if meanwhile == "disabled" else rows.delete()
        return IDENTITY

    provider = type("P", (), {"issuer": "https://idp", "slug": "company"})
    monkeypatch.setattr(group_refresh, "provider_named", lambda _: provider)
    monkeypatch.setattr(oidc, "fetch_tokens", lambda *_: {})
    monkeypatch.setattr(oidc, "identity_of", answer)

    assert not group_refresh.refresh(session, account.created_at)
    assert list(rows.values_list("enabled", "groups")) == (
        [(False, [])] if meanwhile == "disabled" else []
    )


def test_an_edit_of_a_cluster_keeps_the_columns_of_its_watcher():
    existing = Cluster.objects.create(server="https://c", name="c")
    Cluster.objects.filter(pk=existing.pk).update(is_synced=True)

    clusters_api.save(existing, Cluster(server="https://c", name="renamed"), "admin")

    now = Cluster.objects.get(pk=existing.pk)
    assert (now.name, now.is_synced) == ("renamed", True)


def test_what_was_removed_meanwhile_does_not_come_back():
    cluster = Cluster.objects.create(server="https://c", name="c")
    repository = Repository.objects.create(url="https://r/x.git")
    Cluster.objects.all().delete()
    Repository.objects.all().delete()

    with pytest.raises(NotFound, match="cluster https://c was removed in the meantime"):
        clusters_api.save(cluster, Cluster(server="https://c", name="d"), "admin")
    with pytest.raises(NotFound, match="was removed in the meantime: connect it again"):
        repositories.save_repository(repository, {"repo": repository.url}, repository.url, "admin")

    assert not Cluster.objects.exists()
    assert not Repository.objects.exists()


def test_a_setting_that_is_changed_in_part_is_locked_first(django_assert_num_queries):
    change_setting("gpg_keys", {"A": "x"})

    with django_assert_num_queries(3) as queries:
        assert locked_setting("gpg_keys", {}) == {"A": "x"}

    if connection.vendor == "postgresql":
        assert any("FOR UPDATE" in q["sql"] for q in queries)
    assert setting("gpg_keys") == {"A": "x"}
