"""Change a live resource, with an audit event before the request and another with its outcome.

If the process dies in between, the sweep reads the live resource and records what it finds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from clusters import live
from clusters.kinds import Kind, Refused
from clusters.kube import Connection, connect, secretless
from clusters.models import Cluster
from hub.audit import trail
from hub.base.claims import claim
from hub.base.redaction import redact_text
from hub.engine.change_outcome import (
    CREATE,
    DELETE,
    PATCH,
    Outcome,
    fingerprint,
    outcome_of,
    without_noise,
)
from hub.engine.errors import EngineError, RetryLater, Stalled
from hub.engine.resource import Manifest, ResourceKey
from hub.engine.secret_masking import masked
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import AuditEvent, PendingChange
from projects.models import Application
from projects.refreshing.triggers import mark_refresh_due

__all__ = ["CREATE", "DELETE", "PATCH", "Change", "Target", "change", "resolve", "wake_unresolved"]
GRACE = timedelta(seconds=5)
"""The time after the intent from which the sweep may take over."""
RETRY = timedelta(seconds=15)
MAX_RETRY_DELAY = timedelta(minutes=10)
PATIENCE = timedelta(days=7)
"""The time without an answer after which the outcome stays unknown."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a live resource."""

    verb: str
    """The verb of the audit event, such as `patch` or `action restart`."""
    how: str
    """`patch`, `delete` or `create`."""
    key: ResourceKey
    before: Manifest = field(default_factory=dict)
    """The resource before the change, empty if it did not exist."""
    patch: Any = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a change is made, and by whom."""

    application: Application
    cluster: Cluster
    actor: str

    def named(self, key: ResourceKey) -> str:
        """Return the name of a resource in the audit log."""
        return f"{self.application.qualified_name} {key}"


def change(
    target: Target,
    what: Change,
    connection: Connection,
    kind: Kind,
    call: Callable[[Connection, Kind], Manifest],
) -> Manifest:
    """Make a change by `call`, and record its intent and its outcome.

    Raises: Refused with the cluster's answer, without the content of a Secret; RetryLater if the
        cluster did not answer: the outcome is unknown until the live resource is read.
    """
    pending = _intend(target, what, kind)
    with claim(PendingChange, pending.pk):
        try:
            result = call(connection, kind)
        except Refused as refused:
            error = secretless(refused, _stub(kind, what.key))
            _conclude(pending, Outcome("failed", error.message), None)
            raise error from refused
        except (RetryLater, Stalled):
            PendingChange.objects.filter(pk=pending.pk).update(due_at=timezone.now() + GRACE)
            raise
        if result:
            live.record(target.cluster.pk, [live.Seen(result, is_whole=True)])
        _conclude(pending, Outcome("allowed"), {} if what.how == DELETE else result)
    mark_refresh_due([target.application.pk])
    return result


def _stub(kind: Kind, key: ResourceKey) -> Manifest:
    return {"apiVersion": kind.api_version, "kind": key.kind, "metadata": {"name": key.name}}


def _intend(target: Target, what: Change, kind: Kind) -> PendingChange:
    """Record the intended change; it is committed before the request is sent."""
    application, now = target.application, timezone.now()
    metadata = what.before.get("metadata") or {}
    shown = {} if what.patch is None else {"patch": masked(_body(what.patch), _field(what.key))}
    with transaction.atomic():
        event = trail.record(
            target.actor,
            what.verb,
            "resource",
            target.named(what.key),
            application.project,
            cluster=target.cluster.name,
            outcome="intent",
            uid=metadata.get("uid"),
            resource_version=metadata.get("resourceVersion"),
            **shown,
        )
        plan = {
            "how": what.how,
            "key": list(what.key),
            "version": kind.version,
            "patch": what.patch,
            "before": without_noise(what.before),
            "fingerprint": fingerprint(what.before),
        }
        return PendingChange.objects.create(
            event=event.pk,
            uid=event.uid,
            cluster=target.cluster.pk,
            application=application.pk,
            plan=plan,
            due_at=now + GRACE,
        )


def _field(key: ResourceKey) -> str:
    # The content of a Secret is never recorded, whatever the patch contains.
    return "data" if (key.group, key.kind) == ("", "Secret") else ""


def _body(patch: Any) -> Any:
    """Return a patch without the preconditions that bind it to a version of the resource."""
    if isinstance(patch, list):
        return [op for op in patch if not (isinstance(op, dict) and op.get("op") == "test")]
    if not isinstance(patch, Mapping):
        return patch
    metadata = {
        k: v
        for k, v in (patch.get("metadata") or {}).items()
        if k not in ("uid", "resourceVersion")
    }
    rest = {k: v for k, v in patch.items() if k != "metadata"}
    return {**rest, **({"metadata": metadata} if metadata else {})}


def _conclude(
    pending: PendingChange, found: Outcome, after: Manifest | None, *, is_read: bool = False
) -> None:
    """Record the outcome of an intent once, with the masked difference."""
    intent = AuditEvent.objects.get(pk=pending.event)
    is_made = found.outcome == "allowed" and after is not None
    before = pending.plan.get("before")
    with transaction.atomic():
        if not PendingChange.objects.filter(pk=pending.pk).delete()[0]:
            return
        trail.record(
            "hub" if is_read else intent.actor,
            intent.verb,
            intent.kind,
            intent.object,
            intent.project,
            cluster=intent.cluster,
            outcome=found.outcome,
            intent=str(intent.uid),
            message=redact_text(found.why),
            resolved="by reading the live object" if is_read else "",
            asked_by=intent.actor if is_read else "",
            before=before if is_made else None,
            after=without_noise(after or {}) if is_made else None,
        )


def resolve(pk: int) -> bool:
    """Read the live resource of an unresolved change; return whether its outcome is known now."""
    with claim(PendingChange, pk) as is_claimed:
        if not is_claimed:
            return False
        pending = PendingChange.objects.filter(pk=pk, due_at__lte=timezone.now()).first()
        if pending is None:
            return False
        cluster = Cluster.objects.filter(pk=pending.cluster).first()
        if cluster is None:
            _conclude(pending, Outcome("unknown", "the cluster is no longer registered"), None)
            return True
        try:
            current = _fetch(pending, cluster)
        except (Refused, RetryLater, Stalled, EngineError) as error:
            return _wait(pending, str(error))
        _conclude(pending, outcome_of(pending.plan, current), current or {}, is_read=True)
    mark_refresh_due(
        list(Application.objects.filter(pk=pending.application).values_list("pk", flat=True))
    )
    return True


def _fetch(pending: PendingChange, cluster: Cluster) -> Manifest | None:
    key = ResourceKey(*pending.plan["key"])
    connection = connect(cluster)
    version = str(pending.plan.get("version") or "")
    kind = connection.kind(key.group, key.kind, version) or connection.kind(key.group, key.kind)
    return connection.get(kind, key.namespace, key.name) if kind else None


def _wait(pending: PendingChange, why: str) -> bool:
    now = timezone.now()
    begun = AuditEvent.objects.filter(pk=pending.event).values_list("at", flat=True).first()
    if begun is not None and now - begun > PATIENCE:
        outcome = Outcome("unknown", f"the cluster did not answer: {why}")
        _conclude(pending, outcome, None, is_read=True)
        return True
    delay = min(RETRY * 2 ** min(pending.attempts, 10), MAX_RETRY_DELAY)
    PendingChange.objects.filter(pk=pending.pk).update(
        due_at=now + delay, attempts=pending.attempts + 1
    )
    return False


def wake_unresolved() -> None:
    """Wake workers for the changes whose outcome is unknown."""
    due = PendingChange.objects.filter(due_at__lte=timezone.now()).order_by("pk")
    for pk in due.values_list("pk", flat=True)[:100]:
        wake(TaskName.PROJECTS_RESOLVE_CHANGE, pk, priority=4)
