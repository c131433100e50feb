"""An export with secrets brings them to another hub, and says nothing to who has not the
passphrase.
"""

import base64
import json

import pytest
import yaml
from django.utils import timezone
from typer.testing import CliRunner

from appsets.models import Secret
from clusters.models import Cluster
from hub import installation
from hub.audit import forwarding
from hub.auth.sessions import issue
from hub.cli import config
from hub.cli.installation import sealing
from hub.cli.main import build
from hub.cli.problem import Problem
from hub.models import Account, AuditEvent, IdentityProvider, access_changed, change_setting
from projects.models import CredentialTemplate, Repository

PASSPHRASE = "correct horse battery"
URL = "https://10.1.0.5/r.git"
KEY = base64.b64encode(b"k" * 32).decode()
OIDC = {"issuer": "https://10.1.0.6", "clientID": "hub", "clientSecret": "CANARY-oidc"}
PROXY = "https://CANARY-proxy:p@10.1.0.7"


@pytest.fixture
def cli(web, monkeypatch, tmp_path):
    """Run `flotilla` against the hub in this process; return its result."""
    monkeypatch.setattr(config, "FLAGS", config.Flags(server=web.url, token=web.hub.token))
    monkeypatch.setenv("FLOTILLA_EXPORT_PASSPHRASE", PASSPHRASE)
    app = build("*")

    def run(*words):
        return CliRunner().invoke(app, words)

    run.file = str(tmp_path / "export.yaml")
    run.folder = tmp_path
    return run


@pytest.fixture
def filled(idle_hub, sandbox_server):
    """Store one secret of each kind."""
    server = sandbox_server.url("west")
    tls = {"caData": sandbox_server.certificate}
    settings = {"bearerToken": "sandbox-token", "tlsClientConfig": tls}
    body = {"server": server, "name": "west", "config": settings, "labels": {"a": "b"}}
    idle_hub.post("/api/v1/clusters", body)
    secret = {"username": "u", "password": "CANARY-repo", "proxy": PROXY, "depth": 3}
    idle_hub.post("/api/v1/repositories?credsOnly=true", {"repo": URL, **secret})
    idle_hub.post("/api/v1/repositories?credsOnly=true", {"repo": "https://10.1.0.5/open.git"})
    template = {"url": "https://10.1.0.5/", "password": "CANARY-creds", "passCredentials": True}
    idle_hub.post("/api/v1/repocreds", template)
    values = {"data": {"token": "CANARY-gen"}, "servers": ["https://10.1.0.8"]}
    idle_hub.post("/api/v1/flotilla/secrets", {"name": "token", **values})
    provider = {"name": "Company", "type": "oidc", "config": OIDC}
    idle_hub.put("/api/v1/flotilla/sso/providers/company", provider)
    target = {"webhook": {"url": "https://10.1.0.9/in", "secret": "CANARY-hook"}}
    idle_hub.put("/api/v1/flotilla/audit/forward", target)
    return idle_hub


MODELS = (Cluster, Repository, CredentialTemplate, Secret, IdentityProvider)


def forget():
    """Leave what a fresh database has."""
    Cluster.objects.exclude(name="in-cluster").delete()
    for model in MODELS[1:]:
        model.objects.all().delete()
    forwarding.configure({})
    change_setting("notices", [])


def held():
    """Return every secret as the hub holds it."""
    fields = {
        Cluster: ("server", "name", "config", "labels"),
        Repository: ("url", "project", "kind", "credentials", "options"),
        CredentialTemplate: ("url", "kind", "credentials", "options"),
        Secret: ("namespace", "name", "project", "servers", "data"),
        IdentityProvider: ("slug", "name", "protocol", "config", "is_enabled"),
    }
    found = {m.__name__: sorted(map(str, m.objects.values_list(*f))) for m, f in fields.items()}
    return {**found, "webhook": forwarding.webhook()}


def documents(file):
    return list(yaml.safe_load_all(open(file).read()))


def write(file, found):
    with open(file, "w") as out:
        yaml.safe_dump_all(found, out)


def events(verb):
    return list(AuditEvent.objects.filter(verb=verb))


def test_what_one_hub_exports_another_has_after_the_import(cli, filled):
    before = held()
    done = cli("admin", "export", "--with-secrets", "-o", cli.file)
    assert done.exit_code == 0, done.output
    forget()
    assert held() != before

    done = cli("admin", "import", cli.file)

    assert done.exit_code == 0, done.output
    assert held() == before
    (out,), (back,) = events("export-secrets"), events("import-secrets")
    assert out.actor == back.actor == "admin"
    assert out.detail["digest"] == back.detail["digest"]
    assert out.detail["holds"]["repository"] == 2


def test_no_secret_stands_in_an_export_in_the_clear(cli, filled):
    cli("admin", "export", "-o", str(cli.folder / "plain"))
    cli("admin", "export", "--with-secrets", "-o", cli.file)

    for file in (cli.folder / "plain", cli.folder / "export.yaml"):
        text = file.read_text()
        assert "CANARY" not in text
        assert "sandbox-token" not in text
        assert PASSPHRASE not in text
        assert file.stat().st_mode & 0o077 == 0
    assert not any(
        d["metadata"]["name"] == "flotilla-sealed" for d in documents(cli.folder / "plain")
    )
    kept = json.dumps(list(AuditEvent.objects.values_list("detail", "change")))
    assert "CANARY" not in kept


def changed_server(found):
    cluster = next(d for d in found if "cluster-" in d["metadata"]["name"])
    cluster["stringData"]["server"] = "https://10.1.0.10"


def another_role(found):
    found.insert(0, {"kind": "AppProject", "metadata": {"name": "x"}, "spec": {}})


def one_byte(found):
    data = found[-1]["stringData"]
    text = bytearray(base64.b64decode(data["sealed"]))
    text[20] ^= 1
    data["sealed"] = base64.b64encode(text).decode()


def other_salt(found):
    found[-1]["stringData"]["salt"] = base64.b64encode(b"0" * 16).decode()


def no_base64(found):
    found[-1]["stringData"]["sealed"] = "???"


def twice(found):
    found.append(found[-1])


def another_version(found):
    found[-1]["stringData"]["version"] = "2"


CHANGES = {
    "was changed after it was written": [changed_server, another_role, one_byte],
    "the passphrase is not the one": [other_salt],
    "are damaged": [no_base64],
    "has 2 objects": [twice],
    "have version": [another_version],
}


class Asked:
    """Stands for the hub's client: encrypts as the hub does."""

    def post(self, _path, body):
        key, binding = (base64.b64decode(body[f]) for f in ("key", "binding"))
        return {"sealed": base64.b64encode(installation._sealed(key, binding, [])).decode()}


@pytest.fixture(scope="module")
def small():
    """Return the text of an export of one cluster with its secrets."""
    data = {"server": "https://10.1.0.4"}
    cluster = {"kind": "Secret", "metadata": {"name": "cluster-x"}, "stringData": data}
    sealed = sealing.seal(Asked(), [cluster], PASSPHRASE)
    return yaml.safe_dump_all([cluster, sealed])


@pytest.mark.parametrize(
    ("change", "words"),
    [pytest.param(c, w, id=c.__name__.replace("_", " ")) for w, cs in CHANGES.items() for c in cs],
)
def test_a_file_that_was_changed_is_not_opened(change, words, small):
    found = list(yaml.safe_load_all(small))
    plain, sealed = sealing.parted(found)
    assert sealing.opened(plain, sealed, PASSPHRASE) == []
    change(found)

    with pytest.raises(Problem, match=words):
        sealing.opened(*sealing.parted(found), PASSPHRASE)


def test_of_a_file_that_was_changed_nothing_is_imported(cli, filled):
    cli("admin", "export", "--with-secrets", "-o", cli.file)
    found = documents(cli.file)
    changed_server(found)
    write(cli.file, found)
    forget()
    before = held()

    done = cli("admin", "import", cli.file)

    assert "was changed after it was written: nothing was imported" in str(done.exception)
    assert held() == before
    assert not events("import-secrets")


def test_with_another_passphrase_nothing_is_imported(cli, filled, monkeypatch):
    cli("admin", "export", "--with-secrets", "-o", cli.file)
    forget()
    before = held()
    monkeypatch.setenv("FLOTILLA_EXPORT_PASSPHRASE", "correct horse batterie")

    done = cli("admin", "import", cli.file)

    assert "the passphrase is not the one of this export: nothing was imported" in str(
        done.exception
    )
    assert held() == before


def test_secrets_may_be_left_out_of_an_import(cli, filled):
    cli("admin", "export", "--with-secrets", "-o", cli.file)

    done = cli("admin", "import", cli.file, "--without-secrets")

    assert done.exit_code == 0, done.output
    assert "updated" not in done.output
    assert not events("import-secrets")


def test_a_dry_run_asks_for_the_passphrase_and_stores_nothing(cli, filled):
    cli("admin", "export", "--with-secrets", "-o", cli.file)
    forget()
    before = held()

    done = cli("admin", "import", cli.file, "--dry-run")

    assert "cluster west created (dry run)" in done.output
    assert held() == before
    assert not events("import-secrets")


PASSPHRASES = {
    "too short": (["--with-secrets"], {"FLOTILLA_EXPORT_PASSPHRASE": "short"}, "at least 12"),
    "none, and nobody to ask": (["--with-secrets"], {}, "a passphrase is needed"),
    "a file that is not there": (
        ["--with-secrets", "--passphrase-file", "/nowhere"],
        {},
        "cannot be read",
    ),
    "a file without secrets": (["--passphrase-file", "/nowhere"], {}, "goes with --with-secrets"),
}


@pytest.mark.parametrize("case", PASSPHRASES)
def test_an_export_needs_a_passphrase_that_is_not_an_argument(case, cli, monkeypatch):
    words, environment, said = PASSPHRASES[case]
    monkeypatch.delenv("FLOTILLA_EXPORT_PASSPHRASE")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    done = cli("admin", "export", *words, "-o", cli.file)

    assert said in str(done.exception)
    assert not (cli.folder / "export.yaml").exists()


def test_a_passphrase_may_stand_in_a_file(cli, filled, monkeypatch):
    monkeypatch.delenv("FLOTILLA_EXPORT_PASSPHRASE")
    word = cli.folder / "word"
    word.write_text(f"{PASSPHRASE}\n")

    cli("admin", "export", "--with-secrets", "--passphrase-file", str(word), "-o", cli.file)
    done = cli("admin", "import", cli.file, "--passphrase-file", str(word))

    assert done.exit_code == 0, done.output


POLICIES = {
    "a reader": "p, ann, *, get, *, allow\n",
    "a cluster's manager": "p, ann, clusters, *, *, allow\n",
    "an auditor": "g, ann, role:auditor\n",
    "somebody with all settings": "p, ann, settings, *, *, allow\n",
    "an administrator of all but one cluster": (
        "g, ann, role:admin\np, ann, clusters, update, west, deny\n"
        "p, ann, clusters, update, */west, deny\np, ann, clusters, update, https://*, deny\n"
    ),
    "an administrator who may not sign people in": (
        "g, ann, role:admin\np, ann, settings, update, sso, deny\n"
    ),
}


@pytest.mark.parametrize("who", POLICIES)
def test_who_is_no_administrator_gets_no_secret(who, filled):
    filled.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": POLICIES[who]}})
    account = Account.objects.create(name="ann", capabilities=["login"])
    access_changed("account", "ann", {})
    token = issue(account, timezone.now())
    body = {"key": KEY, "binding": KEY}

    filled.post("/api/v1/flotilla/secrets-export", body, token=token, status=403)

    assert not events("export-secrets")
    assert AuditEvent.objects.filter(actor="ann", outcome="refused").exists()


def test_who_may_change_no_settings_begins_no_import(filled):
    account = Account.objects.create(name="ann", capabilities=["login"])
    access_changed("account", "ann", {})
    token = issue(account, timezone.now())

    filled.post("/api/v1/flotilla/secrets-import", {"digest": "0" * 64}, token=token, status=403)

    assert not events("import-secrets")


@pytest.mark.parametrize(
    ("route", "body", "words"),
    [
        ("secrets-export", {}, "key is required"),
        ("secrets-export", {"key": KEY}, "binding is required"),
        ("secrets-export", {"key": "eA==", "binding": KEY}, "key is required: 32 bytes"),
        ("secrets-export", {"key": KEY, "binding": 3}, "binding is required"),
        ("secrets-import", {"digest": "x"}, "digest is required"),
        ("secrets-import", {}, "digest is required"),
    ],
)
def test_a_request_that_is_incomplete_is_refused(route, body, words, idle_hub):
    answer = idle_hub.post(f"/api/v1/flotilla/{route}", body, status=400)

    assert words in answer["message"]


def test_a_secret_that_cannot_be_read_ends_the_export(filled, settings):
    settings.SECRET_KEY = "another" * 8

    answer = filled.post(
        "/api/v1/flotilla/secrets-export", {"key": KEY, "binding": KEY}, status=None
    )

    assert "sealed" not in answer
