"""Templates without goTemplate: `{{ name }}` is replaced by the parameter of that name."""

import re
from collections.abc import Mapping
from typing import Any

from appsets.template.limits import MAX_OUTPUT, count_written, require_time
from appsets.template.syntax import TemplateError

_PLACE = re.compile(r"\{\{([^{}]*)\}\}")


def render(text: str, params: Mapping[str, Any]) -> str:
    """Return a text with its parameters replaced; unknown names stay as they are.

    Raises: TemplateError if the result is too long.
    """
    if "{{" not in text:
        return text
    require_time()
    left = MAX_OUTPUT

    def one(found: re.Match[str]) -> str:
        nonlocal left
        value = params.get(found[1].strip())
        if not isinstance(value, str):
            return found[0]
        left -= len(value)
        if left < 0:
            raise TemplateError(f"the template writes more than {MAX_OUTPUT} characters")
        return value

    return _PLACE.sub(one, text)


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Return nested parameters with dotted names, every value a text.

    Raises: OutOfTime if the names, each of which repeats the names of its parents, become too long.
    """
    require_time()
    if isinstance(value, Mapping):
        items = [(str(k), v) for k, v in value.items()]
    elif isinstance(value, list):
        items = [(str(n), v) for n, v in enumerate(value)]
    else:
        return {count_written(prefix): plain(value)}
    result: dict[str, str] = {}
    for key, inner in items:
        result |= flatten(inner, f"{prefix}.{key}" if prefix else key)
    return result


def plain(value: Any) -> str:
    """Return a value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
