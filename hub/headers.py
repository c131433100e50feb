"""Headers that every answer carries."""

import asyncio
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'; form-action 'self'; "
    "img-src 'self' data:"
)


@sync_and_async_middleware
def security_headers(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Add the policy for scripts, frames and caches."""

    def add(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        policy = _POLICY
        if request.path.startswith("/identity/o/authorize"):
            # The form's answer goes on to the command line that waits on this machine (RFC 8252).
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
