"""Predict the result of a server-side apply from field ownership and the cluster's schema.

Fields that the manifest sets change, fields that we applied before and that it no longer sets are
removed, all others stay. Where only the server knows the result, a doubt is recorded, and a dry run
decides.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from hub.engine.errors import ManifestError
from hub.engine.field_sets import (
    LAST_APPLIED,
    Fields,
    applied_fields,
    child_of,
    elements_of,
    members_of,
    others_fields,
    owned_fields,
)
from hub.engine.list_elements import as_text, element_fields
from hub.engine.resource import Manifest, annotations_of, is_builtin, resource_key
from hub.engine.schema import ABSENT, ANY, LIST, OBJECT, Type

Path = tuple[Any, ...]
"""Steps from the root: a field, or the (key, value) pairs of a list element."""


class Uncertain(StrEnum):
    """The assumed result for a field where only the server knows whether an apply changes it."""

    CHANGED = "changed"
    KEPT = "kept"
    LIKELY = "likely"
    """The most likely result for this kind, if no dry run is possible."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A field where the live value differs from the manifest."""

    path: Path
    is_sure: bool
    """Whether an apply changes it, unless a webhook or a default restores it."""
    live: Any
    """The live value, `ABSENT` if there is none."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owners of the fields of a live resource."""

    ours: Fields | None
    """The fields that we applied, None if we applied nothing."""
    others: Callable[[], Fields]
    is_annotation: bool = False
    """Whether it comes from the last-applied annotation; a dry run then removes nothing."""


def ownership(live: Manifest, type_: Type = OBJECT) -> Ownership:
    """Return the owners of the fields of a live resource.

    After a client-side apply they come from the last-applied annotation.
    """
    owned = owned_fields(live)
    text = annotations_of(live).get(LAST_APPLIED)
    if owned is None and text:
        found = _last_applied(text, type_)
        return Ownership(found, dict, is_annotation=found is not None)
    return Ownership(owned, lambda: others_fields(live))


def _last_applied(text: str, type_: Type) -> Fields | None:
    try:
        manifest = json.loads(text)
        return applied_fields(manifest, type_) if isinstance(manifest, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ManifestError):
        return None


def merge_for_apply(
    wanted: Manifest,
    live: Manifest,
    type_: Type,
    owner: Ownership,
    weigh: Uncertain = Uncertain.CHANGED,
) -> tuple[Manifest, list[Doubt]]:
    """Return the predicted result of applying `wanted` to `live`, and the doubts about it.

    Without doubts the result is `live` itself: an apply changes nothing.
    """
    builtin = is_builtin(resource_key(wanted).group)
    merge = _Merge(
        weigh, builtin, owner.ours is not None, owner.others, is_typed=type_ is not OBJECT
    )
    found = merge.map(wanted, live, type_, owner.ours, ())
    return found, merge.doubts


def digest_of_doubts(doubts: list[Doubt]) -> str:
    """Return the digest of the live values in doubt.

    Everything else equals the manifest or is not in it, so a dry run's response stays valid while
    these values are unchanged.
    """
    found = [[d.path, d.live is ABSENT, None if d.live is ABSENT else d.live] for d in doubts]
    text = orjson.dumps(found, default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


class _Merge:
    """One merge: applies what is certain and records doubts."""

    __slots__ = (
        "_applied",
        "_builtin",
        "_by_keys",
        "_others",
        "_theirs",
        "_typed",
        "_weigh",
        "doubts",
    )

    def __init__(
        self,
        weigh: Uncertain,
        builtin: bool,
        applied: bool,
        others: Callable[[], Fields],
        *,
        is_typed: bool,
    ) -> None:
        self._weigh, self._builtin, self._applied, self._others = weigh, builtin, applied, others
        self._typed = is_typed
        self._theirs: Fields | None = None
        self._by_keys: dict[int, dict[str, Fields]] = {}
        self.doubts: list[Doubt] = []

    def map(
        self,
        wanted: dict[str, Any],
        live: dict[str, Any],
        type_: Type,
        ours: Fields | None,
        path: Path,
    ) -> dict[str, Any]:
        """Merge `wanted` into `live`; return `live` itself if nothing changes."""
        result = live
        for name, value in wanted.items():
            current = live.get(name)
            if value == current and (value is None or type(value) is str):
                continue
            if value is None:
                if not is_zero(current) and self._is_reset((*path, name), current):
                    result = dict(live) if result is live else result
                    del result[name]
                continue
            before = ABSENT if current is None else current
            inner = type_.field(name)
            merged = self._value(value, before, inner, child_of(ours, name), (*path, name))
            if merged is not before:
                result = dict(live) if result is live else result
                result[name] = merged
        for field in ours or ():
            name = field[2:]
            if field.startswith("f:") and name not in wanted and live.get(name) is not None:
                result = dict(live) if result is live else result
                self._drop(result, name, (ours or {})[field], (*path, name))
        return result

    def _is_reset(self, path: Path, live: Any) -> bool:
        # A null resets a field to its default, which may be the live value.
        return self._unsure(path, live, ABSENT, likely=live) is ABSENT

    def _value(self, wanted: Any, live: Any, type_: Type, ours: Fields | None, path: Path) -> Any:
        if live is ABSENT:
            return self._missing(wanted, ours, path)
        if isinstance(wanted, dict) and isinstance(live, dict) and not _is_atomic(type_, ours):
            return self.map(wanted, live, type_, ours, path)
        if isinstance(wanted, list) and isinstance(live, list) and type_.shape == LIST:
            if type_.is_set:
                return self._set(wanted, live, ours, path)
            if type_.keys:
                return self._elements(wanted, live, type_, ours, path)
        return self._whole(wanted, live, type_, path)

    def _missing(self, wanted: Any, ours: Fields | None, path: Path) -> Any:
        if not is_zero(wanted):
            return self._changed(path, ABSENT, wanted)
        if _has(ours, wanted):
            # We applied it, and the server omits zero values.
            return ABSENT
        kept = self._builtin and not self._applied
        return self._unsure(path, ABSENT, wanted, likely=ABSENT if kept else wanted)

    def _whole(self, wanted: Any, live: Any, type_: Type, path: Path) -> Any:
        found = _compared(wanted, live, type_)
        if found == _SAME:
            return live
        # A CustomResourceDefinition publishes all its defaults; someone set any other value.
        publishes = self._typed and not self._builtin and type_.shape != ANY
        if found == _OTHER or publishes:
            return self._changed(path, live, wanted)
        return self._unsure(path, live, wanted, likely=live if found == _EMPTY else wanted)

    def _set(
        self, wanted: list[Any], live: list[Any], ours: Fields | None, path: Path
    ) -> list[Any]:
        # As JSON text, since members may be unhashable.
        names = {_as_json(item): item for item in wanted}
        dropped = members_of(ours) - names.keys()
        theirs = members_of(self._theirs_at(path)) if dropped else set()
        kept = {
            name: item for item in live if (name := _as_json(item)) not in dropped or name in theirs
        }
        order = _order(names, kept, {_as_json(item) for item in live})
        result = [kept.get(name, names.get(name)) for name in order]
        return live if result == live else self._changed(path, live, result)

    def _elements(
        self, wanted: list[Any], live: list[Any], type_: Type, ours: Fields | None, path: Path
    ) -> Any:
        if not all(isinstance(item, dict) for item in (*wanted, *live)):
            return self._whole(wanted, live, type_, path)
        by_key = {type_.key_of(item): item for item in live}
        if len(by_key) != len(live):
            # Duplicate keys from a client-side apply: only the server knows how it merges them.
            return self._whole(wanted, live, type_, path)
        inner, mine = type_.element, elements_of(ours, type_)
        merged: dict[Any, Any] = {}
        for item in wanted:
            key = type_.key_of(item)
            before, at = by_key.get(key), (*path, _step(type_, key))
            merged.pop(key, None)
            merged[key] = (
                item if before is None else self.map(item, before, inner, mine.get(key), at)
            )
        kept = {key: item for key, item in by_key.items() if key in merged or key not in mine}
        for key, item in self._left(by_key, merged, mine, type_, path):
            kept[key] = item
        order = _order(merged, {k: kept[k] for k in by_key if k in kept}, by_key)
        result = [merged.get(key, kept.get(key)) for key in order]
        if order != list(by_key):
            return self._changed((*path, "*"), list(by_key), result)
        return live if all(a is b for a, b in zip(result, live, strict=True)) else result

    def _left(
        self,
        live: dict[Any, Any],
        wanted: dict[Any, Any],
        mine: dict[Any, Fields],
        type_: Type,
        path: Path,
    ) -> list[tuple[Any, Any]]:
        """Return elements that we no longer set but others do, without the fields only we owned."""
        left = [key for key in live if key in mine and key not in wanted]
        theirs = elements_of(self._theirs_at(path), type_) if left else {}
        result = []
        for key in left:
            if key in theirs:
                rest, at = dict(live[key]), (*path, _step(type_, key))
                for field, child in mine[key].items():
                    if field.startswith("f:") and field[2:] in rest and field[2:] not in type_.keys:
                        self._drop(rest, field[2:], child, (*at, field[2:]), theirs[key])
                result.append((key, live[key] if rest == live[key] else rest))
        return result

    def _drop(
        self,
        result: dict[str, Any],
        name: str,
        ours: Fields,
        path: Path,
        theirs: Fields | None = None,
    ) -> None:
        """Remove a field that we applied and no longer set, except the parts that others own."""
        others = child_of(theirs if theirs is not None else self._theirs_at(path[:-1]), name)
        rest = _without(result[name], ours, others)
        if rest is result[name]:
            return
        self._changed(path, result[name], rest)
        if rest is ABSENT:
            del result[name]
        else:
            result[name] = rest

    def _theirs_at(self, path: Path) -> Fields | None:
        if self._theirs is None:
            self._theirs = self._others()
        found: Fields | None = self._theirs
        for step in path:
            found = self._element(found, step) if isinstance(step, tuple) else child_of(found, step)
        return found

    def _element(self, fields: Fields | None, step: tuple[Any, ...]) -> Fields | None:
        """Return the trie of an element; those of a list are read once for all its elements."""
        if not fields:
            return None
        # The tries are those of `self._theirs`, which stay: so do their ids.
        if id(fields) not in self._by_keys:
            self._by_keys[id(fields)] = element_fields(fields)
        return self._by_keys[id(fields)].get(as_text(dict(step)))

    def _changed(self, path: Path, live: Any, wanted: Any) -> Any:
        self.doubts.append(Doubt(path, is_sure=True, live=live))
        return wanted

    def _unsure(self, path: Path, live: Any, wanted: Any, likely: Any) -> Any:
        self.doubts.append(Doubt(path, is_sure=False, live=live))
        return {Uncertain.CHANGED: wanted, Uncertain.KEPT: live, Uncertain.LIKELY: likely}[
            self._weigh
        ]


def _is_atomic(type_: Type, ours: Fields | None) -> bool:
    """Return whether a map is replaced as a whole.

    Where its type is not known, ownership tells: the server records no fields of an atomic map.
    """
    return type_.is_atomic or (type_.shape == ANY and ours == {})


def _step(type_: Type, key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(zip(type_.keys, key, strict=True))


def _without(live: Any, ours: Fields, theirs: Fields | None) -> Any:
    inner = {k[2:]: v for k, v in ours.items() if k.startswith("f:")}
    if not inner or not isinstance(live, dict):
        return ABSENT if theirs is None else live
    rest = dict(live)
    for name, child in inner.items():
        if name in rest:
            left = _without(rest[name], child, child_of(theirs, name))
            if left is ABSENT:
                del rest[name]
            else:
                rest[name] = left
    if rest == live:
        return live
    return rest if rest or theirs is not None else ABSENT


def _order(wanted: Any, kept: Any, live: Any) -> list[Any]:
    """Return the keys of a merged list, in live order if the manifest agrees, else in its order."""
    if [k for k in kept if k in wanted] == [k for k in wanted if k in live]:
        return [*kept, *(k for k in wanted if k not in kept)]
    return [*wanted, *(k for k in kept if k not in wanted)]


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def is_zero(value: Any) -> bool:
    """Return whether a value is a zero value, which servers may omit."""
    if isinstance(value, dict):
        return all(is_zero(inner) for inner in value.values())
    return value in (None, "", False, 0) or value == []


def _has(ours: Fields | None, wanted: Any) -> bool:
    """Return whether we applied a value and its entire content."""
    if ours is None:
        return False
    if isinstance(wanted, dict):
        return all(v is None or _has(child_of(ours, n), v) for n, v in wanted.items())
    return True


_SAME, _EMPTY, _UNSURE, _OTHER = range(4)
"""Equal; equal except for empty values missing in the manifest; possibly equal; different."""


def _compared(wanted: Any, live: Any, type_: Type) -> int:
    """Compare two values that are replaced as a whole."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return _worst(_compared_fields(wanted, live, type_))
    if isinstance(wanted, list) and isinstance(live, list):
        if len(wanted) != len(live):
            return _OTHER
        inner = type_.element
        return _worst(_compared(one, other, inner) for one, other in zip(wanted, live, strict=True))
    return _SAME if type_.same(wanted, live) else _OTHER


def _compared_fields(wanted: dict[str, Any], live: dict[str, Any], type_: Type) -> Iterator[int]:
    for name in wanted.keys() | live.keys():
        one, other = wanted.get(name), live.get(name)
        if other is None:
            zero = _UNSURE if is_zero(one) else _OTHER
            yield _SAME if one is None else zero
        elif one is None and type_.is_key(name):
            yield _UNSURE
        elif one is None:
            # Built-in kinds do not publish all of their defaults.
            empty = _EMPTY if is_zero(other) else _UNSURE
            yield _SAME if type_.field(name).is_default(other) else empty
        else:
            yield _compared(one, other, type_.field(name))


def _worst(found: Iterable[int]) -> int:
    result = _SAME
    for one in found:
        if one == _OTHER:
            return _OTHER
        result = max(result, one)
    return result


def filter_dry_run(
    answer: Manifest, live: Manifest, wanted: Manifest, type_: Type, owner: Ownership
) -> Manifest:
    """Return the response of a dry run without changes that webhooks make to others' fields.

    A field that the manifest does not set and that we did not apply keeps its value from `live`.
    Source: as the server-side diff of Argo CD 3.6 without `IncludeMutationWebhook`.
    """
    return dict(_answered(answer, live, wanted, type_, owner.ours, gone=owner.is_annotation))


def _answered(
    answer: Any, live: Any, wanted: Any, type_: Type, ours: Fields | None, *, gone: bool
) -> Any:
    if isinstance(answer, dict) and isinstance(live, dict) and not _is_atomic(type_, ours):
        return _answered_map(answer, live, wanted, type_, ours, gone=gone)
    if isinstance(answer, list) and isinstance(live, list) and type_.shape == LIST:
        if type_.is_set:
            return _answered_set(answer, live, wanted, ours, gone=gone)
        if type_.keys and all(isinstance(item, dict) for item in (*answer, *live)):
            return _answered_list(answer, live, wanted, type_, ours, gone=gone)
    return answer


def _answered_map(
    answer: dict[str, Any],
    live: dict[str, Any],
    wanted: Any,
    type_: Type,
    ours: Fields | None,
    *,
    gone: bool,
) -> dict[str, Any]:
    stated = wanted if isinstance(wanted, dict) else {}
    result = {}
    for name in [*live, *(n for n in answer if n not in live)]:
        before, after = live.get(name, ABSENT), answer.get(name, ABSENT)
        mine, value = child_of(ours, name), before
        if name in stated:
            value = _answered(after, before, stated[name], type_.field(name), mine, gone=gone)
        elif mine is not None and gone:
            value = before if before is ABSENT else _without(before, mine, None)
        elif mine is not None:
            value = _answered(after, before, None, type_.field(name), mine, gone=gone)
        if value is not ABSENT:
            result[name] = value
    return result


def _answered_list(
    answer: list[Any], live: list[Any], wanted: Any, type_: Type, ours: Fields | None, *, gone: bool
) -> list[Any]:
    stated = (
        {type_.key_of(i): i for i in wanted or () if isinstance(i, dict)}
        if isinstance(wanted, list)
        else {}
    )
    before, mine = {type_.key_of(item): item for item in live}, elements_of(ours, type_)
    found = {}
    for item in answer:
        key = type_.key_of(item)
        if key in stated or (key in mine and not gone):
            found[key] = _answered(
                item, before.get(key), stated.get(key), type_.element, mine.get(key), gone=gone
            )
        elif key in before and key not in mine:
            found[key] = before[key]
    about = stated.keys() | mine.keys()
    kept = {
        key: found.get(key, item)
        for key, item in before.items()
        if key in found or key not in about
    }
    return [found.get(key, kept.get(key)) for key in _order(found, kept, before)]


def _answered_set(
    answer: list[Any], live: list[Any], wanted: Any, ours: Fields | None, *, gone: bool
) -> list[Any]:
    stated = {_as_json(item) for item in wanted} if isinstance(wanted, list) else set()
    mine, before = members_of(ours), {_as_json(item): item for item in live}
    about = stated if gone else stated | mine
    found = {n: i for i in answer if (n := _as_json(i)) in about or (n in before and n not in mine)}
    kept = {n: i for n, i in before.items() if n in found or n not in mine | stated}
    return [found.get(name, kept.get(name)) for name in _order(found, kept, before)]
