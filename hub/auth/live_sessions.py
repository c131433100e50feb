"""Check the sessions and rights behind open pages every few seconds, in one query."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from channels.db import database_sync_to_async

from hub.access.decisions import Caller, bearing, policies, reload_policies
from hub.auth.verification import verify_all
from hub.events.shared_work import Gathering

CHECK_SECONDS = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionState:
    """The session and rights found for a visitor."""

    caller: Caller | None
    """None when the token is no longer valid."""
    policies: object
    """Compares equal between checks while the policies are unchanged."""
    bearing: object
    """Compares equal between checks while the rules for this caller are unchanged."""


class Visitor(Protocol):
    """An open page, which is notified of the state of its session."""

    token: str
    person: int
    """The primary key of the account."""

    def session_checked(self, state: SessionState | None) -> None:
        """Handle the state of the session; None when it could not be checked."""


class Visitors(Gathering[Visitor]):
    """All open pages."""

    def count(self, person: int) -> int:
        """Return how many pages an account has open."""
        return sum(visitor.person == person for visitor in self.members)

    async def work(self) -> None:
        """Check all sessions every few seconds, and notify their pages."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            visitors = self.members
            states: dict[str, SessionState] = {}
            try:
                states = await database_sync_to_async(check_sessions)(
                    {visitor.token for visitor in visitors}
                )
            except Exception:  # pages must close when their sessions cannot be checked
                log.warning("the sessions of open pages cannot be checked", exc_info=True)
            for visitor in visitors:
                visitor.session_checked(states.get(visitor.token))


def check_sessions(tokens: set[str]) -> dict[str, SessionState]:
    """Return the caller of each token, and the policies that decide its rights."""
    reload_policies()
    callers = verify_all(tokens)
    now = policies()
    return {
        token: SessionState(caller, now, bearing(caller.rights) if caller else None)
        for token, caller in callers.items()
    }


VISITORS = Visitors()
