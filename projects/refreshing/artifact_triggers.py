"""Refresh applications and sets when a chart repository or registry has a new version."""

import time
from collections.abc import Mapping
from typing import Any

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects import sources
from projects.models import Application, Published
from projects.refreshing.triggers import mark_refresh_due
from projects.sources.credentials import OWN_TRANSPORT, configured_for
from projects.sources.published_versions import listing_key
from projects.sources.versions import is_constraint

_SECONDS = 10.0
"""The time limit for resolving revisions here; the remaining applications are refreshed."""
Resolved = dict[tuple[str, str, str, str], str]


def propagate(pk: int) -> None:
    """Refresh the applications and sets whose version or digest may have changed.

    Only those whose resolved revision differs are refreshed; each revision is resolved once.
    """
    row = Published.objects.filter(pk=pk, moved_at__isnull=False).first()
    if row is None:
        return
    known: Resolved = {}
    until = time.monotonic() + _SECONDS
    due = [
        a.pk
        for a in _candidates(row.place)
        if time.monotonic() > until or _goes_its_own_way(a) or _is_moved(a, row.place, known)
    ]
    mark_refresh_due(due)
    wake(TaskName.APPSETS_ARTIFACT_MOVED, row.place, priority=2)
    Published.objects.filter(pk=pk, moved_at=row.moved_at).update(moved_at=None)


def _goes_its_own_way(application: Application) -> bool:
    """Return whether a source is read through transport options that its project configured.

    Such a server may be slow, and must not delay the new version for other projects.
    """
    urls = {str(s.get("repoURL") or "") for s in application.sources}
    return any(OWN_TRANSPORT in configured_for(url, application.project) for url in urls)


def reads(source: Mapping[str, Any], place: str) -> bool:
    """Return whether a change at a place may change a source's revision.

    Shapes: a place is the URL of an index, or the path of an OCI repository, with `:tag` if a tag
        moved.
    """
    if sources.kind_of(source) == "git":
        return False
    here = listing_key(str(source.get("repoURL") or ""), str(source.get("chart") or ""))
    target = str(source.get("targetRevision") or "")
    is_moving = is_constraint(target) or not target
    if source.get("chart"):
        return here == place and is_moving
    if is_moving:
        return place == here or place.startswith(f"{here}:")
    return place == f"{here}:{target}"


def _candidates(place: str) -> list[Application]:
    name, _, path = place.rpartition("/")[2].partition(":")[0], *place.partition("://")[1:]
    word = path or name
    now = timezone.now()
    # Applications that are due but not yet claimed will read the new version anyway.
    waiting = Q(refresh_at__lte=now) & (Q(claimed_until__isnull=True) | Q(claimed_until__lt=now))
    rows = Application.objects.alias(spec_text=Cast("spec", TextField()))
    rows = rows.filter(spec_text__icontains=word, deletion_requested_at__isnull=True)
    found = rows.exclude(waiting).only("spec", "project", "revisions").iterator(chunk_size=200)
    return [a for a in found if any(reads(s, place) for s in a.sources)]


def _is_moved(application: Application, place: str, known: Resolved) -> bool:
    if len(application.revisions) != len(application.sources):
        return True
    return any(
        reads(source, place) and _resolved(source, application.project, known) != revision
        for source, revision in zip(application.sources, application.revisions, strict=True)
    )


def _resolved(source: Mapping[str, Any], project: str, known: Resolved) -> str:
    """Return the revision of a source, empty if it cannot be resolved; the refresh reports why."""
    fields = (str(source.get(f) or "") for f in ("repoURL", "chart", "targetRevision"))
    url, chart, target = fields
    key = (project, url, chart, target)
    if key not in known:
        try:
            known[key] = sources.resolve(source, project)
        except (RetryLater, Stalled, Invalid, EngineError):
            known[key] = ""
    return known[key]
