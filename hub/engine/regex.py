"""Regular expressions that people write: RE2, which is what Go has and which no pattern keeps busy.

Python's own `re` tries every way to match, holding the interpreter: one pattern of a person can stop
the whole hub. RE2 takes time in proportion to the text and has no look-around and no back-references.
"""

import functools
from typing import Any

import re2

from hub.engine.errors import RuleError

MOST_CHARACTERS = 1024
MOST_INSTRUCTIONS = 3000
"""Where RE2 has no room for its tables it runs the program for each character: 20 µs with so many instructions."""
_MEMORY_BYTES = 2 * 1024 * 1024


class PatternError(RuleError, ValueError):
    """A regular expression that cannot be read."""


def _options(*, is_glob: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    options.dot_nl = is_glob
    return options


_OPTIONS, _GLOB_OPTIONS = _options(is_glob=False), _options(is_glob=True)


def compiled(pattern: str) -> Any:
    """Return a person's regular expression with the methods of Python's own.

    Raises: PatternError.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise PatternError(f"the regular expression is longer than {MOST_CHARACTERS} characters")
    return _compiled(pattern)


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    return _read(pattern, _OPTIONS)


def compiled_glob(expression: str) -> Any:
    """Return the expression that a glob, or several as alternatives, was translated to.

    Raises: PatternError when it is too large.
    """
    return _read(expression, _GLOB_OPTIONS)


def compiled_any(patterns: tuple[str, ...]) -> Any:
    """Return one expression that finds what any of some regular expressions finds.

    Raises: PatternError when they cannot be one: too large, or with groups of the same name.
    """
    return _read("|".join(f"(?:{pattern})" for pattern in patterns), _OPTIONS)


def _read(pattern: str, options: Any) -> Any:
    found = _parsed(pattern, options)
    if max(found.programsize, found.reverseprogramsize) > MOST_INSTRUCTIONS:
        raise PatternError(
            f"the regular expression {pattern[:200]!r} is too large: write fewer or smaller repetitions, such as "
            "{0,100} in place of {0,1000}"
        )
    return found


def _parsed(pattern: str, options: Any) -> Any:
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError as error:
        raise PatternError("the expression has characters that are not Unicode text") from error
    except re2.error as error:
        said = error.args[0]
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise PatternError(
            f"the regular expression {pattern[:200]!r} cannot be read: {text[:200]}"
        ) from error


def finds(pattern: str, text: str) -> bool:
    """Return whether a person's regular expression matches somewhere in a text.

    Raises: PatternError.
    """
    return compiled(pattern).search(readable(text)) is not None


def fits(pattern: str, text: str) -> bool:
    """Return whether a person's regular expression matches all of a text.

    Raises: PatternError.
    """
    return compiled(pattern).fullmatch(readable(text)) is not None


def readable(text: str) -> str:
    """Return a text that RE2 can read: what stands for a byte that was no Unicode becomes "?"."""
    return text if text.isascii() else text.encode(errors="replace").decode()
