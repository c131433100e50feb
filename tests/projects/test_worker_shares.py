"""Servers that answer slowly, and hold the workers that wait for them: others have theirs."""

import threading

import pytest
from django.utils import timezone
from support.local import Local

from hub.events import fair_shares
from hub.events.fair_shares import FairShares, owners_of, shares
from hub.events.task_names import TaskName
from projects.models import Application, GitRemote, Published, Repository
from projects.refreshing import artifact_triggers, triggers
from projects.sources import charts, git_remotes
from projects.sources.published_versions import listing_key

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
WORKERS = 4
REFRESH = TaskName.PROJECTS_REFRESH


class Slow(Local):
    """A server that answers when the test says so; `asked` are the paths."""

    def __init__(self):
        super().__init__()
        self.asked, self.released = [], threading.Event()

    def answer(self, handler, _body):
        self.asked.append(handler.path)
        self.released.wait(60)
        handler.send_response(404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def slow():
    git_remotes.forget()
    charts.forget()
    found = Slow()
    yield found
    found.released.set()
    found.close()
    charts.forget()


@pytest.fixture
def limited():
    shares.use(WORKERS)
    yield
    shares.use(0)


def create(hub, name, sources, project="default"):
    spec = {
        "project": project,
        "sources": sources,
        "destination": {"name": "in-cluster", "namespace": "n"},
    }
    body = {"metadata": {"name": name}, "spec": spec}
    hub.post("/api/v1/applications", body, validate="false")
    return Application.objects.get(name=name)


def new_project(hub, name):
    spec = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": name}, "spec": spec}})


def chart_at(server, version="1.0.0"):
    return {"repoURL": server, "chart": "x", "targetRevision": version}


def git_at(repo):
    return {"repoURL": repo.url, "path": ".", "targetRevision": "main"}


def test_a_project_whose_servers_are_slow_leaves_a_worker_to_others(idle_hub, repo, slow, limited):
    repo.commit({"c.yaml": CONFIG})
    new_project(idle_hub, "theirs")
    for number in range(WORKERS + 1):
        create(idle_hub, f"slow-{number}", [chart_at(f"{slow.url}/{number}")], "theirs")
    idle_hub.start(workers=WORKERS, watch=False)
    idle_hub.wait(lambda: len(slow.asked) >= WORKERS - 2, seconds=20)

    quick = create(idle_hub, "quick", [git_at(repo)])

    idle_hub.wait(lambda: Application.objects.get(pk=quick.pk).reconciled_at, seconds=20)
    assert len(slow.asked) == WORKERS - 2
    slow.released.set()
    idle_hub.wait(lambda: len(set(slow.asked)) == WORKERS + 1, seconds=20)


def test_who_waits_for_a_share_is_queued_again(monkeypatch):
    woken = []
    monkeypatch.setattr(fair_shares, "wake", lambda *task: woken.append(task))
    found = FairShares()
    found.use(4)

    def turn(number, project, cluster=1):
        return found.turn(REFRESH, number, owners_of(project, cluster))

    with turn(1, "a") as one, turn(2, "a") as two, turn(3, "b") as three:
        assert one and two and three
        for number in (4, 4, 5):
            with turn(number, "a", 2) as more:
                assert not more, "a project leaves two workers"
        with turn(6, "b") as more:
            assert not more, "a cluster leaves one"
        with turn(7, "b", 2) as elsewhere:
            assert elsewhere
    assert woken == [(REFRESH, 6), (REFRESH, 4), (REFRESH, 5)]
    with turn(4, "a", 2) as again:
        assert again
    found.use(0)
    with turn(1, "a"), turn(2, "a"), turn(3, "a"), turn(4, "a") as unlimited:
        assert unlimited


def test_a_slow_server_keeps_no_commit_from_other_readers_of_a_repository(idle_hub, repo, slow):
    old = repo.commit({"c.yaml": CONFIG})
    row = create(idle_hub, "both", [chart_at(slow.url), git_at(repo)])
    Application.objects.filter(pk=row.pk).update(
        revisions=["1.0.0", old], inputs=[[0, "", "Chart.yaml", "h"]], refresh_at=None
    )
    repo.commit({"c.yaml": CONFIG.replace("name: c", "name: d")})
    git_remotes.current_refs(repo.url, "default", force=True)
    slow.released.set()

    triggers.advance(GitRemote.objects.get())

    assert slow.asked == []
    assert Application.objects.get(pk=row.pk).refresh_at <= timezone.now()


def test_a_slow_way_of_one_project_keeps_no_version_from_others(idle_hub, slow):
    new_project(idle_hub, "theirs")
    Repository.objects.create(
        url=slow.url, kind="helm", project="theirs", options={"insecure": True}
    )
    row = create(idle_hub, "theirs", [chart_at(slow.url, "1.x")], "theirs")
    Application.objects.filter(pk=row.pk).update(revisions=["1.0.0"], refresh_at=None)
    published = Published.objects.create(
        place=listing_key(slow.url), reader="r", moved_at=timezone.now()
    )
    slow.released.set()

    artifact_triggers.propagate(published.pk)

    assert slow.asked == []
    assert Application.objects.get(pk=row.pk).refresh_at <= timezone.now()
