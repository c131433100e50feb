"""The schemas of clusters: fetched once, shared only where they are proven, and nothing where a
server says nothing.
"""

import hashlib
from types import SimpleNamespace

import orjson
import pytest
from support.openapi import SCHEMAS

from clusters import schemas
from clusters.kinds import Refused
from clusters.kube import unreachable
from clusters.models import Cluster, SchemaDocument, pack

DEPLOYMENT = ("apps", "v1", "Deployment")
DOCUMENT = orjson.dumps({"components": {"schemas": SCHEMAS}})
HASH = hashlib.sha512(DOCUMENT).hexdigest().upper()
LIE = orjson.dumps({"components": {"schemas": {k: v for k, v in SCHEMAS.items() if k != "Port"}}})


class Server:
    """What a connection to an API server reads."""

    def __init__(self, document=DOCUMENT, digest=HASH, index=None):
        self.name, self.document, self.asked = "c", document, []
        url = "/openapi/v3/apis/apps/v1" + (f"?hash={digest}" if digest else "")
        self.index = (
            {"paths": {"apis/apps/v1": {"serverRelativeURL": url}}} if index is None else index
        )

    def read(self, path, query=None):
        self.asked.append(path)
        found = orjson.dumps(self.index) if path == "/openapi/v3" else self.document
        if isinstance(found, Exception):
            raise found
        return found

    def known_kind(self, *_name):
        return None


@pytest.fixture
def serve(db, monkeypatch):
    del db
    schemas.forget()
    servers = {}
    monkeypatch.setattr(schemas, "connect", lambda cluster: servers[cluster.pk])

    def add(server):
        cluster = Cluster.objects.create(
            server=f"https://{len(servers)}.example", name="c", config={}
        )
        servers[cluster.pk] = server
        return cluster

    yield add
    schemas.forget()


def type_in(cluster, name=DEPLOYMENT):
    return schemas.types_of(cluster, [name]).get(name)


def protocol(found):
    ports = (
        found.field("spec")
        .field("template")
        .field("spec")
        .field("containers")
        .element.field("ports")
    )
    return ports.element.field("protocol").default


def test_a_document_is_fetched_once_for_all_clusters_and_processes(serve):
    first, second, third = Server(), Server(), Server()

    assert protocol(type_in(serve(first))) == "TCP"
    assert protocol(type_in(serve(second))) == "TCP"
    schemas.forget()
    assert protocol(type_in(serve(third))) == "TCP"

    assert first.asked == ["/openapi/v3", "/openapi/v3/apis/apps/v1"]
    assert second.asked == third.asked == ["/openapi/v3"]


def test_a_document_that_is_not_what_its_digest_says_is_of_its_cluster_alone(serve):
    liar, honest = serve(Server(document=LIE)), Server()

    assert protocol(type_in(liar)) != "TCP"
    assert protocol(type_in(serve(honest))) == "TCP"
    assert len(honest.asked) == 2
    schemas.forget()
    assert protocol(type_in(liar)) != "TCP"


MOVED = Refused(301, "Moved", "another digest")
ONCE = ["/openapi/v3", "/openapi/v3/apis/apps/v1"]


def test_a_document_that_changed_after_the_index_was_read_is_asked_for_again(serve):
    server = Server(document=MOVED)
    cluster = serve(server)

    assert type_in(cluster) is None
    assert server.asked == [*ONCE, *ONCE]
    # A server that goes on like this is left alone for a while.
    assert type_in(cluster) is None
    assert server.asked == [*ONCE, *ONCE]


def test_a_document_that_moved_is_found_at_its_new_digest(serve, monkeypatch):
    server = Server(document=MOVED)
    read = server.read

    def moving(path, query=None):
        server.document = DOCUMENT if len(server.asked) >= 3 else MOVED
        return read(path, query)

    monkeypatch.setattr(server, "read", moving)

    assert protocol(type_in(serve(server))) == "TCP"
    assert server.asked == [*ONCE, *ONCE]


def test_a_document_without_a_digest_is_not_kept(serve):
    cluster = serve(Server(digest=""))

    assert type_in(cluster) is not None
    assert type_in(cluster) is not None
    assert not SchemaDocument.objects.exists()


@pytest.mark.parametrize(
    "server",
    [
        Server(index=[]),
        Server(index={"paths": 5}),
        Server(index={"paths": {"apis/apps/v1": {"serverRelativeURL": 5}}}),
        Server(index={"paths": {"apis/apps/v1": 5}}),
        Server(document=b"no json"),
        Server(document=b"[1]"),
        Server(document=b"[" * 5000 + b"]" * 5000),
        Server(document=Refused(403, "Forbidden", "no")),
        Server(document=unreachable("c", "silent")),
    ],
    ids=[
        "no object",
        "no paths",
        "no url",
        "no entry",
        "no json",
        "no document",
        "deep",
        "refused",
        "silent",
    ],
)
def test_a_server_with_unusable_responses(serve, server):
    cluster = serve(server)

    assert type_in(cluster) is None
    asked = len(server.asked)
    assert type_in(cluster) is None
    assert len(server.asked) == asked, "it is not asked again at once"


def test_what_was_kept_and_cannot_be_read_is_fetched_again(serve):
    server = Server()
    SchemaDocument.objects.create(key=HASH, digest=HASH, body=b"odd")

    assert type_in(serve(server)) is not None
    schemas.forget()
    SchemaDocument.objects.filter(key=HASH).update(body=pack({"types": 5}))
    assert type_in(serve(Server())) is not None


def test_a_changed_definition_has_the_index_read_again(serve, monkeypatch):
    server = Server()
    cluster = serve(server)
    marks = {"x": "1"}
    monkeypatch.setattr(schemas, "_marks", lambda *_: dict(marks))
    type_in(cluster)
    type_in(cluster)
    assert server.asked.count("/openapi/v3") == 1

    marks["x"] = "2"
    type_in(cluster)

    assert server.asked.count("/openapi/v3") == 2


@pytest.mark.parametrize("later", [2, 100, 10_000], ids=["soon", "minutes later", "hours later"])
def test_a_document_that_is_published_after_its_definition_is_found(serve, monkeypatch, later):
    now, marks = [1000.0], {}
    monkeypatch.setattr(schemas, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(schemas, "_marks", lambda *_: dict(marks))
    server = Server()
    cluster, published = serve(server), server.index
    server.index = {"paths": {}}
    type_in(cluster)
    now[0] += 60
    marks["x"] = "a new definition"
    assert type_in(cluster) is None

    server.index = published
    now[0] += later

    assert type_in(cluster) is not None


def test_the_memory_of_a_process_is_bounded(serve, settings):
    settings.SCHEMA_BYTES = 1
    one, two = Server(), Server(document=LIE, digest=hashlib.sha512(LIE).hexdigest())
    clusters = serve(one), serve(two)

    for cluster in clusters:
        assert type_in(cluster) is not None

    assert len(schemas._documents._found) == 1
