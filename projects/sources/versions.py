"""Resolve target revisions: branches, tags, version constraints, abbreviated commits."""

import re
from collections.abc import Iterable, Mapping

from hub.engine.errors import Stalled
from projects.sources.constraints import is_valid, parse_version, satisfies

_EXACT = re.compile(r"v?\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_FEW_NUMBERS = re.compile(r"v?\d+(?:\.\d+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")


def is_constraint(text: str) -> bool:
    """Return whether a text is a version constraint, not an exact version or a name."""
    if not text or _EXACT.fullmatch(text):
        return False
    if parse_version(text) is not None and not _FEW_NUMBERS.fullmatch(text):
        return False
    return is_valid(text)


def highest(constraint: str, names: Iterable[str], prefix: str = "") -> str | None:
    """Return the name of the highest version that satisfies a constraint, None if none does."""
    found = []
    for name in names:
        if not name.startswith(prefix):
            continue
        version = parse_version(name[len(prefix) :])
        if version is not None and satisfies(version, constraint):
            found.append((version, name))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def resolve_git(target: str, refs: Mapping[str, str], head: str, prefix: str = "") -> str:
    """Return the commit for a target revision.

    Source: as Argo CD 3.6: empty means HEAD; else a branch, tag or full ref of that name, the
        highest tag that satisfies a constraint, an abbreviated commit. An existing ref wins over a
        constraint.
    Raises: Stalled if nothing matches.
    """
    wanted = target or "HEAD"
    if _COMMIT.fullmatch(wanted):
        return wanted
    if wanted == "HEAD":
        found = refs.get("HEAD") or refs.get(head)
        if found:
            return found
        raise Stalled(
            "RevisionNotFound", "unable to resolve 'HEAD' to a commit SHA: the repository is empty"
        )
    for resolver in (_named, _newest, _abbreviated):
        found = resolver(wanted, refs, prefix)
        if found:
            return found
    why = ": no tag satisfies it" if is_constraint(wanted) else ""
    raise Stalled("RevisionNotFound", f"unable to resolve '{wanted}' to a commit SHA{why}")


def _named(wanted: str, refs: Mapping[str, str], prefix: str) -> str:
    names = [f"refs/heads/{wanted}", f"refs/tags/{wanted}", wanted]
    if prefix:
        names = [f"refs/tags/{prefix}{wanted}"]
    return next((refs[name] for name in names if name in refs), "")


def _newest(wanted: str, refs: Mapping[str, str], prefix: str) -> str:
    if not is_constraint(wanted):
        return ""
    tags = [name.removeprefix("refs/tags/") for name in refs if name.startswith("refs/tags/")]
    best = highest(wanted, tags, prefix)
    return refs[f"refs/tags/{best}"] if best else ""


def is_abbreviated(target: str) -> bool:
    """Return whether a target revision may be an abbreviated commit of at least 7 digits."""
    return bool(_ABBREVIATED.fullmatch(target))


def _abbreviated(wanted: str, refs: Mapping[str, str], _prefix: str) -> str:
    """Return the commit of a ref that matches an abbreviation, empty if none or several do."""
    if not is_abbreviated(wanted):
        return ""
    longer = {commit for commit in refs.values() if commit.startswith(wanted)}
    return longer.pop() if len(longer) == 1 else ""
