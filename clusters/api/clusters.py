"""REST of clusters; credentials are never returned."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson
from django.db import transaction
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters import rotate as rotating
from clusters.connection_config import check_config
from clusters.kinds import Refused
from clusters.kube import Connection, connect
from clusters.models import HOME_NAME, HOME_SERVER, Cluster
from hub.access.decisions import Caller, hide, is_allowed, require
from hub.audit import trail
from hub.base.outbound import check_url
from hub.engine.errors import (
    Conflict,
    Invalid,
    NotFound,
    Precondition,
    Protected,
    RetryLater,
    Stalled,
)
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import Tombstone, access_changed, next_version
from hub.rest.lists import arranged
from hub.rest.views import View, actor, asked, body_map, flag, must_agree, text_at

_COLUMNS = {
    "name": "name",
    "server": "server",
    "version": "serverVersion",
    "status": "connectionState.status",
    "project": "project",
}
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def cluster_json(cluster: Cluster) -> dict[str, Any]:
    """Return a cluster in Argo CD's shape, without credentials."""
    tls = cluster.config.get("tlsClientConfig") or {}
    shown_tls = {k: tls[k] for k in ("insecure", "serverName") if tls.get(k)}
    state = {
        "status": cluster.connection,
        "message": cluster.message,
        "attemptedAt": _stamp(cluster.attempted_at),
    }
    age = (
        int((timezone.now() - cluster.last_event_at).total_seconds())
        if cluster.last_event_at
        else None
    )
    result: dict[str, Any] = {
        "server": cluster.server,
        "name": cluster.name,
        "config": {"tlsClientConfig": shown_tls},
        "connectionState": {k: v for k, v in state.items() if v is not None},
        "serverVersion": cluster.server_version,
        "labels": cluster.labels,
        "annotations": {k: v for k, v in cluster.annotations.items() if k != _LAST_APPLIED},
        "namespaces": cluster.namespaces,
        "clusterResources": cluster.cluster_resources,
        "project": cluster.project,
        "info": {
            "connectionState": {k: v for k, v in state.items() if v is not None},
            "serverVersion": cluster.server_version,
            "cacheInfo": {
                "resourcesCount": cluster.live.count(),
                "apisCount": len(cluster.kinds),
                "lastCacheSyncTime": _stamp(cluster.synced_at),
            },
            "applicationsCount": cluster.applications.count(),
            "apiVersions": sorted({f"{g}/{v}" if g else v for g, v, *_ in cluster.api_kinds}),
            "lastEventAt": _stamp(cluster.last_event_at),
            "lastEventAgeSeconds": age,
        },
    }
    return {k: v for k, v in result.items() if v not in ("", None, [], {}, False)}


def _stamp(at: Any) -> str | None:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def _text_map(value: Any, field: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Invalid(f"{field} must be an object of texts")
    if _LAST_APPLIED in value:
        raise Invalid(f"{field}: {_LAST_APPLIED} cannot be set")
    return dict(value)


def sketch(body: Mapping[str, Any]) -> Cluster:
    """Return the fields of a body that access decisions need, not validated or resolved."""
    labels = body.get("labels")
    server = text_at(body, "server").rstrip("/")
    return Cluster(
        server=server,
        name=text_at(body, "name") or server,
        project=text_at(body, "project"),
        labels={k: v for k, v in labels.items() if isinstance(v, str)}
        if isinstance(labels, dict)
        else {},
    )


def require_register(caller: Caller, body: Mapping[str, Any]) -> None:
    """Check that a caller may register the cluster in a body.

    It runs before the server's name is resolved or contacted.
    Raises: AccessDenied.
    """
    draft = sketch(body)
    require(caller, "clusters", "create", draft.rbac_object, draft.project, draft.where)


def require_move(caller: Caller, row: Cluster, body: Mapping[str, Any]) -> None:
    """Check that a caller may change a cluster as a body says.

    A new name or new labels need the permission for the result too.
    Raises: AccessDenied.
    """
    draft = sketch({**body, "name": text_at(body, "name") or row.name, "server": row.server})
    if (draft.project, draft.name, draft.labels) != (row.project, row.name, row.labels):
        require(caller, "clusters", "update", draft.rbac_object, draft.project, draft.where)


def wanted(body: dict[str, Any]) -> Cluster:
    """Return the cluster in a body.

    Raises: Invalid naming the field.
    """
    server = body.get("server")
    if not isinstance(server, str) or not server:
        raise Invalid("server is required: the URL of the API server")
    if server != HOME_SERVER:
        check_url(server, "server")
    name = body.get("name") or server
    if not isinstance(name, str) or len(name) > 253:
        raise Invalid("name must be text of at most 253 characters")
    namespaces = body.get("namespaces") or []
    if not isinstance(namespaces, list) or not all(isinstance(n, str) and n for n in namespaces):
        raise Invalid("namespaces must be a list of names")
    return Cluster(
        server=server.rstrip("/"),
        name=name,
        config=check_config(body.get("config") or {}),
        namespaces=namespaces,
        labels=_text_map(body.get("labels"), "labels"),
        annotations=_text_map(body.get("annotations"), "annotations"),
        cluster_resources=bool(body.get("clusterResources")),
        project=str(body.get("project") or ""),
    )


def test(cluster: Cluster) -> str:
    """Return the server version of a cluster, read with its credentials.

    Raises: Precondition with the reason when it fails.
    """
    try:
        connection = Connection(cluster.server, cluster.name, cluster.config)
        version = connection.server_version()
        connection.request("GET", "/api")
    except Refused as refused:
        raise Precondition(
            f"cluster {cluster.name} refuses the credentials ({refused.status}): {refused.message}"
        ) from refused
    except (RetryLater, Stalled) as error:
        raise Precondition(error.message) from error
    return version


class Clusters(View):
    """`/clusters`: list and register."""

    permission = ("clusters", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List clusters."""
        caller = actor(request)
        query = Cluster.objects.order_by("name")
        params = request.query_params
        for field in ("server", "name"):
            if params.get(field):
                query = query.filter(**{field: params[field]})
        if params.get("id.value"):
            query = query.filter(**_identified(params.get("id.type", ""), params["id.value"]))
        shown = [c for c in query if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)]
        answer = {"items": [cluster_json(c) for c in shown], "metadata": {}}
        return Response(arranged(request, answer, _COLUMNS, ["server"]))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Register a cluster after a connection test; an equal existing one is returned."""
        require_register(actor(request), asked(request))
        row = register(actor(request), wanted(body_map(request)), upsert=flag(request, "upsert"))
        return Response(cluster_json(row))


def register(account: Caller, draft: Cluster, *, upsert: bool = False) -> Cluster:
    """Register a cluster after a connection test, and return it; an equal one is returned as it is.

    Raises: Invalid when another cluster has this server; Precondition with the reason when the
        connection fails; AccessDenied.
    """
    require(account, "clusters", "create", draft.rbac_object, draft.project, draft.where)
    existing = Cluster.objects.filter(server=draft.server).first()
    if existing is not None:
        if not is_allowed(account, "clusters", "get", existing.rbac_object, existing.where):
            raise hide(account, "clusters", "create", draft.rbac_object, draft.project)
        if _same(existing, draft):
            return existing
        if not upsert:
            raise Invalid("existing cluster spec is different; use upsert flag to force update")
        require(
            account, "clusters", "update", existing.rbac_object, existing.project, existing.where
        )
    if not draft.is_home:
        draft.server_version = test(draft)
    return save(existing, draft, account.name)


def _same(one: Cluster, other: Cluster) -> bool:
    fields = (
        "name",
        "config",
        "namespaces",
        "labels",
        "annotations",
        "cluster_resources",
        "project",
    )
    return all(getattr(one, f) == getattr(other, f) for f in fields)


_WRITTEN = (
    "name",
    "config",
    "namespaces",
    "labels",
    "annotations",
    "cluster_resources",
    "project",
)
_SEEN = (
    "generation",
    "connection",
    "message",
    "attempted_at",
    "server_version",
    "resource_version",
)


def save(existing: Cluster | None, draft: Cluster, who: str) -> Cluster:
    """Store a cluster, and start to watch it."""
    before = _record(existing) if existing is not None else None
    labels = orjson.dumps(existing.labels).decode() if existing is not None else ""
    affects_sets = existing is None or any(
        getattr(existing, f) != getattr(draft, f)
        for f in ("name", "labels", "annotations", "project")
    )
    with transaction.atomic():
        row = existing or draft
        if not row.lock() and existing is not None:
            raise NotFound(
                f"cluster {existing.server} was removed in the meantime: register it again"
            )
        if existing is not None:
            for field in _WRITTEN:
                setattr(existing, field, getattr(draft, field))
            existing.generation += 1
        row.connection, row.message, row.attempted_at = "Successful", "", timezone.now()
        row.server_version = draft.server_version or row.server_version
        row.resource_version = next_version()
        # Save only these fields: watchers of other processes write the others.
        row.save(update_fields=[*_WRITTEN, *_SEEN] if existing is not None else None)
        trail.record(
            who,
            "update" if existing else "create",
            "cluster",
            row.server,
            row.project,
            cluster=row.name,
            before=before,
            after=_record(row),
        )
        access_changed(
            "cluster", row.server, {"name": row.name, "labels": row.labels, "project": row.project}
        )
        publish()
        wake(TaskName.CLUSTERS_CHANGED, row.pk, priority=1)
        if affects_sets:
            wake(
                TaskName.APPSETS_CLUSTERS_CHANGED,
                labels,
                orjson.dumps(row.labels).decode(),
                priority=3,
            )
    return row


def _record(cluster: Cluster) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "server": cluster.server,
        "labels": cluster.labels,
        "annotations": cluster.annotations,
        "namespaces": cluster.namespaces,
        "project": cluster.project,
        "config": cluster.config,
    }


def _identified(kind: str, value: str) -> dict[str, str]:
    """Return the column and value of an identifier.

    Raises: Invalid for an unknown kind of identifier.
    """
    if kind not in ("server", "name", "name_escaped", "url", ""):
        raise Invalid(f"id.type must be server, name or name_escaped, not {kind!r}")
    if kind.startswith("name"):
        return {"name": unquote(value) if kind == "name_escaped" else value}
    return {"server": value.rstrip("/")}


def named(request: Request, identity: str, action: str) -> Cluster:
    """Return the cluster in a path; absent and forbidden look the same.

    Raises: AccessDenied; Invalid for the name of several clusters, one of which may be another
        project's.
    """
    which, caller = _identified(request.query_params.get("id.type", ""), identity), actor(request)
    rows = Cluster.objects.filter(**which).order_by("server")
    seen = [c for c in rows if is_allowed(caller, "clusters", "get", c.rbac_object, c.where)]
    if not seen:
        raise hide(caller, "clusters", action, next(iter(which.values())))
    if len(seen) > 1:
        servers = ", ".join(c.server for c in seen)
        raise Invalid(f"id: {len(seen)} clusters have this name, name one by its server: {servers}")
    found = seen[0]
    if action != "get":
        require(caller, "clusters", action, found.rbac_object, found.project, found.where)
    return found


class OneCluster(View):
    """`/clusters/{id}`: read, update, remove."""

    permission = ("clusters", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, identity: str) -> Response:
        """Return a cluster with its version, counts and connection state."""
        return Response(cluster_json(named(request, identity, "get")))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, identity: str) -> Response:
        """Update a cluster; with `updatedFields` only those fields."""
        row = named(request, identity, "update")
        body = body_map(request)
        must_agree(row.server, str(body.get("server") or "").rstrip("/"), "server")
        fields = request.query_params.getlist("updatedFields") or body.get("updatedFields") or []
        own = {"project": row.project, "labels": row.labels, "name": row.name}
        kept = {k: v for k, v in own.items() if fields and k not in fields}
        require_move(actor(request), row, {**body, **kept})
        draft = wanted({**body, "server": row.server, "name": body.get("name") or row.name})
        if fields:
            columns = {
                "name": "name",
                "namespaces": "namespaces",
                "config": "config",
                "clusterResources": "cluster_resources",
                "labels": "labels",
                "annotations": "annotations",
                "project": "project",
            }
            unknown = [f for f in fields if f not in (*columns, "shard")]
            if unknown:
                raise Invalid(f"updatedFields: {unknown[0]!r} is none of {', '.join(columns)}")
            for name, column in columns.items():
                if name not in fields:
                    setattr(draft, column, getattr(row, column))
        if not row.is_home:
            draft.server_version = test(draft)
        return Response(cluster_json(save(row, draft, actor(request).name)))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, identity: str) -> Response:
        """Remove a cluster from the hub; its resources stay."""
        row = named(request, identity, "delete")
        if row.is_home:
            raise Protected(f"{HOME_NAME} is the hub itself and cannot be removed")
        with transaction.atomic():
            # Its applications become Unknown; they are locked first, as everywhere.
            pks = list(
                row.applications.select_for_update().order_by("pk").values_list("pk", flat=True)
            )
            # Its watcher may be writing: it waits for this lock, and then finds no cluster.
            row.lock()
            Tombstone.objects.create(
                resource_version=next_version(),
                kind="Cluster",
                name=row.server,
                project=row.project,
                row=row.pk,
                manifest={
                    "server": row.server,
                    "name": row.name,
                    "labels": row.labels,
                    "project": row.project,
                },
            )
            row.delete()
            trail.record(
                actor(request).name,
                "delete",
                "cluster",
                row.server,
                row.project,
                name=row.name,
                applications=len(pks),
            )
            access_changed("cluster", row.server, None)
            publish()
            wake(TaskName.CLUSTERS_REMOVED, tuple(pks), priority=1)
            wake(
                TaskName.APPSETS_CLUSTERS_CHANGED, orjson.dumps(row.labels).decode(), "", priority=3
            )
        return Response({})


class InvalidateCache(View):
    """`/clusters/{id}/invalidate-cache`: list all resources again."""

    permission = ("clusters", "update")

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, identity: str) -> Response:
        """Clear the live store of a cluster; the watcher fills it again."""
        row = named(request, identity, "update")
        with transaction.atomic():
            Cluster.objects.filter(pk=row.pk).update(
                generation=row.generation + 1, is_synced=row.is_home
            )
            trail.record(
                actor(request).name, "invalidate-cache", "cluster", row.server, row.project
            )
            wake(TaskName.CLUSTERS_CHANGED, row.pk, priority=1)
        row.refresh_from_db()
        return Response(cluster_json(row))


class RotateAuth(View):
    """`/clusters/{id}/rotate-auth`: replace the service-account token."""

    permission = ("clusters", "update")

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, identity: str) -> Response:
        """Rotate the token that `flotilla cluster add` created."""
        row = named(request, identity, "update")
        rotate(row, actor(request).name)
        return Response({})


def rotate(row: Cluster, who: str) -> None:
    """Create, test and store a new token for a cluster, then delete the old one.

    Raises: Precondition when the new one does not work, and then the old one stays; Conflict when
        the cluster's registration was changed in the meantime.
    """
    rotation = rotating.begin(row)
    draft = Cluster(
        server=row.server,
        name=row.name,
        config=rotation.config,
        namespaces=row.namespaces,
        labels=row.labels,
        annotations=row.annotations,
        cluster_resources=row.cluster_resources,
        project=row.project,
    )
    before = connect(row)
    try:
        draft.server_version = test(draft)
    except Precondition as error:
        rotation.undo(before)
        raise Precondition(f"the new token does not work, the old one stays: {error}") from error
    with transaction.atomic():
        current = Cluster.objects.select_for_update().get(pk=row.pk)
        is_same = current.config == row.config
        if is_same:
            save(current, draft, who)
    if not is_same:
        rotation.undo(before)
        raise Conflict(f"cluster {row.name} was changed in the meantime: rotate again")
    rotation.retire(Connection(draft.server, draft.name, draft.config))
