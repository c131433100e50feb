"""The plan of a sync: its steps, their order, and what runs next.

A phase is a member of `hub.engine.hooks.SyncPhase`; its place among the others is `PHASE_ORDER`.
Source: as Argo CD 3.6 orders and executes syncs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hub.engine.hooks import (
    DELETE_PHASES,
    PHASE_ORDER,
    SyncPhase,
    delete_policies,
    hook_phases,
    wave,
)
from hub.engine.resource import Manifest, ResourceKey, resource_key, split_api_version
from hub.engine.status import Assessment, Health
from hub.engine.sync_options import ResourceOptions, resource_options

PENDING, RUNNING, SUCCEEDED, FAILED = "pending", "running", "succeeded", "failed"
APPLY, PRUNE, HOOK = "apply", "prune", "hook"

_KINDS_IN_ORDER = """
Namespace NetworkPolicy ResourceQuota LimitRange PodSecurityPolicy PodDisruptionBudget
ServiceAccount Secret SecretList ConfigMap StorageClass PersistentVolume PersistentVolumeClaim
CustomResourceDefinition ClusterRole ClusterRoleList ClusterRoleBinding ClusterRoleBindingList
Role RoleList RoleBinding RoleBindingList Service DaemonSet Pod ReplicationController ReplicaSet
Deployment HorizontalPodAutoscaler StatefulSet Job CronJob IngressClass Ingress APIService
"""
KIND_ORDER = {kind: rank for rank, kind in enumerate(_KINDS_IN_ORDER.split())}


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a plan: apply or prune one resource, or run it as a hook."""

    key: ResourceKey
    version: str
    phase: SyncPhase
    wave: int
    action: str
    status: str = PENDING
    result: str = ""
    """Synced, SyncFailed, Pruned or PruneSkipped, empty while pending."""
    message: str = ""
    source_name: str = ""
    """The name in the source, if the applied name was generated."""
    policies: tuple[str, ...] = ()
    defines: tuple[str, str] | None = None
    """The group and kind that a CustomResourceDefinition defines."""
    synced: bool = False
    """Whether the resource was synced when the plan was made, so that applying changes nothing."""

    @property
    def group(self) -> tuple[int, int]:
        """Phase and wave as a sortable pair; steps of one group run together."""
        return PHASE_ORDER.index(self.phase), self.wave

    def to_json(self) -> dict[str, Any]:
        """Serialize the step to store it with its operation."""
        return {
            "key": list(self.key),
            "version": self.version,
            "phase": self.phase,
            "wave": self.wave,
            "action": self.action,
            "status": self.status,
            "result": self.result,
            "message": self.message,
            "sourceName": self.source_name,
            "policies": list(self.policies),
            "defines": list(self.defines or ()),
            "synced": self.synced,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Step":
        """Deserialize a stored step."""
        return cls(
            key=ResourceKey(*data["key"]),
            version=data["version"],
            phase=SyncPhase(data["phase"]),
            wave=data["wave"],
            action=data["action"],
            status=data["status"],
            result=data["result"],
            message=data["message"],
            source_name=data["sourceName"],
            policies=tuple(data["policies"]),
            # Plans stored by older releases have neither.
            defines=_pair(data.get("defines")),
            synced=data.get("synced", False),
        )


def _pair(found: Sequence[str] | None) -> tuple[str, str] | None:
    return (found[0], found[1]) if found else None


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The request for a sync."""

    revision: str
    started: int
    """Unix time of the operation's start, in seconds; part of generated hook names."""
    hooks: bool = True
    prune: bool = False
    options: Mapping[str, str] | None = None
    synced: Collection[ResourceKey] = ()
    """Resources that are already synced."""


def plan(
    desired: Iterable[Manifest], extra: Iterable[Manifest], request: PlanRequest
) -> list[Step]:
    """Return the steps of a sync in execution order.

    Shapes: `desired` are the manifests to apply, including hooks; `extra` are the live resources to
        prune.
    """
    options = request.options or {}
    steps: list[Step] = []
    for manifest in desired:
        phases = hook_phases(manifest)
        if phases and request.hooks:
            steps += [_hook_step(manifest, p, request) for p in phases if p not in DELETE_PHASES]
        elif not phases:
            steps.append(_apply_step(manifest, request))
    prunes = [_prune_step(manifest, resource_options(manifest, options)) for manifest in extra]
    last = max((s.wave for s in steps if s.phase is SyncPhase.SYNC), default=0)
    steps += _mirrored(prunes, last)
    return _ordered(steps)


def _apply_step(manifest: Manifest, request: PlanRequest) -> Step:
    key = resource_key(manifest)
    return Step(
        key,
        split_api_version(manifest["apiVersion"])[1],
        SyncPhase.SYNC,
        wave(manifest),
        APPLY,
        defines=defined_kind(manifest),
        synced=key in request.synced,
    )


def defined_kind(manifest: Manifest) -> tuple[str, str] | None:
    """Return the group and kind that a CustomResourceDefinition defines, else None."""
    spec = manifest.get("spec")
    if manifest["kind"] != "CustomResourceDefinition" or not isinstance(spec, Mapping):
        return None
    names = spec.get("names")
    kind = names.get("kind") if isinstance(names, Mapping) else None
    group = spec.get("group")
    return (group, kind) if isinstance(group, str) and isinstance(kind, str) else None


def generated_name(prefix: str, revision: str, phase: SyncPhase, started: int) -> str:
    """Return the name of a hook that has only `generateName`.

    Units: `started` is Unix time in seconds.
    """
    return f"{prefix}{revision[:7]}-{phase.lower()}-{started}"


def _hook_step(manifest: Manifest, phase: SyncPhase, request: PlanRequest) -> Step:
    key = resource_key(manifest)
    source_name = ""
    if not manifest["metadata"].get("name"):
        source_name = key.name
        name = generated_name(source_name, request.revision, phase, request.started)
        key = key._replace(name=name)
    return Step(
        key,
        split_api_version(manifest["apiVersion"])[1],
        phase,
        wave(manifest),
        HOOK,
        source_name=source_name,
        policies=tuple(sorted(delete_policies(manifest))),
    )


def _prune_step(manifest: Manifest, options: ResourceOptions) -> Step:
    key = resource_key(manifest)
    last = options.has("PruneLast")
    return Step(
        key,
        split_api_version(manifest["apiVersion"])[1],
        SyncPhase.SYNC,
        wave(manifest),
        PRUNE,
        policies=("last",) if last else (),
    )


def _mirrored(prunes: list[Step], last_wave: int) -> list[Step]:
    # Prune in reverse order of creation: the waves of the prunes are mirrored.
    waves = sorted({s.wave for s in prunes if not s.policies})
    swap = dict(zip(waves, reversed(waves), strict=True))
    return [replace(s, wave=last_wave + 1 if s.policies else swap[s.wave]) for s in prunes]


def _ordered(steps: list[Step]) -> list[Step]:
    custom = {step.defines for step in steps if step.defines}

    def order(step: Step) -> tuple[tuple[int, int], int, str]:
        # A custom kind may have the name of a built-in kind; it still comes after its definition.
        is_custom = (step.key.group, step.key.kind) in custom
        return step.group, kind_rank("" if is_custom else step.key.kind), step.key.name

    return sorted(_with_dependencies_first(steps), key=order)


def kind_rank(kind: str) -> int:
    """Return the position of a kind within a group."""
    return KIND_ORDER.get(kind, len(KIND_ORDER))


def _with_dependencies_first(steps: list[Step]) -> list[Step]:
    first_inside: dict[str, Step] = {}
    first_of: dict[tuple[str, str], Step] = {}
    for step in steps:
        if step.action != PRUNE:
            _note_first(first_inside, step.key.namespace, step)
            _note_first(first_of, (step.key.group, step.key.kind), step)
    result = []
    for step in steps:
        needed = step
        if step.action == APPLY and step.key[:2] == ("", "Namespace"):
            needed = _not_after(step, first_inside.get(step.key.name))
        elif step.action == APPLY and step.defines:
            needed = _not_after(step, first_of.get(step.defines))
        result.append(needed)
    return result


def _note_first(first: dict[Any, Step], name: Any, step: Step) -> None:
    known = first.get(name)
    if known is None or step.group < known.group:
        first[name] = step


def _not_after(step: Step, first: Step | None) -> Step:
    if first is None or first.group >= step.group:
        return step
    return replace(step, phase=first.phase, wave=first.wave)


@dataclass(frozen=True, slots=True)
class Observation:
    """The observed state of a running step's resource."""

    exists: bool
    health: Assessment | None = None
    deleting: bool = False


def observe(step: Step, seen: Observation) -> Step:
    """Update a running step from the observed state of its resource."""
    if step.action == PRUNE:
        return step if seen.exists else replace(step, status=SUCCEEDED)
    if not seen.exists:
        what = "hook" if step.action == HOOK else "resource"
        return replace(
            step,
            status=FAILED,
            message=f"The {what} {step.key} is missing: it may have been deleted before "
            "its result was read",
        )
    health = seen.health
    if health is None or health.status is Health.HEALTHY:
        return replace(
            step, status=SUCCEEDED, message=(health.message if health else "") or step.message
        )
    if health.status is Health.DEGRADED or (
        step.action == HOOK and health.status is Health.UNKNOWN
    ):
        return replace(
            step, status=FAILED, message=health.message or f"{step.key} is {health.status}"
        )
    return step


def is_multi_step(steps: Sequence[Step]) -> bool:
    """Return whether the plan has several groups, which wait for each other."""
    return len({s.group for s in steps if s.phase is not SyncPhase.SYNC_FAIL}) > 1


def waiting(steps: Sequence[Step]) -> str:
    """Return what a sync waits for, empty if it can proceed.

    Source: as Argo CD; it waits for hooks always, for other resources only before another group.
    """
    begun = next_group(steps, failing=False)
    if begun and any(s.status == RUNNING and s.group == steps[begun[0]].group for s in steps):
        return ""  # resume a group that was interrupted
    hooks = [s for s in steps if s.status == RUNNING and s.action == HOOK]
    if hooks:
        return _waiting_text("completion of hook", hooks, "hooks")
    if not is_multi_step(steps):
        return ""
    prunes = [s for s in steps if s.status == RUNNING and s.action == PRUNE]
    if prunes:
        return _waiting_text("deletion of", prunes, "resources")
    running = [s for s in steps if s.status == RUNNING]
    return _waiting_text("healthy state of", running, "resources") if running else ""


def _waiting_text(what: str, steps: Sequence[Step], plural: str) -> str:
    more = f" and {len(steps) - 1} more {plural}" if len(steps) > 1 else ""
    return f"waiting for {what} {steps[0].key}{more}"


def next_group(steps: Sequence[Step], *, failing: bool) -> list[int]:
    """Return the indexes of the steps to run now: the first pending phase and wave.

    If the sync is failing, only SyncFail hooks run; otherwise they do not.
    """
    pending = [
        (s.group, i)
        for i, s in enumerate(steps)
        if s.status == PENDING and (s.phase is SyncPhase.SYNC_FAIL) == failing
    ]
    first = min((group for group, _ in pending), default=None)
    return [i for group, i in pending if group == first]


def hooks_to_delete(steps: Sequence[Step], *, succeeded: bool, ended: bool) -> list[Step]:
    """Return the hooks to delete now according to their delete policy."""
    chosen = []
    for step in steps:
        if step.action != HOOK or step.status not in (SUCCEEDED, FAILED):
            continue
        if (
            "HookSucceeded" in step.policies and ended and succeeded and step.status == SUCCEEDED
        ) or ("HookFailed" in step.policies and step.status == FAILED):
            chosen.append(step)
    return chosen
