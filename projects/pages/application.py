"""The page of one application, and what opens on it: a resource, a sync, a rollback, a deletion."""

from collections.abc import Mapping
from typing import Any

import orjson
import yaml
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from clusters.models import Cluster
from hub.access import Caller, is_allowed
from hub.documents import load_yaml
from hub.engine.errors import AccessDenied, EngineError, Invalid, NotFound, RetryLater, Stalled
from hub.engine.resource import ResourceKey
from hub.models import current_version
from hub.pages import Shown, signed_in
from projects import applications
from projects.api.actions import actions_of
from projects.api.resources import managed_items, place_for, resource_events, tree
from projects.manifests import application_json
from projects.models import Application, ApplicationEvent, Favourite, Project, Repository
from projects.pages.diffing import as_yaml, diff_lines
from projects.pages.explain import explain
from projects.pages.rows import row_of, subject_of
from projects.pages.treeview import draw, key_of
from projects.specs import find_cluster, is_namespace_permitted, project_of_or_none
from projects.visible import visible
from projects.windows import windows_of

TABS = ("summary", "diff", "live", "desired", "events", "logs")
_LOGGED = ("Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job")
_DENIED = (AccessDenied, NotFound)


def found(caller: Caller, namespace: str, name: str) -> Application:
    """Return an application that the caller may see.

    Raises: Http404, the same for one that is absent.
    """
    row = Application.objects.select_related("cluster", "operation").filter(namespace=namespace, name=name).first()  # fmt: skip
    if row is None or not is_allowed(caller, "applications", "get", row.rbac_object, row.where):
        raise Http404
    rules = project_of_or_none(row.project)
    if rules is not None and not is_namespace_permitted(row, rules):
        raise Http404
    return row


def _may(caller: Caller, row: Application) -> dict[str, bool]:
    actions = ("sync", "update", "delete", "override")
    return {a: is_allowed(caller, "applications", a, row.rbac_object, row.where) for a in actions}


@require_GET
@signed_in
def page(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show an application: state, operation, cause, resources, history."""
    version = current_version()
    row = found(caller, namespace, name)
    return render(request, "applications/page.html", {**_context(caller, row), "version": version, "list": request.GET.get("view") == "list", "asked": request.GET.get("resource", "")})  # fmt: skip


def _context(caller: Caller, row: Application) -> dict[str, Any]:
    nodes = tree(row)["nodes"]
    states = {key_of(r): r for r in row.resources}
    drawing = draw({"name": row.name, "health": row.health_status, "sync": row.sync_status}, nodes, states)  # fmt: skip
    operation = row.operation
    cause = explain(
        {"health": row.health_status, "sync": row.sync_status, "conditions": row.conditions, "resources": row.resources},
        {"phase": operation.phase, "message": operation.message, "steps": operation.steps} if operation else None,
    )  # fmt: skip
    runs = operation is not None and operation.phase in ("Running", "Terminating")
    url = str(row.sources[0].get("repoURL") or "") if row.sources else ""
    history = list(row.history.order_by("-number")[:10])
    return {
        "section": "applications", "caller": Shown(caller), "row": row_of(row), "a": row, "may": _may(caller, row), "source": row.sources[0] if row.sources else {},
        "drawing": drawing, "cause": None if runs else cause,
        "operation": operation if runs else None, "phases": _phases(operation) if runs else [], "last": history[0] if history else None,
        "history": [(h, h.revisions[0] if h.revisions else "", subject_of(url, h.revisions[0]) if h.revisions else "", (h.initiated_by or {}).get("username") or "auto-sync") for h in history],
        "conditions": [c for c in row.conditions if not str(c["type"]).endswith("Error")], "resource_count": len(nodes),
        "out": sum(r.get("status") == "OutOfSync" for r in row.resources), "favourite": Favourite.objects.filter(account=caller.account, application=row).exists(),
        "events": ApplicationEvent.objects.filter(application_uid=row.uid).order_by("-pk")[:12], "windows": _windows(row),
    }  # fmt: skip


def _windows(row: Application) -> str:
    """Return a sentence when the project's windows hold a sync back."""
    windows = windows_of(row, timezone.now())
    if not windows.assigned or windows.can_sync(manual=True):
        return ""
    reopens = windows.reopens_at()
    until = f" until {reopens:%Y-%m-%d %H:%M} UTC" if reopens else ""
    return f"A sync window of project {row.project} is closed{until}."


def _phases(operation: Any) -> list[dict[str, Any]]:
    """Return the phases of an operation with their waves: how many of each are done."""
    result: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for step in operation.steps:
        result.setdefault(step["phase"], {}).setdefault(int(step["wave"]), []).append(step)
    shown = []
    for phase, waves in result.items():
        parts = []
        for wave, steps in sorted(waves.items()):
            done = sum(s["status"] == "succeeded" for s in steps)
            failed = sum(s["status"] == "failed" for s in steps)
            parts.append({"wave": wave, "done": done, "total": len(steps), "percent": round(100 * done / len(steps)), "failed": failed, "now": 0 < done + failed < len(steps) or any(s["status"] in ("running", "applying") for s in steps)})  # fmt: skip
        shown.append({"name": phase, "waves": parts})
    return shown


@require_GET
@signed_in
def resource(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show one resource: `key` is group/kind/namespace/name, `tab` what of it."""
    row = found(caller, namespace, name)
    key, tab = request.GET.get("key", ""), request.GET.get("tab", "summary")
    parts = key.split("/")
    if len(parts) != 4 or tab not in TABS:
        raise Http404
    where = ResourceKey(*parts)
    node = next((n for n in tree(row)["nodes"] if key_of(n) == key), None)
    if node is None:
        raise Http404
    state: dict[str, Any] = next((r for r in row.resources if key_of(r) == key), {})
    context: dict[str, Any] = {"a": row, "row": row_of(row), "key": key, "where": where, "node": node, "state": state, "tab": tab, "tabs": [t for t in TABS if t != "logs" or (where.kind in _LOGGED and is_allowed(caller, "logs", "get", row.rbac_object, row.where))], "error": "", "may": _may(caller, row)}  # fmt: skip
    try:
        context |= _tab(tab, row, where, node)
        if tab == "summary":
            context["actions"] = _actions(caller, row, where)
    except (EngineError, Stalled, RetryLater, Invalid) as error:
        context["error"] = str(error)
    except _DENIED:
        context["error"] = "It is not there any more, or the project does not permit it."
    return render(request, "applications/panel.html", context)


def _tab(tab: str, row: Application, where: ResourceKey, node: Mapping[str, Any]) -> dict[str, Any]:
    if tab == "events":
        return {"events": resource_events(row, where.namespace, where.name, str(node.get("uid") or ""))["items"]}  # fmt: skip
    if tab == "live":
        from hub.engine.describe import redact

        return {"text": as_yaml(redact(place_for(row, where).get())[0])}
    if tab in ("diff", "desired"):
        items = managed_items(row, {"group": where.group, "kind": where.kind, "namespace": where.namespace, "name": where.name})  # fmt: skip
        if not items:
            return {"text": "", "none": "Git does not name this resource: its owner made it."}
        item = items[0]
        if tab == "desired":
            return {"text": as_yaml(orjson.loads(item["targetState"]))}
        live, wanted = orjson.loads(item["normalizedLiveState"]), orjson.loads(item["predictedLiveState"])  # fmt: skip
        if orjson.loads(item["targetState"]) is None:
            wanted = None
        elif wanted is None:
            wanted = orjson.loads(item["targetState"])
        return {"lines": diff_lines(live, wanted)}
    return {"labels": (node.get("networkingInfo") or {}).get("labels") or {}}


def _actions(caller: Caller, row: Application, where: ResourceKey) -> list[dict[str, Any]]:
    """Return the actions of a resource, with whether the caller may run each and what to send for it."""
    found = []
    for action in actions_of(place_for(row, where)):
        right = f"action/{where.group}/{where.kind}/{action['name']}"
        body = orjson.dumps({"action": action["name"], "group": where.group, "kind": where.kind, "namespace": where.namespace, "resourceName": where.name}).decode()  # fmt: skip
        may = is_allowed(caller, "applications", right, row.rbac_object, row.where)
        found.append({**action, "may": may and not action.get("disabled") and not action.get("params"), "body": body})  # fmt: skip
    return found


@require_GET
@signed_in
def sync_dialog(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show what a sync would do, in its order, with every option."""
    row = found(caller, namespace, name)
    steps = sorted(row.resources, key=lambda r: (_PHASES.get(str(r.get("hook") or ""), 1), int(r.get("syncWave") or 0), r["kind"], r["name"]))  # fmt: skip
    plan = [
        (_what(r), r, key_of(r)) for r in steps if r.get("status") == "OutOfSync" or r.get("hook")
    ]
    options = row.sync_policy.get("syncOptions") or []
    return render(request, "applications/sync.html", {
        "a": row, "row": row_of(row), "may": _may(caller, row), "plan": plan, "others": len(steps) - len(plan), "options": [(o, f"{o}=true" in options) for o in _OPTIONS],
        "prunes": sum(bool(r.get("requiresPruning")) for r in steps), "windows": _windows(row), "prune": bool((row.sync_policy.get("automated") or {}).get("prune")),
    })  # fmt: skip


_PHASES = {"PreSync": 0, "": 1, "Sync": 1, "PostSync": 2, "SyncFail": 3}
_OPTIONS = ("CreateNamespace", "ServerSideApply", "Replace", "ApplyOutOfSyncOnly", "PruneLast", "RespectIgnoreDifferences", "SkipSchemaValidation")  # fmt: skip


def _what(entry: Mapping[str, Any]) -> str:
    if entry.get("hook"):
        return "run"
    if entry.get("requiresPruning"):
        return "prune"
    return "create" if (entry.get("health") or {}).get("status") == "Missing" else "change"


@require_GET
@signed_in
def rollback_dialog(request: HttpRequest, caller: Caller, namespace: str, name: str, number: int) -> HttpResponse:  # fmt: skip
    """Show an entry of the history, and what going back to it would change."""
    row = found(caller, namespace, name)
    entry = row.history.filter(number=number).first()
    if entry is None:
        raise Http404
    url = str(row.sources[0].get("repoURL") or "") if row.sources else ""
    revision = entry.revisions[0] if entry.revisions else ""
    return render(request, "applications/rollback.html", {
        "a": row, "row": row_of(row), "entry": entry, "revision": revision, "subject": subject_of(url, revision), "may": _may(caller, row),
        "automated": row.is_automated, "windows": _windows(row),
    })  # fmt: skip


@require_GET
@signed_in
def delete_dialog(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Ask what a deletion takes along."""
    row = found(caller, namespace, name)
    kinds: dict[str, int] = {}
    for entry in row.resources:
        if (entry.get("health") or {}).get("status") != "Missing" and not entry.get("hook"):
            kinds[entry["kind"]] = kinds.get(entry["kind"], 0) + 1
    data = [k for k in kinds if k in ("Namespace", "PersistentVolumeClaim", "CustomResourceDefinition", "StatefulSet")]  # fmt: skip
    return render(request, "applications/delete.html", {"a": row, "row": row_of(row), "kinds": sorted(kinds.items()), "total": sum(kinds.values()), "data": data, "may": _may(caller, row)})  # fmt: skip


@require_GET
@signed_in
def preview(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show what syncing several applications would change."""
    keys = [int(k) for k in request.GET.getlist("row") if k.isdigit()][:200]
    rows = visible(caller).filter(pk__in=keys).select_related("cluster", "operation").order_by("name")  # fmt: skip
    items = [
        {"a": a, "changes": sum(r.get("status") == "OutOfSync" and not r.get("requiresPruning") for r in a.resources),
         "prunes": sum(bool(r.get("requiresPruning")) for r in a.resources), "may": is_allowed(caller, "applications", "sync", a.rbac_object, a.where)}
        for a in rows
    ]  # fmt: skip
    return render(request, "applications/preview.html", {"items": items, "ready": sum(i["may"] for i in items)})  # fmt: skip


TEMPLATE = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: ""
spec:
  project: default
  source:
    repoURL: https://
    path: .
    targetRevision: HEAD
  destination:
    name: ""
    namespace: ""
  syncPolicy:
    syncOptions: [CreateNamespace=true]
"""


@signed_in
def edit(request: HttpRequest, caller: Caller, namespace: str = "", name: str = "") -> HttpResponse:
    """Write a new application, or change one, as YAML; REST takes what is written."""
    row = found(caller, namespace, name) if name else None
    text = TEMPLATE
    if row is not None:
        whole = application_json(row)
        metadata = {k: v for k, v in whole["metadata"].items() if k in ("name", "namespace", "labels", "annotations", "finalizers") and v}  # fmt: skip
        text = str(yaml.dump({"apiVersion": whole["apiVersion"], "kind": "Application", "metadata": metadata, "spec": row.spec}, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))  # fmt: skip
    choices = {} if row is not None else _choices(caller)
    return render(request, "applications/edit.html", {"section": "applications", "caller": Shown(caller), "a": row, "text": text, **choices})  # fmt: skip


def _choices(caller: Caller) -> dict[str, Any]:
    """Return what the form offers: projects where the caller may create, clusters and repositories that they may see."""
    projects = [p.name for p in Project.objects.order_by("name") if is_allowed(caller, "applications", "create", f"{p.name}/*")]  # fmt: skip
    clusters = [c.name for c in Cluster.objects.order_by("name") if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)]  # fmt: skip
    repositories = [r.url for r in Repository.objects.order_by("url") if is_allowed(caller, "repositories", "get", r.rbac_object)]  # fmt: skip
    return {"projects": projects, "clusters": clusters, "repositories": repositories}


@require_POST
@signed_in
def compose(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Return the manifest that the fields of the form describe; it is edited and checked like any other."""
    del caller
    given = {k: v.strip()[:1000] for k, v in request.POST.items() if isinstance(v, str)}
    source = {"repoURL": given.get("repoURL", "")}
    source |= (
        {"chart": given["chart"]} if given.get("chart") else {"path": given.get("path") or "."}
    )
    source["targetRevision"] = given.get("revision") or "HEAD"
    automated = {k: True for k in ("prune", "selfHeal") if given.get(k)}
    policy: dict[str, Any] = {"automated": automated} if given.get("automated") else {}
    if given.get("createNamespace"):
        policy["syncOptions"] = ["CreateNamespace=true"]
    spec = {
        "project": given.get("project") or "default", "source": source,
        "destination": {"name": given.get("cluster", ""), "namespace": given.get("namespace", "")}, **({"syncPolicy": policy} if policy else {}),
    }  # fmt: skip
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": given.get("name", "")}, "spec": spec}  # fmt: skip
    text = str(yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))
    return render(request, "applications/manifest.html", {"text": text})


@signed_in
def check(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Say whether what is written could work; answer with one sentence."""
    del caller
    try:
        body = load_yaml(request.POST.get("text", "")[:200_000], "The manifest")
        wanted = applications.wanted_from(body)
        find_cluster(wanted.spec.get("destination") or {})
    except (Invalid, Stalled, EngineError) as error:
        return render(request, "applications/checked.html", {"error": str(error)})
    source, to = wanted.spec.get("source") or {}, wanted.spec.get("destination") or {}
    origin = (
        f"{source.get('repoURL')}" + (f" at {source['path']}" if source.get("path") else "")
        if source
        else "several sources"
    )
    target = f"{to.get('name') or to.get('server')} / {to.get('namespace') or 'no namespace'}"
    return render(request, "applications/checked.html", {"wanted": wanted, "json": orjson.dumps(body).decode(), "origin": origin, "target": target})  # fmt: skip
