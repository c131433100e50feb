"""`/stream/applicationsets`: changes of sets, with their applications."""

from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from appsets.api.sets import shown
from appsets.models import ApplicationSet
from hub.access.decisions import is_allowed
from hub.auth.requests import token_of
from hub.base.query_conditions import PairOf
from hub.events.waiter import Waiter
from hub.models import Tombstone, current_version
from hub.rest.views import View
from projects.api.streams import Filter, asked, line, stream_caller, streaming
from projects.models import Application


class ApplicationSetStream(View):
    """Streams every change of the sets that the caller may see."""

    permission = ("applicationsets", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> StreamingHttpResponse:
        """Stream changes; with `name`, the current set comes first."""
        chosen, start = asked(request, "appsetNamespace", "appSetNamespace")
        events = "text/event-stream" in request.headers.get("Accept", "")
        return streaming(
            _changes(chosen, start, token_of(request._request), events=events), events=events
        )


async def _changes(
    chosen: Filter, start: int | None, token: str, *, events: bool
) -> AsyncIterator[bytes]:
    waiter = Waiter()
    try:
        version = await sync_to_async(current_version)() if start is None else start
        seen = await sync_to_async(_known)(version)
        if chosen.name:
            version, seen = 0, set()
        if events:
            yield b": connected\n\n"
        while True:
            found = await sync_to_async(sets_since)(version, token)
            if found is None:
                return
            version, items = found
            for kind, manifest, project in items:
                key = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                if kind == "DELETED" and key not in seen:
                    continue
                what = kind or ("MODIFIED" if key in seen else "ADDED")
                seen.discard(key) if what == "DELETED" else seen.add(key)
                if chosen.fits(manifest, project):
                    yield line(
                        {"result": {"type": what, "applicationSet": manifest}}, events=events
                    )
            await waiter.wait()
    finally:
        waiter.close()


def _known(version: int) -> set[tuple[str, str]]:
    old = ApplicationSet.objects.filter(resource_version__lte=version).values_list(
        "namespace", "name"
    )
    gone = Tombstone.objects.filter(kind="ApplicationSet", resource_version__gt=version)
    return {*old, *gone.values_list("namespace", "name")}


def sets_since(
    version: int, token: str
) -> tuple[int, list[tuple[str, dict[str, Any], str]]] | None:
    """Return the newest version and the changes since another; None if access was revoked."""
    caller = stream_caller(token)
    if caller is None:
        return None
    now = current_version()
    changed = ApplicationSet.objects.filter(_touched(version)).order_by("name")
    items = [
        ("", shown(caller, row), row.project)
        for row in changed
        if is_allowed(caller, "applicationsets", "get", row.rbac_object)
    ]
    for stone in Tombstone.objects.filter(kind="ApplicationSet", resource_version__gt=version):
        gone = ApplicationSet(namespace=stone.namespace, name=stone.name, project=stone.project)
        if is_allowed(caller, "applicationsets", "get", gone.rbac_object):
            items.insert(0, ("DELETED", stone.manifest, stone.project))
    return now, items


def _touched(version: int) -> Q:
    """Return the sets that changed themselves or in one of their applications."""
    children = Application.objects.filter(resource_version__gt=version).exclude(owner="")
    owners = set(children.values_list("namespace", "owner"))
    for stone in Tombstone.objects.filter(kind="Application", resource_version__gt=version):
        for owner in stone.manifest["metadata"].get("ownerReferences") or []:
            owners.add((stone.namespace, owner["name"]))
    return Q(resource_version__gt=version) | Q(PairOf("namespace", "name", owners))
