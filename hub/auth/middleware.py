"""Sets the user of pages from the hub's own session."""

import asyncio
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import logout as end_browser_session
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from hub.access.decisions import caller_of
from hub.audit import trail
from hub.auth.requests import note_origin, token_of
from hub.auth.verification import verify
from hub.engine.errors import Unauthenticated

STRANGER_SECONDS = 900
"""How long an anonymous browser session is kept: anybody can begin any number of them."""


@sync_and_async_middleware
def live_session(get_response: Any) -> Any:
    """Set the user of pages from the hub's own session, so that it ends everywhere at once."""

    def bind(request: HttpRequest) -> None:
        if request.path.startswith(("/api/", "/static/", "/healthz", "/readyz", "/metrics")):
            return
        note_origin(request)
        try:
            token = token_of(request)
            caller = verify(token) if token else None
            # An API token must open no pages, or it could create a session that outlives it.
            account = caller.account if caller is not None and caller.session_id else None
        except Unauthenticated:
            account = None
        if request.user.is_authenticated and (account is None or request.user.pk != account.pk):
            end_browser_session(request)
        if account is not None and not request.user.is_authenticated:
            request.user = account
        if account is not None:
            trail.who.set(caller_of(account).as_record())
            if request.path.startswith("/account/2fa/") and not account.is_local:
                # Their provider asks for second factors.
                raise Http404

    if asyncio.iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponse:
            await sync_to_async(bind)(request)
            answer: HttpResponse = await get_response(request)
            _shorten(request)
            return answer

        return asynchronous

    def middleware(request: HttpRequest) -> HttpResponse:
        bind(request)
        answer: HttpResponse = get_response(request)
        _shorten(request)
        return answer

    return middleware


def _shorten(request: HttpRequest) -> None:
    """Keep an anonymous browser session only as long as a sign-in takes."""
    session = request.session
    if session.modified and not session.is_empty() and not request.user.is_authenticated:
        session.set_expiry(STRANGER_SECONDS)
