"""End an operation, postpone it, or plan its retry."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.audit import trail
from hub.base.metrics import SYNC
from hub.base.redaction import redact_text
from hub.engine.errors import RetryLater, Stalled
from hub.engine.retry import retry_policy
from hub.engine.status import Phase
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects import sources
from projects.models import Application, ApplicationEvent, Operation, Revision
from projects.objects.applications import notify_rollout
from projects.sources import git
from projects.sources.git_remotes import key_of

log = logging.getLogger(__name__)


def postpone(operation: Operation, message: str, delay: timedelta) -> None:
    """Store the reason why an operation waits, and when it runs next."""
    rows = Operation.objects.filter(pk=operation.pk)
    is_new = rows.values_list("message", flat=True).first() != message
    unmoved = rows.filter(phase="Running", due_at=operation.due_at)
    if not unmoved.update(message=message, due_at=timezone.now() + delay):
        # An event made the operation due during this run: run again at once, or it would be missed.
        rows.update(message=message)
        delay = timedelta(milliseconds=50)
    if is_new:
        with transaction.atomic():
            Application.objects.filter(pk=operation.application_id).bump()
            publish()
    if delay < timedelta(seconds=10):
        wake(TaskName.PROJECTS_SYNC, operation.pk, delay=delay.total_seconds() + 0.05)


def finish(operation: Operation, phase: Phase, message: str, *, retry: bool = True) -> None:
    """End an operation or plan its retry, and enqueue a refresh of the application."""
    now = timezone.now()
    application = operation.application
    current = Operation.objects.filter(pk=operation.pk).values_list("phase", flat=True).first()
    if current == Phase.TERMINATING and operation.phase != Phase.TERMINATING:
        # It was terminated during this run: the next run carries that out.
        wake(TaskName.PROJECTS_SYNC, operation.pk)
        return
    if phase is not Phase.SUCCEEDED and retry and _retry(operation, message, now):
        return
    if operation.retries:
        message = f"{message} (retried {operation.retries} times)."
    with transaction.atomic():
        Application.objects.filter(pk=application.pk).locked()
        operation.phase, operation.message, operation.finished_at = phase.value, message[:2000], now
        Operation.objects.filter(pk=operation.pk).update(
            phase=phase, message=operation.message, finished_at=now, failure=""
        )
        is_partial = operation.sync.get("dryRun") or operation.sync.get("resources")
        if phase is Phase.SUCCEEDED and not is_partial:
            _add_to_history(operation, application, now)
        Application.objects.filter(pk=application.pk).bump(refresh_at=now)
        _record_end(operation, phase, message, now)
        publish()
        notify_rollout(application)
        wake(TaskName.PROJECTS_REFRESH, application.pk, priority=2)
        _trim(application)
    _log_end(operation, phase)


def _record_end(operation: Operation, phase: Phase, message: str, now: datetime) -> None:
    """Record the event and the audit entry of an operation that ended."""
    application = operation.application
    short = ", ".join(r[:12] for r in operation.revisions)
    ApplicationEvent.objects.create(
        application_uid=application.uid,
        namespace=application.namespace,
        name=application.name,
        reason="OperationCompleted",
        kind="Normal" if phase is Phase.SUCCEEDED else "Warning",
        message=f"Sync operation to {short} {phase.lower()}: {message}"[:1000],
    )
    who = (operation.request.get("initiatedBy") or {}).get("username") or "automated sync"
    trail.record(
        who,
        "operation-ended",
        "application",
        application.qualified_name,
        application.project,
        operation=operation.pk,
        cluster=application.cluster.name if application.cluster else "",
        revisions=operation.revisions,
        outcome="allowed" if phase is Phase.SUCCEEDED else "failed",
        phase=phase.value,
        message=redact_text(message[:300]),
        **_deployed(operation, application, now),
    )


def _log_end(operation: Operation, phase: Phase) -> None:
    application = operation.application
    log.info(
        "operation %s: %s",
        phase.lower(),
        operation.message.splitlines()[0] if operation.message else "",
        extra={
            "application": application.qualified_name,
            "operation": operation.pk,
            "revision": ",".join(operation.revisions),
        },
    )
    server = application.cluster.server if application.cluster else ""
    SYNC.labels(application.project, phase.value, server).inc()


def _deployed(operation: Operation, application: Application, now: datetime) -> dict[str, Any]:
    """Return the deployment facts of the audit entry: commits, manifests, duration, drift."""
    since = application.out_of_sync_since
    return {
        "commits": _commits(operation, application),
        "manifests": operation.manifests_digest,
        "started": operation.started_at.isoformat(),
        "seconds": round((now - operation.started_at).total_seconds(), 1),
        "drift_seconds": round((now - since).total_seconds()) if since else None,
        "dry_run": bool(operation.sync.get("dryRun")) or None,
    }


def _commits(operation: Operation, application: Application) -> list[dict[str, str]]:
    commits = []
    for source, revision in zip(operation.sources, operation.revisions, strict=False):
        if not git.is_commit(revision):
            continue
        try:
            info = git.commit_info(key_of(str(source["repoURL"]), application.project), revision)
        except (Stalled, KeyError, OSError):
            continue
        lines = info.message.strip().splitlines()
        commits.append(
            {
                "revision": revision,
                "author": info.author,
                "date": info.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "message": redact_text(lines[0][:200]) if lines else "",
            }
        )
    return commits


def _trim(application: Application) -> None:
    kept = list(application.operations.order_by("-pk").values_list("pk", flat=True)[:20])
    if len(kept) == 20:
        application.operations.filter(pk__lt=kept[-1]).exclude(
            phase__in=["Running", "Terminating"]
        ).delete()


def _retry(operation: Operation, message: str, now: datetime) -> bool:
    policy = retry_policy(operation.request.get("retry"), default_limit=0)
    if policy.limit == 0 or not policy.allows(operation.retries):
        return False
    delay = policy.backoff.delay(operation.retries)
    at = now + delay
    number = operation.retries + 1
    text = f"{message[:1500]}. Retrying attempt #{number} at {at.strftime('%I:%M%p').lstrip('0')}."
    revisions = operation.revisions
    if policy.refresh:
        revisions = _latest(operation)
    with transaction.atomic():
        Application.objects.filter(pk=operation.application_id).locked()
        Operation.objects.filter(pk=operation.pk).update(
            retries=number,
            message=text,
            due_at=at,
            steps=[],
            is_planned=False,
            failure="",
            revisions=revisions,
        )
        Application.objects.filter(pk=operation.application_id).bump()
        publish()
    if delay < timedelta(seconds=30):
        wake(TaskName.PROJECTS_SYNC, operation.pk, delay=delay.total_seconds() + 0.05)
    return True


def _latest(operation: Operation) -> list[str]:
    try:
        return [
            sources.resolve(s, operation.application.project, force=True) for s in operation.sources
        ]
    except (RetryLater, Stalled):
        return list(operation.revisions)


def _add_to_history(operation: Operation, application: Application, now: datetime) -> None:
    last = application.history.order_by("-number").first()
    initiated = operation.request.get("initiatedBy") or {}
    Revision.objects.create(
        application=application,
        number=(last.number + 1) if last else 0,
        revisions=operation.revisions,
        sources=operation.sources,
        is_multi_source=application.is_multi_source,
        deployed_at=now,
        started_at=operation.started_at,
        initiated_by=initiated,
    )
    limit = application.spec.get("revisionHistoryLimit")
    keep = 10 if limit is None else int(limit)
    stale = application.history.order_by("-number").values_list("pk", flat=True)[keep:]
    Revision.objects.filter(pk__in=list(stale)).delete()
