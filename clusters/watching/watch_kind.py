"""List and watch one kind of a cluster.

Kinds of which applications manage something are watched whole, all others by metadata only. Secrets
are always watched by metadata and each managed one is fetched alone, so that the data of a foreign
Secret never leaves its cluster.
"""

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings

from clusters import live
from clusters.kinds import Kind
from clusters.watching.answers import NotServed, Pages, Relist, event_lines, parsed, version_of
from clusters.watching.watch_session import WatchSession
from clusters.watching.watch_writer import BatchWriter
from hub.base.metrics import WATCH_EVENTS
from hub.base.outbound import streams
from hub.base.outbound.bounds import TooMuch, room_of
from hub.engine.errors import Stalled
from hub.engine.resource import Manifest, resource_key
from hub.engine.retry import Backoff
from hub.engine.tracking import owner_of

log = logging.getLogger(__name__)

WATCH_SECONDS = 3000
LIST_SECONDS = 600
"""Limit for one list with all of its pages."""
PAGE_SECONDS = 60
SHORT_SECONDS = 1.0
"""A watch that ends sooner is not restarted at once."""
NOT_SERVED_SECONDS = 60
RECONNECT = Backoff(timedelta(seconds=1), 2, timedelta(seconds=60))
NEVER_WHOLE = {("", "Secret")}
_PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@dataclass
class KindState:
    """The progress of the watch of one kind."""

    kind: Kind
    whole: bool
    """False when only metadata is watched."""
    namespaces: list[str]
    """One empty string means all namespaces."""
    task: asyncio.Task[None] | None = None
    listed: set[str] = field(default_factory=set)
    schema: int | None = None
    """Generation of the kind's definition when it was listed."""

    @property
    def is_listed(self) -> bool:
        """Whether the first list of every namespace is stored."""
        return self.listed.issuperset(self.namespaces)


def has_new_schema(session: WatchSession, state: KindState) -> bool:
    """Return whether the definition of a kind has changed since its list.

    The API server then shows other fields of resources whose resource version stays the same.
    """
    generation = session.schema_generation(state.kind)
    if state.schema is None:
        state.schema = generation
    return state.schema != generation


class KindWatch:
    """Follows one kind in one cluster."""

    def __init__(self, session: WatchSession, writer: BatchWriter, state: KindState) -> None:
        self._session, self._writer, self._state = session, writer, state

    async def run(self) -> None:
        """Follow every namespace until cancelled; raises what the first list of one raises."""
        await asyncio.gather(*(self._follow(n) for n in self._state.namespaces))

    async def _follow(self, namespace: str) -> None:
        state, session = self._state, self._session
        failures = relists = 0
        while True:
            started_at = time.monotonic()
            try:
                whole = state.whole
                version = await self._list(namespace, whole=whole)
                state.listed.add(namespace)
                failures = 0
                await self._keep_watching(namespace, version, whole=whole)
            except Relist:
                # The first relist is immediate. A server that ends every watch must not receive
                # list requests without a pause.
                is_early = time.monotonic() - started_at < SHORT_SECONDS * 10
                relists = relists + 1 if is_early else 0
                if relists > 1:
                    await asyncio.sleep(RECONNECT.delay(min(relists - 1, 6)).total_seconds())
            except NotServed as error:
                log.info("not watched: %s", error, extra={"cluster": session.cluster.name})
                state.listed.add(namespace)
                await asyncio.sleep(NOT_SERVED_SECONDS)
            except (streams.ClientError, OSError, TimeoutError):
                failures += 1
                session.doubt.set()
                if namespace not in state.listed and failures > 2:
                    raise
                if failures > 4:
                    session.rediscover.set()
                delay = RECONNECT.delay(min(failures, 6)).total_seconds()
                await asyncio.sleep(delay * random.uniform(0.5, 1))

    async def _keep_watching(self, namespace: str, version: str, *, whole: bool) -> None:
        while True:
            since = time.monotonic()
            version = await self._watch(namespace, version, whole=whole)
            if has_new_schema(self._session, self._state):
                raise Relist
            if time.monotonic() - since < SHORT_SECONDS:
                await asyncio.sleep(SHORT_SECONDS)

    async def _list(self, namespace: str, *, whole: bool) -> str:
        session, kind = self._session, self._state.kind
        scope = [namespace] if namespace else []
        self._state.schema = session.schema_generation(kind)
        async with session.lists, asyncio.timeout(LIST_SECONDS):
            # Read before the list: resources that are written in the meantime are newer than the
            # list, and must not be deleted because the list lacks them.
            missing = await session.query(
                live.known_keys, session.cluster.pk, kind.group, kind.kind, scope
            )
            pages = Pages(session.cluster.name)
            while (query := pages.query()) is not None:
                try:
                    page = await self._page(namespace, query, whole=whole)
                except TooMuch as error:
                    pages.shrink(error)
                    continue
                items = pages.took(page)
                self._note_definitions(items)
                session.count(kind, namespace, pages.total)
                sound = (item for item in items if session.is_sound(kind, item))
                found = (await self._seen(item, whole=whole) for item in sound)
                async for seen in live.portions(found):
                    missing -= {resource_key(s.manifest).text for s in seen}
                    await session.write(live.record, session.cluster.pk, seen, is_list=True)
            await session.write(live.record, session.cluster.pk, [], missing)
        return pages.version

    async def _page(self, namespace: str, query: dict[str, str], *, whole: bool) -> dict[str, Any]:
        session = self._session
        headers = {} if whole else {"Accept": _PARTIAL_LIST}
        request = session.get_kind(self._state.kind, namespace, query, headers, PAGE_SECONDS)
        async with request as answer:
            body = await streams.read(answer, settings.CLUSTER_ANSWER_BYTES)
        return parsed(body, session.cluster.name)

    async def _watch(self, namespace: str, version: str, *, whole: bool) -> str:
        """Handle the events of one watch; return the version that the next one starts from."""
        session, kind = self._session, self._state.kind
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.8, 1.2))),
        }
        headers = {} if whole else {"Accept": _PARTIAL}
        async with session.get_kind(kind, namespace, query, headers, None) as answer:
            try:
                async for line in event_lines(answer):
                    await session.pace.wait(len(line))
                    event = parsed(line, session.cluster.name)
                    version = await self._handle(event, whole=whole) or version
                    await self._writer.make_room(room_of(line))
            except TooMuch as error:
                raise Stalled(
                    "TooLarge",
                    f"cluster {session.cluster.name}: an event of {kind.kind}: {error}, the limit "
                    "(HUB_CLUSTER_OBJECT_BYTES)",
                ) from error
        return version

    async def _handle(self, event: dict[str, Any], *, whole: bool) -> str:
        """Hand an event to the writer; return its resource version, empty when it has none."""
        session, kind = self._session, self._state.kind
        type_, item = event.get("type"), event.get("object")
        if type_ == "ERROR":
            raise Relist
        if type_ == "BOOKMARK":
            return version_of(item)
        if not session.is_sound(kind, item):
            return ""
        assert isinstance(item, dict)  # noqa: S101
        WATCH_EVENTS.labels(session.cluster.server).inc()
        if kind.kind in ("CustomResourceDefinition", "APIService"):
            self._note_definitions([item])
            session.rediscover.set()
        if type_ == "DELETED":
            self._writer.remove(resource_key(self._typed(item)).text)
        else:
            seen = await self._seen(item, whole=whole)
            self._writer.add(resource_key(seen.manifest).text, seen)
        return version_of(item)

    def _note_definitions(self, items: list[Any]) -> None:
        if (self._state.kind.group, self._state.kind.kind) == live.DEFINITION:
            for item in items:
                if self._session.is_sound(self._state.kind, item):
                    self._session.note_definition(item)

    def _typed(self, item: Manifest) -> Manifest:
        """Return an object with its type: lists and metadata watches send another type or none."""
        kind = self._state.kind
        return {**item, "apiVersion": kind.api_version, "kind": kind.kind}

    async def _seen(self, item: Manifest, *, whole: bool) -> live.Seen:
        state, session = self._state, self._session
        manifest = self._typed(item)
        if whole:
            return live.Seen(manifest, is_whole=True)
        if state.whole:
            # The watch of another namespace found a managed object, so the kind is watched whole
            # from now on, while this watch still receives metadata.
            raise Relist
        if not owner_of(manifest, live.tracking()).instance:
            return live.Seen(manifest, is_whole=False)
        if (state.kind.group, state.kind.kind) not in NEVER_WHOLE:
            # The first managed object of a kind: from now on the kind is watched whole.
            state.whole = True
            raise Relist
        metadata = manifest["metadata"]
        found = await session.call(
            session.connection.get, state.kind, metadata.get("namespace", ""), metadata["name"]
        )
        return live.fetched(manifest, found, session.cluster.name)
