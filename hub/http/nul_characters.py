"""Refuse NUL characters in requests: PostgreSQL rejects every query that contains one."""

import asyncio
from collections.abc import Callable
from urllib.parse import unquote_plus

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from hub.base.request_heads import error_body
from hub.base.yaml_json import to_json

_FORM = "application/x-www-form-urlencoded"
_INVALID_ARGUMENT = 3


@sync_and_async_middleware
def refuse_nul_characters(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Respond with 400 when the path, a parameter or a form field contains a NUL character.

    JSON bodies are checked where they are parsed, see `hub.engine.strict_json`.
    """
    if asyncio.iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            response: HttpResponse = _refusal(request) or await get_response(request)
            return response

        return async_middleware  # type: ignore[return-value]

    def middleware(request: HttpRequest) -> HttpResponse:
        return _refusal(request) or get_response(request)

    return middleware


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Return the refusal of a REST request, None without a NUL.

    Raises: BadRequest for a page.
    """
    is_rest = request.path.startswith("/api/")
    texts = [request.path, unquote_plus(request.META.get("QUERY_STRING", ""))]
    if not is_rest and request.content_type == _FORM:
        texts += [text for name, found in request.POST.lists() for text in (name, *found)]
    if not any("\x00" in text for text in texts):
        return None
    if not is_rest:
        raise BadRequest("the path, a parameter or a field holds a NUL character")
    body = error_body(_INVALID_ARGUMENT, "the path or a parameter holds a NUL character")
    return HttpResponse(to_json(body), status=400, content_type="application/json")
