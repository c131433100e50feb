"""REST API of the deployments report (Flotilla only)."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import require
from hub.audit.chain import stamp
from hub.audit.search import MAX_EVENTS, search
from hub.models import AuditEvent
from hub.rest.views import View, actor


class DeploymentsReport(View):
    """`/flotilla/audit/reports/deployments`: operations that ended, and the people involved."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return deployments, selected by the filters of the audit log."""
        require(actor(request), "audit", "get", "reports")
        return Response(deployments(request.query_params))


def deployments(params: Any) -> dict[str, Any]:
    """Return the operations that ended, selected by the filters of the audit log.

    Raises: Invalid for an invalid filter.
    """
    ended = list(search(params).filter(verb="operation-ended").order_by("pk")[: MAX_EVENTS + 1])
    items = [deployment(event, *_before(event)) for event in ended[:MAX_EVENTS]]
    return {"items": items, "truncated": len(ended) > MAX_EVENTS}


def _before(event: AuditEvent) -> tuple[AuditEvent | None, list[AuditEvent]]:
    """Return the audit event that started an operation, and the confirmations during it."""
    same = AuditEvent.objects.filter(kind="application", object=event.object, pk__lt=event.pk)
    began = (
        same.filter(verb__in=["sync", "rollback"], operation=event.operation).order_by("pk").first()
    )
    if began is None:
        return None, []
    return began, list(same.filter(verb="confirm-deletion", pk__gt=began.pk).order_by("pk"))


def deployment(
    event: AuditEvent, began: AuditEvent | None, confirmed: list[AuditEvent]
) -> dict[str, Any]:
    """Return one deployment."""
    detail = event.detail
    return {
        "application": event.object,
        "project": event.project,
        "cluster": event.cluster,
        "operation": event.operation,
        "kind": began.verb if began else "sync",
        "phase": detail.get("phase"),
        "startedAt": detail.get("started"),
        "finishedAt": stamp(event.at),
        "seconds": detail.get("seconds"),
        "revisions": event.revisions,
        "commits": detail.get("commits") or [],
        "authors": sorted({c["author"] for c in detail.get("commits") or []}),
        "initiator": began.actor if began else event.actor,
        "initiatorIdentity": began.who if began else {},
        "approvers": [c.actor for c in confirmed],
        "reason": began.reason if began else "",
        "ticket": began.ticket if began else "",
        "manifestsDigest": detail.get("manifests", ""),
        "driftSeconds": detail.get("drift_seconds"),
        "dryRun": bool(detail.get("dry_run")),
        "event": str(event.uid),
    }
