"""Differences of manifests as people read them: unified, or side by side, with the changed words marked. Values in, values out."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
LONGEST = 600
"""Lines up to this length are compared word by word."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a difference."""

    kind: str
    """same, add, del or fold."""
    old: str
    new: str
    parts: tuple[tuple[str, bool], ...]
    """(text, whether it changed)."""

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(text for text, _ in self.parts)


def as_yaml(value: Any) -> str:
    """Return a manifest as people read it, without what only the API server needs."""
    if value is None:
        return ""
    shown = value
    if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
        metadata = {k: v for k, v in value["metadata"].items() if k != "managedFields"}
        shown = {**value, "metadata": metadata}
    return str(yaml.dump(shown, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**20))  # fmt: skip


def diff_lines(before: Any, after: Any, context: int = 4) -> list[Line]:
    """Return the unified difference of two values, written as YAML."""
    old, new = as_yaml(before).splitlines(), as_yaml(after).splitlines()
    result: list[Line] = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context):  # fmt: skip
        if result or group[0][1]:
            result.append(_plain("fold", "", "", f"line {group[0][3] + 1}"))
        for op, a1, a2, b1, b2 in group:
            if op == "equal":
                result += [_plain("same", str(a1 + n + 1), str(b1 + n + 1), line) for n, line in enumerate(old[a1:a2])]  # fmt: skip
                continue
            marked = [_words(o, n) for o, n in zip(old[a1:a2], new[b1:b2], strict=False)]
            for n, line in enumerate(old[a1:a2]):
                parts = marked[n][0] if n < len(marked) else ((line, False),)
                result.append(Line("del", str(a1 + n + 1), "", parts))
            for n, line in enumerate(new[b1:b2]):
                parts = marked[n][1] if n < len(marked) else ((line, False),)
                result.append(Line("add", "", str(b1 + n + 1), parts))
    return result


def _plain(kind: str, old: str, new: str, text: str) -> Line:
    return Line(kind, old, new, ((text, False),))


def _words(old: str, new: str) -> tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]]:
    """Return both lines in parts, the changed ones marked; nothing is when hardly anything stayed."""
    whole = ((old, False),), ((new, False),)
    if len(old) + len(new) > 2 * LONGEST:
        return whole
    left, right = _WORD.findall(old), _WORD.findall(new)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    if matcher.ratio() < 0.4:
        return whole
    sides: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for op, a1, a2, b1, b2 in matcher.get_opcodes():
        for side, words in ((sides[0], left[a1:a2]), (sides[1], right[b1:b2])):
            if words:
                side.append(("".join(words), op != "equal"))
    return tuple(sides[0]), tuple(sides[1])


def beside(lines: Sequence[Line]) -> list[tuple[Line | None, Line | None]]:
    """Return a difference as pairs: what was at the left, what will be at the right."""
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
