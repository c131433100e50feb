"""Work that goes on in the event loop while there is anybody for whom it is done."""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Gathering(ABC, Generic[Member]):
    """Members, and a task while there are some."""

    def __init__(self) -> None:
        self._members: set[Member] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def members(self) -> list[Member]:
        """Who is there now."""
        return list(self._members)

    def enter(self, member: Member) -> None:
        """Let one in, from the loop that runs now."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Another loop than before: that one's task is gone with it.
            self._members, self._task, self._loop = set(), None, loop
        self._members.add(member)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self.work())

    def leave(self, member: Member) -> None:
        """Let one out; with the last one the work ends."""
        self._members.discard(member)
        if not self._members and self._task is not None:
            self._task.cancel()
            self._task = None

    @abstractmethod
    async def work(self) -> None:
        """Go on until the task is ended."""
