"""Endpoints of SAML 2.0: answers to a sign-in, and requests to sign an account out."""

import calendar
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from allauth.socialaccount.providers.saml.utils import build_auth
from allauth.socialaccount.providers.saml.views import acs, finish_acs
from django.contrib.auth import logout as end_browser_session
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from lxml import etree
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.logout_request import OneLogin_Saml2_Logout_Request
from onelogin.saml2.utils import OneLogin_Saml2_Utils
from onelogin.saml2.xmlparser import DTDForbidden, EntitiesForbidden

from hub.auth import saml
from hub.auth.oidc import SignInError
from hub.auth.providers import Provider, provider_named
from hub.auth.refusals import refuse
from hub.auth.requests import note_origin
from hub.auth.sessions import end_sessions
from hub.auth.social_adapter import app_of
from hub.base.request_heads import COOKIE
from hub.engine.errors import NotFound
from hub.engine.parsing import parse_digits
from hub.models import Account, LoginSession

# The library's errors about a malformed message.
UNREADABLE = (
    SignInError,
    OneLogin_Saml2_Error,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    DTDForbidden,
    EntitiesForbidden,
)
_FRESH_SECONDS = 600
MAX_PENDING = 500
"""The maximum number of responses between the two steps of a sign-in, over all accounts."""
_WAITING_SECONDS = 300
_WAITING_COOKIE = "saml-acs-session"


def _provider(slug: str) -> Provider:
    try:
        found = provider_named(slug)
    except NotFound as error:
        raise Http404 from error
    if found.protocol != "saml":
        raise Http404
    return found


@csrf_exempt
@require_POST
def answer(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Store a provider's SAML response from a browser's request.

    It is stored in the browser's session. The size is limited, as anyone can post here.
    """
    _provider(organization_slug)
    if _is_too_large(request):
        return refuse(request, organization_slug, SignInError("the answer is too large"))
    if request.GET or not request.POST.get("SAMLResponse"):
        return refuse(request, organization_slug, SignInError("there is no SAMLResponse"))
    # allauth stores the response here; without a limit, strangers could fill the database.
    store = SessionStore(request.COOKIES.get(_WAITING_COOKIE))
    store.set_expiry(_WAITING_SECONDS)
    request.saml_acs_session = store  # type: ignore[attr-defined]
    found: HttpResponse = acs(request, organization_slug=organization_slug)
    _forget_oldest()
    return found


def _forget_oldest() -> None:
    """Limit the number of pending responses: the oldest ones are abandoned."""
    waiting = Session.objects.filter(
        expire_date__lte=timezone.now() + timedelta(seconds=_WAITING_SECONDS)
    )
    old = waiting.order_by("-expire_date").values_list("pk", flat=True)[MAX_PENDING:]
    Session.objects.filter(pk__in=list(old[:1000])).delete()


def _is_too_large(request: HttpRequest) -> bool:
    length = parse_digits(request.META.get("CONTENT_LENGTH"))
    # Without a length the size of the body is not known before it is read.
    return length is None or length > saml.MAX_BYTES


@require_GET
def finish(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Sign in with a SAML response; an unreadable one is refused."""
    _provider(organization_slug)
    try:
        found: HttpResponse = finish_acs(request, organization_slug=organization_slug)
    except Http404:
        raise
    except UNREADABLE as error:
        return refuse(request, organization_slug, error)
    return found


@require_GET
def sign_out(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """End the sessions of an account that the provider signs out everywhere.

    Only a signed request is accepted, and the browser returns to the configured `sloURL` only.
    """
    provider = _provider(organization_slug)
    if not provider.config.get("sloURL"):
        raise Http404
    note_origin(request)
    try:
        back = _sign_out(request, provider)
    except UNREADABLE as error:
        return refuse(request, provider.slug, error)
    end_browser_session(request)
    found = HttpResponseRedirect(back)
    found.delete_cookie(COOKIE, path="/", samesite="Lax")
    return found


def _sign_out(request: HttpRequest, provider: Provider) -> str:
    query = request.GET
    if not (query.get("SAMLRequest") and query.get("Signature") and query.get("SigAlg")):
        raise SignInError(f"{provider.slug}: the request to sign out is not signed")
    app = app_of(provider)
    # The account in the message is signed out, whoever is signed in here.
    app.settings["advanced"]["want_message_signed"] = True
    auth = build_auth(request, app.get_provider(request))
    # Check the size before decompression: an anonymous message could expand to any size.
    if not auth.validate_request_signature(_get_data(query)):
        raise SignInError(f"{provider.slug}: the signature of the request to sign out does not fit")
    subject = _checked(auth, provider, query["SAMLRequest"])
    accounts = Account.objects.filter(issuer=provider.issuer, subject=subject)
    back = auth.process_slo(keep_local_session=True)
    if (
        auth.get_errors()
        or not isinstance(back, str)
        or not _is_of(back, provider.config["sloURL"])
    ):
        raise SignInError(f"{provider.slug}: {auth.get_last_error_reason() or 'no way back'}")
    end_sessions(
        LoginSession.objects.filter(account__in=accounts), f"sso:{provider.slug}", "logout"
    )
    return back


def _get_data(query: Any) -> dict[str, str]:
    return {name: query[name] for name in query}


def _checked(auth: Any, provider: Provider, message: str) -> str:
    """Return the subject of a signed request that is recent and not used before."""
    text = OneLogin_Saml2_Utils.decode_base64_and_inflate(message, ignore_zip=True)
    root = etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
    issued = OneLogin_Saml2_Utils.parse_SAML_to_time(str(root.get("IssueInstant")))
    now = calendar.timegm(time.gmtime())
    if abs(now - issued) > _FRESH_SECONDS or not root.get("ID"):
        raise SignInError(f"{provider.slug}: the sign-out request has an invalid time or no ID")
    here = auth.get_settings().get_sp_data()["singleLogoutService"]["url"]
    issuer = OneLogin_Saml2_Logout_Request.get_issuer(text)
    if issuer != provider.issuer or root.get("Destination") not in (None, here):
        raise SignInError(
            f"{provider.slug}: the sign-out request has the wrong issuer or destination"
        )
    saml.use_up_logout(provider, str(root.get("ID")))
    key = auth.get_settings().get_sp_key()
    return str(OneLogin_Saml2_Logout_Request.get_nameid(text, key) or "")


def _is_of(url: str, base: str) -> bool:
    return urlsplit(url)[:3] == urlsplit(base)[:3]
