"""Sync and health statuses, and how an application's status follows from its resources."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hub.engine.resource import ResourceKey


class Sync(StrEnum):
    """Whether the live state equals the desired state."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """Whether a resource works, in order from best to worst."""

    HEALTHY = "Healthy"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    MISSING = "Missing"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


class Phase(StrEnum):
    """The phase of an operation."""

    RUNNING = "Running"
    TERMINATING = "Terminating"
    FAILED = "Failed"
    ERROR = "Error"
    SUCCEEDED = "Succeeded"

    @property
    def is_final(self) -> bool:
        """Whether the operation has ended."""
        return self in (Phase.FAILED, Phase.ERROR, Phase.SUCCEEDED)


_ORDER = list(Health)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The health of one resource."""

    status: Health
    message: str = ""


@dataclass(frozen=True, slots=True)
class ResourceState:
    """The result of a comparison for one resource of an application."""

    key: ResourceKey
    version: str
    status: Sync | None
    """None for hooks, and for resources with tracking marks copied from others."""
    health: Assessment | None = None
    exists: bool = True
    wanted: bool = True
    """Whether the source has it; a live resource that is not in the source requires pruning."""
    hook: bool = False
    wave: int = 0
    ignore_extraneous: bool = False
    ignore_health: bool = False
    needs_confirmation: bool = False
    note: str = ""
    """A remark on how it was compared, empty if there is none."""

    @property
    def requires_pruning(self) -> bool:
        """Whether the resource should be pruned."""
        return self.exists and not self.wanted and not self.hook


def application_sync(states: Iterable[ResourceState]) -> Sync:
    """Return the sync status of an application from its resources."""
    for state in states:
        if state.status is Sync.OUT_OF_SYNC and not (
            state.requires_pruning and state.ignore_extraneous
        ):
            return Sync.OUT_OF_SYNC
    return Sync.SYNCED


def application_health(
    states: Iterable[ResourceState], itself: ResourceKey | None = None
) -> Assessment:
    """Return the worst health of the relevant resources, with up to three causes.

    Source: as Argo CD 3.6: a missing resource does not affect the application, unless none of
        its resources exist.
    """
    counted = [s for s in states if not s.hook and not s.ignore_health and s.key != itself]
    wanted = [s for s in counted if s.wanted]
    if wanted and not any(s.exists for s in counted):
        return Assessment(Health.MISSING)
    worst = Health.HEALTHY
    causes: list[str] = []
    for state in counted:
        if state.health is None or not state.exists or _is_unset_child(state):
            continue
        rank = _ORDER.index(state.health.status)
        if rank > _ORDER.index(worst):
            worst, causes = state.health.status, []
        if state.health.status is worst and worst is not Health.HEALTHY:
            causes.append(_cause(state))
    return Assessment(worst, "; ".join(causes[:3]))


def _is_unset_child(state: ResourceState) -> bool:
    # A child application that was never reconciled does not affect its parent.
    return (
        (state.key.group, state.key.kind) == ("argoproj.io", "Application")
        and state.health is not None
        and state.health.status in (Health.MISSING, Health.UNKNOWN)
    )


def _cause(state: ResourceState) -> str:
    text = state.health.message if state.health else ""
    return (
        f"{state.key.kind} {state.key.name}: {text}"
        if text
        else f"{state.key.kind} {state.key.name}"
    )


def worst(assessments: Iterable[Assessment]) -> Health:
    """Return the worst health, Healthy if there is none."""
    return max((a.status for a in assessments), key=_ORDER.index, default=Health.HEALTHY)
