"""The functions of Go's text/template.

Source: https://pkg.go.dev/text/template#hdr-Functions.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from appsets.template.functions.values import (
    NOTHING,
    Missing,
    is_true,
    kind_of,
    require_bounded,
    require_kind,
    shown,
)
from appsets.template.syntax import TemplateError

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\d+|\*))?(?P<verb>[a-zA-Z%])"
)


def _same_kind(one: Any, other: Any) -> None:
    def basic(v: Any) -> str:
        return "number" if isinstance(v, int | float) and not isinstance(v, bool) else kind_of(v)

    if basic(one) != basic(other):
        raise TemplateError("incompatible types for comparison")


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    for other in others:
        if (first is None or isinstance(first, Missing)) or (
            other is None or isinstance(other, Missing)
        ):
            if (first is None or isinstance(first, Missing)) and (
                other is None or isinstance(other, Missing)
            ):
                return True
            continue
        _same_kind(first, other)
        if first == other:
            return True
    return False


def _lt(one: Any, other: Any) -> bool:
    _same_kind(one, other)
    if isinstance(one, bool | list | Mapping):
        raise TemplateError("invalid type for comparison")
    return bool(one < other)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None or isinstance(value, Missing):
            raise TemplateError("index of untyped nil")
        if isinstance(value, Mapping):
            value = value.get(key, NOTHING)
        elif isinstance(value, list | tuple | str):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateError(f"cannot index slice/array with type {kind_of(key)}")
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TemplateError(f"can't index item of type {kind_of(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, list | str):
        raise TemplateError(f"can't slice item of type {kind_of(value)}")
    start, end = (
        [*bounds, len(value)]
        if len(bounds) == 1
        else [*bounds, 0, len(value)]
        if not bounds
        else list(bounds)
    )[:2]
    if not 0 <= start <= end <= len(value):
        raise TemplateError(f"index out of range: {end}")
    return value[start:end]


def _print(*values: Any) -> str:
    # Go puts a space between operands when neither is a string.
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += shown(value) if not isinstance(value, Missing) else "<no value>"
    return out


def _printf(form: Any, *values: Any) -> str:
    rest, used, written = list(values), 0, 0

    def take() -> Any:
        nonlocal used
        if used >= len(rest):
            return NOTHING
        used += 1
        return rest[used - 1]

    def one(found: re.Match[str]) -> str:
        nonlocal written
        text = verb(found)
        written += len(text)
        require_bounded("printf", written)
        return text

    def verb(found: re.Match[str]) -> str:
        if found["verb"] == "%":
            return "%"
        width = take() if found["width"] == "*" else found["width"]
        precision = take() if found["precision"] == "*" else found["precision"]
        if used >= len(rest):
            return f"%!{found['verb']}(MISSING)"
        return _formatted(take(), found["verb"], found["flags"], width, precision)

    text = _VERB.sub(one, str(form))
    if used < len(rest):
        extra = ", ".join(f"{kind_of(v)}={shown(v)}" for v in rest[used:])
        text += f"%!(EXTRA {extra})"
    return text


def _formatted(value: Any, verb: str, flags: str, width: Any, precision: Any) -> str:
    if verb in "vs":
        text = shown(value)
        text = text[: int(precision)] if precision is not None and verb == "s" else text
    elif verb == "q":
        text = json.dumps(shown(value), ensure_ascii=False)
    elif verb in "dxXob" and isinstance(value, int) and not isinstance(value, bool):
        text = format(value, verb)
        text = f"+{text}" if "+" in flags and value >= 0 else text
    elif verb in "feEgG" and isinstance(value, int | float):
        text = format(
            float(value), f".{min(int(precision), 1000) if precision is not None else 6}{verb}"
        )
    elif verb in "xX" and isinstance(value, str):
        text = value.encode().hex() if verb == "x" else value.encode().hex().upper()
    elif verb == "t" and isinstance(value, bool):
        text = shown(value)
    elif verb == "c" and isinstance(value, int):
        text = chr(value)
    elif verb == "T":
        text = kind_of(value)
    else:
        text = f"%!{verb}({kind_of(value)}={shown(value)})"
    size = min(int(width or 0), 10_000)
    if "-" in flags:
        return text.ljust(size)
    return text.zfill(size) if "0" in flags and verb in "dfxX" else text.rjust(size)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "not": lambda v: not is_true(v),
    "eq": _eq,
    "ne": lambda a, b: not _eq(a, b),
    "lt": _lt,
    "le": lambda a, b: not _lt(b, a),
    "gt": lambda a, b: _lt(b, a),
    "ge": lambda a, b: not _lt(a, b),
    "len": lambda v: len(
        require_kind(v, (str, list, dict), "text, list or map")
        if not isinstance(v, str)
        else v.encode()
    ),
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *v: " ".join(shown(x) for x in v) + "\n",
    "printf": _printf,
    "html": lambda *v: (
        _print(*v)
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&#34;")
        .replace("'", "&#39;")
    ),
    "js": lambda *v: (
        json.dumps(_print(*v))[1:-1]
        .replace("'", "\\'")
        .replace("<", "\\u003C")
        .replace(">", "\\u003E")
    ),
    "urlquery": lambda *v: quote(_print(*v), safe="").replace("%20", "+"),
}
