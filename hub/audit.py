"""The trail: one event for every change and every refusal, in the transaction of the change."""

import contextvars
from typing import Any

from hub.models import AuditEvent

address: contextvars.ContextVar[str] = contextvars.ContextVar("address", default="")
"""Address of the request that is being served, empty in workers."""


def record(
    actor: str, verb: str, kind: str, name: str, project: str = "", /, **detail: Any
) -> AuditEvent:
    """Write the event of a change. `detail` must hold no secret: digests and names only."""
    return AuditEvent.objects.create(
        actor=actor, address=address.get(), verb=verb, kind=kind, object=name[:600], project=project,
        detail={k: v for k, v in detail.items() if v not in (None, "", [], {})},
    )  # fmt: skip


def record_refusal(
    actor: str, verb: str, kind: str, name: str, project: str = "", reason: str = ""
) -> None:
    """Write the event of something that was refused."""
    AuditEvent.objects.create(
        actor=actor, address=address.get(), verb=verb, kind=kind, object=name[:600], project=project,
        outcome="refused", detail={"reason": reason} if reason else {},
    )  # fmt: skip
