"""Store the result of a refresh: status, conditions, and the automated sync that it starts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.access.decisions import Caller, identity_of
from hub.audit import trail
from hub.engine.autosync import Decision, LastOperation, decide
from hub.engine.hooks import DELETE_PHASES, hook_phases, is_delete_hook
from hub.engine.status import (
    Assessment,
    Health,
    Phase,
    ResourceState,
    Sync,
)
from hub.engine.tracking import TRACKING_ID
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import next_version
from projects.access.refusal_audit import BLOCKED, not_started
from projects.comparison.compare import (
    NOT_PERMITTED,
    REPEATED,
    UNANSWERED,
    Compared,
)
from projects.models import (
    DELAYED,
    ERRORS,
    Application,
    ApplicationEvent,
    ManagedResource,
    Operation,
    StatusChange,
)
from projects.objects.applications import notify_rollout
from projects.objects.manifests import mirror_application, stamp
from projects.objects.specs import bind_remotes
from projects.objects.sync_windows import windows_of
from projects.sources import Desired
from projects.sources.remote_inputs import repositories_of

log = logging.getLogger(__name__)

WARNINGS = (
    NOT_PERMITTED,
    UNANSWERED,
    REPEATED,
    "SharedResourceWarning",
    "HubKindWarning",
    "RepeatedResourceWarning",
    "ExcludedResourceWarning",
    "OrphanedResourceWarning",
    "UnknownFieldWarning",
    "IgnoredFilesWarning",
    DELAYED,
)
RUNNING = ("Running", "Terminating")


@dataclass
class Outcome:
    """The result of one refresh of an application, before it is stored."""

    sync: Sync = Sync.UNKNOWN
    health: Assessment = field(default_factory=lambda: Assessment(Health.UNKNOWN))
    conditions: list[tuple[str, str]] = field(default_factory=list)
    desired: Desired | None = None
    compared: Compared | None = None
    retry_after: timedelta | None = None
    keeps_status: bool = False
    """Keep the stored sync status, health and resources: the failure is likely transient."""
    digest: str = ""
    refusal: str = ""
    """The parts of the spec that the project does not permit."""

    @property
    def is_unchanged(self) -> bool:
        """Whether the inputs equal those of the stored comparison, so that it still holds."""
        is_loaded = self.compared is None and self.desired is not None and bool(self.digest)
        return is_loaded and not any(kind in ERRORS for kind, _ in self.conditions)


@dataclass
class StatusUpdate:
    """The status columns of an application after a refresh."""

    conditions: list[dict[str, str]]
    sync_status: str
    health_status: str
    health_message: str
    health_changed_at: datetime | None
    out_of_sync_since: datetime | None
    revisions: list[str]
    inputs: list[Any]
    source_types: list[str]
    resources: list[dict[str, Any]]
    summary: dict[str, Any]
    compared_to: dict[str, Any]
    finalizers: list[str]
    annotations: dict[str, str]
    comparison_digest: str
    reconciled_at: datetime | None
    compared_at: datetime | None
    refresh_kind: str
    refresh_at: datetime | None

    @classmethod
    def of(cls, application: Application) -> "StatusUpdate":
        """Return the stored columns."""
        return cls(**{f.name: getattr(application, f.name) for f in fields(cls)})

    def changed(self, application: Application) -> dict[str, Any]:
        """Return the columns whose value differs from the stored one."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in values.items() if getattr(application, k) != v}

    def drop_conditions(self, *kinds: str) -> None:
        """Remove the conditions of some types."""
        self.conditions = [c for c in self.conditions if c["type"] not in kinds]


_INVISIBLE = {
    "compared_at",
    "reconciled_at",
    "comparison_digest",
    "inputs",
    "refresh_at",
    "refresh_kind",
}
"""Columns whose changes alone do not publish a new version of the application."""


def write(application: Application, outcome: Outcome, seen: datetime | None) -> None:
    """Store the result of a refresh, start any automated sync, schedule the next refresh.

    `seen` is the value of `refresh_at` when the refresh began; a later value is kept.
    """
    now = timezone.now()
    with transaction.atomic():
        current = Application.objects.select_for_update().get(pk=application.pk)
        known = (application.generation, application.reconciled_at)
        if (current.generation, current.reconciled_at) != known:
            # The spec changed during the refresh, or another worker refreshed after this one lost
            # its claim: the result is outdated.
            Application.objects.filter(pk=application.pk).update(refresh_at=now)
            return
        update = _update(current, outcome, now)
        decision = _automated(current, outcome, update, now)
        if outcome.compared is not None:
            _write_managed(current, outcome.compared)
        is_answered = bool(current.refresh_kind) and (
            current.refresh_requested_at == application.refresh_requested_at
        )
        visible = update.changed(current).keys() - _INVISIBLE
        if is_answered:
            update.refresh_kind = ""
            update.annotations = _without_refresh(current.annotations)
        if current.refresh_at == seen:
            waits = [d for d in (outcome.retry_after, decision.retry_after) if d is not None]
            update.refresh_at = now + min(waits) if waits else None
        columns = update.changed(current)
        if visible or is_answered:
            columns["resource_version"] = next_version()
            publish()
            notify_rollout(current)
        Application.objects.filter(pk=current.pk).update(**columns)
        _bind(current, outcome)
        if visible & {"sync_status", "health_status"}:
            _record_change(current, outcome, update, now)
        if outcome.refusal and current.is_automated:
            not_started(current, current.revisions, outcome.refusal)
        if decision.start and outcome.desired:
            _start(current, outcome, decision)
        if TRACKING_ID in current.annotations:
            mirror_application(current.pk)


def _without_refresh(annotations: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in annotations.items() if k != "argocd.argoproj.io/refresh"}


def _bind(current: Application, outcome: Outcome) -> None:
    # Repositories that sources refer to by URL are polled like the sources' own.
    found = outcome.desired.inputs if outcome.desired else current.inputs
    if repositories_of(found) != repositories_of(current.inputs):
        current.inputs = found
        bind_remotes(current)
        # Otherwise, a push to it before the application was bound would be missed.
        Application.objects.filter(pk=current.pk).update(refresh_at=timezone.now())


def _record_change(
    current: Application, outcome: Outcome, update: StatusUpdate, now: datetime
) -> None:
    """Log a change of the sync status or health, and add it to history and events."""
    log.info(
        "sync %s, health %s",
        update.sync_status,
        update.health_status,
        extra={
            "application": current.qualified_name,
            "revision": ",".join(update.revisions),
        },
    )
    StatusChange.objects.create(
        application=current,
        at=now,
        health_before=current.health_status,
        health=update.health_status,
        sync_before=current.sync_status,
        sync=update.sync_status,
        revision=str(update.revisions[0])[:200] if update.revisions else "",
        message=_cause(update.conditions, update.resources if outcome.compared else [])[:300],
    )
    text = f"Sync status {update.sync_status}, health {update.health_status}"
    _event(current, "StatusRefreshed", text)


def _cause(conditions: Sequence[dict[str, str]], resources: Sequence[dict[str, Any]]) -> str:
    """Return the first problem as text: an error, or a degraded or out-of-sync resource."""
    for condition in conditions:
        if condition["type"] in ERRORS:
            return str(condition["message"])
    for entry in resources:
        health = entry.get("health") or {}
        if health.get("status") == "Degraded":
            return f"{entry['kind']} {entry['name']}: {health.get('message') or 'Degraded'}"
    drifted = [e for e in resources if e.get("status") == "OutOfSync"]
    names = ", ".join(f"{e['kind']} {e['name']}" for e in drifted[:3])
    return f"{names} {'differ' if len(drifted) > 1 else 'differs'}" if drifted else ""


def _update(current: Application, outcome: Outcome, now: datetime) -> StatusUpdate:
    update = StatusUpdate.of(current)
    if outcome.keeps_status:
        _add_delay(current, update, outcome, now)
        return update
    update.compared_at = now
    if outcome.desired is not None:
        update.revisions, update.inputs = outcome.desired.revisions, outcome.desired.inputs
    if outcome.is_unchanged:
        update.reconciled_at = now
        update.comparison_digest = outcome.digest
        update.drop_conditions(*ERRORS, DELAYED)
        return update
    if outcome.desired is not None:
        update.source_types = outcome.desired.source_types
    update.conditions = _conditions(current, list(dict.fromkeys(outcome.conditions)), now)
    _set_statuses(update, outcome, now)
    is_final = outcome.compared is not None and outcome.compared.is_final
    update.comparison_digest = outcome.digest if is_final else ""
    if outcome.compared is not None:
        _set_comparison(current, update, outcome.compared, now)
    return update


def _add_delay(current: Application, update: StatusUpdate, outcome: Outcome, now: datetime) -> None:
    delays = [condition for condition in outcome.conditions if condition[0] == DELAYED]
    if delays and not any(c["type"] == DELAYED for c in current.conditions):
        update.conditions = [*current.conditions, *_conditions(current, delays, now)[-1:]]


def _set_statuses(update: StatusUpdate, outcome: Outcome, now: datetime) -> None:
    if outcome.health.status != update.health_status or not update.health_changed_at:
        update.health_changed_at = now
    update.health_status = outcome.health.status
    update.health_message = outcome.health.message[:1000]
    update.sync_status = outcome.sync
    if outcome.sync is Sync.OUT_OF_SYNC:
        update.out_of_sync_since = update.out_of_sync_since or now
    elif outcome.sync is Sync.SYNCED:
        update.out_of_sync_since = None


def _set_comparison(
    current: Application, update: StatusUpdate, compared: Compared, now: datetime
) -> None:
    update.reconciled_at = now
    update.resources = [
        resource_json(s) for s in compared.states if not _is_delete_hook(compared, s)
    ]
    update.summary = _summary(compared)
    update.compared_to = {
        "sources": current.sources,
        "destination": current.spec.get("destination"),
        "ignoreDifferences": current.spec.get("ignoreDifferences") or [],
    }
    update.finalizers = _hook_finalizers(current, compared)


def _is_delete_hook(compared: Compared, state: ResourceState) -> bool:
    return bool(state.hook) and any(
        p.key == state.key and p.desired is not None and is_delete_hook(p.desired)
        for p in compared.pairs
    )


def _hook_finalizers(current: Application, compared: Compared) -> list[str]:
    phases = {
        phase
        for pair in compared.pairs
        if pair.state.hook and pair.desired
        for phase in hook_phases(pair.desired)
    }
    result = [
        f
        for f in current.finalizers
        if not f.startswith(("pre-delete-finalizer", "post-delete-finalizer"))
    ]
    for phase, name in DELETE_PHASES.items():
        if phase in phases:
            result += [
                f"{name}-finalizer.argocd.argoproj.io",
                f"{name}-finalizer.argocd.argoproj.io/cleanup",
            ]
    return result


def _conditions(
    current: Application, found: Sequence[tuple[str, str]], now: datetime
) -> list[dict[str, str]]:
    recomputed = (*ERRORS, *WARNINGS, "SyncError")
    kept = [c for c in current.conditions if c["type"] not in recomputed]
    sync_errors = [c for c in current.conditions if c["type"] == "SyncError"]
    return [*kept, *sync_errors, *(_condition(current, kind, text, now) for kind, text in found)]


def _condition(current: Application, kind: str, message: str, now: datetime) -> dict[str, str]:
    """Return a condition, with its transition time unchanged if it already exists."""
    known: list[dict[str, str]] = current.conditions
    for condition in known:
        if (condition["type"], condition["message"]) == (kind, message):
            return condition
    return {"type": kind, "message": message, "lastTransitionTime": stamp(now) or ""}


def resource_json(state: ResourceState) -> dict[str, Any]:
    """Return the status of one resource, in the format of `status.resources`."""
    result: dict[str, Any] = {
        "group": state.key.group,
        "version": state.version,
        "kind": state.key.kind,
        "namespace": state.key.namespace,
        "name": state.key.name,
    }
    if state.status is not None:
        result["status"] = state.status.value
    if state.health is not None and state.exists:
        result["health"] = {"status": state.health.status.value} | (
            {"message": state.health.message} if state.health.message else {}
        )
    elif not state.exists and not state.hook:
        result["health"] = {"status": "Missing"}
    for name, value in (
        ("hook", state.hook),
        ("comparisonNote", state.note),
        ("requiresPruning", state.requires_pruning),
        ("requiresDeletionConfirmation", state.needs_confirmation),
        ("syncWave", state.wave),
    ):
        if value:
            result[name] = value
    return {k: v for k, v in result.items() if v != "" or k in ("kind", "name")}


def _summary(compared: Compared) -> dict[str, Any]:
    images, urls = set(), set()
    for pair in compared.pairs:
        shown = (pair.row.shown if pair.row else None) or {}
        images |= set(shown.get("images") or ())
        urls |= set((shown.get("networkingInfo") or {}).get("externalURLs") or ())
    result: dict[str, Any] = {}
    if images:
        result["images"] = sorted(images)
    if urls:
        result["externalURLs"] = sorted(urls)
    if any((s.key.group, s.key.kind) == ("argoproj.io", "Application") for s in compared.states):
        result["isAppOfApps"] = True
    return result


def _write_managed(current: Application, compared: Compared) -> None:
    if current.cluster_id is None:
        return
    wanted = {p.key.text for p in compared.pairs if p.is_permitted}
    known = dict(current.managed.values_list("key", "cluster_id"))
    stale = [k for k, c in known.items() if k not in wanted or c != current.cluster_id]
    if stale:
        current.managed.filter(key__one_of=stale).delete()
    fresh = wanted - (known.keys() - set(stale))
    if fresh:
        ManagedResource.objects.bulk_create(
            [
                ManagedResource(application=current, cluster_id=current.cluster_id, key=k)
                for k in fresh
            ],
            ignore_conflicts=True,
        )


def _automated(
    current: Application, outcome: Outcome, update: StatusUpdate, now: datetime
) -> Decision:
    """Return whether an automated sync starts now; if not, record why as a SyncError condition."""
    desired, compared = outcome.desired, outcome.compared
    if not outcome.keeps_status and update.sync_status == Sync.SYNCED:
        update.drop_conditions("SyncError")
    if desired is None or compared is None or not _may_start(current, update):
        return Decision(start=False)
    decision = decide(
        current.sync_policy["automated"] or {},
        Sync.OUT_OF_SYNC,
        compared.states,
        LastOperation(Phase.SUCCEEDED, tuple(desired.revisions), current.sources),
        _last(current),
        now,
    )
    if decision.start:
        decision = _when_open(current, now) or decision
    if decision.is_refused:
        not_started(current, desired.revisions, decision.error or BLOCKED)
    update.drop_conditions("SyncError")
    if decision.error:
        update.conditions.append(_condition(current, "SyncError", decision.error, now))
    return decision


def _may_start(current: Application, update: StatusUpdate) -> bool:
    is_busy = current.operation is not None and current.operation.phase in RUNNING
    return (
        current.is_automated
        and update.sync_status == Sync.OUT_OF_SYNC
        and not current.deletion_requested_at
        and not is_busy
        and not any(c["type"] in ERRORS for c in update.conditions)
    )


def _when_open(current: Application, now: datetime) -> Decision | None:
    """Return a decision to wait if sync windows block a sync now, None otherwise."""
    windows = windows_of(current, now)
    if windows.can_sync(manual=False):
        return None
    reopens = windows.reopens_at()
    wait = max(reopens - now, timedelta(seconds=1)) if reopens else timedelta(minutes=5)
    return Decision(start=False, retry_after=wait, is_refused=True)


def _last(current: Application) -> LastOperation | None:
    operation = current.operation
    if operation is None or (operation.sync.get("dryRun")):
        return None
    return LastOperation(
        Phase(operation.phase),
        tuple(operation.revisions),
        operation.sources,
        operation.message,
        operation.finished_at,
        operation.heal_attempts,
    )


def _start(current: Application, outcome: Outcome, decision: Decision) -> None:
    policy, desired = current.sync_policy, outcome.desired
    if desired is None or outcome.compared is None:
        return
    sync: dict[str, Any] = {
        "prune": bool((policy.get("automated") or {}).get("prune")),
        "syncOptions": policy.get("syncOptions") or [],
    }
    if decision.heal:
        attempts = current.operation.heal_attempts if current.operation else 0
        sync["resources"] = [
            _selector(s) for s in outcome.compared.states if s.status is Sync.OUT_OF_SYNC
        ]
        sync["autoHealAttemptsCount"] = attempts + 1
    request = {
        "sync": sync,
        "initiatedBy": {"automated": True},
        "retry": policy.get("retry") or {"limit": 5},
    }
    start_operation(current, request, desired.revisions, current.sources, actor="automated sync")


def _selector(state: ResourceState) -> dict[str, str]:
    key = state.key
    return {"group": key.group, "kind": key.kind, "name": key.name, "namespace": key.namespace}


def start_operation(
    application: Application,
    request: dict[str, Any],
    revisions: Sequence[str],
    wanted: Sequence[Any],
    *,
    actor: str,
    rollback: bool = False,
    caller: Caller | None = None,
) -> Operation:
    """Create an operation and enqueue it; `caller` is the person who requested it.

    Raises: IntegrityError if another operation is running.
    """
    sync = request.get("sync") or {}
    operation = Operation.objects.create(
        application=application,
        request=request,
        revisions=list(revisions),
        sources=list(wanted),
        message="initiated",
        heal_attempts=sync.get("autoHealAttemptsCount", 0),
        is_rollback=rollback,
        started_by=identity_of(caller) if caller else None,
    )
    Application.objects.filter(pk=application.pk).bump(operation=operation)
    verb = "rollback" if rollback else "sync"
    trail.record(
        actor,
        verb,
        "application",
        application.qualified_name,
        application.project,
        cluster=application.cluster.name if application.cluster else "",
        revisions=list(revisions),
        operation=operation.pk,
        resources=len(sync.get("resources") or []),
        dry_run=bool(sync.get("dryRun")) or None,
    )
    short = ", ".join(r[:12] for r in revisions)
    _event(application, "OperationStarted", f"{actor} initiated {verb} to {short}")
    publish()
    notify_rollout(application)
    wake(TaskName.PROJECTS_SYNC, operation.pk, priority=2)
    return operation


def _event(application: Application, reason: str, message: str, kind: str = "Normal") -> None:
    ApplicationEvent.objects.create(
        application_uid=application.uid,
        namespace=application.namespace,
        name=application.name,
        reason=reason,
        message=message,
        kind=kind,
    )
