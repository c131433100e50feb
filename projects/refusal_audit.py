"""Have the trail keep what a rule refuses an operation, a deletion or automated sync; each refusal once."""

from collections.abc import Sequence

from hub.audit import trail
from hub.engine.errors import RefusedByRule
from projects.models import Application, Operation

AUTOMATED = "automated sync"
BLOCKED = "cannot sync: blocked by sync window"


def actor_of(operation: Operation) -> str:
    """Return who an operation is of, as the trail names them."""
    initiated = operation.request.get("initiatedBy") or {}
    return str(initiated.get("username") or AUTOMATED)


def refused(operation: Operation, reason: str, *, verb: str = "sync") -> None:
    """Write that a rule refuses an operation what it would do.

    What a person asked for is refused to them once; automated sync once for its revisions, however often it tries.
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
    """Write that an operation ended because of a rule; other errors are no refusals."""
    if isinstance(error, RefusedByRule) and not error.recorded:
        refused(operation, str(error))


def not_started(application: Application, revisions: Sequence[str], reason: str) -> None:
    """Write that a rule keeps automated sync from starting."""
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
    """Write that a rule holds what the deletion of an application would take along."""
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
