"""What one look needs again and again is read once; the next look reads it anew."""

import threading

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from hub.base import thread_connections
from hub.base.read_once import cached_reads, once
from hub.models import change_setting, setting
from projects.models import Application, Repository
from projects.refreshing import refresh
from projects.sources.credentials import credentials_for

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"


@pytest.mark.django_db
def test_cached_reads_show_one_state_and_the_next_ones_the_changes(django_assert_num_queries):
    change_setting("health", {"a": "1"})
    with cached_reads():
        with django_assert_num_queries(1):
            assert setting("health", {}) == setting("health", {}) == {"a": "1"}
        change_setting("health", {"a": "2"})
        assert setting("health", {}) == {"a": "1"}

        with cached_reads():
            assert setting("health", {}) == {"a": "2"}
        assert setting("health", {}) == {"a": "1"}
    assert setting("health", {}) == {"a": "2"}


def test_what_is_not_there_is_read_once_too_and_what_fails_again():
    calls = []

    def read():
        calls.append("read")

    def fail():
        calls.append("fail")
        raise ValueError

    with cached_reads():
        assert once("a", read) is once("a", read) is None
        for _ in range(2):
            with pytest.raises(ValueError):
                once("b", fail)

    assert calls == ["read", "fail", "fail"]


@pytest.mark.django_db
def test_who_changes_credentials_changes_them_for_nobody_else():
    Repository.objects.create(url="https://git.example/a", credentials={"password": "x"})
    with cached_reads():
        credentials_for("https://git.example/a")["passCredentials"] = True

        assert "passCredentials" not in credentials_for("https://git.example/a")


def test_a_refresh_reads_nothing_twice(idle_hub, repo):
    repo.commit({"c.yaml": CONFIG})
    place = {"server": "https://kubernetes.default.svc", "namespace": "x"}
    source = {"repoURL": repo.url, "path": "."}
    spec = {"source": source, "destination": place}
    idle_hub.post("/api/v1/applications", {"metadata": {"name": "a"}, "spec": spec})
    pk = Application.objects.values_list("pk", flat=True).get(name="a")
    Application.objects.filter(pk=pk).update(refresh_at=timezone.now())

    with CaptureQueriesContext(connection) as found:
        assert refresh.refresh(pk)

    shared = ("hub_setting", "projects_project", "projects_repository", "clusters_cluster")
    asked = [
        q["sql"] for q in found if any(f'FROM "{table}" WHERE' in q["sql"] for table in shared)
    ]
    assert [sql for sql in asked if asked.count(sql) > 1] == []


def test_a_long_lived_thread_keeps_its_connection(transactional_db, monkeypatch):
    """A connection to a server goes when its thread may wait for long; SQLite's file stays open."""
    del transactional_db
    # `hub.asgi` sets 0 for the threads of requests.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 600)
    is_kept = {}

    def work():
        for name in ("end_of_task", "end_of_call"):
            connection.ensure_connection()
            opened = connection.connection
            getattr(thread_connections, name)()
            is_kept[name] = connection.connection is opened
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    is_file = connection.vendor == "sqlite"
    assert is_kept == {"end_of_task": True, "end_of_call": is_file}
