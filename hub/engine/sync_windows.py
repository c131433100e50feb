"""Sync windows: when a project's applications may be synced.

Source: as Argo CD 3.6's syncWindows. A window is active from each time of its schedule for its
duration, in its time zone. An active deny window blocks; otherwise an active allow window permits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from hub.engine.errors import RuleError
from hub.engine.globs import GlobError, check_all, check_count, compiled
from hub.engine.retry import parse_duration

_MAX_TIMES = 5000
_LONGEST_SCHEDULE = 256
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Window:
    """A window that applies to an application."""

    spec: Mapping[str, Any]
    is_active: bool
    starts_at: datetime | None = None
    """When it becomes active next."""
    ends_at: datetime | None = None
    """When it ends, if it is active."""
    problem: str = ""

    @property
    def is_allow(self) -> bool:
        """Whether it is an allow window."""
        return self.spec.get("kind") == "allow"


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of an application at one time."""

    assigned: tuple[Window, ...] = ()

    @property
    def active(self) -> tuple[Window, ...]:
        """The windows that are active."""
        return tuple(w for w in self.assigned if w.is_active)

    def can_sync(self, *, manual: bool, could_at_start: bool | None = None) -> bool:
        """Return whether a sync may run; an invalid window blocks.

        Shapes: `could_at_start` tells for a running operation whether it was permitted to start.
        """
        if any(w.problem for w in self.assigned):
            return False
        denies = [w for w in self.active if not w.is_allow]
        if denies:
            return self._excused(denies, manual=manual, could_at_start=could_at_start)
        if any(w.is_allow for w in self.active):
            return True
        waiting = [w for w in self.assigned if w.is_allow]
        return not waiting or self._excused(waiting, manual=manual, could_at_start=could_at_start)

    @staticmethod
    def _excused(windows: Sequence[Window], *, manual: bool, could_at_start: bool | None) -> bool:
        if manual and all(w.spec.get("manualSync") for w in windows):
            return True
        return bool(could_at_start) and all(w.spec.get("syncOverrun") for w in windows)

    def reopens_at(self) -> datetime | None:
        """Return the earliest time at which the result may change."""
        moments = [w.ends_at if w.is_active else w.starts_at for w in self.assigned]
        return min((m for m in moments if m is not None), default=None)


def windows_for(
    windows: Sequence[Any], *, name: str, namespace: str, cluster: tuple[str, str], now: datetime
) -> Windows:
    """Return the windows that apply to an application.

    Shapes: `cluster` is the destination's (name, server), `namespace` the destination's.
    """
    found = list[Window]()
    for window in windows:
        try:
            if _concerns(window, name, namespace, cluster):
                found.append(_at(window, now))
        except (GlobError, AttributeError, TypeError) as error:
            # Stored without validation: it may apply to anyone, so it blocks everyone.
            spec = window if isinstance(window, Mapping) else {}
            found.append(Window(spec, is_active=False, problem=f"the window is invalid: {error}"))
    return Windows(tuple(found))


def active_windows(windows: Sequence[Any], now: datetime) -> list[Mapping[str, Any]]:
    """Return a project's active windows, for any application."""
    if not isinstance(windows, list):
        return []
    return [w for w in windows if isinstance(w, Mapping) and _at(w, now).is_active]


def spans(
    window: Mapping[str, Any], start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the intervals in which a window is active, with overlapping ones merged.

    Raises: RuleError for an invalid schedule, duration or time zone.
    """
    duration = parse_duration(str(window.get("duration") or ""), "duration")
    place, schedule = zone(window.get("timeZone")), str(window.get("schedule") or "")
    found: list[tuple[datetime, datetime]] = []
    at = _next(schedule, start - duration, place)
    for _ in range(_MAX_TIMES):
        if at is None or at >= end:
            break
        if found and at <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], min(at + duration, end)))
        else:
            found.append((max(at, start), min(at + duration, end)))
        at = _next(schedule, at, place)
    return found


def _concerns(
    window: Mapping[str, Any], name: str, namespace: str, cluster: tuple[str, str]
) -> bool:
    hits = []
    for field, values in (
        ("applications", (name,)),
        ("clusters", cluster),
        ("namespaces", (namespace,)),
    ):
        patterns = window.get(field) or []
        if patterns:
            hits.append(any(compiled(p)(value) for p in patterns for value in values))
    return (all(hits) if window.get("andOperator") else any(hits)) if hits else False


def _at(window: Mapping[str, Any], now: datetime) -> Window:
    try:
        duration = parse_duration(str(window.get("duration") or ""), "duration")
        place, schedule = zone(window.get("timeZone")), str(window.get("schedule") or "")
        begun = _next(schedule, now - duration, place)
        if begun is not None and begun < now:
            # Overlapping times of one schedule form one window, which ends with the last.
            last = begun
            for _ in range(_MAX_TIMES):
                after = _next(schedule, last, place)
                if after is None or after >= now:
                    break
                last = after
            return Window(window, is_active=True, ends_at=last + duration)
        return Window(window, is_active=False, starts_at=_next(schedule, now, place))
    except RuleError as error:
        return Window(window, is_active=False, problem=str(error))


def zone(name: Any) -> ZoneInfo:
    """Return a time zone, UTC by default.

    Raises: RuleError for one that does not exist.
    """
    try:
        return ZoneInfo(str(name or "UTC"))
    except (KeyError, ValueError, OSError) as error:
        raise RuleError(
            f"timeZone: {name!r} is not a time zone; use one like Europe/Berlin"
        ) from error


def _next(schedule: str, after: datetime, place: ZoneInfo) -> datetime | None:
    """Return the next time of a schedule, in UTC.

    Only here is the local time zone used, since arithmetic in it would ignore clock changes.
    """
    if len(schedule) > _LONGEST_SCHEDULE:
        raise RuleError(f"schedule: must not be longer than {_LONGEST_SCHEDULE} characters")
    text = _NAMED.get(schedule.strip(), schedule.strip()).replace("?", "*")
    if len(text.split()) != 5:
        raise RuleError(f"schedule: {schedule!r} must have 5 fields: minute hour day month weekday")
    try:
        found = next(CronSim(text, after.astimezone(place)), None)
        return found.astimezone(UTC) if found else None
    except CronSimError as error:
        raise RuleError(f"schedule: {schedule!r} is invalid: {error}") from error


def check_windows(windows: Any) -> None:
    """Check a project's windows.

    Raises: RuleError naming the field, with Argo CD's message where it has one.
    """
    seen: set[tuple[Any, ...]] = set()
    check_count(windows or [], "spec.syncWindows")
    for number, window in enumerate(windows or []):
        where = f"spec.syncWindows[{number}]"
        if not isinstance(window, dict):
            raise RuleError(f"{where} must be an object")
        kind, schedule, duration = (
            str(window.get(f) or "") for f in ("kind", "schedule", "duration")
        )
        if kind not in ("allow", "deny"):
            raise RuleError(f"{where}.kind: kind '{kind}' mismatch: can only be allow or deny")
        _check_selectors(window, where)
        if not any(window.get(f) for f in ("applications", "namespaces", "clusters")):
            raise RuleError(
                f"window '{kind}':'{schedule}':'{duration}' "
                "requires one of application, cluster or namespace"
            )
        try:
            zone(window.get("timeZone"))
            _check_duration(duration)
            _next(schedule, datetime(2026, 1, 1, tzinfo=UTC), zone(None))
        except RuleError as error:
            raise RuleError(f"{where}: {error}") from error
        identity = (
            kind,
            schedule,
            duration,
            window.get("timeZone") or "UTC",
            bool(window.get("andOperator")),
            *(tuple(window.get(f) or ()) for f in ("applications", "namespaces", "clusters")),
        )
        if identity in seen:
            raise RuleError(
                f"sync window with kind '{kind}', schedule '{schedule}', "
                f"and duration '{duration}' already exists"
            )
        seen.add(identity)


def _check_duration(text: str) -> None:
    if parse_duration(text, "duration") <= timedelta():
        raise RuleError("duration must be greater than 0")


def _check_selectors(window: Mapping[str, Any], where: str) -> None:
    for field in ("applications", "namespaces", "clusters"):
        words = window.get(field)
        if words is not None and not (
            isinstance(words, list) and all(isinstance(w, str) for w in words)
        ):
            raise RuleError(f"{where}.{field} must be a list of strings")
        check_all(words, f"{where}.{field}")
