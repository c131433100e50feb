"""Stored render failures: an unchanged source is not rendered again before its retry time."""

from datetime import timedelta

from django.utils import timezone

from hub.engine.errors import RetryLater, Stalled
from hub.engine.retry import Backoff
from projects.models import RenderFailure
from projects.sources.git_remotes import FAILURE_BACKOFF

COSTLY = ("Timeout", "RendererDied", "OutputTooLarge")
COSTLY_BACKOFF = Backoff(timedelta(minutes=5), 3, timedelta(hours=6))
"""The retry delay after expensive failures, which would recur with unchanged files."""


def raise_stored_failure(key: str) -> bool:
    """Raise the stored failure of a render; if it is time to retry, return whether there is one.

    Raises: Stalled, RetryLater.
    """
    stored = RenderFailure.objects.filter(key=key).first()
    if stored is None:
        return False
    if stored.retry_at is None:
        raise Stalled(stored.reason, stored.message)
    wait = stored.retry_at - timezone.now()
    if wait > timedelta(0):
        raise RetryLater(stored.reason, stored.message, wait)
    return True


def record_failure(key: str, reason: str, message: str, *, retry: bool) -> None:
    """Store the failure of a render; without `retry`, it is kept until the source changes."""
    stored = RenderFailure.objects.filter(key=key).first()
    attempts = (stored.attempts if stored else 0) + 1
    backoff = COSTLY_BACKOFF if reason in COSTLY else FAILURE_BACKOFF
    now = timezone.now()
    RenderFailure.objects.update_or_create(
        key=key,
        defaults={
            "reason": reason,
            "message": message[:2000],
            "attempts": attempts,
            "retry_at": now + backoff.delay(attempts - 1) if retry else None,
            "at": now,
        },
    )


def delete_failure(key: str) -> None:
    """Delete the stored failure of a render that succeeded."""
    RenderFailure.objects.filter(key=key).delete()
