"""Answers of a SAML provider that somebody altered, stole, kept or made up."""

import base64
import copy
import datetime as dt
import zlib
from urllib.parse import quote_plus

import pytest
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.utils import timezone
from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Names
from onelogin.saml2.utils import OneLogin_Saml2_Utils
from support.saml import ENTITY, SAMLProvider
from support.sso import AUDIENCE, begin, finish, is_in, register

from hub.auth import saml_views
from hub.auth.providers import all_providers
from hub.models import Account, AuditEvent, LoginSession
from hub.settings import one_of_each
from hub.tasks import clean_up

ACS = "http://localhost/sso/saml/company/acs/"
SLS = "http://localhost/sso/saml/company/sls/"
SHA1 = (Names.RSA_SHA1, Names.SHA1)


@pytest.fixture
def saml(idle_hub):
    provider = SAMLProvider()
    register(idle_hub, provider.config(), kind="saml")
    return provider


@pytest.fixture
def unasked(idle_hub, saml):
    """A provider whose answers may come unasked."""
    register(idle_hub, saml.config(allowIdPInitiated=True), kind="saml")
    return saml


def stranger():
    return Client(HTTP_HOST="localhost")


def changed(response, change):
    text = base64.b64decode(response).decode()
    altered = change(text)
    assert altered != text
    return base64.b64encode(altered.encode()).decode()


# --- What an answer must say of itself, though the provider signed it ---


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"audience": ""}, id="no audience"),
        pytest.param({"recipient": ""}, id="no recipient"),
        pytest.param(
            {"recipient": f"https://evil.example/?{ACS}"}, id="recipient that only holds this URL"
        ),
        pytest.param({"recipient": "https://evil.example/acs"}, id="another recipient"),
        pytest.param(
            {"destination": f"{ACS}evil"}, id="destination that only begins with this URL"
        ),
        pytest.param({"destination": "https://evil.example/"}, id="another destination"),
        pytest.param({"ends": ""}, id="confirmation without an end"),
        pytest.param({"ends": "2026-01-01T00:00:00Z"}, id="confirmation that has ended"),
        pytest.param({"not_before": 30}, id="not yet"),
        pytest.param({"minutes": -1}, id="no more"),
        pytest.param({"confirmed": "_another"}, id="made for another request"),
        pytest.param(
            {"confirmed": ""}, id="assertion that answers nothing in an envelope that does"
        ),
        pytest.param({"method": "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"}, id="no bearer"),
        pytest.param({"algorithms": SHA1}, id="SHA-1"),
        pytest.param({"person": {"subject": "a\u202eb"}}, id="subject that turns the writing"),
        pytest.param({"person": {"subject": "x" * 600}}, id="endless subject"),
    ],
)
def test_a_signed_answer_that_is_not_for_here_and_now(saml, said):
    browser, request_id, acs = begin(saml)
    answer = finish(browser, saml.response(request_id, acs, **{"audience": AUDIENCE, **said}))
    assert answer.status_code == 403 and not is_in(answer)
    assert AuditEvent.objects.get(outcome="refused").actor == "sso:company"
    assert not Account.objects.exclude(issuer="").exists()


@pytest.mark.parametrize("sign", ["assertion", "both"])
def test_a_good_answer(saml, sign):
    browser, request_id, acs = begin(saml)
    answer = finish(browser, saml.response(request_id, acs, audience=AUDIENCE, sign=sign))
    assert is_in(answer)


# --- Signature wrapping ---


def _evil(assertion, *, same_id):
    copied = copy.deepcopy(assertion)
    for mark in copied.findall("ds:Signature", Names.NSMAP):
        copied.remove(mark)
    if not same_id:
        copied.set("ID", "_evil")
    copied.find("saml:Subject/saml:NameID", Names.NSMAP).text = "boss"
    return copied


def _before(root, good, evil):
    root.insert(root.index(good), evil)


def _after(root, good, evil):
    root.append(evil)


def _around(root, good, evil):
    root.replace(good, evil)
    evil.append(good)


def _with_its_mark(root, good, evil):
    mark = good.find("ds:Signature", Names.NSMAP)
    good.remove(mark)
    evil.insert(1, mark)
    root.insert(root.index(good), evil)


def _inside_its_mark(root, good, evil):
    mark = good.find("ds:Signature", Names.NSMAP)
    good.remove(mark)
    evil.insert(1, mark)
    root.replace(good, evil)
    etree.SubElement(mark, f"{{{Names.NS_DS}}}Object").append(good)


def _in_extensions(root, good, evil):
    extensions = etree.Element(f"{{{Names.NS_SAMLP}}}Extensions")
    extensions.append(good)
    root.append(evil)
    root.insert(1, extensions)


def _evil_in_extensions(root, good, evil):
    extensions = etree.Element(f"{{{Names.NS_SAMLP}}}Extensions")
    extensions.append(evil)
    root.insert(1, extensions)


def _evil_in_the_mark(root, good, evil):
    mark = good.find("ds:Signature", Names.NSMAP)
    etree.SubElement(mark, f"{{{Names.NS_DS}}}Object").append(evil)


WRAPPINGS = [
    _before,
    _after,
    _around,
    _with_its_mark,
    _inside_its_mark,
    _in_extensions,
    _evil_in_extensions,
    _evil_in_the_mark,
]


@pytest.mark.parametrize("same_id", [False, True], ids=["another id", "the same id"])
@pytest.mark.parametrize("wrap", WRAPPINGS, ids=lambda wrap: wrap.__name__.strip("_"))
def test_a_signature_wrapped_around_another_account(saml, wrap, same_id):
    browser, request_id, acs = begin(saml)
    root = etree.fromstring(base64.b64decode(saml.response(request_id, acs, audience=AUDIENCE)))
    good = root.find("saml:Assertion", Names.NSMAP)
    wrap(root, good, _evil(good, same_id=same_id))
    answer = finish(browser, base64.b64encode(etree.tostring(root)).decode())
    assert not Account.objects.filter(subject="boss").exists()
    assert answer.status_code == 403 and not is_in(answer)


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_a_signed_envelope_wrapped_into_another(saml, place):
    browser, request_id, acs = begin(saml)
    signed = base64.b64decode(saml.response(request_id, acs, audience=AUDIENCE, sign="both"))
    good = etree.fromstring(signed)
    outer = copy.deepcopy(good)
    mark = outer.find("ds:Signature", Names.NSMAP)
    assertion = outer.find("saml:Assertion", Names.NSMAP)
    outer.replace(assertion, _evil(assertion, same_id=False))
    outer.set("ID", "_outer")
    (etree.SubElement(mark, f"{{{Names.NS_DS}}}Object") if place == "inside" else outer).append(
        good
    )
    answer = finish(browser, base64.b64encode(etree.tostring(outer)).decode())
    assert answer.status_code == 403
    assert not Account.objects.filter(subject="boss").exists()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("adm<!-- -->in@x.example", id="comment"),
        pytest.param("admin@x.example<?a b?>.evil", id="processing instruction"),
    ],
)
def test_a_name_that_is_cut_by_markup_is_read_whole(saml, name):
    browser, request_id, acs = begin(saml)
    finish(browser, saml.response(request_id, acs, audience=AUDIENCE, person={"subject": name}))
    found = Account.objects.exclude(issuer="").values_list("subject", flat=True)
    assert set(found) <= {"admin@x.example", "admin@x.example.evil"}
    assert "admin@x.example" not in found or "evil" not in name


def test_a_comment_put_in_after_the_signature_changes_no_name(saml):
    browser, request_id, acs = begin(saml)
    person = {"subject": "admin@x.example.evil"}
    response = saml.response(request_id, acs, audience=AUDIENCE, person=person)
    cut = changed(response, lambda t: t.replace("x.example.evil", "x.example<!-- -->.evil", 1))
    finish(browser, cut)
    assert not Account.objects.filter(subject="admin@x.example").exists()


@pytest.mark.parametrize(
    "document",
    [
        pytest.param('<!DOCTYPE x [<!ENTITY a "b">]>', id="entity"),
        pytest.param('<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">', id="foreign DTD"),
        pytest.param(
            (
                '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c '
                '"&b;&b;&b;&b;&b;&b;">]>'
            ),
            id="bomb",
        ),
    ],
)
def test_no_document_type_is_read(saml, document):
    browser, request_id, acs = begin(saml)
    response = saml.response(request_id, acs, audience=AUDIENCE, entity=document)
    assert finish(browser, response).status_code == 403


# --- Replay, stolen answers, answers of others ---


def test_an_unasked_answer_is_good_once(unasked):
    response = unasked.response("", ACS, audience=AUDIENCE)
    assert is_in(finish(stranger(), response))
    assert finish(stranger(), response).status_code == 403
    moved = changed(response, lambda t: t.replace('ID="_', 'ID="_a', 1))
    assert finish(stranger(), moved).status_code == 403
    assert LoginSession.objects.filter(method="sso:company").count() == 1


def test_an_asked_answer_does_not_become_an_unasked_one(unasked):
    """The envelope is not signed: without what it answers, a stolen answer would open any
    browser.
    """
    _victim, request_id, acs = begin(unasked)
    response = unasked.response(request_id, acs, audience=AUDIENCE)
    stolen = changed(response, lambda t: t.replace(f' InResponseTo="{request_id}"', "", 1))
    stolen = changed(stolen, lambda t: t.replace("<samlp:Status>", "<samlp:Status >", 1))
    assert finish(stranger(), stolen).status_code == 403


def test_a_stolen_answer_does_not_fit_another_sign_in(saml):
    _victim, request_id, acs = begin(saml)
    thief, own_id, _acs = begin(saml)
    response = saml.response(request_id, acs, audience=AUDIENCE)
    assert (
        finish(thief, changed(response, lambda t: t.replace(request_id, own_id, 1))).status_code
        == 403
    )


def test_answers_of_two_providers_are_not_mixed(idle_hub, saml):
    other = SAMLProvider()
    register(idle_hub, other.config(entityID="https://other.example"), slug="second", kind="saml")
    browser, request_id, _acs = begin(saml)
    there = "http://localhost/sso/saml/second/acs/"
    audience = AUDIENCE.replace("company", "second")
    own = other.response(request_id, there, audience=audience, issuer="https://other.example")
    assert finish(browser, own, slug="second").status_code == 403
    browser, request_id, acs = begin(saml)
    named = other.response(request_id, acs, audience=AUDIENCE)
    assert finish(browser, named).status_code == 403
    assert not Account.objects.exclude(issuer="").exists()


def test_two_certificates_cannot_speak_for_one_issuer(idle_hub, saml):
    other = SAMLProvider()
    for config, kind in (
        (other.config(), "saml"),
        (other.config(entityID=ENTITY + "/"), "saml"),
        ({"issuer": "https://localhost/idp", "clientID": "x"}, "oidc"),
    ):
        if kind == "oidc":
            register(idle_hub, saml.config(entityID="https://localhost/idp"), kind="saml")
        found = register(idle_hub, config, slug="second", kind=kind, status=400)
        assert "company" in found["message"]


@pytest.mark.parametrize("slug", ["role", "proj"])
def test_a_provider_is_not_named_as_policies_name_roles(idle_hub, saml, slug):
    assert (
        "roles"
        in register(
            idle_hub, saml.config(entityID="https://o"), slug=slug, kind="saml", status=400
        )["message"]
    )


def test_answers_are_small_and_posted(saml):
    browser = stranger()
    large = browser.post("/sso/saml/company/acs/", {"SAMLResponse": "A" * 600_000})
    assert large.status_code == 403
    assert browser.get("/sso/saml/company/acs/", {"SAMLResponse": "x"}).status_code == 405
    assert browser.post("/sso/saml/company/acs/", {}).status_code == 403
    assert (
        browser.post("/sso/saml/company/acs/?next=//evil", {"SAMLResponse": "x"}).status_code == 403
    )
    assert browser.post("/sso/saml/nobody/acs/", {"SAMLResponse": "x"}).status_code == 404
    assert "sessionid" not in browser.cookies and "flotilla.session" not in browser.cookies


# --- Signing out ---


def logout_request(saml, *, key=None, sign=True, subject="u-1", at=None, number="_l1", relay=""):
    """Return the query of a request to sign out, as a provider redirects a browser with it."""
    at = at or dt.datetime.now(dt.UTC)
    text = (
        f'<samlp:LogoutRequest xmlns:samlp="{Names.NS_SAMLP}" xmlns:saml="{Names.NS_SAML}" '
        f'ID="{number}" Version="2.0" '
        f'IssueInstant="{at:%Y-%m-%dT%H:%M:%SZ}" '
        f'Destination="{SLS}"><saml:Issuer>{ENTITY}</saml:Issuer>'
        f"<saml:NameID>{subject}</saml:NameID></samlp:LogoutRequest>"
    )
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = base64.b64encode(pack.compress(text.encode()) + pack.flush()).decode()
    query = f"SAMLRequest={quote_plus(packed)}"
    query += f"&RelayState={quote_plus(relay)}" if relay else ""
    if sign:
        query += f"&SigAlg={quote_plus(Names.RSA_SHA256)}"
        mark = OneLogin_Saml2_Utils.sign_binary(query, key or saml.key, algorithm=_sha256())
        query += f"&Signature={quote_plus(base64.b64encode(mark).decode())}"
    return query


def _sha256():
    import xmlsec

    return xmlsec.Transform.RSA_SHA256


@pytest.fixture
def signed_in(idle_hub, saml):
    register(idle_hub, saml.config(sloURL="https://idp.example/slo"), kind="saml")
    browser, request_id, acs = begin(saml)
    assert is_in(finish(browser, saml.response(request_id, acs, audience=AUDIENCE)))
    return browser


def open_sessions():
    return LoginSession.objects.filter(ended_at=None, account__subject="u-1").count()


def test_a_provider_ends_all_sessions_of_an_account(saml, signed_in):
    answer = signed_in.get(
        "/sso/saml/company/sls/?" + logout_request(saml, relay="https://evil.example")
    )
    assert answer.status_code == 302 and answer["Location"].startswith("https://idp.example/slo?")
    assert open_sessions() == 0 and signed_in.get("/account").status_code == 302


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"sign": False}, id="unsigned"),
        pytest.param({"key": "other"}, id="another key"),
        pytest.param({"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, id="of another day"),
    ],
)
def test_only_signed_requests_end_sessions(saml, signed_in, lie):
    if lie.get("key"):
        lie = {"key": SAMLProvider().key}
    answer = signed_in.get("/sso/saml/company/sls/?" + logout_request(saml, **lie))
    assert answer.status_code == 403 and open_sessions() == 1
    assert signed_in.get("/account").status_code == 200


def test_a_request_to_sign_out_is_good_once(saml, signed_in):
    query = logout_request(saml)
    assert signed_in.get("/sso/saml/company/sls/?" + query).status_code == 302
    browser, request_id, acs = begin(saml)
    assert is_in(finish(browser, saml.response(request_id, acs, audience=AUDIENCE)))
    assert stranger().get("/sso/saml/company/sls/?" + query).status_code == 403
    assert open_sessions() == 1


@pytest.mark.parametrize(
    "config", [{}, {"sloURL": "https://idp.example/slo"}], ids=["without sloURL", "with sloURL"]
)
@pytest.mark.parametrize(
    "query",
    [
        pytest.param("RelayState=https://evil.example", id="relay"),
        pytest.param("SAMLRequest=xx&RelayState=https://evil.example", id="garbage"),
        pytest.param("SAMLRequest=xx&SigAlg=a&Signature=b", id="signed garbage"),
        pytest.param("SAMLResponse=xx", id="answer"),
        pytest.param("SAMLRequest=PCFET0NUWVBFIHg%2BPHgvPg%3D%3D", id="document type"),
    ],
)
def test_the_page_to_sign_out_leads_nobody_away(idle_hub, saml, config, query):
    register(idle_hub, saml.config(**config), kind="saml")
    answer = stranger().get("/sso/saml/company/sls/?" + query)
    assert answer.status_code == (403 if config else 404)
    unsigned = logout_request(saml, sign=False, relay="https://evil.example")
    answer = stranger().get("/sso/saml/company/sls/?" + unsigned)
    assert answer.status_code == (403 if config else 404)


# --- Answers that nobody takes up, and two certificates in the environment ---


def test_unused_answers_are_removed(saml, monkeypatch):
    monkeypatch.setattr(saml_views, "MAX_PENDING", 5)
    for _ in range(8):
        stranger().post("/sso/saml/company/acs/", {"SAMLResponse": "A" * 10_000})
    assert Session.objects.count() == 5
    ends = Session.objects.latest("expire_date").expire_date
    assert ends <= timezone.now() + dt.timedelta(minutes=5)
    Session.objects.update(expire_date=timezone.now() - dt.timedelta(seconds=1))
    clean_up()
    assert not Session.objects.exists()


def test_answers_of_strangers_end_no_sign_in_of_a_page(saml, monkeypatch):
    monkeypatch.setattr(saml_views, "MAX_PENDING", 1)
    browser, request_id, acs = begin(saml)
    for _ in range(3):
        stranger().post("/sso/saml/company/acs/", {"SAMLResponse": "A"})
    assert is_in(finish(browser, saml.response(request_id, acs, audience=AUDIENCE)))


def entry(name, kind="saml", **config):
    return {"id": name, "type": kind, "config": config}


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (entry("second", entityID=ENTITY + "/"), "entityID of 'second' is that of another"),
        (entry("second", "oidc", issuer=ENTITY), "issuer of 'second' is that of another"),
        (entry("first", entityID="https://other.example"), "'first' is used twice"),
    ],
)
def test_the_environment_has_one_certificate_for_an_issuer(second, words):
    with pytest.raises(ImproperlyConfigured, match=words):
        one_of_each([entry("first", entityID=ENTITY), second])


def test_the_environment_may_have_two_clients_of_one_provider():
    both = [entry(name, "oidc", issuer=ENTITY) for name in ("first", "second")]
    assert one_of_each(both) == both


def test_a_stored_certificate_does_not_speak_for_an_issuer_of_the_environment(saml, settings):
    fixed = {"id": "fixed", "type": "saml", "config": SAMLProvider().config()}
    settings.SSO_PROVIDERS = [fixed]
    assert [p.slug for p in all_providers()] == ["fixed"]
    assert stranger().get("/sso/company/login").status_code == 404


@pytest.mark.parametrize(
    "url", ["https://[", "https://u@idp.example/", "javascript:alert(1)", "//x"]
)
def test_browsers_are_sent_to_a_url(idle_hub, url):
    said = register(idle_hub, SAMLProvider().config(ssoURL=url), kind="saml", status=400)
    assert said["message"].startswith("config.ssoURL must be a URL")
