"""Describe the changes between two objects without revealing secrets."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "(hidden)"
_MAX_CHANGES = 200
_MAX_TEXT = 200
_SENSITIVE = re.compile(
    r"passw|secret|token|credential|private|bearer|api[-_.]?key|auth|cert|sshkey"
    r"|(?<![a-z])key(?!s|id)",
    re.IGNORECASE,
)
# Fields that may hold secrets although their names do not say so.
_OPAQUE = {
    "values",
    "valuesObject",
    "parameters",
    "fileParameters",
    "env",
    "extVars",
    "tlas",
    "data",
    "stringData",
    "config",
    "patch",
}
_SHOWN = {"labels", "matchLabels", "commonLabels"}
"""Maps of labels: they select resources and stand on every page, whatever their keys are named."""
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]+@")


def digest_of(value: Any) -> str:
    """Return the digest of an object, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def change_between(before: Any, after: Any) -> dict[str, Any]:
    """Return digests and a masked difference, empty if both are None.

    Shapes: `{before, after, changes: [{path, before, after}]}`, at most 200 changes, then
        `truncated`. Digests leave out hidden values, so that these cannot be guessed.
    """
    if before is None and after is None:
        return {}
    old, new = masked(before), masked(after)
    empty: Any = {} if isinstance(after if before is None else before, dict) else None
    found = list(
        _changes(
            "", empty if before is None else old, empty if after is None else new, before, after
        )
    )
    result: dict[str, Any] = {"changes": found[:_MAX_CHANGES]}
    if before is not None:
        result["before"] = digest_of(old)
    if after is not None:
        result["after"] = digest_of(new)
    if len(found) > _MAX_CHANGES:
        result["truncated"] = len(found) - _MAX_CHANGES
    return result


def masked(value: Any, name: str = "") -> Any:
    """Return a value with everything masked that could be a secret."""
    if name in _OPAQUE:
        return HIDDEN if value not in (None, "", [], {}) else value
    if isinstance(value, dict):
        names = dict.fromkeys(value, "") if name in _SHOWN else {k: str(k) for k in value}
        return {k: masked(v, names[k]) for k, v in value.items()}
    if isinstance(value, list):
        return [masked(v, name) for v in value]
    if name and _SENSITIVE.search(name) and value not in (None, "", True, False):
        return HIDDEN
    if isinstance(value, str):
        return _URL_LOGIN.sub("", value)
    return value


def _changes(path: str, old: Any, new: Any, before: Any, after: Any) -> Iterator[dict[str, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            yield from _changes(
                f"{path}.{key}" if path else str(key),
                old.get(key),
                new.get(key),
                _inner(before, key),
                _inner(after, key),
            )
        return
    if HIDDEN in (old, new):
        # Compare the real values, but never show them.
        if before != after:
            yield {"path": path, "before": _short(old), "after": _short(new)}
        return
    if old != new:
        yield {"path": path, "before": _short(old), "after": _short(new)}


def _inner(value: Any, key: Any) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _short(value: Any) -> Any:
    if isinstance(value, dict | list):
        text = json.dumps(value, sort_keys=True, default=str)
        return value if len(text) <= _MAX_TEXT * 5 else text[: _MAX_TEXT * 5] + "…"
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return value[:_MAX_TEXT] + "…"
    return value
