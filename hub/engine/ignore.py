"""Fields that a comparison ignores: by JSON pointer, by jq path, by field manager."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.engine.errors import RuleError
from hub.engine.fields import Fields, union
from hub.engine.globs import check, matches
from hub.engine.resource import Manifest, ResourceKey

DeleteByJq = Callable[[str, Any], Any]
"""Return the document without what a jq path selects; runs outside the engine, within limits."""

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
        """Return whether the rule is about this resource; group and kind are globs."""
        return (
            matches(self.group, key.group)
            and matches(self.kind, key.kind)
            and self.name in ("", key.name)
            and self.namespace in ("", key.namespace)
        )


def ignore_rules(entries: Iterable[Mapping[str, Any]], field: str) -> tuple[IgnoreRule, ...]:
    """Return the rules of an `ignoreDifferences` list.

    Raises: RuleError naming the entry that has no kind, or a pointer that does not start with "/".
    """
    rules = []
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


def rules_for(key: ResourceKey, rules: Iterable[IgnoreRule]) -> list[IgnoreRule]:
    """Return the rules that are about a resource."""
    return [rule for rule in rules if rule.matches(key)]


def without_ignored(
    manifest: Manifest, rules: Iterable[IgnoreRule], delete_by_jq: DeleteByJq
) -> Manifest:
    """Return the manifest without what pointers and jq paths of the rules select."""
    result: Any = manifest
    for rule in rules:
        for pointer in rule.json_pointers:
            result = _remove(result, _pointer_path(pointer))
        for expression in rule.jq_paths:
            path = plain_path(expression)
            result = _remove(result, path) if path else delete_by_jq(expression, result)
    return dict(result)


def _pointer_path(pointer: str) -> Path:
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    return tuple(int(step) if _INDEX.fullmatch(step) else step for step in steps)


_INDEX = re.compile(r"[0-9]{1,18}")
_STEP = re.compile(r'\.?\["([^"\\]+)"\]|\.([A-Za-z_][A-Za-z0-9_]*)|\.?\[([0-9]{1,18})\]|\.?(\[\])')


def plain_path(expression: str) -> Path | None:
    """Return the steps of a jq path made of fields, indexes and [] only, None for anything else."""
    text, position, steps = expression.strip().removesuffix("?"), 0, []
    while position < len(text):
        match = _STEP.match(text, position)
        if not match:
            return None
        quoted, field, index, _every = match.groups()
        steps.append(quoted or field or (int(index) if index else None))
        position = match.end()
    return tuple(steps) or None


def _remove(value: Any, path: Path) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(value, dict):
        return _remove_from_map(value, str(head) if head is not None else None, rest)
    if isinstance(value, list):
        return _remove_from_list(value, head, rest)
    return value


def _remove_from_map(value: dict[str, Any], head: str | None, rest: Path) -> dict[str, Any]:
    chosen = list(value) if head is None else [head] if head in value else []
    result = dict(value)
    for name in chosen:
        if rest:
            result[name] = _remove(value[name], rest)
        else:
            del result[name]
    return result


def _remove_from_list(value: list[Any], head: str | int | None, rest: Path) -> list[Any]:
    if head is None:
        return [_remove(item, rest) for item in value] if rest else []
    if not isinstance(head, int) or head >= len(value):
        return value
    if not rest:
        return [*value[:head], *value[head + 1 :]]
    return [*value[:head], _remove(value[head], rest), *value[head + 1 :]]


def manager_fields(live: Manifest, managers: Iterable[str]) -> Fields:
    """Return the trie of what the named managers own in a live resource, by any operation."""
    names = set(managers)
    return union(
        entry.get("fieldsV1") or {}
        for entry in (live.get("metadata") or {}).get("managedFields") or []
        if entry.get("manager") in names
    )


def take_fields(target: Any, source: Any, fields: Fields) -> Any:
    """Return `target` with the fields of a trie as `source` has them.

    Used for fields that another manager owns: both sides of a comparison then agree.
    """
    if not isinstance(target, dict) or not isinstance(source, dict):
        return source
    result = dict(target)
    for field, child in fields.items():
        if not field.startswith("f:"):
            continue
        name = field[2:]
        if name not in source:
            result.pop(name, None)
        elif any(k != "." for k in child) and isinstance(source[name], dict):
            result[name] = take_fields(result.get(name, {}), source[name], child)
        else:
            result[name] = source[name]
    return result
