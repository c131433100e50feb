"""REST of the secrets and ConfigMaps of generators; values of secrets are never returned."""

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from appsets.models import ConfigMap, Secret
from appsets.scm.host import origin
from hub.access.decisions import Caller, hide, is_allowed, require
from hub.audit import trail
from hub.base.outbound import check_url
from hub.engine.errors import Invalid, RetryLater
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.rest.views import View, actor, asked, body_map, text_at
from projects.objects.applications import text_map
from projects.objects.manifests import stamp
from projects.objects.specs import check_name, project_of

_SERVERS = "flotilla.io/servers"
_PROJECT = "flotilla.io/project"


def secret_json(row: Secret) -> dict[str, Any]:
    """Return a secret without its values."""
    return {
        "name": row.name,
        "namespace": row.namespace,
        "project": row.project,
        "servers": row.servers,
        "keys": sorted(row.data),
        "createdAt": stamp(row.created_at),
    }


def _wanted_secret(body: dict[str, Any]) -> Secret:
    """Return the secret of a body.

    Shapes: `{name, project, servers, data}`, or a Kubernetes Secret with our annotations.
    """
    if body.get("kind") == "Secret" or "metadata" in body:
        metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
        annotations = text_map((metadata or {}).get("annotations"), "metadata.annotations")
        body = {
            "name": (metadata or {}).get("name"),
            "namespace": (metadata or {}).get("namespace"),
            "project": annotations.get(_PROJECT, ""),
            "servers": [s.strip() for s in annotations.get(_SERVERS, "").split(",") if s.strip()],
            "data": {
                **_decoded(body.get("data")),
                **text_map(body.get("stringData"), "stringData"),
            },
        }
    name = check_name(body.get("name"), "name")
    namespace = check_name(body.get("namespace") or settings.NAMESPACE, "namespace")
    data = text_map(body.get("data"), "data")
    if not data:
        raise Invalid("data is required: the values by key")
    project = body.get("project") or ""
    if not isinstance(project, str):
        raise Invalid("project must be text")
    if project:
        project_of(project)
    return Secret(
        name=name,
        namespace=namespace,
        project=project,
        servers=_servers(body.get("servers")),
        data=data,
    )


def _require_create(caller: Caller, body: Mapping[str, Any]) -> None:
    """Check that a caller may write the secret of a body.

    The check comes before its servers are resolved or its project is loaded.
    """
    is_manifest = body.get("kind") == "Secret" or "metadata" in body
    at = ("metadata",) if is_manifest else ()
    project = text_at(body, *((*at, "annotations", _PROJECT) if is_manifest else ("project",)))
    draft = Secret(name=text_at(body, *at, "name"), project=project)
    if not is_allowed(caller, "repositories", "update", draft.rbac_object):
        require(caller, "repositories", "create", draft.rbac_object, project)


def _decoded(value: Any) -> dict[str, str]:
    found = {}
    for key, text in text_map(value, "data").items():
        try:
            found[key] = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Invalid(f"data.{key} must be base64 of text") from error
    return found


def _servers(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(s, str) for s in value):
        raise Invalid(
            "servers is required: the list of servers that the values may be sent to, "
            "such as https://api.github.com"
        )
    for server in value:
        with contextlib.suppress(RetryLater):  # a name that does not resolve now may resolve later
            check_url(server, "servers")
        if urlsplit(server).path not in ("", "/"):
            raise Invalid(f"servers: {server!r} must be scheme, host and port alone")
    return sorted({origin(s) for s in value})


def _enqueue_sets() -> None:
    wake(TaskName.APPSETS_CONFIGURATION_CHANGED, priority=3)


class Secrets(View):
    """`/flotilla/secrets`: list and write the credentials of generators."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List secrets by name, without values."""
        caller = actor(request)
        rows = Secret.objects.order_by("namespace", "name")
        return Response(
            {
                "items": [
                    secret_json(r)
                    for r in rows
                    if is_allowed(caller, "repositories", "get", r.rbac_object)
                ]
            }
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create or replace a secret: `{name, project, servers, data}`, or a Kubernetes Secret."""
        caller = actor(request)
        _require_create(caller, asked(request))
        wanted = _wanted_secret(body_map(request))
        with transaction.atomic():
            existing = (
                Secret.objects.select_for_update()
                .filter(namespace=wanted.namespace, name=wanted.name)
                .first()
            )
            if existing is not None and not is_allowed(
                caller, "repositories", "get", existing.rbac_object
            ):
                raise hide(caller, "repositories", "create", wanted.rbac_object, wanted.project)
            action = "create" if existing is None else "update"
            require(caller, "repositories", action, wanted.rbac_object, wanted.project)
            if existing is not None:
                require(caller, "repositories", "update", existing.rbac_object, existing.project)
                wanted.pk, wanted.created_at = existing.pk, existing.created_at
            wanted.save()
            trail.record(
                caller.name,
                action,
                "secret",
                str(wanted),
                wanted.project,
                servers=wanted.servers,
                keys=sorted(wanted.data),
            )
            _enqueue_sets()
        return Response(secret_json(wanted))


class OneSecret(View):
    """`/flotilla/secrets/{name}`: delete."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete a secret; applications of the sets that use it stay."""
        caller = actor(request)
        namespace = request.query_params.get("namespace") or settings.NAMESPACE
        row = Secret.objects.filter(namespace=namespace, name=name).first()
        if row is None or not is_allowed(caller, "repositories", "get", row.rbac_object):
            raise hide(caller, "repositories", "delete", name)
        require(caller, "repositories", "delete", row.rbac_object, row.project)
        with transaction.atomic():
            row.delete()
            trail.record(caller.name, "delete", "secret", str(row), row.project)
        return Response({})


class ConfigMaps(View):
    """`/flotilla/configmaps`: list and write the configuration of generators."""

    permission = ("settings", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List ConfigMaps."""
        require(actor(request), "settings", "get", "configmaps")
        return Response(
            {"items": [_config_json(r) for r in ConfigMap.objects.order_by("namespace", "name")]}
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create or replace one: `{name, data}`, or a Kubernetes ConfigMap."""
        caller, body = actor(request), body_map(request)
        require(caller, "settings", "update", "configmaps")
        metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else body
        name = check_name((metadata or {}).get("name"), "name")
        namespace = check_name((metadata or {}).get("namespace") or settings.NAMESPACE, "namespace")
        data = text_map(body.get("data"), "data")
        with transaction.atomic():
            row, is_new = ConfigMap.objects.update_or_create(
                namespace=namespace, name=name, defaults={"data": data}
            )
            trail.record(
                caller.name,
                "create" if is_new else "update",
                "configmap",
                str(row),
                "",
                after={"data": data},
            )
            _enqueue_sets()
        return Response(_config_json(row))


class OneConfigMap(View):
    """`/flotilla/configmaps/{name}`: delete."""

    permission = ("settings", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete a ConfigMap; applications of the sets that use it stay."""
        caller = actor(request)
        require(caller, "settings", "update", "configmaps")
        namespace = request.query_params.get("namespace") or settings.NAMESPACE
        with transaction.atomic():
            count, _ = ConfigMap.objects.filter(namespace=namespace, name=name).delete()
            if count:
                trail.record(caller.name, "delete", "configmap", f"{namespace}/{name}", "")
        return Response({})


def _config_json(row: ConfigMap) -> dict[str, Any]:
    return {
        "name": row.name,
        "namespace": row.namespace,
        "data": row.data,
        "createdAt": stamp(row.created_at),
    }
