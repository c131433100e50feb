"""The timeline of an application: commits, syncs, drift, approvals and changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from hub.access.decisions import Caller, is_allowed
from hub.engine.errors import RetryLater, Stalled
from hub.models import AuditEvent
from hub.web.page import Shown, signed_in
from projects.live_pages.application_rows import first_url, may_read, row_of, subject_of
from projects.models import Application, StatusChange
from projects.pages.application import found
from projects.pages.commit_links import commit_url
from projects.pages.status_history import bands
from projects.sources import git
from projects.sources.git_remotes import key_of

SPANS = {"1": "a day", "7": "a week", "30": "a month"}
KINDS = {
    "commit": "Commits",
    "deploy": "Deployments",
    "state": "States and drift",
    "person": "What people did",
}
MAX_ENTRIES = 400
_APPROVALS = ("confirm-deletion", "confirm", "approve")


@dataclass(frozen=True, slots=True)
class Moment:
    """An entry of the timeline."""

    at: datetime
    kind: str
    icon: str
    tone: str
    title: str
    text: str = ""
    who: str = ""
    url: str = ""


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show the timeline of an application, the newest entries first."""
    row = found(caller, namespace, name)
    span = request.GET.get("span", "7") if request.GET.get("span", "7") in SPANS else "7"
    now = timezone.now()
    start = now - timedelta(days=int(span))
    may_audit = is_allowed(caller, "audit", "get", "events")
    wanted = [k for k in request.GET.getlist("kind") if k in KINDS] or list(KINDS)
    changes = list(
        StatusChange.objects.filter(application=row, at__gte=start).order_by("at")[
            : MAX_ENTRIES * 5
        ]
    )
    events = list(_events(row, start)) if may_audit else []
    moments = [
        *_commits(row, start),
        *_deployments(row, start, events),
        *_states(changes),
        *_people(events),
    ]
    shown = sorted((m for m in moments if m.kind in wanted), key=lambda m: m.at, reverse=True)
    return render(
        request,
        "applications/timeline.html",
        {
            "section": "applications",
            "caller": Shown(caller),
            "a": row,
            "row": row_of(row),
            "moments": shown[:MAX_ENTRIES],
            "more": max(0, len(shown) - MAX_ENTRIES),
            "may_audit": may_audit,
            "spans": SPANS.items(),
            "span": span,
            "kinds": KINDS.items(),
            "wanted": wanted,
            **_bands(row, changes, start, now),
            "marks": [(_x(m.at, start, now), m.tone, m.title) for m in shown if m.kind == "deploy"],
            "days": _days(start, now),
        },
    )


def _x(at: datetime, start: datetime, end: datetime) -> float:
    return round((at - start).total_seconds() / (end - start).total_seconds() * 400, 1)


def _days(start: datetime, end: datetime) -> list[tuple[float, str]]:
    step = 1 if (end - start).days <= 7 else 5
    first = (start + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [first + timedelta(days=n * step) for n in range((end - first).days // step + 1)]
    return [(_x(d, start, end), f"{d:%d %b}") for d in days if d < end]


def _bands(
    row: Application, changes: list[StatusChange], start: datetime, end: datetime
) -> dict[str, Any]:
    born = max(start, row.created_at)
    health = changes[0].health_before if changes else row.health_status
    sync = changes[0].sync_before if changes else row.sync_status
    return {
        "health_bands": bands(
            "", [(born, health), *((c.at, c.health) for c in changes)], start, end
        ),
        "sync_bands": bands("", [(born, sync), *((c.at, c.sync) for c in changes)], start, end),
    }


def _events(row: Application, start: datetime) -> Iterator[AuditEvent]:
    about = Q(kind="application", object=row.qualified_name) | Q(
        kind="resource", object__startswith=f"{row.qualified_name} "
    )
    yield from AuditEvent.objects.filter(about, at__gte=start).order_by("-pk")[: MAX_ENTRIES * 2]


def _commits(row: Application, start: datetime) -> Iterator[Moment]:
    """Yield the commits that the application used, with their dates and authors."""
    url = first_url(row.sources)
    if not may_read(row.project, url):
        return
    seen = dict.fromkeys(
        [
            *row.revisions[:1],
            *(h.revisions[0] for h in row.history.order_by("-number")[:60] if h.revisions),
        ]
    )
    seen |= dict.fromkeys(
        StatusChange.objects.filter(application=row, at__gte=start)
        .exclude(revision="")
        .values_list("revision", flat=True)[:200]
    )
    key = key_of(url, row.project)
    for commit in seen:
        if not git.is_commit(commit):
            continue
        try:
            info = git.commit_info(key, commit)
        except (Stalled, RetryLater, OSError):
            continue
        if info.date >= start:
            subject = next(iter(info.message.strip().splitlines()), "")
            yield Moment(
                info.date,
                "commit",
                "commit",
                "",
                f"{commit[:7]} {subject[:120]}",
                "written",
                info.author,
                commit_url(url, commit),
            )


def _deployments(row: Application, start: datetime, events: list[AuditEvent]) -> Iterator[Moment]:
    for entry in row.history.filter(deployed_at__gte=start).order_by("-number")[:MAX_ENTRIES]:
        revision = entry.revisions[0] if entry.revisions else ""
        url = first_url(entry.sources or row.sources)
        by = (entry.initiated_by or {}).get("username") or "auto-sync"
        yield Moment(
            entry.deployed_at,
            "deploy",
            "sync",
            "ok",
            f"{revision[:7]} runs",
            subject_of(row.project, url, revision) if revision else "",
            by,
            commit_url(url, revision),
        )
    for event in events:
        phase = str(event.detail.get("phase") or "")
        if event.verb == "operation-ended" and phase not in ("Succeeded", ""):
            yield Moment(
                event.at,
                "deploy",
                "degraded",
                "bad",
                f"Operation {phase.lower()}",
                str(event.detail.get("message") or "")[:300],
                event.actor,
                f"/audit/{event.uid}",
            )


def _states(changes: list[StatusChange]) -> Iterator[Moment]:
    tones = {
        "Degraded": ("degraded", "bad"),
        "Healthy": ("healthy", "ok"),
        "Progressing": ("progressing", "busy"),
        "Suspended": ("suspended", "held"),
    }
    for c in changes:
        if c.health != c.health_before:
            icon, tone = tones.get(c.health, ("missing", "none"))
            yield Moment(
                c.at,
                "state",
                icon,
                tone,
                f"{c.health}, was {c.health_before}",
                c.message if c.health == "Degraded" else "",
            )
        if c.sync != c.sync_before:
            title = {"OutOfSync": "Drift: not as Git says", "Synced": "As Git says"}.get(
                c.sync, f"Sync is {c.sync}"
            )
            icon, tone = {"OutOfSync": ("outofsync", "drift"), "Synced": ("synced", "ok")}.get(
                c.sync, ("syncunknown", "none")
            )
            yield Moment(
                c.at, "state", icon, tone, title, c.message if c.sync == "OutOfSync" else ""
            )


def _people(events: list[AuditEvent]) -> Iterator[Moment]:
    for event in events:
        if event.verb == "operation-ended":
            continue
        is_approval = event.verb in _APPROVALS
        icon = "lock" if event.outcome == "refused" else "verified" if is_approval else "person"
        tone = "bad" if event.outcome == "refused" else "ok" if is_approval else ""
        words = f"{event.verb} refused" if event.outcome == "refused" else event.verb
        about = event.object.partition(" ")[2] if event.kind == "resource" else ""
        text = " · ".join(t for t in (about, event.reason, event.ticket) if t)
        yield Moment(
            event.at, "person", icon, tone, words, text, event.actor, f"/audit/{event.uid}"
        )
