"""Cluster scopes of RBAC rules, such as `clusters where env=prod`."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from hub.engine.errors import RuleError
from hub.engine.globs import compiled, matches


class Where(NamedTuple):
    """The cluster of an object."""

    server: str = ""
    name: str = ""
    labels: Mapping[str, str] = {}


class Requirement(NamedTuple):
    """One condition on a label."""

    key: str
    operator: str
    """`=`, `!=`, `in`, `notin`, `exists` or `absent`."""
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels satisfy the requirement; a missing label equals nothing."""
        value = labels.get(self.key)
        if self.operator == "exists":
            return value is not None
        if self.operator == "absent":
            return value is None
        return (value in self.values) == (self.operator in ("=", "in"))


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of clusters, selected by name globs and label requirements; both must match."""

    names: tuple[str, ...] = ()
    labels: tuple[Requirement, ...] = ()
    text: str = field(default="", compare=False)

    def covers(self, where: Where | None) -> bool:
        """Return whether the scope includes a cluster."""
        if where is None:
            return False
        if self.names and not any(
            matches(n, where.name) or matches(n, where.server) for n in self.names
        ):
            return False
        return all(requirement.holds(where.labels) for requirement in self.labels)


_LABEL = re.compile(
    r"^(?P<key>[A-Za-z0-9._/-]+)\s*(?:(?P<op>==?|!=)\s*(?P<value>[^\s,()=!]*)"
    r"|\s(?P<word>in|notin)\s*\((?P<values>[^()]*)\))?\Z"
)


_MAX_CHARACTERS = 2000


@functools.lru_cache(maxsize=4096)
def parse_scope(text: str) -> Scope | None:
    """Parse a cluster scope; return None for an empty text, which means all clusters.

    Shapes: `clusters named prod-*|live-*`, `clusters where env=prod,region in (eu,us),!test`, or
        both.
    Raises: RuleError naming the invalid part.
    """
    if not text.strip():
        return None
    if len(text) > _MAX_CHARACTERS:
        raise RuleError(f"the cluster scope is longer than {_MAX_CHARACTERS} characters")
    found = _form(text.split())
    if found is None or not (found[0] or found[1]):
        raise RuleError(
            f"{text!r} is not a cluster scope: "
            "write 'clusters named prod-*' or 'clusters where env=prod'"
        )
    names = tuple(n.strip() for n in found[0].split("|") if n.strip())
    for name in names:
        compiled(name)
    labels = tuple(_requirement(part) for part in split_selector(found[1]))
    if not names and not labels:
        raise RuleError(f"{text!r} is not a cluster scope: it names no clusters")
    return Scope(names, labels, " ".join(text.split()))


def _form(words: list[str]) -> tuple[str, str] | None:
    """Return the parts after "named" and "where", None if the text has another form."""
    if not words or words[0] != "clusters":
        return None
    rest, names = words[1:], list[str]()
    if rest[:1] == ["named"]:
        end = rest.index("where", 2) if "where" in rest[2:] else len(rest)
        names, rest = rest[1:end], rest[end:]
        # Names are separated by "|"; white space alone is a mistake.
        if any(not (a.endswith("|") or b.startswith("|")) for a, b in pairwise(names)):
            return None
    if rest and (rest[0] != "where" or len(rest) == 1):
        return None
    return " ".join(names), " ".join(rest[1:])


def split_selector(text: str) -> list[str]:
    """Split a label selector at its commas, except those inside `key in (a,b)`."""
    found, start, depth = list[str](), 0, 0
    for position, character in enumerate(text):
        depth = max(depth + (character == "(") - (character == ")"), 0)
        if character == "," and not depth:
            found.append(text[start:position].strip())
            start = position + 1
    found.append(text[start:].strip())
    return [part for part in found if part]


def _requirement(part: str) -> Requirement:
    absent = part.startswith("!")
    found = _LABEL.match(part.removeprefix("!").strip())
    if found is None or (absent and (found["op"] or found["word"])):
        raise RuleError(
            f"{part!r} is not a label requirement: "
            "write key=value, key!=value, key in (a,b), key or !key"
        )
    if absent:
        return Requirement(found["key"], "absent")
    if found["word"]:
        values = tuple(v.strip() for v in found["values"].split(",") if v.strip())
        return Requirement(found["key"], found["word"], values)
    if found["op"]:
        return Requirement(found["key"], "!=" if found["op"] == "!=" else "=", (found["value"],))
    return Requirement(found["key"], "exists")
