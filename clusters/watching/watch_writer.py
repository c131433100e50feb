"""Write what the watches of one cluster saw, in batches."""

import asyncio
import logging
import time

from django.conf import settings
from django.utils import timezone

from clusters import live
from clusters.models import Cluster, LiveResource
from clusters.watching.watch_session import WatchSession
from hub.base.metrics import WATCH_LAG

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.08
BATCH_SIZE = 400
COUNT_SECONDS = 30.0
CONTACT_SECONDS = 5.0
ATTEMPTS = 6


class BatchWriter:
    """Collects the changes of one cluster and writes them together."""

    def __init__(self, session: WatchSession) -> None:
        self._session = session
        self._batch = live.Batch()
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._contact_saved_at = self._counted_at = 0.0

    def reset(self) -> None:
        """Drop the unwritten changes of an earlier run: the new lists read them again."""
        self._batch = live.Batch()
        self._changed.clear()
        self._room.set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be written."""
        return not (self._batch.seen or self._batch.gone)

    def add(self, key: str, seen: live.Seen) -> None:
        """Collect a resource that was created or changed."""
        self._batch.size += seen.fetched
        self._batch.gone.discard(key)
        self._batch.seen[key] = seen
        self._begin()

    def remove(self, key: str) -> None:
        """Collect a resource that was deleted."""
        self._batch.seen.pop(key, None)
        self._batch.gone.add(key)
        self._begin()

    def _begin(self) -> None:
        if not self._batch.first_at:
            self._batch.first_at = time.monotonic()
        self._changed.set()

    async def make_room(self, size: int) -> None:
        """Return when more events may be read. Until then the connection slows the server down.

        Units: `size` is the memory of the last event in bytes.
        """
        if self.is_empty:
            return
        self._batch.size += size
        if self._batch.is_full:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Write batches until cancelled.

        Raises: LeaseLost, Stalled, or the error of a database that stays unavailable.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            if len(self._batch.seen) < BATCH_SIZE:
                await asyncio.sleep(BATCH_SECONDS)
            batch, self._batch = self._batch, live.Batch()
            self._room.set()
            if batch.seen or batch.gone:
                await self._write(batch)
                WATCH_LAG.observe(time.monotonic() - batch.first_at)

    async def _write(self, batch: live.Batch) -> None:
        await self._record(batch)
        now = time.monotonic()
        if now - self._contact_saved_at > CONTACT_SECONDS:
            self._contact_saved_at = now
            await self._save_contact()
        if now - self._counted_at > COUNT_SECONDS:
            self._counted_at = now
            await self._check_count()

    async def _record(self, batch: live.Batch) -> None:
        session = self._session
        for attempt in range(1, ATTEMPTS + 1):
            try:
                seen = list(batch.seen.values())
                await session.write(live.record, session.cluster.pk, seen, batch.gone)
                return
            except live.LeaseLost:
                raise
            except Exception:  # such as a locked database: the batch must not be lost
                if attempt == ATTEMPTS:
                    raise
                log.warning("the live store cannot be written, retrying", exc_info=attempt > 2)
                await asyncio.sleep(0.25 * 2**attempt)

    async def _save_contact(self) -> None:
        session = self._session
        values = {"last_event_at": timezone.now()}
        warning = {"message": session.warning()[:1000]} if session.rejected else {}
        row = Cluster.objects.filter(pk=session.cluster.pk)
        await session.query(row.update, **values, **warning)

    async def _check_count(self) -> None:
        session = self._session
        rows = LiveResource.objects.filter(cluster_id=session.cluster.pk)
        if await session.query(rows.count) > settings.CLUSTER_OBJECTS:
            raise session.too_many_objects()
