"""Headers of every response, and compression."""

import asyncio
import gzip
import io
import secrets
from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.utils.decorators import sync_and_async_middleware

_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'; "
    "form-action 'self'; "
    "img-src 'self' data:"
)
PROTECTION = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"sameorigin"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""The same for responses that do not pass Django."""


@sync_and_async_middleware
def security_headers(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Add the policy for scripts, frames and caches."""

    def add(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        policy = _POLICY
        if request.path.startswith("/identity/o/authorize"):
            # The form redirects to the command line that listens on this machine (RFC 8252).
            policy = policy.replace(
                "form-action 'self'", "form-action 'self' http://127.0.0.1:* http://localhost:*"
            )
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("X-Frame-Options", "sameorigin")
        response.headers.setdefault("X-XSS-Protection", "1")
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    if asyncio.iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            return add(request, await get_response(request))

        return async_middleware  # type: ignore[return-value]

    def middleware(request: HttpRequest) -> HttpResponse:
        return add(request, get_response(request))

    return middleware


_LEAST_BYTES = 1000
_HEAVY_BYTES = 64 * 1024
_TEXTS = ("application/json", "text/", "image/svg", "application/javascript", "application/vnd.oai")


@sync_and_async_middleware
def compress(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Compress responses for clients that accept it; streams stay uncompressed."""
    if asyncio.iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            response: HttpResponse = await get_response(request)
            if not _may_shrink(request, response):
                return response
            if len(response.content) > _HEAVY_BYTES:
                await sync_to_async(_shrink, thread_sensitive=False)(response)
            else:
                _shrink(response)
            return response

        return async_middleware  # type: ignore[return-value]

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        if _may_shrink(request, response):
            _shrink(response)
        return response

    return middleware


def _may_shrink(request: HttpRequest, response: HttpResponse) -> bool:
    if (
        response.streaming
        or len(response.content) < _LEAST_BYTES
        or response.has_header("Content-Encoding")
    ):
        return False
    if not response.headers.get("Content-Type", "").startswith(_TEXTS):
        return False
    patch_vary_headers(response, ("Accept-Encoding",))
    return "gzip" in request.headers.get("Accept-Encoding", "")


def _shrink(response: HttpResponse) -> None:
    buffer = io.BytesIO()
    # A name of random length hides how well attacker-chosen text in the page compresses with a
    # secret (BREACH).
    name = "a" * secrets.randbelow(100)
    with gzip.GzipFile(filename=name, mode="wb", compresslevel=1, fileobj=buffer, mtime=0) as file:
        file.write(response.content)
    response.content = buffer.getvalue()
    response.headers["Content-Length"] = str(len(response.content))
    response.headers["Content-Encoding"] = "gzip"
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        response.headers["ETag"] = f"W/{tag}"
