"""Celery tasks: each gets a primary key. A lost task is found again by the sweep."""

import logging
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.db.models import Q
from django.utils import timezone

from clusters import schemas
from clusters.models import Cluster, LiveChange
from hub.engine.errors import RetryLater, Stalled
from hub.events.fair_shares import owners_of, shares
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import forget_tombstones
from projects.destinations import dry_runs
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
from projects.operations import deletion, resource_changes, sync
from projects.refreshing import artifact_triggers, refresh, triggers
from projects.sources import git

log = logging.getLogger(__name__)

BATCH = 300


@shared_task(name=TaskName.PROJECTS_REFRESH, acks_late=True)
def refresh_application(pk: int) -> None:
    """Refresh an application, or continue its deletion."""
    _refresh_or_delete(TaskName.PROJECTS_REFRESH, pk)


@shared_task(name=TaskName.PROJECTS_DELETE_APPLICATION, acks_late=True)
def delete_application(pk: int) -> None:
    """Continue the deletion of an application."""
    _refresh_or_delete(TaskName.PROJECTS_DELETE_APPLICATION, pk)


def _refresh_or_delete(name: TaskName, pk: int) -> None:
    found = (
        Application.objects.filter(pk=pk)
        .values_list("project", "cluster_id", "deletion_requested_at")
        .first()
    )
    if found is None:
        return
    with shares.turn(name, pk, owners_of(*found[:2])) as may_run:
        if may_run and found[2] is not None:
            deletion.delete_application(pk)
        elif may_run and name == TaskName.PROJECTS_REFRESH:
            refresh.refresh(pk)


@shared_task(name=TaskName.PROJECTS_SYNC, acks_late=True)
def sync_operation(pk: int) -> None:
    """Continue an operation."""
    columns = ("application__project", "application__cluster_id")
    found = Operation.objects.filter(pk=pk).values_list(*columns).first()
    if found is None:
        return
    with shares.turn(TaskName.PROJECTS_SYNC, pk, owners_of(*found)) as may_run:
        if may_run:
            sync.step(pk)


@shared_task(name=TaskName.PROJECTS_POLL, acks_late=True)
def poll(pk: int) -> None:
    """Poll a git repository."""
    readers = Application.objects.filter(remotes=pk)
    projects = list(readers.order_by("project").values_list("project", flat=True).distinct()[:2])
    # What several projects read must not wait for the share of one of them.
    owners = owners_of("".join(projects)) if len(projects) < 2 else ["several projects"]
    with shares.turn(TaskName.PROJECTS_POLL, pk, owners) as may_run:
        if may_run:
            triggers.poll_remote(pk)


@shared_task(name=TaskName.PROJECTS_REFS_MOVED, acks_late=True)
def refs_moved(pk: int) -> None:
    """Refresh what reads moved refs of a repository."""
    triggers.propagate_moves(pk)


@shared_task(name=TaskName.PROJECTS_PUBLISHED, acks_late=True)
def published(pk: int) -> None:
    """Refresh what uses a chart repository or registry that has a new version."""
    artifact_triggers.propagate(pk)


@shared_task(name=TaskName.PROJECTS_LIVE_CHANGED, acks_late=True)
def live_changed() -> None:
    """Refresh the applications whose live resources changed."""
    triggers.live_changed()


@shared_task(name=TaskName.PROJECTS_CAPABILITIES_CHANGED, acks_late=True)
def capabilities_changed(pk: int) -> None:
    """Refresh what was rendered for the former API versions of a cluster."""
    triggers.capabilities_changed(pk)


@shared_task(name=TaskName.PROJECTS_CLUSTER_CHANGED, acks_late=True)
def cluster_changed(pk: int) -> None:
    """Refresh the applications of a cluster."""
    triggers.cluster_changed(pk)


@shared_task(name=TaskName.PROJECTS_RESOLVE_CHANGE, acks_late=True)
def resolve_change(pk: int) -> None:
    """Read the live resource of a change whose outcome is unknown."""
    resource_changes.resolve(pk)


@shared_task(name=TaskName.PROJECTS_SWEEP)
def sweep() -> None:
    """Wake workers for everything that is due."""
    now = timezone.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    due: list[tuple[TaskName, Any]] = [
        (
            TaskName.PROJECTS_SYNC,
            Operation.objects.filter(free, phase__in=["Running", "Terminating"], due_at__lte=now),
        ),
        (TaskName.PROJECTS_POLL, GitRemote.objects.filter(free, due_at__lte=now)),
        (TaskName.PROJECTS_REFS_MOVED, GitRemote.objects.filter(free, moved_at__isnull=False)),
        (TaskName.PROJECTS_REFRESH, Application.objects.filter(free, refresh_at__lte=now)),
    ]
    due.append((TaskName.PROJECTS_PUBLISHED, Published.objects.filter(moved_at__isnull=False)))
    for name, query in due:
        for pk in query.order_by("pk").values_list("pk", flat=True)[:BATCH]:
            wake(name, pk, priority=6)
    wake_live()
    resource_changes.wake_unresolved()
    wake(TaskName.HUB_SEAL_TRAIL, priority=8)
    wake(TaskName.HUB_REFRESH_GROUPS, priority=8)


def wake_live() -> None:
    """Wake a worker for changes of live resources whose message was lost."""
    if LiveChange.objects.exists():
        wake(TaskName.PROJECTS_LIVE_CHANGED)


@shared_task(name=TaskName.PROJECTS_CLEAN_UP)
def clean_up() -> None:
    """Delete what is no longer needed: old manifests, failures, tombstones and events."""
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
            git.repack(url)
        except (Stalled, RetryLater, OSError) as error:
            log.warning("the clone of %s cannot be cleaned up: %s", url, error)


@shared_task(name=TaskName.CLUSTERS_CHANGED)
def cluster_registered(pk: int) -> None:
    """Bind and refresh the applications that wait for a cluster."""
    from clusters.watching.watcher import claim_now

    claim_now()
    cluster = Cluster.objects.filter(pk=pk).first()
    if cluster is not None:
        triggers.bind_waiting(cluster)
        triggers.cluster_changed(pk)


@shared_task(name=TaskName.CLUSTERS_REMOVED)
def cluster_removed(pks: list[int]) -> None:
    """Refresh the applications whose cluster was removed."""
    triggers.mark_refresh_due(pks)
