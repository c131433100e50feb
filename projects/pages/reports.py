"""Audit reports: deployments, changes, and who had access at a given time."""

import csv
import io
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from hub.access import history
from hub.access.decisions import Caller, require
from hub.access.object_names import normal_object
from hub.audit import trail
from hub.audit.export import cell
from hub.audit.reports import changes
from hub.audit.search import moment
from hub.engine.errors import Invalid
from hub.engine.rbac import RESOURCES
from hub.web.page import Shown, signed_in
from projects.api.deployments import deployments

REPORTS = {"deployments": "Deployments", "changes": "Changes", "access": "Who could"}
SHOWN = 300


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show a report, or export it as CSV."""
    require(caller, "audit", "get", "reports")
    kind = request.GET.get("report", "deployments")
    kind = kind if kind in REPORTS else "deployments"
    params = request.GET.copy()
    for name in [n for n in params if not params[n]]:
        del params[name]
    if kind != "access" and "from" not in params:
        params["from"] = f"{timezone.now() - timedelta(days=30):%Y-%m-%d}"
    context: dict[str, Any] = {
        "section": "audit",
        "caller": Shown(caller),
        "reports": REPORTS.items(),
        "kind": kind,
        "params": params,
        "resources": RESOURCES,
        "error": "",
    }
    try:
        if kind == "deployments":
            context["report"] = deployments(params)
        elif kind == "changes":
            context["report"] = changes(params)
        elif params.get("at"):
            context["report"] = _access(params)
    except Invalid as error:
        context["error"] = str(error)
    if request.GET.get("format") == "csv" and "report" in context:
        trail.record(
            caller.name, "export", "audit", f"report {kind}", filters=dict(request.GET.lists())
        )
        return _csv(kind, context["report"])
    if "report" in context and "items" in context["report"]:
        context["count"] = len(context["report"]["items"])
        context["report"]["items"] = (
            context["report"]["items"][-SHOWN:][::-1]
            if kind == "deployments"
            else context["report"]["items"][:SHOWN]
        )
    query = request.GET.copy()
    query["format"] = "csv"
    return render(request, "audit/reports.html", {**context, "csv": query.urlencode()})


def _access(params: Any) -> dict[str, Any]:
    at = moment(params["at"], "at")
    resource, action, name = (params.get(n, "") for n in ("resource", "action", "object"))
    if at is None or resource not in RESOURCES or not action or not name:
        raise Invalid("A time, an action, a resource and an object are required")
    return history.who_could(
        resource, action, normal_object(resource, name), at, params.get("cluster", "")
    )


_DEPLOYMENT = (
    "application",
    "project",
    "cluster",
    "kind",
    "phase",
    "startedAt",
    "finishedAt",
    "initiator",
    "reason",
    "ticket",
    "driftSeconds",
    "manifestsDigest",
    "event",
    "revisions",
    "authors",
    "approvers",
)
_CHANGE = ("kind", "object", "at", "actor", "verb", "reason", "ticket", "revisions", "event")
_ACCOUNT = ("account", "groups", "rule", "origin")


def _rows(kind: str, report: dict[str, Any]) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return the columns and the rows of a report."""
    if kind == "deployments":
        return _DEPLOYMENT, report["items"]
    if kind == "changes":
        changes_ = [
            {**change, "kind": item["kind"], "object": item["object"], "event": change["id"]}
            for item in report["items"]
            for change in item["changes"]
        ]
        return _CHANGE, changes_
    return _ACCOUNT, report["accounts"]


def _csv(kind: str, report: dict[str, Any]) -> HttpResponse:
    out = io.StringIO()
    writer = csv.writer(out)
    columns, rows = _rows(kind, report)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(_joined(row[column])) for column in columns])
    answer = HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{kind}.csv"'
    return answer


def _joined(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value
