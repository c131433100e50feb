"""Record refusals by rules in the audit log, each once."""

from collections.abc import Sequence

from hub.audit import trail
from hub.engine.errors import RefusedByRule
from projects.models import Application, Operation

AUTOMATED = "automated sync"
BLOCKED = "cannot sync: blocked by sync window"


def actor_of(operation: Operation) -> str:
    """Return the actor of an operation in the audit log."""
    initiated = operation.request.get("initiatedBy") or {}
    return str(initiated.get("username") or AUTOMATED)


def refused(operation: Operation, reason: str, *, verb: str = "sync") -> None:
    """Record that a rule refuses an operation.

    Each operation of a person is recorded; automated syncs are recorded once per revision.
    """
    application = operation.application
    cluster = application.cluster.name if application.cluster else ""
    trail.record_refusal_once(
        actor_of(operation),
        verb,
        "applications",
        application.qualified_name,
        application.project,
        reason,
        cluster,
        revisions=operation.revisions,
        operation=operation.pk,
        each_operation=not operation.is_automated,
    )


def refused_by(operation: Operation, error: Exception) -> None:
    """Record that a rule ended an operation; other errors are not recorded."""
    if isinstance(error, RefusedByRule) and not error.recorded:
        refused(operation, str(error))


def not_started(application: Application, revisions: Sequence[str], reason: str) -> None:
    """Record that a rule prevents an automated sync."""
    cluster = application.cluster.name if application.cluster else ""
    trail.record_refusal_once(
        AUTOMATED,
        "sync",
        "applications",
        application.qualified_name,
        application.project,
        reason,
        cluster,
        revisions=revisions,
    )


def not_deleted(application: Application, reason: str) -> None:
    """Record that a rule prevents the deletion of an application's resources."""
    cluster = application.cluster.name if application.cluster else ""
    asked = application.deletion_requested_at
    trail.record_refusal_once(
        "hub",
        "delete",
        "applications",
        application.qualified_name,
        application.project,
        reason,
        cluster,
        revisions=[asked.isoformat()] if asked else [],
    )
