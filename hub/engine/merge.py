"""Predict what applying a manifest makes of a live resource.

This is server-side apply done here, by field ownership and merge keys, so that a comparison
needs no request: fields that the manifest sets change, fields that we applied before and the
manifest dropped go, everything else stays.
"""

import json
from dataclasses import dataclass
from typing import Any

from hub.engine.fields import (
    LAST_APPLIED,
    Fields,
    applied_fields,
    child_of,
    element_key,
    elements_of,
    is_set_list,
    merge_keys,
    others_fields,
    owned_fields,
    shown,
)
from hub.engine.quantity import same_quantity
from hub.engine.resource import Manifest, annotations_of, is_builtin, resource_key

_ABSENT = object()
_QUANTITY_PARENTS = {
    "limits",
    "requests",
    "capacity",
    "hard",
    "min",
    "max",
    "default",
    "defaultRequest",
    "overhead",
}
_QUANTITY_FIELDS = {"sizeLimit", "storage", "averageValue", "value", "divisor"}
_ELEMENT_DEFAULTS: dict[str, Any] = {
    "protocol": "TCP", "volumeMode": "Filesystem", "expirationSeconds": 3600, "defaultMode": 420,
    "pathType": "ImplementationSpecific", "apiGroup": "rbac.authorization.k8s.io", "status": {"phase": "Pending"},
    "scope": "*", "matchPolicy": "Equivalent", "apiVersion": "v1", "kind": "PersistentVolumeClaim",
    "fieldPath": None, "conversion": None, "served": True, "effect": "", "operator": "Equal",
    "type": "", "periodSeconds": 15, "weight": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Context:
    kind: str
    builtin: bool


def predict(desired: Manifest, live: Manifest, owned: Fields | None, others: Fields) -> Manifest:
    """Return what `live` becomes when `desired` is applied.

    Shapes: `owned` is the trie of fields that we applied before, `others` that of everybody else;
        a field that both own stays when we drop it.
    """
    key = resource_key(desired)
    context = _Context(key.kind, is_builtin(key.group))
    return _merge_map(desired, live, owned, others, context)


def ownership(live: Manifest) -> tuple[Fields | None, Fields]:
    """Return (what we applied before, what others own) for a live resource.

    A resource that was last applied by a client-side apply tells it by its annotation.
    """
    owned = owned_fields(live)
    others = others_fields(live)
    text = annotations_of(live).get(LAST_APPLIED)
    if owned is None and text:
        owned = _last_applied(text)
        others = {}
    return owned, others


def _last_applied(text: str) -> Fields | None:
    try:
        manifest = json.loads(text)
        return applied_fields(manifest) if isinstance(manifest, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    except Exception as error:
        # ManifestError from a hand-written annotation: it then tells nothing.
        if type(error).__name__ == "ManifestError":
            return None
        raise


def _merge_map(
    desired: dict[str, Any],
    live: dict[str, Any],
    owned: Fields | None,
    others: Fields | None,
    context: _Context,
) -> dict[str, Any]:
    result = dict(live)
    for name, wanted in desired.items():
        if wanted is None:
            continue
        merged = _merge_value(
            name,
            wanted,
            live.get(name, _ABSENT),
            child_of(owned, name),
            child_of(others, name),
            context,
        )
        if merged is not _ABSENT:
            result[name] = merged
    for field in owned or {}:
        name = field[2:]
        if field.startswith("f:") and desired.get(name) is None and name in live:
            _drop(result, name, (owned or {})[field], child_of(others, name))
    return result


def _drop(result: dict[str, Any], name: str, owned: Fields, others: Fields | None) -> None:
    live = result[name]
    inner = {k: v for k, v in owned.items() if k != "."}
    if not inner or not isinstance(live, dict):
        if others is None:
            del result[name]
        return
    rest = dict(live)
    for field, child in inner.items():
        if field.startswith("f:") and field[2:] in rest:
            _drop(rest, field[2:], child, child_of(others, field[2:]))
    if rest or others is not None:
        result[name] = rest
    else:
        del result[name]


def _merge_value(
    name: str,
    wanted: Any,
    live: Any,
    owned: Fields | None,
    others: Fields | None,
    context: _Context,
) -> Any:
    if live is _ABSENT:
        return _ABSENT if _is_zero(wanted) and context.builtin else wanted
    if isinstance(wanted, dict) and isinstance(live, dict):
        if name in _QUANTITY_PARENTS:
            wanted = {k: _same_or(v, live.get(k, _ABSENT)) for k, v in wanted.items()}
        return _merge_map(wanted, live, owned, others, context)
    if isinstance(wanted, list) and isinstance(live, list):
        return _merge_list(name, wanted, live, owned, others, context)
    if name in _QUANTITY_FIELDS:
        return _same_or(wanted, live)
    return wanted


def _same_or(wanted: Any, live: Any) -> Any:
    return live if live is not _ABSENT and same_quantity(wanted, live) else wanted


def _is_zero(value: Any) -> bool:
    return (
        value in (None, "", False, 0)
        or value == []
        or (isinstance(value, dict) and all(_is_zero(v) for v in value.values()))
    )


def _merge_list(
    name: str,
    wanted: list[Any],
    live: list[Any],
    owned: Fields | None,
    others: Fields | None,
    context: _Context,
) -> list[Any]:
    if is_set_list(name):
        return _merge_set(wanted, live, owned or {}, others or {})
    keys = merge_keys(name, wanted + live, owned, kind=context.kind, builtin=context.builtin)
    if keys and len({element_key(keys, e) for e in wanted}) == len(wanted):
        return _merge_elements(keys, wanted, live, owned, others, context)
    return live if _equivalent(wanted, live, context) else wanted


def _merge_set(wanted: list[Any], live: list[Any], owned: Fields, others: Fields) -> list[Any]:
    # Written as JSON, so that what is no text, which anybody may write, can be looked up too.
    names = {_as_json(item) for item in wanted}
    dropped = {_as_json(shown(f)) for f in owned if f.startswith("v:")} - names
    kept = {
        name: item
        for item in live
        if (name := _as_json(item)) not in dropped or f"v:{name}" in others
    }
    return [*kept.values(), *(item for item in wanted if _as_json(item) not in kept)]


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _merge_elements(
    keys: tuple[str, ...],
    wanted: list[dict[str, Any]],
    live: list[dict[str, Any]],
    owned: Fields | None,
    others: Fields | None,
    context: _Context,
) -> list[Any]:
    by_key = {element_key(keys, e): e for e in live}
    ours, theirs = elements_of(owned, keys), elements_of(others, keys)
    merged = {}
    for element in wanted:
        key = element_key(keys, element)
        before = by_key.get(key)
        if before is None:
            merged[key] = element
        else:
            merged[key] = _merge_map(
                element,
                before,
                ours(element),
                theirs(element),
                context,
            )
    kept = [
        k for k, e in by_key.items()
        if k in merged or ours(e) is None or theirs(e) is not None
    ]  # fmt: skip
    common = [k for k in kept if k in merged]
    order = [k for k in merged if k in by_key]
    if common == order:
        return [merged.get(k, by_key[k]) for k in kept] + [
            e for k, e in merged.items() if k not in by_key
        ]
    return list(merged.values()) + [by_key[k] for k in kept if k not in merged]


def _equivalent(wanted: Any, live: Any, context: _Context) -> bool:
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return True
    if isinstance(wanted, dict) and isinstance(live, dict):
        return _equivalent_map(wanted, live, context)
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(
            _equivalent(one, other, context) for one, other in zip(wanted, live, strict=True)
        )
    return same_quantity(wanted, live) and type(wanted) is type(live)


def _equivalent_map(wanted: dict[str, Any], live: dict[str, Any], context: _Context) -> bool:
    for name in wanted.keys() | live.keys():
        if name not in live:
            if not (context.builtin and _is_zero(wanted[name])) and wanted[name] is not None:
                return False
        elif name not in wanted or wanted[name] is None:
            # Typed kinds fill defaults inside list elements; a value that is none is drift.
            if not context.builtin or not _is_default(name, live[name]):
                return False
        elif not _equivalent(wanted[name], live[name], context):
            return False
    return True


def _is_default(name: str, value: Any) -> bool:
    return (
        _is_zero(value)
        or (name in _ELEMENT_DEFAULTS and _ELEMENT_DEFAULTS[name] in (None, value))
        or (isinstance(value, dict) and all(_is_default(k, v) for k, v in value.items()))
    )
