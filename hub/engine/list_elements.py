"""Match elements of lists by key or value."""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from hub.engine.field_sets import Fields

_Forms = dict[tuple[str, ...], dict[tuple[str, ...], list[int]]]
"""Indexes of elements, by the keys that they have and the values of these as text."""
_MAX_FORMS = 64
"""The maximum number of combinations of missing keys in one list; further ones are not found."""


class Elements:
    """An index over the elements of a list: lookups by keys or by value in constant time."""

    def __init__(self, elements: Sequence[Any]) -> None:
        """Store the elements; the index is built on the first lookup."""
        self._elements = elements
        self._values: dict[str, int] | None = None
        self._by_keys: dict[tuple[str, ...], tuple[dict[Any, int], list[int]]] = {}
        self._forms: dict[tuple[tuple[str, ...], tuple[str, ...]], _Forms] = {}

    def find(self, named: Any, *, by_value: bool = False) -> int | None:
        """Return the index of the element with these keys or, with `by_value`, equal to `named`.

        An element that omits a key, because the server sets a default, matches if no other does.
        """
        if by_value:
            return self._find_value(named)
        return self.find_partly(named, tuple(sorted(named)))

    def find_partly(self, named: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
        """Return the index of the only element with these key values; missing keys match."""
        whole, _ = self._indexed(keys)
        if len(named) == len(keys):
            found = whole.get(tuple(as_text(named[key]) for key in keys))
            if found is not None:
                return found
        fitting = self._fitting(named, keys) if named else []
        return fitting[0] if len(fitting) == 1 else None

    def _fitting(self, named: Mapping[str, Any], keys: tuple[str, ...]) -> list[int]:
        """Return the elements whose keys are equal or missing, at most two of each form."""
        about = tuple(sorted(named))
        if (keys, about) not in self._forms:
            self._forms[keys, about] = self._formed(keys, about)
        return [
            at
            for stated, found in self._forms[keys, about].items()
            for at in found.get(tuple(as_text(named[key]) for key in stated), ())
        ]

    def _formed(self, keys: tuple[str, ...], about: tuple[str, ...]) -> "_Forms":
        whole, partial = self._indexed(keys)
        forms: _Forms = {}
        for at in (*whole.values(), *partial):
            element = self._elements[at]
            stated = tuple(key for key in about if element.get(key) is not None)
            if stated not in forms and len(forms) == _MAX_FORMS:
                continue
            same = forms.setdefault(stated, {}).setdefault(
                tuple(as_text(element[key]) for key in stated), []
            )
            if len(same) < 2:
                same.append(at)
        return forms

    def _find_value(self, value: Any) -> int | None:
        if self._values is None:
            self._values = {}
            for at, element in enumerate(self._elements):
                self._values.setdefault(as_text(element), at)
        return self._values.get(as_text(value))

    def _indexed(self, keys: tuple[str, ...]) -> tuple[dict[Any, int], list[int]]:
        if keys not in self._by_keys:
            whole, partial = dict[Any, int](), list[int]()
            for at, element in enumerate(self._elements):
                if not isinstance(element, Mapping):
                    continue
                stated = [key for key in keys if element.get(key) is not None]
                if len(stated) == len(keys):
                    whole.setdefault(tuple(as_text(element[key]) for key in keys), at)
                elif stated:
                    partial.append(at)
            self._by_keys[keys] = whole, partial
        return self._by_keys[keys]


def as_text(value: Any) -> str:
    """Serialize a value so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, default=str)


def keys_shown(fields: Fields) -> tuple[str, ...]:
    """Return the keys that identify list elements in a field set, empty when it has none."""
    for step in fields:
        if step.startswith("k:"):
            try:
                keys = json.loads(step[2:])
            except (ValueError, RecursionError):
                continue
            if isinstance(keys, dict):
                return tuple(keys)
    return ()


def element_fields(fields: Fields) -> dict[str, Fields]:
    """Return the field sets of list elements, by their keys as text."""
    found = {}
    for step, child in fields.items():
        if step.startswith("k:"):
            try:
                found[as_text(json.loads(step[2:]))] = child
            except (ValueError, RecursionError):
                continue
    return found


def partners_by_keys(
    ours: Sequence[Any], theirs: Sequence[Any], keys: tuple[str, ...]
) -> dict[int, int]:
    """Map indexes of `ours` to indexes of `theirs` with the same keys, each used once."""
    known, used, found = Elements(theirs), set[int](), dict[int, int]()
    for at, element in enumerate(ours):
        if isinstance(element, Mapping):
            named = {key: element[key] for key in keys if element.get(key) is not None}
            other = known.find_partly(named, keys)
            if other is not None and other not in used:
                used.add(other)
                found[at] = other
    return found


def partners_by_value(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[int, int]:
    """Map indexes of `ours` to indexes of `theirs` with the same value, each used once."""
    known = Elements(theirs)
    used, found = set[int](), dict[int, int]()
    for at, element in enumerate(ours):
        other = known.find(element, by_value=True)
        if other is not None and other not in used:
            used.add(other)
            found[at] = other
    return found


def inserted(
    result: Sequence[Any], missing: Mapping[int, Any], partners: Mapping[int, int]
) -> list[Any]:
    """Insert elements of another list, each after its predecessor there.

    Shapes: `missing` are elements by their index in the other list; `partners` maps indexes of
        `result` to indexes in the other list.
    """
    places = sorted(partners.values())
    behind: dict[int, list[Any]] = {}
    for there in sorted(missing):
        before = bisect_left(places, there)
        behind.setdefault(places[before - 1] if before else -1, []).append(missing[there])
    found = list(behind.get(-1, ()))
    for at, element in enumerate(result):
        found += [element, *behind.get(partners.get(at, -2), ())]
    return found
