"""Record which decisions allowed a request, for its replay with an idempotency key."""

import contextvars
import hashlib
from typing import Any

from hub.engine.rbac_rules import Reach

_noted: contextvars.ContextVar[dict[str, list[Any]] | None] = contextvars.ContextVar(
    "decisions", default=None
)


def watch() -> dict[str, list[Any]]:
    """Start to record the decisions of this request, each once, and return the list, until `end`.

    Shapes: `[resource, action, object, cluster]` of what was allowed; `[resource, action, allow,
        deny]` of a question about all objects, with the digests of the rules that decided it.
    """
    found: dict[str, list[Any]] = {}
    _noted.set(found)
    return found


def end() -> None:
    """Stop recording decisions."""
    _noted.set(None)


def is_watched() -> bool:
    """Return whether the decisions of this request are recorded."""
    return _noted.get() is not None


def note(*decision: Any) -> None:
    """Add a decision, if this request is recorded."""
    found = _noted.get()
    if found is not None:
        found.setdefault(repr(decision), list(decision))


def marks(found: Reach) -> tuple[list[str], list[str]]:
    """Return digests of the rules that allow and that deny, wherever these rules are written."""
    allow, deny = (
        [hashlib.sha256(repr(r._replace(origin="")).encode()).hexdigest()[:32] for r in rules]
        for rules in (found.allow, found.deny)
    )
    return allow, deny
