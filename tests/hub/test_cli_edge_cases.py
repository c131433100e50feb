"""The command line at its edges: keyring, plugins, settings tried offline, flags of scripts, hubs
that are old, new, silent or slow.
"""

import json
import os
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import config_map
from support.command import Command
from support.web import deployment

from hub.models import AuditEvent, LoginSession
from projects.models import Application, Project

TESTS = str(Path(__file__).parents[1])
KEY = "4AEE18F83AFDEB23"


@pytest.fixture
def flotilla(site, tmp_path):
    return Command(tmp_path / "c", FLOTILLA_SERVER=site.url, FLOTILLA_TOKEN=site.hub.token)


# Tokens


def test_tokens_go_to_the_keyring(web, tmp_path):
    ring = tmp_path / "ring.json"
    flotilla = Command(
        tmp_path / "c",
        FLOTILLA_KEYRING="",
        PYTHON_KEYRING_BACKEND="support.ring.FileRing",
        TEST_KEYRING_FILE=str(ring),
        PYTHONPATH=os.pathsep.join([TESTS, os.getcwd()]),
    )
    flotilla("login", web.url, "--username", "admin", "--password", "correct horse")
    file = (tmp_path / "c" / "config").read_text()
    [token] = json.loads(ring.read_text()).values()
    assert token.startswith("eyJ") and token not in file and "eyJ" not in file
    assert "keyring:" in file
    assert "Username: admin" in flotilla("account", "get-user-info")
    ring.unlink()
    assert "run flotilla relogin" in flotilla.refused("app", "list")
    flotilla("login", web.url, "--username", "admin", "--password", "correct horse")
    flotilla("logout")
    assert json.loads(ring.read_text()) == {}


def test_a_locked_keyring_leaves_the_token_in_the_file(web, tmp_path):
    flotilla = Command(
        tmp_path / "c",
        FLOTILLA_KEYRING="",
        PYTHON_KEYRING_BACKEND="support.ring.FileRing",
        TEST_KEYRING_FILE=str(tmp_path / "locked"),
        PYTHONPATH=os.pathsep.join([TESTS, os.getcwd()]),
    )
    flotilla("login", web.url, "--username", "admin", "--password", "correct horse")
    file = tmp_path / "c" / "config"
    assert "eyJ" in file.read_text() and stat.S_IMODE(file.stat().st_mode) == 0o600
    flotilla("app", "list")


# Plugins and flags of scripts


def test_a_program_of_the_path_is_a_command(tmp_path):
    program = tmp_path / "flotilla-hello"
    program.write_text('#!/bin/sh\necho "hello $*"\nexit 7\n')
    program.chmod(0o755)
    flotilla = Command(tmp_path / "c", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert flotilla("hello", "a", "--b", code=7) == "hello a --b\n"
    assert "No such command" in flotilla.run("nothing", code=2).stderr
    (tmp_path / "flotilla-app").write_text("#!/bin/sh\necho no\n")
    (tmp_path / "flotilla-app").chmod(0o755)
    assert "List applications" in flotilla("app", "--help"), (
        "no program stands in for an own command"
    )


def test_flags_that_scripts_give(flotilla, site, sandbox, repo, namespace):
    hub = site.hub
    repo.commit({"a/d.yaml": deployment(1), "b/c.yaml": config_map("c")})
    flotilla(
        "app",
        "create",
        "web",
        "--repo",
        repo.url,
        "--path",
        "a",
        "--revision",
        "main",
        "--dest-name",
        "east",
        "--dest-namespace",
        namespace,
        "--sync-option",
        "CreateNamespace=true",
        "--source-name",
        "one",
        "--env",
        "prod",
        "--logformat",
        "json",
        "--grpc-web",
    )
    hub.wait_status("web", "OutOfSync")
    flotilla(
        "app",
        "sync",
        "web",
        "--retry-limit",
        "2",
        "--retry-refresh",
        "--http-retry-max",
        "3",
        "--timeout",
        "60",
    )
    flotilla("app", "wait", "web", "--hydrated", "--timeout", "30")
    flotilla(
        "app",
        "diff",
        "web",
        "--server-side-diff",
        "--server-side-diff-concurrency",
        "2",
        "--ignore-normalizer-jq-execution-timeout",
        "2s",
    )
    flotilla(
        "app",
        "add-source",
        "web",
        "--repo",
        repo.url,
        "--path",
        "b",
        "--revision",
        "main",
        "--source-name",
        "two",
    )
    assert "name: c" in flotilla(
        "app", "manifests", "web", "--revisions", "main", "--source-names", "two"
    )
    assert "no source" in flotilla.refused("app", "manifests", "web", "--source-names", "three")
    assert "not both" in flotilla.refused(
        "app", "manifests", "web", "--source-names", "two", "--source-positions", "1"
    )
    shown = flotilla.run(
        "app", "diff", "web", "--revisions", "main", "--source-names", "two", code=1
    ).stdout
    assert "ConfigMap" in shown
    said = flotilla(
        "app",
        "get-resource",
        "web",
        "--kind",
        "Deployment",
        "--filter-fields",
        "spec.replicas,metadata.name",
        "-o",
        "wide",
    )
    assert [line.split() for line in said.splitlines()] == [
        ["FIELD", "RESOURCE", "NAME", "VALUE"],
        ["spec.replicas", "web", "1"],
        ["metadata.name", "web", "web"],
    ]
    assert "managedFields" not in flotilla("app", "get-resource", "web", "--kind", "Deployment")
    assert "managedFields" in flotilla(
        "app", "get-resource", "web", "--kind", "Deployment", "--show-managed-fields"
    )
    hub.wait(lambda: flotilla("app", "logs", "web", "--kind", "Deployment"), "logs")
    assert (
        flotilla(
            "app", "logs", "web", "--kind", "Deployment", "--until-time", "2020-01-01T00:00:00Z"
        )
        == ""
    )
    assert "untilTime" in flotilla.refused("app", "logs", "web", "--until-time", "yesterday")
    assert "Deployment" in flotilla("app", "resources", "web", "--project", "default")
    flotilla(
        "app",
        "set",
        "web",
        "--source-position",
        "2",
        "--dry-source-repo",
        repo.url,
        "--sync-source-branch",
        "env/prod",
        "--directory-disable-extension-filter",
    )
    spec = Application.objects.get().spec
    assert spec["sourceHydrator"] == {
        "drySource": {"repoURL": repo.url},
        "syncSource": {"targetBranch": "env/prod"},
    }
    assert spec["sources"][1]["directory"] == {"disableExtensionFilter": True}
    assert "programs" in flotilla.refused("cluster", "add", "x", "--aws-cluster-name", "east")
    assert "proxy" in flotilla.refused("cluster", "add", "x", "--proxy-url", "http://p")
    assert "access token" in flotilla.refused(
        "repo", "add", repo.url, "--use-azure-workload-identity"
    )
    flotilla("configure", "--prompts-enabled=false")


def test_sets_are_waited_for(flotilla, site, sandbox, repo, tmp_path):
    repo.commit({"a/c.yaml": config_map("c")})
    file = tmp_path / "set.yaml"
    template = {
        "metadata": {"name": "x-{{city}}"},
        "spec": {
            "project": "default",
            "source": {
                "repoURL": repo.url,
                "path": "a",
                "targetRevision": "main",
                "helm": {"parameters": [{"name": "a", "value": "{{city}}"}]},
            },
            "destination": {"name": "east", "namespace": "x"},
        },
    }
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": "cities"},
        "spec": {"generators": [{"list": {"elements": [{"city": "oslo"}]}}], "template": template},
    }
    file.write_text(yaml.safe_dump(manifest))
    flotilla.refused("appset", "update", str(file))
    flotilla("appset", "create", str(file), "--wait")
    assert Application.objects.filter(name="x-oslo").exists()
    manifest["spec"]["generators"][0]["list"]["elements"].append({"city": "bergen"})
    file.write_text(yaml.safe_dump(manifest))
    flotilla("appset", "update", str(file), "--wait")
    assert Application.objects.count() == 2
    assert "{{city}}" in flotilla("appset", "get", "cities", "--show-params")
    flotilla("appset", "delete", "cities", "-y", "--wait")
    assert not Application.objects.exists()


def test_policies_of_signatures(flotilla):
    flotilla("proj", "create", "team")
    base = ("proj", "source-integrity", "git", "policies")
    flotilla(
        *base,
        "add",
        "team",
        "--repo-url",
        "https://git.example/*",
        "--repo-url",
        "!https://git.example/x",
        "--gpg-key",
        KEY,
    )
    rows = [line.split() for line in flotilla(*base, "list", "team").splitlines()]
    assert rows == [
        ["ID", "GPG-MODE", "GPG-KEYS", "REPO-URLS"],
        ["0", "head", KEY, "https://git.example/*,!https://git.example/x"],
    ]
    flotilla(*base, "update", "team", "0", "--gpg-mode", "strict")
    assert Project.objects.get(name="team").spec["sourceIntegrity"]["git"]["policies"][0][
        "gpg"
    ] == {"mode": "strict", "keys": [KEY]}
    assert "no policy 3" in flotilla.refused(*base, "delete", "team", "3")
    assert "mode" in flotilla.refused(*base, "update", "team", "0", "--gpg-mode", "maybe")
    flotilla(*base, "delete", "team", "0")
    assert "sourceIntegrity" not in Project.objects.get(name="team").spec


def test_certificates_of_hosts(flotilla, tmp_path):
    from clusters.sandbox.certificate import make_certificate

    file = tmp_path / "ca.pem"
    pair = make_certificate()
    file.write_text(pair[pair.index("-----BEGIN CERTIFICATE") :])
    assert "with 1 PEM certificates for repository server git.example" in flotilla(
        "cert", "add-tls", "git.example", "--from", str(file)
    )
    assert "git.example  https  ecdsa" in flotilla(
        "cert", "list", "--cert-type", "https", "--sort", "type"
    )
    exported = flotilla("admin", "export")
    [data] = [
        d["data"]
        for d in yaml.safe_load_all(exported)
        if d["metadata"]["name"] == "argocd-tls-certs-cm"
    ]
    assert data == {"git.example": file.read_text()}
    assert "Removed cert for 'git.example' of type 'https'" in flotilla(
        "cert", "rm", "git.example", "--cert-type", "https"
    )
    flotilla("admin", "import", "-", stdin=exported)
    assert "git.example" in flotilla("cert", "list")
    assert "unchanged" in flotilla("admin", "import", "-", "--verbose", stdin=exported)
    file.write_text("nothing")
    assert "PEM" in flotilla.refused("cert", "add-tls", "other.example", "--from", str(file))


def test_an_import_can_prune_and_leave_out(flotilla, site):
    for name in ("kept", "gone"):
        flotilla("proj", "create", name)
    text = yaml.safe_dump_all(
        [
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "AppProject",
                "metadata": {"name": "kept"},
                "spec": {"description": "new"},
            },
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "AppProject",
                "metadata": {"name": "other", "labels": {"skip": "me"}},
                "spec": {},
            },
        ]
    )
    said = flotilla("admin", "import", "-", "--prune", "--dry-run", stdin=text)
    assert (
        "AppProject gone pruned (dry run)" in said and Project.objects.filter(name="gone").exists()
    )
    flotilla(
        "admin", "import", "-", "--prune", "--skip-resources-with-label", "skip=me", stdin=text
    )
    assert set(Project.objects.values_list("name", flat=True)) == {"default", "kept"}
    assert "key=value" in flotilla.refused(
        "admin", "import", "-", "--skip-resources-with-label", "x", stdin=text
    )


# Settings tried offline


@pytest.fixture
def offline(tmp_path):
    def write(name, document):
        (tmp_path / name).write_text(yaml.safe_dump(document))
        return str(tmp_path / name)

    flotilla = Command(tmp_path / "c")
    flotilla.write = write
    return flotilla


CM = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "argocd-cm"},
    "data": {
        "url": "https://hub.example",
        "webhook.maxPayloadSizeMB": "2",
        "accounts.bot": "apiKey",
        "kustomize.buildOptions": "--enable-helm",
        "resource.customizations.health.example.com_Thing": (
            'return {status = obj.status.ok and "Healthy" or "Degraded", message = "by script"}'
        ),
        "resource.customizations.ignoreDifferences.example.com_Thing": (
            "jsonPointers: [/spec/a]\njqPathExpressions: ['.spec.list[] | select(.x == 1)']\n"
        ),
        "resource.customizations.actions.example.com_Thing": (
            "discovery.lua: |\n  return {poke = {}, rest = {disabled = true}}\ndefinitions:\n"
            "- name: poke\n  action.lua: |\n    obj.spec.poked = true\n    return obj\n"
        ),
    },
}
THING = {
    "apiVersion": "example.com/v1",
    "kind": "Thing",
    "metadata": {"name": "t", "namespace": "n"},
    "spec": {"a": 1, "b": 2, "list": [{"x": 1}, {"x": 2}]},
    "status": {"ok": True},
}


def test_overrides_are_tried_on_this_machine(offline):
    settings, thing = offline.write("cm.yaml", CM), offline.write("thing.yaml", THING)
    at = ("--argocd-cm-path", settings)
    base = ("admin", "settings", "resource-overrides")
    assert offline(*base, "health", thing, *at) == "STATUS: Healthy\nMESSAGE: by script\n"
    said = offline(*base, "ignore-differences", thing, *at)
    assert "-  a: 1" in said and "-  - x: 1" in said and "-  b: 2" not in said
    assert [x.split() for x in offline(*base, "list-actions", thing, *at).splitlines()] == [
        ["NAME", "DISABLED"],
        ["poke", "false"],
        ["rest", "true"],
    ]
    assert "+  poked: true" in offline(*base, "run-action", thing, "poke", *at)
    assert "no action" in offline.refused(*base, "run-action", thing, "absent", *at)
    assert "there is nothing to ignore" in offline(*base, "ignore-resource-updates", thing, *at)
    plain = offline.write("cm2.yaml", {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}})
    assert "nothing assesses" in offline.refused(*base, "health", thing, "--argocd-cm-path", plain)
    assert "--argocd-cm-path is required" in offline.refused(*base, "health", thing)
    two = offline.write("two.yaml", [THING])
    assert "must hold objects" in offline.refused(*base, "health", two, *at)


def test_settings_are_checked_by_group(offline):
    good = offline.write("cm.yaml", CM)
    said = offline("admin", "settings", "validate", "--argocd-cm-path", good)
    assert said.count("✅") == 4 and "2 resource overrides" in said
    lines = [line.strip() for line in said.splitlines()]
    assert (
        "webhook.maxPayloadSizeMB: the hub takes it from its environment: "
        "HUB_MAX_WEBHOOK_BYTES=2097152"
    ) in lines
    bad = {
        **CM,
        "data": {
            **CM["data"],
            "accounts.bot": "login, fly",
            "resource.customizations.health.a_B": "return {",
        },
    }
    said = offline(
        "admin", "settings", "validate", "--argocd-cm-path", offline.write("bad.yaml", bad), code=1
    )
    assert "'fly' is not a capability" in said and "health of a/B" in said and said.count("❌") == 2
    only = offline("admin", "settings", "validate", "--argocd-cm-path", good, "--group", "accounts")
    assert only.splitlines() == ["✅ accounts", "1 accounts"]
    assert "--group x" in offline.refused(
        "admin", "settings", "validate", "--argocd-cm-path", good, "--group", "x"
    )


# Hubs that are other than expected


class Odd:
    """A server that answers every path as told; `paths` keeps what was asked."""

    def __init__(self, answer):
        outer = self
        self.paths, self.keys = [], []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def _do(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.paths.append(self.path)
                outer.keys.append(self.headers.get("Idempotency-Key"))
                found = answer(self, len(outer.paths))
                if found is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, body = found
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def odd(tmp_path):
    servers = []

    def start(answer):
        server = Odd(answer)
        servers.append(server)
        return server, Command(
            tmp_path / "c", FLOTILLA_SERVER=server.url, FLOTILLA_TOKEN="eyJ.e30.x"
        )

    yield start
    for server in servers:
        server.close()


def test_an_older_hub_without_a_path(odd):
    message = {"error": "not found", "message": "/api/v1/flotilla/rbac is not served", "code": 5}
    _server, flotilla = odd(lambda *_: (404, message))
    for words in (
        ("admin", "export"),
        ("app", "list"),
        ("appset", "list"),
        ("audit", "list"),
        ("proj", "get", "x"),
    ):
        assert "is not served" in flotilla.refused(*words)


def test_a_newer_hub_with_more_fields(odd):
    app = {
        "metadata": {"name": "web", "namespace": "argocd", "new": 1},
        "spec": {"source": {"repoURL": "u", "brandNew": {}}, "destination": {}, "x": []},
        "status": {
            "sync": {"status": "Quantum"},
            "health": {"status": "Splendid", "y": 2},
            "z": None,
        },
        "more": True,
    }
    _server, flotilla = odd(
        lambda *_: (200, {"items": [app], "metadata": {}, "facets": {}, "w": 1})
    )
    assert "Quantum" in flotilla("app", "list") and "Splendid" in flotilla("app", "list")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"<html>proxy</html>", "is this a hub?"),
        (b"\xff\xfe", "is this a hub?"),
        ([], "is this a hub?"),
        ("text", "is this a hub?"),
        (None, "is this a hub?"),
        ({"items": [1]}, "is this a hub?"),
        ({"items": {"a": 1}}, "is this a hub?"),
        ({"items": [{"metadata": {}}]}, "is this a hub?"),
    ],
)
def test_what_answers_is_no_hub(odd, body, word):
    _server, flotilla = odd(lambda *_: (200, json.dumps(None).encode() if body is None else body))
    for words in (("app", "list"), ("app", "get", "web"), ("proj", "list"), ("cluster", "list")):
        found = flotilla.run(*words, code=None)
        assert "Traceback" not in found.stderr
        assert found.returncode in (0, 20), found.stderr
        if found.returncode == 20:
            assert word in found.stderr and found.stderr.count("\n") == 1


def test_a_broken_connection_is_tried_again_under_one_key(odd):
    server, flotilla = odd(lambda _h, number: None if number < 3 else (200, {"token": "t"}))
    flotilla("account", "generate-token", "--account", "bot", "--id", "ci")
    assert len(server.paths) == 3 and len(set(server.keys)) == 1 and server.keys[0]
    silent, other = odd(lambda *_: None)
    assert "does not answer" in other.refused(
        "account", "generate-token", "--account", "bot", "--http-retry-max", "1"
    )
    assert len(silent.paths) == 2


def test_no_network(tmp_path):
    flotilla = Command(tmp_path / "c", FLOTILLA_SERVER="http://127.0.0.1:9", FLOTILLA_TOKEN="x")
    for words in (
        ("app", "list"),
        ("app", "sync", "web"),
        ("app", "wait", "web"),
        ("version",),
        ("app", "logs", "web"),
    ):
        assert "does not answer" in flotilla.refused(*words)
    flotilla.environment["FLOTILLA_SERVER"] = "https://no-such-host.invalid"
    assert "does not answer" in flotilla.refused("app", "list")


def test_a_token_that_ends_in_the_middle_of_a_wait(site, sandbox, repo, namespace, app, tmp_path):
    repo.commit({"a/c.yaml": config_map("c")})
    app(repo, sandbox, namespace, name="web", path="a")
    site.hub.wait_status("web", "OutOfSync")
    flotilla = Command(tmp_path / "c", FLOTILLA_SERVER=site.url, FLOTILLA_TOKEN=site.hub.token)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "hub.cli.main", "app", "wait", "web", "--sync"],
        env=flotilla.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    site.hub.wait(
        lambda: LoginSession.objects.filter(last_used_at__isnull=False).exists(), "the first look"
    )
    LoginSession.objects.all().delete()
    _out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 20, err
    assert err.startswith("flotilla: ") and "relogin" in err and err.count("\n") == 1


def test_a_client_certificate_that_cannot_be_used(web, tmp_path):
    flotilla = Command(tmp_path / "c", FLOTILLA_SERVER=web.url, FLOTILLA_TOKEN=web.hub.token)
    assert "--client-crt" in flotilla.refused("app", "list", "--client-crt", "/nowhere")
    assert "--client-crt-key needs" in flotilla.refused(
        "app", "list", "--client-crt-key", "/nowhere"
    )


def test_a_client_certificate_is_shown(idle_hub, tmp_path):
    """A proxy before the hub may ask for one."""
    import ssl

    from clusters.sandbox.certificate import make_certificate

    file = tmp_path / "pair.pem"
    file.write_text(make_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.load_verify_locations(file)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Odd(lambda *_: (200, {"items": []}))
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    flotilla = Command(
        tmp_path / "c", FLOTILLA_SERVER=server.url.replace("http:", "https:"), FLOTILLA_TOKEN="x"
    )
    try:
        flotilla(
            "app",
            "list",
            "--server-crt",
            str(file),
            "--client-crt",
            str(file),
            "--client-crt-key",
            str(file),
        )
        flotilla.refused("app", "list", "--server-crt", str(file))
    finally:
        server.close()


# Others at the same time


def test_commands_at_once_lose_nothing(flotilla, site, tmp_path):
    flotilla("proj", "create", "shop", "--src", "https://git.example/0")
    urls = [f"https://git.example/{n}" for n in range(1, 5)]
    threads = [
        threading.Thread(target=flotilla, args=("proj", "add-source", "shop", u)) for u in urls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Project.objects.get(name="shop").spec["sourceRepos"]) == [
        "https://git.example/0",
        *urls,
    ]


def test_an_edit_does_not_overwrite_concurrent_changes(flotilla, site, tmp_path):
    flotilla("proj", "create", "shop", "--src", "https://git.example/0")
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\n"
        f"{sys.executable} -m hub.cli.main proj set shop --description theirs >/dev/null\n"
        'echo "description: mine" >> "$1"\n'
    )
    editor.chmod(0o755)
    said = flotilla.refused("proj", "edit", "shop", EDITOR=str(editor))
    assert "was changed since" in said and "read it again" in said
    assert Project.objects.get(name="shop").spec["description"] == "theirs"


# What a command says at its end


def test_a_sync_ends_with_what_runs_then(flotilla, site, sandbox, repo, namespace):
    repo.commit({"a/d.yaml": deployment(2), "a/c.yaml": config_map("c")})
    flotilla(
        "app",
        "create",
        "web",
        "--repo",
        repo.url,
        "--path",
        "a",
        "--revision",
        "main",
        "--dest-name",
        "east",
        "--dest-namespace",
        namespace,
        "--sync-option",
        "CreateNamespace=true",
    )
    said = flotilla("app", "sync", "web")
    assert "Sync Status:        Synced to main" in said and "Phase:              Succeeded" in said
    flotilla("app", "wait", "web", "--health")
    lines = flotilla("app", "logs", "web", "--tail", "1").splitlines()
    assert len(lines) == 2 and all(line.startswith("[web-") for line in lines)
    repo.commit({"a/d.yaml": deployment(1)})
    flotilla("app", "sync", "web")
    back = flotilla("app", "rollback", "web", "0")
    assert (
        "Sync Status:        OutOfSync from main" in back
        and "Phase:              Succeeded" in back
    )
    flotilla("app", "wait", "web", "--health")
    lines = flotilla("app", "logs", "web", "--tail", "1").splitlines()
    pod = lines[0][1:].partition("]")[0]
    assert flotilla("app", "logs", "web", "--name", pod, "--kind", "Pod", "--tail", "1").startswith(
        "line 3 of"
    )


def test_a_pending_deletion_names_what_allows_it(flotilla, site, sandbox, repo, namespace):
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    repo.commit({"a/n.yaml": json.dumps(space), "a/c.yaml": config_map("c")})
    flotilla(
        "app",
        "create",
        "web",
        "--repo",
        repo.url,
        "--path",
        "a",
        "--revision",
        "main",
        "--dest-name",
        "east",
        "--dest-namespace",
        namespace,
    )
    flotilla("app", "sync", "web")
    found = flotilla.run("app", "delete", "web", "--yes")
    assert found.stdout == "application 'web' deleted\n"
    assert (
        "confirmation of Namespace/" in found.stderr
        and "run flotilla app confirm-deletion web" in found.stderr
    )
    assert "confirmation of Namespace/" in flotilla.refused(
        "app", "wait", "web", "--delete", "--timeout", "2"
    )
    flotilla("app", "confirm-deletion", "web")
    flotilla("app", "wait", "web", "--delete", "--timeout", "30")
    assert "not there, or you have no right" in flotilla.refused("app", "get", "web")


def test_the_hub_checks_its_own_trail(flotilla, site):
    flotilla("proj", "create", "shop")
    assert "Intact by the hub's own check" in flotilla("audit", "verify")
    assert "--key goes with a file" in flotilla.refused("audit", "verify", "--key", "k.pem")
    AuditEvent.objects.filter(kind="project").update(actor="somebody")
    assert "not as it was written" in flotilla.refused("audit", "verify", code=1)
