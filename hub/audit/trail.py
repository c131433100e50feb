"""The audit trail: one event for every change and every refusal.

The event of a change is written in the caller's transaction, so that both are stored or neither.
The event of a refusal has a transaction of its own: what was refused is rolled back.
"""

import contextvars
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from hub.base.redaction import redact_text
from hub.engine.errors import RefusedByRule
from hub.engine.printable import printable
from hub.engine.secret_masking import change_between
from hub.models import AuditEvent

address: contextvars.ContextVar[str] = contextvars.ContextVar("address", default="")
"""Address of the request that is being served, empty in workers."""
who: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "who", default=MappingProxyType({})
)
"""Account, subject, groups, token and session of the request that is being served."""
why: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("why", default=("", ""))
"""Reason and ticket that the request gave."""


class Subject(NamedTuple):
    """The object of a request, as the trail names it."""

    verb: str = ""
    kind: str = ""
    name: str = ""
    project: str = ""
    cluster: str = ""


_NOTHING = Subject()
about: contextvars.ContextVar[Subject] = contextvars.ContextVar("about", default=_NOTHING)
"""The subject of the current request, once it is known."""

_LATEST = 20
"""The number of recent refusals of an object that are checked for a duplicate."""
_CLASSES = {
    "login": "sign-in",
    "logout": "sign-in",
    "grant": "access",
    "revoke-grant": "access",
    "grant-ended": "access",
    "export-secrets": "access",
    "import-secrets": "access",
}
_KINDS = {
    "role": "access",
    "account": "access",
    "rbac": "access",
    "grant": "access",
    "token": "access",
    "session": "sign-in",
    "audit": "access",
}


def begin(where: str, reason: str = "", ticket: str = "") -> None:
    """Clear the state of the previous request, and note the origin and reason of this one."""
    address.set(where[:64])
    who.set({})
    about.set(_NOTHING)
    why.set((reason[:1000], ticket[:200]))


def asker() -> str:
    """Return the sender of the current request, empty in workers."""
    found = who.get()
    return str(found.get("account") or found.get("subject") or (address.get() and "anonymous"))


def record(  # noqa: PLR0913 - an event has many fields, each named by its caller
    actor: str,
    verb: str,
    kind: str,
    name: str,
    project: str = "",
    /,
    *,
    cluster: str = "",
    before: Any = None,
    after: Any = None,
    operation: int | None = None,
    revisions: list[str] | None = None,
    outcome: str = "allowed",
    **detail: Any,
) -> AuditEvent:
    """Record a change; `before` and `after` are masked, `detail` must hold no secret."""
    reason, ticket = why.get()
    return AuditEvent.objects.create(
        actor=printable(actor)[:400],
        who=_who(actor),
        address=address.get(),
        verb=printable(verb)[:64],
        kind=kind[:64],
        object=printable(name)[:600],
        project=printable(project)[:253],
        cluster=printable(cluster)[:253],
        reason=redact_text(reason),
        ticket=ticket,
        operation=operation,
        revisions=revisions or [],
        outcome=outcome,
        change=change_between(before, after),
        retention=_CLASSES.get(verb) or _KINDS.get(kind, "change"),
        detail={
            k: printable(v) if isinstance(v, str) else v
            for k, v in detail.items()
            if v not in (None, "", [], {})
        },
    )


def _who(actor: str) -> dict[str, Any]:
    # A worker that continues an operation has no request: it knows only the actor's name.
    found = dict(who.get())
    return found if found or actor in ("hub", "flotilla") else {"name": actor}


def record_refusal(  # noqa: PLR0913 - an event has many fields
    actor: str,
    verb: str,
    kind: str,
    name: str,
    project: str = "",
    reason: str = "",
    cluster: str = "",
    *,
    revisions: Sequence[str] = (),
    operation: int | None = None,
) -> None:
    """Record the refusal of a request."""
    said, ticket = why.get()
    AuditEvent.objects.create(
        actor=printable(actor)[:400],
        who=_who(actor),
        address=address.get(),
        verb=printable(verb)[:64],
        kind=kind[:64],
        object=printable(name)[:600],
        project=printable(project)[:253],
        cluster=printable(cluster)[:253],
        outcome="refused",
        reason=redact_text(said),
        ticket=ticket,
        operation=operation,
        revisions=list(revisions),
        retention="sign-in" if verb == "login" else "refusal",
        detail={"reason": _shown(reason)} if reason else {},
    )


def _shown(reason: str) -> str:
    return printable(redact_text(reason))[:1000]


def record_refusal_once(  # noqa: PLR0913 - an event has many fields
    actor: str,
    verb: str,
    kind: str,
    name: str,
    project: str,
    reason: str,
    cluster: str = "",
    *,
    revisions: Sequence[str] = (),
    operation: int | None = None,
    each_operation: bool = False,
) -> bool:
    """Record a refusal that automation repeats, unless the trail has it already.

    The same refusal of the same revisions is recorded once; with `each_operation`, once per
    operation. Return whether it was recorded.
    """
    known = AuditEvent.objects.filter(
        object=printable(name)[:600], verb=printable(verb)[:64], kind=kind[:64], outcome="refused"
    )
    wanted = (printable(actor)[:400], _shown(reason), list(revisions))
    for event in known.order_by("-pk")[:_LATEST]:
        same = (event.actor, event.detail.get("reason"), event.revisions) == wanted
        if same and (not each_operation or event.operation == operation):
            return False
    record_refusal(
        actor, verb, kind, name, project, reason, cluster, revisions=revisions, operation=operation
    )
    return True


def concern(verb: str, kind: str, name: str, project: str, cluster: str = "") -> None:
    """Set the object of the current request, for a refusal that may follow."""
    about.set(Subject(verb, kind, name, project, cluster))


def record_error(error: Exception, actor: str, otherwise: Subject) -> None:
    """Record a request that a rule refused, once; other errors are not refusals.

    Shapes: `otherwise` is the object of the request if `concern` was not called.
    """
    if not isinstance(error, RefusedByRule) or error.recorded:
        return
    error.recorded = True
    found = about.get()
    verb, kind = found.verb or otherwise.verb, found.kind or otherwise.kind
    record_refusal(
        actor, verb, kind, found.name or otherwise.name, found.project, str(error), found.cluster
    )
