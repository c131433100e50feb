"""REST of the resources of an application: tree, diff, live manifests, patches, actions, logs."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import live
from clusters.kube import JSON_PATCH, MERGE, Connection, Kind, Refused, connect, secretless
from clusters.models import Cluster, LiveResource
from hub import audit
from hub.access import require
from hub.api import View, actor, body_map, flag, number
from hub.engine.actions import ActionScript, available, merge_patch, perform
from hub.engine.describe import redact
from hub.engine.errors import (
    AccessDenied,
    Conflict,
    Invalid,
    NotFound,
    Precondition,
    RetryLater,
    RuleError,
    Stalled,
)
from hub.engine.guard import Candidate, Verdict, budget_from, rule
from hub.engine.options import resource_options
from hub.engine.permits import permits_kind
from hub.engine.resource import Manifest, ResourceKey
from hub.engine.tree import Node, missing_json, node_json, parents_of
from hub.models import setting
from projects import home, sources
from projects.api.applications import get_application
from projects.compare import comparison, place_of
from projects.models import Application, Project
from projects.refresh import mark_due, orphans
from projects.specs import find_cluster, project_of

_LOG_QUEUE = 1000


def tree_rows(application: Application, cluster: Cluster) -> list[LiveResource]:
    """Return the live resources of an application and all that descend from them, whole bodies left out."""
    query = LiveResource.objects.filter(cluster=cluster).defer("body")
    keys = list(application.managed.values_list("key", flat=True))
    found = {row.uid: row for row in query.filter(instance=application.instance, owner_uid="")}
    for start in range(0, len(keys), 500):
        found |= {row.uid: row for row in query.filter(key__in=keys[start : start + 500])}
    level = list(found)
    while level:
        below = {}
        for start in range(0, len(level), 500):
            below |= {
                row.uid: row
                for row in query.filter(owner_uid__in=level[start : start + 500])
                if row.uid not in found
            }
        found |= below
        level = list(below)
    return list(found.values())


def tree(application: Application) -> dict[str, Any]:
    """Return the resource tree in Argo CD's shape."""
    try:
        cluster = find_cluster(application.spec.get("destination") or {})
    except Stalled:
        return {"nodes": [], "orphanedNodes": [], "hosts": []}
    project = project_of(application.project)
    rows = [
        r
        for r in tree_rows(application, cluster)
        if _permitted(project, application, cluster, r.resource_key)
    ]
    nodes = [row.node() for row in rows]
    seen = {row.resource_key for row in rows}
    result = [node_json(node, parents) for node, parents in _with_parents(nodes)]
    for entry in application.resources:
        key = ResourceKey(
            entry.get("group", ""), entry["kind"], entry.get("namespace", ""), entry["name"]
        )
        if key not in seen and not entry.get("hook"):
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


def _permitted(
    project: Project, application: Application, cluster: Cluster, key: ResourceKey
) -> bool:
    namespaced = place_of(application, cluster).is_namespaced(key.group, key.kind)
    return permits_kind(project.spec, key.group, key.kind, key.name, namespaced=namespaced)


class ResourceTree(View):
    """`/applications/{name}/resource-tree`."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the tree."""
        return Response(orjson.dumps(tree(get_application(request, name))))


class ManagedResources(View):
    """`/applications/{name}/managed-resources`: desired, live and predicted state of each resource."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the states as JSON texts; values of Secrets are masked; hooks are left out."""
        application = get_application(request, name)
        project, cluster = (
            project_of(application.project),
            find_cluster(application.spec["destination"]),
        )
        revisions = application.revisions or [
            sources.resolve(s, application.project) for s in application.sources
        ]
        desired = sources.load(
            application.sources, revisions, sources.context_of(application, project.spec, cluster)
        )
        params = request.query_params
        items = []
        for pair in comparison(application, desired, cluster, project.spec).pairs:
            key = pair.key
            asked = [
                (params.get("group"), key.group),
                (params.get("kind"), key.kind),
                (params.get("namespace"), key.namespace),
                (params.get("name"), key.name),
            ]
            if pair.state.hook or any(want not in (None, "", have) for want, have in asked):
                continue
            found = pair.comparison
            states = [
                pair.desired,
                pair.live,
                found.live if found else pair.live,
                found.predicted if found else None,
            ]
            target, current, normalized, predicted = _masked(states)
            items.append({
                "group": key.group, "kind": key.kind, "namespace": key.namespace, "name": key.name,
                "targetState": _text(target), "liveState": _text(current), "normalizedLiveState": _text(normalized),
                "predictedLiveState": _text(predicted), "modified": pair.state.status == "OutOfSync",
                **({"resourceVersion": pair.live["metadata"].get("resourceVersion", "")} if pair.live else {}),
            })  # fmt: skip
        return Response(orjson.dumps({"items": items}))


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
    """One resource of an application's tree, found and permitted."""

    application: Application
    project: Project
    cluster: Cluster
    key: ResourceKey
    version: str

    @property
    def connection(self) -> Connection:
        """The connection to the cluster."""
        return connect(self.cluster)

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

        Raises: NotFound.
        """
        if self.cluster.is_home and home.is_ours(self.key.group, self.key.kind):
            found = home.get(self.key.kind, self.key.namespace, self.key.name)
        else:
            try:
                found = self.connection.get(self.kind(), self.key.namespace, self.key.name)
            except Refused as refused:
                raise translated(refused) from refused
        if found is None:
            raise NotFound(f"{self.key} does not exist in cluster {self.cluster.name}")
        return found


def translated(refused: Refused) -> Exception:
    """Return the API's error for one of a cluster."""
    if refused.status == 404:
        return NotFound(refused.message)
    if refused.status == 409:
        return Conflict(refused.message)
    if refused.status in (401, 403):
        return Precondition(f"the cluster does not allow it: {refused.message}")
    if refused.status >= 500:
        return RetryLater("ClusterError", refused.message)
    return Invalid(refused.message)


def place(request: Request, name: str, action: str) -> Place:
    """Return the resource that a request names, if it belongs to the application and the project permits it.

    Raises: Invalid when it is no part of the application's tree; AccessDenied when the project forbids its kind.
    """
    params = request.query_params
    key = ResourceKey(
        params.get("group", ""),
        params.get("kind", ""),
        params.get("namespace", ""),
        params.get("resourceName", ""),
    )
    if not key.kind or not key.name:
        raise Invalid("resourceName and kind are required")
    application = get_application(request, name, "get")
    fine = (
        f"{action}/{key.group}/{key.kind}/{key.namespace}/{key.name}" if action != "get" else "get"
    )
    require(
        actor(request), "applications", fine, f"{application.project}/{name}", application.project
    )
    return place_for(application, key, params.get("version", ""))


def place_for(application: Application, key: ResourceKey, version: str = "") -> Place:
    """Return a resource of an application's tree; see `place`."""
    cluster, project = (
        find_cluster(application.spec["destination"]),
        project_of(application.project),
    )
    found = next((r for r in tree_rows(application, cluster) if r.resource_key == key), None)
    if found is None:
        raise Invalid(
            f"{key.kind} {key.group} {key.name} not found as part of application {application.name}"
        )
    if not _permitted(project, application, cluster, key):
        raise AccessDenied(
            f"resource {key.group}:{key.kind} is not permitted in project '{project.name}'"
        )
    return Place(application, project, cluster, key, version or found.version)


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
        patch = request.data if isinstance(request.data, str | dict | list) else {}
        text = patch.get("patch") if isinstance(patch, dict) and set(patch) == {"patch"} else patch
        kind = request.query_params.get("patchType") or MERGE
        if kind not in (MERGE, JSON_PATCH, "application/strategic-merge-patch+json"):
            raise Invalid(
                f"patchType must be {MERGE}, {JSON_PATCH} or application/strategic-merge-patch+json, not {kind!r}"
            )
        try:
            parsed = orjson.loads(text) if isinstance(text, str) else text
        except orjson.JSONDecodeError as error:
            raise Invalid(f"the patch is not valid JSON: {error}") from error
        result = _change(
            where,
            actor(request).name,
            "patch",
            lambda c, k: c.patch(k, where.key.namespace, where.key.name, parsed, content_type=kind),
        )
        return Response({"manifest": _text(redact(result)[0])})

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete the live resource, through the deletion guard."""
        where = place(request, name, "delete")
        _guard(where, confirmed=flag(request, "confirm"))
        force, orphan = flag(request, "force"), flag(request, "orphan")
        propagation = "Orphan" if orphan else "Background" if force else "Foreground"

        def delete(connection: Connection, kind: Kind) -> Manifest:
            connection.delete(
                kind, where.key.namespace, where.key.name, propagation=propagation, force=force
            )
            return {}

        _change(where, actor(request).name, "delete-resource", delete)
        return Response({})


def _guard(where: Place, *, confirmed: bool) -> None:
    manifest = where.get()
    option = resource_options(manifest, {}).value("Delete")
    budget = budget_from((where.project.spec.get("flotilla") or {}).get("deletion"))
    ruling = rule(
        [Candidate(where.key, option)], total=1, budget=budget, confirmed=confirmed, explicit=True
    )
    verdict = ruling.verdicts[where.key]
    if verdict is Verdict.REFUSED:
        raise Precondition(f"{where.key} is protected: its option Delete=false forbids it")
    if verdict is Verdict.CONFIRM:
        raise Precondition(
            f"deleting {where.key} needs a confirmation: repeat the request with confirm=true"
        )


def _change(where: Place, who: str, verb: str, call: Any) -> Manifest:
    if where.cluster.is_home and home.is_ours(where.key.group, where.key.kind):
        raise Invalid(f"{where.key.kind} is served by this hub: use its own API")
    try:
        result: Manifest = call(where.connection, where.kind())
    except Refused as refused:
        manifest = {
            "apiVersion": where.kind().api_version,
            "kind": where.key.kind,
            "metadata": {"name": where.key.name},
        }
        raise translated(secretless(refused, manifest)) from refused
    with transaction.atomic():
        audit.record(
            who,
            verb,
            "resource",
            f"{where.application.qualified_name} {where.key}",
            where.application.project,
            cluster=where.cluster.name,
        )
    if result:
        live.record(where.cluster.pk, [live.Seen(result, is_whole=True)])
    mark_due([where.application.pk])
    return result


def _script(key: ResourceKey) -> ActionScript | None:
    found = setting("actions", {}).get(f"{key.group}/{key.kind}" if key.group else key.kind)
    if not found:
        return None
    definitions = {d["name"]: d.get("action.lua", "") for d in found.get("definitions") or []}
    return ActionScript(
        found.get("discovery.lua", ""), definitions, bool(found.get("mergeBuiltinActions"))
    )


class Actions(View):
    """`/applications/{name}/resource/actions`: what can be done with a resource."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """List the actions."""
        where = place(request, name, "get")
        return Response({"actions": available(where.get(), _script(where.key))})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Run an action: the body is its name as a JSON text, or an object in the form of v2."""
        data = request.data
        if isinstance(data, str):
            return run_action(request, name, data, {})
        if isinstance(data, dict) and isinstance(data.get("action"), str):
            return run_action(request, name, data["action"], _parameters(data))
        raise Invalid("the body must be the name of the action as a JSON text")


class ActionsV2(View):
    """`/applications/{name}/resource/actions/v2`: run an action with parameters."""

    permission = ("applications", "action")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Run an action; what names the resource may stand in the body."""
        body = body_map(request)
        merged = request.query_params.copy()
        for field in ("namespace", "resourceName", "version", "group", "kind"):
            if body.get(field) and not merged.get(field):
                merged[field] = str(body[field])
            elif body.get(field) and merged[field] != body[field]:
                raise Invalid(
                    f"{field} in the body is {body[field]!r}, but the query says {merged[field]!r}"
                )
        request._request.GET = merged  # noqa: SLF001
        return run_action(request, name, str(body.get("action") or ""), _parameters(body))


def _parameters(body: dict[str, Any]) -> dict[str, str]:
    listed = body.get("resourceActionParameters") or []
    if not isinstance(listed, list) or not all(
        isinstance(p, dict) and p.get("name") for p in listed
    ):
        raise Invalid("resourceActionParameters must be a list of {name, value}")
    return {str(p["name"]): str(p.get("value", "")) for p in listed}


def run_action(request: Request, name: str, action: str, params: dict[str, str]) -> Response:
    """Run an action on the resource that a request names."""
    query = request.query_params
    where = place(
        request,
        name,
        f"action/{query.get('group', '')}/{query.get('kind', '')}/{action}".removesuffix("/"),
    )
    current = where.get()
    now = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        changes = perform(current, action, params, now, secrets.token_hex(3), _script(where.key))
    except RuleError as error:
        raise Invalid(str(error)) from error
    for change in changes:
        _run_change(where, actor(request).name, action, current, change)
    return Response({})


def _run_change(where: Place, who: str, action: str, current: Manifest, change: Any) -> None:
    resource = change.resource
    group = str(resource.get("apiVersion", "")).rpartition("/")[0]
    metadata = resource.get("metadata") or {}
    key = ResourceKey(
        group, str(resource.get("kind")), metadata.get("namespace", ""), metadata.get("name", "")
    )
    if not _permitted(where.project, where.application, where.cluster, key):
        raise AccessDenied(
            f"resource {key.group}:{key.kind} is not permitted in project '{where.project.name}'"
        )
    if change.operation == "create":

        def create(connection: Connection, _kind: Kind) -> Manifest:
            kind = connection.kind(key.group, key.kind)
            if kind is None:
                raise Refused(404, "NotFound", f"{key.kind} is not served")
            connection.create(kind, resource, dry_run=True)
            return connection.create(kind, resource)

        _change(where, who, f"action {action}", create)
        return
    before = current if key == where.key else None
    if before is None:
        raise Invalid(f"the script changes {key}, which is not the resource of the action")
    patch = merge_patch(before, resource)
    status = patch.pop("status", None)
    patch.get("metadata", {}).pop("resourceVersion", None)
    if patch and patch != {"metadata": {}}:
        _change(
            where, who, f"action {action}", lambda c, k: c.patch(k, key.namespace, key.name, patch)
        )
    if status is not None:
        _change(
            where,
            who,
            f"action {action}",
            lambda c, k: c.patch(
                k, key.namespace, key.name, {"status": status}, subresource="status"
            ),
        )


def resource_events(
    application: Application, namespace: str, name: str, uid: str
) -> dict[str, Any]:
    """Return the Kubernetes events of a resource of an application's tree."""
    cluster = find_cluster(application.spec["destination"])
    row = next(
        (
            r
            for r in tree_rows(application, cluster)
            if r.name == name and r.namespace == namespace and uid in ("", r.uid)
        ),
        None,
    )
    if row is None:
        raise Invalid(f"{name} not found as part of application {application.name}")
    selector = f"involvedObject.uid={row.uid},involvedObject.name={row.name},involvedObject.namespace={row.namespace}"
    try:
        return dict(
            connect(cluster).request(
                "GET",
                f"/api/v1/namespaces/{row.namespace or 'default'}/events",
                query={"fieldSelector": selector},
            )
        )
    except Refused as refused:
        raise translated(refused) from refused


class Logs(View):
    """`/applications/{name}/logs` and `/applications/{name}/pods/{pod}/logs`: what containers wrote."""

    permission = ("logs", "get")

    @extend_schema(responses=OpenApiTypes.STR)
    def get(self, request: Request, name: str, pod: str = "") -> Any:
        """Stream log lines, of one pod or of all pods below a resource."""
        application = get_application(request, name)
        require(actor(request), "logs", "get", f"{application.project}/{name}", application.project)
        cluster = find_cluster(application.spec["destination"])
        params = request.query_params
        pods = _pods(application, cluster, params, pod or params.get("podName", ""))
        query = _log_query(request)
        text, invert = params.get("filter", ""), params.get("filter", "").startswith("!")
        keep = _Filter(text.removeprefix("!"), invert=invert, match_case=flag(request, "matchCase"))
        download, events = (
            flag(request, "download"),
            "text/event-stream" in request.headers.get("Accept", ""),
        )
        answer = StreamingHttpResponse(
            _log_lines(connect(cluster), pods, query, keep, plain=download, events=events),
            content_type="text/plain" if download else "text/event-stream" if events else "application/json",
        )  # fmt: skip
        if download:
            answer["Content-Disposition"] = f'attachment; filename="{name}.log"'
        return answer


@dataclass(frozen=True, slots=True)
class _Filter:
    text: str
    invert: bool
    match_case: bool

    def __call__(self, line: str) -> bool:
        if not self.text:
            return True
        found = self.text in line if self.match_case else self.text.lower() in line.lower()
        return found != self.invert


def _log_query(request: Request) -> dict[str, str]:
    params = request.query_params
    query = {"timestamps": "true"}
    for field in ("container", "sinceTime"):
        if params.get(field):
            query[field] = params[field]
    for field in ("tailLines", "sinceSeconds"):
        if params.get(field):
            query[field] = str(number(request, field))
    for field in ("follow", "previous"):
        if flag(request, field):
            query[field] = "true"
    return query


def _pods(
    application: Application, cluster: Cluster, params: Any, pod: str
) -> list[tuple[str, str]]:
    rows = tree_rows(application, cluster)
    if not _permitted(
        project_of(application.project),
        application,
        cluster,
        ResourceKey("", "Pod", application.dest_namespace, pod),
    ):
        raise AccessDenied("resource :Pod is not permitted in the project")
    if pod:
        namespace = params.get("namespace") or application.dest_namespace
        chosen = [
            r for r in rows if (r.kind, r.group, r.name, r.namespace) == ("Pod", "", pod, namespace)
        ]
    else:
        roots = {r.uid for r in rows if _is_asked(r, params)}
        chosen = [
            r
            for r in rows
            if r.kind == "Pod"
            and r.group == ""
            and (r.uid in roots or _descends(r, roots, {x.uid: x for x in rows}))
        ]
    if not chosen:
        raise Invalid(
            f"no pod {pod} found as part of application {application.name}"
            if pod
            else f"application {application.name} has no such pods"
        )
    if len(chosen) > settings.MAX_POD_LOGS:
        raise Invalid("max pods to view logs are reached. Please provide more granular query")
    return [(r.namespace, r.name) for r in chosen]


def _is_asked(row: LiveResource, params: Any) -> bool:
    asked = [
        (params.get("kind"), row.kind),
        (params.get("group"), row.group),
        (params.get("resourceName"), row.name),
        (params.get("namespace"), row.namespace),
    ]
    return all(want in (None, "", have) for want, have in asked)


def _descends(row: LiveResource, roots: set[str], by_uid: dict[str, LiveResource]) -> bool:
    while row.owner_uid:
        if row.owner_uid in roots:
            return True
        parent = by_uid.get(row.owner_uid)
        if parent is None:
            return False
        row = parent
    return False


async def _log_lines(
    connection: Connection,
    pods: list[tuple[str, str]],
    query: dict[str, str],
    keep: _Filter,
    *,
    plain: bool,
    events: bool,
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue(_LOG_QUEUE)
    stopped = threading.Event()

    def read(namespace: str, pod: str) -> None:
        try:
            for line in _read_log(connection, namespace, pod, query, stopped):
                asyncio.run_coroutine_threadsafe(lines.put((pod, line)), loop).result(60)
        except (Refused, RetryLater) as error:
            asyncio.run_coroutine_threadsafe(lines.put((pod, f" error: {error}")), loop).result(60)
        finally:
            asyncio.run_coroutine_threadsafe(lines.put(None), loop)

    for namespace, pod in pods:
        threading.Thread(target=read, args=(namespace, pod), daemon=True).start()
    left = len(pods)
    try:
        while left:
            item = await lines.get()
            if item is None:
                left -= 1
                continue
            pod, line = item
            at, _, content = line.partition(" ")
            if keep(content):
                yield _log_item(content, at, pod, plain=plain, events=events)
        if not plain:
            yield _log_item(
                "",
                timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                "",
                plain=False,
                events=events,
                last=True,
            )
    finally:
        stopped.set()


def _log_item(
    content: str, at: str, pod: str, *, plain: bool, events: bool, last: bool = False
) -> bytes:
    if plain:
        return f"{content}\n".encode()
    data = orjson.dumps(
        {
            "result": {
                "content": content,
                "timeStamp": at,
                "timeStampStr": at,
                "podName": pod,
                "last": last,
            }
        }
    )
    return b"data: " + data + b"\n\n" if events else data + b"\n"


def _read_log(
    connection: Connection,
    namespace: str,
    pod: str,
    query: dict[str, str],
    stopped: threading.Event,
) -> Iterable[str]:
    response = connection.raw(
        "GET",
        f"/api/v1/namespaces/{namespace}/pods/{pod}/log",
        query=query,
        stream=True,
        accept="text/plain, */*",
    )
    try:
        if response.status >= 400:
            from clusters.kube import refusal

            raise refusal(response.status, response.read())
        rest = b""
        for chunk in response.stream(4096):
            parts = (rest + chunk).split(b"\n")
            rest = parts.pop()
            for part in parts:
                yield part.decode(errors="replace")
            if stopped.is_set():
                return
        if rest:
            yield rest.decode(errors="replace")
    finally:
        response.drain_conn() if not query.get("follow") else response.close()


class ServerSideDiff(View):
    """`/applications/{name}/server-side-diff`: what the API server would make of given manifests."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the dry run of each target manifest, for resources of this application only; Secrets masked."""
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
    from hub.engine.resource import resource_key

    key = resource_key(manifest if isinstance(manifest, dict) else {})
    where = place_for(application, key)
    current = where.get()
    try:
        predicted = where.connection.apply(where.kind(), manifest, dry_run=True)
    except Refused as refused:
        raise translated(secretless(refused, manifest)) from refused
    target, now, after = redact(manifest, current, predicted)
    return {
        "group": key.group, "kind": key.kind, "namespace": key.namespace, "name": key.name, "targetState": _text(after),
        "liveState": _text(now), "modified": {**(after or {}), "metadata": {}} != {**(now or {}), "metadata": {}},
        "requestedState": _text(target),
    }  # fmt: skip


async def tree_text(application: Application) -> bytes:
    """Return the tree as bytes, from an event loop."""
    return orjson.dumps(await sync_to_async(tree)(application))
