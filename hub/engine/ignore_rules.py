"""`ignoreDifferences`: fields ignored by JSON pointer, jq path or field manager."""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.engine.effort import Effort
from hub.engine.errors import RuleError
from hub.engine.globs import check, check_count, matches
from hub.engine.resource import Manifest, ResourceKey

DeleteByJq = Callable[[str, Any], Any]
"""Delete what a jq path selects from a document; runs outside the engine, with limits."""

PathsByJq = Callable[[str, Any], Sequence[Sequence[Any]]]
"""Return the paths that a jq path selects; runs outside the engine, with limits."""

Places = dict[str | int, "Places | bool"]
"""Paths in a value, as a trie of fields and indexes.

A path that is selected as a whole has a bool: whether a rule names this path itself, rather than by
a pattern such as every element.
"""

Path = tuple[str | int | None, ...]
"""Steps of a plain path: a field, an index, or None for every element."""


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One entry of `ignoreDifferences`."""

    group: str
    kind: str
    name: str = ""
    namespace: str = ""
    json_pointers: tuple[str, ...] = ()
    jq_paths: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()

    def matches(self, key: ResourceKey) -> bool:
        """Return whether the rule applies to this resource; group and kind are globs."""
        return (
            matches(self.group, key.group)
            and matches(self.kind, key.kind)
            and self.name in ("", key.name)
            and self.namespace in ("", key.namespace)
        )


def ignore_rules(entries: Iterable[Mapping[str, Any]], field: str) -> tuple[IgnoreRule, ...]:
    """Parse an `ignoreDifferences` list.

    Raises: RuleError naming an entry without a kind, or a pointer that does not start with "/".
    """
    rules = []
    entries = list(entries)
    _check_volume(entries, field)
    for number, entry in enumerate(entries):
        if not entry.get("kind"):
            raise RuleError(f"{field}[{number}].kind is required")
        check(str(entry["kind"]), f"{field}[{number}].kind")
        check(str(entry.get("group") or ""), f"{field}[{number}].group")
        pointers = tuple(entry.get("jsonPointers") or ())
        for pointer in pointers:
            if not str(pointer).startswith("/"):
                raise RuleError(f"{field}[{number}].jsonPointers: {pointer!r} must start with /")
        rules.append(
            IgnoreRule(
                group=str(entry.get("group") or ""),
                kind=str(entry["kind"]),
                name=str(entry.get("name") or ""),
                namespace=str(entry.get("namespace") or ""),
                json_pointers=pointers,
                jq_paths=tuple(entry.get("jqPathExpressions") or ()),
                managers=tuple(entry.get("managedFieldsManagers") or ()),
            )
        )
    return tuple(rules)


_SELECTORS = ("jsonPointers", "jqPathExpressions", "managedFieldsManagers")
_MAX_LIST_PATHS = 100
"""The limit of paths with `[]`, each of which visits the whole resource."""


def _check_volume(entries: Sequence[Mapping[str, Any]], field: str) -> None:
    """Check the number of rules, since each is applied to each resource twice.

    Raises: RuleError.
    """
    named = [text for entry in entries for name in _SELECTORS for text in entry.get(name) or ()]
    check_count([*entries, *named], f"{field} with its pointers, paths and managers")
    if sum("[]" in str(text) for text in named) > _MAX_LIST_PATHS:
        raise RuleError(f"{field} has more than {_MAX_LIST_PATHS} paths with []")


def rules_for(key: ResourceKey, rules: Iterable[IgnoreRule]) -> list[IgnoreRule]:
    """Return the rules that apply to a resource."""
    return [rule for rule in rules if rule.matches(key)]


def without_ignored(
    manifest: Manifest,
    rules: Iterable[IgnoreRule],
    delete_by_jq: DeleteByJq,
    effort: Effort | None = None,
) -> Manifest:
    """Remove the fields that JSON pointers and jq paths select, one rule after the other.

    Raises: RuleError for an invalid jq path, and if the rules process too many values.
    """
    effort = effort or Effort()
    result: Any = manifest
    for rule in rules:
        for pointer in rule.json_pointers:
            result = without(result, _selected(pointer_paths(pointer, result)), effort)
        for expression in rule.jq_paths:
            path = plain_path(expression)
            if path is None:
                result = delete_by_jq(expression, result)
            else:
                result = without(result, _selected(path.select(result, effort)), effort)
    return dict(result)


def ignored_places(
    manifest: Manifest,
    rules: Iterable[IgnoreRule],
    paths_by_jq: PathsByJq,
    effort: Effort | None = None,
) -> Places:
    """Return the paths that `without_ignored` removes, relative to the original manifest.

    Raises: RuleError for a jq path that selects the whole manifest, and if the rules process too
        many values.
    """
    effort = effort or Effort()
    found: Places = {}
    rest: Any = manifest
    for rule in rules:
        for pointer in rule.json_pointers:
            there = _exact_paths(rest, pointer_paths(pointer, rest), effort)
            rest = _take_out(found, manifest, rest, there, effort, is_one=True)
        for expression in rule.jq_paths:
            plain = plain_path(expression)
            paths = paths_by_jq(expression, rest) if plain is None else plain.select(rest, effort)
            if [] in paths:
                raise RuleError(
                    f"jqPathExpressions: {expression!r} selects the whole resource: "
                    "write a path to a field"
                )
            is_one = plain is not None and None not in plain.steps
            there = _exact_paths(rest, paths, effort)
            rest = _take_out(found, manifest, rest, there, effort, is_one=is_one)
    return found


_Exact = tuple[str | int, ...]


def _take_out(
    found: Places, whole: Any, rest: Any, there: Iterable[_Exact], effort: Effort, *, is_one: bool
) -> Any:
    gaps: dict[int, list[int]] = {}
    places = [_before_taking_out(found, path, gaps, effort) for path in there]
    for path in places:
        _add(found, path, is_one=is_one)
    return without(whole, found, effort) if places else rest


def _exact_paths(value: Any, paths: Iterable[Sequence[Any]], effort: Effort) -> list[_Exact]:
    """Return the existing paths for jq paths, each once."""
    found: dict[_Exact, None] = {}
    for path in paths:
        effort.spend(1 + len(path))
        start, last = _followed(value, path)
        # Slices may overlap: each path is counted every time, and stored once.
        effort.spend_paths(len(last))
        found.update(dict.fromkeys((*start, step) for step in last))
        effort.spend_paths(0, known=len(found))
    return list(found)


def _followed(value: Any, path: Sequence[Any]) -> tuple[list[str | int], Sequence[str | int]]:
    """Split a jq path (whose indexes may be negative or slices) into its start and last steps."""
    start: list[str | int] = []
    last: Sequence[str | int] = ()
    for step in path:
        if len(last) == 1 and not isinstance(last, range):
            start.append(last[0])
            value, last = value[last[0]], ()
        if isinstance(value, dict) and isinstance(step, str) and step in value:
            last = (step,)
        elif isinstance(value, list) and isinstance(step, dict | int | float):
            # An index after a slice is relative to the slice.
            inside = last if isinstance(last, range) else range(len(value))
            last = _chosen_indexes(inside, step)
        else:
            return start, ()
        if not last:
            return start, ()
    return start, last


def _chosen_indexes(inside: range, step: Any) -> Sequence[int]:
    if isinstance(step, dict):
        start = _whole(step.get("start"), math.floor)
        return inside[start : _whole(step.get("end"), math.ceil)]
    at = math.floor(step) + (len(inside) if step < 0 else 0)
    return (inside[at],) if 0 <= at < len(inside) else ()


def _whole(value: Any, rounded: Callable[[float], int]) -> int | None:
    return rounded(value) if isinstance(value, int | float) else None


def _before_taking_out(
    found: Places, path: Sequence[str | int], gaps: dict[int, list[int]], effort: Effort
) -> list[str | int]:
    """Convert a path in the remaining value to one in the original: elements may be removed.

    Shapes: `gaps` caches, by the id of a node of `found`, how many elements remain before each
        removed one.
    """
    result: list[str | int] = []
    node: Places | bool | None = found
    for step in path:
        inside = node if isinstance(node, dict) else {}
        place = step
        if isinstance(step, int) and inside:
            place = step + bisect_right(_gaps(inside, gaps, effort), step)
        result.append(place)
        node = inside.get(place)
    return result


def _gaps(inside: Places, known: dict[int, list[int]], effort: Effort) -> list[int]:
    if id(inside) not in known:
        effort.spend(len(inside))
        gone = sorted(s for s, n in inside.items() if isinstance(s, int) and isinstance(n, bool))
        known[id(inside)] = [at - number for number, at in enumerate(gone)]
    return known[id(inside)]


def _selected(paths: Iterable[Sequence[str | int]]) -> Places:
    found: Places = {}
    for path in paths:
        _add(found, path, is_one=True)
    return found


def _add(found: Places, path: Sequence[str | int], *, is_one: bool) -> None:
    node = found
    for step in path[:-1]:
        inner = node.setdefault(step, {})
        if isinstance(inner, bool):
            return
        node = inner
    node[path[-1]] = is_one


def without(value: Any, places: Places, effort: Effort | None = None) -> Any:
    """Return a value without the selected paths.

    Raises: RuleError if `effort` is exceeded.
    """
    return _without(value, places, effort or Effort())


def _without(value: Any, places: Places, effort: Effort) -> Any:
    if not places or not isinstance(value, dict | list):
        return value
    effort.spend(len(value))
    if isinstance(value, dict):
        pairs = value.items()
        return {
            k: _inside(v, places.get(k), effort)
            for k, v in pairs
            if not isinstance(places.get(k), bool)
        }
    numbered = enumerate(value)
    return [
        _inside(v, places.get(n), effort)
        for n, v in numbered
        if not isinstance(places.get(n), bool)
    ]


def _inside(value: Any, places: Places | bool | None, effort: Effort) -> Any:
    return _without(value, places, effort) if isinstance(places, dict) else value


def pointer_paths(pointer: str, value: Any) -> list[list[str | int]]:
    """Return the path of a JSON pointer in a list, which is empty if it does not exist.

    Source: RFC 6901; an index may be negative, as in Argo CD 3.6.
    """
    path: list[str | int] = []
    for text in pointer.split("/")[1:]:
        step: str | int = text.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and _INDEX.fullmatch(str(step)):
            step = int(step) + (len(value) if str(step).startswith("-") else 0)
            if not 0 <= step < len(value):
                return []
            value = value[step]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return []
        path.append(step)
    return [path]


_INDEX = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_STEP = re.compile(r'\.?\["([^"\\]+)"\]|\.([A-Za-z_][A-Za-z0-9_]*)|\.?\[([0-9]{1,18})\]|\.?(\[\])')


class _NotThere(Exception):
    """jq cannot evaluate the path on this value."""


@dataclass(frozen=True, slots=True)
class PlainPath:
    """A jq path that consists only of fields, indexes and `[]`."""

    steps: Path
    is_optional: bool = False
    """Whether the last step ends with `?`, which suppresses errors."""

    def select(self, value: Any, effort: Effort | None = None) -> list[list[str | int]]:
        """Return the existing paths that jq selects, none if jq reports an error.

        Raises: RuleError for too many paths.
        """
        effort = effort or Effort()
        found: list[list[str | int]] = []
        try:
            for path in self._paths(value, 0, effort):
                effort.spend_paths(1, known=len(found))
                found.append(path)
        except _NotThere:
            return []
        return found

    def _paths(self, value: Any, number: int, effort: Effort) -> Iterator[list[str | int]]:
        step = self.steps[number]
        is_last = number == len(self.steps) - 1
        try:
            chosen = _chosen(value, step)
        except _NotThere:
            if is_last and self.is_optional:
                return
            raise
        effort.spend(len(chosen))
        for name, inner, is_there in chosen:
            if is_last:
                yield from [[name]] if is_there else ()
            else:
                yield from (
                    [name, *rest] for rest in self._paths(inner, number + 1, effort) if is_there
                )


def _chosen(value: Any, step: str | int | None) -> list[tuple[str | int, Any, bool]]:
    match value, step:
        case dict(), None:
            return [(name, inner, True) for name, inner in value.items()]
        case list(), None:
            return [(at, inner, True) for at, inner in enumerate(value)]
        case dict(), str():
            return [(step, value.get(step), step in value)]
        case list(), int():
            is_there = step < len(value)
            return [(step, value[step] if is_there else None, is_there)]
        case None, str() | int():
            return [(step, None, False)]
    raise _NotThere


def plain_path(expression: str) -> PlainPath | None:
    """Parse an expression of fields, indexes and `[]`; return None for any other."""
    text, position, steps = expression.strip(" \t\r\n"), 0, []
    is_optional = text.endswith("?")
    text = text.removesuffix("?")
    if not text.startswith("."):
        return None
    while position < len(text):
        match = _STEP.match(text, position)
        if not match:
            return None
        quoted, field, index, _every = match.groups()
        steps.append(quoted or field or (int(index) if index else None))
        position = match.end()
    return PlainPath(tuple(steps), is_optional) if steps else None
