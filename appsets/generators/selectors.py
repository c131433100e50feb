"""Label selectors of generators."""

from collections.abc import Mapping
from typing import Any

from appsets.generators.errors import GeneratorError
from appsets.template.limits import require_time


def fits(selector: Mapping[str, Any], flat: Mapping[str, str]) -> bool:
    """Return whether labels, or flat parameters, match a label selector.

    Raises: GeneratorError for an invalid selector.
    """
    require_time()
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(labels, Mapping):
        raise GeneratorError("selector.matchLabels must be an object")
    if not isinstance(expressions, list) or not all(isinstance(e, Mapping) for e in expressions):
        raise GeneratorError("selector.matchExpressions must be a list of objects")
    if any(flat.get(k) != v for k, v in labels.items()):
        return False
    return all(_holds(entry, flat) for entry in expressions)


def _holds(entry: Mapping[str, Any], flat: Mapping[str, str]) -> bool:
    key, operator, values = entry.get("key"), entry.get("operator"), entry.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list):
        raise GeneratorError(
            "selector.matchExpressions: each needs a key that is text, and values that are a list"
        )
    value = flat.get(key)
    holds = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(str(operator))
    if holds is None:
        raise GeneratorError(
            f"selector: operator {operator!r} is none of In, NotIn, Exists, DoesNotExist"
        )
    return holds
