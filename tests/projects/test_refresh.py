"""Looks at applications: what is asked for is answered, and nothing is done twice."""

from datetime import timedelta

import pytest
from django.utils import timezone

from hub.base import claims
from projects.api import applications as api
from projects.models import Application, Operation, RenderedManifests
from projects.objects.manifests import stamp
from projects.refreshing import refresh, status

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"


@pytest.fixture
def application(idle_hub, repo):
    repo.commit({"c.yaml": CONFIG})
    body = {
        "metadata": {"name": "a"},
        "spec": {
            "source": {"repoURL": repo.url, "path": "."},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "x"},
        },
    }
    idle_hub.post("/api/v1/applications", body)
    return Application.objects.get(name="a")


def test_a_request_during_a_refresh_is_fulfilled_by_the_next_one(application):
    refresh.request_refresh(application)
    looking = Application.objects.get(pk=application.pk)
    outcome = refresh.evaluate(looking)
    refresh.request_refresh(application, "hard")

    status.write(looking, outcome, looking.refresh_at)

    current = Application.objects.get(pk=application.pk)
    assert current.refresh_kind == "hard"
    assert current.refresh_at <= timezone.now()
    assert refresh.refresh(application.pk)
    assert Application.objects.get(pk=application.pk).refresh_kind == ""


def test_a_change_of_the_spec_during_a_refresh_discards_its_result(application):
    looking = Application.objects.get(pk=application.pk)
    outcome = refresh.evaluate(looking)
    Application.objects.filter(pk=application.pk).update(generation=9)

    status.write(looking, outcome, looking.refresh_at)

    current = Application.objects.get(pk=application.pk)
    assert current.sync_status == "Unknown"
    assert current.refresh_at <= timezone.now()


def test_a_refresh_that_is_not_due_does_nothing(application, repo):
    assert refresh.refresh(application.pk)
    asked = len(repo.server.requests)

    assert not refresh.refresh(application.pk)

    assert len(repo.server.requests) == asked
    assert Application.objects.get(pk=application.pk).refresh_at is None


def test_skip_reconcile(application, idle_hub):
    notes = {"argocd.argoproj.io/skip-reconcile": "true"}
    Application.objects.filter(pk=application.pk).update(annotations=notes)

    assert refresh.refresh(application.pk)

    assert idle_hub.application("a")["status"]["sync"]["status"] == "Unknown"


def test_a_commit_is_seen_by_polling(hub, sandbox, repo, app, namespace, settings):
    settings.POLL_INTERVAL = settings.POLL_JITTER = timezone.timedelta(seconds=1)
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, "OutOfSync")

    revision = repo.commit({"c.yaml": CONFIG.replace("'1'", "'2'")})

    assert hub.wait_status(name, "OutOfSync", revision=revision)


def test_a_commit_elsewhere_moves_the_revision_and_renders_nothing(
    hub, sandbox, repo, app, namespace
):
    repo.commit({"mine/c.yaml": CONFIG, "other/c.yaml": CONFIG})
    name = app(repo, sandbox, namespace, path="mine", policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    rendered = RenderedManifests.objects.count()
    operations = Operation.objects.count()

    revision = repo.commit({"other/c.yaml": CONFIG.replace("'1'", "'2'")})
    push = {"ref": "refs/heads/main", "after": revision, "repository": {"clone_url": repo.url}}
    hub.client.post(
        "/api/webhook", push, content_type="application/json", headers={"X-GitHub-Event": "push"}
    )

    hub.wait_status(name, "Synced", "Healthy", revision)
    assert RenderedManifests.objects.count() == rendered
    assert Operation.objects.count() == operations


def test_a_claim_that_was_given_back_is_not_prolonged(application):
    with claims.claim(Application, application.pk) as mine:
        assert mine
        held = list(claims._held)
        application.refresh_from_db()
        first = application.claimed_until
        claims.prolong(held)
        application.refresh_from_db()
        assert application.claimed_until > first
    claims.prolong(held)
    application.refresh_from_db()
    assert application.claimed_until is None


def test_who_was_held_up_does_not_touch_the_claim_of_the_next(application):
    rows = Application.objects.filter(pk=application.pk)
    with claims.claim(Application, application.pk) as mine:
        assert mine
        late = list(claims._held)
        rows.update(claimed_until=timezone.now() - timezone.timedelta(seconds=5))
        with claims.claim(Application, application.pk) as taken_over:
            assert taken_over
            theirs = rows.get().claimed_until
            claims.prolong(late)
            assert rows.get().claimed_until == theirs
    with claims.claim(Application, application.pk) as again:
        assert again


def test_a_delayed_refresh_does_not_overwrite_a_newer_one(
    hub, sandbox, repo, app, namespace, monkeypatch
):
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, "OutOfSync")
    application = Application.objects.get(name=name)
    late = refresh.evaluate(application)
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_operation(name)
    hub.wait_status(name, "Synced", "Healthy")

    status.write(application, late, application.refresh_at)

    assert Application.objects.get(pk=application.pk).sync_status == "Synced"
    hub.wait_status(name, "Synced", "Healthy")


def _age(hub):
    return hub.get("/api/v1/applications/a", refresh="normal")["status"]


@pytest.fixture
def looks(monkeypatch):
    """A refresh that is asked for is done in the request: no worker runs."""
    monkeypatch.setattr(api, "wait_for_refresh", _looked)


def _looked(application):
    refresh.refresh(application.pk)
    return Application.objects.select_related("cluster", "operation").get(pk=application.pk)


def test_reconciled_at_moves_with_a_failed_comparison_and_the_age_of_the_true_status_stays(
    idle_hub, application, repo, looks
):
    old = timezone.now() - timedelta(minutes=3)
    _age(idle_hub)
    Application.objects.update(reconciled_at=old, compared_at=old)
    true = idle_hub.get("/api/v1/applications/a")["status"]
    assert true["reconciledAt"] == stamp(old)

    repo.commit({"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n"})
    failed = _age(idle_hub)

    assert [c["type"] for c in failed["conditions"]] == ["ComparisonError"]
    assert failed["reconciledAt"] > true["reconciledAt"]
    assert failed["flotilla"]["asOf"] == stamp(old)
    repo.commit({"c.yaml": CONFIG})
    mended = _age(idle_hub)["flotilla"]
    assert mended["asOf"] > stamp(old)


def test_a_refresh_that_is_put_off_finishes_no_comparison(idle_hub, application, looks):
    old = timezone.now() - timedelta(minutes=3)
    _age(idle_hub)
    skipped = {"argocd.argoproj.io/skip-reconcile": "true"}
    Application.objects.update(reconciled_at=old, compared_at=old, annotations=skipped)

    assert _age(idle_hub)["reconciledAt"] == stamp(old)
