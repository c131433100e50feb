"""Regular expressions of users: RE2, which is what Go has and which no pattern can keep busy for long."""

import functools
from typing import Any

import re2

MOST = 1000
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class PatternError(ValueError):
    """A regular expression that cannot be read."""


@functools.lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Return a pattern with the methods of Python's own.

    Raises: PatternError.
    """
    if len(pattern) > MOST:
        raise PatternError(f"the regular expression is longer than {MOST} characters")
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        said = error.args[0]
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise PatternError(f"the regular expression {pattern!r} cannot be read: {text}") from error
