"""The page of one application, with its dialogs: sync, rollback, deletion."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from hub.access.decisions import Caller, enforcer, is_allowed
from hub.access.explain import who_can
from hub.audit import trail
from hub.engine.deletion_guard import needs_confirmation
from hub.engine.errors import AccessDenied, EngineError, Invalid, NotFound, RetryLater, Stalled
from hub.engine.parsing import parse_digits
from hub.engine.plan import PRUNE, PlanRequest, Step, plan
from hub.engine.resource import ResourceKey
from hub.engine.status import Sync
from hub.engine.sync_options import parse_options, resource_options
from hub.models import current_version
from hub.web.page import Shown, signed_in
from projects import sources
from projects.access.visibility import visible
from projects.api.operations import may_sync, sources_at
from projects.api.resources import resource_events, tree
from projects.comparison.compare import Compared, comparison
from projects.live_pages.application_rows import first_url, row_of, subject_of
from projects.models import Application, ApplicationEvent, Favourite
from projects.objects.specs import (
    find_cluster,
    is_namespace_permitted,
    project_of,
    project_of_or_none,
    spec_problems,
)
from projects.objects.sync_windows import windows_of
from projects.pages.commit_links import commit_url
from projects.pages.explain import Cause, explain
from projects.pages.resource_tree import Box, graph, key_of, listed, worst_below

VIEWS = ("tree", "network", "pods", "list")


def found(caller: Caller, namespace: str, name: str) -> Application:
    """Return an application that the caller may see.

    Raises: Http404, also if it does not exist.
    """
    row = (
        Application.objects.select_related("cluster", "operation")
        .filter(namespace=namespace, name=name)
        .first()
    )
    if row is None or not is_allowed(caller, "applications", "get", row.rbac_object, row.where):
        raise Http404
    rules = project_of_or_none(row.project)
    if rules is not None and not is_namespace_permitted(row, rules):
        raise Http404
    return row


def may(caller: Caller, row: Application) -> dict[str, bool]:
    """Return the permissions of the caller on an application."""
    actions = ("sync", "update", "delete", "override")
    return {a: is_allowed(caller, "applications", a, row.rbac_object, row.where) for a in actions}


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show an application: its status, operation, problem, resources and history."""
    version = current_version()
    row = found(caller, namespace, name)
    view = request.GET.get("view", "") if request.GET.get("view", "") in VIEWS else ""
    return render(
        request,
        "applications/page.html",
        {
            **_context(caller, row, whole=view == "list"),
            "version": version,
            "view": view,
            "asked": request.GET.get("resource", ""),
        },
    )


def _context(caller: Caller, row: Application, *, whole: bool) -> dict[str, Any]:
    """Return the context of the page; the resource list only if it is `whole`.

    The tree is loaded separately. Resources are only read for the list, or to find the cause of a
    problem.
    """
    nodes = tree(row)["nodes"] if whole or row.health_status in ("Degraded", "Progressing") else []
    operation = row.operation
    runs = operation is not None and operation.phase in ("Running", "Terminating")
    url = first_url(row.sources)
    history = list(row.history.order_by("-number")[:10])
    boxes = _boxes(row, nodes) if whole else []
    revision = row.revisions[0] if row.revisions else ""
    return {
        "section": "applications",
        "caller": Shown(caller),
        "row": row_of(row),
        "a": row,
        "may": may(caller, row),
        "source": row.sources[0] if row.sources else {},
        "boxes": boxes,
        "cause": None if runs else _cause(row, nodes),
        "commit": commit_url(url, revision),
        "operation": operation if runs else None,
        "phases": _phases(operation) if runs else [],
        "last": history[0] if history else None,
        "history": [_past(row, h) for h in history],
        "percent": _percent(operation) if runs else 0,
        "conditions": [c for c in row.conditions if not _is_shown_apart(c)],
        "wait": _wait(caller, row),
        "resource_count": len(boxes) - 1,
        "out": sum(r.get("status") == "OutOfSync" for r in row.resources),
        "favourite": Favourite.objects.filter(account=caller.account, application=row).exists(),
        "events": ApplicationEvent.objects.filter(application_uid=row.uid).order_by("-pk")[:12],
        "windows": windows_sentence(row),
        "may_audit": is_allowed(caller, "audit", "get", "events"),
    }


def _is_shown_apart(condition: Mapping[str, Any]) -> bool:
    kind = str(condition["type"])
    return kind.endswith("Error") or kind == "DeletionWaiting"


def _boxes(row: Application, nodes: Sequence[Mapping[str, Any]]) -> list[Box]:
    root = {"name": row.name, "health": row.health_status, "sync": row.sync_status}
    return listed(root, nodes, {key_of(r): r for r in row.resources})


def _cause(row: Application, nodes: Sequence[Mapping[str, Any]]) -> Cause | None:
    state = {
        "health": row.health_status,
        "sync": row.sync_status,
        "conditions": row.conditions,
        "resources": row.resources,
    }
    if row.operation is None:
        return explain(state, None, nodes)
    fields = ("phase", "message", "steps")
    return explain(state, {f: getattr(row.operation, f) for f in fields}, nodes)


def _past(row: Application, entry: Any) -> dict[str, Any]:
    url = first_url(entry.sources or row.sources)
    revision = entry.revisions[0] if entry.revisions else ""
    by = (entry.initiated_by or {}).get("username") or "auto-sync"
    return {
        "h": entry,
        "revision": revision,
        "subject": subject_of(row.project, url, revision) if revision else "",
        "by": by,
        "url": commit_url(url, revision),
    }


def _percent(operation: Any) -> int:
    done = sum(s["status"] in ("succeeded", "failed") for s in operation.steps)
    return round(100 * done / len(operation.steps)) if operation.steps else 0


def _wait(caller: Caller, row: Application) -> dict[str, Any] | None:
    """Return what the application waits for, until when, and who can confirm it."""
    operation = row.operation
    runs = operation is not None and operation.phase == "Running"
    message = operation.message if operation is not None and runs else ""
    deletion = next(
        (str(c["message"]) for c in row.conditions if c["type"] == "DeletionWaiting"), ""
    )
    text = deletion or message
    if not text:
        return None
    confirms = needs_confirmation(text)
    again = (
        operation.due_at
        if operation is not None and runs and operation.retries and not operation.is_planned
        else None
    )
    found_: dict[str, Any] = {
        "text": text.partition("; confirm with the annotation")[0]
        .removeprefix("waiting: ")
        .removeprefix("waiting ")
    }
    found_ |= {"confirm": confirms, "again": again if again and again > timezone.now() else None}
    if confirms:
        said = who_can(enforcer(), "applications", "delete", row.rbac_object)
        # Everyone who may see the application may see which roles can confirm, but account names
        # need more permissions.
        names = [s for s in said["subjects"] if s.startswith(("role:", "proj:"))]
        people = (
            [a["username"] for a in said["accounts"]]
            if is_allowed(caller, "roles", "get", "*")
            else []
        )
        found_["who"] = [*names, *people][:6]
    return found_


@require_GET
@signed_in
def drawing(_request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Return the resource tree to draw, as JSON."""
    row = found(caller, namespace, name)
    body = orjson.dumps(graph(tree(row), {key_of(r): r for r in row.resources}))
    return HttpResponse(body, content_type="application/json")


@require_GET
@signed_in
def why(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Return the cluster's events for the resource that causes a problem, as text."""
    row = found(caller, namespace, name)
    node = worst_below(tree(row)["nodes"], request.GET.get("key", ""))
    if node is None:
        return HttpResponse("")
    try:
        events = resource_events(
            row, node.get("namespace") or "", node["name"], str(node.get("uid") or "")
        )["items"]
    except (EngineError, Stalled, RetryLater, Invalid, AccessDenied, NotFound):
        return HttpResponse("")
    warnings = sorted(
        (e for e in events if e.get("type") == "Warning"),
        key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""),
    )
    return render(
        request,
        "applications/why.html",
        {
            "event": warnings[-1] if warnings else None,
            "node": node,
            "key": key_of(node),
            "row": row_of(row),
        },
    )


def windows_sentence(row: Application) -> str:
    """Return a sentence that says which syncs the sync windows block now, or an empty string."""
    windows = windows_of(row, timezone.now())
    may_sync = windows.can_sync(manual=True)
    if may_sync and (not row.is_automated or windows.can_sync(manual=False)):
        return ""
    reopens = windows.reopens_at()
    until = f", until {reopens:%Y-%m-%d %H:%M} UTC at the earliest" if reopens else ""
    if may_sync:
        return (
            f"A sync window of project {row.project} blocks automated syncs{until}. "
            "A manual sync is permitted."
        )
    return f"A sync window of project {row.project} blocks syncs{until}."


def _phases(operation: Any) -> list[dict[str, Any]]:
    """Return the phases and waves of an operation, with the number of finished steps."""
    result: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for step in operation.steps:
        result.setdefault(step["phase"], {}).setdefault(int(step["wave"]), []).append(step)
    shown = []
    for phase, waves in result.items():
        parts = []
        for wave, steps in sorted(waves.items()):
            done = sum(s["status"] == "succeeded" for s in steps)
            failed = sum(s["status"] == "failed" for s in steps)
            parts.append(
                {
                    "wave": wave,
                    "done": done,
                    "total": len(steps),
                    "percent": round(100 * done / len(steps)),
                    "failed": failed,
                    "now": 0 < done + failed < len(steps)
                    or any(s["status"] in ("running", "applying") for s in steps),
                }
            )
        shown.append({"name": phase, "waves": parts})
    return shown


@require_GET
@signed_in
def sync_dialog(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show the sync dialog with its options and plan."""
    row = found(caller, namespace, name)
    policy = row.sync_policy
    options = [str(o) for o in policy.get("syncOptions") or []]
    kept = [
        o
        for o in options
        if o.partition("=")[0] not in OPTIONS and o.partition("=")[0] != "PrunePropagationPolicy"
    ]
    propagation = next(
        (o.partition("=")[2] for o in options if o.startswith("PrunePropagationPolicy=")), ""
    )
    return render(
        request,
        "applications/sync.html",
        {
            "a": row,
            "row": row_of(row),
            "may": may(caller, row),
            "options": [(o, f"{o}=true" in options) for o in OPTIONS],
            "kept": kept,
            "propagation": propagation,
            "windows": windows_sentence(row),
            "prune": bool((policy.get("automated") or {}).get("prune")),
            "only": request.GET.get("only", ""),
        },
    )


OPTIONS = (
    "CreateNamespace",
    "ServerSideApply",
    "Replace",
    "ApplyOutOfSyncOnly",
    "PruneLast",
    "RespectIgnoreDifferences",
    "SkipSchemaValidation",
    "FailOnSharedResource",
)


@require_GET
@signed_in
def sync_plan(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show the steps of a sync in their order of execution, without running them."""
    row = found(caller, namespace, name)
    asked = request.GET
    try:
        revision = asked.get("revision", "").strip()[:300]
        narrow = bool(revision) and not may_sync(caller, row)
        compared, revisions = compare_at(row, revision, narrow=narrow)
    except (EngineError, Stalled, RetryLater, Invalid, NotFound) as error:
        return render(request, "applications/plan.html", {"error": str(error)})
    steps = steps_of(
        compared,
        revisions,
        asked.getlist("syncOptions.items[]"),
        hooks=asked.get("strategy") != "apply",
    )
    shown = [_shown_step(s, compared, prune="prune" in asked) for s in steps]
    changes = sum(s["what"] not in ("same", "skip") for s in shown)
    return render(
        request,
        "applications/plan.html",
        {
            "a": row,
            "steps": shown,
            "changes": changes,
            "revision": revisions[0] if revisions else "",
            "only": asked.get("only", ""),
            "prunes": sum(s["action"] == PRUNE for s in shown),
            "prune": "prune" in asked,
            "warnings": compared.warnings[:5],
        },
    )


def compare_at(
    row: Application, revision: str, *, narrow: bool = False
) -> tuple[Compared, list[str]]:
    """Compare an application at a revision, by default that of its spec; also return the commits.

    Raises: Stalled, RetryLater or Invalid, with the reason why it cannot be compared.
    """
    problems = spec_problems(row)
    if problems:
        raise Invalid("; ".join(problems))
    wanted = sources_at(row, {"revision": revision, "dryRun": True})
    project, cluster = project_of(row.project), find_cluster(row.spec)
    # A sync without a revision uses the revision of the last refresh.
    revisions = (
        row.revisions
        if not revision and len(row.revisions) == len(wanted) and row.pk
        else [sources.resolve(s, row.project) for s in wanted]
    )
    context = sources.context_of(row, project.spec, cluster, asker=trail.asker())
    desired = sources.load(wanted, revisions, context)
    return comparison(row, desired, cluster, project.spec, narrow=narrow), list(revisions)


def steps_of(
    compared: Compared, revisions: list[str], options: list[str], *, hooks: bool
) -> list[Step]:
    """Return the plan of a sync, as the operation would create it."""
    try:
        parsed = parse_options(options)
    except EngineError:
        parsed = {}
    pairs = compared.pairs
    if parsed.get("ApplyOutOfSyncOnly") == "true":
        pairs = [p for p in pairs if p.state.hook or p.state.status is not Sync.SYNCED]
    desired = [
        p.desired for p in pairs if p.desired is not None and (p.state.wanted or p.state.hook)
    ]
    extra = [p.live for p in pairs if p.state.requires_pruning and p.live is not None]
    request = PlanRequest(
        revision=revisions[0] if revisions else "",
        started=int(timezone.now().timestamp()),
        hooks=hooks,
        prune=True,
        options=parsed,
    )
    return plan(desired, extra, request)


_STEP_CSS = {"prune": "t-bad", "create": "t-ok", "change": "t-drift"}


def _shown_step(step: Step, compared: Compared, *, prune: bool) -> dict[str, Any]:
    pair = next((p for p in compared.pairs if p.key == step.key), None)
    what = "change"
    if step.action == PRUNE:
        kept = (
            pair is not None
            and pair.live is not None
            and resource_options(pair.live, {}).value("Prune") == "false"
        )
        what = "prune" if prune and not kept else "skip"
    elif pair is None or pair.state.hook:
        what = "run"
    elif pair.live is None:
        what = "create"
    elif pair.state.status is Sync.SYNCED:
        what = "same"
    key = step.key
    entry = {"group": key.group, "kind": key.kind, "namespace": key.namespace, "name": key.name}
    return {
        "what": what,
        "css": _STEP_CSS.get(what, "muted"),
        "phase": step.phase.value,
        "wave": step.wave,
        "kind": key.kind,
        "name": key.name,
        "action": step.action,
        "key": key_text(key),
        "json": orjson.dumps(entry).decode(),
    }


def key_text(key: ResourceKey) -> str:
    """Return the id of a resource on the page."""
    return f"{key.group}/{key.kind}/{key.namespace}/{key.name}"


@require_GET
@signed_in
def rollback_dialog(
    request: HttpRequest, caller: Caller, namespace: str, name: str, number: int
) -> HttpResponse:
    """Show an entry of the history, and what a rollback to it would change."""
    row = found(caller, namespace, name)
    entry = row.history.filter(number=number).first()
    if entry is None:
        raise Http404
    url = first_url(entry.sources or row.sources)
    revision = entry.revisions[0] if entry.revisions else ""
    return render(
        request,
        "applications/rollback.html",
        {
            "a": row,
            "row": row_of(row),
            "entry": entry,
            "revision": revision,
            "subject": subject_of(row.project, url, revision),
            "may": may(caller, row),
            "automated": row.is_automated,
            "windows": windows_sentence(row),
        },
    )


@require_GET
@signed_in
def delete_dialog(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show the deletion dialog, with what would be deleted."""
    row = found(caller, namespace, name)
    kinds: dict[str, int] = {}
    for entry in row.resources:
        if (entry.get("health") or {}).get("status") != "Missing" and not entry.get("hook"):
            kinds[entry["kind"]] = kinds.get(entry["kind"], 0) + 1
    data = [
        k
        for k in kinds
        if k in ("Namespace", "PersistentVolumeClaim", "CustomResourceDefinition", "StatefulSet")
    ]
    return render(
        request,
        "applications/delete.html",
        {
            "a": row,
            "row": row_of(row),
            "kinds": sorted(kinds.items()),
            "total": sum(kinds.values()),
            "data": data,
            "may": may(caller, row),
        },
    )


@require_GET
@signed_in
def preview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show what syncing several applications would change."""
    numbers = [parse_digits(k) for k in request.GET.getlist("row")[:200]]
    keys = [n for n in numbers if n is not None]
    rows = (
        visible(caller).filter(pk__in=keys).select_related("cluster", "operation").order_by("name")
    )
    items = [
        {
            "a": a,
            "changes": sum(
                r.get("status") == "OutOfSync" and not r.get("requiresPruning") for r in a.resources
            ),
            "prunes": sum(bool(r.get("requiresPruning")) for r in a.resources),
            "may": is_allowed(caller, "applications", "sync", a.rbac_object, a.where),
            "windows": windows_sentence(a),
        }
        for a in rows
    ]
    return render(
        request,
        "applications/preview.html",
        {"items": items, "ready": sum(i["may"] for i in items)},
    )
