"""Hold the leases of clusters, and watch each of them, in one event loop."""

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

from django.db import close_old_connections, connections
from django.db.models import Q
from django.utils import timezone

from clusters.models import Cluster
from clusters.watch import ClusterWatch
from hub.models import setting

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
DATABASE_THREADS = 2
LOOK_SECONDS = 4.0


class Watcher:
    """Holds the leases of clusters and watches each of them, in one event loop."""

    def __init__(self, holder: str = "") -> None:
        self.holder = (
            holder
            or f"{socket.gethostname()}-{threading.get_native_id()}-{random.randrange(10**6)}"
        )
        self._tasks: dict[int, tuple[ClusterWatch, asyncio.Task[None]]] = {}
        self._database = ThreadPoolExecutor(max_workers=DATABASE_THREADS, thread_name_prefix="live")
        self._stop: asyncio.Event | None = None
        self._look: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def look_now(self) -> None:
        """Look at the list of clusters at once; safe from any thread."""
        if self._loop and self._look:
            self._loop.call_soon_threadsafe(self._look.set)

    def stop(self) -> None:
        """End; safe from any thread."""
        if self._loop and self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)
            self.look_now()

    def run(self) -> None:
        """Watch until `stop`."""
        _watchers.add(self)
        try:
            asyncio.run(self._main())
        finally:
            _watchers.discard(self)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._look = asyncio.Event(), asyncio.Event()
        try:
            while not self._stop.is_set():
                await self._adjust()
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._look.wait()
        finally:
            for pk in list(self._tasks):
                await self._end(pk)
            await self._db(release_leases, self.holder)
            await asyncio.gather(*(self._db(_close_connections) for _ in range(DATABASE_THREADS)))
            self._database.shutdown(wait=True)

    async def _db(self, function: Any, *args: Any) -> Any:
        def call() -> Any:
            close_old_connections()
            return function(*args)

        return await asyncio.get_running_loop().run_in_executor(self._database, call)

    async def _adjust(self) -> None:
        try:
            mine = {c.pk: c for c in await self._db(claim_clusters, self.holder)}
            rules = await self._db(setting, "resource_filters", {})
        except Exception:  # the database may be away for a while; watches go on
            log.exception("the list of clusters could not be read")
            return
        for pk, (watch, task) in list(self._tasks.items()):
            if pk not in mine or watch.generation != mine[pk].generation or task.done():
                await self._end(pk)
        for pk, cluster in mine.items():
            if pk not in self._tasks:
                watch = ClusterWatch(cluster, self._database, self.holder)
                self._tasks[pk] = (watch, asyncio.create_task(watch.run()))
            self._tasks[pk][0].rules_are(rules)

    async def _end(self, pk: int) -> None:
        _watch, task = self._tasks.pop(pk)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _close_connections() -> None:
    # Each thread has its own; the pause lets every thread of the pool take one of these calls.
    connections.close_all()
    time.sleep(0.05)


_watchers: set[Watcher] = set()


def look_now() -> None:
    """Have the watchers of this process look at the list of clusters at once."""
    for watcher in list(_watchers):
        watcher.look_now()


def claim_clusters(holder: str) -> list[Cluster]:
    """Take or renew the leases of clusters; return those that this holder has."""
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
    """Give the leases back, so that another watcher takes over at once."""
    Cluster.objects.filter(lease_holder=holder).update(lease_holder="", lease_until=None)
