"""Celery tasks: a key in, one look. Losing one loses nothing: the sweep finds what is due."""

import re
from collections.abc import Sequence

from celery import shared_task
from django.db.models import Q
from django.utils import timezone

from appsets import generators
from appsets.models import ApplicationSet
from appsets.reconcile import reconcile
from appsets.sets import make_due
from hub.engine.permits import normal_url
from hub.stream import wake

BATCH = 300


@shared_task(name="appsets.reconcile", acks_late=True)
def reconcile_set(pk: int) -> None:
    """Bring a set's applications to what it says."""
    reconcile(pk)


@shared_task(name="appsets.sweep")
def sweep() -> None:
    """Find the sets that are due, and wake workers for them."""
    now = timezone.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    due = ApplicationSet.objects.filter(free, due_at__lte=now).order_by("due_at")
    for pk in due.values_list("pk", flat=True)[:BATCH]:
        wake("appsets.reconcile", pk, priority=6)


@shared_task(name="appsets.clusters_changed", acks_late=True)
def clusters_changed() -> None:
    """Look at the sets that ask for clusters."""
    rows = ApplicationSet.objects.only("pk", "spec")
    make_due([r.pk for r in rows if generators.uses(r.spec, "clusters")])


@shared_task(name="appsets.child_changed", acks_late=True)
def child_changed(namespace: str, name: str) -> None:
    """Look at the set of an application that somebody else changed, or that is gone."""
    make_due(list(ApplicationSet.objects.filter(namespace=namespace, name=name).values_list("pk", flat=True)))  # fmt: skip


@shared_task(name="appsets.pushed", acks_late=True)
def pushed(urls: Sequence[str]) -> None:
    """Look at the sets whose generators read a repository that was pushed to.

    Shapes: normal URLs without scheme and user.
    """
    make_due([r.pk for r in ApplicationSet.objects.only("pk", "spec") if set(urls) & _read_by(r)])


def _read_by(row: ApplicationSet) -> set[str]:
    blocks = generators.blocks(row.spec, "git")
    return {re.sub(r"^[a-z+]+://([^@/]*@)?", "", normal_url(str(b.get("repoURL") or ""))) for b in blocks}  # fmt: skip
