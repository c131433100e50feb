"""REST API of an application's resources: tree, diff, live manifests, patches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import live
from clusters.kinds import Kind, Refused
from clusters.kube import EVENTS, JSON_PATCH, MERGE, Connection, connect, secretless
from clusters.models import Cluster
from hub.access.decisions import require
from hub.audit import trail
from hub.engine.deletion_guard import Candidate, Verdict, budget_from, decide_deletions
from hub.engine.errors import (
    AccessDenied,
    Conflict,
    Invalid,
    NotFound,
    Precondition,
    Protected,
    RetryLater,
    Stalled,
)
from hub.engine.node_info import redact
from hub.engine.resource import Manifest, ResourceKey, is_segment, resource_key
from hub.engine.sync_options import resource_options
from hub.engine.tracking import owner_of
from hub.engine.tree import Node, missing_json, node_json, parents_of
from hub.rest.views import View, actor, flag, payload
from projects import sources
from projects.access.reach import Reach, reach_of
from projects.api.applications import get_application
from projects.api.operations import may_sync, sources_at
from projects.comparison.compare import Compared, comparison
from projects.destinations import in_cluster
from projects.destinations.impersonation import connection_for
from projects.models import Application, Project
from projects.objects.specs import check_reason, find_cluster, project_of, require_source_permitted
from projects.operations import resource_changes
from projects.refreshing.refresh import orphans


def tree(application: Application) -> dict[str, Any]:
    """Return the resource tree in Argo CD's format."""
    try:
        cluster = find_cluster(application.spec)
    except Stalled:
        return {"nodes": [], "orphanedNodes": [], "hosts": []}
    project = project_of(application.project)
    reached = reach_of(application, cluster, project.spec).load()
    nodes = reached.nodes
    seen = {n.key for n in nodes}
    result = [node_json(node, parents) for node, parents in _with_parents(nodes)]
    for entry in application.resources:
        key = ResourceKey(
            entry.get("group", ""), entry["kind"], entry.get("namespace", ""), entry["name"]
        )
        if key in reached.held:
            # It exists and another application manages it: only its name is disclosed.
            result.append(node_json(Node(key, entry.get("version", ""), uid="")))
        elif key not in seen and not entry.get("hook"):
            result.append(missing_json(key, entry.get("version", "")))
    orphaned = []
    if project.spec.get("orphanedResources") is not None:
        orphaned = [node_json(row.node()) for row in orphans(application, project, cluster)]
    return {
        "nodes": sorted(result, key=_order),
        "orphanedNodes": orphaned,
        "hosts": _hosts(nodes),
        "shardsCount": 1,
    }


def _order(node: dict[str, Any]) -> tuple[str, ...]:
    return (node.get("group", ""), node["kind"], node.get("namespace", ""), node["name"])


def _with_parents(nodes: Iterable[Node]) -> list[tuple[Node, list[Node]]]:
    listed = list(nodes)
    by_uid = {n.uid: n for n in listed}
    by_name = {(n.key.kind, n.key.namespace, n.key.name): n for n in listed}
    return [(n, parents_of(n, by_uid, by_name)) for n in listed]


def _hosts(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    names = {
        info["value"]
        for n in nodes
        if n.key.kind == "Pod"
        for info in n.shown.get("info") or []
        if info["name"] == "Node"
    }
    return [{"name": name} for name in sorted(names)]


class ResourceTree(View):
    """`/applications/{name}/resource-tree`."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the tree."""
        return Response(orjson.dumps(tree(get_application(request, name))))


class ManagedResources(View):
    """`/applications/{name}/managed-resources`: desired, live and predicted state of resources."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the states as JSON strings, without hooks and with masked Secrets."""
        application, params = get_application(request, name), request.query_params
        narrow = not may_sync(actor(request), application)
        asked = {f: params.get(f, "") for f in ("group", "kind", "namespace", "name")}
        revisions = params.getlist("revisions") or [r for r in [params.get("revision", "")] if r]
        wanted = {
            "revisions": revisions,
            "sourcePositions": params.getlist("sourcePositions") or None,
            "dryRun": True,
        }
        if flag(request, "serverSideDiff"):
            # This is a dry run with the project's service account, which needs the right to sync.
            require(
                actor(request),
                "applications",
                "sync",
                application.rbac_object,
                application.project,
                application.where,
            )
            application.annotations = with_server_side_diff(application.annotations)
        items = managed_items(
            application, asked, wanted if revisions else None, narrow=bool(revisions) and narrow
        )
        return Response(orjson.dumps({"items": items}))


def with_server_side_diff(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return annotations that request server-side dry runs."""
    name = "argocd.argoproj.io/compare-options"
    words = [w.strip() for w in str(annotations.get(name) or "").split(",") if w.strip()]
    kept = [w for w in words if w.partition("=")[0] != "ServerSideDiff"]
    return {**annotations, name: ",".join([*kept, "ServerSideDiff=true"])}


def managed_items(
    application: Application,
    asked: Mapping[str, str],
    other: dict[str, Any] | None = None,
    *,
    narrow: bool = False,
) -> list[dict[str, Any]]:
    """Return desired, live and predicted states as JSON; empty values of `asked` match all.

    Shapes: `other` are other revisions than the application's, as in the body of a sync; `narrow`
        as in `comparison`.
    """
    project, cluster = (
        project_of(application.project),
        find_cluster(application.spec),
    )
    wanted = sources_at(application, other) if other else list(application.sources)
    for source in wanted:
        require_source_permitted(application, source)
    known = application.revisions if not other else []
    revisions = known or [sources.resolve(s, application.project) for s in wanted]
    desired = sources.load(
        wanted,
        revisions,
        sources.context_of(application, project.spec, cluster, asker=trail.asker()),
    )
    found = comparison(application, desired, cluster, project.spec, narrow=narrow)
    return compared_items(found, asked)


def compared_items(
    compared: Compared, asked: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return desired, live and predicted states as JSON strings, without hooks, Secrets masked."""
    items = []
    for pair in compared.pairs:
        key = pair.key
        have = {"group": key.group, "kind": key.kind, "namespace": key.namespace, "name": key.name}
        if pair.state.hook or any(want not in ("", have[f]) for f, want in (asked or {}).items()):
            continue
        found = pair.comparison
        states = [
            pair.desired,
            pair.live,
            found.live if found else pair.live,
            found.predicted if found else None,
        ]
        target, current, normalized, predicted = _masked(states)
        items.append(
            {
                **have,
                "targetState": _text(target),
                "liveState": _text(current),
                "normalizedLiveState": _text(normalized),
                "predictedLiveState": _text(predicted),
                "modified": pair.state.status == "OutOfSync",
                **(
                    {"resourceVersion": pair.live["metadata"].get("resourceVersion", "")}
                    if pair.live
                    else {}
                ),
            }
        )
    return items


def _masked(states: list[Manifest | None]) -> list[Manifest | None]:
    first = next((s for s in states if s is not None), None)
    if first is None:
        return states
    masked = redact(first, *states)
    return masked[1:]


def _text(manifest: Manifest | None) -> str:
    return orjson.dumps(manifest).decode() if manifest is not None else "null"


@dataclass(frozen=True, slots=True)
class Place:
    """A resource of an application's tree, found and permitted."""

    application: Application
    project: Project
    cluster: Cluster
    key: ResourceKey
    version: str
    reach: Reach
    uid: str

    @property
    def connection(self) -> Connection:
        """The connection to the cluster, as the project's service account."""
        return connection_for(self.application, self.project, self.cluster)

    def kind(self) -> Kind:
        """Return how the cluster serves the kind."""
        found = self.connection.kind(
            self.key.group, self.key.kind, self.version
        ) or self.connection.kind(self.key.group, self.key.kind)
        if found is None:
            raise NotFound(f"{self.key.kind} is not served by cluster {self.cluster.name}")
        return found

    def get(self) -> Manifest:
        """Return the live resource.

        Raises: NotFound; AccessDenied if another application manages it by now.
        """
        found = self._fetch()
        if found is None:
            raise NotFound(f"{self.key} does not exist in cluster {self.cluster.name}")
        # The store may be behind, so the live resource decides.
        other = self.reach.others(found) if self._is_replaced(found) else ""
        if other:
            raise held_by(other, self.key)
        return found

    def _is_replaced(self, found: Manifest) -> bool:
        marks = owner_of(found, live.tracking())
        is_marked = marks.is_self and marks.instance != self.application.instance
        return is_marked or found["metadata"].get("uid") != self.uid

    def _fetch(self) -> Manifest | None:
        if self.cluster.is_home and in_cluster.is_ours(self.key.group, self.key.kind):
            return in_cluster.get(self.key.kind, self.key.namespace, self.key.name)
        try:
            return self.connection.get(self.kind(), self.key.namespace, self.key.name)
        except Refused as refused:
            raise translated(refused) from refused


def held_by(instance: str, key: ResourceKey) -> AccessDenied:
    """Return the error for a resource that another application manages."""
    return AccessDenied(f"{key} is managed by application {instance}: open it there")


def translated(refused: Refused) -> Exception:
    """Return the API error for an error of the cluster."""
    if refused.status == 404:
        return NotFound(refused.message)
    if refused.status == 409:
        return Conflict(refused.message)
    if refused.status in (401, 403):
        return Precondition(f"the cluster does not allow it: {refused.message}")
    if refused.status >= 500:
        return RetryLater("ClusterError", refused.message)
    return Invalid(refused.message)


_VERBS = {"update": "patch", "delete": "delete-resource"}


def place(
    request: Request, name: str, action: str, named: Mapping[str, str] | None = None
) -> Place:
    """Return the resource of a request, if the application has it and the project permits it.

    Raises: Invalid if it is not in the application's tree; AccessDenied if the project forbids
        its kind.
    """
    params = named if named is not None else request.query_params.dict()
    application = get_application(request, name, "get")
    key = named_key(params)
    fine = (
        f"{action}/{key.group}/{key.kind}/{key.namespace}/{key.name}" if action != "get" else "get"
    )
    if fine != "get":
        verb = _VERBS.get(action) or f"action {action.rpartition('/')[2]}"
        where = application.cluster.name if application.cluster else ""
        trail.concern(
            verb, "resource", f"{application.qualified_name} {key}", application.project, where
        )
        require(
            actor(request),
            "applications",
            fine,
            application.rbac_object,
            application.project,
            application.where,
        )
        check_reason(project_of(application.project).spec, application.project)
    return place_for(application, key, params.get("version", ""))


def named_key(params: Mapping[str, str]) -> ResourceKey:
    """Return the resource that parameters name.

    RBAC rules have the form `action/group/kind/namespace/name`, so no part may contain a slash.
    Raises: Invalid naming the parameter.
    """
    for field in ("group", "kind", "namespace", "resourceName"):
        value = params.get(field, "")
        if value and not is_segment(value):
            raise Invalid(f"{field} must be the name alone, without / and %, not {value[:80]!r}")
    key = ResourceKey(
        params.get("group", ""),
        params.get("kind", ""),
        params.get("namespace", ""),
        params.get("resourceName", ""),
    )
    if not key.kind or not key.name:
        raise Invalid("resourceName and kind are required")
    return key


def place_for(application: Application, key: ResourceKey, version: str = "") -> Place:
    """Return a resource of an application's tree; see `place`."""
    cluster, project = (
        find_cluster(application.spec),
        project_of(application.project),
    )
    reach = reach_of(application, cluster, project.spec)
    refusal = reach.refusal(key)
    if refusal:
        raise AccessDenied(refusal)
    reached = reach.load()
    found = reached.find(key)
    if found is None and key in reached.held:
        raise held_by(reached.held[key], key)
    if found is None:
        raise Invalid(
            f"{key.kind} {key.group} {key.name} not found as part of application {application.name}"
        )
    return Place(application, project, cluster, key, version or found.version, reach, found.uid)


class ResourceView(View):
    """`/applications/{name}/resource`: one live resource."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the live manifest; values of a Secret are masked."""
        return Response({"manifest": _text(redact(place(request, name, "get").get())[0])})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Patch the live resource."""
        where = place(request, name, "update")
        patch = payload(request)
        text = patch.get("patch") if isinstance(patch, dict) and set(patch) == {"patch"} else patch
        kind = request.query_params.get("patchType") or MERGE
        if kind not in (MERGE, JSON_PATCH, "application/strategic-merge-patch+json"):
            raise Invalid(
                f"patchType must be {MERGE}, {JSON_PATCH} or "
                f"application/strategic-merge-patch+json, not {kind!r}"
            )
        try:
            parsed = orjson.loads(text) if isinstance(text, str) else text
        except orjson.JSONDecodeError as error:
            raise Invalid(f"the patch is not valid JSON: {error}") from error
        before = where.get()
        patched = bound(parsed, kind, before)
        result = change_resource(
            where,
            actor(request).name,
            resource_changes.Change("patch", resource_changes.PATCH, where.key, before, patched),
            lambda c, k: c.patch(
                k, where.key.namespace, where.key.name, patched, content_type=kind
            ),
        )
        return Response({"manifest": _text(redact(result)[0])})

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete the live resource, through the deletion guard."""
        where = place(request, name, "delete")
        before = _guard(where, confirmed=flag(request, "confirm"))
        uid = str(before["metadata"].get("uid") or "")
        force, orphan = flag(request, "force"), flag(request, "orphan")
        propagation = "Orphan" if orphan else "Background" if force else "Foreground"

        def delete(connection: Connection, kind: Kind) -> Manifest:
            connection.delete(
                kind,
                where.key.namespace,
                where.key.name,
                propagation=propagation,
                uid=uid,
                force=force,
            )
            return {}

        change = resource_changes.Change(
            "delete-resource", resource_changes.DELETE, where.key, before
        )
        change_resource(where, actor(request).name, change, delete)
        return Response({})


def bound(patch: Any, kind: str, seen: Manifest) -> Any:
    """Return a patch that only applies to the resource that was read.

    Another resource of the same name may have replaced it since.
    """
    uid = seen["metadata"].get("uid")
    if kind == JSON_PATCH:
        test = {"op": "test", "path": "/metadata/uid", "value": uid}
        return [test, *patch] if isinstance(patch, list) else patch
    if not isinstance(patch, dict):
        return patch
    metadata = patch.get("metadata")
    return {**patch, "metadata": {**(metadata if isinstance(metadata, dict) else {}), "uid": uid}}


def _guard(where: Place, *, confirmed: bool) -> Manifest:
    """Return the live resource, if the deletion guard allows to delete it."""
    manifest = where.get()
    option = resource_options(manifest, {}).value("Delete")
    budget = budget_from((where.project.spec.get("flotilla") or {}).get("deletion"))
    ruling = decide_deletions(
        [Candidate(where.key, option)], total=1, budget=budget, confirmed=confirmed, explicit=True
    )
    verdict = ruling.verdicts[where.key]
    if verdict is Verdict.REFUSED:
        raise Protected(f"{where.key} is protected: its option Delete=false forbids it")
    if verdict is Verdict.CONFIRM:
        raise Protected(
            f"deleting {where.key} needs a confirmation: repeat the request with confirm=true"
        )
    return manifest


def change_resource(where: Place, who: str, change: resource_changes.Change, call: Any) -> Manifest:
    """Change a live resource by `call(connection, kind)`, with audit events, and refresh.

    Raises: the API's error for the cluster's answer, without the content of a Secret.
    """
    if where.cluster.is_home and in_cluster.is_ours(where.key.group, where.key.kind):
        raise Invalid(f"{where.key.kind} is served by this hub: use its own API")
    target = resource_changes.Target(where.application, where.cluster, who)
    try:
        return resource_changes.change(target, change, where.connection, where.kind(), call)
    except Refused as refused:
        raise translated(refused) from refused


def resource_events(
    application: Application, namespace: str, name: str, uid: str
) -> dict[str, Any]:
    """Return the Kubernetes events of a resource of an application's tree."""
    cluster = find_cluster(application.spec)
    node = next(
        (
            n
            for n in reach_of(application, cluster).load().nodes
            if n.key.name == name and n.key.namespace == namespace and uid in ("", n.uid)
        ),
        None,
    )
    if node is None:
        raise Invalid(f"{name} not found as part of application {application.name}")
    about = {"uid": node.uid, "name": node.key.name, "namespace": node.key.namespace}
    selector = ",".join(f"involvedObject.{k}={_escaped(v)}" for k, v in about.items())
    try:
        return dict(
            connect(cluster).request(
                "GET",
                EVENTS.path(node.key.namespace or "default"),
                query={"fieldSelector": selector},
            )
        )
    except Refused as refused:
        raise translated(refused) from refused


def _escaped(value: str) -> str:
    """Return a value in the syntax of a field selector."""
    return value.replace("\\", r"\\").replace(",", r"\,").replace("=", r"\=")


class ServerSideDiff(View):
    """`/applications/{name}/server-side-diff`: the dry run of given manifests."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the dry run of each target manifest of the application, Secrets masked."""
        application = get_application(request, name)
        items = []
        for text in request.query_params.getlist("targetManifests"):
            try:
                manifest = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise Invalid(f"targetManifests: not valid JSON: {error}") from error
            items.append(_predicted(application, manifest))
        return Response({"items": items, "modified": any(i["modified"] for i in items)})


def _predicted(application: Application, manifest: Any) -> dict[str, Any]:
    key = resource_key(manifest if isinstance(manifest, dict) else {})
    if not manifest["metadata"].get("name"):
        raise Invalid("targetManifests: metadata.name is required")
    where = place_for(application, key)
    current = where.get()
    try:
        predicted = where.connection.apply(where.kind(), manifest, dry_run=True)
    except Refused as refused:
        raise translated(secretless(refused, manifest)) from refused
    target, now, after = redact(manifest, current, predicted)
    return {
        "group": key.group,
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "targetState": _text(after),
        "liveState": _text(now),
        "modified": {**(after or {}), "metadata": {}} != {**(now or {}), "metadata": {}},
        "requestedState": _text(target),
    }


async def tree_text(application: Application) -> bytes:
    """Return the tree as bytes, from an event loop."""
    return orjson.dumps(await sync_to_async(tree)(application))
