"""Decide whether automated sync starts an operation now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hub.engine.retry import SELF_HEAL_BACKOFF, Backoff
from hub.engine.status import Phase, ResourceState, Sync


@dataclass(frozen=True, slots=True)
class LastOperation:
    """The part of an application's last operation that the decision depends on."""

    phase: Phase
    revisions: tuple[str, ...]
    sources: Any
    message: str = ""
    finished_at: datetime | None = None
    heal_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to start an operation; otherwise why not, and when to check again."""

    start: bool
    heal: bool = False
    """Whether this is a self-heal: only resources that are out of sync, and no hooks."""
    error: str = ""
    is_refused: bool = False
    """Whether a rule prevents the sync; `error` says which."""
    retry_after: timedelta | None = None


NO = Decision(start=False)


def is_automated(policy: Mapping[str, Any] | None) -> bool:
    """Return whether a syncPolicy switches automated sync on."""
    automated = (policy or {}).get("automated")
    return isinstance(automated, Mapping) and automated.get("enabled") is not False


def decide(
    automated: Mapping[str, Any],
    status: Sync,
    states: Sequence[ResourceState],
    wanted: LastOperation,
    last: LastOperation | None,
    now: datetime,
    backoff: Backoff = SELF_HEAL_BACKOFF,
) -> Decision:
    """Return whether to start an automated sync.

    Shapes: `wanted` has the revisions and sources that the comparison used.
    Source: as Argo CD 3.6, checks in the same order, except for sync windows.
    """
    if status is not Sync.OUT_OF_SYNC:
        return NO
    prune = bool(automated.get("prune"))
    different = [s for s in states if s.status is Sync.OUT_OF_SYNC]
    if not prune and all(s.requires_pruning for s in different):
        return NO
    if (
        prune
        and not automated.get("allowEmpty")
        and all(s.requires_pruning for s in states if not s.hook)
    ):
        return Decision(
            start=False,
            is_refused=True,
            error=f"Skipping sync attempt to {', '.join(wanted.revisions)}: "
            "auto-sync will wipe out all resources",
        )
    if last is None or (last.revisions, last.sources) != (wanted.revisions, wanted.sources):
        return Decision(start=True)
    return _retry_or_heal(automated, last, now, backoff)


def _retry_or_heal(
    automated: Mapping[str, Any], last: LastOperation, now: datetime, backoff: Backoff
) -> Decision:
    if last.phase is not Phase.SUCCEEDED:
        return Decision(
            start=False,
            error=f"Failed last sync attempt to {', '.join(last.revisions)}: {last.message}",
        )
    if not automated.get("selfHeal"):
        return NO
    if last.heal_attempts and last.finished_at:
        wait = backoff.delay(last.heal_attempts - 1) - (now - last.finished_at)
        if wait > timedelta(0):
            return Decision(start=False, retry_after=wait)
    return Decision(start=True, heal=True)
