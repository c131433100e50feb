"""Patches and field ownership in a sandbox, as on a real API server."""

import base64
from datetime import UTC, datetime
from typing import Any

from clusters.sandbox.kinds import Served
from hub.engine.field_sets import (
    Fields,
    applied_fields,
    key_text,
    union,
)
from hub.engine.resource import Manifest
from hub.engine.schema import LIST, Type


def now() -> str:
    """Return the time as Kubernetes writes it."""
    # The sandbox has its own clock.
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251


def _secret(manifest: Manifest) -> Manifest:
    data = dict(manifest.get("data") or {})
    for name, text in (manifest.get("stringData") or {}).items():
        data[name] = base64.b64encode(str(text).encode()).decode()
    result = {k: v for k, v in manifest.items() if k != "stringData"}
    return {**result, **({"data": data} if data else {})}


def _content(manifest: Manifest) -> Any:
    return {k: v for k, v in manifest.items() if k not in ("metadata", "status")}


def _same(before: Manifest, after: Manifest) -> bool:
    def bare(manifest: Manifest) -> Any:
        entries = [
            {k: v for k, v in e.items() if k != "time"}
            for e in manifest["metadata"].get("managedFields") or []
        ]
        metadata = {
            k: v
            for k, v in manifest["metadata"].items()
            if k not in ("resourceVersion", "managedFields", "generation")
        }
        return {**manifest, "metadata": metadata}, entries

    return bool(bare(before) == bare(after))


def _entry(manager: str, operation: str, kind: Served, fields: Fields) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": kind.api_version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _managed(
    before: Manifest, manager: str, operation: str, kind: Served, fields: Fields, changed: Fields
) -> list[dict[str, Any]]:
    rest = []
    for entry in before["metadata"].get("managedFields") or []:
        if (entry["manager"], entry["operation"]) == (manager, operation):
            continue
        left = _minus(entry.get("fieldsV1") or {}, changed)
        if left:
            rest.append({**entry, "fieldsV1": left})
    return [*rest, _entry(manager, operation, kind, fields)]


def _with_update_manager(
    before: Manifest | None, after: Manifest, manager: str, type_: Type
) -> Manifest:
    kind = Served("", after["apiVersion"], after["kind"], "", False)
    changed = changed_fields(before, after, type_) if before else applied_fields(after, type_)
    old: Fields = {}
    # A patch may have changed the entries themselves: that is how ownership is transferred.
    for entry in after["metadata"].get("managedFields") or []:
        if (entry["manager"], entry["operation"]) == (manager, "Update"):
            old = entry.get("fieldsV1") or {}
    if not changed:
        return after
    entries = _managed(after, manager, "Update", kind, union([old, changed]), changed)
    return {**after, "metadata": {**after["metadata"], "managedFields": entries}}


def changed_fields(before: Any, after: Any, type_: Type) -> Fields:
    """Return the trie of fields whose value differs, without those that the server writes."""

    def body(manifest: Any) -> Any:
        metadata = {
            k: v
            for k, v in (manifest.get("metadata") or {}).items()
            if k in ("labels", "annotations", "finalizers")
        }
        return {
            **{k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "status")},
            "metadata": metadata,
        }

    return _changed_map(body(before), body(after), type_)


def _changed_map(before: dict[str, Any], after: dict[str, Any], type_: Type) -> Fields:
    result: Fields = {}
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            result[f"f:{name}"] = _changed_map(one, other, type_.field(name))
        elif isinstance(one, list) and isinstance(other, list):
            result[f"f:{name}"] = _changed_list(one, other, type_.field(name))
        else:
            result[f"f:{name}"] = {}
    return result


def _changed_list(one: list[Any], other: list[Any], type_: Type) -> Fields:
    if not _has_keys(type_, one + other):
        return {}
    old = {type_.key_of(e): e for e in one}
    result: Fields = {}
    for element in other:
        before = old.get(type_.key_of(element))
        if before != element:
            changed = _changed_map(before, element, type_.element) if before else {}
            result[key_text(type_, element)] = changed
    return result


def _has_keys(type_: Type, elements: list[Any]) -> bool:
    return type_.shape == LIST and bool(type_.keys) and all(isinstance(e, dict) for e in elements)


def _minus(fields: Fields, gone: Fields) -> Fields:
    result: Fields = {}
    for name, child in fields.items():
        if name not in gone:
            result[name] = child
        elif gone[name] and child:
            left = _minus(child, gone[name])
            if left:
                result[name] = left
    return result


def _intersection(one: Fields, other: Fields) -> Fields:
    result: Fields = {}
    for name, child in one.items():
        if name in other and name != ".":
            inner = _intersection(child, other[name]) if child and other[name] else {}
            if inner or not child or not other[name]:
                result[name] = inner
    return result


def _paths(fields: Fields, prefix: str = "") -> list[str]:
    found = []
    for name, child in fields.items():
        path = f"{prefix}.{name.partition(':')[2]}"
        found += _paths(child, path) if child else [path]
    return found


def _merge(before: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _strategic(before: Manifest, patch: Manifest, type_: Type) -> Manifest:
    return dict(_merged(before, patch, type_))


def _merged(old: Any, new: Any, type_: Type) -> Any:
    if isinstance(new, dict) and isinstance(old, dict):
        return _merged_map(old, new, type_)
    if isinstance(new, list) and isinstance(old, list) and _has_keys(type_, [*old, *new]):
        merged = {type_.key_of(e): e for e in old}
        for element in new:
            slot = type_.key_of(element)
            if element.get("$patch") == "delete":
                merged.pop(slot, None)
            else:
                merged[slot] = _merged(merged.get(slot), element, type_.element)
        return list(merged.values())
    return new


def _merged_map(old: dict[str, Any], new: dict[str, Any], type_: Type) -> dict[str, Any]:
    if new.get("$patch") == "replace":
        return {k: v for k, v in new.items() if k != "$patch"}
    result = dict(old)
    for key, value in new.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(old.get(key), value, type_.field(key))
    return result
