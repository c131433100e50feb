"""No secret stands in a list of processes, in what a program inherits, in a log, or in a file that
stays.
"""

import base64
import io
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import yaml
from support.processes import ProcessWatch

from hub.cli.problem import Problem
from hub.cli.secrets import take_secrets
from hub.engine.errors import Invalid, RetryLater, Stalled
from projects import sources
from projects.models import CredentialTemplate
from projects.sources import git, git_transport

pytestmark = pytest.mark.django_db(transaction=True)

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"


@pytest.fixture
def canary():
    return f"CANARY{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def hub_key(monkeypatch):
    """What the hub was started with, and no program of it needs."""
    value = f"CANARY{uuid.uuid4().hex}"
    monkeypatch.setenv("HUB_SECRET_KEY_OF_TEST", value)
    return value


@pytest.fixture
def own_temp(monkeypatch, tmp_path):
    """Nobody else's temporary folders are looked at."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def basic(user, password):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def read(repo, revision, **more):
    source = {"repoURL": repo.url, "path": ".", "targetRevision": "main", **more}
    context = sources.Context("a", "a", "ns", "default", {"sourceRepos": ["*"]})
    return sources.load([source], [revision], context).manifests


@pytest.mark.parametrize("kind", ["password", "in the URL", "bearer", "proxy"])
def test_git_over_http(repo, git_server, own_temp, canary, hub_key, caplog, kind):
    del own_temp
    caplog.set_level(logging.DEBUG)
    revision = repo.commit({"c.yaml": MAP})
    credentials, url = {"username": "git", "password": canary}, repo.url
    if kind == "in the URL":
        credentials, url = {}, repo.url.replace("://", f"://git:{canary}@")
    elif kind == "bearer":
        credentials = {"bearerToken": canary}
    elif kind == "proxy":
        credentials["proxy"] = f"http://user:{canary}@127.0.0.1:1"
    git_server.password = canary
    with ProcessWatch() as watch:
        if kind in ("bearer", "proxy"):
            with pytest.raises(RetryLater) as error:
                git.fetch_refs(url, credentials)
            assert canary not in str(error.value)
        else:
            assert git.fetch_refs(url, credentials).refs["refs/heads/main"] == revision
            git.ensure(url, revision, credentials)
    assert {"git", "git-remote-http"} <= watch.programs
    assert not watch.holds(canary, hub_key, basic("git", canary))
    assert not watch.loose and not watch.left()
    assert canary not in caplog.text and basic("git", canary) not in caplog.text


def test_git_over_ssh(own_temp, canary, hub_key, caplog):
    del own_temp
    caplog.set_level(logging.DEBUG)
    with ProcessWatch() as watch, pytest.raises(RetryLater):
        git.fetch_refs("ssh://git@127.0.0.1:1/x", {"sshPrivateKey": f"-----BEGIN {canary}-----"})
    assert {"git", "ssh"} <= watch.programs
    assert not watch.holds(canary, hub_key)
    assert not watch.loose and not watch.left() and canary not in caplog.text


@pytest.mark.parametrize(
    ("files", "path"),
    [
        pytest.param(
            {"c.yaml": MAP, "kustomization.yaml": "resources: [c.yaml]\n"}, ".", id="kustomize"
        ),
        pytest.param(
            {"Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "templates/c.yaml": MAP},
            ".",
            id="helm",
        ),
        pytest.param(
            {"c.jsonnet": '{apiVersion: "v1", kind: "ConfigMap", metadata: {name: "c"}}'},
            ".",
            id="jsonnet",
        ),
    ],
)
def test_renderers_inherit_nothing(repo, git_server, canary, hub_key, files, path):
    revision = repo.commit(files)
    CredentialTemplate.objects.create(
        url=git_server.url, credentials={"username": "git", "password": canary}
    )
    git_server.password = canary
    with ProcessWatch() as watch:
        assert read(repo, revision, path=path)[0]["metadata"]["name"] == "c"
    assert watch.programs and not watch.holds(canary, hub_key, basic("git", canary))


@pytest.mark.parametrize("field", ["bearerToken", "proxy"])
def test_credentials_do_not_begin_another_setting(repo, field):
    repo.commit({"c.yaml": MAP})
    evil = 'x"\n[core]\n\tsshCommand = touch /tmp/evil'
    if field == "proxy":
        evil = "http://127.0.0.1:1/" + evil
    with pytest.raises((Stalled, Invalid)):
        git.fetch_refs(repo.url, {field: evil})


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a#b;c", " a ", "a$b`c", "ü", "a\\n"])
def test_unusual_passwords_arrive_unchanged(repo, git_server, password):
    revision = repo.commit({"c.yaml": MAP})
    git_server.password = password
    credentials = {"username": "git", "password": password}
    assert git.fetch_refs(repo.url, credentials).refs["refs/heads/main"] == revision


@pytest.mark.parametrize("token", ['a"b', "a\\b", "a#b;c", "a\\n"])
def test_settings_are_read_as_they_were_written(tmp_path, token):
    git_transport._write_config(
        tmp_path / ".gitconfig", {"http.extraHeader": f"Authorization: Bearer {token}"}
    )
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1"}
    found = git.process.run_own(["git", "config", "http.extraHeader"], environment=env, timeout=20)
    assert found.output.decode() == f"Authorization: Bearer {token}\n"
    assert (tmp_path / ".gitconfig").stat().st_mode & 0o077 == 0


def test_nothing_dumps_its_memory():
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    said = git.process.run_own(
        ["sh", "-c", "ulimit -Hc"], environment={"PATH": "/usr/bin:/bin"}, timeout=20
    )
    assert said.output == b"0\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["--auth-token", "{}", "account", "list"],
        ["account", "list", "--auth-token={}"],
        ["login", "{server}", "--username", "a", "--password", "{}"],
        ["-H", "X-Secret: {}", "cluster", "list"],
    ],
    ids=lambda argv: argv[0],
)
def test_the_command_hides_the_secrets_of_its_arguments(tmp_path, canary, argv):
    """A hub that does not answer keeps the command alive for as long as the list is read."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        words = [word.replace("{server}", server).replace("{}", canary) for word in argv]
        command = [sys.executable, "-m", "hub.cli.main", *words]
        environment = {
            **os.environ,
            "FLOTILLA_CONFIG_DIR": str(tmp_path),
            "FLOTILLA_SERVER": server,
            "FLOTILLA_KEYRING": "off",
        }
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            silent.settimeout(30)
            connection, _ = silent.accept()
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            connection.close()
        finally:
            process.kill()
            process.wait()
    assert b"hub.cli.main" in shown and canary.encode() not in shown and b"****" in shown


def test_a_secret_comes_by_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one two\nthree\n"))
    assert take_secrets(["login", "x", "--password", "-", "--otp=-", "-"]) == [
        "login",
        "x",
        "--password",
        "one two",
        "--otp=three",
        "-",
    ]
    with pytest.raises(Problem, match="--password -"):
        take_secrets(["--password", "-"])
    assert take_secrets(["repo", "add", "--password", "--odd", "u"]) == [
        "repo",
        "add",
        "--password",
        "--odd",
        "u",
    ]


def test_the_production_shape_starts_nothing_with_a_password_in_its_arguments():
    services = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        words = [service.get("command") or [], (service.get("healthcheck") or {}).get("test") or []]
        for word in [w for ws in words for w in ws]:
            assert not re.search(r"(?<!\$)\$\{?[A-Z_]*(PASSWORD|KEY|TOKEN)", word), (name, word)
            assert " -a " not in word, (name, word)
