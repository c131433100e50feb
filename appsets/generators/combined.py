"""The generators `matrix` and `merge`, which combine the parameters of others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from appsets.generators.base import (
    Generator,
    Params,
    Run,
    check_count,
    chosen,
    entries_of,
    kinds_of,
)
from appsets.generators.errors import GeneratorError
from appsets.generators.field_types import TEMPLATE, TEXTS
from appsets.generators.parameters import merged_deep, overlaid
from appsets.template.limits import require_time
from appsets.template.render import render_value
from appsets.template.syntax import TemplateError

_RENDERED_LATER = ("template", "values")
"""The fields of a child that are rendered with its own parameters, not with those before it."""


def _matrix(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
    found: list[Params] = [{}]
    for kind, entry, place in _children(run, block, "Matrix", where):
        grown: list[Params] = []
        for params in found:
            own = _filled(run, entry, kind, params, place) if params else entry
            for inner in chosen(_after(run, params), kind, own, f"{place}.{kind}"):
                grown.append(_joined(run, params, inner, place))
                check_count(len(grown), run.maximum, f"{where}: the product with {place}.{kind}")
        found = grown
    return found


def _merge(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
    keys = block.get("mergeKeys")
    if not isinstance(keys, list) or not keys:
        raise GeneratorError(f"{where}: no merge keys were specified, Merge requires at least one")
    result: dict[str, Params] = {}
    for number, (kind, entry, place) in enumerate(_children(run, block, "Merge", where)):
        own = _keyed(list(chosen(run, kind, entry, f"{place}.{kind}")), keys, place)
        if number == 0:
            result = own
            continue
        for key, params in own.items():
            if key in result:
                require_time()
                base = result[key]
                result[key] = (
                    merged_deep(run, base, params) if run.go else run.size.add({**base, **params})
                )
    return list(result.values())


def _children(
    run: Run, block: Mapping[str, Any], kind: str, where: str
) -> list[tuple[str, Mapping[str, Any], str]]:
    entries = entries_of(block.get("generators"), f"{where}.generators")
    if len(entries) < 2:
        raise GeneratorError(f"{where}: found less than two generators, {kind} needs at least two")
    found = []
    for number, entry in enumerate(entries):
        place = f"{where}.generators[{number}]"
        kinds = kinds_of(run, entry, place)
        if len(kinds) > 1:
            raise GeneratorError(f"{place}: found more than one generator in {kind}.Generators")
        found.append((kinds[0], entry, place))
    return found


def _after(run: Run, params: Params) -> Run:
    return replace(run, outer=overlaid(run, run.outer, params)) if params else run


def _filled(
    run: Run, entry: Mapping[str, Any], kind: str, params: Params, place: str
) -> Mapping[str, Any]:
    """Return a child rendered with the parameters of the generators before it."""
    try:
        return _rendered_entry(run, entry, params)
    except TemplateError as error:
        raise GeneratorError(f"{place}.{kind}: {error}") from error


def _rendered(run: Run, block: Any, params: Params) -> Any:
    if not isinstance(block, Mapping):
        return block
    made: dict[str, Any] = {}
    for key, value in block.items():
        if key in _RENDERED_LATER:
            made[key] = value
        elif key == "generators" and isinstance(value, list):
            made[key] = [
                _rendered_entry(run, e, params) if isinstance(e, Mapping) else e for e in value
            ]
        else:
            made[key] = render_value(value, params, go=run.go, missing=run.missing)
    return made


def _rendered_entry(run: Run, entry: Mapping[str, Any], params: Params) -> Mapping[str, Any]:
    """Return a rendered generator with its rendered selector."""
    return {
        key: _rendered(run, value, params)
        if key in run.generators
        else render_value(value, params, go=run.go, missing=run.missing)
        for key, value in entry.items()
    }


def _joined(run: Run, one: Params, other: Params, place: str) -> Params:
    require_time()
    if run.go:
        return dict(merged_deep(run, other, one))
    for key in one.keys() & other.keys():
        if one[key] != other[key]:
            raise GeneratorError(
                f"{place}: found duplicate key {key} with different value, "
                f"a: {one[key]} ,b: {other[key]}"
            )
    return run.size.add({**one, **other})


def _keyed(found: Sequence[Params], keys: Sequence[Any], place: str) -> dict[str, Params]:
    result: dict[str, Params] = {}
    for params in found:
        key = repr([params.get(k) for k in keys])
        if key in result:
            shown = {k: params.get(k) for k in keys}
            raise GeneratorError(
                f"{place}: the parameters from a generator were not unique by the given mergeKeys, "
                f"Merge requires all param sets to be unique. Duplicate key was {shown}"
            )
        result[key] = params
    return result


_FIELDS = {"mergeKeys": TEXTS, "template": TEMPLATE}
MATRIX = Generator("matrix", _matrix, _FIELDS, has_children=True)
MERGE = Generator("merge", _merge, _FIELDS, has_children=True)
