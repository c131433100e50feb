"""The functions of sprig for semantic versions."""

import re
from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import as_text
from appsets.template.syntax import TemplateError

_LONGEST_VERSION = 256


def _semver(text: Any) -> dict[str, Any]:
    if len(as_text(text)) > _LONGEST_VERSION:
        raise TemplateError(f"a version is longer than {_LONGEST_VERSION} characters")
    found = re.fullmatch(
        r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?",
        as_text(text),
    )
    if not found:
        raise TemplateError("Invalid Semantic Version")
    return {
        "Major": int(found[1]),
        "Minor": int(found[2] or 0),
        "Patch": int(found[3] or 0),
        "Prerelease": found[4] or "",
        "Metadata": found[5] or "",
        "Original": as_text(text),
    }


def _semver_compare(constraint: Any, version: Any) -> bool:
    found = _semver(version)
    if len(as_text(constraint)) > _LONGEST_VERSION:
        raise TemplateError(f"a constraint is longer than {_LONGEST_VERSION} characters")
    own = (found["Major"], found["Minor"], found["Patch"])
    return any(
        all(
            _fits(part, own, found["Prerelease"])
            for part in re.split(r"[,\s]+(?=[<>=!~^v\d*])", group.strip())
            if part
        )
        for group in as_text(constraint).split("||")
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


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "semver": _semver,
    "semverCompare": _semver_compare,
}
