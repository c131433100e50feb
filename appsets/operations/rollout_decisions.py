"""Decide which applications of a progressive sync start now: values in, values out.

Decisions compare the target of an application with its observed state, never the clocks of
different machines; only a soak time is measured, from the first observation that a step is done.
Source: as Argo CD 3.6's RollingSync; soak, halt, pause and abort are ours.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from hub.engine.errors import RuleError
from hub.engine.parsing import parse_digits
from hub.engine.retry import parse_duration

WAITING, PENDING, PROGRESSING, HEALTHY = "Waiting", "Pending", "Progressing", "Healthy"
NOWHERE = -1
OPERATORS = ("In", "NotIn")
UNSETTLED = timedelta(seconds=1)


class Step(NamedTuple):
    """A step: its selector, its concurrency, its soak time, and how many may be degraded."""

    expressions: tuple[Mapping[str, Any], ...]
    maximum: int | str | None = None
    soak: timedelta = timedelta(0)
    bad: int | str | None = None

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether all expressions match; a missing label matches NotIn."""
        return all(
            (labels.get(e["key"]) in e["values"]) == (e["operator"] == "In")
            for e in self.expressions
        )


class Seen(NamedTuple):
    """The last observed state of an application.

    Shapes: `target` is a digest of its spec and revisions; `is_synced` refers to that target, not
        to an earlier one; `is_bad` is Degraded, or a sync to the target that failed for good;
        without `is_settled` a refresh is due that may change the target, and later steps wait for
        it.
    """

    name: str
    labels: Mapping[str, str]
    target: str
    is_known: bool = True
    """Compared with its target at least once, without an error."""
    is_synced: bool = False
    is_healthy: bool = False
    is_running: bool = False
    is_bad: bool = False
    is_settled: bool = True


class Entry(NamedTuple):
    """The progress of an application."""

    name: str
    step: int
    """From 1; -1 if no step selects it."""
    status: str
    target: str
    message: str
    started: bool = False
    """A sync was started for the target."""


@dataclass(frozen=True, slots=True)
class Requested:
    """The requests of users for a rollout."""

    paused: bool = False
    aborted: Mapping[str, str] = field(default_factory=dict)
    """Application → the target that it must not be synced to."""
    advanced: Mapping[int, str] = field(default_factory=dict)
    """Step → the digest of its targets that may be synced without a limit."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A decision: the progress of each application, and the syncs to start."""

    entries: tuple[Entry, ...]
    start: tuple[str, ...]
    step: int
    """The first step that is not done, from 1; 0 if all are."""
    since: Mapping[int, tuple[str, datetime]]
    """Step → the digest of its targets and since when they are observed to run."""
    waits: str = ""
    """The message that says what the step waits for."""
    is_halted: bool = False
    poll_at: datetime | None = None


def is_rolling(spec: Mapping[str, Any]) -> bool:
    """Return whether a set syncs its applications in steps."""
    return (spec.get("strategy") or {}).get("type") == "RollingSync"


def is_reverse(spec: Mapping[str, Any]) -> bool:
    """Return whether a set's applications are deleted in the reverse order of its steps."""
    order = str((spec.get("strategy") or {}).get("deletionOrder") or "")
    return is_rolling(spec) and order.lower() == "reverse"


def steps_of(spec: Mapping[str, Any]) -> list[Step]:
    """Return the steps of a set.

    Shapes: beyond Argo CD's `strategy.rollingSync.steps`, `spec.flotilla.rollout` holds `soak` (a
        duration) and `maxDegraded` (count or percent) for all steps, and `steps`, the same by
        position.
    Raises: RuleError naming the field.
    """
    where = "spec.strategy.rollingSync.steps"
    rolling = (spec.get("strategy") or {}).get("rollingSync")
    found = rolling.get("steps") if isinstance(rolling, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(s, Mapping) for s in found):
        raise RuleError(f"{where} must be a list of objects")
    ours = (spec.get("flotilla") or {}).get("rollout") or {}
    if not isinstance(ours, Mapping) or not isinstance(ours.get("steps") or [], list):
        raise RuleError("spec.flotilla.rollout must be an object with soak, maxDegraded and steps")
    own = ours.get("steps") or []
    if len(own) > len(found):
        raise RuleError(
            f"spec.flotilla.rollout.steps has {len(own)} entries for {len(found)} steps"
        )
    return [
        _step(
            s,
            f"{where}[{n}]",
            {**ours, **(own[n] if n < len(own) and isinstance(own[n], Mapping) else {})},
        )
        for n, s in enumerate(found)
    ]


def _step(entry: Mapping[str, Any], where: str, ours: Mapping[str, Any]) -> Step:
    expressions = entry.get("matchExpressions") or []
    for number, one in enumerate(expressions):
        place = f"{where}.matchExpressions[{number}]"
        if (
            not isinstance(one, Mapping)
            or not isinstance(one.get("key"), str)
            or not isinstance(one.get("values"), list)
        ):
            raise RuleError(f"{place} must have key and values")
        if one.get("operator") not in OPERATORS:
            raise RuleError(f"{place}.operator must be In or NotIn, not {one.get('operator')!r}")
    maximum = _count(entry.get("maxUpdate"), f"{where}.maxUpdate")
    soak = (
        parse_duration(str(ours["soak"]), "spec.flotilla.rollout.soak")
        if ours.get("soak")
        else timedelta(0)
    )
    return Step(
        tuple(expressions),
        maximum,
        soak,
        _count(ours.get("maxDegraded"), "spec.flotilla.rollout.maxDegraded"),
    )


def _count(value: Any, where: str) -> int | str | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    text = str(value)
    count = parse_digits(text)
    if count is not None:
        return count
    percent = parse_digits(text.removesuffix("%"), 3)
    if text.endswith("%") and percent is not None and percent <= 100:
        return text
    raise RuleError(
        f"{where} must be a whole number or a percentage such as 20%, not {text[:40]!r}"
    )


def limit_of(value: int | str | None, total: int, *, least: int = 1) -> int:
    """Return a count or percentage of `total`; a percentage rounds down, but not below `least`."""
    if value is None:
        return total
    if isinstance(value, int):
        return value
    percent = int(value[:-1])
    return max(least, total * percent // 100) if percent else 0


def unclear(steps: Sequence[Step], apps: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Return the problem of steps with the applications that they select, or ""."""
    for name, labels in apps:
        hits = [n for n, s in enumerate(steps, 1) if s.selects(labels)]
        if len(hits) > 1:
            return (
                f"Application '{name}' is selected by multiple steps: ({'-'.join(map(str, hits))})"
            )
    empty = [n for n, s in enumerate(steps, 1) if not any(s.selects(labels) for _, labels in apps)]
    return (
        f"Steps [{' '.join(map(str, empty))}] have no applications matching their criteria"
        if empty
        else ""
    )


def step_number(steps: Sequence[Step], labels: Mapping[str, str]) -> int:
    """Return the first step that selects an application, from 1, or -1."""
    return next((n for n, s in enumerate(steps, 1) if s.selects(labels)), NOWHERE)


def digest_of(seen: Sequence[Seen]) -> str:
    """Return a digest of the targets of some applications."""
    return hashlib.sha256(repr(sorted((s.name, s.target) for s in seen)).encode()).hexdigest()[:16]


def decide(
    steps: Sequence[Step],
    seen: Sequence[Seen],
    before: Mapping[str, Entry],
    requested: Requested,
    since: Mapping[int, tuple[str, datetime]],
    now: datetime,
    missing: Sequence[Mapping[str, str]] = (),
) -> Rollout:
    """Return the progress of each application, and the syncs to start.

    Shapes: `missing` are the labels of generated applications that do not exist: their step is not
        done.
    """
    entries = {
        s.name: _entry(before.get(s.name), s, step_number(steps, s.labels), requested)
        for s in sorted(seen, key=lambda s: s.name)
    }
    after: dict[int, tuple[str, datetime]] = {}
    for number, step in enumerate(steps, 1):
        members = [s for s in seen if step.selects(s.labels)]
        absent = any(step.selects(labels) for labels in missing)
        if _is_done(entries, members) and not absent:
            mark = digest_of(members)
            known = since.get(number)
            at = known[1] if known and known[0] == mark else now
            after[number] = (mark, at)
            if not members or now - at >= step.soak:
                continue
            return Rollout(
                tuple(entries.values()),
                (),
                number,
                after,
                f"step {number} is healthy and soaks until {at + step.soak:%Y-%m-%d %H:%M:%S} UTC",
                poll_at=at + step.soak,
            )
        # A refresh without a change publishes nothing, so the rollout polls.
        unsettled = None if all(s.is_settled for s in members) else now + UNSETTLED
        return _opened(entries, number, step, members, requested, after, unsettled)
    return Rollout(tuple(entries.values()), (), 0, after)


def _is_done(entries: Mapping[str, Entry], members: Sequence[Seen]) -> bool:
    return all(entries[s.name].status == HEALTHY and s.is_settled and not s.is_bad for s in members)


def _entry(before: Entry | None, seen: Seen, step: int, requested: Requested) -> Entry:
    entry = before or Entry(
        seen.name,
        step,
        WAITING,
        seen.target,
        "No Application status found, defaulting status to Waiting",
    )
    entry = entry._replace(step=step)
    if entry.target != seen.target:
        entry = Entry(
            seen.name,
            step,
            WAITING,
            seen.target,
            "Application has pending changes, setting status to Waiting",
        )
    is_well = seen.is_known and seen.is_synced and seen.is_healthy and not seen.is_running
    if entry.status == HEALTHY:
        return entry
    if is_well:
        return entry._replace(
            status=HEALTHY,
            message=(
                f"Application resource became Healthy, updating status from {entry.status} "
                "to Healthy"
            ),
        )
    if requested.aborted.get(seen.name) == seen.target and not (seen.is_running or seen.is_synced):
        return entry._replace(
            status=WAITING,
            started=False,
            message="The rollout was aborted before this Application was synced",
        )
    if entry.status == PENDING and entry.started:
        return entry._replace(
            status=PROGRESSING,
            message=(
                "Application resource became Progressing, updating status from Pending to "
                "Progressing"
            ),
        )
    if entry.status == WAITING and seen.is_known and seen.is_synced:
        return entry._replace(
            status=PROGRESSING,
            message=(
                "Application resource is already Synced, updating status from Waiting to "
                "Progressing"
            ),
        )
    return entry


def _opened(
    entries: dict[str, Entry],
    number: int,
    step: Step,
    members: Sequence[Seen],
    requested: Requested,
    since: Mapping[int, tuple[str, datetime]],
    unsettled: datetime | None,
) -> Rollout:
    """Start the syncs that the current step permits."""
    own = [s for s in members if entries[s.name].step == number]
    bad = [s for s in own if s.is_bad and entries[s.name].status != WAITING]
    is_halted = step.bad is not None and len(bad) > limit_of(step.bad, len(own), least=0)
    start: list[str] = []
    if not (requested.paused or is_halted):
        maximum = limit_of(step.maximum, len(own))
        if requested.advanced.get(number) == digest_of(members):
            maximum = len(own)
        busy = sum(entries[s.name].status in (PENDING, PROGRESSING) for s in own)
        for one in sorted(own, key=lambda s: s.name):
            entry = entries[one.name]
            if entry.status == PENDING and one.is_known and not one.is_running:
                start.append(one.name)
            elif (
                entry.status == WAITING
                and busy < maximum
                and one.is_known
                and requested.aborted.get(one.name) != one.target
                and not one.is_running
            ):
                busy += 1
                entries[one.name] = entry._replace(
                    status=PENDING,
                    message=(
                        "Application moved to Pending status, watching for the Application "
                        "resource to start Progressing"
                    ),
                )
                start.append(one.name)
    waits = _waits(entries, number, step, own, bad, requested, is_halted=is_halted)
    return Rollout(
        tuple(entries.values()), tuple(start), number, since, waits, is_halted, unsettled
    )


def _waits(
    entries: Mapping[str, Entry],
    number: int,
    step: Step,
    own: Sequence[Seen],
    bad: Sequence[Seen],
    requested: Requested,
    *,
    is_halted: bool,
) -> str:
    if is_halted:
        names = ", ".join(sorted(s.name for s in bad)[:5])
        return (
            f"step {number} is halted: {len(bad)} of {len(own)} applications are Degraded "
            f"or failed ({names}), more than {step.bad}"
        )
    if requested.paused:
        return f"step {number} is paused"
    if any(requested.aborted.get(s.name) == s.target for s in own):
        return f"step {number} was aborted; a new revision or `resume` goes on"
    broken = sorted(s.name for s in own if not s.is_known)
    if broken:
        return f"step {number} waits for {', '.join(broken[:5])} to be compared"
    if (
        step.maximum is not None
        and limit_of(step.maximum, len(own)) == 0
        and any(entries[s.name].status == WAITING for s in own)
    ):
        return f"step {number} waits to be synced by hand, or to be advanced"
    busy = sorted(
        s.name for s in own if entries[s.name].status != HEALTHY or s.is_bad or not s.is_settled
    )
    return f"step {number} waits for {', '.join(busy[:5])}" + (
        f" and {len(busy) - 5} more" if len(busy) > 5 else ""
    )
