"""Who looks at the pages of this process: sessions and rights are asked anew every few seconds, for all in one go."""

import asyncio
import logging
from dataclasses import dataclass

from asgiref.sync import sync_to_async

from hub.access import Caller, look_again, policies
from hub.session import verify_all

CHECK_SECONDS = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of a visitor."""

    caller: Caller | None
    """None when nobody is signed in by that token any more."""
    policies: object
    """Equal to that of another look when the policies are the same."""


class Visitor:
    """One who looks, and is told who it is."""

    token: str
    person: int
    """The account, by its row."""

    def found(self, look: Look | None) -> None:
        """Take who it is now; None when that could not be asked."""
        raise NotImplementedError


class Visitors:
    """All who look, while somebody does."""

    def __init__(self) -> None:
        self._visitors: set[Visitor] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, visitor: Visitor) -> None:
        """Check a visitor from now on, from the loop that runs now."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Another loop than before: that one's task is gone with it.
            self._visitors, self._task, self._loop = set(), None, loop
        self._visitors.add(visitor)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    def count(self, person: int) -> int:
        """Return how many visitors are one person."""
        return sum(visitor.person == person for visitor in self._visitors)

    def leave(self, visitor: Visitor) -> None:
        """Check a visitor no more."""
        self._visitors.discard(visitor)
        if not self._visitors and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            visitors = list(self._visitors)
            looks: dict[str, Look] = {}
            try:
                looks = await sync_to_async(look_at)({visitor.token for visitor in visitors})
            except Exception:  # nobody may look on whose session cannot be checked
                log.warning("the sessions of open pages cannot be checked", exc_info=True)
            for visitor in visitors:
                visitor.found(looks.get(visitor.token))


def look_at(tokens: set[str]) -> dict[str, Look]:
    """Return who speaks by each token, and the policies by which that is decided."""
    look_again()
    callers = verify_all(tokens)
    now = policies()
    return {token: Look(caller, now) for token, caller in callers.items()}


VISITORS = Visitors()
