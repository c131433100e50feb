"""Field sets: which manager owns which fields of a live resource.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/ (fieldsV1).
"""

import json
from collections.abc import Collection, Iterable
from typing import Any

from hub.engine.resource import Manifest, resource_key
from hub.engine.schema import OBJECT, Type

Fields = dict[str, Any]
"""A trie. `f:name` is a field, `k:{…}` a list element by key, `v:…` a member of a set, and `.`
the value itself."""

MANAGER = "argocd-controller"
"""The field manager of every apply: Argo CD's, so that a migrated resource keeps its owner."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_DEEPEST = 200


def owned_fields(live: Manifest, managers: Collection[str] = (MANAGER,)) -> Fields | None:
    """Return the union of the fields that the managers applied, None if they applied nothing."""
    found = [
        _trie(entry.get("fieldsV1"))
        for entry in _managed(live)
        if entry.get("manager") in managers
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    ]
    return union(found) if found else None


def is_unowned(live: Manifest) -> bool:
    """Return whether nobody owns a field: someone has removed `metadata.managedFields`."""
    return not _managed(live)


def others_fields(live: Manifest, managers: Collection[str] = (MANAGER,)) -> Fields:
    """Return the union of the fields that other managers own."""
    return union(
        _trie(entry.get("fieldsV1"))
        for entry in _managed(live)
        if entry.get("manager") not in managers or entry.get("subresource")
    )


def _managed(live: Manifest) -> list[dict[str, Any]]:
    metadata = live.get("metadata")
    found = metadata.get("managedFields") if isinstance(metadata, dict) else None
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _trie(value: Any, depth: int = 0) -> Fields:
    # Servers are not trusted: a malformed or very deep entry is ignored.
    if not isinstance(value, dict) or depth > _DEEPEST:
        return {}
    return {name: _trie(child, depth + 1) if child else {} for name, child in value.items()}


def shown(text: str) -> Any:
    """Return the value that a `k:` or `v:` step encodes, None if it is not valid JSON."""
    try:
        return json.loads(text[2:])
    except (ValueError, RecursionError):
        return None


def union(tries: Iterable[Fields]) -> Fields:
    """Merge several tries into one, in linear time."""
    result: Fields = {}
    for trie in tries:
        _add(result, trie)
    return result


def _add(result: Fields, trie: Fields) -> None:
    for key, child in trie.items():
        if key not in result:
            result[key] = _trie(child)
        elif child:
            _add(result[key], child)


def field_set(value: Any, type_: Type) -> Fields:
    """Return the field set of a value, as an API server records it for an apply."""
    if not isinstance(value, dict):
        return {}
    return {f"f:{name}": _child_fields(child, type_.field(name)) for name, child in value.items()}


def _child_fields(child: Any, type_: Type) -> Fields:
    if isinstance(child, dict):
        return {} if type_.is_atomic else field_set(child, type_)
    if not isinstance(child, list):
        return {}
    if type_.is_set:
        return {f"v:{json.dumps(item)}": {} for item in child}
    if type_.keys and all(isinstance(item, dict) for item in child):
        inner = type_.element
        return {key_text(type_, item): {".": {}, **field_set(item, inner)} for item in child}
    return {}


def applied_fields(manifest: Manifest, type_: Type = OBJECT) -> Fields:
    """Return the field set of an applied manifest, without the fields that identify it."""
    resource_key(manifest)
    body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "status")}
    metadata = {
        k: v
        for k, v in (body.get("metadata") or {}).items()
        if k
        not in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields")
    }
    return field_set({**body, "metadata": metadata}, type_)


def key_text(type_: Type, element: dict[str, Any]) -> str:
    """Return the `k:` step for an element of a list with keys."""
    values = dict(sorted(zip(type_.keys, type_.key_of(element), strict=True)))
    return "k:" + json.dumps(values, separators=(",", ":"))


def child_of(fields: Fields | None, name: str) -> Fields | None:
    """Return the trie below a field, None if the field is not owned."""
    return fields.get(f"f:{name}") if fields else None


def elements_of(fields: Fields | None, type_: Type) -> dict[tuple[Any, ...], Fields]:
    """Return the tries below the elements of a list, by the values of their keys."""
    found: dict[tuple[Any, ...], Fields] = {}
    for text, child in (fields or {}).items():
        values = shown(text) if text.startswith("k:") else None
        if isinstance(values, dict):
            found.setdefault(type_.key_of(values), child if isinstance(child, dict) else {})
    return found


def members_of(fields: Fields | None) -> set[str]:
    """Return the members of a set, each as JSON with sorted keys."""
    return {json.dumps(shown(f), sort_keys=True) for f in fields or {} if f.startswith("v:")}
