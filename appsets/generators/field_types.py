"""Checks of the types of the fields of a spec: the first wrong field is named."""

from collections.abc import Callable
from typing import Any

from hub.engine.errors import RuleError

Check = Callable[[Any, str], None]


def _is(kind: type | tuple[type, ...], word: str) -> Check:
    def check(value: Any, where: str) -> None:
        wrong = isinstance(value, bool) and kind is not bool
        if wrong or not isinstance(value, kind):
            raise RuleError(f"{where} must be {word}")

    return check


TEXT, FLAG, NUMBER, OBJECT = (
    _is(str, "text"),
    _is(bool, "true or false"),
    _is(int, "a whole number"),
    _is(dict, "an object"),
)
COUNT = _is((int, str), "a whole number or a percentage")
NAME = _is((str, int), "text")


def each(inner: Check) -> Check:
    """Return a check of a list."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise RuleError(f"{where} must be a list")
        for number, one in enumerate(value):
            inner(one, f"{where}[{number}]")

    return check


def of(**fields: Check) -> Check:
    """Return a check of an object by its fields; what is absent or null passes."""

    def check(value: Any, where: str) -> None:
        OBJECT(value, where)
        for name, inner in fields.items():
            if value.get(name) is not None:
                inner(value[name], f"{where}.{name}")

    return check


def maps(inner: Check) -> Check:
    """Return a check of an object whose values are alike."""

    def check(value: Any, where: str) -> None:
        OBJECT(value, where)
        for key, one in value.items():
            inner(one, f"{where}.{key}")

    return check


TEXTS, TEXT_MAP = each(TEXT), maps(TEXT)
SELECTOR = of(
    matchLabels=TEXT_MAP, matchExpressions=each(of(key=TEXT, operator=TEXT, values=TEXTS))
)
TEMPLATE = of(
    metadata=of(name=TEXT, namespace=TEXT, labels=TEXT_MAP, annotations=TEXT_MAP, finalizers=TEXTS),
    spec=OBJECT,
)
