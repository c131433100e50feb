"""Bounded concurrency on an event loop.

A limited number of callers run at once, a limited number wait, and the rest are refused at once.
"""

import asyncio
import contextlib
import random
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator


class Busy(Exception):
    """The queue of waiting callers is full."""


class Gate:
    """Lets a limited number of callers run at once, and a limited number wait.

    Each event loop has its own, as the semaphores of asyncio belong to one.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._maximum = at_once, at_once + waiting
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Room] = (
            weakref.WeakKeyDictionary()
        )

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a slot and take it.

        Raises: Busy.
        """
        loop = asyncio.get_running_loop()
        room = self._of_loop.get(loop)
        if room is None:
            room = self._of_loop[loop] = _Room(self._at_once)
        with room.counted(self._maximum):
            async with room.turns:
                yield


class _Room:
    def __init__(self, at_once: int) -> None:
        self.turns, self.inside = asyncio.Semaphore(at_once), 0

    @contextlib.contextmanager
    def counted(self, maximum: int) -> Iterator[None]:
        if self.inside >= maximum:
            raise Busy
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class Turns:
    """Lets one caller per name run at a time.

    Callers with the same name wait for each other only.
    """

    def __init__(self) -> None:
        self._of_loop: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, weakref.WeakValueDictionary[int, asyncio.Lock]
        ] = weakref.WeakKeyDictionary()

    @contextlib.asynccontextmanager
    async def enter(self, name: int) -> AsyncIterator["Turn"]:
        """Wait for the turn of a name and take it."""
        loop = asyncio.get_running_loop()
        locks = self._of_loop.setdefault(loop, weakref.WeakValueDictionary())
        lock = locks.get(name)
        if lock is None:
            lock = locks[name] = asyncio.Lock()
        turn = Turn()
        await lock.acquire()
        try:
            yield turn
        finally:
            if turn.pause_seconds:
                loop.call_later(turn.pause_seconds, lock.release)
            else:
                lock.release()


class Turn:
    """The turn of one name, while a caller holds it."""

    pause_seconds = 0.0
    """The pause before the next caller with the same name runs."""


class Rate:
    """A token bucket: a burst at first, then a fixed number per second."""

    __slots__ = ("_at", "_left", "_maximum", "_per_second")

    def __init__(self, at_once: float, per_second: float) -> None:
        """Start with a full bucket."""
        self._maximum, self._left, self._per_second = at_once, at_once, per_second
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take one token; return whether there was one."""
        self._left, self._at = self._filled(now), now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is full again."""
        return self._filled(now) >= self._maximum

    def _filled(self, now: float) -> float:
        return min(self._maximum, self._left + max(0.0, now - self._at) * self._per_second)


class Rates:
    """A rate for each of many names."""

    def __init__(self, at_once: float, per_second: float) -> None:
        """Start without any names."""
        self._how, self._rates = (at_once, per_second), dict[int, Rate]()

    def take(self, name: int, now: float) -> bool:
        """Take one token of a name; return whether there was one."""
        if len(self._rates) >= 1000:
            self._rates = {n: rate for n, rate in self._rates.items() if not rate.is_full(now)}
        return self._rates.setdefault(name, Rate(*self._how)).take(now)


class Shares:
    """Counts what each name has open, so that no name can use up all."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, name: str, maximum: int) -> Iterator[None]:
        """Count one more of a name.

        Raises: Busy when it has `maximum` already.
        """
        if self._open[name] >= maximum:
            raise Busy
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]


class Queues:
    """Gives each name a number of slots; a caller without a slot waits for a short time.

    Waiting callers are admitted in random order, and refused at random when too many wait: a flood
    from one address uses its share of the slots and leaves the rest to others behind that address.
    """

    def __init__(self, at_once: int, waiting: int, seconds: float) -> None:
        self._at_once, self._waiting, self.seconds = at_once, waiting, seconds
        self._of_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Queue]] = (
            weakref.WeakKeyDictionary()
        )

    @contextlib.asynccontextmanager
    async def enter(self, name: str) -> AsyncIterator[None]:
        """Wait for a slot of a name and take it.

        Raises: Busy.
        """
        queues = self._of_loop.setdefault(asyncio.get_running_loop(), {})
        queue = queues.setdefault(name, _Queue())
        await self._place(queue)
        try:
            yield
        finally:
            queue.leave()
            if not queue.inside:
                queues.pop(name, None)

    async def _place(self, queue: "_Queue") -> None:
        if queue.inside < self._at_once:
            queue.inside += 1
            return
        if len(queue.waiting) >= self._waiting:
            queue.take_one().set_exception(Busy())
        turn = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        try:
            async with asyncio.timeout(self.seconds):
                await turn
        except BaseException as error:
            if turn in queue.waiting:
                queue.waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                queue.leave()  # the slot was granted at the moment the caller gave up
            if isinstance(error, TimeoutError):
                raise Busy from error
            raise


class _Queue:
    def __init__(self) -> None:
        self.inside = 0
        self.waiting: list[asyncio.Future[None]] = []

    def take_one(self) -> "asyncio.Future[None]":
        return self.waiting.pop(random.randrange(len(self.waiting)))

    def leave(self) -> None:
        """Pass the slot to a waiting caller, or free it."""
        while self.waiting:
            turn = self.take_one()
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
