"""One look at what changed for all sockets of this process: each row is read and drawn once, however many watch it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.db.models import prefetch_related_objects

from hub.engine.scopes import Where
from hub.models import Tombstone, current_version
from projects.api.streams import Waiter
from projects.models import Application
from projects.pages.rows import render_row, render_tile, row_of

log = logging.getLogger(__name__)

MOST = 2000


@dataclass(frozen=True, slots=True)
class Change:
    """An application that changed, or is gone."""

    pk: int
    version: int
    rbac_object: str
    where: Where | None
    row: str
    tile: str
    gone: bool = False


Listener = Callable[[int, list[Change]], None]


class Feed:
    """Reads changes while somebody listens."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, listener: Listener) -> None:
        """Tell a listener of every change, from the loop that runs now."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Another loop than before: that one's task is gone with it.
            self._listeners, self._task, self._loop = set(), None, loop
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    def leave(self, listener: Listener) -> None:
        """Tell a listener no more; the last one ends the reading."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        waiter, version = Waiter(), -1
        try:
            while True:
                try:
                    version, changes = await sync_to_async(changes_since)(version)
                except DatabaseError:
                    log.warning(
                        "the database did not answer; pages hear of it later", exc_info=True
                    )
                    changes = []
                for listener in list(self._listeners) if changes else ():
                    listener(version, changes)
                await waiter.wait()
        finally:
            waiter.close()


def changes_since(version: int) -> tuple[int, list[Change]]:
    """Return the newest version and what changed since another one, each drawn once; -1 asks for the version alone."""
    now = current_version()
    if now <= version or version < 0:
        return now, []
    rows = list(
        Application.objects.filter(resource_version__gt=version).select_related("cluster", "operation").defer("inputs", "compared_to")
        .order_by("resource_version")[:MOST]
    )  # fmt: skip
    if len(rows) == MOST:
        # The rest comes with the next look.
        now = rows[-1].resource_version
    prefetch_related_objects(rows, "remotes")
    found = [change for row in rows if (change := _change(row)) is not None]
    for stone in Tombstone.objects.filter(
        kind="Application", resource_version__gt=version, resource_version__lte=now
    ):
        place = Application(namespace=stone.namespace, name=stone.name, project=stone.project)
        found.append(Change(0, stone.resource_version, place.rbac_object, None, "", "", gone=True))
    return now, found


def _change(application: Application) -> Change | None:
    try:
        row = row_of(application)
        drawn = render_row(row), render_tile(row)
    except Exception:  # one odd application must not keep what others do from every page
        log.exception("a row cannot be drawn", extra={"application": application.qualified_name})
        return None
    return Change(
        application.pk, application.resource_version, application.rbac_object, application.where, *drawn
    )  # fmt: skip


FEED = Feed()


def as_message(version: int, **told: Any) -> dict[str, Any]:
    """Return what a page is told."""
    return {"version": version, **{k: v for k, v in told.items() if v}}
