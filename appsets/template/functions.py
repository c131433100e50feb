"""The functions that templates may call: Go's own, sprig's for text, and Argo CD's.

Those of sprig that give another answer at each look (random values, the time, keys) are left out on
purpose: an application would change by itself. So are `env`, `expandenv` and `getHostByName`.
Source: https://pkg.go.dev/text/template#hdr-Functions, https://masterminds.github.io/sprig/.
"""

import base64
import functools
import hashlib
import json
import math
import posixpath
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import yaml

from appsets.template.syntax import TemplateError
from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.regex import PatternError, compiled

MOST_TEXT = 1_000_000


def _bounded(name: str, size: int) -> None:
    # Before it is made: a value of gigabytes cannot be weighed afterwards.
    if size > MOST_TEXT:
        raise TemplateError(f"{name}: more than {MOST_TEXT} characters")


class Missing:
    """What a key that is not there gives: prints as Go prints it, and is false."""

    def __repr__(self) -> str:
        return "<no value>"


def is_true(value: Any) -> bool:
    """Return what Go's `if` makes of a value: empty is false."""
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


def _text(value: Any) -> str:
    if isinstance(value, Missing) or value is None:
        return ""
    return shown(value)


def _number(value: Any) -> int:
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


def _real(value: Any) -> float:
    try:
        return float(value) if not isinstance(value, Missing) and value is not None else 0.0
    except (TypeError, ValueError):
        return 0.0


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


NOTHING = Missing()


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
    # Go puts a space between operands when neither is a text.
    out = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            out += " "
        out += shown(value) if not isinstance(value, Missing) else "<no value>"
    return out


_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\d+|\*))?(?P<verb>[a-zA-Z%])"
)


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
        _bounded("printf", written)
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


def normalize(text: Any) -> str:
    """Return Argo CD's form of a name that Kubernetes takes."""
    return re.sub(r"[^-a-z0-9.]", "-", _text(text).lower())[:253].strip("-.")


def slugify(*arguments: Any) -> str:
    """Return Argo CD's `slugify [max=50] [smart=true] name`."""
    *options, name = arguments
    most = _number(options[0]) if options else 50
    smart = bool(options[1]) if len(options) > 1 else True
    text = re.sub(
        r"-+", "-", re.sub(r"[^a-z0-9_-]+", "-", normalize(name).replace(".", "-"))
    ).strip("-_")
    if len(text) <= most:
        return text
    cut = text[:most]
    if smart and text[most : most + 1] not in ("-", "") and "-" in cut:
        cut = cut[: cut.rindex("-")]
    return cut.strip("-_")


def _yaml(value: Any) -> str:
    return (
        str(
            yaml.dump(
                _plain(value),
                Dumper=yaml.CSafeDumper,
                sort_keys=True,
                default_flow_style=False,
                allow_unicode=True,
                width=2**20,
            )
        )
        .removesuffix("\n...\n")
        .rstrip("\n")
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Missing):
        return None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _from_yaml(text: Any) -> Any:
    try:
        found = parse_yaml(_text(text))
    except (ManifestError, yaml.YAMLError) as error:
        raise TemplateError(str(error)) from error
    return found[0] if found else {}


def _from_yaml_array(text: Any) -> Any:
    found = _from_yaml(text)
    if found in ({}, None):
        return []
    if not isinstance(found, list):
        raise TemplateError("the text is no list")
    return found


def _json(value: Any, **options: Any) -> str:
    return json.dumps(
        _plain(value), separators=(",", ":"), ensure_ascii=False, sort_keys=True, **options
    )


def _from_json(text: Any) -> Any:
    try:
        return json.loads(_text(text))
    except ValueError as error:
        raise TemplateError(str(error)) from error


def _must(value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kind):
        raise TemplateError(f"{shown(value)} is no {what}")
    return value


def _list(value: Any) -> list[Any]:
    if value is None or isinstance(value, Missing):
        return []
    return list(_must(value, list | tuple, "list"))  # type: ignore[arg-type]


def _dict(*pairs: Any) -> dict[str, Any]:
    found = {}
    for number in range(0, len(pairs), 2):
        found[_text(pairs[number])] = pairs[number + 1] if number + 1 < len(pairs) else ""
    return found


def _merge(target: Any, *sources: Any, overwrite: bool = False) -> dict[str, Any]:
    result = dict(_must(target, dict, "dictionary"))
    for source in sources:
        for key, value in _must(source, dict, "dictionary").items():
            old = result.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                result[key] = _merge(old, value, overwrite=overwrite)
            elif key not in result or overwrite or not is_true(old):
                result[key] = value
    return result


def _dig(*arguments: Any) -> Any:
    *keys, default, found = arguments
    for key in keys:
        if not isinstance(found, Mapping) or key not in found:
            return default
        found = found[key]
    return found


def _until(count: Any) -> list[int]:
    number = _number(count)
    if abs(number) > 100_000:
        raise TemplateError("until: more than 100000 numbers")
    return list(range(0, number, 1 if number >= 0 else -1))


def _until_step(start: Any, stop: Any, step: Any) -> list[int]:
    first, last, by = _number(start), _number(stop), _number(step)
    if by == 0 or (last < first and by >= 0) or (last > first and by <= 0):
        return []
    if abs((last - first) // by) > 100_000:
        raise TemplateError("untilStep: more than 100000 numbers")
    return list(range(first, last, by))


def _repeat(count: Any, text: Any) -> str:
    if _number(count) * len(_text(text)) > MOST_TEXT:
        raise TemplateError(f"repeat: more than {MOST_TEXT} characters")
    return _text(text) * max(_number(count), 0)


def _substr(start: Any, end: Any, text: Any) -> str:
    first, last, whole = _number(start), _number(end), _text(text)
    if first < 0:
        return whole[:last]
    return whole[first:] if last < 0 or last > len(whole) else whole[first:last]


def _trunc(count: Any, text: Any) -> str:
    number, whole = _number(count), _text(text)
    if number < 0 and len(whole) + number > 0:
        return whole[number:]
    return whole[:number] if 0 <= number < len(whole) else whole


def _split(separator: Any, text: Any) -> dict[str, str]:
    return {f"_{n}": part for n, part in enumerate(_text(text).split(_text(separator)))}


def _regex(pattern: Any) -> Any:
    try:
        return compiled(_text(pattern))
    except PatternError as error:
        raise TemplateError(str(error)) from error


def _subject(text: Any) -> str:
    whole = _text(text)
    if len(whole) > 10_000:
        raise TemplateError("the text for a regular expression is longer than 10000 characters")
    return whole


def _literal(text: Any) -> str:
    whole = _text(text)
    if len(whole) > _MOST_REPLACEMENT:
        raise TemplateError(f"a replacement is longer than {_MOST_REPLACEMENT} characters")
    return whole


def _replacement(text: Any) -> str:
    return re.sub(
        r"\$(?:\{(\w+)\}|(\w+))",
        lambda m: rf"\g<{m[1] or m[2]}>",
        _literal(text).replace("\\", "\\\\"),
    )


_MOST_REPLACEMENT = 1000


def _ternary(yes: Any, no: Any, test: Any) -> Any:
    return yes if is_true(test) else no


def _default(fallback: Any, *value: Any) -> Any:
    return value[0] if value and is_true(value[0]) else fallback


def _words(text: str, change: Callable[[str], str]) -> str:
    return re.sub(r"\S+", lambda m: change(m[0]), text)


def _snake(text: Any) -> str:
    apart = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", _text(text))
    found = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", apart)
    return re.sub(r"[\s\-.]+", "_", found).lower()


_LONGEST_VERSION = 256


def _semver(text: Any) -> dict[str, Any]:
    if len(_text(text)) > _LONGEST_VERSION:
        raise TemplateError(f"a version is longer than {_LONGEST_VERSION} characters")
    found = re.fullmatch(
        r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?", _text(text)
    )
    if not found:
        raise TemplateError("Invalid Semantic Version")
    return {
        "Major": int(found[1]),
        "Minor": int(found[2] or 0),
        "Patch": int(found[3] or 0),
        "Prerelease": found[4] or "",
        "Metadata": found[5] or "",
        "Original": _text(text),
    }


def _semver_compare(constraint: Any, version: Any) -> bool:
    found = _semver(version)
    if len(_text(constraint)) > _LONGEST_VERSION:
        raise TemplateError(f"a constraint is longer than {_LONGEST_VERSION} characters")
    own = (found["Major"], found["Minor"], found["Patch"])
    return any(
        all(
            _fits(part, own, found["Prerelease"])
            for part in re.split(r"[,\s]+(?=[<>=!~^v\d*])", group.strip())
            if part
        )
        for group in _text(constraint).split("||")
    )


def _fits(part: str, own: tuple[int, int, int], prerelease: str) -> bool:
    found = re.fullmatch(
        r"\s*([<>=!~^]*)\s*v?(\d+|\*|x)(?:\.(\d+|\*|x))?(?:\.(\d+|\*|x))?(-[0-9A-Za-z.-]+)?\s*",
        part,
    )
    if not found:
        raise TemplateError(f"improper constraint: {part}")
    if prerelease and not found[5]:
        return False
    given = [int(g) for g in found.groups()[1:4] if g and g.isdigit()]
    low = tuple([*given, 0, 0, 0][:3])
    operator = found[1] or ("=" if len(given) == 3 else "~")
    if operator in ("=", "=="):
        return own[: len(given)] == tuple(given)
    if operator == "!=":
        return own[: len(given)] != tuple(given)
    if operator in ("^", "~", "~>"):
        lead = (
            next((n for n, g in enumerate(given) if g), len(given) - 1)
            if operator == "^"
            else min(1, len(given) - 1)
        )
        return own >= low and own[: lead + 1] == low[: lead + 1]
    return {"<": own < low, "<=": own <= low, ">": own > low, ">=": own >= low}.get(operator, False)


def _url_parse(text: Any) -> dict[str, str]:
    parts = urlsplit(_text(text))
    user = parts.netloc.rpartition("@")[0]
    return {
        "scheme": parts.scheme,
        "host": parts.netloc.rpartition("@")[2],
        "hostname": parts.hostname or "",
        "path": parts.path,
        "query": parts.query,
        "opaque": "",
        "fragment": parts.fragment,
        "userinfo": user,
    }


def _url_join(parts: Any) -> str:
    found = _must(parts, dict, "dictionary")
    user = found.get("userinfo")
    host = f"{user}@{found.get('host', '')}" if user else found.get("host", "")
    return str(
        urlunsplit(
            (
                found.get("scheme", ""),
                host,
                found.get("path", ""),
                found.get("query", ""),
                found.get("fragment", ""),
            )
        )
    )


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


def _fail(text: Any) -> Any:
    raise TemplateError(_text(text))


def _round(value: Any, places: Any, *on: Any) -> float:
    power = 10.0 ** _number(places)
    digit = power * _real(value)
    down = math.fmod(digit, 1) < (_real(on[0]) if on else 0.5)
    return float(math.floor(digit) if down else math.ceil(digit)) / power


def _title(text: Any) -> str:
    # As Go's strings.Title: a letter is the first of a word after anything but letters, digits and "_".
    return re.sub(r"(?<![\w])\w", lambda m: m[0].upper(), _text(text))


def _indent(count: Any, text: Any) -> str:
    pad, whole = " " * min(_number(count), 1000), _text(text)
    _bounded("indent", len(whole) + len(pad) * (whole.count("\n") + 1))
    return pad + whole.replace("\n", "\n" + pad)


def _replace(old: Any, new: Any, text: Any) -> str:
    before, after, whole = _text(old), _text(new), _text(text)
    _bounded("replace", len(whole) + whole.count(before) * len(after))
    return whole.replace(before, after)


def _join(separator: Any, items: Any) -> str:
    between, parts = (
        _text(separator),
        [_text(x) for x in (items if isinstance(items, list) else [items])],
    )
    _bounded("join", sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _trim_all(characters: Any, text: Any) -> str:
    if len(_text(characters)) > _MOST_COMPARED:
        raise TemplateError(f"trimAll: more than {_MOST_COMPARED} characters to trim")
    return _text(text).strip(_text(characters))


def _without(items: Any, *gone: Any) -> list[Any]:
    if len(_list(items)) * len(gone) > _MOST_COMPARED * _MOST_COMPARED // 2:
        raise TemplateError("without: too many values to compare")
    return [i for i in _list(items) if i not in gone]


_MOST_COMPARED = 2000


def _uniq(items: Any) -> list[Any]:
    found: list[Any] = []
    if len(_list(items)) > _MOST_COMPARED:
        raise TemplateError(f"uniq: more than {_MOST_COMPARED} values")
    for item in _list(items):
        if item not in found:
            found.append(item)
    return found


def _seq(*bounds: Any) -> str:
    first, step, last = 1, 0, 1
    numbers = [_number(b) for b in bounds]
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


def _chunk(size: Any, items: Any) -> list[list[Any]]:
    count, found = max(_number(size), 1), _list(items)
    return [found[n : n + count] for n in range(0, len(found), count)]


def _b32(text: Any) -> str:
    return base64.b32encode(_text(text).encode()).decode()


def _decoded(function: Callable[[bytes], bytes], text: Any) -> str:
    try:
        return function(_text(text).encode()).decode(errors="replace")
    except ValueError as error:
        return str(error)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    # Go
    "not": lambda v: not is_true(v),
    "eq": _eq,
    "ne": lambda a, b: not _eq(a, b),
    "lt": _lt,
    "le": lambda a, b: not _lt(b, a),
    "gt": lambda a, b: _lt(b, a),
    "ge": lambda a, b: not _lt(a, b),
    "len": lambda v: len(
        _must(v, (str, list, dict), "text, list or map") if not isinstance(v, str) else v.encode()
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
    # Argo CD
    "normalize": normalize,
    "slugify": slugify,
    "toYaml": _yaml,
    "fromYaml": _from_yaml,
    "fromYamlArray": _from_yaml_array,
    # texts
    "trim": lambda s: _text(s).strip(),
    "trimAll": _trim_all,
    "trimall": _trim_all,
    "trimSuffix": lambda e, s: _text(s).removesuffix(_text(e)),
    "trimPrefix": lambda p, s: _text(s).removeprefix(_text(p)),
    "upper": lambda s: _text(s).upper(),
    "lower": lambda s: _text(s).lower(),
    "title": _title,
    "untitle": lambda s: _words(_text(s), lambda w: w[:1].lower() + w[1:]),
    "repeat": _repeat,
    "substr": _substr,
    "nospace": lambda s: re.sub(r"\s", "", _text(s)),
    "trunc": _trunc,
    "abbrev": lambda n, s: (
        _text(s)
        if _number(n) < 4 or len(_text(s)) <= _number(n)
        else _text(s)[: _number(n) - 3] + "..."
    ),
    "initials": lambda s: "".join(w[0] for w in _text(s).split()),
    "wrap": lambda n, s: "\n".join(
        re.findall(rf".{{1,{min(max(_number(n), 1), 10_000)}}}(?:\s+|$)|\S+", _subject(s))
    ),
    "contains": lambda sub, s: _text(sub) in _text(s),
    "hasPrefix": lambda p, s: _text(s).startswith(_text(p)),
    "hasSuffix": lambda e, s: _text(s).endswith(_text(e)),
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
    "plural": lambda one, many, n: one if _number(n) == 1 else many,
    "snakecase": _snake,
    "camelcase": lambda s: "".join(w[:1].upper() + w[1:] for w in re.split(r"[_\s-]+", _text(s))),
    "kebabcase": lambda s: _snake(s).replace("_", "-"),
    "swapcase": lambda s: _text(s).swapcase(),
    "toString": _text,
    "toStrings": lambda v: [_text(x) for x in _list(v)],
    "join": _join,
    "split": _split,
    "splitList": lambda sep, s: _text(s).split(_text(sep)),
    "splitn": lambda sep, n, s: {
        f"_{k}": p for k, p in enumerate(_text(s).split(_text(sep), max(_number(n) - 1, 0)))
    },
    "sortAlpha": lambda v: sorted(_text(x) for x in _list(v)),
    "regexMatch": lambda p, s: bool(_regex(p).search(_subject(s))),
    "mustRegexMatch": lambda p, s: bool(_regex(p).search(_subject(s))),
    "regexFindAll": lambda p, s, n: [m[0] for m in _regex(p).finditer(_subject(s))][
        : None if _number(n) < 0 else _number(n)
    ],
    "regexFind": lambda p, s: m[0] if (m := _regex(p).search(_subject(s))) else "",
    "regexReplaceAll": lambda p, s, r: _regex(p).sub(_replacement(r), _subject(s)),
    "mustRegexReplaceAll": lambda p, s, r: _regex(p).sub(_replacement(r), _subject(s)),
    "regexReplaceAllLiteral": lambda p, s, r: _regex(p).sub(
        functools.partial(lambda new, _: new, _literal(r)), _subject(s)
    ),
    "regexSplit": lambda p, s, n: _regex(p).split(
        _subject(s), 0 if _number(n) < 0 else max(_number(n) - 1, 0)
    ),
    "regexQuoteMeta": lambda s: re.escape(_text(s)),
    # numbers
    "add": _fold(lambda a, b: a + b, _number),
    "add1": lambda v: _number(v) + 1,
    "sub": lambda a, b: _number(a) - _number(b),
    "mul": _fold(lambda a, b: a * b, _number),
    "div": lambda a, b: _div(_number(a), _number(b)),
    "mod": lambda a, b: _mod(_number(a), _number(b)),
    "max": _fold(max, _number),
    "min": _fold(min, _number),
    "biggest": _fold(max, _number),
    "addf": _fold(lambda a, b: a + b, _real),
    "subf": _fold(lambda a, b: a - b, _real),
    "mulf": _fold(lambda a, b: a * b, _real),
    "divf": _fold(lambda a, b: a / b, _real),
    "maxf": _fold(max, _real),
    "minf": _fold(min, _real),
    "ceil": lambda v: float(math.ceil(_real(v))),
    "floor": lambda v: float(math.floor(_real(v))),
    "round": _round,
    "int": _number,
    "int64": _number,
    "float64": _real,
    "atoi": lambda s: _number(_text(s)) if re.fullmatch(r"[+-]?\d+", _text(s)) else 0,
    "toDecimal": lambda s: int(_text(s) or "0", 8),
    "until": _until,
    "untilStep": _until_step,
    "seq": _seq,
    # choices
    "default": _default,
    "empty": lambda v: not is_true(v),
    "coalesce": lambda *v: next((x for x in v if is_true(x)), None),
    "all": lambda *v: all(map(is_true, v)),
    "any": lambda *v: any(map(is_true, v)),
    "ternary": _ternary,
    "fail": _fail,
    # JSON
    "toJson": _json,
    "mustToJson": _json,
    "toRawJson": _json,
    "toPrettyJson": lambda v: json.dumps(_plain(v), indent=2, sort_keys=True, ensure_ascii=False),
    "fromJson": _from_json,
    "mustFromJson": _from_json,
    # lists
    "list": lambda *v: list(v),
    "tuple": lambda *v: list(v),
    "first": lambda v: (_list(v) or [None])[0],
    "last": lambda v: (_list(v) or [None])[-1],
    "rest": lambda v: _list(v)[1:],
    "initial": lambda v: _list(v)[:-1],
    "append": lambda v, x: [*_list(v), x],
    "push": lambda v, x: [*_list(v), x],
    "prepend": lambda v, x: [x, *_list(v)],
    "concat": lambda *v: [x for part in v for x in _list(part)],
    "reverse": lambda v: _list(v)[::-1],
    "uniq": _uniq,
    "without": _without,
    "has": lambda x, v: x in _list(v),
    "compact": lambda v: [x for x in _list(v) if is_true(x)],
    "chunk": _chunk,
    # maps
    "dict": _dict,
    "get": lambda d, k: _must(d, dict, "dictionary").get(k, ""),
    "set": lambda d, k, v: {**_must(d, dict, "dictionary"), k: v},
    "unset": lambda d, k: {a: b for a, b in _must(d, dict, "dictionary").items() if a != k},
    "hasKey": lambda d, k: k in _must(d, dict, "dictionary"),
    "pluck": lambda k, *ds: [d[k] for d in ds if isinstance(d, dict) and k in d],
    "keys": lambda *ds: sorted(k for d in ds for k in d),
    "values": lambda d: [v for _, v in sorted(_must(d, dict, "dictionary").items())],
    "pick": lambda d, *ks: {k: d[k] for k in ks if k in d},
    "omit": lambda d, *ks: {k: v for k, v in d.items() if k not in ks},
    "merge": _merge,
    "mergeOverwrite": lambda d, *s: _merge(d, *s, overwrite=True),
    "deepCopy": _plain,
    "dig": _dig,
    # kinds
    "kindOf": kind_of,
    "kindIs": lambda k, v: kind_of(v) == k,
    "typeOf": kind_of,
    "typeIs": lambda k, v: kind_of(v) == k,
    "deepEqual": lambda a, b: _plain(a) == _plain(b),
    # encodings and paths
    "b64enc": lambda s: base64.b64encode(_text(s).encode()).decode(),
    "b64dec": lambda s: _decoded(base64.b64decode, s),
    "b32enc": _b32,
    "b32dec": lambda s: _decoded(base64.b32decode, s),
    "sha1sum": lambda s: hashlib.sha1(_text(s).encode(), usedforsecurity=False).hexdigest(),
    "sha256sum": lambda s: hashlib.sha256(_text(s).encode()).hexdigest(),
    "sha512sum": lambda s: hashlib.sha512(_text(s).encode()).hexdigest(),
    "adler32sum": lambda s: str(zlib.adler32(_text(s).encode())),
    "base": lambda p: (
        posixpath.basename(_text(p).rstrip("/")) or ("/" if _text(p).startswith("/") else ".")
    ),
    "dir": lambda p: posixpath.normpath(posixpath.dirname(_text(p)) or "."),
    "clean": lambda p: posixpath.normpath(_text(p) or "."),
    "ext": lambda p: (re.search(r"\.[^./]*$", _text(p)) or [""])[0],
    "isAbs": lambda p: _text(p).startswith("/"),
    "urlParse": _url_parse,
    "urlJoin": _url_join,
    "semver": _semver,
    "semverCompare": _semver_compare,
}

_UNSTEADY = (
    "now",
    "date",
    "dateInZone",
    "dateModify",
    "ago",
    "htmlDate",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randNumeric",
    "randInt",
    "randBytes",
    "shuffle",
    "uuidv4",
    "genPrivateKey",
    "genCA",
    "genSelfSignedCert",
    "genSignedCert",
    "derivePassword",
    "htpasswd",
    "bcrypt",
    "encryptAES",
)


def _unsteady(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise TemplateError(
            f"{name} gives another answer at each look, so the application would change by itself"
        )

    return refuse


FUNCTIONS |= {name: _unsteady(name) for name in _UNSTEADY}
