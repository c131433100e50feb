"""Semantic versions and constraints: `>=1.2, <2`, `~1.3`, `^1`, `2024.*`, `1.2 - 1.4`, `||`.

Source: as Argo CD 3.6, https://pkg.go.dev/github.com/Masterminds/semver/v3. Observed: numbers
may have leading zeros, as in calendar versions, and a pre-release only matches if one of the
joined conditions has a pre-release.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from typing import NamedTuple

_LONGEST = 256
_MAX_NUMBER = 2**64
_MAX_CONDITIONS = 32
_VERSION = re.compile(
    r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_PART = re.compile(
    r"(>=|=>|<=|=<|!=|~>|>|<|=|~|\^|)\s*v?([0-9]+|[xX*])(?:\.([0-9]+|[xX*]))?(?:\.([0-9]+|[xX*]))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
    r"(?![0-9A-Za-z.*+-])"
)
_BETWEEN = re.compile(r"\s*,\s*|\s+")
_RANGE = re.compile(r"\s*(\S+)\s+-\s+(\S+)\s*")


@total_ordering
class Version(NamedTuple):
    """A semantic version; pre-releases sort before their release."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    def __lt__(self, other: object) -> bool:
        return isinstance(other, Version) and _order(self) < _order(other)

    def __gt__(self, other: object) -> bool:
        return isinstance(other, Version) and _order(self) > _order(other)

    def __le__(self, other: object) -> bool:
        return not self > other

    def __ge__(self, other: object) -> bool:
        return not self < other


@lru_cache(maxsize=1024)
def _order(version: Version) -> tuple[object, ...]:
    # Cached, since a version is compared with each condition of a constraint.
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in version.pre.split(".")]
    return (*version[:3], not version.pre, tuple(parts) if version.pre else ())


@dataclass(frozen=True, slots=True)
class _Condition:
    operator: str
    version: Version
    precision: int
    """The number of components given: 3 for an exact version, 0 for any version."""


def parse_version(text: str) -> Version | None:
    """Parse a version; return None if it is invalid."""
    # The text is untrusted: Python refuses to parse numbers with thousands of digits.
    match = _VERSION.fullmatch(text) if len(text) <= _LONGEST else None
    if not match:
        return None
    major, minor, patch, pre = match.groups()
    numbers = [int(n or 0) for n in (major, minor, patch)]
    if max(numbers) >= _MAX_NUMBER or any(
        p.isdigit() and p != "0" and p[0] == "0" for p in (pre or "").split(".")
    ):
        return None
    return Version(numbers[0], numbers[1], numbers[2], pre or "")


def is_valid(text: str) -> bool:
    """Return whether a text is a valid constraint."""
    try:
        _alternatives(text)
    except ValueError:
        return False
    return True


def satisfies(version: Version, constraint: str) -> bool:
    """Return whether a version satisfies a constraint.

    Raises: ValueError for an invalid constraint.
    """
    return any(_holds(version, together) for together in _alternatives(constraint))


def _holds(version: Version, together: tuple[_Condition, ...]) -> bool:
    if version.pre and not any(c.version.pre for c in together):
        return False
    return all(_CHECKS[c.operator](version, c) for c in together)


@lru_cache(maxsize=1024)
def _alternatives(text: str) -> tuple[tuple[_Condition, ...], ...]:
    if len(text) > _LONGEST:
        raise ValueError(text[:_LONGEST])
    found = tuple(_together(alternative) for alternative in text.split("||"))
    if sum(map(len, found)) > _MAX_CONDITIONS:
        raise ValueError(text)
    return found


def _together(text: str) -> tuple[_Condition, ...]:
    between = _RANGE.fullmatch(text)
    if between:
        return _together(f">={between[1]} <={between[2]}")
    rest, position, found = text.strip(), 0, []
    while True:
        match = _PART.match(rest, position)
        if not match:
            raise ValueError(text)
        found.append(_condition(match))
        position = match.end()
        if position == len(rest):
            return tuple(found)
        gap = _BETWEEN.match(rest, position)
        if not gap:
            raise ValueError(text)
        position = gap.end()


def _condition(match: re.Match[str]) -> _Condition:
    operator, *numbers, pre = match.groups()
    given: list[str] = []
    for number in numbers:
        if number in (None, "x", "X", "*"):
            break
        given.append(number)
    version = parse_version(".".join([*given, "0", "0", "0"][:3]) + (f"-{pre}" if pre else ""))
    if version is None:
        raise ValueError(match[0])
    return _Condition(operator, version, len(given))


def _equal(version: Version, asked: _Condition) -> bool:
    return version == asked.version if asked.precision == 3 else _tilde(version, asked)


def _not_equal(version: Version, asked: _Condition) -> bool:
    wanted = asked.version
    if asked.precision == 1:
        return version.major != wanted.major
    if asked.precision == 2:
        return version[:2] != wanted[:2] or version.pre != wanted.pre
    return version != wanted


def _greater(version: Version, asked: _Condition) -> bool:
    if asked.precision in (1, 2):
        return version[: asked.precision] > asked.version[: asked.precision]
    if asked.precision == 0:
        return version.major > 0 or version > asked.version
    return version > asked.version


def _at_most(version: Version, asked: _Condition) -> bool:
    if asked.precision == 3:
        return version <= asked.version
    places = 1 if asked.precision == 1 else 2
    return version[:places] <= asked.version[:places]


def _tilde(version: Version, asked: _Condition) -> bool:
    wanted = asked.version
    if version < wanted:
        return False
    if asked.precision in (0, 3) and wanted[:3] == (0, 0, 0):
        return True
    places = 1 if asked.precision == 1 else 2
    return version[:places] == wanted[:places]


def _caret(version: Version, asked: _Condition) -> bool:
    wanted = asked.version
    if version < wanted:
        return False
    if wanted.major > 0 or asked.precision == 1:
        return version.major == wanted.major
    if wanted.minor > 0 or asked.precision == 2:
        return version[:2] == wanted[:2]
    return version[:3] == wanted[:3]


_CHECKS: dict[str, Callable[[Version, _Condition], bool]] = {
    "": _equal,
    "=": _equal,
    "!=": _not_equal,
    ">": _greater,
    "<": lambda v, c: v < c.version,
    ">=": lambda v, c: v >= c.version,
    "=>": lambda v, c: v >= c.version,
    "<=": _at_most,
    "=<": _at_most,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}
