"""Reports for auditors: whether the chain is intact, and what was changed."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.audit import chain, trail
from hub.audit.search import MAX_EVENTS, search
from hub.engine.errors import Invalid
from hub.models import (
    change_setting,
)


def verification(who: str) -> dict[str, Any]:
    """Check the trail, store the result, and record the check."""
    found = chain.check()
    result = {
        "checkedAt": chain.stamp(timezone.now()),
        "intact": found.is_intact,
        "rows": found.checked,
        "head": found.head,
        "last": found.last,
        "lastSigned": found.last_signed,
        "checkpoints": found.checkpoints,
        "expired": found.expired,
        "problems": list(found.problems),
        "publicKey": chain.public_pem(),
    }
    with transaction.atomic():
        change_setting("audit_verification", result)
        trail.record(
            who,
            "verify",
            "audit",
            "chain",
            intact=str(found.is_intact),
            rows=found.checked,
            problems=list(found.problems)[:3],
        )
    return result


def changes(params: Any) -> dict[str, Any]:
    """Return the changes that were made, grouped by object.

    Raises: Invalid without `from`, or for a filter that cannot be read.
    """
    if not params.get("from"):
        raise Invalid("from is required: where the report begins")
    rows = list(
        search(params)
        .exclude(outcome="refused")
        .exclude(retention="sign-in")
        .order_by("pk")[: MAX_EVENTS * 10 + 1]
    )
    objects: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in rows[: MAX_EVENTS * 10]:
        objects.setdefault((event.kind, event.object), []).append(
            {
                "at": chain.stamp(event.at),
                "actor": event.actor,
                "verb": event.verb,
                "change": event.change,
                "reason": event.reason,
                "ticket": event.ticket,
                "operation": event.operation,
                "revisions": event.revisions,
                "id": str(event.uid),
            }
        )
    items = [{"kind": k, "object": o, "changes": c} for (k, o), c in sorted(objects.items())]
    return {
        "from": params["from"],
        "to": params.get("to", ""),
        "truncated": len(rows) > MAX_EVENTS * 10,
        "items": items,
    }
