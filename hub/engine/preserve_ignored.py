"""`RespectIgnoreDifferences`: keep the live values of ignored fields when a sync applies.

Lists follow Git: an ignored field stays with the element of the same key, elements removed in Git
are removed, and added ones are applied as they are in Git.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hub.engine.effort import Effort
from hub.engine.field_managers import all_fields, manager_fields, take_fields
from hub.engine.field_sets import Fields
from hub.engine.ignore_rules import (
    IgnoreRule,
    PathsByJq,
    Places,
    ignored_places,
    rules_for,
    without,
)
from hub.engine.list_elements import (
    as_text,
    element_fields,
    inserted,
    keys_shown,
    partners_by_keys,
    partners_by_value,
)
from hub.engine.normalize import for_comparison
from hub.engine.resource import Manifest, resource_key
from hub.engine.schema import ABSENT, OBJECT, Type

_NAMES = ("name", "namespace", "generateName")
_MAX_PAIRS = 100_000


def preserve_ignored(
    desired: Manifest,
    live: Manifest | None,
    rules: Iterable[IgnoreRule],
    paths_by_jq: PathsByJq,
    type_: Type = OBJECT,
    effort: Effort | None = None,
) -> Manifest:
    """Return `desired` with the live values of all ignored fields.

    Omitting a field is not enough: an apply removes fields that it set before and no longer sets.

    Shapes: `type_` is the type from the cluster's schema; without it, managed fields provide the
        keys of lists.
    Raises: RuleError for an invalid jq path, and if the rules process too many values.
    Source: as Argo CD 3.6; only for resources that exist, and never for the status.
    """
    chosen = rules_for(resource_key(desired), rules)
    if live is None or not chosen:
        return desired
    managers = [name for rule in chosen for name in rule.managers]
    result = (
        take_fields(desired, live, manager_fields(live, managers), type_) if managers else desired
    )
    body = for_comparison(live)
    effort = effort or Effort()
    ours, theirs = (ignored_places(side, chosen, paths_by_jq, effort) for side in (result, body))
    kept = _kept(result, body, ours, theirs, _Known(type_, all_fields(live), effort))
    return _with_identity_of(desired, kept)


def _with_identity_of(desired: Manifest, result: Manifest) -> Manifest:
    """Restore the identity of `desired`, since only that resource was permitted."""
    names = {f: desired["metadata"][f] for f in _NAMES if f in desired["metadata"]}
    given = result.get("metadata")
    others = {k: v for k, v in given.items() if k not in _NAMES} if isinstance(given, dict) else {}
    about = {"apiVersion": desired["apiVersion"], "kind": desired["kind"]}
    return {**result, **about, "metadata": {**others, **names}}


class _Known(NamedTuple):
    """The type of a value, the field set of everything owned in it, and the work that is left."""

    type_: Type
    fields: Fields
    effort: Effort


def _kept(desired: Any, live: Any, ours: Places, theirs: Places, known: _Known) -> Any:
    if isinstance(desired, dict) and isinstance(live, dict):
        result = dict(desired)
        for name in dict.fromkeys([*ours, *theirs]):
            value = _kept_field(str(name), desired, live, (ours, theirs), known)
            if value is ABSENT:
                result.pop(str(name), None)
            else:
                result[str(name)] = value
        return result
    if isinstance(desired, list) and isinstance(live, list):
        return _kept_list(desired, live, ours, theirs, known)
    return desired


def _kept_field(
    name: str,
    desired: Mapping[str, Any],
    live: Mapping[str, Any],
    selections: tuple[Places, Places],
    known: _Known,
) -> Any:
    ours, theirs = (selection.get(name, {}) for selection in selections)
    wanted, current = desired.get(name, ABSENT), live.get(name, ABSENT)
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return current
    if current is ABSENT:
        return ABSENT if wanted is ABSENT else _new(wanted, ours, known.effort)
    if wanted is ABSENT:
        return _only(current, theirs)
    inner = _Known(known.type_.field(name), known.fields.get(f"f:{name}", {}), known.effort)
    return _kept(wanted, current, ours, theirs, inner)


def _only(value: Any, selection: Places | bool) -> Any:
    """Return the selected parts of a value that Git does not have, `ABSENT` if there are none."""
    if isinstance(selection, bool):
        return value
    if isinstance(value, list):
        return [
            value[int(at)] for at, s in sorted(selection.items()) if isinstance(s, bool)
        ] or ABSENT
    found = {name: _only(value[name], inner) for name, inner in selection.items()}
    return {name: inner for name, inner in found.items() if inner is not ABSENT} or ABSENT


def _new(value: Any, selection: Places, effort: Effort) -> Any:
    """Return a value that only Git has, without the fields that a rule names individually.

    A rule for all elements or fields does not apply to a new one, which would be incomplete.
    """
    if not without(value, selection, effort):
        return ABSENT
    return without(value, _named(value, selection), effort)


def _named(value: Any, selection: Places) -> Places:
    if isinstance(value, list):
        return {at: inner for at, inner in selection.items() if isinstance(inner, bool)}
    found: Places = {}
    for name, inner in selection.items():
        if isinstance(inner, dict):
            found[name] = _named(value[name], inner)
        elif inner:
            found[name] = inner
    return found


def _kept_list(
    desired: list[Any], live: list[Any], ours: Places, theirs: Places, known: _Known
) -> list[Any]:
    partners = _partners(desired, live, ours, theirs, known)
    keys, tries = keys_shown(known.fields), element_fields(known.fields)
    result, places = list[Any](), dict[int, int]()
    for at, element in enumerate(desired):
        there = partners.get(at)
        mine, other = ours.get(at, {}), {} if there is None else theirs.get(there, {})
        if there is None:
            if not isinstance(mine, bool):
                result.append(element)
            continue
        places[len(result)] = there
        if isinstance(mine, bool) or isinstance(other, bool):
            result.append(live[there])
        else:
            fields = tries.get(as_text(_keys_of(live[there], keys)), {})
            inner = _Known(known.type_.element, fields, known.effort)
            result.append(_kept(element, live[there], mine, other, inner))
    there_only = [int(at) for at, s in theirs.items() if isinstance(s, bool)]
    used = set(places.values())
    return inserted(result, {at: live[at] for at in there_only if at not in used}, places)


def _keys_of(element: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    return (
        {key: element[key] for key in keys if key in element} if isinstance(element, dict) else {}
    )


def _partners(
    desired: list[Any], live: list[Any], ours: Places, theirs: Places, known: _Known
) -> dict[int, int]:
    """Map indexes of elements in Git to live ones; new elements are left out."""
    type_, fields, effort = known
    keys = type_.keys or keys_shown(fields)
    if keys:
        return partners_by_keys(desired, live, keys)
    if type_.is_set or any(step.startswith("v:") for step in fields):
        return partners_by_value(desired, live)
    here, there = (
        [int(at) for at, s in side.items() if isinstance(s, bool)] for side in (ours, theirs)
    )
    found = dict(zip(sorted(here), sorted(there), strict=False))
    wanted, current = _rest(desired, ours, effort), _rest(live, theirs, effort)
    by_name = _by_name(wanted, current)
    if by_name is not None:
        return found | by_name
    is_one_length = len(desired) == len(live)
    return found | _by_content(wanted, current, effort, is_one_length=is_one_length)


def _rest(elements: list[Any], selection: Places, effort: Effort) -> dict[int, Any]:
    """Return the elements without their ignored parts, except elements ignored entirely."""
    inner = {at: selection.get(at, {}) for at in range(len(elements))}
    return {
        at: without(elements[at], s, effort) for at, s in inner.items() if not isinstance(s, bool)
    }


def _by_name(wanted: dict[int, Any], current: dict[int, Any]) -> dict[int, int] | None:
    sides = []
    for side in (wanted, current):
        names = {
            e.get("name"): at
            for at, e in side.items()
            if isinstance(e, dict) and isinstance(e.get("name"), str)
        }
        if len(names) != len(side):
            return None
        sides.append(names)
    return {at: sides[1][name] for name, at in sides[0].items() if name in sides[1]}


def _by_content(
    wanted: dict[int, Any], current: dict[int, Any], effort: Effort, *, is_one_length: bool
) -> dict[int, int]:
    """Match elements by content, then by position if the lists have the same length."""
    found = {at: at for at, e in wanted.items() if at in current and _is_in(e, current[at], effort)}
    free = [at for at in current if at not in found]
    if len(wanted) * len(free) <= _MAX_PAIRS:
        for at, element in wanted.items():
            there = (
                None
                if at in found
                else next((o for o in free if _is_in(element, current[o], effort)), None)
            )
            if there is not None:
                found[at] = there
                free.remove(there)
    if is_one_length:
        left = set(free)
        found |= {at: at for at in wanted if at not in found and at in left}
    return found


def _is_in(wanted: Any, live: Any, effort: Effort) -> bool:
    """Return whether `live` contains everything in `wanted`; it may have additional defaults."""
    effort.spend()
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(
            name in live and _is_in(value, live[name], effort) for name, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(
            _is_in(one, other, effort) for one, other in zip(wanted, live, strict=True)
        )
    return bool(wanted == live)
