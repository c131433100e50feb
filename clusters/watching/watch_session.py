"""State that the parts of one cluster's watch share: connection, threads, limits and counts."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings

from clusters.connection_config import headers_of, ssl_context
from clusters.intake import Pace, complaint
from clusters.kinds import Kind
from clusters.kube import Connection
from clusters.models import Cluster
from clusters.watching.answers import accepted
from hub.base.outbound import streams
from hub.base.thread_connections import end_of_task
from hub.engine.errors import Stalled
from hub.engine.resource import Manifest

CALLS = 2
"""Threads for blocking calls to one cluster. A cluster that hangs blocks only its own."""


async def run_query(threads: ThreadPoolExecutor, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a query in one of the database threads."""

    def call() -> Any:
        end_of_task()
        return function(*args, **kwargs)

    return await asyncio.get_running_loop().run_in_executor(threads, call)


class WatchSession:
    """One cluster as its watch sees it.

    Everything here runs in the event loop of the watcher. Blocking calls to the cluster run in the
    threads of `run`, queries run in the database threads that all clusters share.
    """

    def __init__(self, cluster: Cluster, database: ThreadPoolExecutor, holder: str) -> None:
        self.cluster, self.holder = cluster, holder
        self.rediscover = asyncio.Event()
        """Set when the kinds of the cluster may have changed."""
        self.doubt = asyncio.Event()
        """Set when a request failed, so that the API server is probed at once."""
        self.lists = asyncio.Semaphore(8)
        self.pace = Pace(settings.CLUSTER_EVENTS)
        self.counts: dict[tuple[str, str, str], int] = {}
        """Objects listed so far, by group, kind and namespace."""
        self.rejected: dict[str, str] = {}
        """Why objects of a kind were left out, by kind."""
        self._definitions: dict[tuple[str, str], int] = {}
        self.connection: Connection
        self._database, self._turn = database, asyncio.Semaphore()
        self._http: streams.Session | None = None
        self._server_name: str | None = None
        self._threads: ThreadPoolExecutor

    def start_threads(self) -> None:
        """Start the threads for blocking calls."""
        self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix="cluster")

    def stop_threads(self) -> None:
        """Abandon the threads, which may still wait for the cluster."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def reset(self) -> None:
        """Reset the counts of an earlier run: the new lists count everything again."""
        self.counts.clear()
        self.rejected.clear()
        self._definitions.clear()

    def open(self, connection: Connection) -> Any:
        """Return an HTTP session with the credentials of a connection, as a context manager."""
        config = connection.config
        tls = ssl_context(config) if connection.server.startswith("https") else False
        self.connection = connection
        self._server_name = (config.get("tlsClientConfig") or {}).get("serverName") or None
        return streams.session(tls, {"User-Agent": "flotilla", **headers_of(config)})

    def use(self, http: streams.Session) -> None:
        """Send requests through an open HTTP session."""
        self._http = http

    async def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a blocking call to the cluster in a thread."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def query(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a query in a database thread."""
        # One query of a cluster at a time: a busy cluster must not take all the shared threads.
        async with self._turn:
            return await run_query(self._database, function, *args, **kwargs)

    async def write(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a function of `clusters.live` that writes.

        Raises: LeaseLost when another watcher holds the cluster; nothing was written.
        """
        return await self.query(function, *args, holder=self.holder, **kwargs)

    def get(
        self,
        path: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> Any:
        """Return a GET request as a context manager. None `seconds` sets no limit, for watches."""
        assert self._http is not None  # noqa: S101
        return streams.get(
            self._http,
            self.connection.server + path,
            params=query,
            headers=headers,
            timeout=streams.limits(seconds),
            server_hostname=self._server_name,
        )

    def get_kind(
        self,
        kind: Kind,
        namespace: str,
        query: dict[str, str],
        headers: dict[str, str],
        seconds: float | None,
    ) -> Any:
        """Return a list or watch of a kind as a context manager that raises for error statuses."""
        request = self.get(kind.path(namespace), query=query, headers=headers, seconds=seconds)
        return accepted(request, kind)

    def count(self, kind: Kind, namespace: str, total: int) -> None:
        """Note how many objects a list has so far.

        Raises: Stalled if the limit of a cluster is exceeded.
        """
        self.counts[kind.group, kind.kind, namespace] = total
        if sum(self.counts.values()) > settings.CLUSTER_OBJECTS:
            raise self.too_many_objects()

    def too_many_objects(self) -> Stalled:
        """Return the error of a cluster with more objects than the hub stores."""
        return Stalled(
            "TooManyObjects",
            f"cluster {self.cluster.name} has more than {settings.CLUSTER_OBJECTS} objects, the "
            "limit (HUB_CLUSTER_OBJECTS): raise it, or exclude kinds in the settings",
        )

    def is_sound(self, kind: Kind, item: Any) -> bool:
        """Return whether an object can be stored, and note the reason if it cannot."""
        why = complaint(item)
        if why:
            self.rejected[f"{kind.kind}.{kind.group}".rstrip(".")] = why
        return not why

    def note_definition(self, item: Manifest) -> None:
        """Note the generation of a custom resource definition."""
        plural, _, group = str(item["metadata"].get("name") or "").partition(".")
        self._definitions[group, plural] = item["metadata"].get("generation") or 0

    def schema_generation(self, kind: Kind) -> int | None:
        """Return the generation of a kind's definition, None for kinds without a known one."""
        return self._definitions.get((kind.group, kind.plural))

    def warning(self) -> str:
        """Return the message for a connected cluster of which some objects are left out."""
        kinds = sorted(self.rejected)
        if not kinds:
            return ""
        more = f" and {len(kinds) - 1} other kinds" if len(kinds) > 1 else ""
        return f"objects of {kinds[0]}{more} are left out: {self.rejected[kinds[0]]}"
