"""Generate the sets of parameters of an application set: values in, values out.

All I/O is behind `Inputs`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from appsets.generators.base import (
    MAX_PARAMETER_SETS,
    Inputs,
    Params,
    Run,
    check_count,
    chosen,
    entries_of,
    kinds_of,
)
from appsets.generators.errors import GeneratorError
from appsets.generators.registry import GENERATORS
from appsets.template.render import missing_of
from appsets.template.syntax import TemplateError


class Generated(NamedTuple):
    """One set of parameters, and the template of its generator."""

    params: Params
    template: Mapping[str, Any]


def generate(
    spec: Mapping[str, Any], inputs: Inputs, *, maximum: int = MAX_PARAMETER_SETS
) -> list[Generated]:
    """Return every set of parameters of a set's generators, in order.

    Raises: GeneratorError naming the generator; what `inputs` raises.
    """
    try:
        missing = missing_of(list(spec.get("goTemplateOptions") or []))
    except TemplateError as error:
        raise GeneratorError(str(error)) from error
    run = Run(inputs, GENERATORS, bool(spec.get("goTemplate")), missing, maximum)
    found: list[Generated] = []
    for number, entry in enumerate(entries_of(spec.get("generators"), "generators")):
        where = f"generators[{number}]"
        for kind in kinds_of(run, entry, where):
            for params in chosen(run, kind, entry, f"{where}.{kind}"):
                found.append(Generated(params, _template_of(entry, kind)))
            check_count(len(found), maximum, where)
    return found


def _template_of(entry: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    block = entry.get(kind)
    own = block.get("template") if isinstance(block, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def merged_template(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template of a set with the template of a generator on top: maps are merged."""
    result = dict(base)
    for key, value in own.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged_template(result[key], value)
        elif value not in (None, "", [], {}):
            result[key] = value
    return result


def has_templated_project(spec: Mapping[str, Any]) -> bool:
    """Return whether the project of a set's applications is a template."""
    project = ((spec.get("template") or {}).get("spec") or {}).get("project") or ""
    return "{{" in str(project)
