"""Temporary rights: grant them, and record their end."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.access.decisions import checked_rule, grant_json
from hub.audit import trail
from hub.engine.errors import Invalid
from hub.engine.parsing import require_time
from hub.engine.retry import parse_duration
from hub.models import (
    Grant,
    access_changed,
)

LONGEST_GRANT = timedelta(days=30)


def give(body: dict[str, Any], who: str) -> Grant:
    """Grant a right for a limited time.

    Raises: Invalid naming the field.
    """
    for field in ("subject", "reason"):
        if not isinstance(body.get(field), str) or not body[field].strip():
            raise Invalid(f"{field} is required")
    rule = checked_rule(
        {k: body.get(k) or "" for k in ("resource", "action", "object", "clusters")}, "grant"
    )
    now = timezone.now()
    starts = _moment(body.get("from"), "from") or now
    ends = _moment(body.get("until"), "until") or starts + parse_duration(
        body.get("duration") or "", "duration"
    )
    if not now < ends <= starts + LONGEST_GRANT:
        raise Invalid(
            "a grant must end in the future and last at most 30 days; give duration or until"
        )
    with transaction.atomic():
        grant = Grant.objects.create(
            subject=body["subject"].strip(),
            resource=rule["resource"],
            action=rule["action"],
            object=rule["object"],
            clusters=rule["clusters"],
            starts_at=starts,
            ends_at=ends,
            reason=body["reason"].strip()[:1000],
            ticket=str(body.get("ticket") or "")[:200],
            granted_by=who,
        )
        access_changed("grant", str(grant.pk), grant_json(grant))
        trail.record(
            who,
            "grant",
            "grant",
            f"{grant.subject} {grant.resource} {grant.action} {grant.object}",
            after=grant_json(grant),
        )
    return grant


def _moment(value: Any, field: str) -> datetime | None:
    if value in (None, ""):
        return None
    return require_time(str(value), field)


def close_grants() -> int:
    """Record the event of every grant that has expired."""
    closed = 0
    for grant in Grant.objects.filter(
        is_closed=False, revoked_at=None, ends_at__lte=timezone.now()
    ):
        with transaction.atomic():
            if Grant.objects.filter(pk=grant.pk, is_closed=False).update(is_closed=True):
                trail.record(
                    "hub",
                    "grant-ended",
                    "grant",
                    f"{grant.subject} {grant.resource} {grant.action} {grant.object}",
                    grant=grant.pk,
                )
                closed += 1
    return closed
