"""The functions of sprig for numbers."""

import math
import re
from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import as_number, as_real, as_text
from appsets.template.syntax import TemplateError


def _fold(
    operation: Callable[[Any, Any], Any], convert: Callable[[Any], Any]
) -> Callable[..., Any]:
    def fold(*values: Any) -> Any:
        found = convert(values[0])
        for value in values[1:]:
            found = operation(found, convert(value))
        return found

    return fold


def _div(one: int, other: int) -> int:
    if other == 0:
        raise TemplateError("division by zero")
    return int(one / other)


def _mod(one: int, other: int) -> int:
    if other == 0:
        raise TemplateError("division by zero")
    return int(math.fmod(one, other))


def _round(value: Any, places: Any, *on: Any) -> float:
    power = 10.0 ** as_number(places)
    digit = power * as_real(value)
    down = math.fmod(digit, 1) < (as_real(on[0]) if on else 0.5)
    return float(math.floor(digit) if down else math.ceil(digit)) / power


def _until(count: Any) -> list[int]:
    number = as_number(count)
    if abs(number) > 100_000:
        raise TemplateError("until: more than 100000 numbers")
    return list(range(0, number, 1 if number >= 0 else -1))


def _until_step(start: Any, stop: Any, step: Any) -> list[int]:
    first, last, by = as_number(start), as_number(stop), as_number(step)
    if by == 0 or (last < first and by >= 0) or (last > first and by <= 0):
        return []
    if abs((last - first) // by) > 100_000:
        raise TemplateError("untilStep: more than 100000 numbers")
    return list(range(first, last, by))


def _seq(*bounds: Any) -> str:
    first, step, last = 1, 0, 1
    numbers = [as_number(b) for b in bounds]
    if len(numbers) == 1:
        last = numbers[0]
    elif len(numbers) == 2:
        first, last = numbers
    elif len(numbers) == 3:
        first, step, last = numbers
    step = step or (1 if last >= first else -1)
    if abs((last - first) // step) > 100_000:
        raise TemplateError("seq: more than 100000 numbers")
    return " ".join(map(str, range(first, last + (1 if step > 0 else -1), step)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _fold(lambda a, b: a + b, as_number),
    "add1": lambda v: as_number(v) + 1,
    "sub": lambda a, b: as_number(a) - as_number(b),
    "mul": _fold(lambda a, b: a * b, as_number),
    "div": lambda a, b: _div(as_number(a), as_number(b)),
    "mod": lambda a, b: _mod(as_number(a), as_number(b)),
    "max": _fold(max, as_number),
    "min": _fold(min, as_number),
    "biggest": _fold(max, as_number),
    "addf": _fold(lambda a, b: a + b, as_real),
    "subf": _fold(lambda a, b: a - b, as_real),
    "mulf": _fold(lambda a, b: a * b, as_real),
    "divf": _fold(lambda a, b: a / b, as_real),
    "maxf": _fold(max, as_real),
    "minf": _fold(min, as_real),
    "ceil": lambda v: float(math.ceil(as_real(v))),
    "floor": lambda v: float(math.floor(as_real(v))),
    "round": _round,
    "int": as_number,
    "int64": as_number,
    "float64": as_real,
    "atoi": lambda s: as_number(as_text(s)) if re.fullmatch(r"[+-]?\d+", as_text(s)) else 0,
    "toDecimal": lambda s: int(as_text(s) or "0", 8),
    "until": _until,
    "untilStep": _until_step,
    "seq": _seq,
}
