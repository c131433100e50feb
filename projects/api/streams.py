"""Streams of changes: newline-delimited JSON or server-sent events."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from hub.access.decisions import ANONYMOUS, Caller, is_allowed, reload_policies
from hub.auth.requests import token_of
from hub.auth.verification import verify
from hub.base.yaml_json import to_json
from hub.engine.errors import Unauthenticated
from hub.engine.parsing import parse_digits
from hub.engine.project_restrictions import folded_url
from hub.events.waiter import Waiter
from hub.models import Tombstone, current_version, setting
from hub.rest.views import View, project_fields, selector
from projects.access.visibility import visible
from projects.api.applications import get_application
from projects.api.resources import tree_text
from projects.live_pages.change_topics import deleted_applications
from projects.models import Application
from projects.objects.manifests import application_json


@dataclass
class Filter:
    """The filters of a stream."""

    name: str = ""
    namespace: str = ""
    names: list[str] = field(default_factory=list)
    repo: str = ""
    projects: list[str] = field(default_factory=list)
    labels: Callable[[Any], bool] | None = None

    def fits(self, manifest: dict[str, Any], project: str) -> bool:
        """Return whether an object matches the filters."""
        metadata = manifest["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        is_named = not self.names or not {name, f"{namespace}/{name}"}.isdisjoint(self.names)
        return (
            is_named
            and self.name in ("", name)
            and self.namespace in ("", namespace)
            and (not self.repo or self.repo in _repositories(manifest))
            and (not self.projects or project in self.projects)
            and (self.labels is None or self.labels(metadata.get("labels") or {}))
        )


def _repositories(manifest: dict[str, Any]) -> set[str]:
    return {folded_url(str(source.get("repoURL", ""))) for source in _sources(manifest)}


def _sources(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    spec = manifest.get("spec") or {}
    return spec.get("sources") or [spec.get("source") or {}]


def asked(request: Request, *namespace: str) -> tuple[Filter, int | None]:
    """Return the filters of a stream, and the version that its client has.

    Shapes: `namespace` are the names of the parameter.
    """
    params = request.query_params
    chosen = Filter(
        name=params.get("name", ""),
        namespace=next((params[n] for n in namespace if params.get(n)), ""),
        names=params.getlist("names"),
        repo=folded_url(params["repo"]) if params.get("repo") else "",
        projects=params.getlist("projects") or params.getlist("project"),
        labels=selector(params["selector"]) if params.get("selector") else None,
    )
    return chosen, parse_digits(params.get("resourceVersion", ""))


def stream_caller(token: str) -> Caller | None:
    """Return the caller of a stream, loaded again before every message."""
    reload_policies()
    if not token:
        return ANONYMOUS if setting("anonymous", default=False) is True else None
    try:
        return verify(token)
    except Unauthenticated:
        return None


class ApplicationStream(View):
    """`/stream/applications`: changes of the applications that the caller may see."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> StreamingHttpResponse:
        """Stream changes; without `resourceVersion` all applications come first."""
        chosen, start = asked(request, "appNamespace")
        events = "text/event-stream" in request.headers.get("Accept", "")
        lines = _changes(
            chosen,
            start,
            request.query_params.get("fields", ""),
            token_of(request._request),
            events=events,
        )
        return streaming(lines, events=events)


def streaming(lines: AsyncIterator[bytes], *, events: bool) -> StreamingHttpResponse:
    """Return the response that streams the lines."""
    answer = StreamingHttpResponse(
        lines, content_type="text/event-stream" if events else "application/json"
    )
    answer["X-Accel-Buffering"] = "no"
    return answer


def line(result: Any, *, events: bool) -> bytes:
    """Return one item of a stream."""
    data = to_json(result)
    return b"data: " + data + b"\n\n" if events else data + b"\n"


async def _changes(
    chosen: Filter, start: int | None, fields: str, token: str, *, events: bool
) -> AsyncIterator[bytes]:
    waiter = Waiter()
    seen: set[tuple[str, str]] = set()
    try:
        version = await sync_to_async(current_version)()
        if start is None or chosen.name:
            for manifest, project, _rv in await sync_to_async(rows_since)(0, token):
                seen.add((manifest["metadata"]["namespace"], manifest["metadata"]["name"]))
                if chosen.fits(manifest, project):
                    yield line(_shown("ADDED", manifest, fields), events=events)
        else:
            seen = await sync_to_async(_known)(start)
            version = start
        if events:
            yield b": connected\n\n"
        while True:
            rows = await sync_to_async(applications_since)(version, token)
            if rows is None:
                return
            for kind, manifest, project, number in rows:
                version = max(version, number)
                key = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                what = kind or ("MODIFIED" if key in seen else "ADDED")
                seen.discard(key) if what == "DELETED" else seen.add(key)
                if chosen.fits(manifest, project):
                    yield line(_shown(what, manifest, fields), events=events)
            await waiter.wait()
    finally:
        waiter.close()


def _shown(kind: str, manifest: dict[str, Any], fields: str) -> Any:
    return project_fields({"result": {"type": kind, "application": manifest}}, fields)


def rows_since(version: int, token: str) -> list[tuple[dict[str, Any], str, int]]:
    """Return (object, project, version) of the changed applications that the caller may see."""
    caller = stream_caller(token)
    if caller is None:
        return []
    query = (
        visible(caller, Application.objects.filter(resource_version__gt=version))
        .select_related("cluster", "operation")
        .prefetch_related("history", "remotes")
    )
    return [
        (application_json(a), a.project, a.resource_version)
        for a in query.order_by("resource_version")
    ]


def _known(version: int) -> set[tuple[str, str]]:
    # Applications that existed at the client's version are modified, others added.
    return set(
        Application.objects.filter(resource_version__lte=version).values_list("namespace", "name")
    )


def applications_since(
    version: int, token: str
) -> list[tuple[str, dict[str, Any], str, int]] | None:
    """Return the changes since a version that the caller may see; None if access was revoked."""
    caller = stream_caller(token)
    if caller is None:
        return None
    found = [
        ("", manifest, project, number) for manifest, project, number in rows_since(version, token)
    ]
    stones = list(Tombstone.objects.filter(resource_version__gt=version, kind="Application"))
    for stone, gone in zip(stones, deleted_applications(stones), strict=True):
        if is_allowed(caller, "applications", "get", gone.rbac_object, gone.where):
            found.append(("DELETED", stone.manifest, stone.project, stone.resource_version))
    return sorted(found, key=lambda row: row[3])


class TreeStream(View):
    """`/stream/applications/{name}/resource-tree`: the tree, at each change."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> StreamingHttpResponse:
        """Stream the whole tree at each change."""
        application = get_application(request, name)
        events = "text/event-stream" in request.headers.get("Accept", "")
        return streaming(
            _trees(application.pk, token_of(request._request), events=events), events=events
        )


def _may_see(application: Application, token: str) -> bool:
    caller = stream_caller(token)
    return is_allowed(caller, "applications", "get", application.rbac_object, application.where)


async def _trees(pk: int, token: str, *, events: bool) -> AsyncIterator[bytes]:
    waiter, last = Waiter(), b""
    try:
        while True:
            application = await Application.objects.select_related("cluster").filter(pk=pk).afirst()
            if application is None or not await sync_to_async(_may_see)(application, token):
                return
            text = await tree_text(application)
            if text != last:
                last = text
                body = b'{"result":' + text + b"}"
                yield b"data: " + body + b"\n\n" if events else body + b"\n"
            await waiter.wait()
    finally:
        waiter.close()
