"""Who may render now: some places, shared fairly between projects, and seconds that each may use.

One project never holds all places, those who wait are served project by project, and who has used up its seconds
waits until they have come back. So a project that renders for ever delays itself.

What a person asks for in a request counts as that person's: who may only read an application must not use up what
its project has.
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
"""Reasons that say nothing about what was to be rendered."""
_SLOW_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_BY = "@"
"""Between a project and who asks; no name of a project has it."""


def queue_owner(project: str, person: str) -> str:
    """Return the owner of what a person asks of a project; that of the project's own work where there is no person."""
    return f"{project}{_BY}{person}" if person else project


def _named(owner: str) -> str:
    project, _, person = owner.partition(_BY)
    return f"what {person} asks of project '{project}'" if person else f"project '{project}'"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many places there are, and the seconds of rendering that a project may use in a period.

    Units: seconds. `wait` is how long somebody waits for a place.
    """

    places: int
    budget: float
    period: float
    wait: float = 30.0

    @property
    def most(self) -> int:
        """How many places one project may hold."""
        return max(1, self.places - 1)


@dataclass(eq=False)
class _Turn:
    asked: float
    began: float | None = None
    """When it was given a place, None while it waits."""


@dataclass
class _Owner:
    turns: deque[_Turn] = field(default_factory=deque)
    since: list[float] = field(default_factory=list)
    """When each of its running renders began."""
    used: float = 0.0
    at: float = 0.0


class RenderQueue:
    """Hands out places to render, project by project."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        clock: Callable[[], float] = time.monotonic,
        admitted: Callable[[str, float], None] | None = None,
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        """Keep the limits, the clock, and who is told of each place given out, in their order.

        Shapes: `admitted` has the project and the seconds that it waited; others wait meanwhile. `work` tells the
            processor time of the thread.
        """
        self._work = work
        self._limits, self._clock = limits, clock
        self._admitted = admitted
        self._changed = threading.Condition()
        self._owners: OrderedDict[str, _Owner] = OrderedDict()
        """The project that was served last is the last one."""

    @property
    def places(self) -> int:
        """How many places there are."""
        return self._limits().places

    @contextlib.contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Hold a place while the block runs; the time counts against the project's seconds.

        Raises: RetryLater when the project's time is used up, when its own slow renders hold all the places that
            it may have, or when none has become free for long.
        """
        limits = self._limits()
        place = self._enter(owner, limits)
        try:
            yield
        finally:
            self._leave(owner, place, limits)

    @contextlib.contextmanager
    def charge(self, owner: str) -> Iterator[None]:
        """Count what the hub itself does for a project in the block against the project's seconds.

        Raises: RetryLater when they are used up.
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
                    self._changed.wait(_LOOK_SECONDS)
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
        """Give free places to those who wait: in turn by project, in order within one."""
        while sum(len(o.since) for o in self._owners.values()) < limits.places:
            ready = (
                name
                for name, waiting in self._owners.items()
                if waiting.turns and self._held(name) < limits.most
            )
            name = next(ready, None)
            if name is None:
                break
            chosen = self._owners[name]
            turn = chosen.turns.popleft()
            turn.began = self._clock()
            chosen.since.append(turn.began)
            self._owners.move_to_end(name)
            self._tell(name, turn.began - turn.asked)
        self._changed.notify_all()

    def _held(self, owner: str) -> int:
        """Return the places of an owner; those of a person, of whatever project, count together."""
        _, _, person = owner.partition(_BY)
        if not person:
            return len(self._owners[owner].since)
        return sum(len(o.since) for n, o in self._owners.items() if n.partition(_BY)[2] == person)

    def _tell(self, name: str, waited: float) -> None:
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
            f"{_named(owner)} has used its {limits.budget:.0f} s of rendering in {limits.period / 60:.0f} minutes; "
            "this goes on by itself when they have come back. HUB_RENDER_BUDGET sets them",
        )

    def _require_patience(self, owner: str, mine: _Owner, limits: Limits, until: float) -> None:
        now = self._clock()
        if len(mine.since) >= limits.most and now - max(mine.since) > _SLOW_SECONDS:
            self._refuse(
                BUSY,
                10,
                f"slow renders of {_named(owner)} hold all the renderers that one project may have "
                f"({limits.most} of {limits.places}); this goes on by itself when one of them has ended",
            )
        if now >= until:
            self._refuse(
                BUSY,
                10,
                f"no renderer became free for {limits.wait:.0f} s; this goes on by itself. HUB_RENDERERS sets how many there are",
            )

    def _refuse(self, reason: str, seconds: float, message: str) -> None:
        RENDER_REFUSED.labels(reason).inc()
        # Not all at the same moment.
        raise RetryLater(reason, message, timedelta(seconds=seconds * (1 + random.random() / 2)))

    def _recover(self, mine: _Owner, limits: Limits) -> None:
        now = self._clock()
        mine.used = max(0.0, mine.used - (now - mine.at) * limits.budget / limits.period)
        mine.at = now

    def _forget(self, owner: str) -> None:
        mine = self._owners[owner]
        if not mine.turns and not mine.since and mine.used <= 0:
            del self._owners[owner]
