"""The resources selected for a sync or wait, by including and excluding entries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hub.engine.globs import matches
from hub.engine.resource import ResourceKey


def is_selected(entries: Sequence[Mapping[str, Any]], key: ResourceKey) -> bool:
    """Return whether a resource is selected.

    Shapes: an entry has group, kind, name and namespace, all globs; a missing or empty namespace
        matches any. An entry with `exclude` removes resources from the others' selection, or from
        all resources if every entry excludes.
    Source: as Argo CD's `--resource`: an exclusion wins.
    """
    included = [e for e in entries if not e.get("exclude")]
    if included and not any(_fits(e, key) for e in included):
        return False
    return not any(_fits(e, key) for e in entries if e.get("exclude"))


def _fits(entry: Mapping[str, Any], key: ResourceKey) -> bool:
    namespace = str(entry.get("namespace") or "*")
    pairs = (
        (str(entry.get("group") or ""), key.group),
        (str(entry.get("kind") or ""), key.kind),
        (str(entry.get("name") or ""), key.name),
    )
    if namespace != "*" and not matches(namespace, key.namespace):
        return False
    return all(matches(pattern, text) for pattern, text in pairs)


def key_of(entry: Mapping[str, Any]) -> ResourceKey:
    """Return the key of a resource in a status list."""
    parts = (str(entry.get(field) or "") for field in ("group", "kind", "namespace", "name"))
    return ResourceKey(*parts)


def selection_problem(entries: Sequence[Mapping[str, Any]], keys: Iterable[ResourceKey]) -> str:
    """Return why entries are invalid for these resources, empty if each selects something."""
    known = list(keys)
    for entry in entries:
        if not entry.get("exclude") and not any(_fits(entry, key) for key in known):
            return f"no resource of the application matches {selection_text(entry)}"
    if entries and not any(is_selected(entries, key) for key in known):
        listed = ", ".join(map(selection_text, entries))
        return f"no resource of the application is left after {listed}"
    return ""


def selection_text(entry: Mapping[str, Any]) -> str:
    """Return an entry in the syntax of `--resource`."""
    place = f"{entry['namespace']}/" if entry.get("namespace") else ""
    mark = "!" if entry.get("exclude") else ""
    group, kind = entry.get("group") or "", entry.get("kind") or ""
    return f"{mark}{group}:{kind}:{place}{entry.get('name') or ''}"
