"""The functions of sprig for regular expressions, with bounds on text and replacement."""

import functools
import re
from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import as_number, as_text
from appsets.template.syntax import TemplateError
from hub.engine.regex import PatternError, compiled

_MAX_REPLACEMENT = 1000


def _regex(pattern: Any) -> Any:
    try:
        return compiled(as_text(pattern))
    except PatternError as error:
        raise TemplateError(str(error)) from error


def _subject(text: Any) -> str:
    whole = as_text(text)
    if len(whole) > 10_000:
        raise TemplateError("the text for a regular expression is longer than 10000 characters")
    return whole


def _literal(text: Any) -> str:
    whole = as_text(text)
    if len(whole) > _MAX_REPLACEMENT:
        raise TemplateError(f"a replacement is longer than {_MAX_REPLACEMENT} characters")
    return whole


def _replacement(text: Any) -> str:
    return re.sub(
        r"\$(?:\{(\w+)\}|(\w+))",
        lambda m: rf"\g<{m[1] or m[2]}>",
        _literal(text).replace("\\", "\\\\"),
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "wrap": lambda n, s: "\n".join(
        re.findall(rf".{{1,{min(max(as_number(n), 1), 10_000)}}}(?:\s+|$)|\S+", _subject(s))
    ),
    "regexMatch": lambda p, s: bool(_regex(p).search(_subject(s))),
    "mustRegexMatch": lambda p, s: bool(_regex(p).search(_subject(s))),
    "regexFindAll": lambda p, s, n: [m[0] for m in _regex(p).finditer(_subject(s))][
        : None if as_number(n) < 0 else as_number(n)
    ],
    "regexFind": lambda p, s: m[0] if (m := _regex(p).search(_subject(s))) else "",
    "regexReplaceAll": lambda p, s, r: _regex(p).sub(_replacement(r), _subject(s)),
    "mustRegexReplaceAll": lambda p, s, r: _regex(p).sub(_replacement(r), _subject(s)),
    "regexReplaceAllLiteral": lambda p, s, r: _regex(p).sub(
        functools.partial(lambda new, _: new, _literal(r)), _subject(s)
    ),
    "regexSplit": lambda p, s, n: _regex(p).split(
        _subject(s), 0 if as_number(n) < 0 else max(as_number(n) - 1, 0)
    ),
    "regexQuoteMeta": lambda s: re.escape(as_text(s)),
}
