"""Words of status that reach JSON, and how the states of resources make that of an application."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hub.engine.resource import ResourceKey


class Sync(StrEnum):
    """Whether live equals desired."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """Whether it works; in the order from best to worst."""

    HEALTHY = "Healthy"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    MISSING = "Missing"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


class Phase(StrEnum):
    """Where an operation is."""

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
    """What a comparison found for one resource of an application."""

    key: ResourceKey
    version: str
    status: Sync | None
    """None for hooks and for resources whose marks were copied from another."""
    health: Assessment | None = None
    exists: bool = True
    wanted: bool = True
    """Whether the source has it; a live resource that it does not have needs pruning."""
    hook: bool = False
    wave: int = 0
    ignore_extraneous: bool = False
    ignore_health: bool = False
    needs_confirmation: bool = False
    note: str = ""
    """What must be said of how it was compared, empty when nothing."""

    @property
    def requires_pruning(self) -> bool:
        """Whether the resource should go."""
        return self.exists and not self.wanted and not self.hook


def application_sync(states: Iterable[ResourceState]) -> Sync:
    """Return the sync status of an application from those of its resources."""
    for state in states:
        if state.status is Sync.OUT_OF_SYNC and not (
            state.requires_pruning and state.ignore_extraneous
        ):
            return Sync.OUT_OF_SYNC
    return Sync.SYNCED


def application_health(
    states: Iterable[ResourceState], itself: ResourceKey | None = None
) -> Assessment:
    """Return the worst health of the resources that count, and up to three causes.

    Source: as Argo CD 3.6: a missing resource does not worsen an application, unless it has
        resources and none of them exists.
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
    # A child application that was never looked at says nothing about its parent.
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
    """Return the worst of several, Healthy when there are none."""
    return max((a.status for a in assessments), key=_ORDER.index, default=Health.HEALTHY)
