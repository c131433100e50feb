"""A fair queue for renderers, with places shared between projects and a time budget for each.

No project can hold all places, waiting renders are served round robin by project, and a project
that has used up its budget waits until it recovers. A project that renders endlessly therefore
only delays itself.

Renders for a user's request are charged to that user, since a reader of an application must not
use up its project's budget.
"""

import contextlib
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from hub.base.metrics import RENDER_REFUSED, RENDER_WAIT, RENDERERS_BUSY
from hub.engine.errors import RetryLater

BUSY, SPENT = "RenderersBusy", "RenderTimeUsed"
REFUSALS = (BUSY, SPENT)
"""Reasons for refusing a render that are unrelated to its source."""
_SLOW_SECONDS = 2.0
_POLL_SECONDS = 0.25
_BY = "@"
"""Separates project and user; project names do not contain it."""


def queue_owner(project: str, person: str) -> str:
    """Return the owner to charge: a user within a project, or the project itself."""
    return f"{project}{_BY}{person}" if person else project


def _named(owner: str) -> str:
    project, _, person = owner.partition(_BY)
    return f"user {person} in project '{project}'" if person else f"project '{project}'"


@dataclass(frozen=True, slots=True)
class Limits:
    """The number of places, and the rendering budget of a project in a period.

    Units: seconds. `wait` is the maximum time to wait for a place.
    """

    places: int
    budget: float
    period: float
    wait: float = 30.0

    @property
    def maximum(self) -> int:
        """The maximum number of places for one project."""
        return max(1, self.places - 1)


@dataclass(eq=False)
class _Turn:
    asked: float
    began: float | None = None
    """When it was assigned a place, None while it waits."""


@dataclass
class _Owner:
    turns: deque[_Turn] = field(default_factory=deque)
    since: list[float] = field(default_factory=list)
    """The start times of its running renders."""
    used: float = 0.0
    at: float = 0.0


class RenderQueue:
    """Assigns places to renders, project by project."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        clock: Callable[[], float] = time.monotonic,
        admitted: Callable[[str, float], None] | None = None,
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        """Set the limits, the clock and an observer of assigned places.

        Shapes: `admitted` gets the project and the seconds it waited, while the queue is locked.
            `work` returns the CPU time of the thread.
        """
        self._work = work
        self._limits, self._clock = limits, clock
        self._admitted = admitted
        self._changed = threading.Condition()
        self._owners: OrderedDict[str, _Owner] = OrderedDict()
        """Owners from the least to the most recently served."""

    @property
    def places(self) -> int:
        """The number of places."""
        return self._limits().places

    @contextlib.contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Hold a place during the block; the time is charged to the owner.

        Raises: RetryLater if the budget is used up, if the owner's slow renders hold all places
            available to it, or if no place became free in time.
        """
        limits = self._limits()
        place = self._enter(owner, limits)
        try:
            yield
        finally:
            self._leave(owner, place, limits)

    @contextlib.contextmanager
    def charge(self, owner: str) -> Iterator[None]:
        """Charge the CPU time of the block to the owner.

        Raises: RetryLater if the budget is used up.
        """
        limits = self._limits()
        with self._changed:
            mine = self._owners.setdefault(owner, _Owner(at=self._clock()))
            self._require_budget(owner, mine, limits)
            self._forget(owner)
        began = self._work()
        try:
            yield
        finally:
            with self._changed:
                mine = self._owners.setdefault(owner, _Owner(at=self._clock()))
                self._recover(mine, limits)
                mine.used += self._work() - began
                self._forget(owner)

    def _enter(self, owner: str, limits: Limits) -> float:
        with self._changed:
            mine = self._owners.setdefault(owner, _Owner(at=self._clock()))
            self._require_budget(owner, mine, limits)
            turn = _Turn(self._clock())
            mine.turns.append(turn)
            until = self._clock() + limits.wait
            self._admit(limits)
            try:
                while turn.began is None:
                    self._require_patience(owner, mine, limits, until)
                    self._changed.wait(_POLL_SECONDS)
            except RetryLater:
                mine.turns.remove(turn)
                self._forget(owner)
                raise
            return turn.began

    def _leave(self, owner: str, began: float, limits: Limits) -> None:
        with self._changed:
            mine = self._owners[owner]
            self._recover(mine, limits)
            mine.used += self._clock() - began
            mine.since.remove(began)
            RENDERERS_BUSY.dec()
            self._admit(limits)
            self._forget(owner)

    def _admit(self, limits: Limits) -> None:
        """Assign free places: round robin by project, first come, first served within a project."""
        while sum(len(o.since) for o in self._owners.values()) < limits.places:
            ready = (
                name
                for name, waiting in self._owners.items()
                if waiting.turns and self._slots_of(name) < limits.maximum
            )
            name = next(ready, None)
            if name is None:
                break
            chosen = self._owners[name]
            turn = chosen.turns.popleft()
            turn.began = self._clock()
            chosen.since.append(turn.began)
            self._owners.move_to_end(name)
            self._observe(name, turn.began - turn.asked)
        self._changed.notify_all()

    def _slots_of(self, owner: str) -> int:
        """Return the number of places that an owner holds; for a user, in all projects together."""
        _, _, person = owner.partition(_BY)
        if not person:
            return len(self._owners[owner].since)
        return sum(len(o.since) for n, o in self._owners.items() if n.partition(_BY)[2] == person)

    def _observe(self, name: str, waited: float) -> None:
        RENDERERS_BUSY.inc()
        RENDER_WAIT.observe(waited)
        if self._admitted is not None:
            self._admitted(name, waited)

    def _require_budget(self, owner: str, mine: _Owner, limits: Limits) -> None:
        self._recover(mine, limits)
        if mine.used < limits.budget:
            return
        seconds = (mine.used - limits.budget) * limits.period / limits.budget + 5
        self._refuse(
            SPENT,
            seconds,
            f"{_named(owner)} has used its {limits.budget:.0f} s of rendering in "
            f"{limits.period / 60:.0f} minutes; rendering continues when the budget has recovered. "
            "HUB_RENDER_BUDGET sets the budget",
        )

    def _require_patience(self, owner: str, mine: _Owner, limits: Limits, until: float) -> None:
        now = self._clock()
        if len(mine.since) >= limits.maximum and now - max(mine.since) > _SLOW_SECONDS:
            self._refuse(
                BUSY,
                10,
                f"slow renders of {_named(owner)} hold all the renderers that one project may use "
                f"({limits.maximum} of {limits.places}); "
                "rendering continues when one of them has finished",
            )
        if now >= until:
            self._refuse(
                BUSY,
                10,
                f"no renderer became free for {limits.wait:.0f} s; the render will be retried. "
                "HUB_RENDERERS sets the number of renderers",
            )

    def _refuse(self, reason: str, seconds: float, message: str) -> None:
        RENDER_REFUSED.labels(reason).inc()
        # Jitter, so that not all retry at the same time.
        raise RetryLater(reason, message, timedelta(seconds=seconds * (1 + random.random() / 2)))

    def _recover(self, mine: _Owner, limits: Limits) -> None:
        now = self._clock()
        mine.used = max(0.0, mine.used - (now - mine.at) * limits.budget / limits.period)
        mine.at = now

    def _forget(self, owner: str) -> None:
        mine = self._owners[owner]
        if not mine.turns and not mine.since and mine.used <= 0:
            del self._owners[owner]
