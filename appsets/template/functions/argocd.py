"""The functions that Argo CD adds to templates."""

import re
from collections.abc import Callable
from typing import Any

import yaml

from appsets.template.functions.values import as_number, as_text, plain_value
from appsets.template.syntax import TemplateError
from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml


def normalize(text: Any) -> str:
    """Return a name in a form that Kubernetes accepts, as Argo CD does."""
    return re.sub(r"[^-a-z0-9.]", "-", as_text(text).lower())[:253].strip("-.")


def slugify(*arguments: Any) -> str:
    """Return Argo CD's `slugify [max=50] [smart=true] name`."""
    *options, name = arguments
    maximum = as_number(options[0]) if options else 50
    smart = bool(options[1]) if len(options) > 1 else True
    text = re.sub(
        r"-+", "-", re.sub(r"[^a-z0-9_-]+", "-", normalize(name).replace(".", "-"))
    ).strip("-_")
    if len(text) <= maximum:
        return text
    cut = text[:maximum]
    if smart and text[maximum : maximum + 1] not in ("-", "") and "-" in cut:
        cut = cut[: cut.rindex("-")]
    return cut.strip("-_")


def _yaml(value: Any) -> str:
    return (
        str(
            yaml.dump(
                plain_value(value),
                Dumper=yaml.CSafeDumper,
                sort_keys=True,
                default_flow_style=False,
                allow_unicode=True,
                width=2**20,
            )
        )
        .removesuffix("\n...\n")
        .rstrip("\n")
    )


def _from_yaml(text: Any) -> Any:
    try:
        found = parse_yaml(as_text(text))
    except (ManifestError, yaml.YAMLError) as error:
        raise TemplateError(str(error)) from error
    return found[0] if found else {}


def _from_yaml_array(text: Any) -> Any:
    found = _from_yaml(text)
    if found in ({}, None):
        return []
    if not isinstance(found, list):
        raise TemplateError("the text is not a list")
    return found


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "normalize": normalize,
    "slugify": slugify,
    "toYaml": _yaml,
    "fromYaml": _from_yaml,
    "fromYamlArray": _from_yaml_array,
}
