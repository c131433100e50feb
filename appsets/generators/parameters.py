"""Combine parameters: a generator's own `values`, and the parameters of several generators."""

from collections.abc import Mapping
from typing import Any

from appsets.generators.base import Params, Run
from appsets.generators.errors import GeneratorError
from appsets.generators.field_types import NUMBER, TEMPLATE, TEXT_MAP, Check
from appsets.template import fast
from appsets.template.render import render_value
from appsets.template.syntax import TemplateError

COMMON_FIELDS: dict[str, Check] = {
    "template": TEMPLATE,
    "values": TEXT_MAP,
    "requeueAfterSeconds": NUMBER,
}
"""The fields that every generator with `values` has."""


def with_values(run: Run, block: Mapping[str, Any], params: Params, where: str) -> Params:
    """Return parameters with the generator's own `values`, each rendered with them.

    In a matrix the templates may also use the parameters of the generators before this one.
    """
    values = block.get("values") or {}
    if not values:
        return params
    if not isinstance(values, Mapping):
        raise GeneratorError(f"{where}.values must be an object")
    known = overlaid(run, run.outer, params)
    try:
        made = {
            str(k): render_value(fast.plain(v), known, go=run.go, missing=run.missing)
            for k, v in values.items()
        }
    except TemplateError as error:
        raise GeneratorError(f"{where}.values: {error}") from error
    if run.go:
        return run.size.add({**params, "values": made})
    return run.size.add({**params, **{f"values.{k}": v for k, v in made.items()}})


def overlaid(run: Run, base: Params, own: Params) -> Params:
    """Return parameters with others on top of them."""
    if not base:
        return own
    return dict(merged_deep(run, base, own)) if run.go else {**base, **own}


def merged_deep(run: Run, base: Any, over: Any) -> Any:
    """Return a value with another on top: maps are merged, null leaves the value as it is.

    False, 0 and "" replace a value like any other.
    """
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return run.size.add(
            {
                k: merged_deep(run, base[k], over[k])
                if k in base and k in over
                else over[k]
                if k in over
                else base[k]
                for k in {**base, **over}
            }
        )
    return base if over is None else over
