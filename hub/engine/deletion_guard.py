"""The deletion guard, which rules on every deletion of a live resource."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hub.engine.errors import RuleError
from hub.engine.resource import ResourceKey

DATA_KINDS = ("Namespace", "PersistentVolumeClaim", "CustomResourceDefinition")


class Verdict(StrEnum):
    """The guard's decision on one deletion."""

    ALLOWED = "allowed"
    CONFIRM = "confirm"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be deleted at once without confirmation."""

    resources: int = 50
    percent: int = 50
    floor: int = 5
    """The percentage applies from this many resources on; smaller applications are exempt."""
    confirm_kinds: tuple[str, ...] = DATA_KINDS


def budget_from(spec: Mapping[str, Any] | None) -> Budget:
    """Return the budget of a project's `spec.flotilla.deletion` block.

    Raises: RuleError naming the field.
    """
    spec = spec or {}
    numbers = {}
    for name, attribute in (("maxResources", "resources"), ("maxPercent", "percent")):
        value = spec.get(name, getattr(Budget(), attribute))
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise RuleError(
                f"spec.flotilla.deletion.{name} must be a whole number from 0, not {value!r}"
            )
        numbers[attribute] = value
    kinds = spec.get("confirmKinds", list(DATA_KINDS))
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise RuleError("spec.flotilla.deletion.confirmKinds must be a list of kinds")
    return Budget(numbers["resources"], numbers["percent"], confirm_kinds=tuple(kinds))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live resource to delete, and its Prune or Delete option: "", "false" or "confirm"."""

    key: ResourceKey
    option: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The guard's decisions, per resource and as a message."""

    verdicts: dict[ResourceKey, Verdict] = field(default_factory=dict)
    message: str = ""

    def having(self, verdict: Verdict) -> list[ResourceKey]:
        """Return the resources with this verdict."""
        return [key for key, found in self.verdicts.items() if found is verdict]


def decide_deletions(
    candidates: Sequence[Candidate],
    *,
    total: int,
    budget: Budget,
    confirmed: bool,
    explicit: bool = False,
) -> Ruling:
    """Return which candidates may be deleted now.

    Shapes: `total` is the number of the application's resources. `explicit` means that a user
        requested exactly this deletion, such as a cascade: only kinds and options count.
    """
    over = (
        ""
        if explicit
        else _over_budget(len([c for c in candidates if c.option != "false"]), total, budget)
    )
    verdicts = {}
    for candidate in candidates:
        if candidate.option == "false":
            verdicts[candidate.key] = Verdict.REFUSED
        elif confirmed or not (
            over or candidate.option == "confirm" or candidate.key.kind in budget.confirm_kinds
        ):
            verdicts[candidate.key] = Verdict.ALLOWED
        else:
            verdicts[candidate.key] = Verdict.CONFIRM
    return Ruling(verdicts, _message(verdicts, over, "deletion" if explicit else "pruning"))


def needs_confirmation(message: str) -> bool:
    """Return whether a ruling's message asks a user to confirm."""
    return message.startswith(tuple(_ASKS.format(what) for what in ("deletion", "pruning")))


def _over_budget(count: int, total: int, budget: Budget) -> str:
    if count > budget.resources:
        return f"{count} resources exceed the limit of {budget.resources} deleted at once"
    if total >= budget.floor and count * 100 > budget.percent * total:
        return f"{count} of {total} resources exceed the limit of {budget.percent}% deleted at once"
    return ""


_ASKS = "waiting for {} confirmation of "


def _message(verdicts: Mapping[ResourceKey, Verdict], over: str, what: str) -> str:
    waiting = [key for key, verdict in verdicts.items() if verdict is Verdict.CONFIRM]
    if not waiting:
        return ""
    more = f" and {len(waiting) - 1} more resources" if len(waiting) > 1 else ""
    return f"{_ASKS.format(what)}{waiting[0]}{more}" + (f": {over}" if over else "")
