"""Decide which kinds of a cluster are watched, and keep the watches in step with its discovery."""

import asyncio
import contextlib
import time
from typing import Any

from django.utils import timezone

from clusters import live
from clusters.filters import is_excluded
from clusters.kinds import Kind
from clusters.kube import Unreachable
from clusters.models import Cluster, LiveResource
from clusters.watching.watch_kind import (
    LIST_SECONDS,
    NEVER_WHOLE,
    KindState,
    KindWatch,
    has_new_schema,
)
from clusters.watching.watch_session import WatchSession
from clusters.watching.watch_writer import BatchWriter
from hub.base.metrics import CLUSTER_STATUS
from hub.engine.errors import RetryLater
from hub.models import setting

INTERVAL_SECONDS = 300
UNREACHABLE_SECONDS = 5.0
_ALWAYS_WHOLE = {("", "Pod"), ("apps", "ReplicaSet"), ("batch", "Job"), live.DEFINITION}

KindName = tuple[str, str]
"""Group and kind."""


def can_be_watched(kind: Kind) -> bool:
    """Return whether a kind has the verbs that a watch needs."""
    return {"list", "watch"} <= set(kind.verbs)


def is_watched(cluster: Cluster, kind: Kind, rules: dict[str, Any]) -> bool:
    """Return whether the hub watches a kind, by the settings' filters and the cluster's scope."""
    if not can_be_watched(kind) or is_excluded(kind.group, kind.kind, cluster.server, rules):
        return False
    if cluster.is_home and (kind.group, kind.kind) in live.OUR_KINDS:
        return False
    return not cluster.namespaces or kind.namespaced or cluster.cluster_resources


class KindDiscovery:
    """Starts and stops the watches of the kinds that a cluster serves."""

    def __init__(self, session: WatchSession, writer: BatchWriter) -> None:
        self._session, self._writer = session, writer
        self._kinds: dict[KindName, KindState] = {}
        self._rules: dict[str, Any] = {}
        self._seconds = 0.0
        self._broken: asyncio.Future[BaseException | None]

    def set_rules(self, rules: dict[str, Any]) -> None:
        """Discover again when the settings include or exclude other kinds than before."""
        if self._kinds and rules != self._rules:
            self._session.rediscover.set()

    def start(self) -> None:
        """Prepare for a new run."""
        self._broken = asyncio.get_running_loop().create_future()

    def stop(self) -> list[asyncio.Task[None]]:
        """Forget all watches and return their tasks, which the caller cancels."""
        tasks = [state.task for state in self._kinds.values() if state.task]
        self._kinds.clear()
        return tasks

    async def until_broken(self) -> None:
        """Raise the error of the first watch that ends with one."""
        error = await self._broken
        if error is not None:
            raise error

    async def run(self, version: str) -> None:
        """Discover now, at intervals, and whenever the kinds may have changed, until cancelled."""
        session = self._session
        await self._discover(version)
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: on Python 3.11 it loses a cancellation that comes with the event.
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await session.rediscover.wait()
                # A definition is served a moment after it is written. The pause also grows with
                # the cost of a discovery, for servers that report changes without end.
                await asyncio.sleep(min(60.0, max(0.3, 4 * self._seconds)))
            session.rediscover.clear()
            try:
                version = await session.call(session.connection.server_version)
                await self._discover(version)
            except Unreachable:  # the probes decide whether the cluster is unreachable
                await asyncio.sleep(UNREACHABLE_SECONDS)
                session.rediscover.set()

    async def _discover(self, version: str) -> None:
        session, cluster = self._session, self._session.cluster
        started_at = time.monotonic()
        kinds: list[Kind] = await session.call(session.connection.kinds, fresh=True)
        self._seconds = time.monotonic() - started_at
        silent = set(session.connection.unavailable)
        self._rules = await session.query(setting, "resource_filters", {})
        wanted = {(k.group, k.kind): k for k in kinds if is_watched(cluster, k, self._rules)}
        if not self._kinds:
            unwatchable = {(k.group, k.kind) for k in kinds if not can_be_watched(k)}
            await session.write(live.forget_unwatched, cluster, set(wanted), unwatchable, silent)
        await self._adjust(wanted, silent)
        await session.write(
            live.set_connection,
            cluster.pk,
            "Successful",
            "",
            server_version=version,
            api_kinds=self._served(session.connection.served(), silent),
        )
        CLUSTER_STATUS.labels(cluster.server).set(1)
        await self._until_listed()

    async def _adjust(self, wanted: dict[KindName, Kind], silent: set[str]) -> None:
        """Watch exactly the wanted kinds, and those of API groups that do not answer as before."""
        session = self._session
        managed = await session.query(live.managed_kinds, session.cluster.pk)
        for name in [n for n in self._kinds if n not in wanted and n[0] not in silent]:
            await self._stop_kind(name)
            await session.write(live.forget_kind, session.cluster.pk, *name)
        for name, kind in wanted.items():
            known = self._kinds.get(name)
            if known is None or self._is_outdated(known, kind):
                await self._stop_kind(name)
                whole = name not in NEVER_WHOLE and (name in managed or name in _ALWAYS_WHOLE)
                self._start_kind(KindState(kind, whole, self._namespaces(kind)))

    def _is_outdated(self, known: KindState, kind: Kind) -> bool:
        return known.kind.version != kind.version or has_new_schema(self._session, known)

    def _namespaces(self, kind: Kind) -> list[str]:
        namespaces = self._session.cluster.namespaces
        return [*namespaces] if kind.namespaced and namespaces else [""]

    def _start_kind(self, state: KindState) -> None:
        self._kinds[state.kind.group, state.kind.kind] = state
        watch = KindWatch(self._session, self._writer, state)
        state.task = asyncio.create_task(watch.run())
        state.task.add_done_callback(self._kind_ended)

    def _kind_ended(self, task: asyncio.Task[None]) -> None:
        # Without a watch the kind would keep its last state for ever: restart all watches of the
        # cluster.
        if not task.cancelled() and task.exception() is not None and not self._broken.done():
            self._broken.set_result(task.exception())

    async def _stop_kind(self, name: KindName) -> None:
        state = self._kinds.pop(name, None)
        if state and state.task:
            state.task.cancel()
            await asyncio.gather(state.task, return_exceptions=True)

    def _served(self, kinds: list[Kind], silent: set[str]) -> list[list[Any]]:
        """Return all served versions of kinds, including the last known ones of silent groups."""
        cluster = self._session.cluster
        served: list[list[Any]] = [
            [k.group, k.version, k.kind, k.plural, k.namespaced] for k in kinds
        ]
        known = {(k.group, k.kind) for k in kinds}
        served += [k for k in cluster.api_kinds if k[0] in silent and (k[0], k[2]) not in known]
        cluster.api_kinds = served
        return served

    async def _until_listed(self) -> None:
        """Wait for the first list of every kind, and mark the live store as complete."""
        session = self._session
        progress, deadline = (-1, -1), 0.0
        while not all(state.is_listed for state in self._kinds.values()):
            for state in self._kinds.values():
                if state.task and state.task.done() and not state.is_listed:
                    state.task.result()
            now = time.monotonic()
            listed = sum(len(state.listed) for state in self._kinds.values())
            before, progress = progress, (listed, sum(session.counts.values()))
            # A large cluster may take long: the lists start again only without any progress.
            if progress != before:
                deadline = now + LIST_SECONDS
            if now > deadline:
                raise RetryLater(
                    "ListTimeout",
                    f"cluster {session.cluster.name}: its lists made no progress for "
                    f"{LIST_SECONDS} seconds",
                )
            await asyncio.sleep(0.05)
        # The events that arrived in the meantime are written before the store is marked as
        # complete.
        while not self._writer.is_empty:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        rows = LiveResource.objects.filter(cluster_id=session.cluster.pk)
        await session.write(
            live.set_connection,
            session.cluster.pk,
            "Successful",
            session.warning(),
            is_synced=True,
            synced_at=timezone.now(),
            resource_count=await session.query(rows.count),
        )
