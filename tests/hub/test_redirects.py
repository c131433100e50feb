"""Nobody is led away from the hub by a link, a header or a form field."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.test import Client
from django.urls import get_resolver
from support.liar import Liar
from support.sso import Visit, is_in, register

from hub.auth import oidc
from hub.base.redirects import is_own_path, own_path, path_of
from hub.http.request_limits import is_own_origin

FIELDS = (
    "next",
    "return_url",
    "return_to",
    "redirect_uri",
    "post_logout_redirect_uri",
    "RelayState",
    "login_hint",
    "url",
    "to",
    "redirect",
    "back",
    "continue",
    "go",
    "query",
    "theme",
    "language",
)
EVIL = [
    "https://evil.example",
    "http://evil.example/",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "\\\\evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "https:evil.example",
    "https:/evil.example",
    "http:///evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc/passwd",
    "//evil.example%2f..",
    "http://localhost@evil.example",
    "http://localhost:1/",
    "https://localhost.evil.example",
    "ftp://localhost/",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/%0d%0aLocation: //evil.example",
    "/\r\nLocation: //evil.example",
    "/x\x00//evil.example",
    "\x00//evil.example",
    "\uff0f\uff0fevil.example",
    "/\uff0fevil.example",
    "\u2044\u2044evil.example",
    "/\u3002evil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/a/..//evil.example",
    "/%2e//evil.example",
    "//[evil",
    "http://[evil",
    "?//evil.example",
    "#//evil.example",
    "evil.example",
    "@evil.example",
    ":80//evil.example",
    "/" + "a" * 5000,
    "",
    ".",
    "..",
    "\u202e//evil.example",
    "/\x7fx",
]


@pytest.mark.parametrize("url", EVIL, ids=ascii)
def test_what_is_no_path_of_this_hub(url):
    assert not is_own_path(url)
    assert own_path(url) == "/" and own_path(url, "/x") == "/x"


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/applications",
        "/audit?actor=a%20b&from=//x",
        "/applications/argocd/web?tab=a#b",
        "/a%2F%2Fb",
        "/a:b@c",
    ],
)
def test_what_is_one(url):
    assert is_own_path(url) and own_path(url) == url


@pytest.mark.parametrize("value", [None, 7, b"/x", ["/x"], {}])
def test_only_texts_are_paths(value):
    assert not is_own_path(value) and own_path(value) == "/"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://localhost/audit?actor=x", "/audit?actor=x"),
        ("http://localhost", "/"),
        ("", "/"),
        ("http://localhost//evil", "/"),
        ("http://[evil", "/"),
        ("//evil.example/audit", "/audit"),
        ("javascript:alert(1)", "/"),
        ("http://localhost/\\evil", "/"),
        ("https://evil.example/.//evil.example", "/"),
        ("http://localhost/audit?a=\u202e", "/"),
    ],
)
def test_the_page_that_a_browser_is_on(url, path):
    assert path_of(url) == path


def leads_away(answer):
    """Return the headers of an answer that lead out of the hub."""
    found = []
    for name in (
        "Location",
        "HX-Redirect",
        "HX-Location",
        "HX-Push-Url",
        "HX-Replace-Url",
        "Refresh",
        "Content-Location",
    ):
        value = answer.headers.get(name)
        if value and not is_own_path(value.removeprefix("http://localhost") or "/"):
            found.append(f"{name}: {value}")
        # What a sign-in page is told to go back to, later.
        for target in parse_qs(urlsplit(value or "").query).get("next", []):
            if not is_own_path(target):
                found.append(f"next in {name}: {target}")
    return found


def _paths(patterns, prefix=""):
    for pattern in patterns:
        part = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from _paths(pattern.url_patterns, part)
        elif not part.startswith(("^api/", "api/")):
            yield part


def pages():
    """Return a path for every page of the hub, with a word for each of its variables."""
    import re

    found = set()
    for pattern in _paths(get_resolver().url_patterns):
        text = re.sub(r"<int:\w+>", "1", pattern)
        text = re.sub(r"<uuid:\w+>", "00000000-0000-4000-8000-000000000000", text)
        text = re.sub(r"<(slug|str):\w+>", "company", text)
        text = re.sub(r"\(\?P<\w+>[^)]*\)", "company", text).replace("^", "").replace("$", "")
        found.add("/" + text)
    return sorted(found)


@pytest.fixture
def liar(idle_hub):
    provider = Liar()
    oidc._cache.clear()
    register(idle_hub, {"issuer": provider.url, "clientID": "hub"})
    yield provider
    provider.close()


def test_every_page_walked_with_every_wish(idle_hub, liar):
    """A new page is walked as soon as it has a route; only sign-in by a provider leads out, to its
    own address.
    """
    walked = pages()
    assert len(walked) > 100 and "/account/reauthenticate" in walked
    wishes = ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)")
    for signed_in in (False, True):
        browser = Client(HTTP_HOST="localhost", raise_request_exception=False)
        if signed_in:
            browser.cookies["argocd.token"] = idle_hub.token
        for path in walked:
            for wish in wishes[: 2 if signed_in else 4]:
                headers = {"HTTP_REFERER": wish, "HTTP_HX_CURRENT_URL": f"http://localhost{wish}"}
                for extra in ({}, {"HTTP_HX_REQUEST": "true"}) if not signed_in else ({},):
                    answer = browser.get(path, dict.fromkeys(FIELDS, wish), **headers, **extra)
                    away = leads_away(answer)
                    if path == "/sso/company/login":
                        assert answer["Location"].startswith(f"{liar.url}/authorize?")
                        away = []
                    assert not away and answer.status_code != 500, (path, wish, away)
                    answer.close()


@pytest.mark.parametrize("url", [u for u in EVIL if "\x00" not in u and len(u) < 4000], ids=ascii)
def test_a_sign_in_redirects_to_the_hub_only(idle_hub, liar, url):
    answer = Client(HTTP_HOST="localhost").post(
        "/login", {"login": "admin", "password": "correct horse", "next": url}
    )
    assert answer.status_code == 302 and answer["Location"] == "/", answer["Location"]
    visit = Visit(next=url)
    liar.say(nonce=visit.query["nonce"])
    back = visit.come_back()
    assert is_in(back) and back["Location"] == "/", back["Location"]


def test_a_sign_in_returns_to_the_requested_page(idle_hub, liar):
    browser = Client(HTTP_HOST="localhost")
    wanted = "/audit?actor=a%20b&verb=sync"
    sent = browser.get(wanted)["Location"]
    assert parse_qs(urlsplit(sent).query)["next"] == [wanted]
    page = browser.get(sent).content.decode()
    assert f'value="{wanted.replace("&", "&amp;")}"' in page
    assert f"/sso/company/login?next={quote(wanted)}" in page.replace("&amp;", "&")
    form = {"login": "admin", "password": "correct horse", "next": wanted}
    assert browser.post("/login", form)["Location"] == wanted
    visit = Visit(next=wanted)
    liar.say(nonce=visit.query["nonce"])
    assert visit.come_back()["Location"] == wanted


def test_a_part_of_a_page_that_lies_about_its_page(idle_hub):
    del idle_hub
    browser = Client(HTTP_HOST="localhost", HTTP_HX_REQUEST="true")
    for lie in (
        "http://[evil",
        "http://localhost//evil.example",
        "javascript:alert(1)",
        "\\\\evil",
    ):
        answer = browser.get("/account", HTTP_HX_CURRENT_URL=lie)
        assert answer.status_code == 204 and answer["HX-Redirect"] == "/login?next=%2F"
    answer = browser.get("/account", HTTP_HX_CURRENT_URL="http://localhost/audit?actor=x")
    assert answer["HX-Redirect"] == "/login?next=%2Faudit%3Factor%3Dx"


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "//[", "null", "http://evil.example"]
)
def test_an_invalid_origin_is_refused_without_an_internal_error(idle_hub, origin):
    answer = Client(HTTP_HOST="localhost").post(
        "/api/v1/session",
        "{}",
        content_type="application/json",
        HTTP_ORIGIN=origin,
        HTTP_COOKIE="argocd.token=x",
    )
    assert answer.status_code in (401, 403)
    assert not is_own_origin(origin, "localhost")
