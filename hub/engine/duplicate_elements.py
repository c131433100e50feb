"""Duplicate elements in lists whose elements must be unique."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hub.engine.errors import ManifestError
from hub.engine.resource import Manifest, resource_key
from hub.engine.schema import LIST, Type

_ACCEPTED_TWICE = {
    ("containers", "env"),
    ("initContainers", "env"),
    ("ephemeralContainers", "env"),
    ("containers", "ports"),
    ("initContainers", "ports"),
}
"""Lists in which API servers accept duplicate keys without server-side apply; the last counts."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A duplicate element."""

    path: str
    name: str
    is_taken: bool
    """Whether API servers accept the duplicate."""
    lost: tuple[str, ...] = ()
    """Names of the removed elements that the remaining one does not have."""

    def __str__(self) -> str:
        """Return the element and its list."""
        return f"{self.path} has {self.name} twice"


def without_duplicates(manifest: Manifest, type_: Type) -> tuple[Manifest, list[Duplicate]]:
    """Remove duplicate elements, keeping the last of each; also return the duplicates.

    Source: server-side apply rejects duplicate keys; with a client-side apply the last one counts.
    Raises: ManifestError naming the element, if API servers reject the duplicate.
    """
    found: list[Duplicate] = []
    result = _once(manifest, type_, "", "", found)
    refused = [repeat for repeat in found if not repeat.is_taken]
    if refused:
        raise ManifestError(
            f"{resource_key(manifest)}: {refused[0]}, but Kubernetes accepts it only once: "
            "remove one of them"
        )
    return (result if found else manifest), found


def _once(value: Any, type_: Type, path: str, around: str, found: list[Duplicate]) -> Any:
    if isinstance(value, dict):
        return _once_in_map(value, type_, path, around, found)
    if not isinstance(value, list) or type_.shape != LIST:
        return value
    field, inner = path.rpartition(".")[2], type_.element
    names = [_name(item, type_) for item in value]
    items = [
        _once(item, inner, f"{path}[{number if name is None else name}]", field, found)
        if isinstance(item, dict | list)
        else item
        for number, (item, name) in enumerate(zip(value, names, strict=True))
    ]
    counts = Counter(name for name in names if name is not None)
    if len(counts) == len(names) or all(count == 1 for count in counts.values()):
        return items
    for name, count in counts.items():
        if count > 1:
            is_taken = type_.is_set or (around, field) in _ACCEPTED_TWICE
            same = [item for item, other in zip(value, names, strict=True) if other == name]
            found.append(Duplicate(path, name, is_taken, _lost_names(same, type_)))
    last = {name: number for number, name in enumerate(names)}
    return [
        i
        for n, (i, name) in enumerate(zip(items, names, strict=True))
        if name is None or last[name] == n
    ]


def _lost_names(same: list[Any], type_: Type) -> tuple[str, ...]:
    """Return the names, such as those of ports, that the removed elements had."""
    *before, last = same
    if type_.is_set or "name" in type_.keys:
        return ()
    names = dict.fromkeys(str(item["name"]) for item in before if item.get("name"))
    return tuple(name for name in names if name != last.get("name"))


def _once_in_map(
    value: dict[str, Any], type_: Type, path: str, around: str, found: list[Duplicate]
) -> dict[str, Any]:
    result = {}
    for name, inner in value.items():
        if isinstance(inner, dict | list) and inner:
            at = f"{path}.{name}" if path else str(name)
            result[name] = _once(inner, type_.field(name), at, around, found)
        else:
            result[name] = inner
    return result


def _name(item: Any, type_: Type) -> str | None:
    """Return what identifies an element in a list, None if it is only its position."""
    if type_.keys and isinstance(item, dict):
        pairs = zip(type_.keys, type_.key_of(item), strict=True)
        return ", ".join(f"{key} {value!r}" for key, value in pairs)
    return repr(item) if type_.is_set else None
