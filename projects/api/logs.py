"""REST API of logs: of one pod, or of all pods below a resource."""

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from clusters.kinds import Refused
from clusters.kube import PODS, Connection, connect
from clusters.models import Cluster
from hub.access.decisions import is_allowed, require
from hub.auth.requests import token_of
from hub.base.outbound.bounds import Lines
from hub.engine.errors import (
    AccessDenied,
    Invalid,
    RetryLater,
    Stalled,
)
from hub.engine.parsing import require_time
from hub.engine.resource import ResourceKey
from hub.engine.tree import Node
from hub.rest.views import View, actor, flag, number
from projects.access.reach import reach_of
from projects.api.applications import get_application
from projects.api.streams import stream_caller
from projects.destinations.impersonation import connection_for
from projects.models import Application
from projects.objects.specs import find_cluster, project_of

_MAX_LINE_BYTES = 256 * 1024
"""The maximum length of a log line; the rest is cut off."""
_WAITING_BYTES = 512 * 1024
"""Lines of one pod that wait for the reader; the pod's thread waits then."""
# How often the right to read is checked during a stream.
CHECK_SECONDS = 3.0


class Logs(View):
    """`/applications/{name}/logs` and `/applications/{name}/pods/{pod}/logs`: container logs."""

    permission = ("logs", "get")

    @extend_schema(responses=OpenApiTypes.STR)
    def get(self, request: Request, name: str, pod: str = "") -> Any:
        """Stream log lines of one pod or of all pods below a resource."""
        application = get_application(request, name)
        row = application
        require(actor(request), "logs", "get", row.rbac_object, row.project, row.where)
        cluster = find_cluster(application.spec)
        params = request.query_params
        pods = _pods(application, cluster, params, pod or params.get("podName", ""))
        query = _log_query(request)
        keep = _filter(request)
        reader = connection_for(application, project_of(application.project), cluster)
        names = [(p.namespace, p.name) for p in pods]
        download = flag(request, "download")
        events = "text/event-stream" in request.headers.get("Accept", "")
        content_type = "text/event-stream" if events else "application/json"
        lines = _log_lines(
            (reader, connect(cluster)),
            pods,
            query,
            keep,
            _still_allowed(application, names, token_of(request._request)),
            plain=download,
            events=events,
        )
        answer = StreamingHttpResponse(
            lines, content_type="text/plain" if download else content_type
        )
        if download:
            answer["Content-Disposition"] = f'attachment; filename="{name}.log"'
        return answer


def _filter(request: Request) -> "_Filter":
    params = request.query_params
    text = params.get("filter", "")
    return _Filter(
        text.removeprefix("!"),
        invert=text.startswith("!"),
        match_case=flag(request, "matchCase"),
        until=_moment(params.get("untilTime", ""), "untilTime"),
    )


def _still_allowed(
    application: Application, pods: list[tuple[str, str]], token: str
) -> Callable[[], bool]:
    """Return a function that checks again whether the reader of a stream may continue.

    The application may have moved to another project or cluster, or its project may have changed.
    """

    def may_continue() -> bool:
        caller = stream_caller(token)
        now = Application.objects.select_related("cluster").filter(pk=application.pk).first()
        if now is None or now.cluster is None or now.cluster_id != application.cluster_id:
            return False
        allowed = all(
            is_allowed(caller, resource, "get", now.rbac_object, now.where)
            for resource in ("applications", "logs")
        )
        return allowed and _are_permitted(now, now.cluster, pods)

    return may_continue


def _are_permitted(application: Application, cluster: Cluster, pods: list[tuple[str, str]]) -> bool:
    try:
        reach = reach_of(application, cluster)
    except Stalled:
        return False
    return not any(reach.refusal(ResourceKey("", "Pod", space, name)) for space, name in pods)


@dataclass(frozen=True, slots=True)
class _Filter:
    text: str
    invert: bool
    match_case: bool
    until: str = ""

    def is_before(self, at: str) -> bool:
        """Return whether a line is old enough; lines without a timestamp are."""
        return not self.until or not at or at.rstrip("Z") <= self.until.rstrip("Z")

    def __call__(self, line: str) -> bool:
        if not self.text:
            return True
        found = self.text in line if self.match_case else self.text.lower() in line.lower()
        return found != self.invert


def _moment(text: str, field: str) -> str:
    """Return a time in the format of logs; it may be given in seconds since 1970.

    Raises: Invalid naming the parameter.
    """
    if not text:
        return ""
    found = require_time(text, field)
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _log_query(request: Request) -> dict[str, str]:
    params = request.query_params
    query = {"timestamps": "true"}
    if params.get("container"):
        query["container"] = params["container"]
    since = _moment(params.get("sinceTime") or params.get("sinceTime.seconds") or "", "sinceTime")
    if since:
        query["sinceTime"] = since
    for field in ("tailLines", "sinceSeconds"):
        if params.get(field):
            query[field] = str(number(request, field))
    for field in ("follow", "previous"):
        if flag(request, field):
            query[field] = "true"
    return query


class _Pod(NamedTuple):
    """A pod whose logs are requested."""

    namespace: str
    name: str
    uid: str


def _pods(application: Application, cluster: Cluster, params: Any, pod: str) -> list[_Pod]:
    reach = reach_of(application, cluster)
    namespace = params.get("namespace") or application.dest_namespace
    refusal = reach.refusal(ResourceKey("", "Pod", namespace, pod))
    if refusal:
        raise AccessDenied(refusal)
    nodes = reach.load().nodes
    if pod:
        chosen = [n for n in nodes if n.key == ResourceKey("", "Pod", namespace, pod)]
    else:
        by_uid = {n.uid: n for n in nodes}
        roots = {n.uid for n in nodes if _is_requested(n.key, params)}
        pods = [n for n in nodes if (n.key.group, n.key.kind) == ("", "Pod")]
        chosen = [n for n in pods if n.uid in roots or _descends(n, roots, by_uid)]
    if not chosen:
        text = f"application {application.name} has no such pods"
        if pod:
            text = f"no pod {pod} found as part of application {application.name}"
        raise Invalid(text)
    if len(chosen) > settings.MAX_POD_LOGS:
        raise Invalid("max pods to view logs are reached. Please provide more granular query")
    return [_Pod(n.key.namespace, n.key.name, n.uid) for n in chosen]


def _is_requested(key: ResourceKey, params: Any) -> bool:
    asked = [
        (params.get("kind"), key.kind),
        (params.get("group"), key.group),
        (params.get("resourceName"), key.name),
        (params.get("namespace"), key.namespace),
    ]
    return all(want in (None, "", have) for want, have in asked)


def _descends(node: Node, roots: set[str], by_uid: dict[str, Node]) -> bool:
    seen: set[str] = set()
    while node.owner_uid and node.owner_uid not in seen:
        if node.owner_uid in roots:
            return True
        seen.add(node.owner_uid)
        parent = by_uid.get(node.owner_uid)
        if parent is None:
            return False
        node = parent
    return False


class _Source:
    """The lines of one pod, read by its own thread."""

    def __init__(self, pod: _Pod) -> None:
        self.pod, self.place = pod.name, pod
        self.head: str | None = None
        self.is_done = False
        self._lines, self._size = deque[str | None](), 0
        self._room = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether no line waits."""
        return not self._lines

    @property
    def size(self) -> int:
        """The memory of the lines that wait, in bytes."""
        return self._size

    async def put(self, line: str | None) -> None:
        """Add a line, None after the last one, when the lines before leave room for it."""
        # By their size, as a line may be short or a quarter of a megabyte.
        while self._size >= _WAITING_BYTES:
            self._room.clear()
            await self._room.wait()
        self._lines.append(line)
        self._size += sys.getsizeof(line)

    def take(self) -> str | None:
        """Return the next line; there must be one."""
        line = self._lines.popleft()
        self._size -= sys.getsizeof(line)
        self._room.set()
        return line


class _Reading:
    """The logs of several pods during one request.

    Shapes: `connections` are the reader's, which opens the logs, and the hub's own.
    """

    def __init__(
        self, connections: tuple[Connection, Connection], pods: list[_Pod], query: dict[str, str]
    ) -> None:
        self._connection, self._own = connections
        self._query, self._loop = query, asyncio.get_running_loop()
        self._stopped, self._some = threading.Event(), asyncio.Event()
        self._in_order = "follow" not in query
        self._sources = [_Source(pod) for pod in pods]
        for source in self._sources:
            threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _put(self, source: _Source, line: str | None) -> None:
        putting = source.put(line)
        try:
            asyncio.run_coroutine_threadsafe(putting, self._loop).result(60)
            self._loop.call_soon_threadsafe(self._some.set)
        except RuntimeError:
            putting.close()
            if not self._loop.is_closed():
                raise
            self._stopped.set()  # the hub stopped while this thread was reading

    def _read(self, source: _Source) -> None:
        def opened() -> None:
            require_same(self._own, source.place)

        space, name = source.place.namespace, source.place.name
        try:
            for line in _read_log(
                self._connection, space, name, self._query, self._stopped, opened
            ):
                self._put(source, line)
        except (Refused, RetryLater) as error:
            self._put(source, f" error: {error}")
        finally:
            self._put(source, None)

    def next(self) -> tuple[str, str] | None:
        """Return the pod and text of the next line, None if there is none yet."""
        return _next(self._sources, in_order=self._in_order)

    @property
    def is_done(self) -> bool:
        """Whether all pods have ended."""
        return all(s.is_done for s in self._sources)

    async def wait(self) -> None:
        """Return when there may be a line, or after a timeout."""
        self._some.clear()
        waited_for = [s for s in self._sources if s.head is None and not s.is_done]
        if all(s.is_empty for s in waited_for):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._some.wait()

    def stop(self) -> None:
        """Stop the threads."""
        self._stopped.set()


async def _log_lines(
    connections: tuple[Connection, Connection],
    pods: list[_Pod],
    query: dict[str, str],
    keep: _Filter,
    allowed: Callable[[], bool],
    *,
    plain: bool,
    events: bool,
) -> AsyncIterator[bytes]:
    reading, clock = _Reading(connections, pods, query), asyncio.get_running_loop().time
    try:
        checked = clock()
        while True:
            if clock() - checked > CHECK_SECONDS:
                checked = clock()
                if not await sync_to_async(allowed)():
                    return
            found = reading.next()
            if found is None:
                if reading.is_done:
                    break
                await reading.wait()
                continue
            at, _, content = found[1].partition(" ")
            if keep(content) and keep.is_before(at):
                yield _log_item(content, at, found[0], plain=plain, events=events)
        if not plain:
            now = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
            yield _log_item("", now, "", plain=False, events=events, last=True)
    finally:
        reading.stop()


def _next(sources: list[_Source], *, in_order: bool) -> tuple[str, str] | None:
    """Return the pod and text of the next line, None if there is none yet.

    With `in_order` it is the oldest line of all pods, so each pod must have one; else the first.
    """
    for source in sources:
        if source.head is None and not source.is_done and not source.is_empty:
            source.head = source.take()
            source.is_done = source.head is None
    ready = [s for s in sources if s.head is not None]
    if not ready or (in_order and len(ready) < sum(not s.is_done for s in sources)):
        return None
    chosen = min(ready, key=lambda s: (s.head or "").partition(" ")[0]) if in_order else ready[0]
    line, chosen.head = chosen.head or "", None
    return chosen.pod, line


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


def require_same(own: Connection, pod: _Pod) -> None:
    """Check that the pod whose log was opened is the one that was permitted.

    Logs are requested by name, so a pod of someone else may have replaced it. A uid is never
    reused: if it is unchanged now, it was when the log was opened.
    Raises: RetryLater.
    """
    found = own.get(PODS, pod.namespace, pod.name)
    if found is None or found["metadata"].get("uid") != pod.uid:
        raise RetryLater("PodReplaced", f"pod {pod.name} was replaced: request its logs again")


def _read_log(
    connection: Connection,
    namespace: str,
    pod: str,
    query: dict[str, str],
    stopped: threading.Event,
    opened: Callable[[], None] = lambda: None,
) -> Iterable[str]:
    path = f"{PODS.resource_path(namespace, pod)}/log"
    lines = Lines(_MAX_LINE_BYTES, cut=True)
    with connection.stream(path, query) as pieces:
        opened()
        for piece in pieces:
            for line in lines.feed(piece):
                yield line.decode(errors="replace")
            if stopped.is_set():
                return
        if rest := lines.end():
            yield rest.decode(errors="replace")
