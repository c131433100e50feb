"""Line-by-line diffs in bounded time.

Myers' greedy algorithm finds the shortest edit script in time proportional to the number of
changes. If that exceeds the budget, all lines between the common head and tail count as changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

STEPS = 300_000
"""The maximum number of line comparisons for one diff: a fraction of a second."""

TOO_LONG = "too many changes to compare line by line: everything in between is shown as changed"


@dataclass(slots=True)
class Budget:
    """The remaining comparisons, for one diff or for all diffs of a response."""

    left: int = STEPS


class Span(NamedTuple):
    """Equal or replaced lines: `old[a1:a2]` and `new[b1:b2]`."""

    is_same: bool
    a1: int
    a2: int
    b1: int
    b2: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two texts."""

    spans: list[Span]
    is_whole: bool = field(default=True)
    """Whether the budget sufficed; if not, unchanged lines may count as changed."""


def compare_lines(old: Sequence[str], new: Sequence[str], budget: Budget) -> Difference:
    """Compare two lists of lines or words.

    The time is bounded by the length of the lists and the remaining budget.
    Source: E. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986.
    """
    head = _common(old, new, 0)
    tail = _common(old[::-1], new[::-1], head)
    middle, other = old[head : len(old) - tail], new[head : len(new) - tail]
    found = _shared(middle, other, budget)
    pairs = [(head + x, head + y) for x, y in found or ()]
    return Difference(_spans(old, new, head, pairs, tail), found is not None)


def _common(old: Sequence[str], new: Sequence[str], taken: int) -> int:
    """Return the length of the common prefix, excluding the last `taken` elements."""
    maximum = min(len(old), len(new)) - taken
    return next((n for n in range(maximum) if old[n] != new[n]), maximum)


def _shared(old: Sequence[str], new: Sequence[str], budget: Budget) -> list[tuple[int, int]] | None:
    """Return the indexes of equal elements, None if the budget is exceeded.

    Lines that only one side has cannot match and are removed first.
    """
    both = set(old) & set(new)
    numbers = {text: number for number, text in enumerate(both)}
    left = [n for n, text in enumerate(old) if text in both]
    right = [n for n, text in enumerate(new) if text in both]
    found = _shortest([numbers[old[n]] for n in left], [numbers[new[n]] for n in right], budget)
    return None if found is None else [(left[x], right[y]) for x, y in found]


def _shortest(
    old: Sequence[int], new: Sequence[int], budget: Budget
) -> list[tuple[int, int]] | None:
    """Return the indexes of equal elements in the shortest edit script.

    Row d holds, for each diagonal k = -d, -d + 2, … d, the furthest point reached with d changes.
    """
    rows: list[list[int]] = []
    end = len(old) - len(new)
    while True:
        row: list[int] = []
        depth = len(rows)
        for place in range(depth + 1):
            first = x = _start(rows[-1], place) if rows else 0
            k = 2 * place - depth
            while x < len(old) and x - k < len(new) and old[x] == new[x - k]:
                x += 1
            budget.left -= x - first + 1
            if budget.left < 0:
                return None
            row.append(x)
            if k == end and x >= len(old):
                return _walk_back([*rows, row], len(old), len(new))
        rows.append(row)


def _start(before: Sequence[int], place: int) -> int:
    """Return where a diagonal starts: after an insertion or a deletion, whichever is further."""
    down = before[place] if place < len(before) else -1
    right = before[place - 1] + 1 if place else -1
    return max(down, right)


def _walk_back(rows: Sequence[Sequence[int]], x: int, y: int) -> list[tuple[int, int]]:
    pairs = []
    for depth in range(len(rows) - 1, -1, -1):
        place = (x - y + depth) // 2
        start = _start(rows[depth - 1], place) if depth else 0
        while x > start:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        if depth:
            is_new = place < depth and rows[depth - 1][place] == start
            x, y = (x, y - 1) if is_new else (x - 1, y)
    return pairs[::-1]


def _spans(
    old: Sequence[str], new: Sequence[str], head: int, pairs: list[tuple[int, int]], tail: int
) -> list[Span]:
    blocks = [(0, 0, head)]
    for x, y in pairs:
        a, b, length = blocks[-1]
        if (a + length, b + length) == (x, y):
            blocks[-1] = a, b, length + 1
        else:
            blocks.append((x, y, 1))
    blocks += [(len(old) - tail, len(new) - tail, tail)]
    spans = [Span(True, 0, head, 0, head)] if blocks[0][2] else []
    for (a, b, length), (x, y, following) in pairwise(blocks):
        if a + length < x or b + length < y:
            spans.append(Span(False, a + length, x, b + length, y))
        if following:
            spans.append(Span(True, x, x + following, y, y + following))
    return spans


def hunks(spans: Sequence[Span], context: int) -> list[list[Span]]:
    """Group changes with the equal lines around them; empty if nothing changed."""
    groups: list[list[Span]] = [[]]
    for number, span in enumerate(spans):
        if not span.is_same:
            groups[-1].append(span)
            continue
        before = context if number else 0
        after = context if number + 1 < len(spans) else 0
        if span.a2 - span.a1 <= before + after:
            groups[-1].append(span)
            continue
        groups[-1].append(span._replace(a2=span.a1 + before, b2=span.b1 + before))
        groups.append([span._replace(a1=span.a2 - after, b1=span.b2 - after)])
    return [
        [s for s in group if (s.a1, s.b1) != (s.a2, s.b2)]
        for group in groups
        if any(not s.is_same for s in group)
    ]


def unified(old: str, new: str, names: tuple[str, str], context: int = 3) -> Iterator[str]:
    """Yield the lines of a unified diff, as `diff -u` writes them; none if nothing changed."""
    before, after = old.splitlines(), new.splitlines()
    found = compare_lines(before, after, Budget())
    groups = hunks(found.spans, context)
    if not groups:
        return
    if not found.is_whole:
        yield f"# {TOO_LONG}"
    yield f"--- {names[0]}"
    yield f"+++ {names[1]}"
    for group in groups:
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first.a1, last.a2)} +{_range(first.b1, last.b2)} @@"
        for span in group:
            if span.is_same:
                yield from (f" {line}" for line in before[span.a1 : span.a2])
                continue
            yield from (f"-{line}" for line in before[span.a1 : span.a2])
            yield from (f"+{line}" for line in after[span.b1 : span.b2])


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"
