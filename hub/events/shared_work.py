"""Run work in the event loop while it has any members."""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Gathering(ABC, Generic[Member]):
    """Members, and a task that runs while there are any."""

    def __init__(self) -> None:
        self._members: set[Member] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def members(self) -> list[Member]:
        """The current members."""
        return list(self._members)

    def enter(self, member: Member) -> None:
        """Add a member, from the running loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # A new loop: the task of the previous one ended with it.
            self._members, self._task, self._loop = set(), None, loop
        self._members.add(member)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self.work())

    def leave(self, member: Member) -> None:
        """Remove a member; the work ends with the last one."""
        self._members.discard(member)
        if not self._members and self._task is not None:
            self._task.cancel()
            self._task = None

    @abstractmethod
    async def work(self) -> None:
        """Run until the task is cancelled."""
