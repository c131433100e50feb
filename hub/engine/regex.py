"""User-defined regular expressions, matched with RE2, as in Go.

Python's `re` backtracks while holding the interpreter lock, so that one pattern could block the
whole hub. RE2 runs in linear time and has no look-around and no back-references.
"""

import functools
from typing import Any

import re2

from hub.engine.errors import RuleError

MAX_CHARACTERS = 1024
MAX_INSTRUCTIONS = 3000
"""The maximum program size: without memory for its tables, RE2 runs the program for each
character, which takes 20 µs at this size."""
_MEMORY_BYTES = 2 * 1024 * 1024


class PatternError(RuleError, ValueError):
    """An invalid regular expression."""


def _options(*, is_glob: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    options.dot_nl = is_glob
    return options


_OPTIONS, _GLOB_OPTIONS = _options(is_glob=False), _options(is_glob=True)


def compiled(pattern: str) -> Any:
    """Compile a user's regular expression; the result has the methods of `re.Pattern`.

    Raises: PatternError.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise PatternError(f"the regular expression is longer than {MAX_CHARACTERS} characters")
    return _compiled(pattern)


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    return _read(pattern, _OPTIONS)


def compiled_glob(expression: str) -> Any:
    """Compile an expression translated from one or more globs.

    Raises: PatternError if it is too large.
    """
    return _read(expression, _GLOB_OPTIONS)


def compiled_any(patterns: tuple[str, ...]) -> Any:
    """Combine several regular expressions into one.

    Raises: PatternError if the result is too large or has duplicate group names.
    """
    return _read("|".join(f"(?:{pattern})" for pattern in patterns), _OPTIONS)


def _read(pattern: str, options: Any) -> Any:
    found = _parsed(pattern, options)
    if max(found.programsize, found.reverseprogramsize) > MAX_INSTRUCTIONS:
        raise PatternError(
            f"the regular expression {pattern[:200]!r} is too large: use fewer or smaller "
            "repetitions, such as {0,100} instead of {0,1000}"
        )
    return found


def _parsed(pattern: str, options: Any) -> Any:
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError as error:
        raise PatternError("the regular expression is not Unicode text") from error
    except re2.error as error:
        said = error.args[0]
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise PatternError(
            f"the regular expression {pattern[:200]!r} is invalid: {text[:200]}"
        ) from error


def finds(pattern: str, text: str) -> bool:
    """Return whether a user's regular expression matches anywhere in a text.

    Raises: PatternError.
    """
    return compiled(pattern).search(readable(text)) is not None


def fits(pattern: str, text: str) -> bool:
    """Return whether a user's regular expression matches a whole text.

    Raises: PatternError.
    """
    return compiled(pattern).fullmatch(readable(text)) is not None


def readable(text: str) -> str:
    """Return a text that RE2 can read: surrogates are replaced by "?"."""
    return text if text.isascii() else text.encode(errors="replace").decode()
