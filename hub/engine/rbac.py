"""Argo CD's RBAC policy language: parse, compile and enforce policies, and explain decisions.

Source: as Argo CD 3.6, with two differences: an invalid line is reported and disables nothing else,
and a deny wins over every allow, including one from another group or the default role.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from hub.engine.cluster_scopes import Where, parse_scope
from hub.engine.errors import RuleError
from hub.engine.globs import GlobError, expression, matches
from hub.engine.globs import compiled as compiled_glob
from hub.engine.rbac_rules import Candidates, Reach, Rule, fits, holds
from hub.engine.regex import compiled

ARGOCD_RESOURCES = (
    "applications",
    "applicationsets",
    "logs",
    "exec",
    "projects",
    "clusters",
    "repositories",
    "write-repositories",
    "certificates",
    "accounts",
    "gpgkeys",
    "extensions",
)
# Resources that Argo CD does not have.
RESOURCES = (*ARGOCD_RESOURCES, "settings", "roles", "audit")
ACTIONS = (
    "get",
    "create",
    "update",
    "delete",
    "sync",
    "rollback",
    "override",
    "invoke",
    "action",
    "export",
)

_READ = (
    "applications",
    "applicationsets",
    "certificates",
    "clusters",
    "repositories",
    "write-repositories",
    "projects",
    "accounts",
    "gpgkeys",
    "logs",
)
_WRITE = {
    "applications": (
        "create",
        "update",
        "update/*",
        "delete",
        "delete/*",
        "sync",
        "rollback",
        "override",
        "action/*",
    ),
    **dict.fromkeys(
        (
            "applicationsets",
            "certificates",
            "clusters",
            "repositories",
            "write-repositories",
            "projects",
        ),
        ("create", "update", "delete"),
    ),
    "accounts": ("create", "update", "delete"),
    "gpgkeys": ("create", "delete"),
    "exec": ("create",),
    "settings": ("get", "update"),
    "roles": ("get", "update"),
    "audit": ("get", "update", "export"),
}


def _everything(resource: str) -> str:
    return "*/*" if resource in _IN_PROJECTS else "*"


_IN_PROJECTS = ("applications", "applicationsets", "logs", "exec")
BUILTIN = "\n".join(
    [f"p, role:readonly, {resource}, get, {_everything(resource)}, allow" for resource in _READ]
    + [
        f"p, role:admin, {resource}, {action}, {_everything(resource)}, allow"
        for resource, actions in _WRITE.items()
        for action in actions
    ]
    + [
        "p, role:auditor, audit, get, *, allow",
        "p, role:auditor, audit, export, *, allow",
        "p, role:auditor, roles, get, *, allow",
    ]
    + ["g, role:auditor, role:readonly", "g, role:admin, role:readonly", "g, admin, role:admin"]
)


class Problem(NamedTuple):
    """An invalid line of a policy."""

    origin: str
    message: str
    is_pattern: bool = False
    """Whether an invalid pattern is the reason; a deny rule then denies more than intended."""


class BrokenPattern(RuleError):
    """A rule with an invalid pattern."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy."""

    rules: tuple[Rule, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: "Policy") -> "Policy":
        """Combine two policies."""
        return joined((self, other))


def joined(policies: Iterable[Policy]) -> Policy:
    """Combine policies, in order."""
    parts = list(policies)
    return Policy(
        tuple(chain.from_iterable(part.rules for part in parts)),
        tuple(chain.from_iterable(part.links for part in parts)),
        tuple(chain.from_iterable(part.problems for part in parts)),
    )


def parse(text: str, document: str = "policy.csv", mode: str = "glob") -> Policy:
    """Parse a policy document; invalid lines become problems with their line number."""
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
            text = f"invalid RBAC policy: {line.strip()[:500]}: {error}"
            problems.append(Problem(origin, text, isinstance(error, BrokenPattern)))
    return Policy(tuple(rules), tuple(links), tuple(problems))


def _add(
    tokens: Sequence[str], origin: str, mode: str, rules: list[Rule], links: list[tuple[str, str]]
) -> None:
    if tokens[0] == "g" and len(tokens) == 3 and all(tokens):
        links.append((tokens[1], tokens[2]))
        return
    if tokens[0] != "p" or len(tokens) not in (6, 7) or not all(tokens):
        raise RuleError(
            "a line must be p with a subject, resource, action, object and effect, "
            "or g with a subject and a role"
        )
    subject, resource, action, name, effect = tokens[1:6]
    rule = Rule(subject, resource, action, name, effect, origin)
    if rule.effect not in ("allow", "deny"):
        raise RuleError(f"the effect must be allow or deny, not {rule.effect!r}")
    try:
        rule = rule._replace(where=parse_scope(",".join(tokens[6:])))
        check_rule(rule, mode)
    except RuleError:
        if rule.effect == "deny":
            # Kept, so that `Enforcer` still denies what the rule was meant to deny.
            rules.append(rule)
        raise
    if mode != "regex" and not any(matches(rule.resource, resource) for resource in RESOURCES):
        raise RuleError(f"unknown resource {rule.resource!r}; use one of {', '.join(RESOURCES)}")
    rules.append(rule)


def as_expressions(rule: Rule) -> Rule:
    """Convert a rule with globs to regular expressions; an invalid rule stays unchanged."""
    try:
        words = [f"^(?s:{expression(word)})$" for word in (rule.resource, rule.action, rule.object)]
    except GlobError:
        return rule
    return rule._replace(resource=words[0], action=words[1], object=words[2])


def check_rule(rule: Rule, mode: str) -> None:
    """Check the patterns of a rule.

    Raises: BrokenPattern naming the field of the rule.
    """
    read = compiled if mode == "regex" else compiled_glob
    for field_name, pattern in (
        ("resource", rule.resource),
        ("action", rule.action),
        ("object", rule.object),
    ):
        try:
            read(pattern)
        except RuleError as error:
            raise BrokenPattern(f"{field_name} {pattern[:100]!r}: {error}") from error


def builtin() -> Policy:
    """Return the policy of the built-in roles."""
    return parse(BUILTIN, "builtin")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed and the rule that decided, None if no rule matched."""

    allowed: bool
    rule: Rule | None = None

    @property
    def why(self) -> str:
        """The reason, as a message."""
        if self.rule is None:
            return "no rule allows it"
        return f"{'allowed' if self.allowed else 'denied'} by {self.rule.origin}: {self.rule}"


_MAX_CACHED = 20_000


@dataclass(slots=True)
class Enforcer:
    """A compiled policy."""

    policy: Policy
    mode: str = "glob"
    default_role: str = ""
    is_usable: bool = False
    """Whether the policy was already returned by `usable`."""
    _by_subject: dict[str, list[Rule]] = field(default_factory=dict)
    _parents: dict[str, list[str]] = field(default_factory=dict)
    _children: dict[str, list[str]] = field(default_factory=dict)
    _roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _compiled: dict[tuple[tuple[str, ...], str, str], Candidates] = field(default_factory=dict)
    _touched: dict[tuple[tuple[str, ...], str], bool] = field(default_factory=dict)
    _bearing: dict[tuple[str, ...], tuple[str, frozenset[Rule]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.is_usable:
            self.policy = usable(self.policy, self.mode)
        for rule in self.policy.rules:
            self._by_subject.setdefault(rule.subject, []).append(rule)
        for subject, role in self.policy.links:
            self._parents.setdefault(subject, []).append(role)
            self._children.setdefault(role, []).append(subject)

    def roles_of(self, subject: str) -> tuple[str, ...]:
        """Return the subject and all its roles, including inherited ones."""
        if subject not in self._roles:
            found, todo = {subject: None}, [subject]
            while todo:
                for role in self._parents.get(todo.pop(), ()):
                    if role not in found:
                        found[role] = None
                        todo.append(role)
            self._roles[subject] = tuple(found)
        return self._roles[subject]

    def decide(
        self,
        subjects: Iterable[str],
        resource: str,
        action: str,
        name: str,
        where: Where | None = None,
    ) -> Decision:
        """Return whether any of the subjects (an account and its groups) is allowed.

        Shapes: `name` is the object, such as `project/application`; `where` is its cluster.
        """
        found = self._candidates(tuple(subjects), resource, action)
        denied = found.deny.first(name, where)
        if denied is not None:
            return Decision(allowed=False, rule=denied)
        allowed = found.allow.first(name, where)
        return Decision(allowed=allowed is not None, rule=allowed)

    def relevant(self, subjects: Iterable[str]) -> tuple[str, ...]:
        """Return the subjects that the policy mentions; others do not affect a decision."""
        return tuple(s for s in subjects if s and (s in self._by_subject or s in self._parents))

    def bearing(self, subjects: Iterable[str]) -> tuple[str, frozenset[Rule]]:
        """Return everything that decisions about some subjects depend on.

        If it is equal before and after a change of the policy, nothing changed for them.
        """
        known = self.relevant(subjects)
        if known not in self._bearing:
            rules = (r for role in self._all_roles(known) for r in self._by_subject.get(role, ()))
            # The origin of a rule does not affect a decision.
            self._bearing[known] = self.mode, frozenset(r._replace(origin="") for r in rules)
        return self._bearing[known]

    def touches(self, subjects: Iterable[str], resource: str) -> bool:
        """Return whether any rule allows the subjects any action on a resource."""
        key = (self.relevant(subjects), resource)
        if key not in self._touched:
            if len(self._touched) > _MAX_CACHED:
                self._touched.clear()
            rules = (r for role in self._all_roles(key[0]) for r in self._by_subject.get(role, ()))
            self._touched[key] = any(
                r.effect == "allow" and fits(r.resource, resource, self.mode) for r in rules
            )
        return self._touched[key]

    def reach(self, subjects: Iterable[str], resource: str, action: str) -> Reach:
        """Return the rules that select all permitted objects in one query."""
        return self._candidates(tuple(subjects), resource, action).reach

    def who(
        self, resource: str, action: str, name: str, where: Where | None = None
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return the subjects that are allowed, and those that are denied, with members of roles.

        A caller is permitted if any of its subjects is allowed and none is denied.
        """
        hits: dict[str, set[str]] = {"allow": set(), "deny": set()}
        for rule in self.policy.rules:
            if (
                rule.is_about(name)
                and fits(rule.resource, resource, self.mode)
                and fits(rule.action, action, self.mode)
                and holds(rule, name, where, self.mode)
            ):
                hits[rule.effect].add(rule.subject)
        allowed, denied = (self._members(hits[effect]) for effect in ("allow", "deny"))
        return allowed, denied

    def _members(self, roles: set[str]) -> frozenset[str]:
        found, todo = set(roles), list(roles)
        while todo:
            for member in self._children.get(todo.pop(), ()):
                if member not in found:
                    found.add(member)
                    todo.append(member)
        return frozenset(found)

    def _candidates(self, subjects: tuple[str, ...], resource: str, action: str) -> Candidates:
        key = (subjects, resource, action)
        if key not in self._compiled:
            if len(self._compiled) > _MAX_CACHED:
                self._compiled.clear()
            known = self.relevant(subjects)
            compiled = (
                self._compile(known, resource, action)
                if known == subjects
                else self._candidates(known, resource, action)
            )
            self._compiled[key] = compiled
        return self._compiled[key]

    def _all_roles(self, subjects: Iterable[str]) -> Iterable[str]:
        named = [*subjects, *([self.default_role] if self.default_role else [])]
        return dict.fromkeys(role for subject in named for role in self.roles_of(subject))

    def _compile(self, subjects: tuple[str, ...], resource: str, action: str) -> Candidates:
        rules = (
            rule
            for role in self._all_roles(subjects)
            for rule in self._by_subject.get(role, ())
            if fits(rule.resource, resource, self.mode) and fits(rule.action, action, self.mode)
        )
        return Candidates(rules, self.mode)


def usable(policy: Policy, mode: str) -> Policy:
    """Return a policy without invalid patterns.

    An invalid allow rule is removed. An invalid deny rule denies every object of its resource and
    action instead, for its own subject and project, so that a mistake never grants anything.
    """
    rules, problems = list[Rule](), dict.fromkeys(policy.problems)
    named = {problem.origin for problem in problems}
    for rule in policy.rules:
        try:
            check_rule(rule, mode)
        except RuleError as error:
            if rule.origin not in named:
                named.add(rule.origin)
                problems[Problem(rule.origin, f"invalid RBAC policy: {rule}: {error}")] = None
            if rule.effect == "deny":
                rules.append(_widened(rule, mode))
        else:
            rules.append(rule)
    return Policy(tuple(rules), policy.links, tuple(problems))


def _widened(rule: Rule, mode: str) -> Rule:
    everything = ".*" if mode == "regex" else "*"
    words = {}
    for name in ("resource", "action"):
        word = getattr(rule, name)
        try:
            check_rule(rule._replace(resource=word, action=word, object=word), mode)
        except RuleError:
            words[name] = everything
    origin = f"{rule.origin}, which is invalid and denies every object"
    return rule._replace(
        resource=words.get("resource", rule.resource),
        action=words.get("action", rule.action),
        object=everything,
        origin=origin,
    )


def unknown_roles(policy: Policy) -> list[str]:
    """Return assigned roles that have no rule and no parent."""
    known = {rule.subject for rule in policy.rules} | {subject for subject, _ in policy.links}
    return sorted({role for _, role in policy.links if role not in known})
