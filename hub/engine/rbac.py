"""Argo CD's policy language: parse lines, compile them, decide and say why.

Source: as Argo CD 3.6, with two differences: a broken line is reported and disables nothing else,
and a deny wins over every allow, also over one that came by another group or the default role.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from hub.engine.errors import RuleError
from hub.engine.permits import glob_expression, matches

RESOURCES = (
    "applications", "applicationsets", "logs", "exec", "projects", "clusters", "repositories",
    "write-repositories", "certificates", "accounts", "gpgkeys", "extensions",
)  # fmt: skip
ACTIONS = ("get", "create", "update", "delete", "sync", "rollback", "override", "invoke", "action")

_READ = (
    "applications", "applicationsets", "certificates", "clusters", "repositories",
    "write-repositories", "projects", "accounts", "gpgkeys", "logs",
)  # fmt: skip
_WRITE = {
    "applications": ("create", "update", "update/*", "delete", "delete/*", "sync", "rollback", "override", "action/*"),
    **dict.fromkeys(
        ("applicationsets", "certificates", "clusters", "repositories", "write-repositories", "projects"),
        ("create", "update", "delete"),
    ),
    "accounts": ("update",), "gpgkeys": ("create", "delete"), "exec": ("create",),
}  # fmt: skip
BUILTIN = "\n".join(
    [f"p, role:readonly, {resource}, get, {'*/*' if resource in ('applications', 'applicationsets', 'logs') else '*'}, allow" for resource in _READ]
    + [f"p, role:admin, {r}, {a}, {'*/*' if r in ('applications', 'applicationsets', 'exec') else '*'}, allow" for r, actions in _WRITE.items() for a in actions]
    + ["g, role:admin, role:readonly", "g, admin, role:admin"]
)  # fmt: skip


class Rule(NamedTuple):
    """One `p` line."""

    subject: str
    resource: str
    action: str
    object: str
    effect: str
    origin: str
    """Document and line, so that a decision can name it."""

    def __str__(self) -> str:
        """Return the line as it is written."""
        return f"p, {', '.join(self[:5])}"


class Problem(NamedTuple):
    """A line that cannot be used."""

    origin: str
    message: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Parsed policy documents."""

    rules: tuple[Rule, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: "Policy") -> "Policy":
        """Return both together."""
        return Policy(
            self.rules + other.rules, self.links + other.links, self.problems + other.problems
        )


def parse(text: str, document: str = "policy.csv", mode: str = "glob") -> Policy:
    """Return the lines of a policy document; those that cannot be used become problems with their number."""
    rules: list[Rule] = []
    links: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        origin = f"{document}:{number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            tokens = [
                token.strip()
                for token in next(csv.reader([line.strip()], skipinitialspace=True, strict=True))
            ]
            _add(tokens, origin, mode, rules, links)
        except (RuleError, csv.Error, StopIteration) as error:
            problems.append(Problem(origin, f"invalid RBAC policy: {line.strip()}: {error}"))
    return Policy(tuple(rules), tuple(links), tuple(problems))


def _add(
    tokens: Sequence[str], origin: str, mode: str, rules: list[Rule], links: list[tuple[str, str]]
) -> None:
    if tokens[0] == "g" and len(tokens) == 3 and all(tokens):
        links.append((tokens[1], tokens[2]))
        return
    if tokens[0] != "p" or len(tokens) != 6 or not all(tokens):
        raise RuleError(
            "a line is p with a subject, resource, action, object and effect, or g with a subject and a role"
        )
    subject, resource, action, name, effect = tokens[1:]
    rule = Rule(subject, resource, action, name, effect, origin)
    if rule.effect not in ("allow", "deny"):
        raise RuleError(f"the effect must be allow or deny, not {rule.effect!r}")
    if mode == "regex":
        for pattern in (rule.resource, rule.action, rule.object):
            _regex(pattern)
    elif not any(matches(rule.resource, resource) for resource in RESOURCES):
        raise RuleError(
            f"no resource is called {rule.resource!r}; there are {', '.join(RESOURCES)}"
        )
    rules.append(rule)


@lru_cache(maxsize=8192)
def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise RuleError(f"{pattern!r} is no regular expression: {error}") from error


def builtin() -> Policy:
    """Return the roles that are always there."""
    return parse(BUILTIN, "builtin")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and the rule that said so; no rule when nothing matched."""

    allowed: bool
    rule: Rule | None = None

    @property
    def why(self) -> str:
        """The reason as a sentence."""
        if self.rule is None:
            return "no rule allows it"
        return f"{'allowed' if self.allowed else 'denied'} by {self.rule.origin}: {self.rule}"


class _Candidates(NamedTuple):
    """The rules that are about some subjects, a resource and an action, compiled."""

    rules: tuple[Rule, ...]
    deny: re.Pattern[str] | None
    allow: re.Pattern[str] | None


@dataclass(slots=True)
class Enforcer:
    """A compiled policy."""

    policy: Policy
    mode: str = "glob"
    default_role: str = ""
    _by_subject: dict[str, list[Rule]] = field(default_factory=dict)
    _parents: dict[str, list[str]] = field(default_factory=dict)
    _roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _compiled: dict[tuple[tuple[str, ...], str, str], _Candidates] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in self.policy.rules:
            self._by_subject.setdefault(rule.subject, []).append(rule)
        for subject, role in self.policy.links:
            self._parents.setdefault(subject, []).append(role)

    def roles_of(self, subject: str) -> tuple[str, ...]:
        """Return the subject and every role that it has, inherited ones included."""
        if subject not in self._roles:
            found, todo = {subject: None}, [subject]
            while todo:
                for role in self._parents.get(todo.pop(), ()):
                    if role not in found:
                        found[role] = None
                        todo.append(role)
            self._roles[subject] = tuple(found)
        return self._roles[subject]

    def decide(self, subjects: Iterable[str], resource: str, action: str, name: str) -> Decision:
        """Return whether any of the subjects may; the subjects are an account and its groups.

        Shapes: `name` is the object, such as `project/application`.
        """
        found = self._candidates(tuple(subjects), resource, action)
        for effect, union in (("deny", found.deny), ("allow", found.allow)):
            if union is not None and union.search(name):
                rule = next(
                    r for r in found.rules if r.effect == effect and self._fits(r.object, name)
                )
                return Decision(allowed=effect == "allow", rule=rule)
        return Decision(allowed=False)

    def _candidates(self, subjects: tuple[str, ...], resource: str, action: str) -> _Candidates:
        key = (subjects, resource, action)
        if key not in self._compiled:
            named = [*subjects, *([self.default_role] if self.default_role else [])]
            roles = dict.fromkeys(
                role for subject in named if subject for role in self.roles_of(subject)
            )
            rules = tuple(
                rule for role in roles for rule in self._by_subject.get(role, ())
                if self._fits(rule.resource, resource) and self._fits(rule.action, action)
            )  # fmt: skip
            self._compiled[key] = _Candidates(
                rules, self._union(rules, "deny"), self._union(rules, "allow")
            )
        return self._compiled[key]

    def _union(self, rules: Iterable[Rule], effect: str) -> re.Pattern[str] | None:
        # One expression for all objects of an effect: most checks end after two searches.
        objects = dict.fromkeys(rule.object for rule in rules if rule.effect == effect)
        if self.mode == "regex":
            parts = [f"(?:{pattern})" for pattern in objects]
        else:
            parts = [f"\\A(?:{glob_expression(pattern)})\\Z" for pattern in objects]
        return re.compile("|".join(parts), re.DOTALL) if parts else None

    def _fits(self, pattern: str, text: str) -> bool:
        if self.mode == "regex":
            return bool(_regex(pattern).search(text))
        return matches(pattern, text)


def unknown_roles(policy: Policy) -> list[str]:
    """Return the roles that somebody is given and that have no rule, no parent and no use."""
    known = {rule.subject for rule in policy.rules} | {subject for subject, _ in policy.links}
    return sorted({role for _, role in policy.links if role not in known})
