"""The versions last seen in chart repositories and registries, to notify other processes.

After one process fetches an index or a list of tags, other processes must not continue with older
data. A change is stored with its time; workers then enqueue the affected applications.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from hub.engine.project_restrictions import normal_url
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects.models import Published
from projects.sources.credentials import reader_name


def listing_key(url: str, chart: str = "") -> str:
    """Return the key of a list of versions: an index URL, or a registry's `host/path`."""
    plain = url.lower().removeprefix("oci://").rstrip("/")
    if "://" in plain:
        return normal_url(url)
    return f"{plain}/{chart.lower()}" if chart else plain


def change_count(place: str) -> int:
    """Return a counter that increases with each change, to invalidate cached lists."""
    found = Published.objects.filter(place=place).aggregate(total=Sum("moves"))["total"]
    return int(found or 0)


def record_versions(place: str, credentials: Mapping[str, Any], facts: Iterable[str]) -> None:
    """Store the response of a server; if it changed, enqueue the applications that use it.

    Shapes: `facts` may be in any order.
    """
    digest = hashlib.sha256("\0".join(sorted(facts)).encode()).hexdigest()
    reader = reader_name(credentials)
    known = Published.objects.filter(place=place, reader=reader).first()
    if known is not None and known.digest == digest:
        return
    with transaction.atomic():
        row, _ = Published.objects.select_for_update().get_or_create(place=place, reader=reader)
        if row.digest == digest:
            return
        row.digest, row.moves, row.moved_at = digest, row.moves + 1, timezone.now()
        row.save()
        wake(TaskName.PROJECTS_PUBLISHED, row.pk, priority=1)
