"""Single sign-on against providers that lie, and SAML."""

import base64
import json
import re
import time
from urllib.parse import parse_qs

import pytest
from django.test import Client
from support.liar import Liar
from support.saml import SAMLProvider
from support.sso import AUDIENCE, Visit, begin, finish, is_in, register

from clusters.sandbox.certificate import make_certificate
from hub.auth import oidc
from hub.auth.providers import provider_named
from hub.models import Account, AuditEvent, IdentityProvider, LoginSession


@pytest.fixture
def liar(idle_hub):
    provider = Liar()
    oidc._cache.clear()
    register(idle_hub, {"issuer": provider.url, "clientID": "hub", "clientSecret": "CANARY-secret"})
    yield provider
    provider.close()


def test_what_is_asked_of_the_provider(liar):
    visit = Visit()
    query = visit.query
    assert visit.location.startswith(f"{liar.url}/authorize?")
    assert query["code_challenge_method"] == "S256" and query["response_type"] == "code"
    assert len(query["nonce"]) >= 40 and len(query["state"]) >= 40
    assert set(query["scope"].split()) == {"openid", "profile", "email", "groups"}
    assert query["redirect_uri"] == "http://localhost/sso/company/callback"
    # What a link carries changes nothing of it.
    odd = Visit(
        scope="admin", auth_params="prompt=none&redirect_uri=https://evil", process="connect"
    )
    assert "admin" not in odd.query["scope"] and odd.query["redirect_uri"] == query["redirect_uri"]
    assert Visit().query["state"] != query["state"] and Visit().query["nonce"] != query["nonce"]


def test_requested_claims_and_hints(idle_hub, liar):
    claims = {"groups": {"essential": True, "values": ["a"]}}
    register(
        idle_hub,
        {
            "issuer": liar.url,
            "clientID": "hub",
            "requestedIDTokenClaims": claims,
            "domainHint": "example.com",
            "requestedScopes": ["email"],
        },
    )
    query = Visit().query
    assert json.loads(query["claims"]) == {"id_token": claims}
    assert query["domain_hint"] == "example.com" and set(query["scope"].split()) == {
        "openid",
        "email",
    }


def test_a_good_token(liar):
    visit = Visit(next="/audit")
    liar.say(nonce=visit.query["nonce"], groups=["g"], email="a@example.com", email_verified=True)
    answer = visit.come_back()
    assert is_in(answer) and answer["Location"] == "/audit"
    sent = next(body for _m, path, body, _h in liar.seen if path == "/token")
    assert len(parse_qs(sent)["code_verifier"][0]) >= 43
    cookie = answer.cookies["argocd.token"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    assert "CANARY" not in str(list(AuditEvent.objects.values())) + str(
        list(LoginSession.objects.values())
    )


def now():
    return int(time.time())


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"aud": "other"}, id="audience of another client"),
        pytest.param({"aud": []}, id="empty audience"),
        pytest.param({"without": ["aud"]}, id="no audience"),
        pytest.param({"aud": ["hub", "other"]}, id="several audiences without azp"),
        pytest.param({"aud": ["hub", "other"], "azp": "other"}, id="made for another client"),
        pytest.param({"nonce": "another"}, id="another nonce"),
        pytest.param({"without": ["nonce"]}, id="no nonce"),
        pytest.param({"iss": "https://evil.example"}, id="another issuer"),
        pytest.param({"exp": -120}, id="expired"),
        pytest.param({"iat": 600}, id="from the future"),
        pytest.param({"without": ["exp"]}, id="no end"),
        pytest.param({"without": ["sub"]}, id="no subject"),
        pytest.param({"sub": " "}, id="empty subject"),
        pytest.param({"sub": "x" * 600}, id="endless subject"),
        pytest.param({"algorithm": "none", "key": ""}, id="alg none"),
        pytest.param({"algorithm": "HS256", "key": "secret" * 8}, id="HS256"),
        pytest.param({"key": "other"}, id="another key"),
        pytest.param({"kid": "k2"}, id="unknown key id"),
    ],
)
def test_tokens_that_lie(liar, lie):
    visit = Visit()
    if lie.get("key") == "other":
        lie = {**lie, "key": liar.other}
    # Times are seconds from the moment of the test, which may come long after this file was read.
    lie = {k: now() + v if k in ("exp", "iat") else v for k, v in lie.items()}
    liar.say(**{"nonce": visit.query["nonce"], **lie})
    answer = visit.come_back()
    assert answer.status_code == 403 and "argocd.token" not in answer.cookies
    assert not Account.objects.exclude(issuer="").exists()
    assert AuditEvent.objects.get(outcome="refused").actor == "sso:company"
    # What went wrong is for the trail, not for the page.
    assert b"token" not in answer.content.lower().replace(b"tokens.css", b"").replace(
        b"csrfmiddlewaretoken", b""
    )


def test_the_public_key_is_no_secret(liar):
    import hashlib
    import hmac

    visit = Visit()
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "k1"}).encode()).rstrip(b"=")
    claims = {
        "iss": liar.url,
        "sub": "admin",
        "aud": "hub",
        "iat": now(),
        "exp": now() + 300,
        "nonce": visit.query["nonce"],
    }
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    mark = base64.urlsafe_b64encode(
        hmac.digest(liar.public_pem(), head + b"." + body, hashlib.sha256)
    ).rstrip(b"=")
    liar.tokens = {"access_token": "x", "id_token": b".".join((head, body, mark)).decode()}
    assert visit.come_back().status_code == 403


@pytest.mark.parametrize(
    "tokens",
    [
        {},
        {"access_token": "x"},
        {"access_token": "x", "id_token": 7},
        {"id_token": "a.b.c"},
        {"error": "invalid_grant"},
    ],
)
def test_answers_without_a_token(liar, tokens):
    visit = Visit()
    liar.tokens = tokens
    assert visit.come_back().status_code == 403


def test_small_clock_differences_are_forgiven(liar):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"], exp=now() - 20, iat=now() - 400)
    assert is_in(visit.come_back())


def test_state_belongs_to_one_browser_and_one_sign_in(liar):
    visit, other = Visit(), Visit()
    liar.say(nonce=visit.query["nonce"])
    stolen = other.browser.get(
        "/sso/company/callback", {"code": "c", "state": visit.query["state"]}
    )
    assert stolen.status_code == 403
    assert is_in(visit.come_back())
    assert visit.come_back().status_code == 403
    assert Visit().come_back(state="").status_code == 403
    assert Visit().come_back(error="access_denied", code="").status_code == 403
    assert b"<script>" not in Visit().come_back(error="<script>alert(1)</script>").content


def test_an_answer_for_another_provider_is_not_taken(idle_hub, liar):
    register(idle_hub, {"issuer": liar.url, "clientID": "hub"}, slug="second")
    visit = Visit()
    liar.say(nonce=visit.query["nonce"])
    assert visit.come_back("second").status_code == 403


@pytest.mark.parametrize(
    ("claims", "groups"),
    [
        ({}, []),
        ({"groups": ""}, []),
        ({"groups": None}, []),
        ({"groups": [["a"], 1, None, "", " ", "g", "g"]}, ["g"]),
        ({"groups": {"a": 1}}, []),
        ({"groups": "one"}, ["one"]),
    ],
)
def test_malformed_groups(liar, claims, groups):
    visit = Visit()
    liar.say(nonce=visit.query["nonce"], **claims)
    assert is_in(visit.come_back())
    assert Account.objects.get(subject="u1").groups == groups


def test_userinfo_of_somebody_else(idle_hub, liar):
    register(idle_hub, {"issuer": liar.url, "clientID": "hub", "enableUserInfoGroups": True})
    for subject, fine in (("u2", False), ("u1", True)):
        visit = Visit()
        liar.info = {"sub": subject, "groups": ["g"]}
        liar.say(nonce=visit.query["nonce"])
        assert is_in(visit.come_back()) is fine


def test_more_groups_than_fit_into_a_token(idle_hub, liar):
    register(
        idle_hub, {"issuer": liar.url, "clientID": "hub", "groupsOverageURL": f"{liar.url}/groups"}
    )
    liar.replies["/groups"] = {"value": ["g1"], "@odata.nextLink": f"{liar.url}/more"}
    liar.replies["/more"] = {"value": ["g2"], "@odata.nextLink": "https://evil.example/steal"}
    for claims in (
        {"hasgroups": True},
        {
            "_claim_names": {"groups": "s"},
            "_claim_sources": {"s": {"endpoint": "https://evil.example"}},
        },
    ):
        visit = Visit()
        liar.say(nonce=visit.query["nonce"], **claims)
        assert is_in(visit.come_back())
        assert Account.objects.get(subject="u1").groups == ["g1", "g2"]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param((200, [b"{" + b'"a":1,' * 1000] * 400, {}), id="endless"),
        pytest.param(
            (302, {}, {"Location": "http://169.254.169.254/latest"}),
            id="sent to the metadata address",
        ),
        pytest.param((200, b"\xff\xfe not json", {}), id="not JSON"),
        pytest.param((200, [1], {}), id="no object"),
        pytest.param((500, {}, {}), id="broken"),
        pytest.param(
            (200, {"issuer": "https://other.example"}, {}), id="metadata of another issuer"
        ),
    ],
)
def test_hostile_discovery(idle_hub, liar, reply):
    liar.replies["/.well-known/openid-configuration"] = reply
    oidc._cache.clear()
    answer = Visit().answer
    assert answer.status_code == 403
    idle_hub.post("/api/v1/flotilla/sso/providers/company/test", status=400)


def test_a_private_certificate_needs_its_authority(idle_hub, tmp_path):
    pem = tmp_path / "pair.pem"
    pem.write_text(make_certificate())
    liar = Liar((str(pem),))
    authority = re.search(
        r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem.read_text(), re.DOTALL
    ).group()
    oidc._cache.clear()
    register(idle_hub, {"issuer": liar.url, "clientID": "hub"})
    assert Visit().answer.status_code == 403
    assert "certificate" in AuditEvent.objects.get(outcome="refused").detail["reason"].lower()
    register(idle_hub, {"issuer": liar.url, "clientID": "hub", "rootCA": authority})
    assert Visit().answer.status_code == 302
    liar.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"config": {"clientID": "x"}}, "issuer"),
        ({"config": {"issuer": "javascript:x", "clientID": "x"}}, "issuer"),
        ({"config": {"issuer": "https://169.254.169.254", "clientID": "x"}}, "does not connect"),
        ({"config": {"issuer": "https://localhost", "clientID": "x", "oops": 1}}, "unknown"),
        ({"config": {"issuer": "https://localhost", "clientID": "x", "rootCA": "x"}}, "PEM"),
        ({"config": {"issuer": "https://localhost", "clientID": 7}}, "must be of type"),
        ({"type": "ldap", "config": {}}, "oidc or saml"),
        ({"type": "saml", "config": {"entityID": "x"}}, "required"),
        (
            {"config": {"issuer": "https://localhost", "clientID": "x", "clockSkewSeconds": 9000}},
            "clockSkew",
        ),
        ({"config": []}, "object"),
        (
            {
                "type": "saml",
                "config": {"entityID": "x", "ssoURL": "https://x", "certificate": "nope"},
            },
            "PEM",
        ),
    ],
)
def test_settings_that_cannot_be(idle_hub, body, words):
    answer = idle_hub.put("/api/v1/flotilla/sso/providers/company", body, status=None)
    assert answer["code"] in (3, 14) and words in answer["message"]


def test_secrets_of_a_provider_stay_inside(idle_hub, liar):
    shown = idle_hub.get("/api/v1/flotilla/sso/providers")
    assert "CANARY" not in str(shown) and shown["items"][0]["hasSecret"]
    register(idle_hub, {"issuer": liar.url, "clientID": "hub2"})
    assert provider_named("company").config["clientSecret"] == "CANARY-secret"
    idle_hub.delete("/api/v1/flotilla/sso/providers/company")
    assert not IdentityProvider.objects.exists()
    assert "CANARY" not in str(list(AuditEvent.objects.values()))
    assert Visit().answer.status_code == 404


def test_providers_of_the_environment_are_not_changed_here(idle_hub, settings):
    settings.SSO_PROVIDERS = [
        {"id": "fixed", "name": "Fixed", "config": {"issuer": "https://localhost", "clientID": "x"}}
    ]
    assert [p["origin"] for p in idle_hub.get("/api/v1/flotilla/sso/providers")["items"]] == [
        "environment"
    ]
    assert (
        "HUB_SSO_PROVIDERS"
        in register(
            idle_hub, {"issuer": "https://localhost", "clientID": "y"}, slug="fixed", status=400
        )["message"]
    )
    idle_hub.delete("/api/v1/flotilla/sso/providers/fixed", status=400)
    assert idle_hub.get("/api/v1/settings", token="")["flotilla"]["providers"] == [
        {"id": "fixed", "name": "Fixed", "type": "oidc"}
    ]


# --- SAML ---


@pytest.fixture
def saml(idle_hub):
    provider = SAMLProvider()
    register(idle_hub, provider.config(), kind="saml")
    return provider


def test_saml_sign_in(saml):
    browser, request_id, acs = begin(saml)
    assert is_in(finish(browser, saml.response(request_id, acs, audience=AUDIENCE)))
    account = Account.objects.get(issuer="https://idp.example/saml")
    assert (account.subject, account.email, account.groups) == (
        "u-1",
        "dev@example.com",
        ["team-a"],
    )
    assert browser.get("/sso/saml/company/metadata/").status_code == 200


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"sign": "nothing"}, id="unsigned"),
        pytest.param({"sign": "response"}, id="only the envelope is signed"),
        pytest.param({"audience": "https://other.example"}, id="for another hub"),
        pytest.param({"issuer": "https://evil.example"}, id="another issuer"),
        pytest.param({"minutes": -5}, id="expired"),
        pytest.param({"person": {"subject": ""}}, id="no subject"),
    ],
)
def test_saml_answers_that_lie(saml, lie):
    browser, request_id, acs = begin(saml)
    answer = finish(browser, saml.response(request_id, acs, **{"audience": AUDIENCE, **lie}))
    assert answer.status_code == 403 and not is_in(answer)
    assert not Account.objects.exclude(issuer="").exists()


def test_saml_signed_by_another_key(saml):
    browser, request_id, acs = begin(saml)
    other = SAMLProvider()
    assert (
        finish(
            browser, saml.response(request_id, acs, audience=AUDIENCE, key=other.key)
        ).status_code
        == 403
    )


def test_saml_altered_and_wrapped(saml):
    browser, request_id, acs = begin(saml)
    good = base64.b64decode(saml.response(request_id, acs, audience=AUDIENCE)).decode()
    altered = good.replace("u-1", "u-2")
    assert finish(browser, base64.b64encode(altered.encode()).decode()).status_code == 403
    # Signature wrapping: an unsigned assertion of somebody else beside the signed one.
    browser, request_id, acs = begin(saml)
    good = base64.b64decode(saml.response(request_id, acs, audience=AUDIENCE)).decode()
    evil = base64.b64decode(
        saml.response(
            request_id, acs, audience=AUDIENCE, sign="nothing", person={"subject": "boss"}
        )
    ).decode()
    start, end = evil.index("<saml:Assertion"), evil.index("</samlp:Response>")
    for place in ("<saml:Assertion", "</samlp:Response>"):
        wrapped = good.replace(place, evil[start:end] + place, 1)
        assert finish(browser, base64.b64encode(wrapped.encode()).decode()).status_code == 403
    assert not Account.objects.filter(subject="boss").exists()


def test_saml_answers_are_good_once_and_only_when_asked_for(saml):
    browser, request_id, acs = begin(saml)
    response = saml.response(request_id, acs, audience=AUDIENCE)
    assert is_in(finish(browser, response))
    assert finish(browser, response).status_code == 403
    stranger = Client(HTTP_HOST="localhost")
    assert finish(stranger, saml.response(request_id, acs, audience=AUDIENCE)).status_code == 403
    assert finish(stranger, saml.response("", acs, audience=AUDIENCE)).status_code == 403


def test_saml_entities_are_not_resolved(saml):
    browser, request_id, acs = begin(saml)
    entity = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    answer = finish(
        browser,
        saml.response(
            request_id,
            acs,
            audience=AUDIENCE,
            entity=entity,
            person={"email": "&secret;"},
            sign="nothing",
        ),
    )
    assert answer.status_code == 403 and b"root:" not in answer.content
    assert "root:" not in str(list(AuditEvent.objects.values()))
    assert finish(browser, "no base64!").status_code == 403


def test_saml_relay_state_sends_nobody_elsewhere(idle_hub, saml):
    register(idle_hub, saml.config(allowIdPInitiated=True), kind="saml")
    for relay in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
    ):
        browser = Client(HTTP_HOST="localhost")
        acs = "http://localhost/sso/saml/company/acs/"
        response = saml.response("", acs, audience=AUDIENCE)
        answer = browser.post(
            "/sso/saml/company/acs/", {"SAMLResponse": response, "RelayState": relay}
        )
        answer = browser.get(answer["Location"])
        assert answer.status_code == 302 and answer["Location"] == "/"
