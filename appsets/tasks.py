"""Celery tasks of application sets. A lost task is not a problem: the sweep finds what is due."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from celery import shared_task
from django.db.models import Q
from django.utils import timezone

from appsets.generators.registry import HOSTED
from appsets.generators.spec_queries import blocks, may_change_with_cluster, uses
from appsets.models import ApplicationSet, GeneratorAnswer, HostAnswer, SetEvent
from appsets.operations.reconcile import reconcile
from appsets.operations.rollouts import roll
from appsets.operations.sets import mark_sets_due, refresh
from appsets.scm import listing
from appsets.scm.host import forget_spenders
from hub.engine.repository_identity import repository_identity
from hub.events.fair_shares import owners_of, shares
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects.refreshing.artifact_triggers import reads
from projects.refreshing.triggers import bare_url, reads_moved, wants_tag

BATCH = 300


@shared_task(name=TaskName.APPSETS_RECONCILE, acks_late=True)
def reconcile_set(pk: int) -> None:
    """Reconcile a set."""
    project = ApplicationSet.objects.filter(pk=pk).values_list("project", flat=True).first()
    if project is None:
        return
    with shares.turn(TaskName.APPSETS_RECONCILE, pk, owners_of(project)) as may_run:
        if may_run:
            reconcile(pk)


@shared_task(name=TaskName.APPSETS_ROLL, acks_late=True)
def roll_set(pk: int) -> None:
    """Advance the rollout of a set."""
    roll(pk)


@shared_task(name=TaskName.APPSETS_SWEEP)
def sweep() -> None:
    """Enqueue the sets and rollouts that are due."""
    now = timezone.now()
    free = ApplicationSet.objects.filter(Q(claimed_until__isnull=True) | Q(claimed_until__lt=now))
    for task, column in (
        (TaskName.APPSETS_RECONCILE, "due_at"),
        (TaskName.APPSETS_ROLL, "rollout_due_at"),
    ):
        due = free.filter(**{f"{column}__lte": now}).order_by(column)
        for pk in due.values_list("pk", flat=True)[:BATCH]:
            wake(task, pk, priority=6)


@shared_task(name=TaskName.APPSETS_CLEAN_UP)
def clean_up() -> None:
    """Delete old answers of hosts and old events."""
    now = timezone.now()
    HostAnswer.objects.filter(at__lt=now - timedelta(days=7)).delete()
    GeneratorAnswer.objects.filter(at__lt=now - timedelta(days=90)).delete()
    SetEvent.objects.filter(at__lt=now - timedelta(days=2)).delete()
    forget_spenders()


@shared_task(name=TaskName.APPSETS_CLUSTERS_CHANGED, acks_late=True)
def clusters_changed(before: str = "", after: str = "") -> None:
    """Reconcile the sets that a change of a cluster may change.

    Shapes: the labels of the cluster as JSON, empty where it is not registered.
    """
    was, now = (orjson.loads(text) if text else None for text in (before, after))
    rows = ApplicationSet.objects.only("pk", "spec")
    mark_sets_due([r.pk for r in rows if may_change_with_cluster(r.spec, was, now)])


@shared_task(name=TaskName.APPSETS_CHILD_CHANGED, acks_late=True)
def child_changed(namespace: str, name: str) -> None:
    """Reconcile the set of an application that was changed by someone else or deleted."""
    mark_sets_due(
        list(
            ApplicationSet.objects.filter(namespace=namespace, name=name).values_list(
                "pk", flat=True
            )
        )
    )


@shared_task(name=TaskName.APPSETS_CHILD_MOVED, acks_late=True)
def child_moved(namespace: str, name: str) -> None:
    """Advance the rollout of the set of an application that made progress."""
    now = timezone.now()
    rolling = ApplicationSet.objects.filter(
        namespace=namespace, name=name, spec__strategy__type="RollingSync"
    )
    for pk in rolling.values_list("pk", flat=True):
        ApplicationSet.objects.filter(pk=pk).update(rollout_due_at=now)
        wake(TaskName.APPSETS_ROLL, pk, priority=3)


@shared_task(name=TaskName.APPSETS_CONFIGURATION_CHANGED, acks_late=True)
def configuration_changed() -> None:
    """Refresh all sets that ask hosts, because a secret or a ConfigMap changed."""
    rows = ApplicationSet.objects.only("pk", "spec")
    refresh([r.pk for r in rows if any(uses(r.spec, k) for k in HOSTED)])


@shared_task(name=TaskName.APPSETS_PULLS_CHANGED, acks_late=True)
def pulls_changed(places: Sequence[str]) -> None:
    """Refresh the sets of repositories whose pull requests changed.

    Shapes: places are `owner/repo` in lower case, as the event names the repository.
    """
    wanted = {p.lower() for p in places}
    rows = ApplicationSet.objects.only("pk", "spec")
    refresh(
        [
            r.pk
            for r in rows
            if any(listing.place(b) in ({""} | wanted) for b in blocks(r.spec, "pullRequest"))
        ]
    )


@shared_task(name=TaskName.APPSETS_PUSHED, acks_late=True)
def pushed(urls: Sequence[str]) -> None:
    """Reconcile the sets whose generators read a repository that was pushed to.

    Shapes: URLs as `repository_identity` returns them.
    """
    rows = list(ApplicationSet.objects.only("pk", "spec"))
    mark_sets_due([r.pk for r in rows if set(urls) & _read_by(r)])
    refresh([r.pk for r in rows if uses(r.spec, "plugin")])


@shared_task(name=TaskName.APPSETS_REFS_MOVED, acks_late=True)
def refs_moved(url: str, names: Sequence[str]) -> None:
    """Reconcile the sets whose generators read a ref that moved.

    Shapes: a normalized URL without scheme and user; full names of refs.
    """
    rows = ApplicationSet.objects.only("pk", "spec")
    mark_sets_due([r.pk for r in rows if any(_is_moved(b, url, names) for b in _git_blocks(r))])


def _is_moved(block: Mapping[str, Any], url: str, names: Sequence[str]) -> bool:
    is_read = bare_url(str(block.get("repoURL") or "")) == url
    return is_read and reads_moved(str(block.get("revision") or ""), names)


@shared_task(name=TaskName.APPSETS_ARTIFACT_MOVED, acks_late=True)
def artifact_moved(place: str) -> None:
    """Reconcile the sets whose generators read an artifact that moved."""
    rows = ApplicationSet.objects.only("pk", "spec")
    mark_sets_due([r.pk for r in rows if any(_reads(b, place) for b in blocks(r.spec, "oci"))])


def _reads(block: Mapping[str, Any], place: str) -> bool:
    return reads({"repoURL": block.get("repoURL"), "targetRevision": block.get("revision")}, place)


@shared_task(name=TaskName.APPSETS_PUBLISHED, acks_late=True)
def published(place: str, tag: str) -> None:
    """Reconcile the sets whose generators read an artifact that has a new tag.

    Shapes: `place` is `host/path` in lower case.
    """
    rows = ApplicationSet.objects.only("pk", "spec")
    sources = (
        (r.pk, {"repoURL": b.get("repoURL"), "targetRevision": b.get("revision")})
        for r in rows
        for b in blocks(r.spec, "oci")
    )
    mark_sets_due(sorted({pk for pk, source in sources if wants_tag(source, place, tag)}))


def _read_by(row: ApplicationSet) -> set[str]:
    return {repository_identity(str(b.get("repoURL") or "")) for b in _git_blocks(row)}


def _git_blocks(row: ApplicationSet) -> Iterator[Mapping[str, Any]]:
    return blocks(row.spec, "git")
