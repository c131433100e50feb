"""One look at what changed for all pages of this process: each row is read once, drawn once, decided once for who has the same rights."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from channels.db import database_sync_to_async
from django.db.models import prefetch_related_objects

from hub.access.decisions import Caller, Rights, common, decide_by, look_again
from hub.events.shared_work import Gathering
from hub.models import current_version
from projects.api.streams import Waiter
from projects.change_topics import (
    TOPICS,
    Change,
    applications_by,
    applications_gone,
    changes_of,
    keys_of,
    notices_since,
    tombstones,
)
from projects.models import Application
from projects.pages.application_rows import render_row, render_tile, row_of
from projects.visibility import visible

log = logging.getLogger(__name__)

MOST = 2000
MOST_ROWS = 500
MOST_KEYS, LONGEST_KEY = 50, 600
DRAW = {"table": render_row, "tiles": render_tile}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows: its name, how it draws rows, and the keys of the rows."""

    page: str = ""
    view: str = "table"
    rows: frozenset[int] = frozenset()
    also: frozenset[str] = frozenset()
    """What else it is about, by the keys of `projects.change_topics`."""

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Shown":
        """Take what a page says of itself; what makes no sense is left out."""
        rows, also = (
            v if isinstance(v := content.get(name), list) else [] for name in ("rows", "also")
        )
        numbers = [
            r for r in rows if isinstance(r, int) and not isinstance(r, bool) and 0 < r < 2**63
        ]
        keys = [k for k in also if isinstance(k, str) and k.isprintable() and len(k) <= LONGEST_KEY]
        view = content.get("view")
        view = view if isinstance(view, str) and view in DRAW else "table"
        return cls(
            str(content.get("page") or ""),
            view,
            frozenset(numbers[:MOST_ROWS]),
            frozenset(keys[:MOST_KEYS]),
        )

    @property
    def is_list(self) -> bool:
        """Whether rows are replaced in place; other pages are told to look again."""
        return self.page == "applications"

    @property
    def counts_others(self) -> bool:
        """Whether it is about applications that it does not show."""
        return self.page in ("applications", "fleet")

    @property
    def topics(self) -> set[str]:
        """The kinds beside applications that it is about."""
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
        """Return what the page is told, None when nothing."""
        rows, gone = {key: text for key, text in rows.items() if text}, sorted(gone)
        told: dict[str, Any] = {"gone": gone} if gone else {}
        if self.is_list:
            told |= {k: v for k, v in {"rows": rows, "others": others}.items() if v}
        elif rows or gone or others or touched:
            told["object"] = True
        if news:
            told["notices"] = True
        return {"version": version, **told} if told else None


class Batch:
    """What changed between two looks."""

    def __init__(self, version: int, changes: list[Change], rights: Iterable[Rights]) -> None:
        """Decide for each of some rights which changes may be told, by the policies of now."""
        look_again()
        self.version, self.changes = version, changes
        self.by_row = {c.pk: c for c in changes if c.resource == "applications"}
        shared = {one: common(one) for one in rights}
        seen = {
            one: frozenset(c for c in changes if _may_hear(one, c)) for one in set(shared.values())
        }
        self.seen_by = {one: seen[shared[one]] for one in shared}


def _may_hear(rights: Rights, change: Change) -> bool:
    if not change.resource:
        return rights.enabled
    return decide_by(rights, change.resource, "get", change.rbac_object, change.where).allowed


class Listener(Protocol):
    """Hears of changes."""

    shown: Shown

    @property
    def rights(self) -> Rights:
        """The rights of who listens."""

    def hear(self, batch: Batch) -> None:
        """Take what changed."""


class Feed(Gathering[Listener]):
    """Reads changes while somebody listens."""

    async def work(self) -> None:
        """Tell every listener of every change."""
        waiter, version = Waiter(), -1
        try:
            while True:
                version = await self._look(version)
                await waiter.wait()
        finally:
            waiter.close()

    async def _look(self, version: int) -> int:
        watched: dict[str, set[int]] = {}
        for listener in self.members:
            watched.setdefault(listener.shown.view, set()).update(listener.shown.rows)
        rights = {listener.rights for listener in self.members}
        topics = {topic for listener in self.members for topic in listener.shown.topics}
        try:
            batch: Batch = await database_sync_to_async(changes_since)(
                version, watched, rights, topics
            )
        except Exception:  # what cannot be read now is read at the next look, for every page
            log.warning("changes cannot be read; pages hear of them later", exc_info=True)
            return version
        for listener in self.members if batch.changes else ():
            listener.hear(batch)
        return batch.version


def changes_since(
    version: int, watched: dict[str, set[int]], rights: Iterable[Rights], topics: Iterable[str]
) -> Batch:
    """Return what changed since a version, and the newest one; -1 asks for the version alone.

    Shapes: `watched` are the rows that somebody looks at, by the view in which they are drawn; `rights` those who look
    have; `topics` the kinds beside applications that somebody looks at.
    """
    now = current_version()
    if now <= version or version < 0:
        return Batch(now, [], ())
    rows = list(
        Application.objects.filter(resource_version__gt=version)
        .select_related("cluster")
        .only("namespace", "name", "project", "owner", "resource_version", "cluster")
        .order_by("resource_version")[:MOST]
    )
    if len(rows) == MOST:
        # The rest comes with the next look.
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
    changes += applications_gone(tombstones("Application", version, now))
    changes += notices_since(version, now)
    for topic in topics:
        changes += changes_of(topic, version, now)
    return Batch(now, changes, rights)


def draw(keys: Collection[int], view: str) -> dict[int, str]:
    """Return the rows of applications as a view shows them, an empty text for one that cannot be drawn."""
    rows = (
        list(
            Application.objects.filter(pk__in=keys)
            .select_related("cluster", "operation")
            .defer("inputs", "compared_to")
        )
        if keys
        else []
    )
    prefetch_related_objects(rows, "remotes")
    drawn = {}
    for application in rows:
        drawn[application.pk] = ""
        try:
            drawn[application.pk] = DRAW[view](row_of(application))
        except Exception:  # one odd application must not keep what others do from every page
            log.exception(
                "a row cannot be drawn", extra={"application": application.qualified_name}
            )
    return drawn


@dataclass(frozen=True, slots=True)
class Anew:
    """What a page is told that has to be told everything."""

    version: int
    hidden: frozenset[int]
    """The rows that its caller may not see, or that are gone."""
    told: dict[str, Any] | None


def look_anew(
    caller: Caller, shown: Shown, hidden: frozenset[int], version: int, *, touched: bool = False
) -> Anew:
    """Return what a page missed since a version, and which of its rows are no longer for its caller.

    What is gone and what may not be seen is told alike; rows that were hidden and are not now are told
    as they are; version 0 has missed nothing. `touched` tells a page in any case that it has to look again.
    """
    look_again()
    newest = current_version()
    seen = visible(caller)
    rows = dict(seen.filter(pk__in=shown.rows).values_list("pk", "resource_version"))
    drawn = draw({pk for pk, at in rows.items() if at > version > 0 or pk in hidden}, shown.view)
    others = 0
    if version > 0:
        changed = seen.filter(resource_version__gt=version).exclude(pk__in=shown.rows)
        gone = _gone_elsewhere(shown, version, newest)
        if shown.counts_others:
            others = changed.count() + sum(_may_hear(caller.rights, change) for change in gone)
        told_of = [
            *gone,
            *(c for topic in shown.topics for c in changes_of(topic, version, newest)),
        ]
        touched = (
            touched
            or any(c.keys & shown.also and _may_hear(caller.rights, c) for c in told_of)
            or (bool(shown.also) and changed.filter(applications_by(shown.also)).exists())
        )
    lost = shown.rows - rows.keys()
    news = version > 0 and bool(notices_since(version, newest))
    told = shown.message(
        newest,
        {str(pk): text for pk, text in drawn.items()},
        lost,
        others,
        touched=touched,
        news=news,
    )
    return Anew(newest, lost, told)


def _gone_elsewhere(shown: Shown, version: int, newest: int) -> list[Change]:
    """Return which applications went that a page does not show, as far as it counts them or is about them."""
    if not (shown.counts_others or shown.also):
        return []
    stones = tombstones("Application", version, newest)
    return [c for c in applications_gone(stones) if c.pk not in shown.rows]


FEED = Feed()
