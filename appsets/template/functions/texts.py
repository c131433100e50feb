"""The functions of sprig for text."""

import json
import re
from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import (
    MAX_COMPARED,
    MAX_TEXT,
    Missing,
    as_list,
    as_number,
    as_text,
    require_bounded,
    shown,
)
from appsets.template.syntax import TemplateError


def _repeat(count: Any, text: Any) -> str:
    if as_number(count) * len(as_text(text)) > MAX_TEXT:
        raise TemplateError(f"repeat: more than {MAX_TEXT} characters")
    return as_text(text) * max(as_number(count), 0)


def _substr(start: Any, end: Any, text: Any) -> str:
    first, last, whole = as_number(start), as_number(end), as_text(text)
    if first < 0:
        return whole[:last]
    return whole[first:] if last < 0 or last > len(whole) else whole[first:last]


def _trunc(count: Any, text: Any) -> str:
    number, whole = as_number(count), as_text(text)
    if number < 0 and len(whole) + number > 0:
        return whole[number:]
    return whole[:number] if 0 <= number < len(whole) else whole


def _split(separator: Any, text: Any) -> dict[str, str]:
    return {f"_{n}": part for n, part in enumerate(as_text(text).split(as_text(separator)))}


def _words(text: str, change: Callable[[str], str]) -> str:
    return re.sub(r"\S+", lambda m: change(m[0]), text)


def _snake(text: Any) -> str:
    apart = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", as_text(text))
    found = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", apart)
    return re.sub(r"[\s\-.]+", "_", found).lower()


def _title(text: Any) -> str:
    # As Go's strings.Title: a word begins after anything but letters, digits and "_".
    return re.sub(r"(?<![\w])\w", lambda m: m[0].upper(), as_text(text))


def _indent(count: Any, text: Any) -> str:
    pad, whole = " " * min(as_number(count), 1000), as_text(text)
    require_bounded("indent", len(whole) + len(pad) * (whole.count("\n") + 1))
    return pad + whole.replace("\n", "\n" + pad)


def _replace(old: Any, new: Any, text: Any) -> str:
    before, after, whole = as_text(old), as_text(new), as_text(text)
    require_bounded("replace", len(whole) + whole.count(before) * len(after))
    return whole.replace(before, after)


def _join(separator: Any, items: Any) -> str:
    between, parts = (
        as_text(separator),
        [as_text(x) for x in (items if isinstance(items, list) else [items])],
    )
    require_bounded("join", sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _trim_all(characters: Any, text: Any) -> str:
    if len(as_text(characters)) > MAX_COMPARED:
        raise TemplateError(f"trimAll: more than {MAX_COMPARED} characters to trim")
    return as_text(text).strip(as_text(characters))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "trim": lambda s: as_text(s).strip(),
    "trimAll": _trim_all,
    "trimall": _trim_all,
    "trimSuffix": lambda e, s: as_text(s).removesuffix(as_text(e)),
    "trimPrefix": lambda p, s: as_text(s).removeprefix(as_text(p)),
    "upper": lambda s: as_text(s).upper(),
    "lower": lambda s: as_text(s).lower(),
    "title": _title,
    "untitle": lambda s: _words(as_text(s), lambda w: w[:1].lower() + w[1:]),
    "repeat": _repeat,
    "substr": _substr,
    "nospace": lambda s: re.sub(r"\s", "", as_text(s)),
    "trunc": _trunc,
    "abbrev": lambda n, s: (
        as_text(s)
        if as_number(n) < 4 or len(as_text(s)) <= as_number(n)
        else as_text(s)[: as_number(n) - 3] + "..."
    ),
    "initials": lambda s: "".join(w[0] for w in as_text(s).split()),
    "contains": lambda sub, s: as_text(sub) in as_text(s),
    "hasPrefix": lambda p, s: as_text(s).startswith(as_text(p)),
    "hasSuffix": lambda e, s: as_text(s).endswith(as_text(e)),
    "quote": lambda *v: " ".join(
        json.dumps(shown(x), ensure_ascii=False)
        for x in v
        if x is not None and not isinstance(x, Missing)
    ),
    "squote": lambda *v: " ".join(
        f"'{shown(x)}'" for x in v if x is not None and not isinstance(x, Missing)
    ),
    "cat": lambda *v: " ".join(shown(x) for x in v if x is not None and not isinstance(x, Missing)),
    "indent": _indent,
    "nindent": lambda n, s: "\n" + _indent(n, s),
    "replace": _replace,
    "plural": lambda one, many, n: one if as_number(n) == 1 else many,
    "snakecase": _snake,
    "camelcase": lambda s: "".join(w[:1].upper() + w[1:] for w in re.split(r"[_\s-]+", as_text(s))),
    "kebabcase": lambda s: _snake(s).replace("_", "-"),
    "swapcase": lambda s: as_text(s).swapcase(),
    "toString": as_text,
    "toStrings": lambda v: [as_text(x) for x in as_list(v)],
    "join": _join,
    "split": _split,
    "splitList": lambda sep, s: as_text(s).split(as_text(sep)),
    "splitn": lambda sep, n, s: {
        f"_{k}": p for k, p in enumerate(as_text(s).split(as_text(sep), max(as_number(n) - 1, 0)))
    },
    "sortAlpha": lambda v: sorted(as_text(x) for x in as_list(v)),
}
