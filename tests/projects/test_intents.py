"""A live change has an intent in the trail before the cluster is asked and an outcome after it,
whatever dies in between.
"""

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import config_map
from django.conf import settings
from django.db import connection
from django.utils import timezone
from support.command import Command

from clusters.kube import Connection
from hub.audit import chain
from hub.engine.errors import RetryLater
from hub.models import AuditEvent, PendingChange
from projects.operations import resource_changes

ROOT = Path(__file__).resolve().parents[2]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def flotilla(site, tmp_path):
    return Command(tmp_path, FLOTILLA_SERVER=site.url, FLOTILLA_TOKEN=site.hub.token)


@pytest.fixture
def late(monkeypatch):
    """Nobody reads the live object until the test says so."""
    monkeypatch.setattr(resource_changes, "GRACE", timedelta(hours=1))


def deployed(hub, place, repo, app, namespace, **files):
    repo.commit({"a.yaml": config_map("a"), **files})
    name = app(repo, place, namespace)
    hub.wait_status(name, sync="OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync", {})
    hub.wait_operation(name)
    hub.wait_status(name, sync="Synced")
    return name


def events(**fields):
    return list(AuditEvent.objects.filter(kind="resource", **fields).order_by("pk"))


def query(namespace, name="a", kind="ConfigMap", version="v1", group=""):
    return {
        "resourceName": name,
        "kind": kind,
        "namespace": namespace,
        "version": version,
        "group": group,
    }


def patch(hub, name, namespace, body, **how):
    path = f"/api/v1/applications/{name}/resource"
    return hub.post(path, json.dumps(body), **query(namespace), **how)


def resolved(hub):
    PendingChange.objects.update(due_at=timezone.now())
    hub.wait(lambda: not PendingChange.objects.exists(), "the outcome")


def test_a_change_has_its_intent_and_its_masked_outcome(hub, sandbox, repo, app, namespace):
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"k": "old"},
    }
    name = deployed(hub, sandbox, repo, app, namespace, **{"s.yaml": json.dumps(secret)})
    path = f"/api/v1/applications/{name}/resource"

    patch(hub, name, namespace, {"metadata": {"labels": {"tier": "gold"}}})
    body = json.dumps({"stringData": {"k": "CANARY"}})
    hub.post(path, body, **query(namespace, "s", "Secret"))
    hub.delete(path, **query(namespace))
    patch(hub, name, namespace, {"metadata": {"labels": {"tier": 1}}}, status=None)

    found = [(e.verb, e.outcome) for e in events()]
    assert found[:6] == [
        ("patch", "intent"),
        ("patch", "allowed"),
        ("patch", "intent"),
        ("patch", "allowed"),
        ("delete-resource", "intent"),
        ("delete-resource", "allowed"),
    ]
    begun, done = events()[:2]
    assert done.detail["intent"] == str(begun.uid)
    assert begun.detail["patch"] == {"metadata": {"labels": {"tier": "gold"}}}
    labels = {"path": "metadata.labels", "before": None, "after": {"tier": "gold"}}
    assert labels in done.change["changes"]
    assert all(e.project == "default" and e.actor == "admin" for e in events())
    assert any(c["path"] == "data" for c in events()[3].change["changes"])
    assert events()[5].change["changes"]
    texts = json.dumps([[e.detail, e.change] for e in events()])
    assert "CANARY" not in texts
    assert not PendingChange.objects.exists()


@pytest.mark.controlplane
def test_what_the_cluster_refuses_has_a_failed_outcome(hub, genuine, repo, app, namespace):
    name = deployed(hub, genuine, repo, app, namespace)

    patch(hub, name, namespace, {"data": {"a": {"no": "text"}}}, status=400)

    begun, ended = events()
    assert (begun.outcome, ended.outcome) == ("intent", "failed")
    assert "data" in ended.detail["message"]
    assert not PendingChange.objects.exists()


def _patch(hub, name, namespace):
    patch(hub, name, namespace, {"data": {"a": "2"}})


def _json_patch(hub, name, namespace):
    body = json.dumps([{"op": "replace", "path": "/data/a", "value": "3"}])
    path = f"/api/v1/applications/{name}/resource"
    hub.post(path, body, patchType="application/json-patch+json", **query(namespace))


def _action(hub, name, namespace):
    body = {**query(namespace, "web", "Deployment", "v1", "apps"), "action": "restart"}
    hub.post(f"/api/v1/applications/{name}/resource/actions/v2", body)


def _delete(hub, name, namespace):
    hub.delete(f"/api/v1/applications/{name}/resource", **query(namespace))


DEPLOYMENT = json.dumps(
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "w"}},
            "template": {
                "metadata": {"labels": {"a": "w"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
        },
    }
)
ENDS = [
    (_patch, "patch", "before", "failed"),
    (_patch, "patch", "after", "allowed"),
    (_json_patch, "patch", "before", "failed"),
    (_json_patch, "patch", "after", "allowed"),
    (_action, "patch", "before", "failed"),
    (_action, "patch", "after", "allowed"),
    (_delete, "delete", "before", "failed"),
    (_delete, "delete", "after", "allowed"),
]


@pytest.mark.controlplane
def test_what_became_of_a_change_is_read_from_the_cluster(
    late, hub, genuine, repo, app, namespace, monkeypatch
):
    name = deployed(hub, genuine, repo, app, namespace, **{"web.json": DEPLOYMENT})
    for act, method, when, outcome in ENDS:
        start = AuditEvent.objects.latest("pk").pk
        with monkeypatch.context() as world:
            _dies(world, method, when)
            with pytest.raises(Killed):
                act(hub, name, namespace)
        _shows_unknown(hub, start)

        resolved(hub)

        begun, ended = events(pk__gt=start)
        case = (act.__name__, when)
        assert (begun.outcome, ended.outcome) == ("intent", outcome), (case, ended.detail)
        assert (ended.actor, ended.detail["asked_by"]) == ("hub", "admin"), case
        assert ended.detail["intent"] == str(begun.uid), case
        assert bool(ended.change) == (outcome == "allowed"), case
        assert "result" not in hub.get(f"/api/v1/flotilla/audit/{begun.uid}"), case
    chain.seal()
    assert chain.check().is_intact


def _dies(world, method, when):
    real = getattr(Connection, method)

    def dying(self, *args, **options):
        if options.get("dry_run") or when == "before":
            raise Killed
        real(self, *args, **options)
        raise Killed

    world.setattr(Connection, method, dying)


def _shows_unknown(hub, start):
    (begun,) = events(pk__gt=start)
    (item,) = hub.get("/api/v1/flotilla/audit", outcome="unknown")["items"]
    assert (item["id"], item["result"]) == (str(begun.uid), "outcome unknown")
    assert hub.get(f"/api/v1/flotilla/audit/{begun.uid}")["result"] == "outcome unknown"
    chain.seal()
    assert chain.check().is_intact


def test_a_cluster_that_does_not_answer_leaves_the_outcome_open_until_it_does(
    late, hub, sandbox, repo, app, namespace, monkeypatch
):
    name = deployed(hub, sandbox, repo, app, namespace)

    def away(self, *args, **options):
        raise RetryLater("ClusterUnreachable", "the cluster does not answer")

    with monkeypatch.context() as world:
        world.setattr(Connection, "patch", away)
        patch(hub, name, namespace, {"data": {"a": "2"}}, status=503)
    pending = PendingChange.objects.get()
    with monkeypatch.context() as world:
        world.setattr(Connection, "get", away)
        PendingChange.objects.update(due_at=timezone.now())
        hub.wait(lambda: PendingChange.objects.get().attempts, "an attempt")
        assert [e.outcome for e in events()] == ["intent"]

    resolved(hub)

    assert [e.outcome for e in events()] == ["intent", "failed"]
    assert not resource_changes.resolve(pending.pk)
    assert len(events()) == 2


def test_the_outcome_stays_unknown_if_the_cluster_was_removed(
    late, hub, sandbox, repo, app, namespace, monkeypatch
):
    name = deployed(hub, sandbox, repo, app, namespace)
    with monkeypatch.context() as world:
        _dies(world, "patch", "after")
        with pytest.raises(Killed):
            patch(hub, name, namespace, {"data": {"a": "2"}})
    PendingChange.objects.update(cluster=0)

    resolved(hub)

    assert [e.outcome for e in events()] == ["intent", "unknown"]


CHILD = """
import os, signal, sys
import django
from django.conf import settings

database, token, path, body = sys.argv[1:]
settings.DATABASES["default"]["NAME"] = database
django.setup()
from django.test import Client
from clusters.kube import Connection

real = Connection.patch

def dying(self, *args, **options):
    real(self, *args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

Connection.patch = dying
Client().post(path, body, content_type="application/json", headers={"Authorization": f"Bearer {token}", "Host": "localhost"})
"""


def test_a_killed_process_leaves_an_unknown_outcome_in_the_trail(
    hub, sandbox, repo, app, namespace, flotilla
):
    name = deployed(hub, sandbox, repo, app, namespace)
    where = "&".join(f"{k}={v}" for k, v in query(namespace).items() if v)
    path = f"/api/v1/applications/{name}/resource?{where}"
    body = json.dumps(json.dumps({"data": {"a": "killed"}}))
    env = {
        **os.environ,
        "HUB_SECRET_KEY": settings.SECRET_KEY,
        "DJANGO_SETTINGS_MODULE": "hub.settings",
        "PYTHONPATH": str(ROOT),
    }
    argv = [
        sys.executable,
        "-c",
        CHILD,
        str(connection.settings_dict["NAME"]),
        hub.token,
        path,
        body,
    ]

    ended = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert sandbox.get("", "ConfigMap", namespace, "a")["data"] == {"a": "killed"}
    (begun,) = events()
    assert hub.get(f"/api/v1/flotilla/audit/{begun.uid}")["result"] == "outcome unknown"
    assert "outcome unknown" in flotilla("audit", "list", "--filter", "outcome=unknown")
    PendingChange.objects.update(claimed_until=None)
    resolved(hub)
    assert [e.outcome for e in events()] == ["intent", "allowed"]
    changed = [c for c in events()[1].change["changes"] if c["path"] == "data"]
    assert changed and "killed" not in str(changed)
    chain.seal()
    assert chain.check().is_intact
