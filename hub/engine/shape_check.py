"""Check the types of all values in a JSON document."""

from collections.abc import Iterator, Mapping
from typing import Any

from hub.engine.errors import RuleError

TEXT, WHOLE, TRUTH, ANY = "text", "a whole number", "true or false", "anything"

Shape = str | list[Any] | Mapping[str, Any]
"""One of the four words above, `[shape]` for a list, or a mapping of fields, in which `*` stands
for all other fields."""

_MAX_INTEGER = 2**63  # whole numbers have 64 bits


def check_shape(value: Any, shape: Shape, where: str) -> None:
    """Check the shape of a value, or of a whole body if `where` is empty.

    Null and unknown fields are accepted.

    Raises: RuleError naming the first invalid field.
    """
    for message in _wrong(value, shape, where):
        raise RuleError(message)


def _wrong(value: Any, shape: Shape, where: str) -> Iterator[str]:
    if value is None or shape is ANY:
        return
    if isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where} must be a list"
            return
        for number, entry in enumerate(value):
            at = f"{where}[{number}]"
            yield from [f"{at} must not be empty"] if entry is None else _wrong(entry, shape[0], at)
    elif isinstance(shape, Mapping):
        if not isinstance(value, dict):
            yield f"{where} must be an object"
            return
        for name, entry in value.items():
            yield from _wrong(
                entry,
                shape.get(name, shape.get("*", ANY)),
                f"{where}.{name}" if where else str(name),
            )
    else:
        yield from _wrong_word(value, str(shape), where)


def _wrong_word(value: Any, word: str, where: str) -> Iterator[str]:
    if word == TEXT and not isinstance(value, str):
        hint = ": put it in quotes" if isinstance(value, int | float) else ""
        shown = repr(value) if isinstance(value, int | float) else _kind(value)
        yield f"{where} must be text, not {shown[:60]}{hint}"
    elif word == TRUTH and not isinstance(value, bool):
        yield f"{where} must be true or false"
    elif word == WHOLE and (
        not isinstance(value, int) or isinstance(value, bool) or abs(value) >= _MAX_INTEGER
    ):
        yield f"{where} must be a whole number"


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "an object"
