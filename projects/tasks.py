"""Celery tasks: a key in, one operation. Losing one loses nothing: the sweep finds what is due."""

import logging
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.db.models import Q
from django.utils import timezone

from clusters import schemas
from hub.engine.errors import RetryLater, Stalled
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects import (
    artifact_triggers,
    deletion,
    dry_runs,
    refresh,
    resource_changes,
    sync,
    triggers,
)
from projects.models import (
    Application,
    ApplicationEvent,
    GitRemote,
    Operation,
    Published,
    RenderedManifests,
    RenderFailure,
    StatusChange,
)
from projects.sources import git

log = logging.getLogger(__name__)

BATCH = 300


@shared_task(name=TaskName.PROJECTS_REFRESH, acks_late=True)
def refresh_application(pk: int) -> None:
    """Look at an application, or take its deletion on."""
    if Application.objects.filter(pk=pk, deletion_requested_at__isnull=False).exists():
        deletion.delete_application(pk)
    else:
        refresh.refresh(pk)


@shared_task(name=TaskName.PROJECTS_SYNC, acks_late=True)
def sync_operation(pk: int) -> None:
    """Take an operation on."""
    sync.step(pk)


@shared_task(name=TaskName.PROJECTS_DELETE_APPLICATION, acks_late=True)
def delete_application(pk: int) -> None:
    """Take the deletion of an application on."""
    deletion.delete_application(pk)


@shared_task(name=TaskName.PROJECTS_POLL, acks_late=True)
def poll(pk: int) -> None:
    """Ask a repository for its refs."""
    triggers.poll_remote(pk)


@shared_task(name=TaskName.PROJECTS_HAND_ON, acks_late=True)
def hand_on(pk: int) -> None:
    """Make due what reads refs of a repository that moved."""
    triggers.propagate_moves(pk)


@shared_task(name=TaskName.PROJECTS_PUBLISHED, acks_late=True)
def published(pk: int) -> None:
    """Make due what reads a chart repository or registry that has something new."""
    artifact_triggers.propagate(pk)


@shared_task(name=TaskName.PROJECTS_LIVE_CHANGED, acks_late=True)
def live_changed() -> None:
    """Hand changes of live resources on."""
    triggers.live_changed()


@shared_task(name=TaskName.PROJECTS_CAPABILITIES_CHANGED, acks_late=True)
def capabilities_changed(pk: int) -> None:
    """Render again what asked for a cluster's versions, now that they are others."""
    triggers.capabilities_changed(pk)


@shared_task(name=TaskName.PROJECTS_CLUSTER_CHANGED, acks_late=True)
def cluster_changed(pk: int) -> None:
    """Look at the applications of a cluster."""
    triggers.cluster_changed(pk)


@shared_task(name=TaskName.PROJECTS_RESOLVE_CHANGE, acks_late=True)
def resolve_change(pk: int) -> None:
    """Read the live object of a change whose outcome nobody knows."""
    resource_changes.resolve(pk)


@shared_task(name=TaskName.PROJECTS_SWEEP)
def sweep() -> None:
    """Find everything that is due, and wake workers for it."""
    now = timezone.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    due: list[tuple[TaskName, Any]] = [
        (
            TaskName.PROJECTS_SYNC,
            Operation.objects.filter(free, phase__in=["Running", "Terminating"], due_at__lte=now),
        ),
        (TaskName.PROJECTS_POLL, GitRemote.objects.filter(free, due_at__lte=now)),
        (TaskName.PROJECTS_HAND_ON, GitRemote.objects.filter(free, moved_at__isnull=False)),
        (TaskName.PROJECTS_REFRESH, Application.objects.filter(free, refresh_at__lte=now)),
    ]
    due.append((TaskName.PROJECTS_PUBLISHED, Published.objects.filter(moved_at__isnull=False)))
    for name, query in due:
        for pk in query.order_by("pk").values_list("pk", flat=True)[:BATCH]:
            wake(name, pk, priority=6)
    wake_live()
    resource_changes.wake_unknown()
    wake(TaskName.HUB_SEAL_TRAIL, priority=8)
    wake(TaskName.HUB_REFRESH_GROUPS, priority=8)


def wake_live() -> None:
    """Wake a worker for changes of live resources whose hint was lost."""
    from clusters.models import LiveChange

    if LiveChange.objects.exists():
        wake(TaskName.PROJECTS_LIVE_CHANGED)


@shared_task(name=TaskName.PROJECTS_CLEAN_UP)
def clean_up() -> None:
    """Drop what nobody needs any more: rendered manifests of a month ago, old failures, tombstones, events."""
    from hub.models import forget_tombstones

    now = timezone.now()
    RenderedManifests.objects.filter(used_at__lt=now - timedelta(days=14)).delete()
    RenderFailure.objects.filter(at__lt=now - timedelta(days=1)).delete()
    dry_runs.forget_old()
    schemas.forget_old()
    forget_tombstones(now - timedelta(days=1))
    ApplicationEvent.objects.filter(at__lt=now - timedelta(days=7)).delete()
    StatusChange.objects.filter(at__lt=now - timedelta(days=45)).delete()
    wake(TaskName.HUB_CLEAN_UP, priority=9)
    wake(TaskName.APPSETS_CLEAN_UP, priority=9)
    for url in GitRemote.objects.values_list("url", flat=True):
        try:
            git.tidy(url)
        except (Stalled, RetryLater, OSError) as error:  # one repository keeps no other untidy
            log.warning("the copy of %s cannot be tidied: %s", url, error)


@shared_task(name=TaskName.CLUSTERS_CHANGED)
def cluster_registered(pk: int) -> None:
    """Bind and look at the applications that wait for a cluster."""
    from clusters.models import Cluster
    from clusters.watcher import claim_now

    claim_now()
    cluster = Cluster.objects.filter(pk=pk).first()
    if cluster is not None:
        triggers.bind_waiting(cluster)
        triggers.cluster_changed(pk)


@shared_task(name=TaskName.CLUSTERS_REMOVED)
def cluster_removed(pks: list[int]) -> None:
    """Look at the applications whose cluster was removed."""
    triggers.mark_due(pks)
