"""The panel of one resource: summary, diff, manifests, events, logs, actions and edits."""

from collections.abc import Mapping
from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from clusters.kinds import Refused
from hub.access.decisions import Caller, is_allowed, require
from hub.audit import trail
from hub.base.yaml_json import load_yaml
from hub.engine.actions import merge_patch
from hub.engine.errors import (
    AccessDenied,
    Conflict,
    EngineError,
    Invalid,
    NotFound,
    Precondition,
    RetryLater,
    Stalled,
)
from hub.engine.node_info import redact
from hub.engine.resource import Manifest, ResourceKey, resource_key
from hub.web.page import posted, signed_in
from projects.api.actions import actions_of
from projects.api.resources import (
    Place,
    change_resource,
    managed_items,
    place_for,
    resource_events,
    translated,
    tree,
)
from projects.live_pages.application_rows import row_of
from projects.models import Application
from projects.objects.specs import check_reason, project_of
from projects.operations import resource_changes
from projects.pages.application import found, may
from projects.pages.diff_view import as_yaml, diff_lines
from projects.pages.resource_tree import count_below, key_of

TABS = ("summary", "diff", "live", "desired", "events", "logs")
_LOGGED = ("Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job")
_DENIED = (AccessDenied, NotFound)
_WRONG = (EngineError, Stalled, RetryLater, Invalid, Precondition, Conflict)
MAX_TEXT_CHARS = 500_000


def _key(request: HttpRequest) -> ResourceKey:
    parts = (request.POST.get("key") or request.GET.get("key", "")).split("/")
    if len(parts) != 4:
        raise Http404
    return ResourceKey(*parts)


@require_GET
@signed_in
def resource(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show a tab of one resource; `key` is group/kind/namespace/name."""
    row, tab = found(caller, namespace, name), request.GET.get("tab", "summary")
    where, key = _key(request), request.GET.get("key", "")
    if tab not in TABS:
        raise Http404
    nodes = tree(row)["nodes"]
    node = next((n for n in nodes if key_of(n) == key), None)
    if node is None:
        raise Http404
    state: dict[str, Any] = next((r for r in row.resources if key_of(r) == key), {})
    may_read = where.kind in _LOGGED and is_allowed(
        caller, "logs", "get", row.rbac_object, row.where
    )
    context: dict[str, Any] = {
        "a": row,
        "row": row_of(row),
        "key": key,
        "where": where,
        "node": node,
        "state": state,
        "tab": tab,
        "error": "",
        "may": may(caller, row),
        "tabs": [t for t in TABS if t != "logs" or may_read],
        "split": request.GET.get("split") == "1",
        "owners": _owners(node),
        "json": _json(where),
        "may_here": {
            a: is_allowed(
                caller,
                "applications",
                f"{a}/{where.group}/{where.kind}/{where.namespace}/{where.name}",
                row.rbac_object,
                row.where,
            )
            for a in ("update", "delete")
        },
    }
    try:
        context |= _tab(tab, row, where, node)
        if tab == "summary":
            context["actions"] = _actions(caller, row, where)
        if tab == "logs":
            context["pods"] = _pods(nodes, node)
    except _WRONG as error:
        context["error"] = str(error)
    except _DENIED:
        context["error"] = "It is not there any more, or the project does not permit it."
    return render(request, "applications/panel.html", context)


def _owners(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key_of(p), f"{p['kind']} {p['name']}") for p in node.get("parentRefs") or []]


def _json(where: ResourceKey) -> dict[str, str]:
    return {
        "group": where.group,
        "kind": where.kind,
        "namespace": where.namespace,
        "resourceName": where.name,
    }


def _pods(nodes: list[dict[str, Any]], node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pods below a resource, whose logs can be selected."""
    below, level = [], {str(node.get("uid") or "")}
    while level:
        fresh = [n for n in nodes if any(p.get("uid") in level for p in n.get("parentRefs") or [])]
        below += [n for n in fresh if n["kind"] == "Pod"]
        level = {str(n.get("uid")) for n in fresh if n.get("uid")}
    return below[:100]


def _tab(tab: str, row: Application, where: ResourceKey, node: Mapping[str, Any]) -> dict[str, Any]:
    if tab == "events":
        return {
            "events": resource_events(row, where.namespace, where.name, str(node.get("uid") or ""))[
                "items"
            ]
        }
    if tab == "live":
        live = redact(place_for(row, where).get())[0]
        return {"text": as_yaml(live), "masked": is_secret(where)}
    if tab in ("diff", "desired"):
        items = managed_items(
            row,
            {
                "group": where.group,
                "kind": where.kind,
                "namespace": where.namespace,
                "name": where.name,
            },
        )
        if not items:
            return {"text": "", "none": "This resource is not in Git: its owner created it."}
        item = items[0]
        if tab == "desired":
            return {"text": as_yaml(orjson.loads(item["targetState"])), "masked": is_secret(where)}
        live, wanted = (
            orjson.loads(item["normalizedLiveState"]),
            orjson.loads(item["predictedLiveState"]),
        )
        if orjson.loads(item["targetState"]) is None:
            wanted = None
        elif wanted is None:
            wanted = orjson.loads(item["targetState"])
        return {
            "lines": diff_lines(live, wanted),
            "masked": is_secret(where),
            "ignored": row.spec.get("ignoreDifferences") or [],
        }
    return {
        "labels": (node.get("networkingInfo") or {}).get("labels") or {},
        "urls": (node.get("networkingInfo") or {}).get("externalURLs") or [],
    }


def is_secret(where: ResourceKey) -> bool:
    """Return whether the values of a resource are masked."""
    return not where.group and where.kind == "Secret"


def _actions(caller: Caller, row: Application, where: ResourceKey) -> list[dict[str, Any]]:
    """Return the actions of a resource, whether the caller may run each, and its request body."""
    listed = []
    for action in actions_of(place_for(row, where)):
        right = f"action/{where.group}/{where.kind}/{action['name']}"
        allowed = is_allowed(caller, "applications", right, row.rbac_object, row.where)
        body = orjson.dumps({"action": action["name"], **_json(where)}).decode()
        listed.append({**action, "may": allowed and not action.get("disabled"), "body": body})
    return listed


@require_GET
@signed_in
def action_dialog(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show the parameters of an action."""
    row, where = found(caller, namespace, name), _key(request)
    try:
        action = next(
            (
                a
                for a in _actions(caller, row, where)
                if a["name"] == request.GET.get("action") and a["may"]
            ),
            None,
        )
    except (*_WRONG, *_DENIED) as error:
        raise Http404 from error
    if action is None:
        raise Http404
    return render(request, "applications/action.html", {"a": row, "where": where, "action": action})


@require_GET
@signed_in
def edit_live(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Show the live manifest for editing."""
    row, where = found(caller, namespace, name), _key(request)
    _require_change(caller, row, where)
    try:
        whole = place_for(row, where).get()
        live = editable(whole)
    except (*_WRONG, *_DENIED) as error:
        return render(
            request,
            "applications/live_editor.html",
            {"a": row, "where": where, "error": str(error)},
        )
    return render(
        request,
        "applications/live_editor.html",
        {
            "a": row,
            "row": row_of(row),
            "where": where,
            "key": request.GET.get("key", ""),
            "text": as_yaml(live),
            "seen": seen(whole),
            "heals": bool((row.sync_policy.get("automated") or {}).get("selfHeal")),
        },
    )


def editable(live: Manifest) -> Manifest:
    """Return the editable part of a live manifest, without status and server-managed fields."""
    metadata = {
        k: v
        for k, v in live["metadata"].items()
        if k
        not in (
            "managedFields",
            "uid",
            "creationTimestamp",
            "generation",
            "selfLink",
            "resourceVersion",
        )
    }
    return {k: v for k, v in {**live, "metadata": metadata}.items() if k != "status"}


def seen(live: Manifest) -> str:
    """Return the version of a live manifest, to detect changes by others.

    For kinds with a generation, changes of the status do not count.
    """
    return str(live["metadata"].get("generation") or live["metadata"].get("resourceVersion"))


def _require_change(caller: Caller, row: Application, where: ResourceKey) -> None:
    if is_secret(where):
        raise Http404
    right = f"update/{where.group}/{where.kind}/{where.namespace}/{where.name}"
    require(caller, "applications", right, row.rbac_object, row.project, row.where)


def _patch(
    request: HttpRequest, caller: Caller, row: Application, where: ResourceKey
) -> tuple[Place, Manifest, Manifest]:
    """Return the resource, its live manifest, and the merge patch for the text of a request.

    Raises: Invalid with the field; Conflict if the resource was changed in the meantime.
    """
    _require_change(caller, row, where)
    wanted = load_yaml(request.POST.get("text", "")[:MAX_TEXT_CHARS], "The manifest")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("metadata"), dict):
        raise Invalid("The manifest must be one object with metadata")
    if resource_key(wanted) != where:
        raise Invalid(f"The kind, namespace and name of {where.kind} {where.name} cannot change")
    at = place_for(row, where)
    if at.cluster.is_home:
        raise Invalid(f"{where.kind} is served by this hub: change it on its own page")
    live = at.get()
    if request.POST.get("seen") != seen(live):
        raise Conflict(
            f"{where.kind} {where.name} was changed in the meantime. Open it again: nothing "
            "was saved."
        )
    patch = merge_patch(editable(live), wanted)
    if patch:
        patch.setdefault("metadata", {})["resourceVersion"] = live["metadata"].get(
            "resourceVersion"
        )
    return at, live, patch


@require_POST
@signed_in
def try_live(request: HttpRequest, caller: Caller, namespace: str, name: str) -> HttpResponse:
    """Send a manual change to the cluster as a dry run; nothing is changed."""
    row, where = found(caller, namespace, name), _key(request)
    try:
        at, live, patch = _patch(request, caller, row, where)
        predicted = _call(at, patch, dry_run=True)
    except (*_WRONG, *_DENIED) as error:
        return render(request, "applications/tried.html", {"error": str(error)})
    lines = diff_lines(editable(live), editable(predicted))
    return render(request, "applications/tried.html", {"lines": lines})


def _call(at: Place, patch: Manifest, *, dry_run: bool) -> Manifest:
    try:
        found_: Manifest = at.connection.patch(
            at.kind(), at.key.namespace, at.key.name, patch, dry_run=dry_run
        )
    except Refused as refused:
        raise translated(refused) from refused
    return found_


@posted
def save_live(request: HttpRequest, caller: Caller, namespace: str, name: str) -> str:
    """Change a live resource to the given text."""
    row, where = found(caller, namespace, name), _key(request)
    at, live, patch = _patch(request, caller, row, where)
    trail.concern(
        "patch", "resource", f"{row.qualified_name} {where}", row.project, at.cluster.name
    )
    check_reason(project_of(row.project).spec, row.project)
    change = resource_changes.Change("patch", resource_changes.PATCH, where, live, patch)
    change_resource(
        at, caller.name, change, lambda c, k: c.patch(k, where.namespace, where.name, patch)
    )
    return f"/applications/{row.namespace}/{row.name}?resource={request.POST.get('key', '')}"


@require_GET
@signed_in
def delete_resource(
    request: HttpRequest, caller: Caller, namespace: str, name: str
) -> HttpResponse:
    """Show the deletion dialog of a live resource."""
    row, where = found(caller, namespace, name), _key(request)
    require(
        caller,
        "applications",
        f"delete/{where.group}/{where.kind}/{where.namespace}/{where.name}",
        row.rbac_object,
        row.project,
        row.where,
    )
    state: dict[str, Any] = next(
        (r for r in row.resources if key_of(r) == request.GET.get("key")), {}
    )
    return render(
        request,
        "applications/deleteresource.html",
        {
            "a": row,
            "where": where,
            "is_wanted": bool(state) and not state.get("requiresPruning"),
            "heals": bool((row.sync_policy.get("automated") or {}).get("selfHeal")),
            "below": count_below(tree(row)["nodes"], request.GET.get("key", "")),
            "data": where.kind
            in ("Namespace", "PersistentVolumeClaim", "CustomResourceDefinition"),
            "query": orjson.dumps(_json(where)).decode(),
        },
    )
