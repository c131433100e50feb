"""Write what a look at an application found: status, conditions, and the operation that it calls for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.access.decisions import Caller, identity_of
from hub.audit import trail
from hub.engine.autosync import Decision, LastOperation, decide
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
from projects.applications import tell_rollout
from projects.compare import NOT_PERMITTED, REPEATED, UNANSWERED, Compared, is_delete_hook
from projects.models import (
    DELAYED,
    ERRORS,
    Application,
    ApplicationEvent,
    ManagedResource,
    Operation,
    StatusChange,
)
from projects.refusal_audit import BLOCKED, not_started
from projects.sources import Desired
from projects.sources.reach import repositories_of
from projects.specs import bind_remotes
from projects.sync_windows import windows_of

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
    DELAYED,
)


RUNNING = ("Running", "Terminating")


@dataclass
class Outcome:
    """What a look at an application found; all exits write it at one place."""

    sync: Sync = Sync.UNKNOWN
    health: Assessment = field(default_factory=lambda: Assessment(Health.UNKNOWN))
    conditions: list[tuple[str, str]] = field(default_factory=list)
    desired: Desired | None = None
    compared: Compared | None = None
    look_again: timedelta | None = None
    keep_status: bool = False
    """Leave sync, health and resources as they were: the reason is likely to pass."""
    digest: str = ""
    refusal: str = ""
    """What of the application its project does not permit."""


def write(application: Application, outcome: Outcome, seen: datetime | None) -> None:
    """Store what a look found, if it differs; start an operation if it should; plan the next look."""
    now = timezone.now()
    with transaction.atomic():
        current = Application.objects.select_for_update().get(pk=application.pk)
        known = (application.generation, application.reconciled_at)
        if (current.generation, current.reconciled_at) != known:
            # The spec changed under the look, or it was held up so long that another was made: what it found is of no use.
            Application.objects.filter(pk=application.pk).update(refresh_at=now)
            return
        changes = _columns(current, outcome, now)
        if not outcome.keep_status:
            changes["compared_at"] = now
        decision = _automated(current, outcome, changes, now)
        if outcome.compared is not None:
            _write_managed(current, outcome.compared)
        visible = {
            k: v
            for k, v in changes.items()
            if getattr(current, k) != v
            and k not in ("compared_at", "reconciled_at", "comparison_digest", "inputs")
        }
        answered = bool(current.refresh_kind) and (
            current.refresh_requested_at == application.refresh_requested_at
        )
        if visible or answered:
            changes["resource_version"] = next_version()
            publish()
            tell_rollout(current)
        if answered:
            changes["refresh_kind"] = ""
            changes["annotations"] = {
                k: v for k, v in current.annotations.items() if k != "argocd.argoproj.io/refresh"
            }
        if current.refresh_at == seen:
            waits = [d for d in (outcome.look_again, decision.look_again) if d is not None]
            changes["refresh_at"] = now + min(waits) if waits else None
        Application.objects.filter(pk=current.pk).update(**changes)
        _bind(current, outcome)
        if "sync_status" in visible or "health_status" in visible:
            log.info(
                "sync %s, health %s",
                changes["sync_status"],
                changes["health_status"],
                extra={
                    "application": current.qualified_name,
                    "revision": ",".join(changes.get("revisions", current.revisions)),
                },
            )
            _remember(current, changes, now)
            _event(
                current,
                "StatusRefreshed",
                f"Sync status {changes['sync_status']}, health {changes['health_status']}",
            )
        if outcome.refusal and current.is_automated:
            not_started(current, current.revisions, outcome.refusal)
        if decision.start and outcome.desired:
            _start(current, outcome, decision)
        _mirror(current)


def _bind(current: Application, outcome: Outcome) -> None:
    # A repository that is named by URL in another one is polled like those of the sources.
    found = outcome.desired.inputs if outcome.desired else current.inputs
    if repositories_of(found) != repositories_of(current.inputs):
        current.inputs = found
        bind_remotes(current)
        # What moved there before the application was bound would not reach it.
        Application.objects.filter(pk=current.pk).update(refresh_at=timezone.now())


def _remember(current: Application, changes: dict[str, Any], now: datetime) -> None:
    revisions = changes.get("revisions", current.revisions)
    StatusChange.objects.create(
        application=current,
        at=now,
        health_before=current.health_status,
        health=changes["health_status"],
        sync_before=current.sync_status,
        sync=changes["sync_status"],
        revision=str(revisions[0])[:200] if revisions else "",
        message=_cause(changes)[:300],
    )


def _cause(changes: dict[str, Any]) -> str:
    """Return the first thing that is not as it should be, as a sentence."""
    for condition in changes.get("conditions") or []:
        if condition["type"] in ERRORS:
            return str(condition["message"])
    for entry in changes.get("resources") or []:
        health = entry.get("health") or {}
        if health.get("status") == "Degraded":
            return f"{entry['kind']} {entry['name']}: {health.get('message') or 'Degraded'}"
    drifted = [e for e in changes.get("resources") or [] if e.get("status") == "OutOfSync"]
    names = ", ".join(f"{e['kind']} {e['name']}" for e in drifted[:3])
    return f"{names} {'differ' if len(drifted) > 1 else 'differs'}" if drifted else ""


def _delayed(current: Application, outcome: Outcome, now: datetime) -> dict[str, Any]:
    told = [condition for condition in outcome.conditions if condition[0] == DELAYED]
    if not told or any(c["type"] == DELAYED for c in current.conditions):
        return {}
    return {"conditions": [*current.conditions, *_conditions(current, told, now)[-1:]]}


def _mirror(application: Application) -> None:
    from projects.manifests import mirror_application

    # Most are managed by no other application: then nothing of them is read once more.
    if TRACKING_ID in application.annotations:
        mirror_application(application.pk)


def _columns(current: Application, outcome: Outcome, now: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    conditions = dict.fromkeys(outcome.conditions)
    unchanged = (
        outcome.compared is None
        and outcome.desired is not None
        and bool(outcome.digest)
        and not any(k in ERRORS for k, _ in conditions)
    )
    if outcome.keep_status:
        return {"reconciled_at": current.reconciled_at, **_delayed(current, outcome, now)}
    if unchanged:
        changes |= {
            "revisions": outcome.desired.revisions if outcome.desired else [],
            "inputs": outcome.desired.inputs if outcome.desired else [],
        }
        changes |= {
            "reconciled_at": now,
            "sync_status": current.sync_status,
            "health_status": current.health_status,
        }
        kept = [c for c in current.conditions if c["type"] not in (*ERRORS, DELAYED)]
        changes["conditions"] = kept
        changes["comparison_digest"] = outcome.digest
        return changes
    changes["conditions"] = _conditions(current, list(conditions), now)
    changes["sync_status"] = outcome.sync
    changes["health_status"], changes["health_message"] = (
        outcome.health.status,
        outcome.health.message[:1000],
    )
    if outcome.health.status != current.health_status or not current.health_changed_at:
        changes["health_changed_at"] = now
    if outcome.sync is Sync.OUT_OF_SYNC:
        changes["out_of_sync_since"] = current.out_of_sync_since or now
    elif outcome.sync is Sync.SYNCED:
        changes["out_of_sync_since"] = None
    changes["comparison_digest"] = (
        outcome.digest if outcome.compared is not None and outcome.compared.is_final else ""
    )
    if outcome.desired is not None:
        changes |= {
            "revisions": outcome.desired.revisions,
            "inputs": outcome.desired.inputs,
            "source_types": outcome.desired.source_types,
        }
    if outcome.compared is not None:
        changes |= {
            "reconciled_at": now,
            "resources": [
                resource_json(s) for s in outcome.compared.states if not _is_delete_hook(outcome, s)
            ],
            "summary": _summary(outcome.compared),
            "compared_to": {
                "sources": current.sources,
                "destination": current.spec.get("destination"),
                "ignoreDifferences": current.spec.get("ignoreDifferences") or [],
            },
        }
        finalizers = _hook_finalizers(current, outcome.compared)
        if finalizers != current.finalizers:
            changes["finalizers"] = finalizers
    return changes


def _is_delete_hook(outcome: Outcome, state: ResourceState) -> bool:
    if not state.hook or outcome.compared is None:
        return False
    return any(
        p.key == state.key and p.desired is not None and is_delete_hook(p.desired)
        for p in outcome.compared.pairs
    )


def _hook_finalizers(current: Application, compared: Compared) -> list[str]:
    from hub.engine.hooks import hook_phases

    phases = {
        p.value
        for pair in compared.pairs
        if pair.state.hook and pair.desired
        for p in hook_phases(pair.desired)
    }
    result = [
        f
        for f in current.finalizers
        if not f.startswith(("pre-delete-finalizer", "post-delete-finalizer"))
    ]
    for phase, name in (("PreDelete", "pre-delete"), ("PostDelete", "post-delete")):
        if phase in phases:
            result += [
                f"{name}-finalizer.argocd.argoproj.io",
                f"{name}-finalizer.argocd.argoproj.io/cleanup",
            ]
    return result


def _conditions(
    current: Application, found: Sequence[tuple[str, str]], now: datetime
) -> list[dict[str, str]]:
    before = {(c["type"], c["message"]): c for c in current.conditions}
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = [
        c
        for c in current.conditions
        if c["type"] not in ERRORS and c["type"] not in WARNINGS and c["type"] != "SyncError"
    ]
    old_error = [c for c in current.conditions if c["type"] == "SyncError"]
    fresh = [
        before.get((kind, text), {"type": kind, "message": text, "lastTransitionTime": stamp})
        for kind, text in found
    ]
    return [*kept, *old_error, *fresh]


def resource_json(state: ResourceState) -> dict[str, Any]:
    """Return the status of one resource as `status.resources` has it."""
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
    current: Application, outcome: Outcome, changes: dict[str, Any], now: datetime
) -> Decision:
    if (
        not current.is_automated
        or outcome.desired is None
        or changes.get("sync_status") is not Sync.OUT_OF_SYNC
    ):
        if changes.get("sync_status") == Sync.SYNCED:
            changes["conditions"] = [
                c for c in changes.get("conditions", current.conditions) if c["type"] != "SyncError"
            ]
        return Decision(start=False)
    if current.deletion_requested_at or (current.operation and current.operation.phase in RUNNING):
        return Decision(start=False)
    if any(c["type"] in ERRORS for c in changes["conditions"]) or outcome.compared is None:
        return Decision(start=False)
    last = _last(current)
    wanted = LastOperation(Phase.SUCCEEDED, tuple(outcome.desired.revisions), current.sources)
    decision = decide(
        current.sync_policy["automated"] or {},
        Sync.OUT_OF_SYNC,
        outcome.compared.states,
        wanted,
        last,
        now,
    )
    if decision.start:
        decision = _when_open(current, now) or decision
    if decision.is_refused:
        not_started(current, outcome.desired.revisions, decision.error or BLOCKED)
    conditions = [c for c in changes["conditions"] if c["type"] != "SyncError"]
    if decision.error:
        old = next(
            (
                c
                for c in current.conditions
                if c["type"] == "SyncError" and c["message"] == decision.error
            ),
            None,
        )
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions.append(
            old or {"type": "SyncError", "message": decision.error, "lastTransitionTime": stamp}
        )
    changes["conditions"] = conditions
    return decision


def _when_open(current: Application, now: datetime) -> Decision | None:
    """Return the decision to wait while the project's windows are closed, None when they are open."""
    windows = windows_of(current, now)
    if windows.can_sync(manual=False):
        return None
    reopens = windows.reopens_at()
    wait = max(reopens - now, timedelta(seconds=1)) if reopens else timedelta(minutes=5)
    return Decision(start=False, look_again=wait, is_refused=True)


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
        sync["resources"] = [
            {
                "group": s.key.group,
                "kind": s.key.kind,
                "name": s.key.name,
                "namespace": s.key.namespace,
            }
            for s in outcome.compared.states
            if s.status is Sync.OUT_OF_SYNC
        ]
        sync["autoHealAttemptsCount"] = (
            current.operation.heal_attempts if current.operation else 0
        ) + 1
    request = {
        "sync": sync,
        "initiatedBy": {"automated": True},
        "retry": policy.get("retry") or {"limit": 5},
    }
    start_operation(current, request, desired.revisions, current.sources, actor="automated sync")


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
    """Create the operation of an application, and wake a worker for it; `caller` is who asked for it.

    Raises: IntegrityError when another one is running.
    """
    operation = Operation.objects.create(
        application=application,
        request=request,
        revisions=list(revisions),
        sources=list(wanted),
        message="initiated",
        heal_attempts=(request.get("sync") or {}).get("autoHealAttemptsCount", 0),
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
        resources=len((request.get("sync") or {}).get("resources") or []),
        dry_run=bool((request.get("sync") or {}).get("dryRun")) or None,
    )
    _event(
        application,
        "OperationStarted",
        f"{actor} initiated {verb} to {', '.join(r[:12] for r in revisions)}",
    )
    publish()
    tell_rollout(application)
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
