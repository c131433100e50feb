"""Advance a rollout: load the applications of a set, decide, start syncs, store the progress."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from appsets.manifests import mirror_set
from appsets.models import ApplicationSet, SetEvent
from appsets.operations import rollout_decisions
from appsets.operations.plan import App
from appsets.operations.rollout_decisions import Entry, Requested, Rollout, Seen
from hub.audit import trail
from hub.base.claims import claim
from hub.engine.errors import Invalid, Precondition, RuleError, Stalled
from hub.engine.status import Health, Sync
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import next_version
from projects.models import ERRORS, Application
from projects.objects.manifests import stamp
from projects.operations.sync import terminate
from projects.refreshing.status import start_operation

ACTOR = "applicationset-controller"
KINDS = ("RolloutProgressing", "InvalidRolloutConfig")
ACTIONS = ("pause", "resume", "abort", "advance")
_REASON = "ApplicationSet RollingSync triggered a sync of this Application resource"
_RUNNING = ("Running", "Terminating")


def without_automated_sync(app: App) -> App:
    """Return an application without automated sync: the rollout starts its syncs."""
    policy = app.spec.get("syncPolicy")
    if not isinstance(policy, Mapping) or policy.get("automated") is None:
        return app
    return app._replace(
        spec={
            **app.spec,
            "syncPolicy": {**policy, "automated": {**policy["automated"], "enabled": False}},
        }
    )


def roll(pk: int) -> bool:
    """Advance a rollout if it is due and not claimed by another worker; return whether it was."""
    with claim(ApplicationSet, pk, when=Q(rollout_due_at__lte=timezone.now())) as mine:
        if not mine:
            return False
        row = ApplicationSet.objects.get(pk=pk)
        seen_due = row.rollout_due_at
        poll_at = _roll(row, timezone.now())
        ApplicationSet.objects.filter(pk=pk, rollout_due_at=seen_due).update(rollout_due_at=poll_at)
    now = timezone.now()
    if ApplicationSet.objects.filter(pk=pk, rollout_due_at__lte=now).exists():
        wake(TaskName.APPSETS_ROLL, pk)
    if ApplicationSet.objects.filter(pk=pk, due_at__lte=now).exists():
        wake(TaskName.APPSETS_RECONCILE, pk)
    return True


def _roll(row: ApplicationSet, now: datetime) -> datetime | None:
    if not rollout_decisions.is_rolling(row.spec) or row.deletion_requested_at:
        _delete_state(row)
        return None
    try:
        steps = rollout_decisions.steps_of(row.spec)
    except RuleError:
        # New sets with invalid steps are refused; one stored by an older release is left unchanged.
        return None
    apps = _children(row)
    state = dict(row.rollout_state)
    found = rollout_decisions.decide(
        steps,
        [_observe(a, now) for a in apps],
        _entries(row),
        requested_of(row),
        _since(state),
        now,
        state.get("missing") or [],
    )
    started = _started(found, {a.name: a for a in apps})
    by_name = {a.name: a for a in apps}
    unclear = rollout_decisions.unclear(steps, [(a.name, a.labels) for a in apps])
    _store(
        row,
        found,
        [e._replace(started=True) if e.name in started else e for e in found.entries],
        by_name,
        unclear,
        now,
    )
    return now if started else found.poll_at


def _children(row: ApplicationSet) -> list[Application]:
    query = Application.objects.filter(
        namespace=row.namespace, owner=row.name, deletion_requested_at=None
    )
    return list(
        query.select_related("operation", "cluster")
        .defer("resources", "summary", "inputs")
        .order_by("name")
    )


def target_of(application: Application) -> str:
    """Return a digest of the spec of an application and its resolved revisions."""
    data = orjson.dumps([application.spec, application.revisions], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(data).hexdigest()[:16]


def _observe(application: Application, now: datetime) -> Seen:
    compared = application.compared_to or {}
    is_current = (
        bool(application.revisions)
        and compared.get("sources") == application.sources
        and compared.get("destination") == application.spec.get("destination")
    )
    is_broken = any(c["type"] in ERRORS for c in application.conditions)
    operation = application.operation
    is_running = operation is not None and operation.phase in _RUNNING
    has_failed = (
        operation is not None
        and operation.phase in ("Failed", "Error")
        and operation.revisions == application.revisions
    )
    is_synced = is_current and application.sync_status == Sync.SYNCED
    return Seen(
        application.name,
        application.labels,
        target_of(application),
        is_current and not is_broken,
        is_synced,
        application.health_status == Health.HEALTHY,
        is_running,
        application.health_status == Health.DEGRADED or (has_failed and not is_synced),
        application.refresh_at is None or application.refresh_at > now,
    )


def _entries(row: ApplicationSet) -> dict[str, Entry]:
    own = row.rollout_state.get("apps") or {}
    return {
        e["application"]: Entry(
            e["application"],
            int(e["step"]),
            e["status"],
            own[e["application"]][0],
            e["message"],
            bool(own[e["application"]][1]),
        )
        for e in row.application_status
        if e["application"] in own
    }


def requested_of(row: ApplicationSet) -> Requested:
    """Return the requests of users for a rollout."""
    stored = row.rollout
    advanced = {int(k): v for k, v in (stored.get("advanced") or {}).items()}
    return Requested(bool(stored.get("paused")), stored.get("aborted") or {}, advanced)


def _since(state: Mapping[str, Any]) -> dict[int, tuple[str, datetime]]:
    return {
        int(k): (v[0], datetime.fromisoformat(v[1])) for k, v in (state.get("since") or {}).items()
    }


def _started(found: Rollout, apps: Mapping[str, Application]) -> set[str]:
    """Start the syncs; return those that started. A busy application is retried later."""
    started = set()
    for name in found.start:
        application = apps[name]
        try:
            with transaction.atomic():
                start_operation(
                    application,
                    _request(application),
                    application.revisions,
                    application.sources,
                    actor=ACTOR,
                )
        except IntegrityError:
            continue
        started.add(name)
    return started


def _request(application: Application) -> dict[str, Any]:
    policy = application.sync_policy
    automated = policy.get("automated")
    return {
        "sync": {
            "prune": bool((automated or {}).get("prune")),
            "syncOptions": policy.get("syncOptions") or [],
        },
        "initiatedBy": {"username": ACTOR, "automated": True},
        "info": [{"name": "Reason", "value": _REASON}],
        "retry": policy.get("retry") or {"limit": 5},
    }


def _store(
    row: ApplicationSet,
    found: Rollout,
    entries: Sequence[Entry],
    apps: Mapping[str, Application],
    unclear: str,
    now: datetime,
) -> None:
    before = {e["application"]: e for e in row.application_status}
    status = [_status(e, apps[e.name], before.get(e.name), now) for e in entries]
    conditions = [
        *(c for c in row.conditions if c["type"] not in KINDS),
        *_conditions(row, found, unclear),
    ]
    state = {
        **row.rollout_state,
        "apps": {e.name: [e.target, e.started] for e in entries},
        "since": {str(k): [v[0], v[1].isoformat()] for k, v in found.since.items()},
        "step": found.step,
        "waits": found.waits,
        "halted": found.is_halted,
    }
    if (status, conditions, state) == (row.application_status, row.conditions, row.rollout_state):
        return
    with transaction.atomic():
        row.lock()
        _record_change(row, found)
        ApplicationSet.objects.filter(pk=row.pk).update(
            application_status=status,
            conditions=conditions,
            rollout_state=state,
            resource_version=next_version(),
        )
        publish()
        if shown := ApplicationSet.objects.filter(pk=row.pk).first():
            mirror_set(shown)


def _record_change(row: ApplicationSet, found: Rollout) -> None:
    """Record in the audit trail and the events that a rollout began, halted, resumed or ended."""
    was = row.rollout_state
    if found.is_halted and not was.get("halted"):
        trail.record(
            ACTOR,
            "halt-rollout",
            "applicationset",
            str(row),
            row.project,
            step=found.step,
            reason=found.waits,
        )
        SetEvent.objects.create(
            uid=row.uid, kind="Warning", reason="RolloutHalted", message=found.waits
        )
    if found.step != was.get("step"):
        text = (
            f"ApplicationSet is performing rollout of step {found.step}"
            if found.step
            else "ApplicationSet Rollout has completed"
        )
        SetEvent.objects.create(
            uid=row.uid,
            reason="RolloutProgressing" if found.step else "RolloutComplete",
            message=text,
        )


def _status(
    entry: Entry, application: Application, before: Mapping[str, Any] | None, now: datetime
) -> dict[str, Any]:
    same = before is not None and before["status"] == entry.status
    return {
        "application": entry.name,
        "step": str(entry.step),
        "status": entry.status,
        "message": entry.message,
        "targetRevisions": list(application.revisions),
        "lastTransitionTime": before["lastTransitionTime"] if before and same else stamp(now),
    }


def _conditions(row: ApplicationSet, found: Rollout, unclear: str) -> list[dict[str, Any]]:
    if found.step:
        message = f"ApplicationSet is performing rollout of step {found.step}" + (
            f": {found.waits}" if found.waits else ""
        )
        progressing = ("True", "ApplicationSetModified", message)
    else:
        progressing = (
            "False",
            "ApplicationSetRolloutComplete",
            "ApplicationSet Rollout has completed",
        )
    config = (
        ("True", "ApplicationSetInvalidRolloutConfig", unclear)
        if unclear
        else ("False", "ApplicationSetValidRolloutConfig", "Rolling Sync Configured correctly")
    )
    before = {c["type"]: c for c in row.conditions}
    made = []
    for kind, (status, reason, message) in zip(KINDS, (progressing, config), strict=True):
        old = before.get(kind)
        at = old["lastTransitionTime"] if old and old["status"] == status else stamp(timezone.now())
        made.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message[:4000],
                "lastTransitionTime": at,
            }
        )
    return made


def _delete_state(row: ApplicationSet) -> None:
    """Delete the state of a rollout when the set has no steps any more."""
    conditions = [c for c in row.conditions if c["type"] not in KINDS]
    if row.application_status or conditions != row.conditions or row.rollout_state:
        with transaction.atomic():
            row.lock()
            ApplicationSet.objects.filter(pk=row.pk).update(
                application_status=[],
                conditions=conditions,
                rollout={},
                rollout_state={},
                resource_version=next_version(),
            )
            publish()


def act(row: ApplicationSet, action: str, actor: str) -> ApplicationSet:
    """Pause, resume, abort or advance a rollout.

    An abort terminates the syncs that the rollout started and syncs no further application to the
    current targets, until `resume` or a new commit. `advance` lifts the limit of the current step.
    Raises: Invalid for an unknown action; Precondition if there is no rollout.
    """
    if action not in ACTIONS:
        raise Invalid(f"action must be one of {', '.join(ACTIONS)}, not {action!r}")
    with transaction.atomic():
        current = ApplicationSet.objects.select_for_update().get(pk=row.pk)
        if not rollout_decisions.is_rolling(current.spec):
            raise Precondition("the set has no RollingSync strategy, so there is no rollout")
        apps = _children(current)
        stopped = _store_request(current, action, actor, apps)
        now = timezone.now()
        current.rollout_due_at, current.resource_version = now, next_version()
        current.save(update_fields=["rollout", "rollout_due_at", "resource_version"])
        trail.record(
            actor,
            f"{action}-rollout",
            "applicationset",
            str(row),
            row.project,
            step=current.rollout_state.get("step"),
        )
        SetEvent.objects.create(
            uid=row.uid, reason="RolloutTold", message=f"{actor} asked to {action} the rollout"
        )
        publish()
        wake(TaskName.APPSETS_ROLL, row.pk, priority=2)
    for application in stopped:
        with contextlib.suppress(Stalled):  # the operation has completed already
            terminate(application, actor)
    return current


def _store_request(
    row: ApplicationSet, action: str, actor: str, apps: Sequence[Application]
) -> list[Application]:
    """Store the requested action; return the applications whose syncs are terminated."""
    stored = {
        k: v for k, v in row.rollout.items() if k in ("paused", "pausedBy", "aborted", "advanced")
    }
    entries = _entries(row)
    if action == "pause":
        row.rollout = {**stored, "paused": True, "pausedBy": actor}
    elif action == "resume":
        row.rollout = {k: v for k, v in stored.items() if k == "advanced"}
    elif action == "advance":
        number = int(row.rollout_state.get("step") or 0)
        if not number:
            raise Precondition("the rollout is complete: there is no step to advance")
        step = rollout_decisions.steps_of(row.spec)[number - 1]
        mark = rollout_decisions.digest_of(
            [s for s in (_observe(a, timezone.now()) for a in apps) if step.selects(s.labels)]
        )
        row.rollout = {**stored, "advanced": {**stored.get("advanced", {}), str(number): mark}}
    else:
        open_ = [
            a
            for a in apps
            if a.name not in entries or entries[a.name].status != rollout_decisions.HEALTHY
        ]
        row.rollout = {**stored, "aborted": {a.name: target_of(a) for a in open_}}
        return [
            a
            for a in open_
            if a.name in entries
            and entries[a.name].started
            and a.operation is not None
            and a.operation.phase == "Running"
            and (a.operation.request.get("initiatedBy") or {}).get("username") == ACTOR
        ]
    return []
