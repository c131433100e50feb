"""Refuse NUL characters in what a page is asked: no field holds one, and PostgreSQL refuses the whole query."""

import asyncio
from collections.abc import Callable
from urllib.parse import unquote_plus

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

_FORM = "application/x-www-form-urlencoded"


@sync_and_async_middleware
def refuse_zero_bytes(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Answer 400 where the path, a parameter or a field of a form holds a NUL character.

    REST answers for itself, with an error in JSON.
    """
    if asyncio.iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            _check(request)
            response: HttpResponse = await get_response(request)
            return response

        return async_middleware  # type: ignore[return-value]

    def middleware(request: HttpRequest) -> HttpResponse:
        _check(request)
        return get_response(request)

    return middleware


def _check(request: HttpRequest) -> None:
    if request.path.startswith("/api/"):
        return
    texts = [request.path, unquote_plus(request.META.get("QUERY_STRING", ""))]
    if request.content_type == _FORM:
        texts += [text for name, found in request.POST.lists() for text in (name, *found)]
    if any("\x00" in text for text in texts):
        raise BadRequest("the path, a parameter or a field holds a NUL character")
