"""Many and large requests: nobody who is not signed in takes the time or the memory of the
others.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time

import httpx
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection as database
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from hub.api import description, server
from hub.auth.sessions import issue
from hub.base.concurrency import Busy, Queues
from hub.http import head_timeout, request_limits
from hub.http.database_release import release_database
from hub.http.request_limits import is_own_origin
from hub.models import Account, LoginSession
from projects.api import webhooks

KIB, MIB = 1024, 1024 * 1024
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def bearer(web):
    return {"Authorization": f"Bearer {web.hub.token}"}


@pytest.fixture
def client():
    with httpx.Client(timeout=20, verify=False) as client:
        yield client


def in_chunks(data, size=16 * KIB):
    # Without a declared length: httpx sends an iterator in chunks.
    for start in range(0, len(data), size):
        yield data[start : start + size]


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
BEFORE_SIGN_IN = [
    ("sign-in", "POST", "/api/v1/session", JSON, 36 * MIB, 413),
    ("a sign-in that is long", "POST", "/api/v1/session", JSON, 60 * KIB, 401),
    ("a route for others", "POST", "/api/v1/applications", JSON, 65 * KIB, 413),
    ("a read with a body", "GET", "/api/version", JSON, 65 * KIB, 413),
    ("the form of the sign-in page", "POST", "/login", FORM, 65 * KIB, 413),
    ("second factor", "POST", "/account/2fa/authenticate/", FORM, 65 * KIB, 413),
    ("our own provider", "POST", "/identity/o/api/token", FORM, 65 * KIB, 413),
    ("a SAML answer", "POST", "/sso/saml/x/acs/", FORM, 200 * KIB, 404),
    ("a SAML answer too long", "POST", "/sso/saml/x/acs/", FORM, 257 * KIB, 413),
    ("an OIDC answer", "POST", "/sso/company/callback", FORM, 65 * KIB, 413),
    ("an event that nobody signed", "POST", "/api/webhook", JSON, 2 * MIB, 413),
    ("no route at all", "POST", "/nothing-here", JSON, 65 * KIB, 413),
    (
        "a token that is none",
        "POST",
        "/api/v1/projects",
        JSON | {"Authorization": "Bearer x.y.z"},
        65 * KIB,
        413,
    ),
    ("files", "POST", "/api/v1/session", MULTIPART, 65 * KIB, 413),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "in chunks"])
def test_before_sign_in_a_body_is_short(web, client, chunked):
    wrong = []
    for what, method, path, headers, size, status in BEFORE_SIGN_IN:
        body = b'{"username": "u", "password": "x", "more": "' + b"x" * size + b'"}'
        content = in_chunks(body) if chunked else body
        answer = client.request(method, f"{web.url}{path}", content=content, headers=headers)
        if answer.status_code != status:
            wrong.append((what, answer.status_code, answer.text[:200]))

    assert wrong == []


SIGNED_IN = [
    ("as every route takes", "/api/v1/projects", 1 * MIB, 400),
    ("more", "/api/v1/projects", 5 * MIB, 413),
    ("manifests of a sync", "/api/v1/applications/x/sync", 5 * MIB, None),
    ("more of them", "/api/v1/applications/x/sync", 22 * MIB, 413),
    ("files", "/api/v1/applications/manifestsWithFiles", 6 * MIB, 400),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "in chunks"])
def test_who_is_signed_in_may_send_what_a_route_is_for(web, client, chunked):
    wrong = []
    for what, path, size, status in SIGNED_IN:
        body = b'{"name": "' + b"x" * size + b'"}'
        content = in_chunks(body, 256 * KIB) if chunked else body
        answer = client.post(f"{web.url}{path}", content=content, headers=JSON | bearer(web))
        # No such application: what counts is that the body was taken.
        if answer.status_code not in ({status} if status else {400, 403}):
            wrong.append((what, answer.status_code, answer.text[:200]))

    assert wrong == []


def test_a_session_that_ended_sends_no_more_than_a_stranger(web, client):
    headers = JSON | bearer(web)
    client.request("DELETE", f"{web.url}/api/v1/session", content="{}", headers=headers)

    answer = client.post(f"{web.url}/api/v1/projects", content=b"x" * 65 * KIB, headers=headers)

    assert answer.status_code == 413 and "before sign-in" in answer.json()["message"]


HEADS = [
    ("compressed", {"Content-Encoding": "gzip"}, "", 415),
    ("many headers", {f"X-{n}": "1" for n in range(120)}, "", 431),
    ("many cookies", {"Cookie": "; ".join(f"c{n}=1" for n in range(70))}, "", 431),
    ("long headers", {"Cookie": "c=" + "x" * 60 * KIB, "X": "x" * 8 * KIB}, "", 431),
    ("a long query", {}, "?q=" + "x" * 20 * KIB, 414),
    ("a long path", {}, "/" + "x" * 20 * KIB, 414),
]


def test_the_head_of_a_request_is_short(web, client):
    wrong = []
    for what, headers, tail, status in HEADS:
        answer = client.post(
            f"{web.url}/api/v1/session{tail}", content="{}", headers=JSON | headers
        )
        if answer.status_code != status:
            wrong.append((what, answer.status_code))

    assert wrong == []


def raw(web, head, body=b""):
    connection = socket.create_connection(("127.0.0.1", web.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    return connection


def test_a_declared_length_is_refused_before_the_body_comes(web):
    head = (
        "POST /api/v1/session HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        f"Content-Length: {36 * MIB}"
    )

    with raw(web, head, b"{") as connection:
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]


def test_a_body_that_does_not_come_ends(web, monkeypatch):
    monkeypatch.setattr(request_limits, "BODY_SECONDS", 0.2)
    head = (
        "POST /api/v1/session HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        "Content-Length: 1000"
    )

    with raw(web, head, b"{") as connection:
        assert b" 408 " in connection.recv(4096).partition(b"\r\n")[0]


def test_slow_senders_hold_no_slot(web, client):
    head = (
        "POST /api/v1/session HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        "Content-Length: 1000"
    )
    slow = [raw(web, head, b"{") for _ in range(request_limits.MAX_SIGN_INS_OF_ADDRESS - 1)]

    right = {"username": "admin", "password": "correct horse"}
    answer = client.post(f"{web.url}/api/v1/session", json=right, timeout=5)

    for connection in slow:
        connection.close()
    assert answer.status_code == 200


NESTED = b"[" + b",".join([b"{}"] * (MIB // 2)) + b"]"
FLOODS = {
    "large bodies": ("/api/v1/session", "", NESTED, {b"413"}),
    "bodies as long as may be": ("/api/v1/session", "", NESTED[:65_000], {b"400", b"503"}),
    "sign-ins": (
        "/api/v1/session",
        "",
        b'{"username": "admin", "password": "x"}',
        {b"401", b"503"},
    ),
    "events": ("/api/webhook", "X-GitHub-Event: push\n", NESTED[:MIB], {b"400", b"503"}),
}


def flood(web, path, header, body):
    """Send a request two hundred times at once; return the threads and the list of statuses that
    they fill.
    """
    head = (
        f"POST {path} HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        f"{header}Content-Length: {len(body)}"
    )
    statuses = []

    def send():
        with contextlib.suppress(OSError), raw(web, head) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(body)
            statuses.append(connection.recv(12)[9:12])

    threads = [threading.Thread(target=send, daemon=True) for _ in range(200)]
    for thread in threads:
        thread.start()
    return threads, statuses


@pytest.mark.parametrize("what", FLOODS)
def test_health_checks_are_answered_in_a_flood(web, client, what):
    """tests/bench/floods.py shows less than a second; here clients and hub share one process."""
    *request, expected = FLOODS[what]
    threads, statuses = flood(web, *request)

    longest = 0.0
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert client.get(f"{web.url}/healthz").status_code == 200
        longest = max(longest, time.monotonic() - began)

    assert longest < 4, longest
    assert statuses and set(statuses) <= expected


SIGNED = {
    "github": "WEBHOOK_GITHUB_SECRET",
    "gitea": "WEBHOOK_GITEA_SECRET",
    "gitlab": "WEBHOOK_GITLAB_SECRET",
    "harbor": "WEBHOOK_HARBOR_SECRET",
}
SENT = {
    "github": {"X-GitHub-Event": "push"},
    "gitea": {"X-Gitea-Event": "push"},
    "gitlab": {"X-Gitlab-Event": "Push Hook"},
    "harbor": {},
}


@pytest.mark.parametrize("host", SIGNED)
def test_an_event_is_read_after_its_sender_is_authenticated(idle_hub, settings, monkeypatch, host):
    setattr(settings, SIGNED[host], "secret")
    read = []
    monkeypatch.setattr(webhooks, "_object", lambda data: read.append(data) or {})
    forged = {
        "X-Hub-Signature-256": f"sha256={'0' * 64}",
        "X-Gitea-Signature": "0" * 64,
        "X-Gitlab-Token": "wrong",
        "Authorization": "wrong",
    }

    for headers in (forged, {}):
        answer = idle_hub.client.post(
            "/api/webhook", b"{", content_type="application/json", headers=SENT[host] | headers
        )
        assert answer.status_code == 400 and "signature" in answer.json()["message"]

    assert read == []


def test_a_long_event_is_taken_from_who_signs(web, client, settings):
    settings.WEBHOOK_GITHUB_SECRET = "secret"
    body = json.dumps(
        {
            "ref": "refs/heads/main",
            "repository": {"clone_url": "https://git.example/a"},
            "more": "x" * 3 * MIB,
        }
    ).encode()
    sign = {
        "X-Hub-Signature-256": "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    }
    head = JSON | {"X-GitHub-Event": "push"}

    taken = client.post(f"{web.url}/api/webhook", content=body, headers=head | sign, timeout=20)
    unsigned = client.post(f"{web.url}/api/webhook", content=body, headers=head, timeout=20)

    assert (taken.status_code, unsigned.status_code) == (200, 413)


def test_one_token_opens_so_many_requests(web, client, settings):
    settings.MAX_OPEN_REQUESTS = 2
    url = f"{web.url}/api/v1/stream/applications"
    with (
        client.stream("GET", url, headers=bearer(web)) as first,
        client.stream("GET", url, headers=bearer(web)) as second,
    ):
        third = client.get(f"{web.url}/api/v1/applications", headers=bearer(web))
        assert (first.status_code, second.status_code, third.status_code) == (200, 200, 503)
        assert client.get(f"{web.url}/healthz").status_code == 200


@pytest.fixture
def session():
    def begin(name="admin"):
        account, _ = Account.objects.get_or_create(name=name, defaults={"capabilities": ["login"]})
        return {"Authorization": f"Bearer {issue(account, timezone.now())}"}

    return begin


def test_one_account_opens_so_many_answers_whatever_its_sessions(web, client, settings, session):
    settings.MAX_OPEN_REQUESTS = 2
    url = f"{web.url}/api/v1/stream/applications"
    ended = session()
    LoginSession.objects.update(ended_at=timezone.now())
    assert client.get(url, headers=ended).status_code == 401

    with contextlib.ExitStack() as opened:
        answers = [
            opened.enter_context(client.stream("GET", url, headers=session(name))).status_code
            for name in ("admin", "admin", "admin", "somebody else")
        ]
        assert answers == [200, 200, 503, 200]
    assert client.get(f"{web.url}/healthz").status_code == 200


def test_one_account_is_answered_so_many_requests_at_once(web, client, monkeypatch, session):
    """Each session has its own share: with enough of them one account held all the others up."""
    begun, go_on, get = threading.Event(), threading.Event(), server.Version.get

    def slow(self, request):
        if request.query_params.get("wait"):
            begun.set()
            go_on.wait(20)
        return get(self, request)

    monkeypatch.setattr(server.Version, "get", slow)
    monkeypatch.setattr(request_limits, "_OF_SUBJECT", Queues(1, waiting=1, seconds=0.2))
    url = f"{web.url}/api/version"
    first, second, other = session(), session(), session("somebody else")
    waiting = threading.Thread(
        target=lambda: httpx.get(f"{url}?wait=1", headers=first, timeout=30), daemon=True
    )
    waiting.start()
    assert begun.wait(20)

    same, others = (client.get(url, headers=headers).status_code for headers in (second, other))
    go_on.set()
    waiting.join()

    assert (same, others) == (503, 200)
    assert client.get(url, headers=second).status_code == 200


ORIGINS = [
    ("https://hub.example", "hub.example", True),
    ("https://hub.example:8443", "hub.example:8443", True),
    ("https://HUB.example", "hub.example", True),
    ("https://hub.example", "inner:8000", True),
    ("", "hub.example", False),
    ("null", "hub.example", False),
    ("file://", "hub.example", False),
    ("https://evil.example", "hub.example", False),
    ("https://evil.example", "evil.example", False),
    ("https://hub.example:9999", "hub.example", False),
    ("https://inner", "inner:9999", False),
    ("https://hub.example.evil.example", "hub.example", False),
    ("https://evil.hub.example", "hub.example", False),
    ("https://hub.example@evil.example", "hub.example", False),
    ("http://hub.example", "hub.example", False),
    ("ws://hub.example", "hub.example", False),
    ("https://hub.example\t.evil.example", "hub.example", False),
]


@pytest.mark.parametrize(("origin", "host", "own"), ORIGINS)
def test_whose_pages_open_sockets(settings, origin, host, own):
    settings.ALLOWED_HOSTS, settings.HTTPS = ["hub.example", "inner"], True
    settings.EXTERNAL_URL = "https://hub.example"

    assert is_own_origin(origin, host) is own


@pytest.mark.parametrize("origin", [None, "http://localhost:1", "http://evil.example"])
def test_a_page_of_another_place_opens_no_socket(web, settings, origin):
    settings.ALLOWED_HOSTS = ["*"]

    with pytest.raises(InvalidStatus) as refused:
        connect(
            web.url.replace("http", "ws") + "/live",
            origin=origin,
            proxy=None,
            additional_headers={"Cookie": f"argocd.token={web.hub.token}"},
        )

    assert refused.value.response.status_code == 403


def test_a_head_that_does_not_end_is_closed(web, client, monkeypatch):
    monkeypatch.setattr(head_timeout, "HEAD_SECONDS", 0.3)
    silent, partly = raw_bytes(web, b""), raw_bytes(web, b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
    second = raw_bytes(web, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in second.recv(4096)
    second.sendall(b"GET /healthz HTTP/1.1\r\n")

    for connection in (silent, partly, second):
        assert b" 408 " in connection.recv(4096).partition(b"\r\n")[0]
        assert connection.recv(100) == b""
        connection.close()


def test_an_answer_may_take_longer_than_a_head(web, client, monkeypatch):
    monkeypatch.setattr(head_timeout, "HEAD_SECONDS", 0.2)
    url = f"{web.url}/api/v1/stream/applications"
    with client.stream("GET", url, headers=bearer(web)) as answer:
        time.sleep(0.5)
        assert answer.status_code == 200 and not answer.is_closed
    assert client.get(f"{web.url}/healthz").status_code == 200


def raw_bytes(web, data):
    connection = socket.create_connection(("127.0.0.1", web.port), timeout=20)
    connection.sendall(data)
    return connection


def test_a_flood_of_sign_ins_leaves_its_neighbours_their_turn(web, client):
    """All come from one address, as behind NAT."""
    path, header, body, _ = FLOODS["sign-ins"]
    threads, statuses = flood(web, path, header, body.replace(b"admin", b"nobody"))
    right = {"username": "admin", "password": "correct horse"}

    answers = [client.post(f"{web.url}/api/v1/session", json=right).status_code for _ in range(3)]

    for thread in threads:
        thread.join(30)
    assert answers == [200] * 3
    assert statuses.count(b"401") > 150


@pytest.mark.asyncio
async def test_who_waits_too_long_or_is_one_too_many_is_refused():
    queues = Queues(1, waiting=2, seconds=0.05)
    inside, out = [], []

    async def enter(seconds):
        try:
            async with queues.enter("address"):
                inside.append(1)
                await asyncio.sleep(seconds)
        except Busy:
            out.append(1)

    await asyncio.gather(*(enter(0.2) for _ in range(5)))
    assert (len(inside), len(out)) == (1, 4)
    await asyncio.gather(*(enter(0.001) for _ in range(3)))
    assert (len(inside), len(out)) == (4, 4)


def test_a_body_in_chunks_is_read(web, client):
    right = b'{"username": "admin", "password": "correct horse"}'
    url = f"{web.url}/api/v1/session"

    taken = client.post(url, content=in_chunks(right, 7), headers=JSON)
    broken = client.post(url, content=in_chunks(right[:-1], 7), headers=JSON)
    empty = client.post(url, content=in_chunks(b"", 7), headers=JSON)

    assert (taken.status_code, broken.status_code) == (200, 400), taken.text
    assert "not valid JSON" in broken.json()["message"]
    assert empty.status_code in (400, 401)


@pytest.mark.parametrize("length", ["0", "5", "1000"])
def test_a_body_has_one_length(web, length):
    head = (
        "POST /api/v1/session HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        f"Content-Length: {length}\nTransfer-Encoding: chunked"
    )

    with raw(web, head, b"2\r\n{}\r\n0\r\n\r\n") as connection:
        assert b" 400 " in connection.recv(4096).partition(b"\r\n")[0]


def test_a_long_frame_closes_a_socket(web):
    headers = {"Cookie": f"argocd.token={web.hub.token}"}
    address = web.url.replace("http", "ws") + "/live"
    with connect(address, origin=web.url, proxy=None, additional_headers=headers) as socket:
        socket.send("x" * 65_537)
        with pytest.raises(ConnectionClosed):
            while True:
                socket.recv(timeout=10)

    assert socket.close_code == 1009


def test_a_head_longer_than_the_server_takes_is_refused(web):
    with raw_bytes(web, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ") as connection:
        with contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(b"x" * 8 * KIB)
        assert b" 400 " in connection.recv(4096).partition(b"\r\n")[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_request_holds_no_connection_while_its_response_is_sent(rf, kind):
    def view(_request):
        database.ensure_connection()
        database.close_at = 0.0  # as in the web processes: it is not kept
        return HttpResponse()

    async def async_view(request):
        return await sync_to_async(view)(request)

    handle = release_database(view if kind == "sync" else async_view)
    answer = handle if kind == "sync" else async_to_sync(handle)

    assert answer(rf.get("/")).status_code == 200
    assert database.connection is None


@pytest.mark.parametrize("path", ["/swagger.json", "/api/schema"])
def test_the_description_is_rendered_once(idle_hub, monkeypatch, path):
    """Rendering it takes the interpreter for up to a second, and anybody may request it."""
    rendered, render = [], SchemaGenerator.get_schema

    def counted(self, *args, **kwargs):
        rendered.append(path)
        return render(self, *args, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", counted)
    monkeypatch.setattr(description.JSONDescription, "_texts", {})
    monkeypatch.setattr(description.YAMLDescription, "_texts", {})

    answers = [idle_hub.client.get(f"{path}?version={n}&lang=de") for n in (1, 2, 3)]

    assert rendered == [path]
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1, "what one requests changes nothing for others"
    assert b"/api/v1/applications" in answers[0].content
