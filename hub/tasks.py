"""Celery tasks of the app `hub`: seal and forward the trail, close grants, clean up."""

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
    """Record expired grants, append new events to the chain, forward them."""
    grants.close_grants()
    if chain.has_unsealed():
        chain.seal()
    forwarding.send()


@shared_task(name=TaskName.HUB_REFRESH_GROUPS)
def refresh_groups() -> None:
    """Refresh the groups of signed-in accounts, at most once per interval."""
    group_refresh.refresh_due()


@shared_task(name=TaskName.HUB_CLEAN_UP)
def clean_up() -> None:
    """Seal the events of long transactions, sign, and remove expired rows."""
    now = timezone.now()
    chain.seal(whole=True)
    chain.checkpoint()
    forwarding.send()
    chain.retain(now)
    sessions.forget_old(now)
    idempotency.forget_old()
    cache.forget_old()
    call_command("clearsessions")
