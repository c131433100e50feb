"""Resolve what a person asked for to a revision: branches, tags, version constraints."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache, total_ordering
from typing import NamedTuple

from hub.engine.errors import Stalled

_VERSION = re.compile(
    r"^v?(0|[1-9]\d*)(?:\.(0|[1-9]\d*|[xX*]))?(?:\.(0|[1-9]\d*|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?\Z"
)
_EXACT = re.compile(r"^v?\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?\Z")
_LONGEST = 256
_MOST_PARTS = 32
_PART = re.compile(r"\s*(>=|=>|<=|=<|!=|~>|>|<|=|~|\^)?\s*(v?[0-9xX*][^\s,|]*)")


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
    # One version is compared with each part of a constraint, one after the other.
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in version.pre.split("."))
    return (
        version.major,
        version.minor,
        version.patch,
        not version.pre,
        parts if version.pre else (),
    )


def parse_version(text: str) -> Version | None:
    """Return the version that a text is, None when it is none."""
    # Servers send any text, and Python refuses to read numbers of thousands of digits.
    match = _VERSION.match(text) if len(text) <= _LONGEST else None
    if not match or any(g in ("x", "X", "*") for g in match.groups()[:3]):
        return None
    major, minor, patch, pre, _build = match.groups()
    return Version(int(major), int(minor or 0), int(patch or 0), pre or "")


def is_constraint(text: str) -> bool:
    """Return whether a text is a version constraint and not an exact version or a name."""
    if _EXACT.match(text) or not text:
        return False
    if text == "*":
        return True
    if not re.search(r"[<>=~^*xX, |]", text) and not re.match(r"^v?\d+(\.\d+)?\Z", text):
        return False
    try:
        return bool(_alternatives(text))
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _alternatives(text: str) -> list[list[tuple[str, str]]]:
    if len(text) > _LONGEST:
        raise ValueError(text[:_LONGEST])
    result = []
    for alternative in text.split("||"):
        ranged = re.match(r"^\s*(\S+)\s+-\s+(\S+)\s*\Z", alternative)
        if ranged:
            result.append([(">=", ranged.group(1)), ("<=", ranged.group(2))])
            continue
        rest = " ".join(alternative.replace(",", " ").split())
        parts, position = [], 0
        while position < len(rest):
            match = _PART.match(rest, position)
            if not match or not _VERSION.match(
                match.group(2).replace("*", "x") if match.group(2) != "*" else "0"
            ):
                raise ValueError(text)
            parts.append((match.group(1) or "", match.group(2)))
            position = match.end()
            while position < len(rest) and rest[position] == " ":
                position += 1
        result.append(parts)
    if sum(map(len, result)) > _MOST_PARTS:
        raise ValueError(text)
    return result


def satisfies(version: Version, constraint: str) -> bool:
    """Return whether a version satisfies a constraint such as `>=1.2, <2`, `~1.3`, `^1` or `1.*`.

    Pre-releases only match a constraint that names one, as in Argo CD.
    """
    return any(
        all(_fits(version, op, text) for op, text in parts) for parts in _alternatives(constraint)
    )


@lru_cache(maxsize=1024)
def _bounds(text: str) -> tuple[Version, int, str]:
    if text == "*":
        return Version(0, 0, 0), 0, ""
    match = _VERSION.match(text.replace("*", "x"))
    if not match:
        raise ValueError(text)
    numbers, precision = [], 0
    for group in match.groups()[:3]:
        if group in (None, "x", "X"):
            break
        numbers.append(int(group))
        precision += 1
    numbers += [0] * (3 - len(numbers))
    low = Version(numbers[0], numbers[1], numbers[2], match.group(4) or "")
    return low, precision, match.group(4) or ""


def _fits(version: Version, operator: str, text: str) -> bool:
    low, precision, pre = _bounds(text)
    if version.pre and not pre:
        return False
    high = _next(low, precision)
    if operator in ("", "="):
        return version == low if precision == 3 else low <= version < high
    if operator == "!=":
        return version != low if precision == 3 else not low <= version < high
    if operator in (">", "<="):
        above = version > low if precision == 3 else version >= high
        return above if operator == ">" else not above
    if operator in (">=", "=>"):
        return version >= low
    if operator in ("<", "=<"):
        return version < low if operator == "<" else version <= low
    if operator in ("~", "~>"):
        return low <= version < _next(low, min(precision, 2) or 1)
    return low <= version < _caret(low, precision)


def _next(version: Version, precision: int) -> Version:
    if precision == 0:
        return Version(10**9, 0, 0)
    if precision == 1:
        return Version(version.major + 1, 0, 0)
    if precision == 2:
        return Version(version.major, version.minor + 1, 0)
    return Version(version.major, version.minor, version.patch + 1)


def _caret(version: Version, precision: int) -> Version:
    if version.major or precision <= 1:
        return Version(version.major + 1, 0, 0)
    if version.minor or precision == 2:
        return Version(0, version.minor + 1, 0)
    return Version(0, 0, version.patch + 1)


def highest(constraint: str, names: Iterable[str], prefix: str = "") -> str | None:
    """Return the name of the highest version that satisfies a constraint, None when none does."""
    found = []
    for name in names:
        if not name.startswith(prefix):
            continue
        version = parse_version(name[len(prefix) :])
        if version is not None and satisfies(version, constraint):
            found.append((version, name))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def resolve_git(target: str, refs: Mapping[str, str], head: str, prefix: str = "") -> str:
    """Return the commit that a target revision names.

    Source: as Argo CD 3.6: empty is HEAD, a constraint looks at tags only, else branch, tag, full ref, commit.
    Raises: Stalled when nothing fits.
    """
    wanted = target or "HEAD"
    if re.fullmatch(r"[0-9a-f]{40}", wanted):
        return wanted
    if wanted == "HEAD":
        found = refs.get("HEAD") or refs.get(head)
        if found:
            return found
        raise Stalled(
            "RevisionNotFound", "unable to resolve 'HEAD' to a commit SHA: the repository is empty"
        )
    if is_constraint(wanted):
        tags = [name.removeprefix("refs/tags/") for name in refs if name.startswith("refs/tags/")]
        best = highest(wanted, tags, prefix)
        if best:
            return refs[f"refs/tags/{best}"]
        if not prefix and f"refs/heads/{wanted}" in refs:
            return refs[f"refs/heads/{wanted}"]
        # An abbreviated commit can be all digits, and then looks like a version.
        if commit := _abbreviated(wanted, refs):
            return commit
        raise Stalled(
            "RevisionNotFound", f"unable to resolve '{wanted}' to a commit SHA: no tag satisfies it"
        )
    for name in (
        (f"refs/tags/{prefix}{wanted}",)
        if prefix
        else (f"refs/heads/{wanted}", f"refs/tags/{wanted}", wanted)
    ):
        if name in refs:
            return refs[name]
    if commit := _abbreviated(wanted, refs):
        return commit
    raise Stalled("RevisionNotFound", f"unable to resolve '{wanted}' to a commit SHA")


def _abbreviated(wanted: str, refs: Mapping[str, str]) -> str:
    """Return the one commit that an abbreviation of seven digits or more names, empty when there is none."""
    if not re.fullmatch(r"[0-9a-f]{7,39}", wanted):
        return ""
    longer = {commit for commit in refs.values() if commit.startswith(wanted)}
    return longer.pop() if len(longer) == 1 else ""
