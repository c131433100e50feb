"""Check the sessions and rights behind open pages every few seconds, in one query."""

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
    """The session and rights found for a visitor."""

    caller: Caller | None
    """None when nobody is signed in by that token any more."""
    policies: object
    """Compares equal between checks while the policies are unchanged."""
    bearing: object
    """Compares equal between checks while the rules for this caller are unchanged."""


class Visitor(Protocol):
    """An open page, which is notified of its current session."""

    token: str
    person: int
    """The account, by its row."""

    def found(self, look: Look | None) -> None:
        """Take the current session; None when it could not be checked."""


class Visitors(Gathering[Visitor]):
    """All open pages."""

    def count(self, person: int) -> int:
        """Return how many pages one person has open."""
        return sum(visitor.person == person for visitor in self.members)

    async def work(self) -> None:
        """Check all sessions again and again, and notify their pages."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            visitors = self.members
            looks: dict[str, Look] = {}
            try:
                looks = await database_sync_to_async(look_at)(
                    {visitor.token for visitor in visitors}
                )
            except Exception:  # pages must close when their sessions cannot be checked
                log.warning("the sessions of open pages cannot be checked", exc_info=True)
            for visitor in visitors:
                visitor.found(looks.get(visitor.token))


def look_at(tokens: set[str]) -> dict[str, Look]:
    """Return the caller of each token, and the policies that decide its rights."""
    look_again()
    callers = verify_all(tokens)
    now = policies()
    return {
        token: Look(caller, now, bearing(caller.rights) if caller else None)
        for token, caller in callers.items()
    }


VISITORS = Visitors()
