"""REST of logs: lines of one pod or of all pods below a resource, as they are written."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from clusters.kube import Connection, Refused
from clusters.models import Cluster, LiveResource
from hub.access import is_allowed, require
from hub.api import View, actor, flag, number
from hub.engine.errors import (
    AccessDenied,
    Invalid,
    RetryLater,
)
from hub.engine.resource import ResourceKey
from hub.rest import token_of
from projects.api.applications import get_application
from projects.api.resources import is_permitted, tree_rows
from projects.api.streams import stream_caller
from projects.impersonate import connection_for
from projects.models import Application
from projects.specs import find_cluster, project_of

_LOG_QUEUE = 1000
# How often a stream asks whether its reader may go on.
CHECK_SECONDS = 3.0


class Logs(View):
    """`/applications/{name}/logs` and `/applications/{name}/pods/{pod}/logs`: what containers wrote."""

    permission = ("logs", "get")

    @extend_schema(responses=OpenApiTypes.STR)
    def get(self, request: Request, name: str, pod: str = "") -> Any:
        """Stream log lines, of one pod or of all pods below a resource."""
        application = get_application(request, name)
        require(
            actor(request), "logs", "get", application.rbac_object, application.project, application.where
        )  # fmt: skip
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
            _log_lines(connection_for(application, project_of(application.project), cluster), pods, query, keep,
                       _still_allowed(application, token_of(request._request)), plain=download, events=events),
            content_type="text/plain" if download else "text/event-stream" if events else "application/json",
        )  # fmt: skip
        if download:
            answer["Content-Disposition"] = f'attachment; filename="{name}.log"'
        return answer


def _still_allowed(application: Application, token: str) -> Callable[[], bool]:
    """Return what asks anew whether the reader of a stream may go on."""

    def ask() -> bool:
        caller = stream_caller(token)
        return all(
            is_allowed(caller, resource, "get", application.rbac_object, application.where)
            for resource in ("applications", "logs")
        )

    return ask


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
    if not is_permitted(
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
    allowed: Callable[[], bool],
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
        checked = loop.time()
        while left:
            if loop.time() - checked > CHECK_SECONDS:
                checked = loop.time()
                if not await sync_to_async(allowed)():
                    return
            try:
                item = await asyncio.wait_for(lines.get(), CHECK_SECONDS)
            except TimeoutError:
                continue
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
