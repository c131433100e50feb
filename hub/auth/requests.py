"""Who sends a request: the token it carries, the address it comes from, the reason it gives."""

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from hub.access.decisions import look_again
from hub.audit import trail
from hub.auth import throttling
from hub.base.request_heads import COOKIE, address_of, joined_cookie


def token_of(request: HttpRequest) -> str:
    """Return the token of a request: bearer header first, then the cookie, whole or in chunks."""
    header = request.headers.get("Authorization", "")
    if header.lower().startswith("bearer "):
        return header[7:].strip()
    return joined_cookie(request.COOKIES)


def set_token_cookie(answer: HttpResponseBase, token: str) -> None:
    """Give a browser its session."""
    answer.set_cookie(COOKIE, token, httponly=True, samesite="Lax", secure=settings.HTTPS, path="/")


def client_address(request: HttpRequest) -> str:
    """Return where a request comes from; behind HUB_PROXY_HOPS proxies, what the outermost one saw."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return address_of(str(request.META.get("REMOTE_ADDR", "")), forwarded)


def note_origin(request: HttpRequest) -> None:
    """Tell the trail where a request comes from and which reason it gives."""
    reason = request.headers.get("X-Flotilla-Reason", "") or request.GET.get("reason", "")
    ticket = request.headers.get("X-Flotilla-Ticket", "") or request.GET.get("ticket", "")
    throttling.scope.set(getattr(request, "scope", None))
    trail.begin(client_address(request), _one_line(reason), _one_line(ticket))
    look_again()


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())
