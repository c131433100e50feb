"""API servers that attack the hub: by size, by shape, by time; and what other clusters notice of
it.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import resource
import threading
import time

import orjson
import pytest
from conftest import place_in
from django.conf import settings
from support.hostile import Hostile, drip, gzip_of, http

from clusters import intake, kube, live
from clusters.kinds import Kind, Refused
from clusters.kube import Connection, Unreachable
from clusters.models import Cluster, LiveResource
from clusters.watching import answers, watch_discovery, watch_kind, watch_writer
from clusters.watching.watch_session import WatchSession
from hub.engine.errors import RetryLater, Stalled
from projects.api import logs

LISTED = ("configmaps", "pods")
POD = Kind("", "v1", "Pod", "pods", True, ("list", "watch"))


def item(name, number=1, **metadata):
    return {
        "metadata": {
            "name": name,
            "namespace": "n",
            "uid": f"u-{name}",
            "resourceVersion": str(number),
            **metadata,
        }
    }


def page(items, token="", version="1"):
    return {
        "kind": "List",
        "metadata": {"resourceVersion": version, "continue": token},
        "items": items,
    }


def answered(value):
    return http(value if isinstance(value, bytes) else orjson.dumps(value))


class Server(Hostile):
    """Serves Pods and ConfigMaps as a small API server; a test replaces one of the answers."""

    def __init__(self):
        super().__init__(self.told)
        self.replies = {}

    def told(self, path):
        path, _, query = path.partition("?")
        is_watch = "watch=1" in query
        for name, reply in self.replies.items():
            if path.endswith(name.removeprefix("watch ")) and is_watch == name.startswith("watch "):
                found = reply(query) if callable(reply) else reply
                return answered(found) if isinstance(found, dict) else found
        if path == "/version":
            return answered({"gitVersion": "v1.30.0"})
        if path == "/api":
            return answered({"versions": ["v1"]})
        if path == "/apis":
            return answered({"groups": []})
        if path == "/api/v1":
            return answered(
                {
                    "resources": [
                        {
                            "name": "pods",
                            "kind": "Pod",
                            "namespaced": True,
                            "verbs": ["list", "watch", "get"],
                        },
                        {
                            "name": "configmaps",
                            "kind": "ConfigMap",
                            "namespaced": True,
                            "verbs": ["list", "watch", "get"],
                        },
                    ]
                }
            )
        if is_watch:
            return drip(http(b"", Content_Length=None), b"\n", 0.2)
        return answered(page([]))


@pytest.fixture
def server():
    found = Server()
    yield found
    found.close()


@pytest.fixture
def connection(server, settings):
    settings.CLUSTER_ANSWER_BYTES = 1024 * 1024
    return Connection(server.url, "hostile", {})


def grown(before):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def now_used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@functools.cache
def zeros():
    """0.6 MB that stand for 600."""
    return http(gzip_of(b"\0" * 2**20, repeat=600), Content_Encoding="gzip")


BODIES = {
    "gzip of 600 MiB": zeros,
    "not JSON": lambda: http(b"<html>"),
    "no UTF-8": lambda: http(b'{"a":"\xff"}'),
    "too many values": lambda: http(b'{"a":[' + b"{}," * 340_000 + b"1]}"),
    "too deep": lambda: http(b'{"a":' * 300 + b"1" + b"}" * 300),
    "without an end": lambda: itertools.chain(
        [http(b"", Content_Length=None)], itertools.repeat(b" " * 65536)
    ),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda c: c.server_version(), id="version"),
        pytest.param(lambda c: c.kinds(fresh=True), id="discovery"),
        pytest.param(lambda c: c.get(POD, "n", "p"), id="one object"),
        pytest.param(lambda c: c.apply(POD, item("p")), id="apply"),
        pytest.param(lambda c: c.request("GET", "/openapi/v3"), id="OpenAPI"),
    ],
)
def test_every_request_is_bounded(connection, server, body, ask):
    server.answer = lambda path: BODIES[body]()
    before = now_used()

    with pytest.raises(Unreachable):
        ask(connection)

    assert grown(before) < 100 * 1024


def test_an_error_of_any_length_is_short(connection, server):
    server.answer = lambda path: itertools.chain(
        [http(b"", 500, Content_Length=None)], itertools.repeat(b"x" * 65536)
    )
    with pytest.raises(Refused) as refused:
        connection.server_version()
    assert len(refused.value.message) <= 1000


def test_a_redirect_of_an_api_server_is_not_followed(connection, server):
    server.answer = lambda path: http(b"", 302, Location=f"{server.url}/stolen")
    with pytest.raises(Refused):
        connection.server_version()
    assert server.paths == ["/version"]


@pytest.mark.parametrize("name", ["a/../../secrets/x", "..", ".", "a%2f..", "a\0b"])
def test_a_name_is_no_path(connection, server, name):
    for part in ({"namespace": name}, {"name": name}):
        with pytest.raises(Refused):
            connection.get(POD, **{"namespace": "n", "name": "p", **part})
    assert server.paths == []


def test_kinds_without_an_end(connection, server, settings):
    settings.CLUSTER_KINDS = 50
    server.replies["/api/v1"] = {
        "resources": [{"name": f"a{n}", "kind": f"A{n}", "verbs": ["list"]} for n in range(60)]
    }
    with pytest.raises(Stalled, match="HUB_CLUSTER_KINDS"):
        connection.kinds(fresh=True)


@pytest.mark.parametrize(
    "said",
    [
        {"resources": 5},
        {"resources": ["x"]},
        {"resources": [{"name": 1, "kind": []}]},
        {"resources": [{}]},
        {"resources": [{"name": "../x", "kind": "X"}]},
        {"resources": [{"name": "x", "kind": "a" * 999}]},
        {"resources": [{"name": "x", "kind": "X\0"}]},
        {"resources": [{"name": "x", "kind": "X", "verbs": [{}]}]},
    ],
)
def test_malformed_discovery(connection, server, said):
    server.replies["/api/v1"] = said
    with contextlib.suppress(Unreachable):
        assert connection.kinds(fresh=True) == []


@pytest.mark.parametrize("field", ["reason", "message"])
def test_an_error_that_is_nested_deeply_is_an_error_of_the_cluster(connection, server, field):
    deep = b'{"%s": %s%s}' % (field.encode(), b"[" * 1000, b"]" * 1000)
    server.answer = lambda path: http(deep, 500)

    with pytest.raises(Refused):
        connection.request("GET", "/api/v1/namespaces/n/pods/p")


def test_log_lines_are_cut_and_end(connection, server):
    long = b"x" * 2_000_000
    server.answer = lambda path: http(long + b"\nshort\n", Content_Type="text/plain")
    lines = list(logs._read_log(connection, "n", "p", {}, threading.Event()))
    assert [len(line) for line in lines] == [logs._MAX_LINE_BYTES, 5]


def test_logs_that_are_followed_take_no_connections_of_other_requests(connection, server):
    def answer(path):
        if path.partition("?")[0].endswith("/log"):
            return drip(http(b"", Content_Type="text/plain", Content_Length=None), b"line\n")
        return http(b"{}")

    server.answer = answer
    with contextlib.ExitStack() as stack:
        for _ in range(settings.KUBE_PARALLELISM + 1):
            path = "/api/v1/namespaces/n/pods/p/log"
            stack.enter_context(connection.stream(path, {"follow": "true"}))
        begun_at = time.monotonic()
        assert connection.request("GET", "/api/v1/namespaces/n/pods/p") == {}
        assert time.monotonic() - begun_at < 10


def test_long_log_lines_wait_for_a_slow_reader_in_little_memory(connection, server, monkeypatch):
    server.answer = lambda path: http(
        (b"x" * 200_000 + b"\n") * 100, Content_Type="text/plain", Content_Length=None
    )
    monkeypatch.setattr(logs, "require_same", lambda own, pod: None)
    pods = [logs._Pod("n", f"p{number}", "u") for number in range(3)]

    async def waiting():
        reading = logs._Reading((connection, connection), pods, {})
        before, held = -1, 0
        while held == 0 or held != before:
            await asyncio.sleep(0.3)
            before, held = held, sum(source.size for source in reading._sources)
        count = 0
        while not reading.is_done:
            count += reading.next() is not None
            await asyncio.sleep(0)
        return held, count

    held, count = asyncio.run(waiting())

    assert held < len(pods) * 1_000_000
    assert count == len(pods) * 100


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", 0.02), id="head"),
        pytest.param(lambda: drip(http(b"", 500, Content_Length=None), b"x", 0.02), id="error"),
    ],
)
def test_what_comes_before_log_lines_has_an_end(connection, server, monkeypatch, answer):
    monkeypatch.setattr(kube, "REQUEST_SECONDS", 0.3)
    server.answer = lambda path: answer()
    done, stop = threading.Event(), threading.Event()

    def read():
        with contextlib.suppress(Unreachable, Refused):
            list(logs._read_log(connection, "n", "p", {"follow": "true"}, stop))
        done.set()

    threading.Thread(target=read, daemon=True).start()
    assert done.wait(5)


ODD = {
    "a list": [],
    "no metadata": {},
    "metadata of a kind": {"metadata": 5},
    "no name": item(""),
    "a path": item("a/b"),
    "dots": item(".."),
    "a NUL": item("a\0b"),
    "long": item("a" * 300),
    "uid": item("a", uid=5),
    "long uid": item("a", uid="u" * 100),
    "giant version": item("a", number="9" * 5000),
    "labels": item("a", labels=[]),
    "label": item("a", labels={"a": {}}),
    "owners": item("a", ownerReferences=5),
    "owner": item("a", ownerReferences=[{"uid": {}}]),
    "many owners": item("a", ownerReferences=[{}] * 501),
    "fields": item("a", managedFields=["x"]),
    "namespace": item("a", namespace="../x"),
    "time": item("a", creationTimestamp="x" * 99),
}


@pytest.mark.parametrize("name", ODD)
def test_an_object_that_no_server_sends_is_left_out(name):
    assert intake.complaint(ODD[name])
    assert intake.complaint(item("system:node-1.example", labels={"a": "b"})) == ""


def test_fields_of_any_shape_leave_the_cluster_alone(idle_hub):
    place = Cluster.objects.create(server="https://odd", name="odd", config={})
    odd = [5, "x\0y", [], {"a": "\0"}, None, [[]], {"conditions": "\0"}]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **item(f"p{n}-{m}"), "spec": spec, "status": status}
        for n, spec in enumerate(odd)
        for m, status in enumerate(odd)
    ]
    assert live.record(place.pk, [live.Seen(pod, is_whole=True) for pod in pods]) == len(pods)


class Lists:
    """The pages of a list that a test invents, and what was asked for."""

    def __init__(self, make):
        self.make, self.asked = make, []

    def __call__(self, query):
        self.asked.append(query)
        return self.make(len(self.asked), dict(p.split("=") for p in query.split("&")))


def through(pages, lists):
    """Go through a list as the watcher does, and return the objects."""
    found = []
    for _ in range(200):
        query = pages.query()
        if query is None:
            return found
        found += pages.took(lists("&".join(f"{k}={v}" for k, v in query.items())))
    raise AssertionError("the list has no end")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n, q: page([item("a")], "same"), id="the same token"),
        pytest.param(lambda n, q: page([], f"t{n}"), id="empty pages"),
        pytest.param(lambda n, q: page([item("a")], "t" * 20_000), id="a token of any length"),
        pytest.param(lambda n, q: {"items": 5}, id="not a list"),
        pytest.param(lambda n, q: {"metadata": []} | {"items": {"a": 1}}, id="no objects"),
    ],
)
def test_a_list_that_has_no_end(make):
    with pytest.raises(RetryLater):
        through(answers.Pages("c"), Lists(make))


def watched(hub, server, **config):
    hub.post("/api/v1/clusters", {"server": server.url, "name": "hostile", "config": config})
    return Cluster.objects.get(name="hostile")


def message_of(name):
    return Cluster.objects.get(name=name).message


def test_large_objects_come_in_smaller_pages(hub, server, settings):
    settings.CLUSTER_ANSWER_BYTES = 400_000
    sizes = []

    def pods(query):
        limit = int(dict(p.split("=") for p in query.split("&"))["limit"])
        sizes.append(limit)
        start = int(query.partition("continue=")[2] or 0)
        some = [
            item(f"p{n}", annotations={"big": "x" * 20_000})
            for n in range(start, min(start + limit, 60))
        ]
        return page(some, str(start + limit) if start + limit < 60 else "")

    server.replies["/pods"] = pods
    watched(hub, server)
    hub.wait(lambda: LiveResource.objects.filter(kind="Pod").count() == 60, "all pods", 20)
    assert (sizes[0], max(sizes[3:])) == (500, 7)


SECRETS = {
    "resources": [
        {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["list", "watch", "get"]}
    ]
}


def managed(name, **more):
    mark = {"argocd.argoproj.io/tracking-id": f"app:/Secret:n/{name}"}
    return {"apiVersion": "v1", "kind": "Secret", **item(name, annotations=mark), **more}


def with_secrets(server, *names, **more):
    server.replies |= {
        "/api/v1": SECRETS,
        "/secrets": lambda q: page([managed(n) for n in names]),
        **{f"/{n}": managed(n, **more) for n in names},
    }


def test_what_is_fetched_for_a_page_does_not_wait_together(hub, server, monkeypatch):
    monkeypatch.setattr(live, "_FETCHED_BYTES", 100_000)
    with_secrets(server, *(f"s{n}" for n in range(20)), data={"k": "x" * 40_000})
    together, record = [], live.record
    monkeypatch.setattr(
        live,
        "record",
        lambda pk, seen, *a, **k: (together.append(len(list(seen))), record(pk, seen, *a, **k))[1],
    )

    watched(hub, server)
    hub.wait(
        lambda: LiveResource.objects.filter(kind="Secret").exclude(body=None).count() == 20,
        "all Secrets",
        20,
    )
    assert max(together) == 3


def test_what_is_fetched_for_an_event_takes_room(hub, server, monkeypatch):
    monkeypatch.setattr(live, "_WAITING_BYTES", 100_000)
    with_secrets(server, data={"k": "x" * 40_000})
    sizes, write = [], watch_writer.BatchWriter._write

    async def slowly(self, batch):
        sizes.append(len(batch.seen))
        await asyncio.sleep(0.3)
        await write(self, batch)

    monkeypatch.setattr(watch_writer.BatchWriter, "_write", slowly)

    def events(query):
        yield http(b"", Content_Length=None)
        for n in range(20):
            server.replies[f"/s{n}"] = managed(f"s{n}", data={"k": "x" * 40_000})
            yield json.dumps({"type": "ADDED", "object": managed(f"s{n}")}).encode() + b"\n"
        yield from itertools.repeat(b"")

    server.replies["watch /secrets"] = events
    watched(hub, server)
    hub.wait(lambda: LiveResource.objects.filter(kind="Secret").count() == 20, "all Secrets", 20)
    assert max(sizes) <= 3


def test_one_object_has_the_limit_of_one(connection, server, settings):
    settings.CLUSTER_OBJECT_BYTES = 1000
    server.answer = lambda path: answered(item("p", annotations={"big": "x" * 2000}))
    with pytest.raises(Unreachable, match="HUB_CLUSTER_OBJECT_BYTES"):
        connection.get(POD, "n", "p")


@pytest.mark.parametrize("said", [b"[1]", b"5", b"null"])
def test_an_object_is_an_object(connection, server, said):
    server.answer = lambda path: http(said)
    with pytest.raises(Unreachable):
        connection.get(POD, "n", "p")


def test_another_object_than_was_asked_for_is_refused(hub, server):
    with_secrets(server, "one")
    server.replies["/one"] = managed("two")
    watched(hub, server)
    hub.wait(lambda: "another object" in message_of("hostile"), "the complaint", 10)
    assert not LiveResource.objects.filter(kind="Secret", name="two").exists()


@pytest.mark.parametrize("made", [0, 5], ids=["stands still", "gets on"])
def test_first_lists_may_take_long_while_they_get_on(monkeypatch, made):
    clock = itertools.count(0, 100)
    monkeypatch.setattr(watch_discovery.time, "monotonic", lambda: next(clock))
    session = WatchSession(Cluster(name="c"), None, "")
    found = watch_discovery.KindDiscovery(session, watch_writer.BatchWriter(session))
    state = watch_kind.KindState(POD, whole=True, namespaces=[""])
    found._kinds = {("", "Pod"): state}
    steps = itertools.count(1)

    async def turn(seconds):
        step = next(steps)
        if made:
            session.counts["", "Pod", ""] = step * made
        if step > 20:
            raise asyncio.CancelledError

    monkeypatch.setattr(watch_discovery.asyncio, "sleep", turn)
    with pytest.raises(asyncio.CancelledError if made else RetryLater):
        asyncio.run(found._until_listed())


@pytest.mark.parametrize(("took", "pause"), [(0.01, 0.3), (2.0, 8.0), (100.0, 60.0)])
def test_kinds_that_change_without_end_are_asked_for_now_and_then(monkeypatch, took, pause):
    session, pauses = WatchSession(Cluster(name="c"), None, ""), []
    session.connection = Connection("https://c.example", "c", {})
    found = watch_discovery.KindDiscovery(session, watch_writer.BatchWriter(session))

    async def discover(version):
        found._seconds = took
        session.rediscover.set()

    async def call(function, *args, **named):
        return "v1"

    async def turn(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(found, "_discover", discover)
    monkeypatch.setattr(session, "call", call)
    monkeypatch.setattr(watch_discovery.asyncio, "sleep", turn)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(found.run("v1"))
    assert pauses == [pause] * 3


CLUSTERS = {
    "objects without an end": (
        "/pods",
        lambda q: page(
            [item(f"p{time.monotonic_ns()}-{n}") for n in range(500)], str(time.monotonic_ns())
        ),
        "HUB_CLUSTER_OBJECTS",
    ),
    "a bomb in a list": ("/pods", lambda q: zeros(), "HUB_CLUSTER_ANSWER_BYTES"),
    "an event without an end": (
        "watch /pods",
        lambda q: itertools.chain([http(b"", Content_Length=None)], itertools.repeat(b"x" * 65536)),
        "HUB_CLUSTER_OBJECT_BYTES",
    ),
    "a bomb in an event": ("watch /pods", lambda q: zeros(), "HUB_CLUSTER_OBJECT_BYTES"),
    "a watch of garbage": (
        "watch /pods",
        lambda q: http(b'{"type":\n' * 10, Content_Length=None),
        "not JSON",
    ),
    "odd names": ("/pods", lambda q: page([item("a/b"), item("fine")]), "left out"),
}


@pytest.mark.parametrize("attack", CLUSTERS)
def test_a_hostile_cluster_shows_its_error_and_does_not_affect_the_next_one(
    hub, server, sandbox_server, settings, attack
):
    settings.CLUSTER_ANSWER_BYTES, settings.CLUSTER_OBJECT_BYTES = 2 * 2**20, 2**20
    settings.CLUSTER_OBJECTS = 3000
    name, reply, words = CLUSTERS[attack]
    server.replies[name] = reply
    before = now_used()

    watched(hub, server)
    hub.wait(lambda: words in message_of("hostile"), f"a message with {words}", 25)

    place = place_in(hub, sandbox_server, "east")
    place.register()
    place.wait_synced(20)
    place.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}}
    )
    hub.wait(
        lambda: LiveResource.objects.filter(cluster__name="east", name="c").exists(), "the event", 5
    )
    assert message_of("east") == ""
    assert grown(before) < 150 * 1024
    if attack == "odd names":
        assert LiveResource.objects.filter(cluster__name="hostile", name="fine").exists()


def test_a_flood_of_events_waits_its_turn(hub, server, sandbox_server, settings):
    settings.CLUSTER_EVENTS = 500

    def flood(query):
        yield http(b"", Content_Length=None)
        for n in itertools.count():
            many = (
                json.dumps({"type": "ADDED", "object": item(f"p{n}-{m}", 2)}) for m in range(200)
            )
            yield "\n".join([*many, ""]).encode()

    server.replies["watch /pods"] = flood
    watched(hub, server)
    hub.wait(
        lambda: LiveResource.objects.filter(cluster__name="hostile").count() > 1000, "the flood", 20
    )

    place = place_in(hub, sandbox_server, "east")
    place.register()
    place.wait_synced(20)

    assert server.sent < 20 * 2**20


def test_a_cluster_that_drips_holds_only_its_own_threads(hub, server, sandbox_server):
    server.replies["/apis"] = lambda q: drip(http(b"", Content_Length=10**6), b" ", 0.1)
    watched(hub, server)
    hub.wait(lambda: "/apis" in server.paths, "the question", 10)

    place = place_in(hub, sandbox_server, "east")
    place.register()
    assert place.wait_synced(20)
