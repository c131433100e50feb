"""The functions of sprig for maps."""

from collections.abc import Callable, Mapping
from typing import Any

from appsets.template.functions.values import as_text, is_true, plain_value, require_kind


def _dict(*pairs: Any) -> dict[str, Any]:
    found = {}
    for number in range(0, len(pairs), 2):
        found[as_text(pairs[number])] = pairs[number + 1] if number + 1 < len(pairs) else ""
    return found


def _merge(target: Any, *sources: Any, overwrite: bool = False) -> dict[str, Any]:
    result = dict(require_kind(target, dict, "dictionary"))
    for source in sources:
        for key, value in require_kind(source, dict, "dictionary").items():
            old = result.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                result[key] = _merge(old, value, overwrite=overwrite)
            elif key not in result or overwrite or not is_true(old):
                result[key] = value
    return result


def _dig(*arguments: Any) -> Any:
    *keys, default, found = arguments
    for key in keys:
        if not isinstance(found, Mapping) or key not in found:
            return default
        found = found[key]
    return found


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "dict": _dict,
    "get": lambda d, k: require_kind(d, dict, "dictionary").get(k, ""),
    "set": lambda d, k, v: {**require_kind(d, dict, "dictionary"), k: v},
    "unset": lambda d, k: {a: b for a, b in require_kind(d, dict, "dictionary").items() if a != k},
    "hasKey": lambda d, k: k in require_kind(d, dict, "dictionary"),
    "pluck": lambda k, *ds: [d[k] for d in ds if isinstance(d, dict) and k in d],
    "keys": lambda *ds: sorted(k for d in ds for k in d),
    "values": lambda d: [v for _, v in sorted(require_kind(d, dict, "dictionary").items())],
    "pick": lambda d, *ks: {k: d[k] for k in ks if k in d},
    "omit": lambda d, *ks: {k: v for k, v in d.items() if k not in ks},
    "merge": _merge,
    "mergeOverwrite": lambda d, *s: _merge(d, *s, overwrite=True),
    "deepCopy": plain_value,
    "dig": _dig,
}
