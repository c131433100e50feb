"""Where the hub connects, and how much it takes: each attack goes through every client that the
hub has.
"""

import asyncio
import contextlib
import itertools
import resource
import socket
import subprocess
import time

import pytest
from support.hostile import Hostile, drip, gzip_of, http

from hub.base.outbound import addresses, check_url, pools, streams
from hub.base.outbound import http as requests
from hub.base.outbound.bounds import Decoder, Lines, TooMuch, parse, read
from hub.base.redaction import redact_text
from hub.engine.errors import Invalid, RetryLater
from hub.engine.secret_masking import masked

MAX_BYTES = 100_000


@pytest.fixture
def server():
    found = Hostile()
    yield found
    found.close()


def by_httpx(url, seconds=2.0):
    with (
        requests.client(timeout=seconds, connect=1, seconds=seconds) as client,
        client.stream("GET", url) as answer,
    ):
        return answer.status_code, requests.body(answer, MAX_BYTES)


def by_urllib3(url, seconds=2.0):
    found = pools.pool(maxsize=1)
    answer = pools.send(found, "GET", url, pools.Allowance(MAX_BYTES, seconds))
    return answer.status, pools.read(answer, MAX_BYTES)


def by_aiohttp(url, seconds=2.0):
    async def ask():
        async with (
            streams.session(False, {}) as session,
            streams.get(session, url, timeout=streams.limits(seconds)) as answer,
        ):
            return answer.status, await streams.read(answer, MAX_BYTES)

    return asyncio.run(ask())


CLIENTS = [by_httpx, by_urllib3, by_aiohttp]
REFUSED = (
    Invalid,
    RetryLater,
    TooMuch,
    OSError,
    ValueError,
    requests.HTTPError,
    pools.HTTPError,
    streams.ClientError,
    TimeoutError,
)

METADATA = [
    "169.254.169.254",
    "169.254.169.253",
    "169.254.0.23",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[fd00:ec2::254]",
    "[fd00:ec2:0:0:0:0:0:254]",
    "[FD00:EC2::23]",
    "[fd20:ce::254]",
    "[fd00:42::42]",
    "[fd00:c1::a9fe:a9fe]",
]
TRANSLATED = [
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[64:ff9b:1:ffff::a9fe:a9fe]",
    "[64:ff9b::8.8.8.8]",
    "[2002:a9fe:a9fe::]",
    "[2002:a9fe:a9fe::1]",
    "[2002:7f00:1::]",
    "[2001:0:a9fe:a9fe::]",
    "[2001:0:4136:e378:8000:63bf:5601:5601]",
    "[::169.254.169.254]",
    "[::a9fe:a9fe]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::ffff:0:169.254.169.254]",
    "[::ffff:100.100.100.200]",
    "[fd12::5efe:169.254.169.254]",
    "[fd12::200:5efe:a9fe:a9fe]",
]
SPECIAL = [
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.0.1",
    "192.88.99.1",
    "[::]",
    "[0:0::0]",
    "[fe80::1]",
    "[febf::1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff05::2]",
    "[100::1]",
    "[::ffff:0.0.0.0]",
]
SPELLED = [
    "2852039166",
    "0xa9fea9fe",
    "0xA9FEA9FE",
    "025177524776",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.43518",
    "169.16689662",
    "0xa9.254.0251.254",
    "169.254.169.254.",
    "0",
    "0x0",
    "127.1",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "169.254.0xa9fe",
    "１６９.２５４.１６９.２５４",
    "169。254。169。254",
    "169．254．169．254",
    "①⑥⑨.254.169.254",
    "169.254.169.254%00.example.com",
    "００００",
    "good@169.254.169.254",
    "good:80@169.254.169.254",
    "good%40@169.254.169.254",
    "169.254.169.254:80#@good",
    "169.254.169.254\\@good",
    "169.254.169.254\t",
    "169.254.169.254 ",
    "\x00169.254.169.254",
    "169.254.169.254/..;@good",
    "[::1]:0",
    "127.0.0.1:0",
    "127.0.0.1:99999",
    "127.0.0.1:-1",
    "127.0.0.1:x",
    "",
    ":80",
    "@",
    "..",
    "a..b",
    "-a",
    "a" * 300,
    "[::1",
    "::1]",
    "[1.2.3.4]x",
    "[v1.a]",
]
SPELLINGS = METADATA + TRANSLATED + SPECIAL + SPELLED


def test_the_table_is_long_enough():
    assert len(set(SPELLINGS)) >= 60


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_spelling_is_refused_by_the_check(host):
    with pytest.raises((Invalid, RetryLater)):
        check_url(f"http://{host}/", "url")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_no_spelling_is_connected_to_by_a_client(client, monkeypatch):
    """Sockets are watched, not functions: whatever a client makes of a spelling, this is where it
    would go.
    """
    reached = []

    def connect(_self, place):
        reached.append(place[0])
        raise OSError("a test watches")

    async def connect_later(_loop, _socket, place):
        reached.append(place[0])
        raise OSError("a test watches")

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", connect_later)
    monkeypatch.setattr(socket.socket, "connect", connect)
    for host in SPELLINGS:
        with contextlib.suppress(*REFUSED):
            client(f"http://{host}/", 1.0)
    assert set(reached) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "127.255.255.254"]
)
def test_loopback_is_for_development(host, settings):
    assert addresses(host, "url")
    settings.ALLOW_LOOPBACK = False
    with pytest.raises(Invalid, match="this machine"):
        addresses(host, "url")


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "fd00:1234::1",
        "2600::1",
        "8.8.8.8",
    ],
)
def test_private_and_public_networks_stay_open(host):
    assert addresses(host, "url") == [host]


def test_operators_close_and_open_networks(settings):
    settings.OUTBOUND_DENY = requests_networks("10.0.0.0/8")
    settings.OUTBOUND_ALLOW = requests_networks("64:ff9b::/96", "10.1.0.0/16")
    for host in ("10.0.0.1", "10.1.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"):
        with pytest.raises(Invalid, match="HUB_OUTBOUND_DENY"):
            addresses(host, "url")
    assert addresses("64:ff9b::8.8.8.8", "url")
    with pytest.raises(Invalid):
        addresses("64:ff9b::a9fe:a9fe", "url")


def requests_networks(*texts):
    from hub.engine.outbound_addresses import networks

    return networks(texts)


def rebinding(monkeypatch, *answers):
    """Have the name `rebind.test` stand for one address after the other, and count the
    questions.
    """
    real, asked, turn = socket.getaddrinfo, [], itertools.cycle(answers)

    def resolve(host, port, *more, **named):
        if host in ("rebind.test", b"rebind.test"):
            asked.append(host)
            host = next(turn)
        return real(host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_a_name_that_moves_after_the_check(client, server, monkeypatch):
    """127.0.0.1 is the address that was looked at; a client that asked again would get the
    metadata address.
    """
    asked = rebinding(monkeypatch, "127.0.0.1", "169.254.169.254")

    status, _ = client(f"http://rebind.test:{server.port}/")

    assert (status, len(asked)) == (200, 1)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_a_name_that_moved_before_the_connection(client, server, monkeypatch):
    rebinding(monkeypatch, "127.0.0.1", "169.254.169.254")
    check_url(f"http://rebind.test:{server.port}/", "url")

    with pytest.raises(REFUSED):
        client(f"http://rebind.test:{server.port}/")

    assert server.paths == []


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_a_redirect_is_handed_back(client, server):
    server.answer = lambda path: http(b"", 302, Location=f"{server.url}/stolen")
    assert client(server.url + "/asked")[0] == 302
    assert server.paths == ["/asked"]


BOMBS = {
    "gzip of zeros": lambda: http(gzip_of(b"\0" * 2**20, repeat=200), Content_Encoding="gzip"),
    "gzip in gzip": lambda: http(
        gzip_of(gzip_of(b"\0" * 2**20, repeat=50)), Content_Encoding="gzip, gzip"
    ),
    "many gzip members": lambda: http(gzip_of(b"a" * 10_000) * 1000, Content_Encoding="gzip"),
    "empty gzip members": lambda: http(gzip_of() * 200_000, Content_Encoding="gzip"),
    "empty gzip members, in small chunks": lambda: itertools.chain(
        [http(b"", Content_Encoding="gzip", Content_Length=None)], itertools.repeat(gzip_of() * 10)
    ),
    "gzip of empty blocks": lambda: itertools.chain(
        [http(gzip_of()[:10], Content_Encoding="gzip", Content_Length=None)],
        itertools.repeat(b"\0\0\0\xff\xff" * 9999),
    ),
    "gzip with a name without an end": lambda: itertools.chain(
        [http(b"\x1f\x8b\x08\x08\0\0\0\0\0\0", Content_Encoding="gzip", Content_Length=None)],
        itertools.repeat(b"n" * 65536),
    ),
    "deflate": lambda: http(b"x", Content_Encoding="deflate"),
    "no gzip at all": lambda: http(b"hello", Content_Encoding="gzip"),
    "gzip that ends": lambda: http(gzip_of(b"abc" * 100)[:-9], Content_Encoding="gzip"),
    "without an end": lambda: itertools.chain(
        [http(b"", Content_Length=None)], itertools.repeat(b"x" * 65536)
    ),
    "length that lies": lambda: itertools.chain(
        [http(b"", Content_Length=2**40)], itertools.repeat(b"x" * 65536)
    ),
    "chunks without an end": lambda: itertools.chain(
        [http(b"", Content_Length=None, Transfer_Encoding="chunked")],
        itertools.repeat(b"400\r\n" + b"x" * 1024 + b"\r\n"),
    ),
    "length of a chunk without an end": lambda: itertools.chain(
        [http(b"", Content_Length=None, Transfer_Encoding="chunked")],
        itertools.repeat(b"1;" + b"x" * 65536),
    ),
    "header without an end": lambda: itertools.chain(
        [b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x" * 65536)
    ),
    "headers without an end": lambda: itertools.chain(
        [b"HTTP/1.1 200 OK\r\n"], (b"X-%d: y\r\n" % n for n in itertools.count())
    ),
    "first line without an end": lambda: itertools.repeat(b"x" * 65536),
    "interim answers without an end": lambda: itertools.repeat(
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100
    ),
    "a header that drips": lambda: drip(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a body that drips": lambda: drip(http(b"", Content_Length=10_000), b"x"),
    "silence": lambda: drip(b"", b"", 0.2),
}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("bomb", BOMBS)
def test_an_answer_that_is_too_much(client, bomb, server):
    server.answer = lambda path: BOMBS[bomb]()
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(REFUSED):
        client(server.url, 0.6)

    assert time.monotonic() - began < 6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__)
def test_honest_gzip_is_undone(client, server):
    server.answer = lambda path: http(gzip_of(b"[1,2]", repeat=9), Content_Encoding="gzip")
    assert client(server.url) == (200, b"[1,2]" * 9)


NOTHING = {
    "members": gzip_of() * 200_000,
    "blocks": gzip_of()[:10] + b"\0\0\0\xff\xff" * 500_000,
    "a name": b"\x1f\x8b\x08\x08\0\0\0\0\0\0" + b"n" * 3_000_000,
}


@pytest.mark.parametrize("kind", NOTHING)
def test_gzip_that_holds_nothing_is_refused_also_in_a_stream_without_a_limit(kind):
    begin = time.process_time()

    with pytest.raises(TooMuch):
        list(Decoder("gzip", None).feed(NOTHING[kind]))

    assert time.process_time() - begin < 2


def test_others_have_their_turn_while_gzip_holds_nothing():
    class Answer:
        headers = {"Content-Encoding": "gzip"}
        turns = 0

        class content:  # noqa: N801 - as aiohttp calls it
            @staticmethod
            async def iter_any():
                yield gzip_of()[:10]
                for _ in range(1000):
                    yield b"\0\0\0\xff\xff" * 10

    async def others(answer):
        while True:
            answer.turns += 1
            await asyncio.sleep(0)

    async def both():
        answer = Answer()
        task = asyncio.create_task(others(answer))
        with contextlib.suppress(TooMuch):
            await streams.read(answer, MAX_BYTES)
        task.cancel()
        return answer.turns

    assert asyncio.run(both()) > 100


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_gzip_is_undone_wherever_it_is_cut(cut):
    # 64 KiB of one byte, so that a full piece comes exactly at an end.
    data = gzip_of(b"a" * 65536) + gzip_of(b"b" * 65536 * 2) + gzip_of(b"c")

    found = read([data[n : n + cut] for n in range(0, len(data), cut)], "gzip", 10**6)

    assert found == b"a" * 65536 + b"b" * 65536 * 2 + b"c"


@pytest.mark.parametrize("data", [gzip_of(b"")[:-1], gzip_of(b"a") + b"\x1f", b"\x1f\x8b"])
def test_gzip_that_is_not_complete_is_refused(data):
    with pytest.raises(TooMuch, match="middle"):
        read([data], "gzip", MAX_BYTES)


def test_a_decoder_never_holds_more_than_a_piece():
    pieces = Decoder("gzip", 10**9).feed(gzip_of(b"\0" * 2**20, repeat=50))
    assert max(map(len, pieces)) <= 64 * 1024


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[" * 200 + b"]" * 200, id="deep"),
        pytest.param(b'{"a":' * 150 + b"1" + b"}" * 150, id="deep objects"),
        pytest.param(b"[" * 100_000, id="deeper than the parser goes"),
        pytest.param(b"[" + b"[]," * 600_000 + b"1]", id="cheap to send, dear to keep"),
        pytest.param(b'"\xff\xfe"', id="no UTF-8"),
        pytest.param(b'"\\ud800"', id="half a character"),
        pytest.param(b"NaN", id="not a number"),
    ],
)
def test_json_that_is_refused(text):
    with pytest.raises((TooMuch, ValueError)):
        parse(text)


def test_json_that_is_taken():
    assert parse(b'{"a":1,"a":[{"b":123456789012345678901234567890}]}')["a"][0]["b"] > 10**29
    assert parse(b"7") == 7


def test_lines_are_bounded():
    strict, lenient = Lines(10), Lines(10, cut=True)
    with pytest.raises(TooMuch):
        [line for _ in range(20) for line in strict.feed(b"x")]
    found = [line for piece in (b"x" * 50, b"y\nabc\n", b"de") for line in lenient.feed(piece)]
    assert (found, lenient.end()) == ([b"x" * 10, b"abc"], b"de")


def test_time_is_bounded():
    with pytest.raises(TooMuch, match="too long"):
        read([b"a", b"b"], "", 10, until=time.monotonic() - 1)


@pytest.mark.parametrize(
    "line",
    [
        "import httpx\nhttpx.get('http://x')",
        "import httpx\nhttpx.Client()",
        "import urllib3\nurllib3.PoolManager()",
        "import aiohttp\naiohttp.ClientSession()",
        "import requests\nrequests.Session()",
        "import socket\nsocket.create_connection(('x', 1))",
        "from urllib.request import urlopen\nurlopen('http://x')",
    ],
)
def test_no_other_place_makes_connections(line):
    """The linter keeps every connection in hub.base.outbound."""
    found = subprocess.run(
        [
            "ruff",
            "check",
            "--select",
            "TID251",
            "--stdin-filename",
            "projects/refreshing/refresh.py",
            "-",
        ],
        input=line + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "hub.base.outbound" in found.stdout


SECRETS = [
    "http://user:p@CANARY@proxy.example:99999/",
    "http://user:p/CANARY@proxy.example:3128/",
    "http://user:CANARY@proxy.example:0/",
    "ftp://user:CANARY@proxy.example/",
    "http://user:CANARY@",
    "http://user:CAN ARY@proxy.example/",
    "http://user:CANARY/x@[::1/",
    "http://CANARY:x/y@proxy.example/",
    "http://proxy.example:CANARY/@x/",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_url_that_is_refused_is_repeated_without_its_password(url):
    with pytest.raises(Invalid) as found:
        check_url(url, "proxy")
    assert "CANARY" not in str(found.value) and "ARY" not in str(found.value)


def test_a_password_with_an_at_sign_stays_hidden():
    url = "https://user:p@CANARY@git.example/team/app.git"
    assert (
        redact_text(f"cannot read {url}") == "cannot read https://******@git.example/team/app.git"
    )
    assert masked({"repoURL": url}) == {"repoURL": "https://git.example/team/app.git"}
    plain = "oci://host.example/chart@sha256:0 https://a.example/@scope x@y.example"
    assert redact_text(plain) == plain
