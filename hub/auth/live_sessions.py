"""Who looks at the pages of this process: sessions and rights are asked anew every few seconds, for all in one go."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from channels.db import database_sync_to_async

from hub.access.decisions import Caller, bearing, look_again, policies
from hub.auth.verification import verify_all
from hub.events.shared_work import Gathering

CHECK_SECONDS = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of a visitor."""

    caller: Caller | None
    """None when nobody is signed in by that token any more."""
    policies: object
    """Equal to that of another look when the policies are the same."""
    bearing: object
    """Equal to that of another look when what the policies say of this caller is the same."""


class Visitor(Protocol):
    """One who looks, and is told who it is."""

    token: str
    person: int
    """The account, by its row."""

    def found(self, look: Look | None) -> None:
        """Take who it is now; None when that could not be asked."""


class Visitors(Gathering[Visitor]):
    """All who look."""

    def count(self, person: int) -> int:
        """Return how many visitors are one person."""
        return sum(visitor.person == person for visitor in self.members)

    async def work(self) -> None:
        """Say again and again who everybody is."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            visitors = self.members
            looks: dict[str, Look] = {}
            try:
                looks = await database_sync_to_async(look_at)(
                    {visitor.token for visitor in visitors}
                )
            except Exception:  # nobody may look on whose session cannot be checked
                log.warning("the sessions of open pages cannot be checked", exc_info=True)
            for visitor in visitors:
                visitor.found(looks.get(visitor.token))


def look_at(tokens: set[str]) -> dict[str, Look]:
    """Return who speaks by each token, and the policies by which that is decided."""
    look_again()
    callers = verify_all(tokens)
    now = policies()
    return {
        token: Look(caller, now, bearing(caller.rights) if caller else None)
        for token, caller in callers.items()
    }


VISITORS = Visitors()
