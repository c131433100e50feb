"""The resources selected for a sync or wait, by including and excluding entries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hub.engine.errors import RuleError
from hub.engine.globs import is_plain, matches
from hub.engine.resource import ResourceKey

MAX_PATTERNS = 100
"""The maximum number of entries with patterns: each is matched with every resource."""


class Selection:
    """Entries that include or exclude resources, compiled once for all resources."""

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Compile the entries; those without patterns are indexed."""
        given = list(entries)
        self._included = _Entries([e for e in given if not e.get("exclude")])
        self._excluded = _Entries([e for e in given if e.get("exclude")])

    def has(self, key: ResourceKey) -> bool:
        """Return whether a resource is selected; see `is_selected`."""
        if self._included and not self._included.fit(key):
            return False
        return not self._excluded.fit(key)


class _Entries:
    """Entries of one sort, of which a resource has to match any."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._exact: set[tuple[str, ...]] = set()
        self._patterns = []
        for entry in entries:
            if is_exact(entry):
                self._exact.add(_words(entry))
            else:
                self._patterns.append(entry)

    def __bool__(self) -> bool:
        return bool(self._exact or self._patterns)

    def fit(self, key: ResourceKey) -> bool:
        about = key.group, key.kind, key.name
        if {(*about, "*"), (*about, key.namespace)} & self._exact:
            return True
        return any(_fits(entry, key) for entry in self._patterns)


def _words(entry: Mapping[str, Any]) -> tuple[str, ...]:
    group, kind, name = (str(entry.get(field) or "") for field in ("group", "kind", "name"))
    return group, kind, name, str(entry.get("namespace") or "*")


def is_exact(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry has no patterns, except a namespace that matches any."""
    *about, namespace = _words(entry)
    return all(map(is_plain, about)) and (namespace == "*" or is_plain(namespace))


def check_patterns(entries: Iterable[Mapping[str, Any]], field: str) -> None:
    """Check that not too many entries have patterns.

    Raises: RuleError.
    """
    if sum(not is_exact(entry) for entry in entries) > MAX_PATTERNS:
        raise RuleError(
            f"{field} has more than {MAX_PATTERNS} entries with patterns: "
            "combine them, or write names"
        )


def is_selected(entries: Sequence[Mapping[str, Any]], key: ResourceKey) -> bool:
    """Return whether a resource is selected.

    Shapes: an entry has group, kind, name and namespace, all globs; a missing or empty namespace
        matches any. An entry with `exclude` removes resources from the others' selection, or from
        all resources if every entry excludes.
    Source: as Argo CD's `--resource`: an exclusion wins.
    """
    return Selection(entries).has(key)


def _fits(entry: Mapping[str, Any], key: ResourceKey) -> bool:
    group, kind, name, namespace = _words(entry)
    if namespace != "*" and not matches(namespace, key.namespace):
        return False
    pairs = ((group, key.group), (kind, key.kind), (name, key.name))
    return all(matches(pattern, text) for pattern, text in pairs)


def key_of(entry: Mapping[str, Any]) -> ResourceKey:
    """Return the key of a resource in a status list."""
    parts = (str(entry.get(field) or "") for field in ("group", "kind", "namespace", "name"))
    return ResourceKey(*parts)


def selection_problem(entries: Sequence[Mapping[str, Any]], keys: Iterable[ResourceKey]) -> str:
    """Return why entries are invalid for these resources, empty if each selects something."""
    known = list(keys)
    named = {(k.group, k.kind, k.name, place) for k in known for place in ("*", k.namespace)}
    for entry in entries:
        if entry.get("exclude"):
            continue
        there = is_exact(entry) and _words(entry) in named
        if not there and (is_exact(entry) or not any(_fits(entry, key) for key in known)):
            return f"no resource of the application matches {selection_text(entry)}"
    selection = Selection(entries)
    if entries and not any(selection.has(key) for key in known):
        listed = ", ".join(map(selection_text, entries))
        return f"no resource of the application is left after {listed}"
    return ""


def selection_text(entry: Mapping[str, Any]) -> str:
    """Return an entry in the syntax of `--resource`."""
    place = f"{entry['namespace']}/" if entry.get("namespace") else ""
    mark = "!" if entry.get("exclude") else ""
    group, kind = entry.get("group") or "", entry.get("kind") or ""
    return f"{mark}{group}:{kind}:{place}{entry.get('name') or ''}"
