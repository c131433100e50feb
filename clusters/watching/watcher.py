"""Hold leases on clusters and watch those clusters, in one event loop."""

import asyncio
import contextlib
import logging
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import connections
from django.db.models import Q
from django.utils import timezone

from clusters.models import Cluster
from clusters.watching.watch import ClusterWatch
from clusters.watching.watch_session import run_query
from hub.models import setting

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
DATABASE_THREADS = 2
CLAIM_SECONDS = 4.0
"""Interval at which leases are renewed and free clusters claimed."""


class Watcher:
    """Holds leases on clusters and watches those clusters."""

    def __init__(self, holder: str = "") -> None:
        self.holder = (
            holder
            or f"{socket.gethostname()}-{threading.get_native_id()}-{random.randrange(10**6)}"
        )
        self._tasks: dict[int, tuple[ClusterWatch, asyncio.Task[None]]] = {}
        self._database = ThreadPoolExecutor(max_workers=DATABASE_THREADS, thread_name_prefix="live")
        self._stop: asyncio.Event | None = None
        self._claim: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def claim_now(self) -> None:
        """Read the list of clusters again at once. Safe from any thread."""
        if self._loop and self._claim:
            self._loop.call_soon_threadsafe(self._claim.set)

    def stop(self) -> None:
        """Stop watching and release the leases. Safe from any thread."""
        if self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
            self.claim_now()

    def run(self) -> None:
        """Watch until `stop` is called."""
        _watchers.add(self)
        try:
            asyncio.run(self._main())
        finally:
            _watchers.discard(self)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._claim = asyncio.Event(), asyncio.Event()
        try:
            while not self._stop.is_set():
                await self._adjust()
                self._claim.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLAIM_SECONDS):
                        await self._claim.wait()
        finally:
            for pk in list(self._tasks):
                await self._end(pk)
            await self._query(release_leases, self.holder)
            await asyncio.gather(
                *(self._query(_close_connections) for _ in range(DATABASE_THREADS))
            )
            self._database.shutdown(wait=True)

    async def _query(self, function: Any, *args: Any) -> Any:
        return await run_query(self._database, function, *args)

    async def _adjust(self) -> None:
        try:
            mine = {c.pk: c for c in await self._query(claim_clusters, self.holder)}
            rules = await self._query(setting, "resource_filters", {})
        except Exception:  # running watches survive a database that is unavailable
            log.exception("the list of clusters could not be read")
            return
        for pk, (watch, task) in list(self._tasks.items()):
            if pk not in mine or watch.generation != mine[pk].generation or task.done():
                await self._end(pk)
        for pk, cluster in mine.items():
            if pk not in self._tasks:
                watch = ClusterWatch(cluster, self._database, self.holder)
                self._tasks[pk] = (watch, asyncio.create_task(watch.run()))
            self._tasks[pk][0].set_rules(rules)

    async def _end(self, pk: int) -> None:
        _watch, task = self._tasks.pop(pk)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _close_connections() -> None:
    # Each thread has its own connection. The pause spreads these calls over all threads.
    connections.close_all()
    time.sleep(0.05)


_watchers: set[Watcher] = set()


def claim_now() -> None:
    """Have the watchers of this process read the list of clusters again at once."""
    for watcher in list(_watchers):
        watcher.claim_now()


def claim_clusters(holder: str) -> list[Cluster]:
    """Take free leases and renew own ones; return the clusters that this holder has."""
    now = timezone.now()
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now) | Q(lease_holder=holder)
    renew = now + LEASE / 2
    due = free & (Q(lease_until__isnull=True) | Q(lease_until__lt=renew) | ~Q(lease_holder=holder))
    wanted = (
        Cluster.objects.exclude(server="https://kubernetes.default.svc")
        if not _runs_in_cluster()
        else Cluster.objects.all()
    )
    ids = list(wanted.filter(due).values_list("pk", flat=True))
    if ids:
        Cluster.objects.filter(pk__in=ids).filter(free).update(
            lease_holder=holder, lease_until=now + LEASE
        )
    return list(wanted.filter(lease_holder=holder, lease_until__gt=now))


def _runs_in_cluster() -> bool:
    from clusters.connection_config import in_cluster_config

    return in_cluster_config() is not None


def release_leases(holder: str) -> None:
    """Release the leases, so that another watcher can take over at once."""
    Cluster.objects.filter(lease_holder=holder).update(lease_holder="", lease_until=None)
