"""Wait, in asynchronous code, until something was published."""

import asyncio
import contextlib
from collections.abc import Callable

from hub.events.changes import listen

# A stream ends within this time after its right is revoked.
POLL_SECONDS = 4.0
GATHER_SECONDS = 0.05


class Waiter:
    """Wakes when something was published, and at regular intervals."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._end = listen(self._wake_soon(loop))

    def _wake_soon(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        def wake() -> None:
            loop.call_soon_threadsafe(self._event.set)

        return wake

    async def wait(self) -> None:
        """Return when something may have changed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._event.wait()
            await asyncio.sleep(GATHER_SECONDS)
        self._event.clear()

    def close(self) -> None:
        """Unsubscribe."""
        self._end()
