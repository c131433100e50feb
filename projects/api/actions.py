"""REST API of resource actions."""

import secrets
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.kinds import Kind, Refused
from clusters.kube import MERGE, Connection
from hub.engine.actions import ActionScript, available, merge_patch, perform
from hub.engine.errors import (
    AccessDenied,
    Invalid,
    RuleError,
)
from hub.engine.resource import Manifest, ResourceKey, is_segment
from hub.models import setting
from hub.rest.views import View, actor, body_map, must_agree, payload
from projects.api.applications import get_application
from projects.api.resources import Place, bound, change_resource, named_key, place
from projects.operations import resource_changes


def _script(key: ResourceKey) -> ActionScript | None:
    found = setting("actions", {}).get(f"{key.group}/{key.kind}" if key.group else key.kind)
    if not found:
        return None
    definitions = {d["name"]: d.get("action.lua", "") for d in found.get("definitions") or []}
    return ActionScript(
        found.get("discovery.lua", ""), definitions, bool(found.get("mergeBuiltinActions"))
    )


def actions_of(where: Place) -> list[dict[str, Any]]:
    """Return the actions of a resource: name, whether it is disabled, parameters."""
    return available(where.get(), _script(where.key))


class Actions(View):
    """`/applications/{name}/resource/actions`: the actions of a resource."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """List the actions."""
        where = place(request, name, "get")
        return Response({"actions": actions_of(where)})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Run an action: the body is its name as a JSON string, or an object as in v2."""
        get_application(request, name)
        data = payload(request)
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
        """Run an action; the body may also name the resource."""
        get_application(request, name)
        body = body_map(request)
        named = request.query_params.dict()
        for field in ("namespace", "resourceName", "version", "group", "kind"):
            must_agree(named.get(field) or str(body.get(field) or ""), body.get(field), field)
            named[field] = named.get(field) or str(body.get(field) or "")
        return run_action(request, name, str(body.get("action") or ""), _parameters(body), named)


def _parameters(body: dict[str, Any]) -> dict[str, str]:
    listed = body.get("resourceActionParameters") or []
    if not isinstance(listed, list) or not all(
        isinstance(p, dict) and p.get("name") for p in listed
    ):
        raise Invalid("resourceActionParameters must be a list of {name, value}")
    return {str(p["name"]): str(p.get("value", "")) for p in listed}


def run_action(
    request: Request,
    name: str,
    action: str,
    params: dict[str, str],
    named: dict[str, str] | None = None,
) -> Response:
    """Run an action on the resource that a request names."""
    query = named if named is not None else request.query_params.dict()
    named_key(query)
    if not is_segment(action):
        raise Invalid(f"action must be the name of an action, not {action[:80]!r}")
    right = f"action/{query.get('group', '')}/{query.get('kind', '')}/{action}".removesuffix("/")
    where = place(request, name, right, query)
    current = where.get()
    now = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        resource_changes = perform(
            current, action, params, now, secrets.token_hex(3), _script(where.key)
        )
    except RuleError as error:
        raise Invalid(str(error)) from error
    for change in resource_changes:
        _run_change(where, actor(request).name, action, current, change)
    return Response({})


def _run_change(where: Place, who: str, action: str, current: Manifest, change: Any) -> None:
    resource = change.resource
    group = str(resource.get("apiVersion", "")).rpartition("/")[0]
    metadata = resource.get("metadata") or {}
    key = ResourceKey(
        group, str(resource.get("kind")), metadata.get("namespace", ""), metadata.get("name", "")
    )
    refusal = where.reach.refusal(key)
    if refusal:
        raise AccessDenied(refusal)
    if change.operation == "create":

        def create(connection: Connection, _kind: Kind) -> Manifest:
            kind = connection.kind(key.group, key.kind)
            if kind is None:
                raise Refused(404, "NotFound", f"{key.kind} is not served")
            connection.create(kind, resource, dry_run=True)
            return connection.create(kind, resource)

        made = resource_changes.Change(f"action {action}", resource_changes.CREATE, key)
        change_resource(where, who, made, create)
        return
    before = current if key == where.key else None
    if before is None:
        raise Invalid(f"the script changes {key}, which is not the resource of the action")
    patch = merge_patch(before, resource)
    status = patch.pop("status", None)
    patch.get("metadata", {}).pop("resourceVersion", None)
    if patch and patch != {"metadata": {}}:
        own = bound(patch, MERGE, before)
        before = change_resource(
            where,
            who,
            resource_changes.Change(f"action {action}", resource_changes.PATCH, key, before, own),
            lambda c, k: c.patch(k, key.namespace, key.name, own),
        )
    if status is not None:
        own_status = bound({"status": status}, MERGE, before)
        change_resource(
            where,
            who,
            resource_changes.Change(
                f"action {action}", resource_changes.PATCH, key, before, own_status
            ),
            lambda c, k: c.patch(k, key.namespace, key.name, own_status, subresource="status"),
        )
