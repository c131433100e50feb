"""Field sets: which manager owns which fields of a live resource.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/ (fieldsV1).
"""

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from hub.engine.resource import Manifest, is_builtin, resource_key

Fields = dict[str, Any]
"""A trie: `f:name` a field, `k:{…}` a list element by key, `v:…` a set element, `.` the thing itself."""

MANAGER = "argocd-controller"
"""The field manager of every apply: Argo CD's, so that an adopted resource changes hands silently."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_MERGE_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "ephemeralContainers": (("name",),),
    "env": (("name",),),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "imagePullSecrets": (("name",),),
    "hostAliases": (("ip",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "webhooks": (("name",),),
    "secrets": (("name",),),
    "ownerReferences": (("uid",),),
    "conditions": (("type",),),
    "resourceClaims": (("name",),),
    "validations": (),
}
_KEY_DEFAULTS = {"protocol": "TCP"}
_SETS = {"finalizers"}
_DEEPEST = 200
_ATOMIC_IN = {"NetworkPolicy", "Ingress", "CustomResourceDefinition", "EndpointSlice", "Endpoints"}


def owned_fields(live: Manifest, managers: Collection[str] = (MANAGER,)) -> Fields | None:
    """Return the union of what the managers applied, or None if none of them applied anything."""
    found = [
        _trie(entry.get("fieldsV1"))
        for entry in _managed(live)
        if entry.get("manager") in managers
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    ]
    return union(found) if found else None


def others_fields(live: Manifest, managers: Collection[str] = (MANAGER,)) -> Fields:
    """Return the union of what everybody else owns."""
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
    # What a server sends: whatever has no fields, or is deeper than any object, says nothing.
    if not isinstance(value, dict) or depth > _DEEPEST:
        return {}
    return {name: _trie(child, depth + 1) if child else {} for name, child in value.items()}


def shown(text: str) -> Any:
    """Return the value that a `k:` or `v:` of a trie writes, None when it is no JSON: then it names nothing here."""
    try:
        return json.loads(text[2:])
    except (ValueError, RecursionError):
        return None


def union(tries: Iterable[Fields]) -> Fields:
    """Return one trie that holds all the paths of several; what was found is never copied again."""
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


def field_set(value: Any, manifest_kind: str = "", builtin: bool = True) -> Fields:
    """Return the trie of a value's own fields, as an API server records it for an apply."""
    if not isinstance(value, dict):
        return {}
    result: Fields = {}
    for name, child in value.items():
        result[f"f:{name}"] = _child_fields(name, child, manifest_kind, builtin)
    return result


def _child_fields(name: str, child: Any, kind: str, builtin: bool) -> Fields:
    if isinstance(child, dict):
        return field_set(child, kind, builtin)
    if isinstance(child, list):
        if name in _SETS:
            return {f"v:{json.dumps(item)}": {} for item in child}
        keys = merge_keys(name, child, None, kind=kind, builtin=builtin)
        if keys:
            return {
                _key_text(keys, item): {".": {}, **field_set(item, kind, builtin)} for item in child
            }
    return {}


def applied_fields(manifest: Manifest) -> Fields:
    """Return the trie of a manifest that is applied, without what identifies it."""
    key = resource_key(manifest)
    body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "status")}
    metadata = {
        k: v
        for k, v in (body.get("metadata") or {}).items()
        if k
        not in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields")
    }
    body = {**body, "metadata": metadata}
    return field_set(body, key.kind, is_builtin(key.group))


def merge_keys(
    name: str, elements: list[Any], owned: Fields | None, *, kind: str, builtin: bool
) -> tuple[str, ...]:
    """Return the fields that identify an element of a list, empty when the list is one value.

    Kubernetes' own kinds have fixed keys; for custom resources the field set of the live
    resource shows them, since its schema declared the list a map.
    """
    if not elements or not all(isinstance(element, dict) for element in elements):
        return ()
    if not builtin:
        return _keys_shown(owned)
    if kind in _ATOMIC_IN:
        return ()
    for keys in _MERGE_KEYS.get(name, ()):
        if all(all(k in e or k in _KEY_DEFAULTS for k in keys) for e in elements):
            return keys
    return ()


def _keys_shown(owned: Fields | None) -> tuple[str, ...]:
    for text in owned or {}:
        if text.startswith("k:"):
            keys = shown(text)
            if isinstance(keys, dict):
                return tuple(keys)
    return ()


def element_key(keys: tuple[str, ...], element: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values that identify an element, defaults filled in."""
    return tuple(_plain(element.get(k, _KEY_DEFAULTS.get(k))) for k in keys)


def _plain(value: Any) -> Any:
    # No schema allows an object for a key, but anybody may write one.
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _key_text(keys: tuple[str, ...], element: dict[str, Any]) -> str:
    values = dict(sorted(zip(keys, element_key(keys, element), strict=True)))
    return "k:" + json.dumps(values, separators=(",", ":"))


def child_of(fields: Fields | None, name: str) -> Fields | None:
    """Return the trie below a field, None when the field is not in it."""
    return fields.get(f"f:{name}") if fields else None


def elements_of(
    fields: Fields | None, keys: tuple[str, ...]
) -> Callable[[dict[str, Any]], Fields | None]:
    """Return what gives the trie below an element of a list, None when the element is not in it."""
    known: dict[str, Fields] = {}
    for text, child in (fields or {}).items():
        if text.startswith("k:"):
            known.setdefault(_name(shown(text)), child if isinstance(child, dict) else {})

    def find(element: dict[str, Any]) -> Fields | None:
        return known.get(_name(dict(zip(keys, element_key(keys, element), strict=True))))

    return find


def _name(values: Any) -> str:
    return json.dumps(values, sort_keys=True)


def is_set_list(name: str) -> bool:
    """Return whether a list is a set of values that are merged."""
    return name in _SETS
