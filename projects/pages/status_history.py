"""The number of applications by status over time, computed from status changes; pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

WIDTH, HEIGHT = 400.0, 110.0


def backwards(
    now: Mapping[str, int],
    changes: Mapping[datetime, Mapping[tuple[str, str], int]],
    born: Mapping[datetime, int],
    buckets: Sequence[datetime],
) -> list[dict[str, int]]:
    """Return the count of each status at the end of each bucket, the oldest first.

    Shapes: `changes` has the number of changes (before, after) in each bucket; `born` has the
        number of applications that were created in it.
    """
    counts = dict(now)
    result = []
    for bucket in reversed(buckets):
        result.append({word: n for word, n in counts.items() if n > 0})
        for (before, after), n in (changes.get(bucket) or {}).items():
            counts[after] = counts.get(after, 0) - n
            counts[before] = counts.get(before, 0) + n
        if born.get(bucket):
            # A new application was Unknown when it was created.
            counts["Unknown"] = counts.get("Unknown", 0) - born[bucket]
    return result[::-1]


def areas(points: Sequence[Mapping[str, int]], words: Sequence[str]) -> list[tuple[str, str]]:
    """Return (state, path) of stacked areas, from the bottom; 400 wide and 110 high."""
    maximum = max((sum(p.values()) for p in points), default=0)
    if not maximum or len(points) < 2:
        return []
    step = WIDTH / (len(points) - 1)
    floor = [0] * len(points)
    result = []
    for word in words:
        top = [f + p.get(word, 0) for f, p in zip(floor, points, strict=True)]
        if top == floor:
            continue
        up = [f"{n * step:.1f} {HEIGHT - t / maximum * HEIGHT:.1f}" for n, t in enumerate(top)]
        down = [
            f"{n * step:.1f} {HEIGHT - f / maximum * HEIGHT:.1f}"
            for n, f in reversed(list(enumerate(floor)))
        ]
        result.append((word, "M" + "L".join([*up, *down]) + "Z"))
        floor = top
    return result


def bands(
    state: str, changes: Sequence[tuple[datetime, str]], start: datetime, end: datetime
) -> list[tuple[str, float, float, datetime, datetime]]:
    """Return (status, x, width, from, to) of the segments of a timeline, 400 wide.

    Shapes: `state` is the status at the start; `changes` are (time, status from then on), the
        oldest first.
    """
    total = (end - start).total_seconds()
    result = []
    at, now = start, state
    for when, after in [*changes, (end, "")]:
        when = max(start, min(when, end))  # noqa: PLW2901 - a time outside the range is drawn at its edge
        if when > at and now:
            x = (at - start).total_seconds() / total * WIDTH
            result.append(
                (now, round(x, 2), round((when - at).total_seconds() / total * WIDTH, 2), at, when)
            )
        at, now = when, after
    return result


def hours(end: datetime, count: int) -> list[datetime]:
    """Return the start of each of the last hours, the oldest first."""
    last = end.replace(minute=0, second=0, microsecond=0)
    return [last - timedelta(hours=n) for n in range(count - 1, -1, -1)]
