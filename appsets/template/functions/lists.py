"""The functions of sprig for lists."""

from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import MAX_COMPARED, as_list, as_number, is_true
from appsets.template.syntax import TemplateError


def _without(items: Any, *gone: Any) -> list[Any]:
    if len(as_list(items)) * len(gone) > MAX_COMPARED * MAX_COMPARED // 2:
        raise TemplateError("without: too many values to compare")
    return [i for i in as_list(items) if i not in gone]


def _uniq(items: Any) -> list[Any]:
    found: list[Any] = []
    if len(as_list(items)) > MAX_COMPARED:
        raise TemplateError(f"uniq: more than {MAX_COMPARED} values")
    for item in as_list(items):
        if item not in found:
            found.append(item)
    return found


def _chunk(size: Any, items: Any) -> list[list[Any]]:
    count, found = max(as_number(size), 1), as_list(items)
    return [found[n : n + count] for n in range(0, len(found), count)]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "list": lambda *v: list(v),
    "tuple": lambda *v: list(v),
    "first": lambda v: (as_list(v) or [None])[0],
    "last": lambda v: (as_list(v) or [None])[-1],
    "rest": lambda v: as_list(v)[1:],
    "initial": lambda v: as_list(v)[:-1],
    "append": lambda v, x: [*as_list(v), x],
    "push": lambda v, x: [*as_list(v), x],
    "prepend": lambda v, x: [x, *as_list(v)],
    "concat": lambda *v: [x for part in v for x in as_list(part)],
    "reverse": lambda v: as_list(v)[::-1],
    "uniq": _uniq,
    "without": _without,
    "has": lambda x, v: x in as_list(v),
    "compact": lambda v: [x for x in as_list(v) if is_true(x)],
    "chunk": _chunk,
}
