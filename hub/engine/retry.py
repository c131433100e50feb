"""Durations, backoff and retry policies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hub.engine.errors import RuleError
from hub.engine.parsing import parse_digits

_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


_MAX_CHARACTERS = 100
_LONGEST = 2**63 / 1e9  # seconds; Go stores a duration as nanoseconds in 64 bits


def parse_duration(text: Any, field: str = "duration") -> timedelta:
    """Parse a Go duration such as "1h30m", or a number of seconds.

    Raises: RuleError naming the field.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _time(text, field)
    value = str(text).strip()
    seconds = parse_digits(value)
    if seconds is not None:
        return _time(seconds, field)
    parts = _DURATION.findall(value) if len(value) <= _MAX_CHARACTERS else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise RuleError(
            f"{field}: {value[:100]!r} is not a duration; write one like 30s, 5m or 1h30m"
        )
    return _time(sum(float(number) * _SECONDS[unit] for number, unit in parts), field)


def _time(seconds: float, field: str) -> timedelta:
    if not -_LONGEST <= seconds <= _LONGEST:
        raise RuleError(f"{field}: a duration must be shorter than 292 years")
    return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Backoff:
    """A delay that grows by a factor with each attempt, up to a maximum."""

    first: timedelta
    factor: float
    ceiling: timedelta

    def delay(self, attempt: int) -> timedelta:
        """Return how long to wait before attempt number `attempt`, counted from 0."""
        try:
            seconds = self.first.total_seconds() * self.factor**attempt
        except OverflowError:
            return self.ceiling
        return min(timedelta(seconds=min(seconds, 1e8)), self.ceiling)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed operation is retried."""

    limit: int
    backoff: Backoff
    refresh: bool = False

    def allows(self, retries: int) -> bool:
        """Return whether one more retry is allowed; a negative limit means no limit."""
        return self.limit < 0 or retries < self.limit


DEFAULT_BACKOFF = Backoff(timedelta(seconds=5), 2, timedelta(minutes=3))
SELF_HEAL_BACKOFF = Backoff(timedelta(seconds=2), 3, timedelta(seconds=300))


def retry_policy(spec: Mapping[str, Any] | None, *, default_limit: int) -> RetryPolicy:
    """Parse a `retry` block.

    Shapes: `{limit, backoff: {duration, factor, maxDuration}, refresh}`.

    Raises: RuleError naming the field.
    Source: as Argo CD 3.6: 5 s, doubled each time, at most 3 minutes; 5 retries for automated
        syncs.
    """
    spec = spec or {}
    backoff = spec.get("backoff") or {}
    try:
        factor = float(backoff.get("factor") or DEFAULT_BACKOFF.factor)
        limit = int(spec.get("limit", default_limit) or 0)
    except (TypeError, ValueError) as error:
        raise RuleError(f"retry: limit and backoff.factor must be numbers ({error})") from error
    return RetryPolicy(
        limit=limit,
        backoff=Backoff(
            parse_duration(backoff.get("duration") or "5s", "retry.backoff.duration"),
            factor,
            parse_duration(backoff.get("maxDuration") or "3m", "retry.backoff.maxDuration"),
        ),
        refresh=bool(spec.get("refresh")),
    )
