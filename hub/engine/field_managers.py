"""Copy the fields that given field managers own in a live resource.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from hub.engine.field_sets import Fields, union
from hub.engine.list_elements import (
    Elements,
    inserted,
    keys_shown,
    partners_by_keys,
    partners_by_value,
)
from hub.engine.resource import Manifest
from hub.engine.schema import ABSENT, LIST, MAP, OBJECT, Type

_DEEPEST = 200


def manager_fields(live: Manifest, managers: Iterable[str]) -> Fields:
    """Return the fields that the named managers own, by any operation and subresource.

    A map or list that they own while others own its content is `{".": {}}`.
    """
    names = set(managers)
    return _exact(_owned(live, lambda manager: manager in names), all_fields(live))


def all_fields(live: Manifest) -> Fields:
    """Return the fields that any manager owns."""
    return _owned(live, lambda _: True)


def _owned(live: Manifest, is_chosen: Callable[[Any], bool]) -> Fields:
    metadata = live.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, dict) else None
    version = live.get("apiVersion")
    return union(
        _trie(entry.get("fieldsV1"))
        for entry in (entries if isinstance(entries, list) else ())
        # In another API version the same path may mean another field.
        if isinstance(entry, dict)
        and entry.get("apiVersion", version) == version
        and is_chosen(entry.get("manager"))
    )


def _trie(value: Any, depth: int = 0) -> Fields:
    # Servers are not trusted: a malformed or very deep entry is ignored.
    if not isinstance(value, dict) or depth > _DEEPEST:
        return {}
    return {str(name): _trie(child, depth + 1) for name, child in value.items()}


def _exact(fields: Fields, everybodys: Fields) -> Fields:
    result = {}
    for step, child in fields.items():
        known = everybodys.get(step, {})
        is_shared = not _inside(child) and (_inside(known) or "." in child)
        result[step] = {".": {}} if is_shared else _exact(child, known)
    return result


def _inside(fields: Fields) -> bool:
    return any(step != "." for step in fields)


def take_fields(target: Any, source: Any, fields: Fields, type_: Type = OBJECT) -> Any:
    """Return `target` with the given fields copied from `source`.

    Elements of lists are matched by key, members of sets by value. An element missing in `target`
    is copied only if the element itself is owned.
    """
    found = _taken(target, source, fields, type_)
    return target if found is ABSENT else found


def _taken(target: Any, source: Any, fields: Fields, type_: Type) -> Any:
    if not _inside(fields):
        return _taken_whole(target, source, fields, type_)
    if isinstance(source, dict) and (target is ABSENT or isinstance(target, dict)):
        return _taken_map(target, source, fields, type_)
    if isinstance(source, list) and (target is ABSENT or isinstance(target, list)):
        found = _taken_list([] if target is ABSENT else target, source, fields, type_)
        return ABSENT if target is ABSENT and not found and "." not in fields else found
    return target


def _taken_whole(target: Any, source: Any, fields: Fields, type_: Type) -> Any:
    if "." not in fields and _is_one_value(source, type_):
        return source
    if target is not ABSENT:
        return target
    return type(source)() if isinstance(source, dict | list) else source


def _is_one_value(value: Any, type_: Type) -> bool:
    """Return whether the owner of this value owns its entire content."""
    if isinstance(value, dict):
        return type_.is_atomic if type_.shape == MAP else bool(value)
    if isinstance(value, list):
        return not (type_.keys or type_.is_set) if type_.shape == LIST else bool(value)
    return True


def _taken_map(target: Any, source: dict[str, Any], fields: Fields, type_: Type) -> Any:
    base = {} if target is ABSENT else target
    result = dict(base)
    for step, child in fields.items():
        name = step[2:]
        if not step.startswith("f:") or name not in source:
            continue
        found = _taken(base.get(name, ABSENT), source[name], child, type_.field(name))
        if found is not ABSENT:
            result[name] = found
    return ABSENT if target is ABSENT and not result and "." not in fields else result


def _taken_list(target: list[Any], source: list[Any], fields: Fields, type_: Type) -> list[Any]:
    result, missing = list(target), dict[int, Any]()
    ours, theirs = Elements(target), Elements(source)
    for step, child in fields.items():
        named, is_value = _shown(step), step.startswith("v:")
        there = None if named is ABSENT else theirs.find(named, by_value=is_value)
        if there is None:
            continue
        here = ours.find(named, by_value=is_value)
        if here is None:
            found = _taken_element(named, source[there], child, type_.element)
            missing |= {} if found is ABSENT else {there: found}
        elif not is_value:
            result[here] = _taken(target[here], source[there], child, type_.element)
    if not missing:
        return result
    keys = keys_shown(fields)
    partners = partners_by_keys(target, source, keys) if keys else partners_by_value(target, source)
    return inserted(result, missing, partners)


def _taken_element(named: Any, source: Any, fields: Fields, type_: Type) -> Any:
    """Return the owned part of a missing element, `ABSENT` unless it is owned itself."""
    if not isinstance(source, dict) or not fields:
        return source
    if "." not in fields:
        return ABSENT
    found = _taken(ABSENT, source, fields, type_)
    return {**named, **(found if isinstance(found, dict) else {})}


def _shown(step: str) -> Any:
    """Return the key or value that a step encodes, `ABSENT` for other steps and invalid JSON."""
    if not step.startswith(("k:", "v:")):
        return ABSENT
    try:
        found = json.loads(step[2:])
    except (ValueError, RecursionError):
        return ABSENT
    return found if step.startswith("v:") or (isinstance(found, dict) and found) else ABSENT
