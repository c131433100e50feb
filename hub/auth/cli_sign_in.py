"""The hub as the OpenID provider of its own command line: authorization code and device code."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from allauth.core.internal import ratelimit
from allauth.idp.oidc import views
from allauth.idp.oidc.adapter import DefaultOIDCAdapter
from allauth.idp.oidc.internal.oauthlib import device_codes
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from hub.auth.requests import client_address
from hub.base.crypto import seal, unseal
from hub.base.external_url import absolute
from hub.models import Account, Setting, setting

CLI_CLIENT = "flotilla-cli"
CLI_PORTS = (8085, 8086, 8087, 8088, 8089)
CLI_ADDRESSES = tuple(f"http://127.0.0.1:{port}/auth/callback" for port in CLI_PORTS)
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CODE_SECONDS = 300
"""The maximum time between a device's code and its token."""
_SHOWN_AGENT = 120


class OIDCAdapter(DefaultOIDCAdapter):
    """Claims about an account, for the hub's own command line only."""

    def get_issuer(self) -> str:
        """Return the hub's address."""
        return absolute(self.request, "").rstrip("/") or str(
            self.request.build_absolute_uri("/")
        ).rstrip("/")

    def list_private_keys(self, **kwargs: Any) -> Any:
        """Return the hub's signing key, created on first use and sealed in the database."""
        del kwargs
        from allauth.idp.oidc.models import PrivateKey

        return [PrivateKey(pem=_provider_key())]

    def get_claims(
        self,
        purpose: Any,
        user: Account,
        client: Any,
        scopes: Any,
        email: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return an account's claims, as policies name it."""
        del purpose, client, email, kwargs
        claims: dict[str, Any] = {"sub": user.name}
        if "profile" in scopes:
            claims |= {"preferred_username": user.shown_name, "groups": list(user.groups)}
        return claims

    def populate_server_metadata(self, metadata: dict[str, Any]) -> None:
        """Leave out the endpoints that this provider does not serve."""
        metadata.pop("end_session_endpoint", None)


def cli_client() -> str:
    """Return the client id of the command line; the client is created on first use."""
    from allauth.idp.oidc.models import Client

    kinds = (Client.GrantType.AUTHORIZATION_CODE, Client.GrantType.DEVICE_CODE)
    Client.objects.get_or_create(
        id=CLI_CLIENT,
        defaults={
            "name": "the flotilla command line",
            "type": Client.Type.PUBLIC,
            "scopes": "openid\nprofile",
            "default_scopes": "openid",
            "grant_types": "\n".join(kinds),
            "redirect_uris": "\n".join(CLI_ADDRESSES),
            "response_types": "code",
        },
    )
    return CLI_CLIENT


def _provider_key() -> str:
    found = setting("oidc_key")
    if not found:
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        found = Setting.objects.get_or_create(name="oidc_key", defaults={"value": seal(pem).hex()})[
            0
        ].value
    return unseal(bytes.fromhex(found)).decode()


@csrf_exempt
@require_http_methods(["GET", "POST"])
def authorize(request: HttpRequest) -> HttpResponse:
    """Ask whether the command line of this machine may sign in; the view itself checks its form."""
    if request.method == "GET" and request.user.is_authenticated and not _is_exact(request):
        return render(request, "idp/oidc/error.html", status=400)
    answer: HttpResponse = views.authorization(request)
    where = parse_qs(urlsplit(answer.headers.get("Location", "")).query)
    if code := where.get("code"):
        _approve(request.user, code[0])
    return answer


def _is_exact(request: HttpRequest) -> bool:
    # The library compares redirect URIs without their queries, and accepts a plain code challenge.
    query = request.GET
    return (
        all(len(values) == 1 for _name, values in query.lists())
        and query.get("redirect_uri") in CLI_ADDRESSES
        and query.get("code_challenge_method") == "S256"
    )


@csrf_exempt
@require_POST
def begin_device(request: HttpRequest) -> HttpResponse:
    """Issue a device code, and keep the requesting device for the approval page."""
    if not ratelimit.consume(request, app="allauth.idp.oidc", action="device_code"):
        return JsonResponse({"error": "slow_down"}, status=429)
    answer = _answered(views.device_code, request)
    if answer.status_code == 200:
        agent = "".join(c for c in request.headers.get("User-Agent", "") if c.isprintable())
        requested = {
            "address": client_address(request),
            "agent": agent[:_SHOWN_AGENT],
            "at": timezone.now().isoformat(),
        }
        cache.set(_request_key(_user_code(answer)), requested, timeout=CODE_SECONDS)
    return answer


def _user_code(answer: HttpResponse) -> str:
    import json

    return str(json.loads(answer.content)["user_code"])


def _request_key(user_code: str) -> str:
    return f"device requested {user_code.lower()}"


@require_http_methods(["GET", "POST"])
def device(request: HttpRequest) -> HttpResponse:
    """Ask whether a device may sign in as the current account.

    Unlike the view that it wraps, it checks the CSRF token: a page of another site could approve.
    """
    code = request.GET.get("code", "")
    requested = cache.get(_request_key(code)) if code else None
    if isinstance(requested, Mapping):
        at = parse_datetime(str(requested["at"]))
        request.device = {**requested, "at": at}  # type: ignore[attr-defined]
    number = _device_code(code) if request.method == "POST" else ""
    answer: HttpResponse = views.device_authorization(request)
    if number and _granted_by(number) == request.user.pk:
        _approve(request.user, number)
    return answer


def _device_code(user_code: str) -> str:
    return str(cache.get(device_codes.cache_user_code_key(user_code)) or "")


def _granted_by(device_code: str) -> int | None:
    """Return the account that approved a device, None before it is approved."""
    data = cache.get(device_codes.cache_device_code_key(device_code))
    if not isinstance(data, Mapping) or data.get("granted") is not True:
        return None
    return int(data["user"])


@csrf_exempt
@require_POST
def token(request: HttpRequest) -> HttpResponse:
    """Exchange an approved code for a token, if its owner's password is still the same."""
    error = _refusal(request)
    if error:
        return JsonResponse({"error": error}, status=400)
    return _answered(views.token, request)


def _answered(view: Callable[[HttpRequest], HttpResponse], request: HttpRequest) -> HttpResponse:
    """Return the answer of a view, with RFC 8707's error for a `resource` that is not a URL."""
    try:
        return view(request)
    except ValidationError:
        return JsonResponse({"error": "invalid_target"}, status=400)


_CODE_OF = {"authorization_code": "code", DEVICE_GRANT: "device_code"}
"""The field with the code or token, by grant type; other grant types are refused."""


def _refusal(request: HttpRequest) -> str:
    """Return an error code, or an empty text if the library may continue.

    It is the one check of all grants.
    """
    # RFC 6749, 3.2: parameters must not repeat. Parsers disagree on which one they use.
    if request.GET or any(len(values) != 1 for _name, values in request.POST.lists()):
        return "invalid_request"
    field = _CODE_OF.get(request.POST.get("grant_type", ""))
    if field is None:
        return "unsupported_grant_type"
    if any(other in request.POST for other in _CODE_OF.values() if other != field):
        return "invalid_request"
    code = request.POST.get(field, "")
    if not code:
        return "invalid_request"
    is_device = field == "device_code"
    if (is_device and _granted_by(code) is None) or _is_approved(code):
        return ""
    # A device that polls at the moment of the approval has to poll again.
    is_early = is_device and cache.get(_approval_key(code)) is None
    return "authorization_pending" if is_early else "invalid_grant"


def _approval_key(code: str) -> str:
    return f"device approved {code}"


def _approve(account: Any, code: str) -> None:
    """Bind a code to its owner's current password: a new password invalidates it."""
    value = {"account": account.pk, "generation": str(account.token_generation)}
    cache.set(_approval_key(code), value, timeout=CODE_SECONDS)


def _is_approved(code: str) -> bool:
    approval = cache.get(_approval_key(code))
    if not isinstance(approval, Mapping):
        return False
    account = Account.objects.filter(
        pk=approval["account"], token_generation=approval["generation"]
    ).first()
    return account is not None and account.may_sign_in
