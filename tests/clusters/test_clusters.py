"""Clusters: registered, watched, away and back; credentials that never come out."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from conftest import place_in
from django.db import connection, connections
from django.utils import timezone
from support.web import deployment

from clusters import filters, live
from clusters.connection_config import ssl_context
from clusters.kinds import Kind
from clusters.kube import Connection, Unreachable
from clusters.models import Cluster, LiveResource
from clusters.sandbox.certificate import make_certificate
from clusters.watching import answers, watch, watcher
from clusters.watching.watch_discovery import is_watched
from clusters.watching.watch_kind import KindWatch
from clusters.watching.watch_writer import BATCH_SECONDS
from hub.base.crypto import UnreadableSecret, seal, unseal
from hub.engine.errors import Stalled

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
AUTO = {"automated": {"prune": True, "selfHeal": True}}


def test_registering_shows_version_and_counts_and_no_credentials(hub, cluster):
    [shown] = hub.get("/api/v1/clusters", name=cluster.name)["items"]
    assert shown["connectionState"]["status"] == "Successful"
    assert shown["serverVersion"].startswith("v1.")
    assert shown["info"]["cacheInfo"]["apisCount"] > 20
    one = hub.get(f"/api/v1/clusters/{cluster.name}", **{"id.type": "name"})
    assert one["server"] == cluster.server
    text = json.dumps([shown, one, hub.get(f"/api/v1/clusters/{cluster.server}")])
    assert "token" not in text.replace("sandbox-token", "TOKEN") or "admin-token" not in text
    assert "sandbox-token" not in text
    with connection.cursor() as cursor:
        cursor.execute("SELECT config FROM clusters_cluster WHERE name = %s", [cluster.name])
        assert b"token" not in bytes(cursor.fetchone()[0])


def test_registering_again(hub, sandbox):
    same = {"server": sandbox.server, "name": "east", "config": sandbox.config}
    assert hub.post("/api/v1/clusters", same)["name"] == "east"
    refused = hub.post("/api/v1/clusters", {**same, "labels": {"a": "b"}}, status=400)
    assert "upsert" in refused["message"]
    assert hub.post("/api/v1/clusters", {**same, "labels": {"a": "b"}}, upsert="true")[
        "labels"
    ] == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"config": {"execProviderConfig": {"command": "sh"}}},
            "execProviderConfig is refused",
            id="exec",
        ),
        pytest.param(
            {"config": {"awsAuthConfig": {"clusterName": "x"}}},
            "awsAuthConfig is refused",
            id="aws",
        ),
        pytest.param(
            {"config": {"tlsClientConfig": {"certFile": "/etc/x"}}}, "names a file", id="file"
        ),
        pytest.param(
            {"config": {"tlsClientConfig": {"caData": "bm90IGEgY2VydA=="}}},
            "caData",
            id="no certificate",
        ),
        pytest.param(
            {"config": {"tlsClientConfig": {"caData": 5}}}, "caData must be a string", id="number"
        ),
        pytest.param(
            {"config": {"tlsClientConfig": {"insecure": True, "certData": "x"}}},
            "certData",
            id="half a pair",
        ),
        pytest.param({"config": "x"}, "config must be an object", id="text"),
        pytest.param({"server": ""}, "server is required", id="no server"),
        pytest.param(
            {"config": {"proxyUrl": "http://127.0.0.1:1"}}, "config.proxyUrl is refused", id="proxy"
        ),
        pytest.param({"server": "ftp://x"}, "must start with", id="scheme"),
        pytest.param(
            {"server": "https://169.254.169.254"}, "does not connect", id="metadata address"
        ),
        pytest.param({"server": "https://127.0.0.1:1"}, "does not answer", id="nobody there"),
        pytest.param(
            {"config": {"bearerToken": "wrong", "tlsClientConfig": {"insecure": True}}},
            "refuses the credentials",
            id="wrong token",
        ),
        pytest.param(
            {"config": {"bearerToken": "sandbox-token"}}, "does not answer", id="unknown authority"
        ),
        pytest.param({"labels": {"a": 1}}, "labels", id="labels"),
        pytest.param({"namespaces": "x"}, "namespaces", id="namespaces"),
        pytest.param(
            {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x"}},
            "cannot be set",
            id="last applied",
        ),
    ],
)
def test_refused_registrations(idle_hub, sandbox_server, change, words):
    config = {
        "bearerToken": "sandbox-token",
        "tlsClientConfig": {"caData": sandbox_server.certificate},
    }
    body = {"server": sandbox_server.url("west"), "name": "west", "config": config, **change}
    refused = idle_hub.post("/api/v1/clusters", body, status=400)
    assert words in refused["message"]
    assert not Cluster.objects.filter(name="west").exists()


def test_updating_and_disagreeing_identifiers(hub, sandbox):
    path = f"/api/v1/clusters/{sandbox.server}"
    refused = hub.put(path, {"server": "https://other", "name": "x"}, status=400)
    assert "server in the body" in refused["message"]
    updated = hub.put(path, {"labels": {"env": "prod"}}, updatedFields="labels")
    assert updated["labels"] == {"env": "prod"}
    assert Cluster.objects.get(server=sandbox.server).config == sandbox.config
    assert "updatedFields" in hub.put(path, {}, status=400, updatedFields="nope")["message"]


def test_an_absent_cluster_looks_forbidden(idle_hub):
    for method, path in (
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/invalidate-cache"),
        ("POST", "/rotate-auth"),
    ):
        answer = idle_hub.call(
            method, f"/api/v1/clusters/nope{path}", {}, status=403, **{"id.type": "name"}
        )
        assert answer["message"] == "permission denied"


def test_foreign_objects_keep_only_metadata(hub, cluster, repo, app, namespace):
    repo.commit(
        {
            "s.yaml": (
                "apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\n"
                "stringData: {a: managed-canary}\n"
            )
        }
    )
    name = app(repo, cluster, namespace, policy=AUTO)
    hub.wait_status(name, "Synced", "Healthy")
    foreign = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "foreign", "namespace": namespace, "labels": {"l": "x"}},
        "stringData": {"a": "foreign-canary"},
    }
    cluster.apply(foreign)
    hub.wait(
        lambda: LiveResource.objects.filter(key=f"/Secret/{namespace}/foreign").exists(),
        "the foreign Secret",
    )

    row = LiveResource.objects.get(key=f"/Secret/{namespace}/foreign")
    assert row.body is None
    assert "canary" not in json.dumps({f.name: str(getattr(row, f.name)) for f in row._meta.fields})
    answer = json.dumps(hub.get(f"/api/v1/applications/{name}/managed-resources"))
    assert "canary" not in answer
    assert "bWFuYWdlZC1jYW5hcnk" not in answer


def test_a_secret_that_is_refused_is_not_quoted(hub, cluster, repo, app, namespace):
    repo.commit(
        {"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\ndata: {a: '!!canary!!'}\n"}
    )
    name = app(repo, cluster, namespace)
    hub.wait_status(name, "OutOfSync")
    hub.post(f"/api/v1/applications/{name}/sync")
    hub.wait_operation(name, "Failed")
    assert "canary" not in json.dumps(hub.application(name))
    assert "canary" not in json.dumps(hub.get(f"/api/v1/applications/{name}/events"))
    assert "canary" not in json.dumps(hub.get(f"/api/v1/applications/{name}/manifests"))


def test_a_watch_recovers_from_410_and_disconnects(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    store = sandbox.sandbox.store

    sandbox.sandbox.down = True
    for waiter in list(store.waiters):
        hub.wait(lambda: True)
        waiter._loop.call_soon_threadsafe(waiter.set) if getattr(waiter, "_loop", None) else None
    time.sleep(0.3)
    store.first_event = store.version + 10
    store.events.clear()
    kind = store.kinds["", "configmaps"]
    store.resources["", "configmaps"].pop((namespace, "c"))
    store.version += 20
    sandbox.sandbox.down = False
    Cluster.objects.filter(server=sandbox.server).update(generation=9)

    assert kind
    hub.wait_status(name, "OutOfSync", seconds=40)


def test_exclusions():
    assert filters.is_excluded("", "Event", "s")
    assert filters.is_excluded("coordination.k8s.io", "Lease", "s")
    assert not filters.is_excluded("", "ConfigMap", "s")
    rules = {
        "exclusions": [{"kinds": ["Secret"], "clusters": ["https://a*"]}],
        "inclusions": [{"apiGroups": [""]}],
    }
    assert filters.is_excluded("", "Secret", "https://abc", rules)
    assert not filters.is_excluded("", "Secret", "https://b", rules)
    assert filters.is_excluded("apps", "Deployment", "https://b", rules)


def test_excluded_kinds_are_neither_applied_nor_counted(hub, sandbox, repo, app, namespace):
    repo.commit({"c.yaml": CONFIG, "e.yaml": "apiVersion: v1\nkind: Event\nmetadata: {name: e}\n"})
    name = app(repo, sandbox, namespace, policy=AUTO)
    hub.wait_status(name, "Synced", "Healthy")
    assert "excluded in the settings" in hub.condition(name, "ExcludedResourceWarning")["message"]


def test_a_namespaced_cluster_watches_only_its_namespaces(hub, sandbox_server):
    config = {
        "bearerToken": "sandbox-token",
        "tlsClientConfig": {"caData": sandbox_server.certificate},
    }
    hub.post(
        "/api/v1/clusters",
        {
            "server": sandbox_server.url("west"),
            "name": "west",
            "config": config,
            "namespaces": ["kube-system"],
        },
    )
    hub.wait(lambda: Cluster.objects.filter(name="west", is_synced=True).exists(), "west")
    found = set(
        LiveResource.objects.filter(cluster__name="west").values_list("namespace", flat=True)
    )
    assert found == {"kube-system"}


@pytest.fixture
def west(hub, sandbox_server):
    """A cluster of which the hub may see two namespaces."""
    place = place_in(hub, sandbox_server, "west")
    for name in ("one", "two"):
        place.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return place


def test_each_namespace_of_a_namespaced_cluster_comes_whole(hub, west, repo, app):
    """The first managed resource of a kind turns the watch of its namespace; those of the others
    follow.
    """
    west.register(namespaces=["one", "two"])
    west.wait_synced()
    repo.commit({"c.yaml": CONFIG})

    for namespace in ("one", "two"):
        name = app(repo, west, namespace, policy=AUTO)
        hub.wait_status(name, "Synced", "Healthy")
        west.patch("", "ConfigMap", namespace, "c", {"metadata": {"labels": {"seen": "yes"}}})
        hub.wait(
            lambda namespace=namespace: (
                (LiveResource.objects.get(namespace=namespace, name="c").manifest or {})
                .get("metadata", {})
                .get("labels", {})
                .get("seen")
            ),
            "the change",
        )
        found = LiveResource.objects.get(namespace=namespace, name="c").manifest
        assert found["data"] == {"a": "1"}
    assert {a["status"]["sync"]["status"] for a in hub.get("/api/v1/applications")["items"]} == {
        "Synced"
    }


def test_a_cluster_is_read_when_every_namespace_is(hub, west, monkeypatch):
    held, read = threading.Event(), KindWatch._list

    async def slow(self, namespace, **more):
        if namespace == "two" and self._state.kind.kind == "ConfigMap":
            await asyncio.to_thread(held.wait)
        return await read(self, namespace, **more)

    monkeypatch.setattr(KindWatch, "_list", slow)
    west.register(namespaces=["one", "two"])
    hub.wait(lambda: Cluster.objects.get(name="west").connection == "Successful", "the connection")
    with pytest.raises(AssertionError, match="live store"):
        west.wait_synced(3)
    held.set()
    west.wait_synced()


def rows(place, kind, namespace="one"):
    found = LiveResource.objects.filter(cluster__name=place.name, kind=kind, namespace=namespace)
    return found.count()


def test_what_an_earlier_watch_wrote_and_this_one_does_not_see_is_forgotten(hub, west):
    """A definition that was removed while nobody watched, namespaces that are not the hub's any
    more.
    """
    west.register()
    west.wait_synced()
    pk = Cluster.objects.get(name="west").pk
    for kind, namespace in (("Thing", "one"), ("Binding", "one"), ("ConfigMap", "two")):
        manifest = {
            "apiVersion": "gone.example.com/v1" if kind == "Thing" else "v1",
            "kind": kind,
            "metadata": {"name": "left", "namespace": namespace, "resourceVersion": "1"},
        }
        live.record(pk, [live.Seen(manifest, is_whole=True)])
    assert rows(west, "Thing") == 1

    west.register(namespaces=["one"])

    hub.wait(lambda: not rows(west, "Thing"), "the kind to be forgotten")
    hub.wait(lambda: not rows(west, "ConfigMap", "two"), "the namespace to be forgotten")
    west.wait_synced()
    assert rows(west, "ConfigMap") > 0


def test_what_settings_leave_out_is_followed_while_clusters_are_watched(hub, sandbox):
    sandbox.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "one"}})
    sandbox.apply(yaml.safe_load(CONFIG) | {"metadata": {"name": "c", "namespace": "one"}})
    hub.wait(lambda: rows(sandbox, "ConfigMap"), "the config map")
    rules = {"exclusions": [{"apiGroups": [""], "kinds": ["ConfigMap"]}]}

    hub.put("/api/v1/flotilla/settings/resource_filters", {"value": rules})
    hub.wait(lambda: not rows(sandbox, "ConfigMap"), "the kind to be left out")
    hub.put("/api/v1/flotilla/settings/resource_filters", {"value": {}})
    assert hub.wait(lambda: rows(sandbox, "ConfigMap"), "the kind to be read")


def test_an_unreachable_aggregated_api_hides_nothing(
    hub, sandbox, repo, app, namespace, monkeypatch
):
    """Metrics and other aggregated APIs come and go: what they serve is unknown then, not gone."""
    repo.commit({"d.yaml": deployment(1)})
    name = app(repo, sandbox, namespace, policy=AUTO)
    hub.wait_status(name, "Synced", "Healthy")
    ask, asked = Connection.request, []

    def request(self, method, path, body=None, **more):
        answer = ask(self, method, path, body, **more)
        if path == "/apis" and "items" in answer:
            for item in answer["items"]:
                if item["metadata"]["name"] == "apps":
                    item["versions"] = [{"version": "v1", "freshness": "Stale", "resources": []}]
            asked.append(path)
        return answer

    monkeypatch.setattr(Connection, "request", request)
    for every in list(watcher._watchers):
        for one, _task in list(every._tasks.values()):
            every._loop.call_soon_threadsafe(one._session.rediscover.set)
    hub.wait(lambda: asked, "another discovery")
    time.sleep(1)
    assert rows(sandbox, "Deployment", namespace) == 1

    Cluster.objects.filter(name=sandbox.name).update(generation=7, is_synced=False)
    sandbox.wait_synced()
    assert rows(sandbox, "Deployment", namespace) == 1
    assert (
        hub.get(f"/api/v1/applications/{name}", refresh="normal")["status"]["sync"]["status"]
        == "Synced"
    )


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "ended"])
def test_watches_that_do_not_last_are_not_begun_without_end(hub, west, monkeypatch, refuses):
    begun, follow = [], KindWatch._watch

    async def short(self, namespace, version, **more):
        if self._state.kind.kind != "ConfigMap":
            return await follow(self, namespace, version, **more)
        begun.append(1)
        if refuses:
            raise answers.Relist
        return version

    monkeypatch.setattr(KindWatch, "_watch", short)
    west.register()
    west.wait_synced()
    time.sleep(3)
    assert 2 <= len(begun) <= 8


def test_the_hub_keeps_its_own_kinds_where_its_cluster_serves_them_too():
    """Beside Argo CD, whose definitions are there: they are another's applications."""
    home = Cluster(server="https://kubernetes.default.svc")
    away = Cluster(server="https://a")
    kind = Kind("argoproj.io", "v1alpha1", "Application", "applications", True, ("list", "watch"))
    assert not is_watched(home, kind, {})
    assert is_watched(away, kind, {})


def test_leases_pass_on(idle_hub, sandbox_server):
    Cluster.objects.create(server="https://a", name="a", config={})
    assert [c.name for c in watcher.claim_clusters("one")] == ["a"]
    assert watcher.claim_clusters("two") == []
    Cluster.objects.update(lease_until=timezone.now() - timezone.timedelta(seconds=1))
    assert [c.name for c in watcher.claim_clusters("two")] == ["a"]
    watcher.release_leases("two")
    assert [c.name for c in watcher.claim_clusters("one")] == ["a"]


def another_takes(place):
    Cluster.objects.filter(pk=place.pk).update(
        lease_holder="two", lease_until=timezone.now() + timezone.timedelta(seconds=60)
    )


def test_a_watcher_that_stood_still_writes_nothing_over_its_successor(idle_hub):
    """What it still had in its hands is older than what the other one knows."""
    place = Cluster.objects.create(server="https://a", name="a", config={}, lease_holder="one")
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "5"},
    }
    seen = [live.Seen(body, is_whole=True)]
    assert live.record(place.pk, seen, holder="one") == 1
    live.set_connection(place.pk, "Successful", holder="one", is_synced=True)

    another_takes(place)
    gone = ["/ConfigMap/n/c"]
    for late in (
        lambda: live.record(place.pk, [], gone, holder="one"),
        lambda: live.forget_kind(place.pk, "", "ConfigMap", holder="one"),
        lambda: live.forget_unwatched(place, set(), set(), set(), holder="one"),
        lambda: live.set_connection(place.pk, "Failed", "away", holder="one", is_synced=False),
    ):
        with pytest.raises(live.LeaseLost):
            late()
    assert LiveResource.objects.filter(key=gone[0]).exists()
    place.refresh_from_db()
    assert (place.connection, place.is_synced) == ("Successful", True)
    # What a sync wrote itself is nobody's lease.
    assert live.record(place.pk, [], gone) == 1


@pytest.mark.parametrize("is_away", [False, True])
def test_a_watch_ends_when_another_watcher_has_its_cluster(idle_hub, sandbox_server, is_away):
    east = place_in(idle_hub, sandbox_server, "east")
    place = Cluster.objects.create(
        server=east.server, name="east", config=east.config, lease_holder="one"
    )
    threads = ThreadPoolExecutor(1)
    watched = watch.ClusterWatch(place, threads, "one")
    thread = threading.Thread(target=asyncio.run, args=(watched.run(),))
    thread.start()
    idle_hub.wait(lambda: Cluster.objects.get(pk=place.pk).is_synced, "the lists")
    another_takes(place)
    if is_away:
        sandbox_server.stop()
    else:
        east.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "late", "namespace": "default"},
                "data": {},
            }
        )
    thread.join(30)
    assert not thread.is_alive()
    assert not LiveResource.objects.filter(name="late").exists()
    assert Cluster.objects.get(pk=place.pk).connection == "Successful"
    threads.submit(connections.close_all).result(10)
    threads.shutdown()


def test_an_older_version_never_overwrites_a_newer(idle_hub):
    place = Cluster.objects.create(server="https://a", name="a", config={})

    def seen(version, uid="u"):
        return live.Seen(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": "c",
                    "namespace": "n",
                    "uid": uid,
                    "resourceVersion": str(version),
                },
            },
            is_whole=True,
        )

    assert live.record(place.pk, [seen(5)]) == 1
    assert live.record(place.pk, [seen(4)]) == 0
    assert live.record(place.pk, [seen(5)]) == 0
    assert live.record(place.pk, [seen(6)]) == 1
    assert live.record(place.pk, [seen(3, "older")]) == 0
    assert live.record(place.pk, [], ["/ConfigMap/n/c"]) == 1


def test_keys_rotate(settings):
    sealed = seal(b"secret")
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [old]
    assert unseal(sealed) == b"secret"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(UnreadableSecret, match="HUB_SECRET_KEY"):
        unseal(sealed)


def command(*argv, env=None, stdin=""):
    return subprocess.run(
        [sys.executable, "-m", "hub.cli.main", *argv],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        input=stdin,
        check=False,
        timeout=60,
    )


@pytest.mark.controlplane
@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_cluster_add_makes_an_account_that_deploys(
    hub, control_plane, live_server, tmp_path, repo, app, namespace, scope
):
    env = {"FLOTILLA_SERVER": live_server.url, "FLOTILLA_TOKEN": hub.token}
    context = yaml.safe_load(control_plane["kubeconfig"].read_text())["current-context"]
    more = [] if scope == "cluster" else ["--namespace", namespace, "--service-account", "limited"]
    direct = Connection(
        control_plane["server"],
        "x",
        {"bearerToken": "admin-token", "tlsClientConfig": {"caData": control_plane["ca"]}},
    )
    if scope == "namespace":
        direct.apply(
            direct.kind("", "Namespace"),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        )

    result = command(
        "cluster",
        "add",
        context,
        "--kubeconfig",
        str(control_plane["kubeconfig"]),
        "--name",
        "added",
        "--label",
        "env=test",
        "--upsert",
        *more,
        env=env,
    )

    assert result.returncode == 0, result.stderr
    assert "added" in result.stdout
    added = Cluster.objects.get(name="added")
    assert added.labels == {"env": "test"}
    hub.wait(lambda: Cluster.objects.filter(name="added", is_synced=True).exists(), "added", 40)
    repo.commit({"c.yaml": CONFIG})
    name = app(
        repo,
        added.server,
        namespace,
        policy={
            "automated": {},
            "syncOptions": ["CreateNamespace=true"] if scope == "cluster" else [],
        },
    )
    hub.wait_status(name, "Synced", "Healthy", seconds=40)
    assert "added" in command("cluster", "list", env=env).stdout
    if scope == "cluster":
        old = added.config["bearerToken"]
        hub.post("/api/v1/clusters/added/rotate-auth", **{"id.type": "name"})
        assert Cluster.objects.get(name="added").config["bearerToken"] != old


@pytest.mark.parametrize(
    ("config", "context", "words"),
    [
        pytest.param(
            {
                "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {"exec": {"command": "sh"}}}],
            },
            "a",
            "signs in by a program",
            id="exec",
        ),
        pytest.param({"contexts": []}, "a", "it has none", id="no context"),
    ],
)
def test_cluster_add_refuses(tmp_path, config, context, words):
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    result = command("cluster", "add", context, "--kubeconfig", str(path))
    assert result.returncode == 20
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_line_says_what_to_do(tmp_path):
    env = {"FLOTILLA_CONFIG_DIR": str(tmp_path)}
    assert "flotilla login" in command("cluster", "list", env=env).stderr
    assert (
        "does not answer"
        in command(
            "login", "http://127.0.0.1:1", "--username", "a", "--password", "x", env=env
        ).stderr
    )
    assert "key=value" in command("cluster", "add", "x", "--label", "bad", env=env).stderr


@pytest.mark.parametrize("is_taken", [False, True], ids=["before", "after"])
def test_a_watch_that_breaks_unexpectedly_lists_again(
    hub, sandbox, repo, app, namespace, monkeypatch, is_taken
):
    repo.commit({"c.yaml": CONFIG})
    name = app(repo, sandbox, namespace, policy={"automated": {}})
    hub.wait_status(name, "Synced", "Healthy")
    handle, broken = KindWatch._handle, []

    async def odd(self, event, **more):
        if not broken and event["object"]["metadata"].get("name") == "c" and self._state.whole:
            broken.append(1)
            if is_taken:  # the writer has it in hand when everything stops
                await asyncio.sleep(BATCH_SECONDS * 4)
                await handle(self, event, **more)
                await asyncio.sleep(BATCH_SECONDS / 4)
            raise KeyError("an event that nobody expected")
        return await handle(self, event, **more)

    monkeypatch.setattr(KindWatch, "_handle", odd)
    sandbox.patch("", "ConfigMap", namespace, "c", {"data": {"a": "2"}})

    hub.wait_status(name, "OutOfSync", seconds=30)
    assert broken
    hub.wait(
        lambda: Cluster.objects.filter(
            server=sandbox.server, is_synced=True, connection="Successful"
        ).exists(),
        "the recovery",
    )


def test_a_service_account_token_that_rotates_is_read_again(sandbox_server):
    config = {"tlsClientConfig": {"caData": sandbox_server.certificate}}
    tokens = iter(["old", "sandbox-token", "sandbox-token"])

    def reload():
        return sandbox_server.url("east"), {**config, "bearerToken": next(tokens)}

    connection = Connection(
        *reload()[:1], "east", reload()[1] | {"bearerToken": "old"}, reload=reload
    )

    assert connection.server_version().startswith("v1.")
    assert connection.config["bearerToken"] == "sandbox-token"


def test_client_certificates_and_server_names(sandbox_server, certificate):
    other = make_certificate()
    key, own = (
        certificate[: certificate.index("-----BEGIN CERTIFICATE")],
        sandbox_server.certificate,
    )
    pair = {"certData": base64.b64encode(own.encode()).decode(), "keyData": key}
    assert ssl_context({"tlsClientConfig": pair})
    with pytest.raises(Stalled, match="TLS settings"):
        ssl_context(
            {"tlsClientConfig": {**pair, "keyData": other[: other.index("-----BEGIN CERTIFICATE")]}}
        )

    def version(name):
        tls = {"caData": own, "serverName": name, **pair}
        return Connection(
            sandbox_server.url("east"),
            "east",
            {"bearerToken": "sandbox-token", "tlsClientConfig": tls},
        ).server_version()

    assert version("localhost").startswith("v1.")
    with pytest.raises(Unreachable):
        version("other.example")
