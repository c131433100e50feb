"""What a request was allowed to do, noted while it is served: for who sends it again with an idempotency key."""

import contextvars
import hashlib
from typing import Any

from hub.engine.rbac_rules import Reach

_noted: contextvars.ContextVar[dict[str, list[Any]] | None] = contextvars.ContextVar(
    "decisions", default=None
)


def watch() -> dict[str, list[Any]]:
    """Return what the decisions of this request are added to, until `end`; each is there once.

    Shapes: `[resource, action, object, cluster]` of what was allowed; `[resource, action, allow, deny]` of a
    question about all objects, with the digests of the rules that answered it.
    """
    found: dict[str, list[Any]] = {}
    _noted.set(found)
    return found


def end() -> None:
    """Note no more decisions."""
    _noted.set(None)


def is_watched() -> bool:
    """Return whether the decisions of this request are noted."""
    return _noted.get() is not None


def note(*decision: Any) -> None:
    """Add a decision, if this request is watched."""
    found = _noted.get()
    if found is not None:
        found.setdefault(repr(decision), list(decision))


def marks(found: Reach) -> tuple[list[str], list[str]]:
    """Return digests of the rules that allow and that deny; where a rule is written changes nothing."""
    allow, deny = (
        [hashlib.sha256(repr(r._replace(origin="")).encode()).hexdigest()[:32] for r in rules]
        for rules in (found.allow, found.deny)
    )
    return allow, deny
