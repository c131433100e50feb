"""What is stored gives manifests: a source that cannot be read or rendered is refused when it is
saved.
"""

import socket
from datetime import timedelta

import pytest
from conftest import config_map
from support.charts import Charts

from hub.base.metrics import RENDERS
from projects.models import Application, Project
from projects.refreshing import refresh

APPS = "/api/v1/applications"
HERE = {"server": "https://kubernetes.default.svc", "namespace": "x"}
CHART = {
    "bad/Chart.yaml": "apiVersion: v2\nname: bad\nversion: 1.0.0\n",
    "bad/values.yaml": "a: 1\n",
}


def body(source, *, name="a", project="default"):
    return {
        "metadata": {"name": name},
        "spec": {"project": project, "source": source, "destination": HERE},
    }


@pytest.fixture
def charts():
    server = Charts()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def stored(idle_hub, repo):
    repo.commit({"good/c.yaml": config_map("c")})
    idle_hub.post(APPS, body({"repoURL": repo.url, "path": "good", "targetRevision": "main"}))
    return idle_hub


BAD = [
    pytest.param({"path": "absent"}, "in absent: absent: app path does not exist", id="path"),
    pytest.param(
        {"targetRevision": "nope"}, "unable to resolve 'nope' to a commit SHA", id="revision"
    ),
    pytest.param({"targetRevision": "9.*"}, "no tag satisfies it", id="constraint"),
    pytest.param({"path": "yaml"}, "yaml", id="broken YAML"),
    pytest.param({"path": "bad"}, "it cannot work", id="a chart that does not render"),
    pytest.param({"path": "kustom"}, "absent.yaml", id="a kustomization without its file"),
    pytest.param({"path": "jsonnet"}, "jsonnet", id="broken Jsonnet"),
]


@pytest.fixture
def broken(repo):
    repo.commit(
        {
            "good/c.yaml": config_map("c"),
            "yaml/c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [",
            "kustom/kustomization.yaml": "resources: [absent.yaml]\n",
            "jsonnet/a.jsonnet": "{",
            **CHART,
            "bad/templates/c.yaml": '{{ fail "it cannot work" }}',
        }
    )
    return repo


@pytest.mark.parametrize(("source", "words"), BAD)
def test_creation_is_refused_with_the_sentence(idle_hub, broken, source, words):
    wanted = body({"repoURL": broken.url, "path": "good", "targetRevision": "main", **source})

    said = idle_hub.post(APPS, wanted, status=400)["message"]

    assert said.startswith(
        "application spec for a is invalid: InvalidSpecError: Unable to generate manifests in "
    )
    assert words in said
    assert not Application.objects.exists()
    idle_hub.post(APPS, wanted, validate="false")
    assert Application.objects.exists()


@pytest.mark.parametrize("way", ["replace", "spec", "patch", "upsert"])
def test_a_change_is_refused_too(stored, repo, way):
    bad = body({"repoURL": repo.url, "path": "absent", "targetRevision": "main"})
    call = {
        "replace": lambda **how: stored.put(f"{APPS}/a", bad, **how),
        "spec": lambda **how: stored.put(f"{APPS}/a/spec", bad["spec"], **how),
        "patch": lambda **how: stored.call(
            "PATCH",
            f"{APPS}/a",
            {"patch": '{"spec": {"source": {"path": "absent"}}}', "patchType": "merge"},
            **how,
        ),
        "upsert": lambda **how: stored.post(APPS, bad, upsert="true", **how),
    }[way]

    assert "app path does not exist" in call(status=400)["message"]
    assert Application.objects.get().sources[0]["path"] == "good"
    call(validate="false")
    assert Application.objects.get().sources[0]["path"] == "absent"


def test_what_changes_no_source_needs_none(stored, git_server):
    """An application whose repository is away can still be changed in everything else."""
    git_server.down = True
    patch = '{"metadata": {"labels": {"a": "b"}}, "spec": {"syncPolicy": {"automated": {}}}}'

    stored.call("PATCH", f"{APPS}/a", {"patch": patch, "patchType": "merge"})

    assert Application.objects.get().labels == {"a": "b"}


def test_the_first_refresh_renders_nothing_again(idle_hub, repo):
    repo.commit({"good/c.yaml": config_map("c")})

    def rendered():
        return sum(
            s.value for m in RENDERS.collect() for s in m.samples if s.name.endswith("_total")
        )

    before = rendered()
    idle_hub.post(APPS, body({"repoURL": repo.url, "path": "good", "targetRevision": "main"}))
    assert rendered() == before + 1

    assert refresh.refresh(Application.objects.get().pk)

    assert Application.objects.get().revisions
    assert rendered() == before + 1


def test_a_commit_that_is_newer_than_what_is_known_counts(stored, repo):
    repo.commit({"new/c.yaml": config_map("c")})

    stored.post(
        APPS, body({"repoURL": repo.url, "path": "new", "targetRevision": "main"}, name="b")
    )

    assert Application.objects.filter(name="b").exists()


def test_a_project_discloses_nothing_of_repositories_that_it_does_not_permit(
    idle_hub, repo, git_server
):
    Project.objects.create(
        name="team",
        spec={
            "sourceRepos": ["https://git.example/*"],
            "destinations": [{"server": "*", "namespace": "*"}],
        },
    )
    repo.commit({"good/c.yaml": config_map("c")})
    git_server.requests.clear()

    for validate in ("true", "false"):
        for path in ("good", "absent"):
            wanted = body({"repoURL": repo.url, "path": path}, project="team")
            said = idle_hub.post(APPS, wanted, status=400, validate=validate)["message"]
            assert "is not permitted in project" in said and "does not exist" not in said

    assert git_server.requests == []


def test_an_unreachable_repository_is_reported(idle_hub, repo, git_server):
    git_server.down = True

    said = idle_hub.post(APPS, body({"repoURL": repo.url, "path": "."}), status=400)["message"]

    assert "repository not accessible: " in said and "503" in said


def test_a_server_that_does_not_answer_is_given_up(idle_hub, settings):
    settings.VALIDATION_TIMEOUT = timedelta(seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/r"

        said = idle_hub.post(APPS, body({"repoURL": url, "path": "p"}), status=400)["message"]

    assert "could not be read within 1 s: p" in said and "validate=false" in said
    assert not Application.objects.exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param(
            {"chart": "absent", "targetRevision": "1.*"},
            "chart 'absent' not found",
            id="no such chart",
        ),
        pytest.param(
            {"chart": "demo", "targetRevision": "9.*"},
            "no version of chart 'demo'",
            id="no such version",
        ),
        pytest.param(
            {"chart": "demo", "targetRevision": "1.2.3"},
            "version '1.2.3' of chart 'demo' not found",
            id="exact version",
        ),
        pytest.param(
            {"chart": "demo", "targetRevision": "1.0.0", "helm": {"valueFiles": ["none.yaml"]}},
            "none.yaml",
            id="values",
        ),
    ],
)
def test_charts_are_looked_up(idle_hub, charts, source, words):
    said = idle_hub.post(APPS, body({"repoURL": charts.url, **source}), status=400)["message"]

    assert words in said


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({"a.yaml": "a: ["}, "x/a.yaml: line ", id="broken YAML"),
        pytest.param({"b.yaml": "- a: 1\n"}, "x/b.yaml: document 1 is a list", id="a list"),
        pytest.param({"c.yml": "a: 1\n"}, "x/c.yml: it has neither apiVersion", id="other YAML"),
        pytest.param(
            {f"{n}.yaml": "a: [" for n in range(7)}, "; and 2 more", id="more than are named"
        ),
    ],
)
def test_files_that_were_ignored_are_named_where_nothing_was_rendered(
    hub, repo, sandbox, namespace, files, words
):
    repo.commit({f"x/{name}": text for name, text in files.items()} | {"x/notes.txt": "a: ["})
    source = {"repoURL": repo.url, "path": "x", "targetRevision": "main"}
    destination = {"server": sandbox.server, "namespace": namespace}
    spec = {"project": "default", "source": source, "destination": destination}
    answer = hub.post(APPS, {"metadata": {"name": "a"}, "spec": spec})

    [said] = answer["status"]["conditions"]
    message = hub.condition("a", "IgnoredFilesWarning")["message"]
    assert (said["type"], said["message"]) == ("IgnoredFilesWarning", message)
    assert message.startswith("no manifest was rendered, since these files were ignored: x/")
    assert words in message
    assert "notes.txt" not in message
    repo.commit({"x/good.yaml": config_map("c")})
    hub.get(f"{APPS}/a", refresh="normal")
    hub.wait_status("a", "OutOfSync")

    assert "IgnoredFilesWarning" not in str(hub.application("a")["status"].get("conditions"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}", id="a list"),
        pytest.param(f"{config_map('c')}\n---\njust text\n", id="text after a manifest"),
    ],
)
def test_a_file_that_looks_like_manifests_must_be_of_objects(idle_hub, repo, text):
    repo.commit({"x/all.yaml": text})

    source = {"repoURL": repo.url, "path": "x", "targetRevision": "main"}
    said = idle_hub.post(APPS, body(source), status=400)["message"]

    assert "x/all.yaml: document " in said
    assert "separate manifests with '---', or use kind: List" in said
