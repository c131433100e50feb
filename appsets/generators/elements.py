"""The generator `list`: sets of parameters that the spec holds."""

from collections.abc import Mapping
from typing import Any

from appsets.generators.base import Generator, Params, Run
from appsets.generators.errors import GeneratorError
from appsets.generators.field_types import OBJECT, TEMPLATE, TEXT, each
from appsets.template import fast
from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml


def _list(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
    elements = list(block.get("elements") or [])
    if block.get("elementsYaml"):
        try:
            documents = parse_yaml(str(block["elementsYaml"]), run.read)
        except ManifestError as error:
            raise GeneratorError(f"{where}.elementsYaml: {error}") from error
        more = documents[0] if documents else []
        if not isinstance(more, list):
            raise GeneratorError(f"{where}.elementsYaml must be a YAML list")
        elements += more
    return [_element(run, e, f"{where}.elements[{n}]") for n, e in enumerate(elements)]


def _element(run: Run, element: Any, where: str) -> Params:
    if not isinstance(element, Mapping):
        raise GeneratorError(f"{where} must be an object")
    if run.go:
        return dict(element)
    found: Params = {}
    for key, value in element.items():
        if key == "values" and isinstance(value, Mapping):
            found |= {f"values.{k}": fast.plain(v) for k, v in value.items()}
        elif isinstance(value, str):
            found[key] = value
        else:
            raise GeneratorError(
                f"{where}.{key}: error parsing value as string; put it in quotes, or use goTemplate"
            )
    return found


LIST = Generator(
    "list", _list, {"elements": each(OBJECT), "elementsYaml": TEXT, "template": TEMPLATE}
)
