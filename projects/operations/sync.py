"""Run operations, as a state machine in the database.

Each run takes the steps that are possible now, stores their state, and ends. The order of the steps
is decided by `hub.engine.plan`, the phases by `hub.engine.hooks`.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q
from django.utils import timezone

from clusters import live
from clusters.kinds import Refused
from clusters.models import LiveResource
from hub.audit import trail
from hub.base.claims import claim
from hub.base.read_once import cached_reads
from hub.engine import health
from hub.engine.deletion_guard import Candidate, Ruling, Verdict, budget_from, decide_deletions
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.health import HOOK_FINALIZER
from hub.engine.hooks import SyncPhase
from hub.engine.plan import (
    APPLY,
    FAILED,
    HOOK,
    PENDING,
    PRUNE,
    RUNNING,
    SUCCEEDED,
    Observation,
    Step,
    hooks_to_delete,
    next_group,
    observe,
    waiting,
)
from hub.engine.resource import Manifest, annotations_of
from hub.engine.status import Phase
from hub.engine.sync_options import resource_options
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects.access import refusal_audit
from projects.destinations.dry_runs import in_parallel
from projects.models import Application, Operation
from projects.objects.manifests import stamp
from projects.objects.sync_windows import BLOCKED, windows_of
from projects.operations.applying import (
    OPERATION_ID,
    SETTLE_SECONDS,
    execute,
    hook_object,
    operation_id,
)
from projects.operations.completion import finish, postpone
from projects.operations.planning import (
    APPLYING,
    Failed,
    Run,
    live_state,
    load,
    prepare,
    refusal_of,
    store_steps,
)

log = logging.getLogger(__name__)

APPROVED = "argocd.argoproj.io/deletion-approved"
RECHECK_INTERVAL = timedelta(seconds=10)


def step(pk: int) -> bool:
    """Run an operation as far as possible now; return False if another worker holds it."""
    due = Q(due_at__lte=timezone.now(), phase__in=["Running", "Terminating"])
    with claim(Operation, pk, when=due) as mine:
        if not mine:
            return False
        operation = Operation.objects.select_related("application__cluster").get(pk=pk)
        try:
            _step(operation)
        except RetryLater as error:
            postpone(operation, error.message, error.delay)
        except Stalled as error:
            refusal_audit.refused_by(operation, error)
            finish(operation, Phase.ERROR, error.message)
        except (EngineError, Invalid, Failed, Refused) as error:
            refusal_audit.refused_by(operation, error)
            finish(operation, Phase.FAILED, str(error))
        except (OperationalError, InterfaceError):
            # A lock or a lost connection says nothing about the sync itself.
            log.warning("database unavailable; operation is retried", extra={"operation": pk})
            wake(TaskName.PROJECTS_SYNC, pk, delay=1)
        except (
            Exception
        ) as error:  # a bug must end the operation with a message, not leave it running
            log.exception(
                "operation failed",
                extra={"operation": pk, "application": operation.application.qualified_name},
            )
            finish(operation, Phase.ERROR, f"internal error: {type(error).__name__}")
    return True


def _step(operation: Operation) -> None:
    if operation.phase == Phase.TERMINATING:
        _terminate(operation)
        return
    if _timed_out(operation):
        Operation.objects.filter(pk=operation.pk).update(
            phase=Phase.TERMINATING, message="operation is terminating due to timeout"
        )
        operation.phase = Phase.TERMINATING
        _terminate(operation)
        return
    _follow_git(operation)
    with cached_reads():
        if _waits_for_window(operation):
            return
        run = load(operation)
        if not operation.is_planned:
            prepare(run)
    if operation.phase == Phase.RUNNING:
        proceed(run)


def _timed_out(operation: Operation) -> bool:
    limit = settings.SYNC_TIMEOUT
    return bool(limit) and timezone.now() - operation.started_at > limit


def _waits_for_window(operation: Operation) -> bool:
    """Return whether sync windows block an operation; it resumes when they open."""
    now = timezone.now()
    windows = windows_of(operation.application, now)
    if not windows.assigned:
        return False
    manual = not operation.is_automated
    started = windows_of(operation.application, operation.started_at).can_sync(manual=manual)
    if windows.can_sync(manual=manual, could_at_start=started):
        return False
    reopens = windows.reopens_at()
    wait, when = timedelta(minutes=5), ""
    if reopens:
        wait = min(max(reopens - now, RECHECK_INTERVAL), wait)
        when = f", may change at {reopens.astimezone(UTC).strftime('%Y-%m-%d %H:%M UTC')}"
    refusal_audit.refused(operation, refusal_audit.BLOCKED)
    postpone(operation, f"{BLOCKED}{when}", wait)
    return True


def _follow_git(operation: Operation) -> None:
    # A retry of an automated sync takes the newest revision: a later commit may fix the failure.
    is_retry = operation.is_automated and operation.retries and not operation.is_planned
    if not is_retry or operation.sync.get("resources"):
        return
    application = operation.application
    if not application.revisions or application.sources != operation.sources:
        return
    if application.revisions != operation.revisions:
        operation.revisions = application.revisions
        Operation.objects.filter(pk=operation.pk).update(revisions=operation.revisions)


def proceed(run: Run) -> None:
    """Run group after group until the operation has to wait or ends."""
    while True:
        _observe(run)
        _release_hooks(run)
        failed = [s for s in run.steps if s.status == FAILED]
        if failed and not _failing(run) and not _has_running_hook(run):
            _begin_failing(run)
        failing = _failing(run)
        text = waiting([s for s in run.steps if not failing or s.phase is SyncPhase.SYNC_FAIL])
        if text:
            _wait(run, text, RECHECK_INTERVAL)
            return
        group = next_group(run.steps, failing=failing)
        if not group:
            _conclude(run, failing=failing)
            return
        if not _run_group(run, group):
            return
        is_last = not next_group(run.steps, failing=failing)
        if is_last and not failing and _nothing_left(run):
            _succeed(run, "successfully synced (all tasks run)")
            return
        _refresh_application(run)
        has_failed = any(s.status == FAILED for s in run.steps)
        if not has_failed and not is_last and settings.WAVE_DELAY:
            text = waiting(run.steps) or "waiting before the next wave"
            _wait(run, text, settings.WAVE_DELAY)
            return


def _wait(run: Run, text: str, delay: timedelta) -> None:
    store_steps(run, text)
    postpone(run.operation, text, delay)


def _refresh_application(run: Run) -> None:
    """Enqueue a refresh during the sync, so that the new status of what was applied shows."""
    # The live store has the applied resources already, so the watch reports no change of them.
    Application.objects.filter(pk=run.application.pk).update(refresh_at=timezone.now())
    wake(TaskName.PROJECTS_REFRESH, run.application.pk, priority=2)


def _has_running_hook(run: Run) -> bool:
    # Its result would never be read, and its finalizer would block the deletion of the hook and its
    # namespace.
    return any(s.action == HOOK and s.status == RUNNING for s in run.steps)


def _failing(run: Run) -> bool:
    return bool(run.operation.failure)


def _begin_failing(run: Run) -> None:
    messages = dict.fromkeys(f"{s.key}: {s.message}" for s in run.steps if s.status == FAILED)
    hooks = any(s.action == HOOK and s.status == FAILED for s in run.steps)
    what = (
        "one or more synchronization tasks completed unsuccessfully"
        if hooks
        else "one or more objects failed to apply"
    )
    text = f"{what}, reason: {'; '.join(messages)}"[:1000]
    run.operation.failure = text
    Operation.objects.filter(pk=run.operation.pk).update(failure=text)


def _nothing_left(run: Run) -> bool:
    # As Argo CD: a last group without hooks is done once applied, whatever its health becomes.
    last = max((s.group for s in run.steps if s.phase is not SyncPhase.SYNC_FAIL), default=None)
    members = [s for s in run.steps if s.group == last and s.phase is not SyncPhase.SYNC_FAIL]
    return not any(s.status == FAILED for s in run.steps) and all(s.action != HOOK for s in members)


def _observe(run: Run) -> None:
    for number, step_ in enumerate(run.steps):
        if step_.status != RUNNING:
            continue
        run.steps[number] = observe(step_, _observation(run, step_))


def _observation(run: Run, step_: Step) -> Observation:
    if step_.action == HOOK:
        # A finished hook that is being deleted still has a result: our finalizer holds it.
        return _observed(hook_object(run, step_))
    if run.target.is_home(step_.key):
        return _observed(run.target.get(step_.key, step_.version))
    row = LiveResource.objects.filter(cluster=run.cluster, key=step_.key.text).first()
    if row is None or (step_.action == APPLY and row.body is None):
        # The watch has not delivered it yet: read it from the cluster.
        return _observed(run.target.get(step_.key, step_.version))
    return Observation(exists=True, health=row.assessment, deleting=row.deleting)


def _observed(manifest: Manifest | None) -> Observation:
    if manifest is None:
        return Observation(exists=False)
    return Observation(exists=True, health=health.assess(manifest, live.health_scripts()))


def _release_hooks(run: Run) -> None:
    for step_ in run.steps:
        is_done = step_.action == HOOK and step_.status in (SUCCEEDED, FAILED)
        if not is_done or run.target.is_home(step_.key):
            continue
        manifest = hook_object(run, step_)
        if manifest and HOOK_FINALIZER in (manifest["metadata"].get("finalizers") or []):
            run.target.drop_hook_finalizer(manifest)


def _run_group(run: Run, group: Sequence[int]) -> bool:
    """Run the steps of one phase and wave; return False if the operation has to wait."""
    if not _prune(run, [n for n in group if run.steps[n].action == PRUNE]):
        return False
    hooks = [n for n in group if run.steps[n].action == HOOK and run.steps[n].status == PENDING]
    if not _clear_old_hooks(run, hooks):
        return False
    numbers = [n for n in group if run.steps[n].action in (APPLY, HOOK)]
    for number in numbers:
        run.steps[number] = replace(run.steps[number], status=APPLYING)
    store_steps(run, "")
    until = time.monotonic() + SETTLE_SECONDS
    for members in _by_kind(run, numbers):
        results = in_parallel([lambda n=n: execute(run, n, until) for n in members])
        for number, result in zip(members, results, strict=True):
            run.steps[number] = result
        if any(run.steps[n].status == PENDING for n in members):
            _wait_for_deletion(run, group)
            return False
    store_steps(run, "")
    return True


def _wait_for_deletion(run: Run, group: Sequence[int]) -> None:
    """Postpone a group until the resources that it replaces are deleted."""
    for number in group:
        if run.steps[number].status == APPLYING:
            run.steps[number] = replace(run.steps[number], status=PENDING)
    members = [run.steps[n] for n in group]
    text = next(s.message for s in members if s.status == PENDING and s.message)
    _wait(run, text, timedelta(seconds=1))


def _by_kind(run: Run, numbers: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for number in numbers:
        if groups and run.steps[groups[-1][0]].key.kind == run.steps[number].key.kind:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _clear_old_hooks(run: Run, numbers: Sequence[int]) -> bool:
    """Delete hooks that earlier operations left; return whether all of them are gone."""
    busy = []
    for number in numbers:
        step_ = run.steps[number]
        if "BeforeHookCreation" not in step_.policies:
            continue
        old = run.target.get(step_.key, step_.version)
        if old is None or annotations_of(old).get(OPERATION_ID) == operation_id(run):
            continue
        if refusal_of(run, step_) or run.reach.others(old):
            continue  # the apply step reports the refusal
        run.target.drop_hook_finalizer(old)
        if not old["metadata"].get("deletionTimestamp"):
            uid = old["metadata"].get("uid", "")
            run.target.delete(step_.key, step_.version, propagation="Background", uid=uid)
        if run.target.get(step_.key, step_.version) is not None:
            busy.append(step_.key)
    if busy:
        more = f" and {len(busy) - 1} more hooks" if len(busy) > 1 else ""
        _wait(run, f"waiting for deletion of hook {busy[0]}{more}", timedelta(seconds=1))
    return not busy


def _prune(run: Run, numbers: Sequence[int]) -> bool:
    """Prune what the deletion guard allows; return False if it needs a confirmation."""
    if not numbers:
        return True
    ruling = _ruling(run)
    if any(ruling.verdicts.get(run.steps[n].key) is Verdict.CONFIRM for n in numbers):
        refusal_audit.refused(run.operation, ruling.message, verb="prune")
        path = f"…/applications/{run.application.name}/confirm-deletion"
        text = f"{ruling.message}; confirm with the annotation {APPROVED} or POST {path}"
        _wait(run, text, timedelta(minutes=5))
        return False
    for number in numbers:
        run.steps[number] = _pruned(run, run.steps[number])
    store_steps(run, "")
    return True


def _pruned(run: Run, step_: Step) -> Step:
    """Delete the resource of a step; return the step with its result."""
    policy = run.options.get("PrunePropagationPolicy", "foreground").capitalize()
    try:
        row = LiveResource.objects.filter(cluster=run.cluster, key=step_.key.text).first()
        reason = _why_not_pruned(run, step_, row)
        if reason:
            refusal_audit.refused(run.operation, f"{step_.key}: {reason}", verb="prune")
            return replace(step_, status=SUCCEEDED, result="PruneSkipped", message=reason)
        if row is not None and not row.deleting:
            run.target.delete(step_.key, step_.version, propagation=policy, uid=row.uid)
    except Refused as refused:
        return replace(step_, status=FAILED, result="SyncFailed", message=refused.message)
    return replace(step_, status=RUNNING, result="Pruned", message="pruned")


def _why_not_pruned(run: Run, step_: Step, row: LiveResource | None) -> str:
    """Return why the application may not prune a resource any more, empty if it may."""
    refusal = run.reach.refusal(step_.key)
    if refusal or row is None:
        return f"ignored ({refusal})" if refusal else ""
    if not row.is_self or row.instance != run.application.instance:
        return f"ignored (not managed by application {run.application.instance} any more)"
    return ""


def _ruling(run: Run) -> Ruling:
    candidates = []
    for step_ in run.steps:
        if step_.action == PRUNE and step_.status == PENDING:
            manifest = live_state(run, step_.key)
            option = resource_options(manifest, run.options).value("Prune") if manifest else ""
            option = option if option in ("confirm", "false") else ""
            candidates.append(Candidate(step_.key, option))
    total = len(run.application.resources) or len(run.steps)
    budget = budget_from((run.project.spec.get("flotilla") or {}).get("deletion"))
    return decide_deletions(
        candidates,
        total=total,
        budget=budget,
        confirmed=confirmed_since(run.application, run.operation.started_at),
    )


def confirmed_since(application: Application, since: datetime) -> bool:
    """Return whether a deletion of the application was confirmed after the given time."""
    rows = Application.objects.filter(pk=application.pk)
    annotations = rows.values_list("annotations", flat=True).first() or {}
    approved = str(annotations.get(APPROVED, ""))
    # A confirmation dated in the future, in Git for instance, would approve all later deletions.
    return bool(approved) and (stamp(since) or "") <= approved <= (stamp(timezone.now()) or "")


def _conclude(run: Run, *, failing: bool) -> None:
    if not failing:
        _succeed(run, "successfully synced (no more tasks)")
        return
    worse = [s.message for s in run.steps if s.phase is SyncPhase.SYNC_FAIL and s.status == FAILED]
    _delete_hooks(run, succeeded=False)
    store_steps(run, "")
    text = run.operation.failure + (f"\n{'; '.join(worse)}" if worse else "")
    finish(run.operation, Phase.FAILED, text)


def _succeed(run: Run, message: str) -> None:
    _delete_hooks(run, succeeded=True)
    store_steps(run, "")
    finish(run.operation, Phase.SUCCEEDED, message)


def _delete_hooks(run: Run, *, succeeded: bool) -> None:
    for step_ in hooks_to_delete(run.steps, succeeded=succeeded, ended=True):
        try:
            _delete_hook(run, step_)
        except Refused as refused:
            log.warning(
                "hook %s could not be deleted: %s",
                step_.key,
                refused.message,
                extra={"operation": run.operation.pk},
            )


def _delete_hook(run: Run, step_: Step) -> None:
    current = run.target.get(step_.key, step_.version)
    if current is None or refusal_of(run, step_) or run.reach.others(current):
        return
    uid = str(current["metadata"].get("uid") or "")
    run.target.delete(step_.key, step_.version, propagation="Background", uid=uid)


def _terminate(operation: Operation) -> None:
    text = "Operation terminated"
    try:
        run = load(operation)
        for step_ in run.steps:
            if step_.action == HOOK and step_.status not in (SUCCEEDED, FAILED):
                # A pending hook may exist too: a worker died before it stored the step.
                manifest = hook_object(run, step_)
                if manifest is not None:
                    run.target.drop_hook_finalizer(manifest)
                    run.target.delete(step_.key, step_.version, propagation="Background")
    except (Refused, Stalled, RetryLater, EngineError) as error:
        finish(operation, Phase.ERROR, f"Operation termination had errors: {error}", retry=False)
        return
    if "timeout" in operation.message:
        text += ", triggered by controller sync timeout"
    finish(operation, Phase.FAILED, text, retry=False)


def terminate(application: Application, actor: str) -> None:
    """Request the termination of the running operation.

    Raises: Stalled if no operation is running.
    """
    rows = application.operations
    with transaction.atomic():
        Application.objects.filter(pk=application.pk).locked()
        count = rows.filter(phase=Phase.RUNNING).update(
            phase=Phase.TERMINATING, message="operation is terminating", due_at=timezone.now()
        )
        if not count:
            text = "Unable to terminate operation. No operation is in progress"
            raise Stalled("NoOperation", text)
        trail.record(
            actor, "terminate", "application", application.qualified_name, application.project
        )
        Application.objects.filter(pk=application.pk).bump()
        publish()
        for pk in rows.filter(phase=Phase.TERMINATING).values_list("pk", flat=True):
            wake(TaskName.PROJECTS_SYNC, pk, priority=1)
