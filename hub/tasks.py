"""Celery tasks of the hub's ground: the trail is sealed and sent on, grants end, old rows go."""

from celery import shared_task
from django.core.management import call_command
from django.utils import timezone

from hub import cache, forward, groups, idempotency, roles, session, trail


@shared_task(name="hub.seal_trail")
def seal_trail() -> None:
    """Write what ended by itself, tie new events to the chain, send them on."""
    roles.close_grants()
    if trail.has_unsealed():
        trail.seal()
    forward.send()


@shared_task(name="hub.refresh_groups")
def refresh_groups() -> None:
    """Ask identity providers for the groups of who is signed in, at most once in their interval."""
    groups.refresh_due()


@shared_task(name="hub.clean_up")
def clean_up() -> None:
    """Seal what a long transaction left behind, sign, and remove what is kept no longer."""
    now = timezone.now()
    trail.seal(whole=True)
    trail.checkpoint()
    forward.send()
    trail.retain(now)
    session.forget_old(now)
    idempotency.forget_old()
    cache.forget_old()
    call_command("clearsessions")
