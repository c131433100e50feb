"""End an operation, let it wait, or plan its retry."""

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
from projects.applications import tell_rollout
from projects.models import Application, ApplicationEvent, Operation, Revision
from projects.sources import git
from projects.sources.remotes import key_of

log = logging.getLogger(__name__)


def let_wait(operation: Operation, message: str, delay: timedelta) -> None:
    """Say what an operation waits for, and when it is looked at again."""
    changed = (
        Operation.objects.filter(pk=operation.pk).values_list("message", flat=True).first()
        != message
    )
    later = Operation.objects.filter(pk=operation.pk, phase="Running", due_at=operation.due_at)
    if not later.update(message=message, due_at=timezone.now() + delay):
        # An event came in during this run: look again at once, or it would be lost until the next look.
        Operation.objects.filter(pk=operation.pk).update(message=message)
        delay = timedelta(milliseconds=50)
    if changed:
        with transaction.atomic():
            Application.objects.filter(pk=operation.application_id).bump()
            publish()
    if delay < timedelta(seconds=10):
        wake(TaskName.PROJECTS_SYNC, operation.pk, delay=delay.total_seconds() + 0.05)


def finish(operation: Operation, phase: Phase, message: str, *, retry: bool = True) -> None:
    """End an operation, or plan its retry; the application is looked at again."""
    now = timezone.now()
    application = operation.application
    current = Operation.objects.filter(pk=operation.pk).values_list("phase", flat=True).first()
    if current == Phase.TERMINATING and operation.phase != Phase.TERMINATING:
        # Somebody ended it while this run was busy: the next run terminates it.
        wake(TaskName.PROJECTS_SYNC, operation.pk)
        return
    if phase is not Phase.SUCCEEDED and retry and _retry(operation, message, now):
        return
    if operation.retries:
        message = f"{message} (retried {operation.retries} times)."
    with transaction.atomic():
        Application.objects.filter(pk=application.pk).locked()
        request = {k: v for k, v in operation.request.items() if k != "failing"}
        operation.phase, operation.message, operation.finished_at = phase.value, message[:2000], now
        Operation.objects.filter(pk=operation.pk).update(
            phase=phase, message=operation.message, finished_at=now, request=request
        )
        if (
            phase is Phase.SUCCEEDED
            and not operation.sync.get("dryRun")
            and not operation.sync.get("resources")
        ):
            _remember(operation, application, now)
        Application.objects.filter(pk=application.pk).bump(refresh_at=now)
        ApplicationEvent.objects.create(
            application_uid=application.uid,
            namespace=application.namespace,
            name=application.name,
            reason="OperationCompleted",
            kind="Normal" if phase is Phase.SUCCEEDED else "Warning",
            message=f"Sync operation to {', '.join(r[:12] for r in operation.revisions)} {phase.lower()}: {message}"[
                :1000
            ],
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
            phase=phase.value,
            message=redact_text(message[:300]),
            **_deployed(operation, application, now),
        )
        publish()
        tell_rollout(application)
        wake(TaskName.PROJECTS_REFRESH, application.pk, priority=2)
        _trim(application)
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
    SYNC.labels(
        application.project, phase.value, application.cluster.server if application.cluster else ""
    ).inc()


def _deployed(operation: Operation, application: Application, now: datetime) -> dict[str, Any]:
    """Return what the trail keeps of a deployment beside its outcome: commits, manifests, drift."""
    commits = []
    for source, revision in zip(operation.sources, operation.revisions, strict=False):
        try:
            info = (
                git.commit_info(key_of(str(source["repoURL"]), application.project), revision)
                if git.is_commit(revision)
                else None
            )
        except (Stalled, KeyError, OSError):
            continue
        if info is not None:
            lines = info.message.strip().splitlines()
            commits.append(
                {
                    "revision": revision,
                    "author": info.author,
                    "date": info.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "message": redact_text(lines[0][:200]) if lines else "",
                }
            )
    since = application.out_of_sync_since
    return {
        "commits": commits,
        "manifests": operation.manifests_digest,
        "started": operation.started_at.isoformat(),
        "seconds": round((now - operation.started_at).total_seconds(), 1),
        "drift_seconds": round((now - since).total_seconds()) if since else None,
        "dry_run": bool(operation.sync.get("dryRun")) or None,
    }


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
    request = {k: v for k, v in operation.request.items() if k != "failing"}
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
            request=request,
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


def _remember(operation: Operation, application: Application, now: datetime) -> None:
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
