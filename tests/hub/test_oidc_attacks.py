"""Providers and people that lie in a sign-in by OpenID Connect, and in one by the hub's own
provider.
"""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from urllib.parse import parse_qs

import jwt
import pytest
from django.apps import apps
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from support.liar import Liar
from support.sso import Visit, is_in, register

from hub.access.decisions import caller_of, reload_policies
from hub.auth import group_refresh, oidc
from hub.auth.oidc import clean_groups, is_address
from hub.auth.providers import provider_named
from hub.models import Account, AuditEvent, LoginSession, Role

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def liar(idle_hub):
    provider = Liar()
    oidc._cache.clear()
    register(idle_hub, {"issuer": provider.url, "clientID": "hub", "clientSecret": "CANARY"})
    yield provider
    provider.close()


@pytest.fixture
def second(idle_hub, liar):
    del liar
    provider = Liar()
    register(idle_hub, {"issuer": provider.url, "clientID": "hub"}, slug="second")
    yield provider
    provider.close()


def asked(liar, path):
    return sum(p.startswith(path) for _method, p, _body, _headers in liar.seen)


# --- The answer that a browser brings ---


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"iss": "https://evil.example"}, id="another issuer"),
        pytest.param({"iss": ["x", "y"]}, id="two issuers"),
        pytest.param({"code": ["a", "b"]}, id="two codes"),
    ],
)
def test_a_code_of_another_issuer_is_not_sent(liar, more):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"])
    assert visit.come_back(**more).status_code == 403
    assert asked(liar, "/token") == 0


def test_the_issuer_of_an_answer(liar):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"])
    assert is_in(visit.come_back(iss=liar.url))
    # A provider that says it always names itself must.
    liar.metadata = {"authorization_response_iss_parameter_supported": True}
    oidc._cache.clear()
    visit = Visit()
    liar.say(nonce=visit.query["nonce"])
    assert visit.come_back().status_code == 403


def test_an_answer_of_one_provider_at_the_callback_of_another(liar, second):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"])
    second.say(nonce=visit.query["nonce"])
    assert visit.come_back("second").status_code == 403
    assert asked(second, "/token") == 0 and asked(liar, "/token") == 0


def test_the_verifier_is_that_of_the_challenge_and_new_each_time(liar):
    seen = set()
    for _ in range(2):
        visit = Visit()
        liar.say(nonce=visit.query["nonce"])
        assert is_in(visit.come_back())
        sent = next(body for _m, path, body, _h in reversed(liar.seen) if path == "/token")
        verifier = parse_qs(sent)["code_verifier"][0]
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        assert visit.query["code_challenge"] == challenge
        seen.add(verifier)
    assert len(seen) == 2


def test_a_posted_answer_needs_a_form_of_this_hub(liar):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"])
    visit.browser.handler.enforce_csrf_checks = True
    body = {"code": "c", "state": visit.query["state"]}
    assert visit.browser.post("/sso/company/callback", body).status_code == 403
    assert asked(liar, "/token") == 0


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "Call +1 555 1234 at once", "%0d%0aSet-Cookie: a=b"]
)
@pytest.mark.parametrize("name", ["error", "error_description", "error_uri", "state"])
def test_what_a_link_says_is_not_on_the_page(liar, name, text):
    answer = Visit().come_back(**{"code": "", "error": "access_denied", name: text})
    assert answer.status_code == 403 and text.encode() not in answer.content
    assert b"555 1234" not in answer.content and "Set-Cookie: a" not in str(answer.headers)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"jku": "{url}/evil"}, id="jku"),
        pytest.param({"x5u": "{url}/evil"}, id="x5u"),
        pytest.param({"kid": "../../../../dev/null"}, id="kid is a path"),
        pytest.param({"kid": "{url}/evil"}, id="kid is a URL"),
        pytest.param({"kid": "k1' OR '1'='1"}, id="kid is a query"),
        pytest.param({"jwk": True}, id="own key"),
        pytest.param({"crit": ["b64"], "b64": False}, id="critical header"),
    ],
)
def test_a_token_does_not_choose_its_key(liar, header):
    visit = Visit()
    evil = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(liar.other.public_key()))
    liar.replies["/evil"] = {"keys": [{**evil, "kid": "k1", "use": "sig"}]}
    said = {k: v.replace("{url}", liar.url) if isinstance(v, str) else v for k, v in header.items()}
    said |= {"jwk": evil} if said.get("jwk") else {}
    liar.say(nonce=visit.query["nonce"], key=liar.other, header=said)
    assert visit.come_back().status_code == 403
    assert asked(liar, "/evil") == 0


# --- Who somebody is ---


@pytest.mark.parametrize(
    "subject",
    ["a\nb", "a\x00b", "a\u202eb", "a\u200bb", "\ud800", "\u2028", "\x1b[2J"],
    ids=ascii,
)
def test_an_invisible_subject_is_refused(liar, subject):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"], sub=subject)
    assert visit.come_back().status_code == 403
    assert not Account.objects.exclude(issuer="").exists()


@pytest.mark.parametrize(
    ("claims", "field", "kept"),
    [
        ({"email": "admin", "email_verified": True}, "email", ""),
        ({"email": "a b@x", "email_verified": True}, "email", ""),
        ({"email": "a\n@x", "email_verified": True}, "email", ""),
        ({"email": "a\x00@x", "email_verified": True}, "email", ""),
        ({"email": ["a@x"], "email_verified": True}, "email", ""),
        ({"email": "a@x", "email_verified": "true"}, "email_verified", False),
        ({"email": "a@x", "email_verified": "false"}, "email_verified", False),
        ({"email": "", "email_verified": True}, "email_verified", False),
        ({"name": "A\u202edmin\x00\n"}, "display_name", "Admin"),
        ({"name": {"a": 1}}, "display_name", ""),
        ({"groups": ["g", "a\nb", "a\x00b", "\u202eg", "\ud800", "x" * 600]}, "groups", ["g"]),
    ],
    ids=ascii,
)
def test_malformed_claims(liar, claims, field, kept):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"], **claims)
    assert is_in(visit.come_back())
    assert getattr(Account.objects.get(subject="u1"), field) == kept


def test_an_unverified_email_is_not_shown_as_a_name(liar):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"], email="boss@example.com")
    assert is_in(visit.come_back())
    event = AuditEvent.objects.get(verb="login", outcome="allowed")
    assert event.actor == "u1" and "boss" not in str(event.actor)


def test_addresses():
    assert is_address("a@x.example") and is_address("ü@x.example")
    for text in ("", "a", "@x", "a@", "a@b@c", "a b@x", "a@x\n", "a@x\u202e", "a" * 320 + "@x"):
        assert not is_address(text)


SUBJECTS = [
    "admin",
    "ADMIN",
    "\uff41dmin",
    "аdmin",
    "role:admin",
    "proj:team-a:ci",
    "company:admin",
    "a,b",
    "g, x, role:admin",
    "*",
    "%",
    "role:admin ",
    "admin:login",
    "admin:apiKey",
    "proj",
    "'; --",
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=ascii)
def test_a_name_gives_no_rights_of_another_subject(idle_hub, liar, subject):
    """As a subject, as a group and as a name: neither a local account, nor a role, nor a project's
    token.
    """
    policy = 'p, team-a, applications, get, */*, allow\ng, "x", role:admin'
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": policy}})
    visit = Visit()
    liar.say(nonce=visit.query["nonce"], sub=subject, groups=[subject], name=subject)
    assert is_in(visit.come_back())
    token = visit.browser.cookies["argocd.token"].value
    info = idle_hub.get("/api/v1/session/userinfo", token=token)
    assert info["iss"] != "argocd" or info["username"] != "admin"
    for resource in ("clusters", "accounts", "settings", "applications"):
        name = "*/*" if resource == "applications" else "*"
        path = f"/api/v1/account/can-i/{resource}/get/{name}"
        assert idle_hub.get(path, token=token)["value"] == "no"


# --- Two providers ---


def sign_in(liar, slug="company", **claims):
    visit = Visit(slug)
    liar.say(nonce=visit.query["nonce"], **claims)
    answer = visit.come_back(slug)
    assert is_in(answer)
    return answer.cookies["argocd.token"].value


RIGHTS = {
    "policy.csv": "g, u1, role:admin\ng, ops, role:admin\ng, boss@example.com, role:admin",
    "scopes": "[groups, email]",
}


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"sub": "u1"}, id="the same subject"),
        pytest.param({"groups": ["ops"]}, id="the same group"),
        pytest.param({"email": "boss@example.com", "email_verified": True}, id="the same email"),
        pytest.param({"groups": ["company:ops"]}, id="the first one's id as a group"),
    ],
)
def test_a_second_provider_does_not_give_the_rights_of_the_firsts_people(
    idle_hub, liar, second, claims
):
    idle_hub.put("/api/v1/flotilla/rbac", {"data": RIGHTS})
    path = "/api/v1/account/can-i/clusters/update/*"
    if "company:ops" not in str(claims):
        first = sign_in(liar, **{"sub": "other", **claims})
        assert idle_hub.get(path, token=first)["value"] == "yes"
    token = sign_in(second, "second", **{"sub": "other", **claims})
    assert idle_hub.get(path, token=token)["value"] == "no"


def test_policies_name_the_people_of_a_second_provider_by_its_id(idle_hub, liar, second):
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": "g, second:ops, role:admin"}})
    path = "/api/v1/account/can-i/clusters/update/*"
    assert idle_hub.get(path, token=sign_in(second, "second", groups=["ops"]))["value"] == "yes"
    # And nobody of the first one is taken for them.
    assert idle_hub.get(path, token=sign_in(liar, groups=["second:ops"]))["value"] == "no"
    config = {"issuer": second.url, "clientID": "hub", "plainNames": True}
    register(idle_hub, config, slug="second")
    reload_policies()
    assert "ops" in caller_of(Account.objects.get(provider="second")).subjects


RULE = {"resource": "clusters", "action": "update", "object": "*", "effect": "allow"}


@pytest.mark.parametrize(("members", "may"), [([], "no"), (["bob"], "no"), (["bob", "ops"], "yes")])
def test_a_group_does_not_become_the_role_of_its_name(idle_hub, liar, members, may):
    idle_hub.put("/api/v1/flotilla/roles/ops", {"rules": [RULE], "members": members})
    token = sign_in(liar, groups=["ops"])
    path = "/api/v1/account/can-i/clusters/update/*"
    assert idle_hub.get(path, token=token)["value"] == may


def test_lines_about_a_group_stay_about_the_group_as_a_role(idle_hub, liar):
    idle_hub.put("/api/v1/flotilla/roles-csv", {"csv": "p, ops, clusters, update, *, allow"})
    token = sign_in(liar, groups=["ops"])
    path = "/api/v1/account/can-i/clusters/update/*"
    assert idle_hub.get(path, token=token)["value"] == "yes"


def test_roles_that_were_for_the_group_of_their_name_stay_so(db):
    del db
    for name, members in (("ops", []), ("role:ops", []), ("dev", ["bob"])):
        Role.objects.create(name=name, members=members)
    import_module("hub.migrations.0007_roles_of_groups").forwards(apps, None)
    found = dict(Role.objects.values_list("name", "members"))
    assert found == {"ops": ["ops"], "role:ops": [], "dev": ["bob"]}


def test_the_first_provider_keeps_its_names_and_no_other_inherits_them(idle_hub, liar, second):
    shown = {
        p["id"]: p["config"]["plainNames"]
        for p in idle_hub.get("/api/v1/flotilla/sso/providers")["items"]
    }
    assert shown == {"company": True, "second": False}
    sign_in(second, "second", groups=["ops"])
    idle_hub.delete("/api/v1/flotilla/sso/providers/company")
    register(idle_hub, {"issuer": second.url, "clientID": "hub"}, slug="second")
    reload_policies()
    assert "ops" not in caller_of(Account.objects.get(provider="second")).subjects


@pytest.mark.parametrize("end", ["delete", "disable"])
def test_sessions_end_with_their_provider(idle_hub, liar, end):
    token = sign_in(liar)
    idle_hub.get("/api/v1/session/userinfo", token=token)
    if end == "delete":
        idle_hub.delete("/api/v1/flotilla/sso/providers/company")
    else:
        body = {"name": "C", "config": {"issuer": liar.url, "clientID": "hub"}, "enabled": False}
        idle_hub.put("/api/v1/flotilla/sso/providers/company", body)
    idle_hub.get("/api/v1/applications", token=token, status=401)


def test_sessions_end_when_their_provider_becomes_another_issuer(idle_hub, liar):
    """And what the old one gave to ask again goes to nobody else."""
    token = sign_in(liar, groups=["g"])
    account = Account.objects.get(subject="u1")
    kept = {"provider": "company", "refresh_token": "CANARY-refresh"}
    session = LoginSession.objects.get(account=account)
    session.refresh = kept
    session.save()
    other = Liar()
    try:
        register(idle_hub, {"issuer": other.url, "clientID": "hub"})
        idle_hub.get("/api/v1/applications", token=token, status=401)
        late = LoginSession.objects.get(pk=session.pk)
        late.ended_at, late.refresh = None, kept
        late.save()
        Account.objects.update(groups_at=None)
        other.say(sub="u1", groups=["admins"])
        assert not group_refresh.refresh(late, timezone.now())
        assert asked(other, "/token") == 0 and Account.objects.get(pk=account.pk).groups == ["g"]
    finally:
        other.close()


def test_a_sign_in_takes_no_session_that_was_there_before(liar):
    """A session that somebody else put into the browser is not the one that is signed in."""
    browser = Client(HTTP_HOST="localhost")
    browser.get("/sso/company/login")
    planted = browser.cookies["flotilla.session"].value
    form = {"login": "admin", "password": "correct horse"}
    assert browser.post("/login", form).status_code == 302
    assert browser.cookies["flotilla.session"].value != planted
    thief = Client(HTTP_HOST="localhost")
    thief.cookies["flotilla.session"] = planted
    assert thief.get("/account").status_code == 302
    cookie = browser.cookies["flotilla.session"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    mine = browser.cookies["argocd.token"].value
    browser.post("/logout")
    thief.cookies["argocd.token"] = mine
    assert thief.get("/account").status_code == 302


def test_a_group_does_not_become_an_account(idle_hub):
    """Who may make accounts, and no more, makes none under a name that policies speak of."""
    policy = "g, ops, role:admin\np, clerk, accounts, *, *, allow"
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": policy}})
    clerk = Account.objects.create(
        name="clerk", password=make_password("correct horse"), capabilities=["login"]
    )
    body = {"username": "clerk", "password": "correct horse"}
    token = idle_hub.post("/api/v1/session", body, token="")["token"]
    new = {"password": "correct horse", "capabilities": ["login"]}
    for name, status in (("ops", 403), ("plain", 200)):
        idle_hub.post(
            "/api/v1/flotilla/accounts", {"name": name, **new}, token=token, status=status
        )
    assert not Account.objects.filter(name="ops").exists() and clerk.enabled
    idle_hub.post("/api/v1/flotilla/accounts", {"name": "ops", **new})


def test_groups_are_texts_that_show():
    assert clean_groups(["a", "b c", "", " ", "a\tb", 7, None]) == ["a", "b c"]


def test_new_places_of_keys_do_not_fill_the_memory(liar, monkeypatch):
    provider = provider_named("company")
    clock = iter(range(0, 10**6, 200))
    monkeypatch.setattr(oidc.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(oidc, "call", lambda *_: {})
    for number in range(300):
        oidc._cached(provider, f"{liar.url}/keys/{number}")
    assert len(oidc._cache) <= 3
    monkeypatch.setattr(oidc.time, "monotonic", lambda: 10**6)
    for number in range(300):
        oidc._cached(provider, f"{liar.url}/keys/{number}")
    assert len(oidc._cache) == oidc.MAX_CACHED


def test_an_answer_of_many_values_is_refused(liar):
    liar.replies["/keys"] = (200, b"[" + b"[]," * 300_000 + b"[]]", {})
    with pytest.raises(oidc.SignInError, match="too large"):
        oidc.call(provider_named("company"), "GET", f"{liar.url}/keys")


def test_a_link_to_more_groups_that_is_no_url_ends_there(liar):
    url = f"{liar.url}/groups"
    provider = replace(
        provider_named("company"),
        config={"issuer": liar.url, "clientID": "hub", "groupsOverageURL": url},
    )
    liar.replies["/groups"] = (200, {"value": ["team-a"], "@odata.nextLink": "http://["}, {})
    assert oidc.groups_of(provider, {"sub": "u", "hasgroups": True}, "t") == ["team-a"]


@pytest.mark.parametrize("said", ["http://[", "login", "javascript:alert(1)", "https://"])
def test_metadata_that_sends_browsers_nowhere_is_refused(liar, said):
    liar.metadata["authorization_endpoint"] = said
    assert Visit().answer.status_code == 403


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"token_endpoint_auth_methods_supported": 5}, id="methods"),
        pytest.param({"userinfo_endpoint": 5}, id="userinfo"),
    ],
)
def test_metadata_of_any_shape_is_not_an_internal_error(liar, told):
    liar.metadata |= told
    provider = replace(
        provider_named("company"),
        config={"issuer": liar.url, "clientID": "hub", "clientSecret": "s"},
    )
    liar.replies["/token"] = (400, {"error": "invalid_grant"}, {})
    with pytest.raises(oidc.SignInError):
        oidc.fetch_tokens(provider, {"code": "c"})
    with pytest.raises(oidc.SignInError):
        oidc.userinfo(provider, "t", "u")


def test_browser_sessions_of_strangers_do_not_stay(liar):
    visit = Visit()
    waiting = Session.objects.get(pk=visit.browser.cookies["flotilla.session"].value)
    assert waiting.expire_date < timezone.now() + timedelta(minutes=20)

    liar.say(nonce=visit.query["nonce"])
    assert is_in(visit.come_back())
    kept = Session.objects.get(pk=visit.browser.cookies["flotilla.session"].value)
    assert kept.expire_date > timezone.now() + timedelta(hours=20)
