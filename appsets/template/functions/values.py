"""Values of templates as Go treats them: kind, truth, printing and conversion."""

import math
from collections.abc import Mapping
from typing import Any

from appsets.template.syntax import TemplateError

MAX_TEXT = 1_000_000
MAX_COMPARED = 2000
"""The maximum number of values or characters that a function compares with each other."""


def require_bounded(name: str, size: int) -> None:
    """Raise TemplateError if a value would have more characters than a template may write."""
    # Checked before the value exists: one of gigabytes would exhaust the memory first.
    if size > MAX_TEXT:
        raise TemplateError(f"{name}: more than {MAX_TEXT} characters")


class Missing:
    """The value of a missing key: false, and printed as Go prints it."""

    def __repr__(self) -> str:
        return "<no value>"


NOTHING = Missing()


def is_true(value: Any) -> bool:
    """Return whether Go's `if` takes a value as true; an empty one is false."""
    if value is None or isinstance(value, Missing):
        return False
    if isinstance(value, bool | int | float | str | list | tuple | Mapping):
        return bool(value)
    return True


def kind_of(value: Any) -> str:
    """Return Go's name for the kind of a value."""
    if value is None or isinstance(value, Missing):
        return "invalid"
    for kind, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float64"),
        (str, "string"),
        (list, "slice"),
        (tuple, "slice"),
        (Mapping, "map"),
    ):
        if isinstance(value, kind):
            return name
    return "unknown"


def shown(value: Any) -> str:
    """Return a value as Go prints it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Missing):
        return "<no value>"
    return _inner(value)


def _inner(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, list | tuple):
        return "[" + " ".join(_inner(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{k}:{_inner(v)}" for k, v in sorted(value.items())) + "]"
    return str(value)


def _float(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    if value == int(value) and abs(value) < 1e21:
        text = repr(value)
        return str(int(value)) if abs(value) < 1e6 or "e" not in text else _exponent(value)
    return _exponent(value) if abs(value) < 1e-4 or abs(value) >= 1e21 else repr(value)


def _exponent(value: float) -> str:
    mantissa, _, power = f"{value:e}".partition("e")
    digits = (
        repr(value).partition("e")[0] if "e" in repr(value) else mantissa.rstrip("0").rstrip(".")
    )
    return f"{digits}e{power}"


def as_text(value: Any) -> str:
    """Return a value as sprig converts it to text; null is empty."""
    if isinstance(value, Missing) or value is None:
        return ""
    return shown(value)


def as_number(value: Any) -> int:
    """Return a value as sprig converts it to a whole number, 0 for text that is not one."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value.strip(), 0) if value.strip() else 0
        except ValueError:
            try:
                return int(float(value))
            except ValueError:
                return 0
    return 0


def as_real(value: Any) -> float:
    """Return a value as sprig converts it to a float, 0 for text that is not one."""
    try:
        return float(value) if not isinstance(value, Missing) and value is not None else 0.0
    except (TypeError, ValueError):
        return 0.0


def plain_value(value: Any) -> Any:
    """Return a value as JSON and YAML write it; a missing value is null."""
    if isinstance(value, Missing):
        return None
    if isinstance(value, Mapping):
        return {str(k): plain_value(v) for k, v in value.items()}
    return [plain_value(v) for v in value] if isinstance(value, list | tuple) else value


def require_kind(value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    """Return a value of a kind; raise TemplateError for another one."""
    if not isinstance(value, kind):
        raise TemplateError(f"{shown(value)} is not a {what}")
    return value


def as_list(value: Any) -> list[Any]:
    """Return a list, empty for null; raise TemplateError for any other value."""
    if value is None or isinstance(value, Missing):
        return []
    return list(require_kind(value, list | tuple, "list"))  # type: ignore[arg-type]
