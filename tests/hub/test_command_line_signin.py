"""The hub as the provider of its own command line: codes and devices, and what ends them."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from allauth.idp.oidc.models import Client as OIDCClient
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.test import Client

from hub.auth.accounts import save_account, set_password
from hub.auth.cli_sign_in import CLI_CLIENT, cli_client
from hub.models import Account, LoginSession

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def browser(idle_hub):
    """A browser that the administrator is signed in with, and that a page of somebody else may
    use.
    """
    cli_client()
    found = Client(HTTP_HOST="localhost", enforce_csrf_checks=True)
    found.cookies["argocd.token"] = idle_hub.token
    return found


def send(path, **form):
    return Client(HTTP_HOST="localhost").post(path, urlencode(form), content_type=FORM)


def begin_device():
    answer = Client(HTTP_HOST="localhost").post(
        "/identity/o/api/device/code",
        urlencode({"client_id": CLI_CLIENT, "scope": "openid"}),
        content_type=FORM,
        HTTP_USER_AGENT="evil-cli/1.0",
        REMOTE_ADDR="203.0.113.7",
    )
    return answer.json()


def poll(started):
    kind = "urn:ietf:params:oauth:grant-type:device_code"
    form = {"grant_type": kind, "device_code": started["device_code"], "client_id": CLI_CLIENT}
    return send("/identity/o/api/token", **form)


def approve(browser, started, action="confirm"):
    path = f"/identity/o/device?code={started['user_code']}"
    mark = browser.get(path).cookies["flotilla.csrf"].value
    return browser.post(path, {"action": action, "csrfmiddlewaretoken": mark})


def exchange(token):
    body = json.dumps({"access_token": token})
    path = "/api/v1/flotilla/session/exchange"
    return Client(HTTP_HOST="localhost").post(path, body, content_type="application/json")


@pytest.mark.parametrize("origin", ["https://evil.example", "http://sub.localhost", "null"])
def test_a_page_of_another_site_does_not_sign_a_device_in(browser, origin):
    started = begin_device()
    path = f"/identity/o/device?code={started['user_code']}"
    assert browser.post(path, {"action": "confirm"}, HTTP_ORIGIN=origin).status_code == 403
    assert poll(started).json()["error"] == "authorization_pending"


def test_the_page_of_a_device_says_who_asks_and_what_for(browser):
    started = begin_device()
    shown = browser.get(f"/identity/o/device?code={started['user_code']}").content.decode()
    assert "203.0.113.7" in shown and "evil-cli/1.0" in shown and "signed in as admin" in shown


def test_a_device_signs_in_once(browser):
    started = begin_device()
    assert approve(browser, started).status_code == 200
    tokens = poll(started)
    assert tokens.status_code == 200 and poll(started).status_code == 400
    access = tokens.json()["access_token"]
    assert exchange(access).status_code == 200 and exchange(access).status_code == 401
    refresh = tokens.json().get("refresh_token", "")
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": CLI_CLIENT}
    assert send("/identity/o/api/token", **form).status_code in (400, 401)
    assert LoginSession.objects.filter(method="cli").count() == 1


def test_a_denied_device_stays_out(browser):
    started = begin_device()
    approve(browser, started, "deny")
    assert poll(started).json()["error"] == "access_denied"
    shown = browser.get(f"/identity/o/device?code={started['user_code']}").content
    assert b"No device is waiting" in shown
    assert "access_token" not in poll(started).json()


@pytest.mark.parametrize("when", ["before the token", "before the session"])
def test_a_new_password_ends_what_was_approved(browser, when):
    started = begin_device()
    approve(browser, started)
    tokens = poll(started).json() if when == "before the session" else {}
    set_password(Account.objects.get(name="admin"), "another password", "admin")
    if not tokens:
        assert poll(started).json() == {"error": "invalid_grant"}
    else:
        assert exchange(tokens["access_token"]).status_code == 401
    assert not LoginSession.objects.filter(method="cli").exists()


def authorization(**changes):
    digest = hashlib.sha256(b"v" * 50).digest()
    form = {
        "client_id": CLI_CLIENT,
        "response_type": "code",
        "redirect_uri": "http://127.0.0.1:8085/auth/callback",
        "scope": "openid",
        "state": "s",
        "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        **changes,
    }
    return "/identity/o/authorize?" + urlencode({k: v for k, v in form.items() if v is not None})


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/auth/callback",
        "http://evil.example:8085/auth/callback",
        "http://127.0.0.1:8085/evil",
        "http://127.0.0.1.evil.example:8085/auth/callback",
        "http://127.0.0.1:8085@evil.example/auth/callback",
        "http://127.0.0.1:8085/auth/callback/../../x",
        "http://127.0.0.1:8085/auth/callback?x=1",
        "//evil.example",
        "javascript:alert(1)",
        "http://127.0.0.1:8085/auth/callback#x",
        "http://localhost:8085/auth/callback",
        "",
        "http://127.0.0.1:8085\\@evil.example/auth/callback",
        "http://[::1]:8085/auth/callback",
    ],
)
def test_codes_go_to_the_command_line_of_this_machine_only(browser, uri):
    answer = browser.get(authorization(redirect_uri=uri))
    assert b"Allow" not in answer.content and "Location" not in answer.headers


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"code_challenge": None, "code_challenge_method": None}, id="no challenge"),
        pytest.param({"code_challenge_method": "plain"}, id="plain challenge"),
        pytest.param({"scope": "openid admin"}, id="more scope"),
        pytest.param({"response_type": "token"}, id="token at once"),
        pytest.param({"response_type": "code id_token"}, id="hybrid"),
        pytest.param({"client_id": "other"}, id="another client"),
        pytest.param({"prompt": "none"}, id="without asking"),
    ],
)
def test_what_the_command_line_may_not_ask_for(browser, changes):
    answer = browser.get(authorization(**changes))
    where = parse_qs(urlsplit(answer.headers.get("Location", "")).query)
    assert b"Allow" not in answer.content and "code" not in where


def code_of(browser):
    page = browser.get(authorization())
    assert b"Allow" in page.content
    mark = page.cookies["flotilla.csrf"].value
    request = page.context["form"].initial["request"]
    form = {"request": request, "action": "grant", "scopes": "openid"}
    assert browser.post("/identity/o/authorize", form).status_code == 403  # no token of the form
    answer = browser.post("/identity/o/authorize", {**form, "csrfmiddlewaretoken": mark})
    return parse_qs(urlsplit(answer["Location"]).query)["code"][0]


def redeem(code, **changes):
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": "http://127.0.0.1:8085/auth/callback",
        "client_id": CLI_CLIENT,
        "code_verifier": "v" * 50,
        **changes,
    }
    return send("/identity/o/api/token", **form)


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 50},
        {"code_verifier": ""},
        {"code": "made-up"},
        {"client_id": "other"},
        {"redirect_uri": "http://127.0.0.1:8086/auth/callback"},
    ],
    ids=str,
)
def test_a_stolen_code_is_of_no_use(browser, changes):
    code = code_of(browser)
    assert redeem(**{"code": code, **changes}).status_code in (400, 401)


def test_a_code_is_good_once_and_ends_with_the_password(browser):
    code = code_of(browser)
    assert exchange(redeem(code).json()["access_token"]).status_code == 200
    assert redeem(code).status_code == 400
    code = code_of(browser)
    set_password(Account.objects.get(name="admin"), "another password", "admin")
    assert redeem(code).json() == {"error": "invalid_grant"}


def new_password(account):
    set_password(account, "another password", "admin")


def disabled_and_enabled(account):
    save_account(account.name, "admin", enabled=False)
    save_account(account.name, "admin", enabled=True)


def disabled(account):
    save_account(account.name, "admin", enabled=False)


def no_sign_in(account):
    save_account(account.name, "admin", capabilities=["apiKey"])


def client_removed(account):
    del account
    OIDCClient.objects.all().delete()


def account_removed(account):
    account.delete()


ENDS = [new_password, disabled, disabled_and_enabled, no_sign_in, client_removed, account_removed]


@pytest.fixture
def bobs(browser, idle_hub):
    """A browser that an ordinary account is signed in with."""
    save_account("bob", "admin", must_be_new=True, password="correct horse", capabilities=["login"])
    body = {"username": "bob", "password": "correct horse"}
    browser.cookies["argocd.token"] = idle_hub.post("/api/v1/session", body, token="")["token"]
    return browser


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", ["code", "code beside a device", "device", "access token"])
def test_what_was_approved_ends_with_the_account_as_it_was(bobs, what, end):
    undecided = begin_device()
    if what == "device":
        started = begin_device()
        approve(bobs, started)
    else:
        code = code_of(bobs)
    access = redeem(code).json()["access_token"] if what == "access token" else ""

    end(Account.objects.get(name="bob"))

    if what == "access token":
        assert exchange(access).status_code == 401
    else:
        more = {"device_code": undecided["device_code"]} if "beside" in what else {}
        answer = poll(started) if what == "device" else redeem(code, **more)
        assert answer.status_code in (400, 401) and "access_token" not in answer.json()
    assert not LoginSession.objects.filter(method="cli").exists()


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        (
            {"grant_type": "password", "username": "admin", "password": "x"},
            "unsupported_grant_type",
        ),
        ({}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x", "device_code": "y"}, "invalid_request"),
        ({"grant_type": ["authorization_code", "refresh_token"], "code": "x"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": ["x", "y"]}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "made-up"}, "invalid_grant"),
    ],
    ids=str,
)
def test_one_grant_is_redeemed_and_only_of_two_kinds(browser, form, error):
    del browser
    body = urlencode({"client_id": CLI_CLIENT, **form}, doseq=True)
    answer = Client(HTTP_HOST="localhost").post("/identity/o/api/token", body, content_type=FORM)

    assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize("end", [new_password, disabled, disabled_and_enabled, no_sign_in])
def test_a_sign_in_that_waits_for_its_second_factor_ends_with_the_password(bobs, end):
    del bobs
    account = Account.objects.get(name="bob")
    secret = generate_totp_secret()
    TOTP.activate(account, secret)
    page = Client(HTTP_HOST="localhost")
    assert page.post("/login", {"login": "bob", "password": "correct horse"}).status_code == 302
    before = LoginSession.objects.count()

    end(account)
    code = format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))
    answer = page.post("/account/2fa/authenticate/", {"code": code})

    assert "argocd.token" not in answer.cookies
    assert LoginSession.objects.count() == before
    assert page.get("/account/2fa/authenticate/").status_code == 302, "nothing waits any more"


def test_codes_of_devices_cannot_be_guessed(browser):
    codes = {begin_device()["user_code"].replace("-", "") for _ in range(3)}
    assert len(codes) == 3 and all(len(code) == 8 for code in codes)
    for _ in range(5):
        browser.get("/identity/o/device?code=BBBB-BBBB")
    started = begin_device()
    shown = browser.get(f"/identity/o/device?code={started['user_code']}").content
    assert b"No device is waiting" in shown


def test_codes_of_devices_cannot_be_made_without_end(browser):
    del browser
    answers = [begin_device() for _ in range(31)]
    assert "user_code" in answers[0] and answers[-1]["error"] == "slow_down"


def test_nobody_is_signed_out_or_led_away_by_a_link(browser, idle_hub):
    for query in ("", "?client_id=flotilla-cli&post_logout_redirect_uri=https://evil.example"):
        assert browser.get(f"/identity/o/logout{query}").status_code == 404
    idle_hub.get("/api/v1/session/userinfo")
    metadata = browser.get("/.well-known/openid-configuration").json()
    assert "end_session_endpoint" not in metadata and "registration_endpoint" not in metadata
