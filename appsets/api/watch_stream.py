"""`/flotilla/watch` (ours): one stream of all resources, resumed by `resourceVersion`."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from appsets.api.streams import sets_since
from clusters.api.clusters import cluster_json
from hub.access.decisions import Caller, is_allowed
from hub.auth.requests import token_of
from hub.engine.errors import Expired, Invalid
from hub.engine.parsing import parse_digits
from hub.events.waiter import Waiter
from hub.models import OLDEST, Tombstone, current_version, setting
from hub.rest.views import View
from projects.api.repositories import repository_json
from projects.api.streams import (
    applications_since,
    line,
    stream_caller,
    streaming,
)
from projects.live_pages.change_topics import TOPICS
from projects.objects.manifests import project_json


class Change(NamedTuple):
    """A resource that was created, updated or deleted."""

    version: int
    kind: str
    key: str
    gone: bool
    object: dict[str, Any]


Reader = Callable[[Caller, int, str], Iterable[Change]]


def _applications(_caller: Caller, version: int, token: str) -> Iterable[Change]:
    for word, manifest, _project, number in applications_since(version, token) or []:
        yield Change(number, "Application", _name(manifest), word == "DELETED", manifest)


def _sets(_caller: Caller, version: int, token: str) -> Iterable[Change]:
    now, found = sets_since(version, token) or (version, [])
    for word, manifest, _project in found:
        # A set also changes with its applications, whose versions are newer than its own.
        yield Change(now, "ApplicationSet", _name(manifest), word == "DELETED", manifest)


def _of(name: str, show: Callable[[Any], dict[str, Any]]) -> Reader:
    """Return the reader of a kind of `projects.live_pages.change_topics`."""

    def read(caller: Caller, version: int, _token: str) -> Iterable[Change]:
        topic = TOPICS[name]
        rows: Any = topic.model._default_manager
        found: list[tuple[Any, int, dict[str, Any] | None]]
        found = [
            (row, row.resource_version, None) for row in rows.filter(resource_version__gt=version)
        ]
        gone = Tombstone.objects.filter(kind=topic.kind, resource_version__gt=version)
        found += [(topic.revive(stone), stone.resource_version, stone.manifest) for stone in gone]
        for row, number, last in found:
            key, where = topic.place(row)
            if is_allowed(caller, topic.resource, "get", key, where):
                yield Change(
                    number, topic.kind, key, last is not None, show(row) if last is None else last
                )

    return read


KINDS: dict[str, Reader] = {
    "AppProject": _of("projects", project_json),
    "Cluster": _of("clusters", cluster_json),
    "Repository": _of("repositories", repository_json),
    "ApplicationSet": _sets,
    "Application": _applications,
}


def _name(manifest: dict[str, Any]) -> str:
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


class Watch(View):
    """`/flotilla/watch`: the changes of every kind."""

    permission = ("applications", "signed-in")

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "resourceVersion",
                description=(
                    "The last version that the client has; without it all objects come first."
                ),
            ),
            OpenApiParameter("kinds", description=f"Some of {', '.join(KINDS)}; all without it."),
        ],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Stream `{type, kind, resourceVersion, object}`; everything up to a BOOKMARK was sent."""
        kinds = _requested_kinds(request.query_params.getlist("kinds"))
        start = _start(request.query_params.get("resourceVersion", ""))
        events = "text/event-stream" in request.headers.get("Accept", "")
        lines = _changes(kinds, start, token_of(request._request), events=events)
        return streaming(lines, events=events)


def _requested_kinds(texts: list[str]) -> list[str]:
    asked = [k for text in texts for k in text.split(",") if k]
    for kind in asked:
        if kind not in KINDS:
            raise Invalid(f"kinds must be some of {', '.join(KINDS)}, not {kind!r}")
    return [k for k in KINDS if not asked or k in asked]


def _start(text: str) -> int | None:
    """Return the version to resume from, None for none.

    Raises: Invalid; Expired if deletions since that version are no longer recorded.
    """
    if not text:
        return None
    version = parse_digits(text)
    if version is None:
        raise Invalid(f"resourceVersion must be a number that an answer had, not {text[:40]!r}")
    if version > current_version():
        raise Invalid(
            f"resourceVersion {version} is newer than anything here: it comes from another hub"
        )
    if version < setting(OLDEST, 0):
        raise Expired(f"resourceVersion {version} is too old: start again without it")
    return version


async def _changes(
    kinds: list[str], start: int | None, token: str, *, events: bool
) -> AsyncIterator[bytes]:
    waiter = Waiter()
    sent: dict[tuple[str, str], int] = {}
    known: set[tuple[str, str]] = set()
    try:
        version, is_first = start or 0, start is None
        if events:
            yield b": connected\n\n"
        while True:
            found = await sync_to_async(_read)(kinds, version, token, is_first)
            if found is None:
                return
            now, changes = found
            for change in changes:
                key = (change.kind, change.key)
                if sent.get(key) == change.version:
                    continue
                is_new = start is None and key not in known
                (known.discard if change.gone else known.add)(key)
                yield line({"result": _item(change, is_new=is_new)}, events=events)
            if is_first or changes:
                yield line(
                    {"result": {"type": "BOOKMARK", "resourceVersion": str(now)}}, events=events
                )
            # Changes beyond `now` are read again, but must be sent only once.
            sent = {(c.kind, c.key): c.version for c in changes if c.version > now}
            version, is_first = now, False
            await waiter.wait()
    finally:
        waiter.close()


def _read(
    kinds: list[str], version: int, token: str, is_first: bool
) -> tuple[int, list[Change]] | None:
    """Return the newest version and the changes since another; None if access was revoked."""
    caller = stream_caller(token)
    if caller is None:
        return None
    now = current_version()
    if now == version and not is_first:
        return now, []
    changes = [
        c for kind in kinds for c in KINDS[kind](caller, version if not is_first else -1, token)
    ]
    if is_first:
        return now, [c for c in changes if not c.gone]
    return now, sorted(changes, key=lambda c: c.version)


def _item(change: Change, *, is_new: bool) -> dict[str, Any]:
    # A resumed stream does not know which objects its client has, so new ones are MODIFIED.
    word = "DELETED" if change.gone else "ADDED" if is_new else "MODIFIED"
    return {
        "type": word,
        "kind": change.kind,
        "resourceVersion": str(change.version),
        "object": change.object,
    }
