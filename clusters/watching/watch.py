"""Watch one cluster: discovery, a list and a watch for every kind, and probes.

All of it runs in an event loop that the watches of all clusters of this process share.
"""

import asyncio
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clusters import live
from clusters.kinds import Refused
from clusters.kube import connect
from clusters.models import Cluster
from clusters.watching.answers import check_server
from clusters.watching.watch_discovery import KindDiscovery
from clusters.watching.watch_kind import RECONNECT
from clusters.watching.watch_probe import probe_until_cancelled
from clusters.watching.watch_session import WatchSession
from clusters.watching.watch_writer import BatchWriter
from hub.base.metrics import CLUSTER_STATUS
from hub.base.outbound import streams
from hub.engine.errors import RetryLater, Stalled

log = logging.getLogger(__name__)

HEALTHY_SECONDS = 60
"""After a run of this length the delay between attempts starts small again."""


class ClusterWatch:
    """Everything that is watched in one cluster."""

    def __init__(self, cluster: Cluster, database: ThreadPoolExecutor, holder: str = "") -> None:
        """Watch a cluster whose lease `holder` has: without the lease nothing is written."""
        self.generation = cluster.generation
        self._cluster = cluster
        self._session = WatchSession(cluster, database, holder)
        self._writer = BatchWriter(self._session)
        self._discovery = KindDiscovery(self._session, self._writer)

    def set_rules(self, rules: dict[str, Any]) -> None:
        """Apply the settings that include or exclude kinds."""
        self._discovery.set_rules(rules)

    async def run(self) -> None:
        """Watch until cancelled or until the lease is lost; restart after failures with backoff."""
        attempt = 0
        while True:
            started_at = time.monotonic()
            try:
                await self._run_once()
            except live.LeaseLost:
                return self._end()
            except (RetryLater, Stalled) as error:
                failure = error.message
            except Refused as refused:
                failure = f"the API server answered {refused.status}: {refused.message}"
            except (streams.ClientError, OSError, TimeoutError) as error:
                failure = f"cluster {self._cluster.name} does not answer: {error}"
            except Exception as error:  # the watches of the other clusters must go on
                log.exception("watching failed", extra={"cluster": self._cluster.name})
                failure = f"internal error while watching: {type(error).__name__}"
            if not await self._record_failure(failure):
                return self._end()
            is_healthy = time.monotonic() - started_at > HEALTHY_SECONDS
            attempt = 0 if is_healthy else attempt + 1
            delay = RECONNECT.delay(attempt).total_seconds()
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))

    def _end(self) -> None:
        log.info("another watcher holds the cluster", extra={"cluster": self._cluster.name})

    async def _record_failure(self, message: str) -> bool:
        """Record why the watch failed; return whether this watcher still holds the cluster."""
        CLUSTER_STATUS.labels(self._cluster.server).set(0)
        try:
            await self._session.write(
                live.set_connection, self._cluster.pk, "Failed", message, is_synced=False
            )
        except live.LeaseLost:
            return False
        return True

    async def _run_once(self) -> None:
        self._session.start_threads()
        try:
            await self._watch_all()
        finally:
            self._session.stop_threads()

    async def _watch_all(self) -> None:
        session = self._session
        connection = await session.query(connect, self._cluster)
        if not self._cluster.is_home:
            await session.call(check_server, connection.server)
        await session.call(connection.renew)
        version = await session.call(connection.server_version)
        session.reset()
        self._writer.reset()
        async with session.open(connection) as http:
            session.use(http)
            self._discovery.start()
            # Started together: if one fails, none of the others waits for it.
            tasks = [
                asyncio.create_task(self._writer.run()),
                asyncio.create_task(self._discovery.until_broken()),
                asyncio.create_task(probe_until_cancelled(session)),
                asyncio.create_task(self._discovery.run(version)),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
            finally:
                tasks += self._discovery.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
