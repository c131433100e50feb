"""New refs and versions reach all applications that use them, wherever the hub learns of them."""

import itertools
import json
from datetime import timedelta
from urllib.parse import quote

import pytest
from conftest import config_map
from django.utils import timezone
from support.charts import Charts
from support.sets import manifest, names_of

from appsets.models import ApplicationSet
from hub.events.queue import pool_state, wake
from hub.events.task_names import TaskName
from projects.models import Application, GitRemote, Repository
from projects.objects import applications
from projects.refreshing import refresh as refresh_module
from projects.refreshing import triggers, validation
from projects.refreshing.triggers import reads_moved
from projects.sources import charts as charts_module
from projects.sources import git_remotes

APPS = "/api/v1/applications"
HERE = {"server": "https://kubernetes.default.svc", "namespace": "x"}
SOON = 5.0
"""Far less than the interval of polls, and generous on a busy machine."""


def refresh(hub, _repo):
    hub.get(f"{APPS}/a", refresh="normal")


def hard_refresh(hub, _repo):
    hub.get(f"{APPS}/a", refresh="hard")


def sync(hub, _repo):
    hub.post(f"{APPS}/a/sync", {})


def poll(hub, repo):
    GitRemote.objects.filter(url=git_remotes.key_of(repo.url, "default")).update(
        due_at=timezone.now()
    )
    wake(
        TaskName.PROJECTS_POLL,
        GitRemote.objects.get(url=git_remotes.key_of(repo.url, "default")).pk,
    )


def webhook(hub, repo):
    body = {"ref": "refs/heads/main", "after": "0" * 40, "repository": {"clone_url": repo.url}}
    answer = hub.client.post(
        "/api/webhook",
        json.dumps(body),
        content_type="application/json",
        HTTP_X_GITHUB_EVENT="push",
    )
    assert answer.status_code == 200


def generator(hub, repo):
    ApplicationSet.objects.filter(name="s").update(due_at=timezone.now())
    wake(TaskName.APPSETS_RECONCILE, ApplicationSet.objects.get(name="s").pk)


def preview(hub, repo):
    # What was heard a moment ago is good enough for it.
    GitRemote.objects.update(checked_at=timezone.now() - timedelta(minutes=1))
    hub.post("/api/v1/flotilla/applicationsets/preview", {"applicationSet": folders(repo, "p")})


def manifests(hub, repo):
    hub.get(f"{APPS}/a/manifests", revision="main")


def create(hub, repo):
    """A path that is not known yet is looked for in the newest commit before the application is
    refused.
    """
    newest = max((repo.folder / "of-set").iterdir(), key=lambda f: int(f.name[1:]))
    source = {"repoURL": repo.url, "path": f"of-set/{newest.name}", "targetRevision": "main"}
    spec = {**hub.application("a")["spec"], "source": source}
    hub.post(APPS, {"metadata": {"name": "created"}, "spec": spec})


WAYS = [refresh, hard_refresh, sync, poll, webhook, generator, preview, manifests, create]


def is_idle():
    state = pool_state()
    return not state["waiting"] and not state["running"]


def folders(repo, name):
    generators = [
        {"git": {"repoURL": repo.url, "revision": "main", "directories": [{"path": "of-set/*"}]}}
    ]
    source = {"repoURL": repo.url, "path": "{{.path.path}}", "targetRevision": "main"}
    return manifest(name, generators, {"source": source}, metadata={"name": "{{.path.basename}}"})


@pytest.fixture
def readers(hub, sandbox, repo, app, namespace, settings):
    """Two applications and a set of one repository, which nobody polls."""
    settings.POLL_INTERVAL = timedelta(hours=1)
    repo.commit(
        {
            "a/c.yaml": config_map("a"),
            "b/c.yaml": config_map("b"),
            "of-set/f0/c.yaml": config_map("f0"),
        }
    )
    for name in "ab":
        app(repo, sandbox, namespace, name=name, path=name)
        hub.wait_status(name, "OutOfSync")
    hub.post("/api/v1/applicationsets", folders(repo, "s"))
    hub.wait(lambda: names_of() == ["a", "b", "f0"], "the set")
    return repo


def test_every_way_to_learn_hands_on_in_every_order(hub, readers):
    """Each way comes right after each other one, so that none lives from what the last one left."""
    order = [
        way for pair in itertools.permutations([refresh, sync, poll], 2) for way in pair
    ] + WAYS
    for number, learn in enumerate(order, 1):
        hub.wait(is_idle, "the end of what the last way began")
        folder = f"f{number}"
        commit = readers.commit(
            {f"{n}/c.yaml": config_map(n, {"n": str(number)}) for n in "ab"}
            | {f"of-set/{folder}/c.yaml": config_map(folder)}
        )

        learn(hub, readers)

        for name in "ab":
            hub.wait_status(name, revision=commit, seconds=SOON)
        assert hub.wait(
            lambda name=folder: name in names_of(), f"the set after {learn.__name__}", SOON
        )


def by_patch(hub, _name):
    patch = '{"spec": {"source": {"targetRevision": "HEAD"}}}'
    hub.call("PATCH", f"{APPS}/a", {"patch": patch, "patchType": "merge"})
    return "a"


def by_put(hub, _name):
    found = hub.application("a")
    spec = {**found["spec"], "source": {**found["spec"]["source"], "path": "b"}}
    hub.call("PUT", f"{APPS}/a", {"metadata": {"name": "a"}, "spec": spec}, validate="false")
    return "a"


def by_creation(validate):
    def create(hub, name):
        spec = hub.application("b")["spec"]
        hub.post(APPS, {"metadata": {"name": name}, "spec": spec}, validate=validate)
        return name

    return create


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(by_creation("true"), id="creation"),
        pytest.param(by_creation("false"), id="creation without validation"),
        pytest.param(by_patch, id="patch"),
        pytest.param(by_put, id="put"),
    ],
)
def test_a_new_source_is_compared_with_the_refs_of_now(hub, readers, monkeypatch, way):
    monkeypatch.setattr(applications, "JUST_NOW", timedelta())
    monkeypatch.setattr(validation, "JUST_NOW", timedelta())
    commit = readers.commit({"a/d.yaml": config_map("d"), "b/d.yaml": config_map("d")})

    name = way(hub, "new")

    hub.wait_status(name, revision=commit, seconds=SOON)
    assert hub.wait_status("b", revision=commit, seconds=SOON)


def test_many_new_applications_ask_their_repository_once(idle_hub, repo, git_server, monkeypatch):
    for module in (applications, validation):
        # What "just now" is must not depend on how busy this machine is.
        monkeypatch.setattr(module, "JUST_NOW", timedelta(minutes=5))
    repo.commit({"a/c.yaml": config_map("a")})
    source = {"repoURL": repo.url, "path": "a", "targetRevision": "main"}
    spec = {"project": "default", "source": source, "destination": HERE}
    idle_hub.post(APPS, {"metadata": {"name": "a0"}, "spec": spec})
    git_server.requests.clear()

    for number in range(1, 6):
        idle_hub.post(APPS, {"metadata": {"name": f"a{number}"}, "spec": spec})
    for application in Application.objects.all():
        refresh_module.refresh(application.pk)

    assert Application.objects.exclude(revisions=[]).count() == 6
    assert git_server.requests == []


@pytest.fixture
def charts():
    server = Charts()
    yield server
    server.server.shutdown()
    server.server.server_close()


def chart_app(hub, place, namespace, name, source):
    body = {
        "metadata": {"name": name},
        "spec": {"source": source, "destination": {"server": place.server, "namespace": namespace}},
    }
    hub.post(APPS, body)
    hub.wait(lambda: Application.objects.get(name=name).revisions, "the first look")
    return Application.objects.get(name=name).revisions[0]


@pytest.mark.parametrize("learn", [refresh, hard_refresh, sync, "validate", "list"])
def test_a_new_version_of_a_chart_reaches_all(hub, sandbox, charts, namespace, settings, learn):
    settings.POLL_INTERVAL = timedelta(hours=1)
    found = [
        chart_app(
            hub,
            sandbox,
            namespace,
            name,
            {"repoURL": charts.url, "chart": "demo", "targetRevision": target},
        )
        for name, target in (("a", "1.*"), ("b", ">=1.0.0, <2"), ("exact", "1.0.0"))
    ]
    assert found == ["1.1.0", "1.1.0", "1.0.0"]
    Application.objects.filter(name="exact").update(summary={"images": ["untouched"]})
    charts.archives["1.4.0"] = charts.archives["1.1.0"]

    if learn == "list":
        hub.get(f"/api/v1/repositories/{quote(charts.url, safe='')}/helmcharts")
        charts_module.fetch_index(charts.url, {}, fresh=True)
    elif learn == "validate":
        charts_module.fetch_index(charts.url, {}, fresh=True)
    else:
        learn(hub, charts)

    for name in "ab":
        hub.wait_status(name, revision="1.4.0", seconds=SOON)
    assert Application.objects.get(name="exact").summary == {"images": ["untouched"]}


@pytest.mark.parametrize("target", ["^1.0.0", "latest"])
def test_a_new_tag_of_an_artifact_reaches_all(hub, sandbox, charts, namespace, settings, target):
    settings.POLL_INTERVAL = timedelta(hours=1)
    url = f"oci://{charts.host}/acme/platform"
    Repository.objects.create(url=url, kind="oci", options={"insecureOCIForceHttp": True})
    tag = "latest" if target == "latest" else "1.0.0"
    charts.publish("acme/platform", tag, {"a/c.yaml": config_map("c")})
    source = {"repoURL": url, "path": "a", "targetRevision": target}
    before = [chart_app(hub, sandbox, namespace, name, source) for name in "ab"]
    generators = [{"oci": {"repoURL": url, "revision": target, "directories": [{"path": "*"}]}}]
    hub.post(
        "/api/v1/applicationsets",
        manifest(
            "s",
            generators,
            {"source": {**source, "path": "{{.path.path}}"}},
            metadata={"name": "of-{{.path.basename}}"},
        ),
    )
    hub.wait(lambda: "of-a" in names_of(), "the set")
    charts.publish(
        "acme/platform",
        "latest" if target == "latest" else "1.1.0",
        {"a/c.yaml": config_map("d"), "z/c.yaml": config_map("z")},
    )

    refresh(hub, charts)

    for name in "ab":
        hub.wait(
            lambda n=name: Application.objects.get(name=n).revisions[0] not in before, name, SOON
        )
    assert hub.wait(lambda: "of-z" in names_of(), "the set", SOON)


def test_a_worker_that_dies_before_it_hands_on_swallows_nothing(readers, hub, monkeypatch):
    """The hint is lost with the worker; what moved is in the database, and the sweep finds it."""
    monkeypatch.setattr("projects.sources.git_remotes.wake", lambda *_a, **_k: None)
    commit = readers.commit({"b/c.yaml": config_map("b", {"n": "2"})})

    git_remotes.current_refs(readers.url, "default", force=True)

    hub.wait_status("b", revision=commit, seconds=SOON)
    assert hub.wait(lambda: GitRemote.objects.get().moved_at is None, "that it is handed on")


def test_what_was_asked_before_anybody_read_it_is_polled_at_the_interval(idle_hub, repo, settings):
    """A repository that no application reads is left alone for an hour; the first one that does
    ends that.
    """
    repo.commit({"a/c.yaml": config_map("a")})
    git_remotes.current_refs(repo.url, "default", force=True)
    GitRemote.objects.update(due_at=timezone.now())
    triggers.poll_remote(GitRemote.objects.get().pk)
    assert GitRemote.objects.get().due_at > timezone.now() + timedelta(minutes=50)

    source = {"repoURL": repo.url, "path": "a", "targetRevision": "main"}
    to = {"server": "https://kubernetes.default.svc", "namespace": "x"}
    idle_hub.post(APPS, {"metadata": {"name": "a"}, "spec": {"source": source, "destination": to}})

    interval = settings.POLL_INTERVAL + settings.POLL_JITTER
    assert GitRemote.objects.get().due_at <= timezone.now() + interval


def test_very_many_refs_that_move_keep_the_row_small(idle_hub, repo):
    commit = repo.commit({"a": "1"})
    packed = "".join(f"{commit} refs/tags/t{n}\n" for n in range(1500))
    (repo.folder / ".git" / "packed-refs").write_text(packed)

    remote = git_remotes.current_refs(repo.url, "default", force=True)

    assert len(remote.refs) > 1500
    assert GitRemote.objects.get().moved == ["*"]


def test_other_spellings_of_the_url_are_asked_at_once(hub, sandbox, readers, app, namespace):
    scheme, _, rest = readers.url.partition("://")
    app(f"{scheme}://someone@{rest}", sandbox, namespace, name="c", path="b")
    hub.wait_status("c", "OutOfSync")
    commit = readers.commit({"b/c.yaml": config_map("b", {"n": "2"})})

    refresh(hub, readers)

    assert hub.wait_status("c", revision=commit, seconds=SOON)


@pytest.mark.parametrize(
    ("target", "moved", "expected"),
    [
        ("", ["HEAD"], True),
        ("HEAD", ["refs/heads/main"], False),
        ("main", ["refs/heads/main"], True),
        ("main", ["refs/heads/other", "HEAD"], False),
        ("v1", ["refs/tags/v1"], True),
        ("1.*", ["refs/tags/v1.3.0"], True),
        ("1.*", ["refs/heads/main"], False),
        ("refs/pull/3/head", ["refs/pull/3/head"], True),
        ("a" * 40, ["*"], False),
        ("abcdef0", ["refs/heads/main"], True),
        ("{{.branch}}", ["refs/heads/main"], True),
        ("other", ["*"], True),
    ],
)
def test_only_sets_whose_ref_moved_are_looked_at(target, moved, expected):
    assert reads_moved(target, moved) is expected
