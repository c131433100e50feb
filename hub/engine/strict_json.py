"""Strict parsing of JSON request bodies: ambiguous input is refused."""

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson

from hub.engine.errors import Invalid

MAX_DEPTH = 200


def read_json(body: bytes) -> Any:
    """Parse a request body.

    The standard library's parser, which releases the interpreter lock between values, takes up to
    25 bytes of memory per byte and 70 ms per MiB.

    Raises: Invalid for a syntax error, duplicate keys in an object, a number beyond 64 bits, a NUL
        character, half a surrogate pair, or more than `MAX_DEPTH` levels.
    """
    try:
        found = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError as error:
        raise Invalid(_TOO_DEEP) from error
    except ValueError as error:
        raise Invalid(f"the body is not valid JSON: {_reason(error)}") from error
    _check_values(found)
    if (b"\\ud" in body or b"\\uD" in body) and not _is_text(found):
        raise Invalid("the body is not valid JSON: it has half of a surrogate pair")
    if b"\\u0000" in body and _has_nul(found):
        # PostgreSQL cannot store it in text.
        raise Invalid("the body has a NUL character")
    return found


_TOO_DEEP = f"the body is not valid JSON: it is nested deeper than {MAX_DEPTH} levels"


def _reason(error: ValueError) -> str:
    return "a number has too many digits" if "integer string" in str(error) else str(error)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid(f"the body has the key {twice[:100]!r} twice in one object")
    return found


def _check_values(found: Any) -> None:
    """Check the numbers and the depth of a value."""
    level: list[Any] = [[found]]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for container in level for inner in _containers(container)]
        if not level:
            return
    raise Invalid(_TOO_DEEP)


def _containers(container: Any) -> Iterable[Any]:
    for value in container.values() if type(container) is dict else container:
        kind = type(value)
        if kind is dict or kind is list:
            if value:
                yield value
        elif kind is int:
            if not -(2**63) <= value < 2**64:
                raise Invalid(
                    f"the body has the number {str(value)[:40]}: whole numbers must fit in 64 bits"
                )
        elif kind is float and abs(value) >= 2**63:
            raise Invalid(f"the body has the number {value}: numbers must be below 2^63")


def _is_text(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(k) or _has_nul(v) for k, v in value.items())
    return isinstance(value, list) and any(_has_nul(v) for v in value)
