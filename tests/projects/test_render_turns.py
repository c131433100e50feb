"""A project whose renders never end delays itself: others keep their turns, its own come less and
less often.
"""

import time
from datetime import timedelta

import pytest
from django.utils import timezone
from support import renders

from hub.engine.errors import RetryLater, Stalled
from projects.models import Application, RenderFailure
from projects.sources import jsonnet

MAX_SECONDS = 0.5
"""Seconds beside twice the time alone: the two cores of a small machine are shared with what never
ends.
"""


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def use(monkeypatch, **more):
    """Render in a pool of this test; return it, and what was waited for each place."""
    waits = renders.Waits()
    pool = renders.pool(waits, **more)
    monkeypatch.setattr(jsonnet, "renderer", pool)
    return pool, waits.found


def test_a_hostile_project_does_not_make_another_wait(
    transactional_db, repo, settings, monkeypatch
):
    """The 95th percentile of 20 renders beside six endless threads of another project.

    Measured is all that a look waits for: the wall time of `sources.load`, and in it the wait
    for a place. Each of
    the hostile renders lasts two seconds, so one that is waited for breaks both limits.
    """
    settings.EXEC_TIMEOUT = timedelta(seconds=2)
    pool, waits = use(monkeypatch, limits=renders.limits_of(2))
    repo.commit(renders.files(60, 200))
    revision = renders.revision_of(repo.url, "quiet")
    renders.revision_of(repo.url, "hostile")
    quiet = [f"quiet/{n}" for n in range(60)]
    renders.walls(repo.url, "quiet", revision, quiet[:10])
    alone = renders.walls(repo.url, "quiet", revision, quiet[10:30])
    waits.clear()

    with renders.hostile(repo.url, revision, (f"hostile/{n}" for n in range(200))) as ended:
        until = time.monotonic() + 10
        while "hostile" not in waits and time.monotonic() < until:
            time.sleep(0.01)
        beside = renders.walls(repo.url, "quiet", revision, quiet[30:50], 0.1)
    pool.close()

    assert len(beside) == len(alone) == 20
    assert renders.part(waits["quiet"], 0.95) < MAX_SECONDS
    assert renders.part(beside, 0.95) < 2 * renders.part(alone, 0.95) + MAX_SECONDS
    assert set(ended) <= {"Timeout", "RenderersBusy", "RendererDied"}
    assert ended


def test_what_took_too_long_is_tried_again_later_and_less_often(
    transactional_db, repo, settings, monkeypatch
):
    settings.EXEC_TIMEOUT = timedelta(seconds=1)
    pool, waits = use(monkeypatch)
    tried = lambda: len(waits.get("team", []))  # noqa: E731
    repo.commit({"a.jsonnet": renders.ENDLESS})
    revision = renders.revision_of(repo.url, "team")

    with pytest.raises(Stalled, match="took longer"):
        renders.load(repo.url, ".", "team", revision)
    # The next poll, and the one after it.
    for _ in range(2):
        with pytest.raises(RetryLater, match="took longer") as raised:
            renders.load(repo.url, ".", "team", revision)
    assert raised.value.delay > timedelta(minutes=4)
    assert tried() == 1

    RenderFailure.objects.update(retry_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(Stalled, match="took longer"):
        renders.load(repo.url, ".", "team", revision)
    assert tried() == 2
    with pytest.raises(RetryLater) as raised:
        renders.load(repo.url, ".", "team", revision)
    assert raised.value.delay > timedelta(minutes=12)

    repo.commit({"a.jsonnet": renders.SMALL.format(n=1)})
    desired = renders.load(repo.url, ".", "team", renders.revision_of(repo.url, "team"))
    pool.close()

    assert tried() == 3
    assert desired.manifests[0]["metadata"]["name"] == "quiet-1"


def test_waiting_for_a_turn_keeps_the_status_and_is_no_error(
    hub, sandbox, repo, app, namespace, monkeypatch
):
    repo.commit({"a.jsonnet": renders.SMALL.format(n=1)})
    name = app(repo, sandbox, namespace)
    row = lambda: Application.objects.get(name=name)  # noqa: E731
    types = lambda: {c["type"] for c in row().conditions}  # noqa: E731
    hub.wait(lambda: row().sync_status == "OutOfSync", "the first look")
    before = row()
    clock = Clock()
    pool, _ = use(monkeypatch, clock=clock, limits=renders.limits_of(2, 60.0))
    with pool._queue.hold("default"):
        clock.now += 90

    commit = hub.push(repo, {"a.jsonnet": renders.SMALL.format(n=2)})
    hub.wait(lambda: "RenderingDelayedWarning" in types(), "the warning")

    after = row()
    assert "ComparisonError" not in types()
    assert (after.sync_status, after.health_status) == (before.sync_status, before.health_status)
    assert after.revisions == before.revisions
    assert not RenderFailure.objects.exists()
    said = next(c["message"] for c in after.conditions if c["type"] == "RenderingDelayedWarning")
    assert "HUB_RENDER_BUDGET" in said

    clock.now += 600
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.wait(lambda: row().revisions == [commit], "the new revision")
    assert "RenderingDelayedWarning" not in types()
    pool.close()
