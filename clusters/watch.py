"""Watch one cluster: a list and a watch for every kind, on an event loop that it shares with the others.

Kinds of which applications manage something are watched whole; of the rest only metadata comes.
Secrets are always watched by metadata, and each managed one is fetched by itself, so that the
data of a foreign Secret never leaves its cluster.
"""

import asyncio
import contextlib
import functools
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from clusters import live
from clusters.answers import (
    NotServed,
    Pages,
    Relist,
    accepted,
    check_server,
    event_lines,
    parsed,
    version_of,
)
from clusters.connection_config import headers_of, ssl_context
from clusters.filters import is_excluded
from clusters.intake import Pace, complaint
from clusters.kinds import Kind, Refused
from clusters.kube import Connection, Unreachable, connect
from clusters.models import Cluster, LiveResource
from hub.base.metrics import CLUSTER_STATUS, WATCH_EVENTS, WATCH_LAG
from hub.base.outbound import streams
from hub.base.outbound.bounds import TooMuch, room_of
from hub.engine.errors import RetryLater, Stalled
from hub.engine.resource import Manifest, resource_key
from hub.engine.retry import Backoff
from hub.engine.tracking import owner_of
from hub.models import setting

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.08
BATCH_SIZE = 400
WATCH_SECONDS = 3000
LIST_SECONDS = 600
"""How long one list may take with all of its pages; and how long the first lists together may stand still."""
PAGE_SECONDS = 60
CALLS = 2
"""Threads of one cluster: one that does not answer holds its own, and nobody else's."""
COUNT_SECONDS = 30.0
SHORT = 1.0
"""Seconds: a watch that ends sooner did not watch."""
PROBE_SECONDS = 20.0
PROBE_TIMEOUT = 10.0
PROBE_PAUSE = 5.0
PROBES = 3
RECONNECT = Backoff(timedelta(seconds=1), 2, timedelta(seconds=60))
_PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_ALWAYS_WHOLE = {("", "Pod"), ("apps", "ReplicaSet"), ("batch", "Job"), live.DEFINITION}
_NEVER_WHOLE = {("", "Secret")}


def _can_be_watched(kind: Kind) -> bool:
    return {"list", "watch"} <= set(kind.verbs)


@dataclass
class _KindState:
    kind: Kind
    whole: bool
    namespaces: list[str]
    """One empty string for all of them."""
    task: asyncio.Task[None] | None = None
    listed: set[str] = field(default_factory=set)

    @property
    def is_listed(self) -> bool:
        return self.listed.issuperset(self.namespaces)


class ClusterWatch:
    """Everything that is watched in one cluster."""

    def __init__(self, cluster: Cluster, database: ThreadPoolExecutor, holder: str = "") -> None:
        """Take a cluster of which `holder` has the lease: without it nothing is written."""
        self.cluster, self.holder = cluster, holder
        self.generation = cluster.generation
        self._database = database
        self._kinds: dict[tuple[str, str], _KindState] = {}
        self._batch = live.Batch()
        self._changed = asyncio.Event()
        self._rediscover = asyncio.Event()
        self._doubt = asyncio.Event()
        self._lists = asyncio.Semaphore(8)
        self._session: streams.Session | None = None
        self._last_event_saved = self._counted_at = self._discovery_seconds = 0.0
        self._turn = asyncio.Semaphore()
        self._room = asyncio.Event()
        self._room.set()
        self._pace = Pace(settings.CLUSTER_EVENTS)
        self._counts: dict[tuple[str, str, str], int] = {}
        self._left_out: dict[str, str] = {}
        self._rules: dict[str, Any] = {}

    async def run(self) -> None:
        """Watch for ever; after a failure begin anew, later each time."""
        attempt = 0
        while True:
            started = time.monotonic()
            try:
                await self._run_once()
            except live.LeaseLost:
                return self._end()
            except (RetryLater, Stalled) as error:
                failure = error.message
            except Refused as refused:
                failure = f"the API server answered {refused.status}: {refused.message}"
            except (streams.ClientError, OSError, TimeoutError) as error:
                failure = f"cluster {self.cluster.name} does not answer: {error}"
            except Exception as error:  # keeps the watcher of the other clusters alive
                log.exception("watching failed", extra={"cluster": self.cluster.name})
                failure = f"internal error while watching: {type(error).__name__}"
            if not await self._failed(failure):
                return self._end()
            attempt = 0 if time.monotonic() - started > 60 else attempt + 1
            delay = RECONNECT.delay(attempt).total_seconds()
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))

    def rules_are(self, rules: dict[str, Any]) -> None:
        """Look at the kinds anew when the settings leave out others than before."""
        if self._kinds and rules != self._rules:
            self._rediscover.set()

    def _end(self) -> None:
        log.info("another watcher has the cluster", extra={"cluster": self.cluster.name})

    async def _failed(self, message: str) -> bool:
        """Say what went wrong; return whether it is still for this watcher to say."""
        CLUSTER_STATUS.labels(self.cluster.server).set(0)
        try:
            await self._live(
                live.set_connection, self.cluster.pk, "Failed", message, is_synced=False
            )
        except live.LeaseLost:
            return False
        return True

    async def _live(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._db(function, *args, holder=self.holder, **kwargs)

    async def _db(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            close_old_connections()
            return function(*args, **kwargs)

        # One at a time: the threads are for all clusters, and one that sends without end must leave some free.
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._database, call)

    async def _run_once(self) -> None:
        self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix="cluster")
        try:
            await self._watch_all()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _watch_all(self) -> None:
        connection = await self._db(connect, self.cluster)
        if not self.cluster.is_home:
            await self._call(check_server, connection.server)
        await self._call(connection.renew)
        version = await self._call(connection.server_version)
        # What an earlier run had not written yet: the lists read it again, and no event would wake the writer.
        self._batch = live.Batch()
        self._changed.clear()
        self._room.set()
        self._counts.clear()
        self._left_out.clear()
        config = connection.config
        tls = ssl_context(config) if connection.server.startswith("https") else False
        name = (config.get("tlsClientConfig") or {}).get("serverName") or None
        headers = {"User-Agent": "flotilla", **headers_of(config)}
        async with streams.session(tls, headers) as session:
            self._session, self._server_name = session, name
            self._connection = connection
            self._broken: asyncio.Future[BaseException | None] = (
                asyncio.get_running_loop().create_future()
            )
            # Together from the start: where the writer fails, nobody waits for its batches.
            tasks = [
                asyncio.create_task(self._write_batches()),
                asyncio.create_task(self._until_broken()),
                asyncio.create_task(self._keep_probing()),
                asyncio.create_task(self._keep_discovering(connection, version)),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:
                tasks += [s.task for s in self._kinds.values() if s.task]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._kinds.clear()

    async def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _discover(self, connection: Connection, version: str) -> None:
        begun = time.monotonic()
        kinds: list[Kind] = await self._call(connection.kinds, fresh=True)
        self._discovery_seconds = time.monotonic() - begun
        silent = set(connection.unavailable)
        self._rules = await self._db(setting, "resource_filters", {})
        managed = await self._db(live.managed_kinds, self.cluster.pk)
        wanted = {(k.group, k.kind): k for k in kinds if self._is_watched(k)}
        if not self._kinds:
            unwatchable = {(k.group, k.kind) for k in kinds if not _can_be_watched(k)}
            await self._live(live.forget_unwatched, self.cluster, set(wanted), unwatchable, silent)
        for name in [n for n in self._kinds if n not in wanted and n[0] not in silent]:
            await self._stop_kind(name)
            await self._live(live.forget_kind, self.cluster.pk, *name)
        for name, kind in wanted.items():
            known = self._kinds.get(name)
            if known is None or known.kind.version != kind.version:
                await self._stop_kind(name)
                whole = name not in _NEVER_WHOLE and (name in managed or name in _ALWAYS_WHOLE)
                self._start_kind(_KindState(kind, whole, self._namespaces(kind)))
        await self._live(
            live.set_connection,
            self.cluster.pk,
            "Successful",
            "",
            server_version=version,
            api_kinds=self._served(connection.served(), silent),
        )
        CLUSTER_STATUS.labels(self.cluster.server).set(1)
        await self._until_listed()

    def _served(self, kinds: list[Kind], silent: set[str]) -> list[list[Any]]:
        """Return all versions of kinds for the record, with those as they were whose server does not answer."""
        served: list[list[Any]] = [
            [k.group, k.version, k.kind, k.plural, k.namespaced] for k in kinds
        ]
        known = {(k.group, k.kind) for k in kinds}
        served += [
            k for k in self.cluster.api_kinds if k[0] in silent and (k[0], k[2]) not in known
        ]
        self.cluster.api_kinds = served
        return served

    async def _until_listed(self) -> None:
        done, deadline = (-1, -1), 0.0
        while not all(s.is_listed for s in self._kinds.values()):
            for state in self._kinds.values():
                if state.task and state.task.done() and not state.is_listed:
                    state.task.result()
            now = time.monotonic()
            # A large cluster takes its time: only one that does not get on begins anew.
            before, done = (
                done,
                (sum(len(s.listed) for s in self._kinds.values()), sum(self._counts.values())),
            )
            if done != before:
                deadline = now + LIST_SECONDS
            if now > deadline:
                raise RetryLater(
                    "ListTimeout",
                    f"cluster {self.cluster.name}: its lists have stood still for {LIST_SECONDS} seconds",
                )
            await asyncio.sleep(0.05)
        # What the watches saw meanwhile is written before the store is called complete.
        while self._batch.seen or self._batch.gone:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        count = await self._db(LiveResource.objects.filter(cluster_id=self.cluster.pk).count)
        await self._live(
            live.set_connection,
            self.cluster.pk,
            "Successful",
            self._remark(),
            is_synced=True,
            synced_at=timezone.now(),
            resource_count=count,
        )

    async def _keep_discovering(self, connection: Connection, version: str) -> None:
        await self._discover(connection, version)
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: on Python 3.11 it loses a cancellation that comes together with the event.
                async with asyncio.timeout(300):
                    await self._rediscover.wait()
                # A definition is served a moment after it is written; a server that says without end that
                # its kinds have changed has most of the time to itself.
                await asyncio.sleep(min(60.0, max(0.3, 4 * self._discovery_seconds)))
            self._rediscover.clear()
            try:
                version = await self._call(connection.server_version)
                await self._discover(connection, version)
            except Unreachable:  # whether the cluster is away is for the probes to say
                await asyncio.sleep(PROBE_PAUSE)
                self._rediscover.set()

    async def _keep_probing(self) -> None:
        """Ask the server whether it is there: one that vanished without a word leaves its watches open and silent."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._doubt.wait()
            self._doubt.clear()
            for attempt in range(1, PROBES + 1):
                try:
                    await self._probe()
                    break
                except (streams.ClientError, OSError, TimeoutError):
                    if attempt == PROBES:
                        raise
                    # A server that only begins anew has a moment to do so.
                    await asyncio.sleep(PROBE_PAUSE)

    async def _probe(self) -> None:
        assert self._session is not None  # noqa: S101
        url = self._connection.server + "/version"
        request = streams.get(
            self._session,
            url,
            timeout=streams.limits(PROBE_TIMEOUT),
            server_hostname=self._server_name,
        )
        try:
            async with request as answer:
                status = answer.status
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {PROBE_TIMEOUT:.0f} s") from error
        if status == 401:
            raise RetryLater("Unauthorized", "the cluster no longer takes the hub's credentials")
        if status >= 500:
            raise streams.ClientError(f"HTTP status {status}")

    def _is_watched(self, kind: Kind) -> bool:
        if not _can_be_watched(kind) or is_excluded(
            kind.group, kind.kind, self.cluster.server, self._rules
        ):
            return False
        if self.cluster.is_home and (kind.group, kind.kind) in live.OUR_KINDS:
            return False
        return not self.cluster.namespaces or kind.namespaced or self.cluster.cluster_resources

    def _namespaces(self, kind: Kind) -> list[str]:
        return [*self.cluster.namespaces] if kind.namespaced and self.cluster.namespaces else [""]

    def _start_kind(self, state: _KindState) -> None:
        self._kinds[state.kind.group, state.kind.kind] = state
        state.task = asyncio.create_task(self._follow(state))
        state.task.add_done_callback(self._kind_ended)

    def _kind_ended(self, task: asyncio.Task[None]) -> None:
        # A watch that ends by an error would leave its kind frozen and green: the whole cluster begins anew.
        if not task.cancelled() and task.exception() is not None and not self._broken.done():
            self._broken.set_result(task.exception())

    async def _until_broken(self) -> None:
        error = await self._broken
        if error is not None:
            raise error

    async def _stop_kind(self, name: tuple[str, str]) -> None:
        state = self._kinds.pop(name, None)
        if state and state.task:
            state.task.cancel()
            await asyncio.gather(state.task, return_exceptions=True)

    async def _follow(self, state: _KindState) -> None:
        await asyncio.gather(*(self._follow_one(state, n) for n in state.namespaces))

    async def _follow_one(self, state: _KindState, namespace: str) -> None:
        attempt = relists = 0
        while True:
            begun = time.monotonic()
            try:
                whole = state.whole
                version = await self._list(state, namespace, whole=whole)
                state.listed.add(namespace)
                attempt = 0
                while True:
                    since = time.monotonic()
                    version = await self._watch(state, namespace, version, whole=whole)
                    if time.monotonic() - since < SHORT:
                        await asyncio.sleep(SHORT)
            except Relist:
                # Once at once; a server that refuses each watch is not asked for lists without end.
                relists = relists + 1 if time.monotonic() - begun < SHORT * 10 else 0
                if relists > 1:
                    await asyncio.sleep(RECONNECT.delay(min(relists - 1, 6)).total_seconds())
            except NotServed as error:
                log.info("not watched: %s", error, extra={"cluster": self.cluster.name})
                state.listed.add(namespace)
                await asyncio.sleep(60)
            except (streams.ClientError, OSError, TimeoutError):
                attempt += 1
                self._doubt.set()
                if namespace not in state.listed and attempt > 2:
                    raise
                if attempt > 4:
                    self._rediscover.set()
                await asyncio.sleep(
                    RECONNECT.delay(min(attempt, 6)).total_seconds() * random.uniform(0.5, 1)
                )

    async def _list(self, state: _KindState, namespace: str, *, whole: bool) -> str:
        kind, scope = state.kind, [namespace] if namespace else []
        async with self._lists, asyncio.timeout(LIST_SECONDS):
            place = (self.cluster.pk, kind.group, kind.kind)
            # What is written meanwhile by others is newer than the list, and not gone because it lacks there.
            missing = await self._db(live.known_keys, *place, scope)
            pages = Pages(self.cluster.name)
            while (query := pages.query()) is not None:
                accept = {} if whole else {"Accept": _PARTIAL_LIST}
                try:
                    page = await self._get_json(state, namespace, query, accept)
                except TooMuch as error:
                    pages.shrink(error)
                    continue
                items = pages.took(page)
                self._count(kind, namespace, pages.total)
                found = (
                    await self._seen(state, i, whole=whole)
                    for i in items
                    if self._is_sound(kind, i)
                )
                async for seen in live.portions(found):
                    missing -= {resource_key(s.manifest).text for s in seen}
                    await self._live(live.record, self.cluster.pk, seen)
            await self._live(live.record, self.cluster.pk, [], missing)
        return pages.version

    def _count(self, kind: Kind, namespace: str, total: int) -> None:
        self._counts[kind.group, kind.kind, namespace] = total
        if sum(self._counts.values()) > settings.CLUSTER_OBJECTS:
            raise self._too_many()

    def _too_many(self) -> Stalled:
        return Stalled(
            "TooManyObjects",
            f"cluster {self.cluster.name} has more than {settings.CLUSTER_OBJECTS} objects, the limit "
            "(HUB_CLUSTER_OBJECTS): raise it, or leave kinds out by the settings' exclusions",
        )

    def _is_sound(self, kind: Kind, item: Any) -> bool:
        why = complaint(item)
        if why:
            self._left_out[f"{kind.kind}.{kind.group}".rstrip(".")] = why
        return not why

    def _remark(self) -> str:
        """Return what the record of a cluster that answers should say beside that."""
        kinds = sorted(self._left_out)
        if not kinds:
            return ""
        more = f" and {len(kinds) - 1} other kinds" if len(kinds) > 1 else ""
        return f"objects of {kinds[0]}{more} are left out: {self._left_out[kinds[0]]}"

    async def _get_json(
        self, state: _KindState, namespace: str, query: dict[str, str], headers: dict[str, str]
    ) -> dict[str, Any]:
        async with self._get(state, namespace, query, headers, PAGE_SECONDS) as answer:
            body = await streams.read(answer, settings.CLUSTER_ANSWER_BYTES)
        return parsed(body, self.cluster.name)

    def _get(
        self,
        state: _KindState,
        namespace: str,
        query: dict[str, str],
        headers: dict[str, str],
        seconds: float | None,
    ) -> Any:
        assert self._session is not None  # noqa: S101
        url = self._connection.server + state.kind.path(namespace)
        request = streams.get(
            self._session,
            url,
            params=query,
            headers=headers,
            timeout=streams.limits(seconds),
            server_hostname=self._server_name,
        )
        return accepted(request, state.kind)

    async def _seen(self, state: _KindState, item: Manifest, *, whole: bool) -> live.Seen:
        manifest = {**item, "apiVersion": state.kind.api_version, "kind": state.kind.kind}
        if whole:
            return live.Seen(manifest, is_whole=True)
        if state.whole:
            # The watch of another namespace found the first managed one: this one still sends metadata.
            raise Relist
        owner = owner_of(manifest, live.tracking())
        if not owner.instance:
            return live.Seen(manifest, is_whole=False)
        if (state.kind.group, state.kind.kind) not in _NEVER_WHOLE:
            # The first managed resource of a kind: from now on the kind comes whole.
            state.whole = True
            raise Relist
        metadata = manifest["metadata"]
        found = await self._call(
            self._connection.get, state.kind, metadata.get("namespace", ""), metadata["name"]
        )
        return live.fetched(manifest, found, self.cluster.name)

    async def _watch(self, state: _KindState, namespace: str, version: str, *, whole: bool) -> str:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.8, 1.2))),
        }
        headers = {} if whole else {"Accept": _PARTIAL}
        async with self._get(state, namespace, query, headers, None) as answer:
            try:
                async for line in event_lines(answer):
                    await self._pace.wait(len(line))
                    event = parsed(line, self.cluster.name)
                    version = await self._handle(state, event, whole=whole) or version
                    await self._make_room(room_of(line))
            except TooMuch as error:
                raise Stalled(
                    "TooLarge",
                    f"cluster {self.cluster.name}: an event of {state.kind.kind}: {error}, the limit "
                    "(HUB_CLUSTER_OBJECT_BYTES)",
                ) from error
        return version

    async def _handle(self, state: _KindState, event: dict[str, Any], *, whole: bool) -> str:
        kind, item = event.get("type"), event.get("object")
        if kind == "ERROR":
            raise Relist
        if kind == "BOOKMARK":
            return version_of(item)
        if not self._is_sound(state.kind, item):
            return ""
        assert isinstance(item, dict)  # noqa: S101
        version = version_of(item)
        WATCH_EVENTS.labels(self.cluster.server).inc()
        if state.kind.kind in ("CustomResourceDefinition", "APIService"):
            self._rediscover.set()
        if kind == "DELETED":
            manifest = {**item, "apiVersion": state.kind.api_version, "kind": state.kind.kind}
            key = resource_key(manifest).text
            self._batch.seen.pop(key, None)
            self._batch.gone.add(key)
        else:
            seen = await self._seen(state, item, whole=whole)
            self._batch.size += seen.fetched
            key = resource_key(seen.manifest).text
            self._batch.gone.discard(key)
            self._batch.seen[key] = seen
        if not self._batch.first_at:
            self._batch.first_at = time.monotonic()
        self._changed.set()
        return version

    async def _make_room(self, size: int) -> None:
        """Return when more may wait: until then nothing is read, and the server is slowed down."""
        if not (self._batch.seen or self._batch.gone):
            return
        self._batch.size += size
        if self._batch.is_full:
            self._room.clear()
            await self._room.wait()

    async def _write_batches(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if len(self._batch.seen) < BATCH_SIZE:
                await asyncio.sleep(BATCH_SECONDS)
            batch, self._batch = self._batch, live.Batch()
            self._room.set()
            if not (batch.seen or batch.gone):
                continue
            await self._write(batch)
            WATCH_LAG.observe(time.monotonic() - batch.first_at)

    async def _write(self, batch: live.Batch) -> None:
        for attempt in range(6):
            try:
                await self._live(
                    live.record, self.cluster.pk, list(batch.seen.values()), batch.gone
                )
                break
            except live.LeaseLost:
                raise
            except Exception:  # a locked database: the batch must not be lost
                if attempt == 5:
                    raise
                log.warning(
                    "the live store could not be written, trying again", exc_info=attempt > 1
                )
                await asyncio.sleep(0.5 * 2**attempt)
        now = time.monotonic()
        if now - self._last_event_saved > 5:
            self._last_event_saved = now
            remark = {"message": self._remark()[:1000]} if self._left_out else {}
            await self._db(
                Cluster.objects.filter(pk=self.cluster.pk).update,
                last_event_at=timezone.now(),
                **remark,
            )
        if now - self._counted_at > COUNT_SECONDS:
            self._counted_at = now
            count = await self._db(LiveResource.objects.filter(cluster_id=self.cluster.pk).count)
            if count > settings.CLUSTER_OBJECTS:
                raise self._too_many()
