"""Release a request's database connection before its response is sent.

Responses may be slow (slow readers, delays after wrong guesses), and connections are scarce.
"""

import asyncio
from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def release_database(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Close a connection that is not kept, in the request's thread, after the response."""
    if asyncio.iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            response: HttpResponse = await get_response(request)
            await sync_to_async(close_old_connections)()
            return response

        return async_middleware  # type: ignore[return-value]

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        close_old_connections()
        return response

    return middleware
