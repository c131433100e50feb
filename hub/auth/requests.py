"""A request's token, client address and reason."""

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from hub.access.decisions import reload_policies
from hub.audit import trail
from hub.auth import throttling
from hub.base.request_heads import COOKIE, address_of, joined_cookie


def token_of(request: HttpRequest) -> str:
    """Return the token of a request: the bearer header, or the cookie, whole or in chunks."""
    header = request.headers.get("Authorization", "")
    if header.lower().startswith("bearer "):
        return header[7:].strip()
    return joined_cookie(request.COOKIES)


def set_token_cookie(answer: HttpResponseBase, token: str) -> None:
    """Set the session cookie of a browser."""
    answer.set_cookie(COOKIE, token, httponly=True, samesite="Lax", secure=settings.HTTPS, path="/")


def client_address(request: HttpRequest) -> str:
    """Return the client address of a request, as seen by the outermost trusted proxy."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return address_of(str(request.META.get("REMOTE_ADDR", "")), forwarded)


def note_origin(request: HttpRequest) -> None:
    """Give the trail the origin and the reason of a request."""
    reason = request.headers.get("X-Flotilla-Reason", "") or request.GET.get("reason", "")
    ticket = request.headers.get("X-Flotilla-Ticket", "") or request.GET.get("ticket", "")
    throttling.scope.set(getattr(request, "scope", None))
    trail.begin(client_address(request), _one_line(reason), _one_line(ticket))
    reload_policies()


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())
