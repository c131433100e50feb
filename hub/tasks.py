"""Celery tasks of the hub's ground: the trail is sealed and sent on, grants end, old rows go."""

from celery import shared_task
from django.core.management import call_command
from django.utils import timezone

from hub.access import grants
from hub.audit import chain, forwarding
from hub.auth import cache, group_refresh, sessions
from hub.events.task_names import TaskName
from hub.rest import idempotency


@shared_task(name=TaskName.HUB_SEAL_TRAIL)
def seal_trail() -> None:
    """Write what ended by itself, tie new events to the chain, send them on."""
    grants.close_grants()
    if chain.has_unsealed():
        chain.seal()
    forwarding.send()


@shared_task(name=TaskName.HUB_REFRESH_GROUPS)
def refresh_groups() -> None:
    """Ask identity providers for the groups of who is signed in, at most once in their interval."""
    group_refresh.refresh_due()


@shared_task(name=TaskName.HUB_CLEAN_UP)
def clean_up() -> None:
    """Seal what a long transaction left behind, sign, and remove what is kept no longer."""
    now = timezone.now()
    chain.seal(whole=True)
    chain.checkpoint()
    forwarding.send()
    chain.retain(now)
    sessions.forget_old(now)
    idempotency.forget_old()
    cache.forget_old()
    call_command("clearsessions")
