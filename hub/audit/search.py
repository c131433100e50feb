"""Search the audit trail, and prepare events for display."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import CharField, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from hub.audit import chain
from hub.engine.errors import Invalid
from hub.engine.parsing import time_in_range
from hub.models import (
    AuditEvent,
    AuditLink,
    PendingChange,
)

FIELDS = ("actor", "project", "cluster", "object", "verb", "kind", "outcome", "ticket", "address")
MAX_EVENTS = 1000
UNKNOWN = "outcome unknown"
"""The label of a change whose outcome is not known yet."""


def moment(text: str, field: str, *, end: bool = False) -> datetime | None:
    """Return the time of a query parameter, None for an empty one.

    Shapes: a time or a day; `end` means the end of that day.
    Raises: Invalid naming the parameter.
    """
    if not text:
        return None
    try:
        found = parse_datetime(text.replace(" ", "+"))
        day = parse_date(text) if found is None else None
    except ValueError as error:
        raise Invalid(f"{field}: {text[:40]!r} is not a valid time") from error
    if day is not None:
        first = time_in_range(datetime(day.year, day.month, day.day, tzinfo=UTC), field)
        return first + timedelta(days=1 if end else 0)
    if found is None:
        raise Invalid(
            f"{field} must be a day or a time such as 2026-03-01 or 2026-03-01T12:00:00Z, "
            f"not {text[:40]!r}"
        )
    return time_in_range(timezone.make_aware(found) if timezone.is_naive(found) else found, field)


def condition(params: Any) -> Q:
    """Return the filters of a query as a condition.

    Raises: Invalid naming the parameter.
    """
    result = Q()
    for field in FIELDS:
        values = [v for v in params.getlist(field) if v]
        if len(values) > 100:
            raise Invalid(f"{field}: at most a hundred values, write team-* for many")
        if values:
            one = Q()
            for value in values:
                if (field, value) == ("outcome", "unknown"):
                    one |= Q(pk__in=PendingChange.objects.values("event"))
                one |= (
                    Q(**{f"{field}__startswith": value[:-1]})
                    if value.endswith("*")
                    else Q(**{field: value})
                )
            result &= one
    start, end = (
        moment(params.get("from", ""), "from"),
        moment(params.get("to", ""), "to", end=True),
    )
    if start:
        result &= Q(at__gte=start)
    if end:
        result &= Q(at__lt=end)
    return result


def search(params: Any) -> QuerySet[AuditEvent]:
    """Return the events that match the filters and contain every word of a query."""
    rows = AuditEvent.objects.filter(condition(params))
    words = params.get("q", "").split()
    if not words:
        return rows
    if len(words) > 10:
        raise Invalid("q: at most ten words")
    kind = TextField() if connection.vendor == "postgresql" else CharField()
    rows = rows.alias(
        text_who=Cast("who", kind),
        text_detail=Cast("detail", kind),
        text_change=Cast("change", kind),
    )
    for word in words:
        hit = Q()
        for column in (
            "actor",
            "object",
            "verb",
            "kind",
            "project",
            "cluster",
            "reason",
            "ticket",
            "text_who",
            "text_detail",
            "text_change",
        ):
            hit |= Q(**{f"{column}__icontains": word})
        rows = rows.filter(hit)
    return rows


def unknown_among(events: Sequence[AuditEvent]) -> set[int]:
    """Return the events whose change has no known outcome yet."""
    intents = [e.pk for e in events if e.outcome == "intent"]
    if not intents:
        return set()
    return set(PendingChange.objects.filter(event__in=intents).values_list("event", flat=True))


def shown(event: AuditEvent, sequence: int | None, *, is_open: bool = False) -> dict[str, Any]:
    """Return an event for display, with its sequence once it is in the chain.

    Shapes: with `is_open`, `result` says that the outcome is not known yet; it is not part of the
    chain.
    """
    found = {**chain.event_json(event), "number": event.pk, "sequence": sequence}
    return {**found, "result": UNKNOWN} if event.outcome == "intent" and is_open else found


def sequences(events: list[AuditEvent]) -> dict[int, int]:
    """Return the sequences of events in the chain."""
    found = AuditLink.objects.filter(event_id__in=[e.pk for e in events])
    return dict(found.values_list("event_id", "sequence"))
