"""The row of an application in a list, as rendered on the page and in live updates."""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.template.loader import render_to_string

from hub.engine.errors import RetryLater, Stalled
from hub.engine.project_restrictions import permits_source
from hub.web.state_icons import tone
from projects.access.listing import HEALTH, bars, since
from projects.models import Application
from projects.objects.manifests import as_of_now, is_stale
from projects.objects.specs import project_of_or_none
from projects.sources import git
from projects.sources.git_remotes import key_of


@dataclass(frozen=True, slots=True)
class Row:
    """An application in a list."""

    application: Application
    since: datetime | None
    is_stale: bool
    as_of: datetime | None
    revision: str
    subject: str
    activity: str
    """The running or waiting operation."""
    tone: str
    started_by: str
    parts: list[tuple[str, float, float]]
    why: str

    @property
    def url(self) -> str:
        """The URL of its page."""
        return f"/applications/{self.application.namespace}/{self.application.name}"

    @property
    def key(self) -> str:
        """The id of its row on the page."""
        return f"a{self.application.pk}"


def subject_of(project: str, url: str, commit: str) -> str:
    """Return the first line of a commit message, empty if it is unknown or not permitted."""
    if not git.is_commit(commit) or not may_read(project, url):
        return ""
    try:
        return _subject(key_of(url, project), commit)
    except (Stalled, RetryLater, OSError):
        # The clone may be in another process, so a missing commit is not cached.
        return ""


_permitted: dict[tuple[str, str], tuple[float, bool]] = {}
_CACHE_SECONDS, _MAX_CACHED = 5.0, 10_000


def may_read(project: str, url: str) -> bool:
    """Return whether a project permits a repository today.

    The result is cached briefly, since a list needs it for every row.
    """
    now = time.monotonic()
    until, known = _permitted.get((project, url), (0.0, False))
    if until < now:
        found = project_of_or_none(project)
        known = found is not None and permits_source(found.spec, url)
        if len(_permitted) >= _MAX_CACHED:
            _permitted.clear()
        _permitted[project, url] = (now + _CACHE_SECONDS, known)
    return known


@functools.lru_cache(maxsize=20_000)
def _subject(url: str, commit: str) -> str:
    lines = git.commit_info(url, commit).message.strip().splitlines()
    return lines[0][:200] if lines else ""


def first_url(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the repository of the first source."""
    return str(sources[0].get("repoURL") or "") if sources else ""


def row_of(application: Application) -> Row:
    """Return the row of an application."""
    known = as_of_now(application)
    revision = application.revisions[0] if application.revisions else ""
    url = first_url(application.sources)
    activity, tone = _activity(application)
    return Row(
        application,
        since(application),
        is_stale(known),
        known,
        revision,
        subject_of(application.project, url, revision) if revision else "",
        activity,
        tone,
        _started_by(application),
        _parts(application),
        _why(application),
    )


def _activity(application: Application) -> tuple[str, str]:
    operation = application.operation
    if application.deletion_requested_at:
        return "Deleting", "busy"
    if operation is None or operation.phase not in ("Running", "Terminating"):
        return (
            ("Last sync failed", "bad")
            if operation and operation.phase in ("Failed", "Error")
            else ("", "")
        )
    if operation.phase == "Terminating":
        return "Stopping", "busy"
    message = operation.message
    if message.startswith("waiting: "):
        return message.removeprefix("waiting: ").capitalize()[:60], "held"
    return "Syncing", "busy"


def _started_by(application: Application) -> str:
    operation = application.operation
    if operation is None:
        return ""
    by = operation.request.get("initiatedBy") or {}
    return str(by.get("username") or ("auto" if by.get("automated") else ""))


def _parts(application: Application) -> list[tuple[str, float, float]]:
    """Return (tone, left, width) of each part of a bar of the resources by health."""
    counts: dict[str, int] = {}
    for entry in application.resources:
        word = (entry.get("health") or {}).get("status") or "Healthy"
        counts[word] = counts.get(word, 0) + 1
    return [(tone(word), left, width) for word, left, width in bars(counts, HEALTH, 250.0)]


def _why(application: Application) -> str:
    """Return one sentence about the first problem, empty if there is none."""
    if application.health_status == "Degraded":
        for entry in application.resources:
            health = entry.get("health") or {}
            if health.get("status") == "Degraded" and health.get("message"):
                return f"{entry['kind']} {entry['name']}: {health['message']}"[:160]
        return application.health_message[:160]
    errors = [c["message"] for c in application.conditions if str(c["type"]).endswith("Error")]
    return errors[0][:160] if errors else ""


def render_row(row: Row, **context: Any) -> str:
    """Return the cells of a row as HTML, the same for all readers."""
    return render_to_string("applications/cells.html", {"row": row, **context})


def render_tile(row: Row) -> str:
    """Return the contents of a tile as HTML."""
    return render_to_string("applications/tile.html", {"row": row})
