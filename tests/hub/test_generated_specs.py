"""`flotilla admin … generate-spec` prints what an import takes; commands that the hub does not have
say what to use instead.
"""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hub.cli import config
from hub.cli.commands.admin import NOT_SERVED
from hub.cli.main import build
from hub.cli.problem import Problem
from projects.models import Repository

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def run(*words):
    return CliRunner().invoke(build("*"), words)


def printed(*words):
    done = run(*words)
    assert done.exit_code == 0, done.exception
    return yaml.safe_load(done.output)


@pytest.fixture
def kubeconfig(tmp_path):
    file = tmp_path / "config"
    cluster = {"server": "https://10.1.0.4:6443/", "insecure-skip-tls-verify": True}
    body = {
        "contexts": [{"name": "east", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "person"}}],
    }
    file.write_text(yaml.safe_dump(body))
    return str(file)


def test_the_secret_of_a_cluster_is_made_of_a_context(kubeconfig):
    words = ["admin", "cluster", "generate-spec", "east", "--kubeconfig", kubeconfig]
    words += ["--bearer-token", "t", "--label", "a=b", "--annotation", "c=d", "--namespace", "x"]

    found = printed(*words, "--name", "prod", "--project", "team", "--cluster-resources")

    data = found["stringData"]
    config = json.loads(data.pop("config"))
    assert config == {"bearerToken": "t", "tlsClientConfig": {"insecure": True}}
    assert data == {
        "name": "prod",
        "server": "https://10.1.0.4:6443",
        "project": "team",
        "namespaces": "x",
        "clusterResources": "true",
    }
    assert found["metadata"]["labels"] == {"argocd.argoproj.io/secret-type": "cluster", "a": "b"}
    assert found["metadata"]["annotations"] == {"c": "d"}


def test_a_context_that_runs_a_program_is_refused_with_the_next_step(kubeconfig):
    words = ["admin", "cluster", "generate-spec", "east", "--kubeconfig", kubeconfig]

    done = run(*words, "--exec-command", "aws")

    assert "leave --exec-command" in str(done.exception)


def test_the_manifest_of_a_project_is_made_of_flags():
    words = ["admin", "proj", "generate-spec", "team", "-d", "https://c,web", "-s", "*"]

    found = printed(*words, "-o", "json")

    assert (found["kind"], found["metadata"]) == ("AppProject", {"name": "team"})
    assert found["spec"] == {
        "destinations": [{"server": "https://c", "namespace": "web"}],
        "sourceRepos": ["*"],
    }


@pytest.fixture
def signed_in(web, monkeypatch):
    monkeypatch.setattr(config, "FLAGS", config.Flags(server=web.url, token=web.hub.token))
    return web.hub


def test_the_secret_of_a_repository_is_taken_by_an_import(signed_in, tmp_path):
    words = ["--username", "u", "--password", "p", "--depth", "2", "--enable-lfs", "--project", ""]
    url = "https://10.1.0.5/r.git"
    file = tmp_path / "repo.yaml"
    file.write_text(run("admin", "repo", "generate-spec", url, *words).output)

    done = run("admin", "import", str(file))

    assert done.exit_code == 0, done.exception
    row = Repository.objects.get(url=url)
    assert row.credentials == {"username": "u", "password": "p"}
    assert row.options == {"depth": 2, "enableLfs": True}


def test_clusters_are_counted(signed_in):
    done = run("admin", "cluster", "stats")
    assert done.output.splitlines()[0].split("  ")[0] == "SERVER"
    assert "https://kubernetes.default.svc" in done.output

    done = run("admin", "cluster", "namespaces")
    assert done.output.split() == ["CLUSTER", "NAMESPACES"]


@pytest.mark.parametrize("name", NOT_SERVED)
def test_what_the_hub_does_not_have_names_what_to_use_instead(name):
    done = run("admin", *name.split(), "something", "--some-flag", "x")

    assert isinstance(done.exception, Problem), done.output
    assert f"flotilla admin {name} is not served: " in str(done.exception)
    assert f"`{name}`" in DOCS.read_text()
