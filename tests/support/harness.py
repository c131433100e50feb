"""A hub without its web server: workers, watcher and timer in threads of the test, REST through
Django's client.
"""

import json
import threading
import time

from celery import current_app
from django.db import connections
from django.test import Client

import hub.celery
from clusters.models import Cluster
from clusters.watching.watcher import Watcher
from hub.embedded import find_task
from hub.events.queue import use_pool, wake
from hub.events.task_names import TaskName
from hub.events.worker_pool import Pool
from projects.models import Application

running: set["Hub"] = set()
"""Hubs whose workers and watcher run."""


class Hub:
    """The hub under test."""

    def __init__(self) -> None:
        current_app.loader.import_default_modules()
        self.client = Client()
        self.token = ""
        self.pool = None
        self.watcher = None
        self._stop = threading.Event()
        self._threads = []

    def start(self, *, workers: int = 4, watch: bool = True) -> None:
        running.add(self)
        self._stop.clear()
        self.pool = Pool(find_task, workers)
        use_pool(self.pool)
        self.pool.start()
        self._threads = [threading.Thread(target=self._sweep, daemon=True)]
        if watch:
            self.watcher = Watcher()
            self._threads.append(threading.Thread(target=self.watcher.run, daemon=True))
        for thread in self._threads:
            thread.start()

    def _sweep(self) -> None:
        while not self._stop.wait(0.5):
            wake(TaskName.PROJECTS_SWEEP)
            wake(TaskName.APPSETS_SWEEP)
        connections.close_all()

    def stop(self) -> None:
        self._stop.set()
        if self.watcher:
            self.watcher.stop()
        if self.pool:
            self.pool.stop(timeout=20)
        for thread in self._threads:
            thread.join(10)
        use_pool(None)
        self.pool = self.watcher = None
        running.discard(self)

    def call(self, method, path, body=None, *, status=200, token=None, **query):
        extra = {
            "CONTENT_TYPE": "application/json",
            "HTTP_AUTHORIZATION": f"Bearer {self.token if token is None else token}",
        }
        data = None if body is None else json.dumps(body)
        if query:
            from urllib.parse import urlencode

            path += "?" + urlencode(query, doseq=True)
        answer = self.client.generic(
            method, path, data=data or "", content_type="application/json", **extra
        )
        content = answer.content.decode()
        assert status is None or answer.status_code == status, (
            f"{method} {path}: {answer.status_code} {content[:2000]}"
        )
        return json.loads(content) if content.startswith(("{", "[")) else content

    def get(self, path, **kwargs):
        return self.call("GET", path, **kwargs)

    def post(self, path, body=None, **kwargs):
        return self.call("POST", path, body if body is not None else {}, **kwargs)

    def put(self, path, body, **kwargs):
        return self.call("PUT", path, body, **kwargs)

    def delete(self, path, **kwargs):
        return self.call("DELETE", path, **kwargs)

    def push(self, repo, changes):
        """Commit, tell the hub as GitHub does, and return the commit."""
        commit = repo.commit(changes)
        body = {"ref": "refs/heads/main", "after": "0" * 40, "repository": {"clone_url": repo.url}}
        answer = self.client.post(
            "/api/webhook",
            json.dumps(body),
            content_type="application/json",
            HTTP_X_GITHUB_EVENT="push",
        )
        assert answer.status_code == 200
        return commit

    def application(self, name):
        return self.get(f"/api/v1/applications/{name}")

    def wait(self, check, what="the condition", seconds=30.0):
        """Return what `check` gives once it is true; a test that ends here asserts on that."""
        deadline = time.monotonic() + seconds
        value = None
        while time.monotonic() < deadline:
            value = check()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(
            f"{what} did not come true in {seconds:.0f} s; last: {value!r}\n{self.waiting_work()}"
        )

    def waiting_work(self):
        """What is unfinished in the database: the first thing to read when a wait fails."""
        lines = []
        for a in Application.objects.select_related("operation"):
            operation = a.operation and (
                a.operation.phase,
                a.operation.message,
                str(a.operation.due_at),
            )
            lines.append(
                f"{a.name}: {a.sync_status}/{a.health_status} "
                f"deleting={a.deletion_requested_at} due={a.refresh_at} "
                f"claimed={a.claimed_until} finalizers={a.finalizers} "
                f"conditions={a.conditions} operation={operation}"
            )
        for cluster in Cluster.objects.all():
            lines.append(
                f"cluster {cluster.name}: {cluster.connection} synced={cluster.is_synced} "
                f"{cluster.message}"
            )
        return "\n".join(lines)

    def wait_status(self, name, sync=None, health=None, revision=None, seconds=30.0):
        last = {}

        def check():
            last.clear()
            last.update(self.get(f"/api/v1/applications/{name}", status=None))
            if "status" not in last:
                return False
            status = last["status"]
            return (
                (sync is None or status["sync"]["status"] == sync)
                and (health is None or status["health"]["status"] == health)
                and (revision is None or status["sync"].get("revision") == revision)
            )

        try:
            self.wait(check, f"{name} {sync}/{health}/{revision}", seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(last.get('status'), indent=1)[:3500]}"
            ) from None
        return last

    def wait_operation(self, name, phase="Succeeded", seconds=30.0):
        last = {}

        def check():
            last.clear()
            last.update(self.application(name))
            state = last["status"].get("operationState") or {}
            return state.get("phase") == phase and "operation" not in last

        try:
            self.wait(check, f"operation of {name} {phase}", seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(last.get('status'), indent=1)[:3500]}"
            ) from None
        return last["status"]["operationState"]

    def condition(self, name, kind, seconds=30.0):
        def check():
            return next(
                (
                    c
                    for c in self.application(name)["status"].get("conditions", [])
                    if c["type"] == kind
                ),
                None,
            )

        return self.wait(check, f"condition {kind} of {name}", seconds)


__all__ = ["hub"]
