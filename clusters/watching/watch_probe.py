"""Probe the API server of a watched cluster.

A server that disappears without closing its connections leaves its watches open and silent.
"""

import asyncio
import contextlib

from clusters.watching.answers import require_authorized
from clusters.watching.watch_session import WatchSession
from hub.base.outbound import streams

INTERVAL_SECONDS = 20.0
TIMEOUT_SECONDS = 10.0
PAUSE_SECONDS = 5.0
ATTEMPTS = 3


async def probe_until_cancelled(session: WatchSession) -> None:
    """Probe at intervals, and at once after a failed request, until cancelled.

    Raises: ClientError, OSError or TimeoutError when the server does not answer several times in a
        row; RetryLater when it rejects the credentials.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_SECONDS):
                await session.doubt.wait()
        session.doubt.clear()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await _probe(session)
                break
            except (streams.ClientError, OSError, TimeoutError):
                if attempt == ATTEMPTS:
                    raise
                # Allow a server some time to restart.
                await asyncio.sleep(PAUSE_SECONDS)


async def _probe(session: WatchSession) -> None:
    try:
        async with session.get("/version", seconds=TIMEOUT_SECONDS) as answer:
            status = answer.status
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {TIMEOUT_SECONDS:.0f} s") from error
    require_authorized(status)
    if status >= 500:
        raise streams.ClientError(f"HTTP status {status}")
