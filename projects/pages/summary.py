"""Charts of the selected applications: statuses now and over a week, clusters, projects."""

from datetime import datetime
from typing import Any

from django.db.models import Count
from django.db.models.functions import TruncHour
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from hub.access.decisions import Caller
from hub.web.page import signed_in
from projects.access.listing import HEALTH, SYNC, Listing, bars, chosen
from projects.models import StatusChange
from projects.pages.status_history import areas, backwards, hours

WEEK = 7 * 24
MAX_GROUPS = 12


def charts(listing: Listing) -> dict[str, Any]:
    """Return the context of the summary view."""
    now = timezone.now()
    buckets = hours(now, WEEK)
    query = listing.query().order_by()
    born = dict(
        query.filter(created_at__gte=buckets[0])
        .annotate(hour=TruncHour("created_at"))
        .values_list("hour")
        .annotate(n=Count("pk", distinct=True))
    )
    found = (
        StatusChange.objects.filter(application__in=query.values("pk"), at__gte=buckets[0])
        .order_by()
        .annotate(hour=TruncHour("at"))
    )
    result: dict[str, Any] = {
        "days": [
            (round(n * 24 / (WEEK - 1) * 400, 1), f"{b:%a}") for n, b in enumerate(buckets[::24])
        ]
    }
    for name, words, column in (("health", HEALTH, "health_status"), ("sync", SYNC, "sync_status")):
        moves: dict[datetime, dict[tuple[str, str], int]] = {}
        for hour, before, after, n in found.values_list("hour", f"{name}_before", name).annotate(
            n=Count("pk")
        ):
            if before != after:
                moves.setdefault(hour, {})[before, after] = n
        points = backwards(listing.counts(column), moves, born, buckets)
        result[f"{name}_areas"] = areas(points, words[::-1])
        result[f"{name}_table"] = [
            (b, [(w, p.get(w, 0)) for w in words if p.get(w)])
            for b, p in list(zip(buckets, points, strict=True))[::24]
        ]
    for name, column in (
        ("clusters", "cluster__name"),
        ("projects", "project"),
        ("versions", "cluster__server_version"),
    ):
        result[name] = _groups(listing, column)
    return result


def _groups(listing: Listing, column: str) -> list[dict[str, Any]]:
    """Return the largest groups of a column, each with a bar of its health."""
    counts: dict[str, dict[str, int]] = {}
    for value, health, n in (
        listing.query()
        .order_by()
        .values_list(column, "health_status")
        .annotate(n=Count("pk", distinct=True))
    ):
        counts.setdefault(value or "none", {})[health] = n
    order = sorted(counts, key=lambda v: (-sum(counts[v].values()), v))[:MAX_GROUPS]
    return [
        {
            "name": v,
            "total": sum(counts[v].values()),
            "bar": bars(counts[v], HEALTH, 400.0),
            "counts": [(w, counts[v][w]) for w in HEALTH if counts[v].get(w)],
        }
        for v in order
    ]


@require_GET
@signed_in
def strip(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Return the strip of health and sync counts, which pages reload after changes."""
    listing = Listing(caller, chosen(request.GET))
    return render(request, "applications/strip.html", states(listing))


def states(listing: Listing, stale: int | None = None) -> dict[str, Any]:
    """Return the counts of the strip; `stale` is counted here unless it is given."""
    health, sync = listing.counts("health_status"), listing.counts("sync_status")
    return {
        "count": sum(health.values()),
        "health": [(w, health.get(w, 0)) for w in HEALTH],
        "health_bar": bars(health, HEALTH),
        "sync": [(w, sync.get(w, 0)) for w in SYNC],
        "sync_bar": bars(sync, SYNC),
        "stale": listing.stale_count() if stale is None else stale,
    }
