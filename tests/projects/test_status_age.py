"""How old a status is: polls and watches keep it, whatever the next due time."""

from datetime import timedelta

import pytest
from django.utils import timezone

from clusters.models import Cluster
from projects.access import listing
from projects.models import DELAYED, Application, GitRemote, Project
from projects.objects.manifests import as_of_now, is_stale
from projects.objects.specs import home_cluster
from projects.pages.application import windows_sentence
from projects.refreshing.refresh import refresh

MINUTE = timedelta(minutes=1)
LONG_AGO = timedelta(hours=2)
SPEC = {"source": {"repoURL": "https://git.example/r", "path": "."}, "destination": {}}


@pytest.fixture
def watched(db):
    now = timezone.now()
    return Cluster.objects.create(
        server="https://c.example", name="c", config={}, is_synced=True, lease_until=now + MINUTE
    )


def application(cluster, *, due=None, digest="d", conditions=(), polled=MINUTE, error=""):
    now = timezone.now()
    made = Application.objects.create(
        name="a",
        project="default",
        spec=SPEC,
        cluster=cluster,
        sync_status="OutOfSync",
        comparison_digest=digest,
        reconciled_at=now - LONG_AGO,
        refresh_at=None if due is None else now + due,
        conditions=[{"type": t, "message": ""} for t in conditions],
    )
    made.remotes.add(
        GitRemote.objects.create(url="https://git.example/r", checked_at=now - polled, error=error)
    )
    return made


@pytest.mark.parametrize(
    ("how", "age"),
    [
        pytest.param({}, MINUTE, id="nothing is due"),
        pytest.param({"due": timedelta(hours=9)}, MINUTE, id="a window opens in hours"),
        pytest.param({"due": timedelta(seconds=1)}, MINUTE, id="due in a moment"),
        pytest.param({"due": -timedelta(seconds=70)}, timedelta(seconds=70), id="due a moment ago"),
        pytest.param({"due": -30 * MINUTE}, 30 * MINUTE, id="due for long"),
        pytest.param(
            {"due": timedelta(hours=9), "digest": ""}, LONG_AGO, id="the last look failed"
        ),
        pytest.param(
            {"due": MINUTE, "conditions": [DELAYED]}, LONG_AGO, id="its turn has not come"
        ),
        pytest.param(
            {"due": timedelta(hours=9), "polled": 40 * MINUTE}, 40 * MINUTE, id="not polled"
        ),
        pytest.param(
            {"due": timedelta(hours=9), "error": "away"}, LONG_AGO, id="the repository is away"
        ),
    ],
)
def test_the_age_of_a_status(watched, how, age):
    row = application(watched, **how)

    known = as_of_now(row)

    assert abs((timezone.now() - known) - age) < timedelta(seconds=5)
    found = Application.objects.filter(listing.stale(timezone.now())).exists()
    assert found is is_stale(known) is (age > 10 * MINUTE)


def test_a_window_that_is_closed_makes_nothing_stale(idle_hub, repo, monkeypatch):
    """The next look at an automated application is when the window opens; its status is known all
    the time.
    """
    repo.commit({"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"})
    project = idle_hub.get("/api/v1/projects/default")
    project["spec"]["syncWindows"] = [
        {"kind": "deny", "schedule": "* * * * *", "duration": "12h", "applications": ["*"]}
    ]
    idle_hub.put("/api/v1/projects/default", {"project": project})
    idle_hub.post(
        "/api/v1/applications",
        {
            "metadata": {"name": "a"},
            "spec": {
                "source": {"repoURL": repo.url, "path": "."},
                "destination": {"server": home_cluster().server, "namespace": "x"},
                "syncPolicy": {"automated": {}},
            },
        },
    )
    refresh(Application.objects.get().pk)
    row = Application.objects.get()
    assert row.sync_status == "OutOfSync" and row.refresh_at > timezone.now() and not row.operation

    Application.objects.update(reconciled_at=timezone.now() - LONG_AGO)
    GitRemote.objects.update(checked_at=timezone.now())

    status = idle_hub.application("a")["status"]
    assert status["flotilla"]["stale"] is False
    assert idle_hub.get("/api/v1/applications", freshness="stale")["items"] == []


ALWAYS = {"kind": "deny", "schedule": "* * * * *", "duration": "1h", "applications": ["*"]}


@pytest.mark.parametrize(
    ("window", "automated", "words"),
    [
        pytest.param({}, False, "blocks syncs, until 20", id="closed to everybody"),
        pytest.param({"manualSync": True}, False, "", id="open to manual syncs"),
        pytest.param(
            {"manualSync": True},
            True,
            "blocks automated syncs, until 20",
            id="closed to automated syncs",
        ),
        pytest.param(None, True, "", id="no window"),
    ],
)
def test_the_page_says_which_syncs_a_window_blocks(watched, window, automated, words):
    windows = [] if window is None else [{**ALWAYS, **window}]
    Project.objects.create(name="held", spec={"syncWindows": windows})
    row = application(watched)
    row.project = "held"
    row.spec = {**SPEC, "syncPolicy": {"automated": {}} if automated else {}}

    said = windows_sentence(row)

    assert words in said and bool(words) is bool(said)
