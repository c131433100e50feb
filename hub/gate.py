"""Bounded concurrency on an event loop: so many at once, so many waiting, the rest is refused at once."""

import asyncio
import contextlib
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator


class Busy(Exception):
    """As many wait already as may wait."""


class Gate:
    """Lets so many through at once, and has so many wait.

    Each event loop has its own, as the semaphores of asyncio belong to one.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most = at_once, at_once + waiting
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Room] = (
            weakref.WeakKeyDictionary()
        )

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a turn and have it.

        Raises: Busy.
        """
        loop = asyncio.get_running_loop()
        room = self._of_loop.get(loop)
        if room is None:
            room = self._of_loop[loop] = _Room(self._at_once)
        with room.counted(self._most):
            async with room.turns:
                yield


class _Room:
    def __init__(self, at_once: int) -> None:
        self.turns, self.inside = asyncio.Semaphore(at_once), 0

    @contextlib.contextmanager
    def counted(self, most: int) -> Iterator[None]:
        if self.inside >= most:
            raise Busy
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class Shares:
    """Counts what each of many has open, so that nobody takes all."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, name: str, most: int) -> Iterator[None]:
        """Count one more of a name.

        Raises: Busy when it has `most` already.
        """
        if self._open[name] >= most:
            raise Busy
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
