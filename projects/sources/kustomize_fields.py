"""Check the types, spelling and paths of a kustomization's fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from projects.sources.files import path_inside_root


@dataclass(frozen=True, slots=True)
class Place:
    """A kustomization's folder, and the path of its copy."""

    origin: str
    folder: str
    disk: str

    @property
    def shown(self) -> str:
        """The folder as shown in messages."""
        return self.folder or "."


def located_path(place: Place, entry: str, field: str) -> str:
    """Return the path of a local entry, relative to the root of its tree.

    Raises: ManifestError if it leads outside the tree, or is not a path.
    """
    if not entry or entry.startswith("/") or "\n" in entry or "\0" in entry or "://" in entry:
        raise ManifestError(
            f"{place.shown}: {field}: {entry[:200]!r} is not a path in the repository"
        )
    try:
        return path_inside_root(entry, place.folder)
    except ManifestError as error:
        raise ManifestError(
            f"{place.shown}: {field}: {entry[:200]} leads outside the repository"
        ) from error


def require_spelling(item: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Check that keys have the canonical spelling: kustomize reads `Path` as `path`.

    Raises: ManifestError naming the key.
    """
    folded = {name.casefold(): name for name in names}
    for key in item:
        if folded.get(key.casefold(), key) != key:
            raise ManifestError(f"{where}: write {folded[key.casefold()]}, not {key}")


def texts(item: Mapping[str, Any], field: str, place: Place) -> list[str]:
    """Return a list of strings, empty if the field is missing.

    Raises: ManifestError if it is anything else.
    """
    found = item.get(field)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise ManifestError(f"{place.shown}: {field} must be a list of strings")
    return found


def for_list(
    item: dict[str, Any], field: str, place: Place, change: Callable[[str, str], str]
) -> None:
    """Replace each string of a list, if the field exists."""
    if item.get(field) is not None:
        item[field] = [change(entry, field) for entry in texts(item, field, place)]


def for_items(
    item: dict[str, Any], field: str, place: Place, change: Callable[[Mapping[str, Any], str], Any]
) -> None:
    """Replace each object of a list, if the field exists.

    Raises: ManifestError if it is anything else.
    """
    found = item.get(field)
    if found is None:
        return
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ManifestError(f"{place.shown}: {field} must be a list of objects")
    item[field] = [change(entry, field) for entry in found]


def with_patches_by_kind(document: dict[str, Any]) -> dict[str, Any]:
    """Move `patches` that are strings, the old form, to `patchesStrategicMerge`."""
    found = document.get("patches")
    if not isinstance(found, list) or not found or not all(isinstance(p, str) for p in found):
        return document
    rest = {k: v for k, v in document.items() if k != "patches"}
    return {**rest, "patchesStrategicMerge": [*(rest.get("patchesStrategicMerge") or []), *found]}


def require_object(item: Mapping[str, Any], field: str, place: Place) -> Mapping[str, Any]:
    """Return the object in a field.

    Raises: ManifestError if it is anything else.
    """
    found = item[field]
    if not isinstance(found, dict):
        raise ManifestError(f"{place.shown}: {field} must be an object")
    return found


def require_text(value: Any, where: str) -> str:
    """Return a string.

    Raises: ManifestError if it is anything else.
    """
    if not isinstance(value, str):
        raise ManifestError(f"{where} must be a string")
    return value


def parsed(data: bytes, name: str) -> list[Any]:
    """Parse the documents of a file.

    Raises: ManifestError naming it.
    """
    try:
        return parse_yaml(data.decode())
    except (ManifestError, UnicodeDecodeError) as error:
        words = str(error) if isinstance(error, ManifestError) else "it is not UTF-8 text"
        raise ManifestError(f"{name}: {words}") from error


def objects(data: bytes, name: str) -> list[dict[str, Any]]:
    """Parse the documents of a file, which must all be objects.

    Raises: ManifestError naming it.
    """
    found = parsed(data, name[:200])
    if not all(isinstance(d, dict) for d in found):
        raise ManifestError(f"{name[:200]} must contain only objects")
    return found


def inline(entry: str) -> list[dict[str, Any]]:
    """Parse an inline entry; return an empty list if the entry is a path."""
    if "\n" not in entry and not entry.lstrip().startswith("{"):
        return []
    return objects(entry.encode(), "an inline entry")
