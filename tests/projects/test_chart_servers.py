"""Helm repositories and OCI registries that answer in shapes that nobody sends: an error of that
one, in words.
"""

import json
import threading

import pytest
from support.charts import Charts
from support.hostile import Hostile, http

from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from projects.sources import chart_files, charts
from projects.sources.chart_index import read_index
from projects.sources.credentials import TEMPLATE_URL
from projects.sources.files import MemoryFiles, Recorder
from projects.sources.remote_inputs import RemoteInputs
from projects.sources.ttl_cache import TTLCache
from projects.sources.versions import highest, is_constraint, parse_version

pytestmark = pytest.mark.django_db
REFUSED = (Invalid, ManifestError, RetryLater, Stalled)
GOOD = {"version": "1.0.0", "urls": ["good-1.0.0.tgz"]}
ODD = [None, True, 5, -1.5, "text", "", [], [5], [None], [[]], {}, {"a": 1}, "9" * 5000, "\ud800"]


@pytest.fixture
def server():
    found = Hostile()
    charts.forget()
    yield found
    found.close()


def ask(call):
    """Return what a call gives, or the error with which it refuses: no other may come."""
    try:
        return call()
    except REFUSED as error:
        return error


INDEXES = {
    "an entry": lambda odd: [odd],
    "all entries": lambda odd: odd,
    "version": lambda odd: [{**GOOD, "version": odd}],
    "urls": lambda odd: [{**GOOD, "urls": odd}],
    "a url": lambda odd: [{**GOOD, "urls": [odd, "x"]}],
    "digest": lambda odd: [{**GOOD, "digest": odd}],
    "created": lambda odd: [{**GOOD, "created": odd}],
    "dependencies": lambda odd: [{**GOOD, "dependencies": odd}],
}


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize("place", INDEXES)
def test_a_malformed_entry_of_an_index_is_an_error_of_that_chart(place, odd):
    data = json.dumps({"entries": {"demo": INDEXES[place](odd), "good": [GOOD]}}).encode()

    found = ask(lambda: read_index(data, "r"))

    if isinstance(found, Exception):
        assert r"\ud800" in data.decode()
        return
    for call in (found.releases, lambda name: found.file_of(name, "1.0.0")):
        ask(lambda call=call: call("demo"))
    assert found.size > 0
    assert found.file_of("good", "1.0.0") == "good-1.0.0.tgz"


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize(
    "shape",
    [lambda odd: odd, lambda odd: {"entries": odd}, lambda odd: {"entries": {str(odd): [GOOD]}}],
)
def test_a_malformed_index_is_an_error_of_that_repository(shape, odd):
    found = ask(lambda: read_index(json.dumps(shape(odd)).encode(), "r"))

    assert isinstance(found, ManifestError) or isinstance(ask(lambda: found.releases("x")), REFUSED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("entries: {demo: 5}", "entries.demo must be a list", id="not a list"),
        pytest.param("entries: {demo: [5, {}]}", "not found", id="nothing to read"),
        pytest.param("entries: {demo: [{version: 1.0.0}]}", "has no URL", id="no urls"),
        pytest.param("entries: {demo: [{version: 1.0.0, urls: [5]}]}", "has no URL", id="a number"),
        pytest.param("entries: {demo: [{version: 1.0.0, urls: x}]}", "has no URL", id="a text"),
    ],
)
def test_what_is_odd_is_named(server, text, words):
    server.answer = lambda path: http(text.encode())

    with pytest.raises((ManifestError, Stalled), match=words):
        charts.versions(server.url, "demo", {})
        charts.fetch(server.url, "demo", "1.0.0", {})


def test_keys_and_versions_without_quotes_are_texts():
    index = read_index(b"entries: {5: [{version: 1.0.0}], demo: [{version: 1.5}]}", "r")

    assert index.releases("5")[0].version == "1.0.0"
    assert index.releases("demo")[0].version == "1.5"


def layer(**fields):
    return {
        "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "digest": "sha256:" + "0" * 64,
        **fields,
    }


MANIFESTS = {
    "all": lambda odd: odd,
    "layers": lambda odd: {"layers": odd},
    "a layer": lambda odd: {"layers": [odd]},
    "mediaType": lambda odd: {"layers": [layer(mediaType=odd)]},
    "digest": lambda odd: {"layers": [layer(digest=odd)]},
    "size": lambda odd: {"layers": [layer(size=odd)]},
    "annotations": lambda odd: {"annotations": odd},
    "an annotation": lambda odd: {"annotations": {"a": odd}},
}
FEW = [None, 5, "9" * 5000, [5], {"a": 1}]
PLAIN = {"insecureOCIForceHttp": True}


def artifact(server):
    return f"oci://{server.url[7:]}/team/app"


@pytest.mark.parametrize("odd", FEW, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize("place", MANIFESTS)
def test_a_malformed_manifest_is_an_error_message(server, place, odd):
    server.answer = lambda path: http(json.dumps(MANIFESTS[place](odd)).encode())

    ask(lambda: charts.fetch_artifact(artifact(server), "1.0.0", PLAIN))
    found = ask(lambda: charts.annotations(artifact(server), "1.0.0", PLAIN))
    assert isinstance(found, REFUSED) or all(isinstance(v, str) for v in found.values())


@pytest.mark.parametrize("odd", FEW, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize(
    "shape", [lambda odd: odd, lambda odd: {"tags": odd}, lambda odd: {"tags": [odd, "1.0.0"]}]
)
def test_malformed_tags_are_an_error_message(server, shape, odd):
    server.answer = lambda path: http(json.dumps(shape(odd)).encode())

    ask(lambda: charts.resolve(artifact(server), "", ">=0.1", PLAIN))


def test_pages_of_tags_have_one_time_together(server, monkeypatch):
    monkeypatch.setattr(charts, "SECONDS", 0.3)
    link = f'<{server.url}/v2/team/app/tags/list?last=x>; rel="next"'
    server.answer = lambda path: http(b'{"tags":[]}', Link=link)

    with pytest.raises(RetryLater, match="too long"):
        charts.tags(artifact(server), PLAIN)

    assert len(server.paths) < 100


def test_pages_of_tags_have_one_limit_together(server, settings):
    settings.MAX_INDEX_BYTES = 20_000
    link = f'<{server.url}/v2/team/app/tags/list?last=x>; rel="next"'
    server.answer = lambda path: http(b'{"tags":[]}' + b" " * 9_000, Link=link)

    with pytest.raises(Stalled, match="larger than"):
        charts.tags(artifact(server), PLAIN)


TOKENS = [5, [5], {"a": 1}, "tökén", "a b", "a\r\nX-Evil: 1", "x" * 20_000]


@pytest.mark.parametrize("odd", TOKENS, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize("field", ["token", "access_token"])
def test_a_malformed_token_is_not_sent_in_a_header(server, field, odd):
    def answer(path):
        if path.startswith("/token"):
            return http(json.dumps({field: odd}).encode())
        return http(b"{}", 401, Www_Authenticate=f'Bearer realm="{server.url}/token",service="s"')

    server.answer = answer

    with pytest.raises(Stalled, match="invalid token"):
        charts.tags(artifact(server), PLAIN)


@pytest.mark.parametrize(
    "odd",
    [5, "text", {"a": 1}, [5], [{"name": 5}], [{"name": "x", "version": {}, "repository": []}]],
    ids=repr,
)
@pytest.mark.parametrize("name", ["Chart.yaml", "requirements.yaml", "Chart.lock"])
def test_malformed_dependencies_are_an_error_of_that_chart(name, odd):
    files = {
        "c/Chart.yaml": b"name: c\nversion: 1.0.0\ndependencies: [{name: b}]\n",
        "c/charts/b/Chart.yaml": b"name: b\n",
    }
    lines = b"name: c\nversion: 1.0.0\ndependencies: " + json.dumps(odd).encode()
    if name == "requirements.yaml":
        files["c/Chart.yaml"] = b"name: c\nversion: 1.0.0\n"
    tree = Recorder({"": MemoryFiles({**files, f"c/{name}": lines})})

    ask(
        lambda: chart_files.assemble(
            tree, "c", RemoteInputs("default", {"sourceRepos": ["*"]}, None)
        )
    )


MOVES = [
    pytest.param("/team/more/index.yaml", True, True, id="in the repository"),
    pytest.param("/other/index.yaml", True, False, id="beside it"),
    pytest.param("/teams/index.yaml", True, False, id="a longer name"),
    pytest.param("/team/%2e%2e/other/index.yaml", True, False, id="out of it by dots"),
    pytest.param("/other/index.yaml", False, True, id="beside it, its own credentials"),
]


@pytest.mark.parametrize(("target", "lent", "shown"), MOVES)
def test_a_redirect_leads_a_templates_credentials_out_of_no_repository(target, lent, shown):
    server, seen = Charts(), {}

    def answer(handler):
        seen[handler.path] = handler.headers.get("Authorization")
        if handler.path == "/team/index.yaml":
            return server.send(handler, 302, b"", {"Location": target})
        return server.send(handler, 200, b"entries: {}")

    server.answer = answer
    charts.forget()
    credentials = {"username": "u", "password": "p"} | ({TEMPLATE_URL: server.url} if lent else {})
    charts.fetch_index(f"{server.url}/team", credentials)
    server.server.shutdown()
    server.server.server_close()

    assert seen["/team/index.yaml"]
    assert bool(seen[target]) is shown


@pytest.mark.parametrize(
    "url", ["http://[", "oci://[::1/x", "http://h:x/", "http://h:99999/", "oci://"]
)
def test_a_repository_that_is_not_a_url_is_an_error_message(url):
    for call in (
        lambda: charts.fetch_index(url, {}),
        lambda: charts.tags(url, {}),
        lambda: charts.fetch_file(url, {}),
        lambda: charts.annotations(url, "1.0.0", {}),
    ):
        with pytest.raises(REFUSED):
            call()


def test_the_cache_is_limited_and_expires():
    kept = TTLCache(100, 1000)
    for key in "abc":
        kept.put(key, key.upper(), 40)
    kept.put("much", "MUCH", 101)

    assert [kept.get(key) for key in ("a", "b", "c", "much")] == [None, "B", "C", None]
    kept.put("c", "new", 90)
    assert [kept.get(key) for key in "bc"] == [None, "new"]


def test_what_is_old_is_kept_no_longer():
    kept = TTLCache(100, 0)
    kept.put("a", "A", 1)
    kept.put("b", "B", 1)

    assert kept.get("a") is None
    assert len(kept._entries) == 0


def test_what_is_kept_is_safe_between_threads():
    kept, failed = TTLCache(50, 1000), []

    def work(start):
        try:
            for n in range(3000):
                kept.put((start + n) % 17, n, n % 20)
                kept.get(n % 17)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert kept._size == sum(size for _, size, _ in kept._entries.values()) <= 50


def test_the_size_of_an_index_is_about_its_texts():
    index = read_index(b"entries: {demo: [{version: 1.0.0, urls: ['%s']}]}" % (b"u" * 5000), "r")

    assert 5000 < index.size < 6000


@pytest.mark.parametrize("text", ["1" * 5000, "1.0.0-" + "9" * 5000, "1.0.0\n", "v" * 300])
def test_a_version_of_thousands_of_digits_is_none(text):
    assert parse_version(text) is None
    assert highest(">=0.1", [text, "1.2.3"]) == "1.2.3"
    assert not is_constraint(" || ".join(["1"] * 50))
