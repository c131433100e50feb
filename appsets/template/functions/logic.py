"""The functions of sprig for defaults, choices and kinds."""

from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import as_text, is_true, kind_of, plain_value
from appsets.template.syntax import TemplateError


def _default(fallback: Any, *value: Any) -> Any:
    return value[0] if value and is_true(value[0]) else fallback


def _ternary(yes: Any, no: Any, test: Any) -> Any:
    return yes if is_true(test) else no


def _fail(text: Any) -> Any:
    raise TemplateError(as_text(text))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "empty": lambda v: not is_true(v),
    "coalesce": lambda *v: next((x for x in v if is_true(x)), None),
    "all": lambda *v: all(map(is_true, v)),
    "any": lambda *v: any(map(is_true, v)),
    "ternary": _ternary,
    "fail": _fail,
    "kindOf": kind_of,
    "kindIs": lambda k, v: kind_of(v) == k,
    "typeOf": kind_of,
    "typeIs": lambda k, v: kind_of(v) == k,
    "deepEqual": lambda a, b: plain_value(a) == plain_value(b),
}
