"""Unified and side-by-side diffs of manifests, with changed words marked; pure functions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hub.engine.line_diff import TOO_LONG, Budget, Span, compare_lines, hunks

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
MAX_WORD_DIFF_CHARS = 600
"""Lines up to this length are compared word by word."""
MAX_LINES = 4_000
"""A diff is cut after this many lines, with a note that says so."""
MAX_LINES_PER_SIDE = MAX_LINES // 2
"""The maximum number of lines shown for each side of a change."""

Parts = tuple[tuple[str, bool], ...]
"""The parts of a line, as (text, whether it changed)."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a diff."""

    kind: str
    """same, add, del or fold."""
    old: str
    new: str
    parts: Parts

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(text for text, _ in self.parts)


def as_yaml(value: Any) -> str:
    """Return a manifest as YAML, without fields that only the API server needs."""
    if value is None:
        return ""
    shown = value
    if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
        metadata = {k: v for k, v in value["metadata"].items() if k != "managedFields"}
        shown = {**value, "metadata": metadata}
    return str(
        yaml.dump(shown, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**20)
    )


def diff_lines(
    before: Any, after: Any, context: int = 4, budget: Budget | None = None
) -> list[Line]:
    """Return the unified diff of two values as YAML.

    Shapes: `budget` is shared by the diffs of one page; without it, the diff has its own.
    """
    old, new = as_yaml(before).splitlines(), as_yaml(after).splitlines()
    left = Budget() if budget is None else budget
    found = compare_lines(old, new, left)
    result = [] if found.is_whole else [_fold(TOO_LONG)]
    for group in hunks(found.spans, context):
        if result or group[0].a1:
            result.append(_fold(f"line {group[0].b1 + 1}"))
        for span in group:
            if len(result) >= MAX_LINES:
                return [*result, _fold(f"cut after {len(result)} lines")]
            result += _lines_of(span, old, new, left)
    return result


def _lines_of(span: Span, old: Sequence[str], new: Sequence[str], budget: Budget) -> list[Line]:
    if span.is_same:
        places = zip(range(span.a1, span.a2), range(span.b1, span.b2), strict=True)
        return [Line("same", str(a + 1), str(b + 1), _whole(old[a])) for a, b in places]
    left, right = old[span.a1 : span.a2], new[span.b1 : span.b2]
    shown = left[:MAX_LINES_PER_SIDE], right[:MAX_LINES_PER_SIDE]
    marked = [_words(o, n, budget) for o, n in zip(*shown, strict=False)]
    befores = [m[0] for m in marked] + [_whole(line) for line in shown[0][len(marked) :]]
    afters = [m[1] for m in marked] + [_whole(line) for line in shown[1][len(marked) :]]
    return [
        *(Line("del", str(n), "", parts) for n, parts in enumerate(befores, span.a1 + 1)),
        *_more(left, "removed"),
        *(Line("add", "", str(n), parts) for n, parts in enumerate(afters, span.b1 + 1)),
        *_more(right, "added"),
    ]


def _more(lines: Sequence[str], word: str) -> list[Line]:
    count = len(lines) - MAX_LINES_PER_SIDE
    return [_fold(f"{count} more lines {word}")] if count > 0 else []


def _fold(text: str) -> Line:
    return Line("fold", "", "", _whole(text))


def _whole(text: str) -> Parts:
    return ((text, False),)


def _words(old: str, new: str, budget: Budget) -> tuple[Parts, Parts]:
    """Return the parts of both lines; no changes are marked if almost everything changed."""
    whole = _whole(old), _whole(new)
    if len(old) + len(new) > 2 * MAX_WORD_DIFF_CHARS or budget.left <= 0:
        return whole
    left, right = _WORD.findall(old), _WORD.findall(new)
    budget.left -= len(left) + len(right)
    found = compare_lines(left, right, budget)
    same = sum(span.a2 - span.a1 for span in found.spans if span.is_same)
    if not found.is_whole or 2 * same < 0.4 * (len(left) + len(right)):
        return whole
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for span in found.spans:
        words = left[span.a1 : span.a2], right[span.b1 : span.b2]
        for side, part in zip(sides, words, strict=True):
            if part:
                side.append(("".join(part), not span.is_same))
    return tuple(sides[0]), tuple(sides[1])


def beside(lines: Sequence[Line]) -> list[tuple[Line | None, Line | None]]:
    """Return a diff as pairs of (old, new) lines."""
    pairs: list[tuple[Line | None, Line | None]] = []
    old: list[Line] = []
    new: list[Line] = []

    def flush() -> None:
        for n in range(max(len(old), len(new))):
            pairs.append((old[n] if n < len(old) else None, new[n] if n < len(new) else None))
        old.clear()
        new.clear()

    for line in lines:
        if line.kind == "del":
            old.append(line)
        elif line.kind == "add":
            new.append(line)
        else:
            flush()
            pairs.append((line, line))
    flush()
    return pairs
