"""A failed sign-in by a provider: its page, log line and event."""

import logging

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from hub.audit import trail
from hub.auth import throttling
from hub.auth.requests import note_origin

log = logging.getLogger(__name__)


def refuse(request: HttpRequest, slug: str, error: Exception) -> HttpResponse:
    """Return the page of a failed sign-in: the reason is in the trail and the log only."""
    note_origin(request)
    log.warning("sign-in by %s failed: %s", slug, error)
    if throttling.may_record_refusal(timezone.now()):
        trail.record_refusal(f"sso:{slug}"[:150], "login", "session", slug, reason=str(error)[:500])
    return render(request, "account/sso_failed.html", {"provider": slug}, status=403)
