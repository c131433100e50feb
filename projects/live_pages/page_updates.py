"""Publish changes to the pages that are open in this process.

To add a page with live parts, see the package, `projects.live_pages`.
Each changed row is read once, rendered once, and checked once for readers with equal rights.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from channels.db import database_sync_to_async
from django.db.models import prefetch_related_objects

from hub.access.decisions import Caller, Rights, common, decide_by, reload_policies
from hub.events.shared_work import Gathering
from hub.events.waiter import Waiter
from hub.models import current_version
from projects.access.visibility import visible
from projects.live_pages.application_rows import render_row, render_tile, row_of
from projects.live_pages.change_topics import (
    TOPICS,
    Change,
    applications_by,
    changes_of,
    deleted_applications,
    keys_of,
    notices_since,
    tombstones,
)
from projects.models import Application

log = logging.getLogger(__name__)

MAX_CHANGES = 2000
MAX_ROWS = 500
MAX_KEYS, MAX_KEY_CHARS = 50, 600
DRAW = {"table": render_row, "tiles": render_tile}


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a page shows: its name, its rows, and how they are rendered."""

    page: str = ""
    view: str = "table"
    rows: frozenset[int] = frozenset()
    also: frozenset[str] = frozenset()
    """What else it shows, as keys of `projects.live_pages.change_topics`."""

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Subscription":
        """Parse the message of a page; invalid values are ignored."""
        rows, also = (
            v if isinstance(v := content.get(name), list) else [] for name in ("rows", "also")
        )
        numbers = [
            r for r in rows if isinstance(r, int) and not isinstance(r, bool) and 0 < r < 2**63
        ]
        keys = [
            k for k in also if isinstance(k, str) and k.isprintable() and len(k) <= MAX_KEY_CHARS
        ]
        view = content.get("view")
        view = view if isinstance(view, str) and view in DRAW else "table"
        return cls(
            str(content.get("page") or ""),
            view,
            frozenset(numbers[:MAX_ROWS]),
            frozenset(keys[:MAX_KEYS]),
        )

    @property
    def is_list(self) -> bool:
        """Whether the page replaces rows in place; other pages reload."""
        return self.page == "applications"

    @property
    def counts_others(self) -> bool:
        """Whether the page shows counts of applications that it does not list."""
        return self.page in ("applications", "fleet")

    @property
    def topics(self) -> set[str]:
        """The kinds other than applications that the page shows."""
        return {key.partition(":")[0] for key in self.also} & TOPICS.keys()

    def message(
        self,
        version: int,
        rows: dict[str, str],
        gone: Iterable[int],
        others: int,
        *,
        touched: bool = False,
        news: bool = False,
    ) -> dict[str, Any] | None:
        """Return the message to the page, or None if no change concerns it."""
        rows, gone = {key: text for key, text in rows.items() if text}, sorted(gone)
        content: dict[str, Any] = {"gone": gone} if gone else {}
        if self.is_list:
            content |= {k: v for k, v in {"rows": rows, "others": others}.items() if v}
        elif rows or gone or others or touched:
            content["object"] = True
        if news:
            content["notices"] = True
        return {"version": version, **content} if content else None


class Batch:
    """The changes between two reads."""

    def __init__(self, version: int, changes: list[Change], rights: Iterable[Rights]) -> None:
        """Decide by the current policies which changes each set of rights may see."""
        reload_policies()
        self.version, self.changes = version, changes
        self.by_row = {c.pk: c for c in changes if c.resource == "applications"}
        shared = {one: common(one) for one in rights}
        seen = {
            one: frozenset(c for c in changes if _may_see(one, c)) for one in set(shared.values())
        }
        self.seen_by = {one: seen[shared[one]] for one in shared}


def _may_see(rights: Rights, change: Change) -> bool:
    if not change.resource:
        return rights.enabled
    return decide_by(rights, change.resource, "get", change.rbac_object, change.where).allowed


class Subscriber(Protocol):
    """An open page."""

    shown: Subscription

    @property
    def rights(self) -> Rights:
        """The rights of its reader."""

    def receive_batch(self, batch: Batch) -> None:
        """Receive the changes."""


class Feed(Gathering[Subscriber]):
    """Reads changes while pages are open."""

    async def work(self) -> None:
        """Publish every change to every subscriber."""
        waiter, version = Waiter(), -1
        try:
            while True:
                version = await self._publish_since(version)
                await waiter.wait()
        finally:
            waiter.close()

    async def _publish_since(self, version: int) -> int:
        watched: dict[str, set[int]] = {}
        for page in self.members:
            watched.setdefault(page.shown.view, set()).update(page.shown.rows)
        rights = {page.rights for page in self.members}
        topics = {topic for page in self.members for topic in page.shown.topics}
        try:
            batch: Batch = await database_sync_to_async(changes_since)(
                version, watched, rights, topics
            )
        except Exception:  # a failed read is retried, for all pages
            log.warning("changes cannot be read; pages are updated later", exc_info=True)
            return version
        for page in self.members if batch.changes else ():
            page.receive_batch(batch)
        return batch.version


def changes_since(
    version: int, watched: dict[str, set[int]], rights: Iterable[Rights], topics: Iterable[str]
) -> Batch:
    """Return the changes since a version, and the newest version; -1 returns only the version.

    Shapes: `watched` has the rows of open pages, by view; `rights` those of their readers;
        `topics` the kinds other than applications that they show.
    """
    now = current_version()
    if now <= version or version < 0:
        return Batch(now, [], ())
    rows = list(
        Application.objects.filter(resource_version__gt=version)
        .select_related("cluster")
        .only("namespace", "name", "project", "owner", "resource_version", "cluster")
        .order_by("resource_version")[:MAX_CHANGES]
    )
    if len(rows) == MAX_CHANGES:
        # The next read returns the rest.
        now = rows[-1].resource_version
    drawn = {
        view: draw(keys.intersection(r.pk for r in rows), view) for view, keys in watched.items()
    }
    changes = [
        Change(
            row.pk,
            row.resource_version,
            row.rbac_object,
            row.where,
            keys=keys_of(row),
            drawn={v: d[row.pk] for v, d in drawn.items() if row.pk in d},
        )
        for row in rows
    ]
    changes += deleted_applications(tombstones("Application", version, now))
    changes += notices_since(version, now)
    for topic in topics:
        changes += changes_of(topic, version, now)
    return Batch(now, changes, rights)


def draw(keys: Collection[int], view: str) -> dict[int, str]:
    """Return the rendered rows of applications, empty for a row that cannot be rendered."""
    if not keys:
        return {}
    rows = list(
        Application.objects.filter(pk__in=keys)
        .select_related("cluster", "operation")
        .defer("inputs", "compared_to")
    )
    prefetch_related_objects(rows, "remotes")
    drawn = {}
    for application in rows:
        drawn[application.pk] = ""
        try:
            drawn[application.pk] = DRAW[view](row_of(application))
        except Exception:  # a row that cannot be rendered must not hide the others
            about = {"application": application.qualified_name}
            log.exception("a row cannot be rendered", extra=about)
    return drawn


@dataclass(frozen=True, slots=True)
class Missed:
    """The changes that a page missed since a version."""

    version: int
    hidden: frozenset[int]
    """Rows that the reader may not see, or that are deleted."""
    message: dict[str, Any] | None


def missed_since(
    caller: Caller,
    shown: Subscription,
    hidden: frozenset[int],
    version: int,
    *,
    touched: bool = False,
) -> Missed:
    """Return the changes that a page missed, and the rows that the caller must not see.

    Deleted rows and rows that may not be seen are reported alike; `hidden` rows that may be seen
    again are sent. Version 0 has missed nothing. `touched` makes the page reload in any case.
    """
    reload_policies()
    newest = current_version()
    seen = visible(caller)
    rows = dict(seen.filter(pk__in=shown.rows).values_list("pk", "resource_version"))
    drawn = draw({pk for pk, at in rows.items() if at > version > 0 or pk in hidden}, shown.view)
    others, news = 0, False
    if version > 0:
        changed = seen.filter(resource_version__gt=version).exclude(pk__in=shown.rows)
        gone = _deleted_elsewhere(shown, version, newest)
        if shown.counts_others:
            others = changed.count() + sum(_may_see(caller.rights, change) for change in gone)
        topics = (c for topic in shown.topics for c in changes_of(topic, version, newest))
        touched = (
            touched
            or any(c.keys & shown.also and _may_see(caller.rights, c) for c in (*gone, *topics))
            or (bool(shown.also) and changed.filter(applications_by(shown.also)).exists())
        )
        news = bool(notices_since(version, newest))
    lost = shown.rows - rows.keys()
    texts = {str(pk): text for pk, text in drawn.items()}
    message = shown.message(newest, texts, lost, others, touched=touched, news=news)
    return Missed(newest, lost, message)


def _deleted_elsewhere(shown: Subscription, version: int, newest: int) -> list[Change]:
    """Return the deleted applications that concern a page without being among its rows."""
    if not (shown.counts_others or shown.also):
        return []
    stones = tombstones("Application", version, newest)
    return [c for c in deleted_applications(stones) if c.pk not in shown.rows]


FEED = Feed()
