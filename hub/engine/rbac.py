"""Argo CD's policy language: parse lines, compile them, decide and say why.

Source: as Argo CD 3.6, with two differences: a broken line is reported and disables nothing else,
and a deny wins over every allow, also over one that came by another group or the default role.
"""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hub.engine.errors import RuleError
from hub.engine.globs import GlobError, Union, check_count, expression, matches
from hub.engine.globs import compiled as compiled_glob
from hub.engine.patterns import PatternError, compiled, compiled_any, finds, readable
from hub.engine.scopes import Scope, Where, parse_scope

ARGOCD_RESOURCES = (
    "applications", "applicationsets", "logs", "exec", "projects", "clusters", "repositories",
    "write-repositories", "certificates", "accounts", "gpgkeys", "extensions",
)  # fmt: skip
# What this hub has beyond Argo CD: its settings, its roles and grants, its trail.
RESOURCES = (*ARGOCD_RESOURCES, "settings", "roles", "audit")
ACTIONS = (
    "get", "create", "update", "delete", "sync", "rollback", "override", "invoke", "action", "export",
)  # fmt: skip

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
    "accounts": ("create", "update", "delete"), "gpgkeys": ("create", "delete"), "exec": ("create",),
    "settings": ("get", "update"), "roles": ("get", "update"), "audit": ("get", "update", "export"),
}  # fmt: skip
BUILTIN = "\n".join(
    [f"p, role:readonly, {resource}, get, {'*/*' if resource in ('applications', 'applicationsets', 'logs') else '*'}, allow" for resource in _READ]
    + [f"p, role:admin, {r}, {a}, {'*/*' if r in ('applications', 'applicationsets', 'exec') else '*'}, allow" for r, actions in _WRITE.items() for a in actions]
    + ["p, role:auditor, audit, get, *, allow", "p, role:auditor, audit, export, *, allow", "p, role:auditor, roles, get, *, allow"]
    + ["g, role:auditor, role:readonly", "g, role:admin, role:readonly", "g, admin, role:admin"]
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
    where: Scope | None = None
    """The clusters where it holds, everywhere when None."""
    project: str = ""
    """The project that it was written in and that it never reaches beyond."""

    def __str__(self) -> str:
        """Return the line as it is written."""
        scope = (self.where.text,) if self.where else ()
        return f"p, {', '.join(quoted(word) for word in (*self[:5], *scope))}"

    def is_about(self, name: str) -> bool:
        """Return whether the object lies in the rule's own project, if it has one."""
        return not self.project or name == self.project or name.startswith(f"{self.project}/")


def quoted(word: str) -> str:
    """Return a word of a policy line as it is written."""
    if any(c in word for c in ',"') or word != word.strip():
        return '"' + word.replace('"', '""') + '"'
    return word


class Problem(NamedTuple):
    """A line that cannot be used."""

    origin: str
    message: str
    is_pattern: bool = False
    """Whether a pattern in it is the reason: one that denies then denies more than was written."""


class BrokenPattern(RuleError):
    """A rule with a pattern that cannot be used."""


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
            "a line is p with a subject, resource, action, object and effect, or g with a subject and a role"
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
            # Kept as it is, so that what it was written against stays closed: see `Enforcer`.
            rules.append(rule)
        raise
    if mode != "regex" and not any(matches(rule.resource, resource) for resource in RESOURCES):
        raise RuleError(
            f"no resource is called {rule.resource!r}; there are {', '.join(RESOURCES)}"
        )
    rules.append(rule)


def as_expressions(rule: Rule) -> Rule:
    """Return a rule of globs as one of regular expressions; one that cannot be read stays as it is."""
    try:
        words = [f"^(?s:{expression(word)})$" for word in (rule.resource, rule.action, rule.object)]
    except GlobError:
        return rule
    return rule._replace(resource=words[0], action=words[1], object=words[2])


def check_rule(rule: Rule, mode: str) -> None:
    """Return if the patterns of a rule can be used.

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


class Reach(NamedTuple):
    """Which objects some subjects may do an action to: those of a rule that allows and of none that denies."""

    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]


class _Candidates(NamedTuple):
    """The rules that are about some subjects, a resource and an action, compiled."""

    rules: tuple[Rule, ...]
    deny: Callable[[str], bool] | None
    allow: Callable[[str], bool] | None
    # Rules of one project or of some clusters only: few, and asked one by one.
    bounded: tuple[Rule, ...]


@dataclass(slots=True)
class Enforcer:
    """A compiled policy."""

    policy: Policy
    mode: str = "glob"
    default_role: str = ""
    _by_subject: dict[str, list[Rule]] = field(default_factory=dict)
    _parents: dict[str, list[str]] = field(default_factory=dict)
    _children: dict[str, list[str]] = field(default_factory=dict)
    _roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _compiled: dict[tuple[tuple[str, ...], str, str], _Candidates] = field(default_factory=dict)
    _bearing: dict[tuple[str, ...], tuple[str, frozenset[Rule]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.policy = _usable(self.policy, self.mode)
        for rule in self.policy.rules:
            self._by_subject.setdefault(rule.subject, []).append(rule)
        for subject, role in self.policy.links:
            self._parents.setdefault(subject, []).append(role)
            self._children.setdefault(role, []).append(subject)

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

    def decide(
        self,
        subjects: Iterable[str],
        resource: str,
        action: str,
        name: str,
        where: Where | None = None,
    ) -> Decision:
        """Return whether any of the subjects may; the subjects are an account and its groups.

        Shapes: `name` is the object, such as `project/application`; `where` the cluster it is about.
        """
        found = self._candidates(tuple(subjects), resource, action)
        for effect, union in (("deny", found.deny), ("allow", found.allow)):
            bounded = next(
                (r for r in found.bounded if r.effect == effect and self._holds(r, name, where)),
                None,
            )
            if bounded is not None:
                return Decision(allowed=effect == "allow", rule=bounded)
            if union is not None and union(name):
                rule = next(
                    r for r in found.rules
                    if r.effect == effect and not r.where and not r.project and self._fits(r.object, name)
                )  # fmt: skip
                return Decision(allowed=effect == "allow", rule=rule)
        return Decision(allowed=False)

    def relevant(self, subjects: Iterable[str]) -> tuple[str, ...]:
        """Return those of some subjects that policies speak of: who has the same gets the same answers."""
        return tuple(s for s in subjects if s and (s in self._by_subject or s in self._parents))

    def bearing(self, subjects: Iterable[str]) -> tuple[str, frozenset[Rule]]:
        """Return all that decisions about some subjects rest on: where it is equal before and after, nothing changed for them."""
        known = self.relevant(subjects)
        if known not in self._bearing:
            rules = (r for role in self._all_roles(known) for r in self._by_subject.get(role, ()))
            # Where a rule is written changes nothing.
            self._bearing[known] = self.mode, frozenset(r._replace(origin="") for r in rules)
        return self._bearing[known]

    def touches(self, subjects: Iterable[str], resource: str) -> bool:
        """Return whether any rule allows some subjects anything at all to objects of a resource."""
        known = self.relevant(subjects)
        rules = (r for role in self._all_roles(known) for r in self._by_subject.get(role, ()))
        return any(r.effect == "allow" and self._fits(r.resource, resource) for r in rules)

    def reach(self, subjects: Iterable[str], resource: str, action: str) -> Reach:
        """Return the rules from which a query for all objects at once is made."""
        rules = self._candidates(tuple(subjects), resource, action).rules
        return Reach(
            tuple(r for r in rules if r.effect == "allow"),
            tuple(r for r in rules if r.effect == "deny"),
        )

    def who(
        self, resource: str, action: str, name: str, where: Where | None = None
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return the subjects that a rule allows, and those that a rule denies, roles and members included.

        A caller may when one of its subjects is in the first and none is in the second.
        """
        hits: dict[str, set[str]] = {"allow": set(), "deny": set()}
        for rule in self.policy.rules:
            if self._fits(rule.resource, resource) and self._fits(rule.action, action) and self._holds(rule, name, where):  # fmt: skip
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

    def _holds(self, rule: Rule, name: str, where: Where | None) -> bool:
        return (
            rule.is_about(name)
            and (rule.where is None or rule.where.covers(where))
            and self._fits(rule.object, name)
        )

    def _candidates(self, subjects: tuple[str, ...], resource: str, action: str) -> _Candidates:
        key = (subjects, resource, action)
        if key not in self._compiled:
            if len(self._compiled) > 20_000:
                self._compiled.clear()
            known = self.relevant(subjects)
            compiled = self._compile(known, resource, action) if known == subjects else self._candidates(known, resource, action)  # fmt: skip
            self._compiled[key] = compiled
        return self._compiled[key]

    def _all_roles(self, subjects: Iterable[str]) -> Iterable[str]:
        named = [*subjects, *([self.default_role] if self.default_role else [])]
        return dict.fromkeys(role for subject in named for role in self.roles_of(subject))

    def _compile(self, subjects: tuple[str, ...], resource: str, action: str) -> _Candidates:
        rules = tuple(
            rule for role in self._all_roles(subjects) for rule in self._by_subject.get(role, ())
            if self._fits(rule.resource, resource) and self._fits(rule.action, action)
        )  # fmt: skip
        free = [r for r in rules if not r.where and not r.project]
        return _Candidates(
            rules, self._union(free, "deny"), self._union(free, "allow"),
            tuple(r for r in rules if r.where or r.project),
        )  # fmt: skip

    def _union(self, rules: Iterable[Rule], effect: str) -> Callable[[str], bool] | None:
        # One question for all objects of an effect: most checks end after two.
        objects = tuple(dict.fromkeys(rule.object for rule in rules if rule.effect == effect))
        if not objects:
            return None
        return _any_regex(objects) if self.mode == "regex" else Union(objects)

    def _fits(self, pattern: str, text: str) -> bool:
        if self.mode == "regex":
            return finds(pattern, text)
        return matches(pattern, text)


def _any_regex(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    try:
        search = compiled_any(patterns).search
    except PatternError:
        return lambda text: any(finds(pattern, text) for pattern in patterns)
    return lambda text: search(readable(text)) is not None


def _usable(policy: Policy, mode: str) -> Policy:
    """Return a policy of rules that can all be asked.

    A rule that allows and cannot be read is left out. One that denies denies every object of its
    resource and action instead, to its own subject and inside its own project: a mistake in it opens
    nothing, and reaches nobody whom the rule did not name.
    """
    rules, problems = list[Rule](), dict.fromkeys(policy.problems)
    for rule in policy.rules:
        try:
            check_rule(rule, mode)
        except RuleError as error:
            if not any(problem.origin == rule.origin for problem in problems):
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
    origin = f"{rule.origin}, which cannot be read and denies every object"
    return rule._replace(
        resource=words.get("resource", rule.resource),
        action=words.get("action", rule.action),
        object=everything,
        origin=origin,
    )


def unknown_roles(policy: Policy) -> list[str]:
    """Return the roles that somebody is given and that have no rule, no parent and no use."""
    known = {rule.subject for rule in policy.rules} | {subject for subject, _ in policy.links}
    return sorted({role for _, role in policy.links if role not in known})


def project_policy(project: str, roles: Sequence[Mapping[str, Any]], mode: str = "glob") -> Policy:
    """Return the policy of a project's roles: their lines, their groups, and the right to read the project.

    A line about anything outside the project is a problem and gives nothing.
    """
    policy = Policy()
    for number, role in enumerate(roles):
        try:
            policy += _role_policy(project, role, mode)
        except (TypeError, ValueError, AttributeError):
            # It was stored past every check; the other roles go on.
            reason = f"spec.roles[{number}] cannot be read and gives nothing: write it again"
            policy += Policy(problems=(Problem(f"project {project}, role {number + 1}", reason),))
    return policy


def _role_policy(project: str, role: Mapping[str, Any], mode: str) -> Policy:
    name = str(role.get("name") or "")
    subject = f"proj:{project}:{name}"
    origin = f"project {project}, role {name}"
    lines = "\n".join(str(line) for line in role.get("policies") or [])
    found = parse(lines, origin, mode)
    rules = [Rule(subject, "projects", "get", project, "allow", origin, None, project)]
    problems = list(found.problems)
    for rule in found.rules:
        reason = _outside(rule, project, subject)
        if reason:
            problems.append(Problem(rule.origin, f"invalid policy rule '{rule}': {reason}"))
        else:
            rules.append(rule._replace(project=project))
    groups = tuple((str(group), subject) for group in role.get("groups") or [] if group)
    return Policy(tuple(rules), groups, tuple(problems))


PROJECT_RESOURCES = (
    "applications", "applicationsets", "logs", "exec", "clusters", "repositories",
)  # fmt: skip


def _outside(rule: Rule, project: str, subject: str) -> str:
    if rule.subject != subject:
        return f"policy subject must be: '{subject}', not '{rule.subject}'"
    if rule.resource not in PROJECT_RESOURCES:
        return f"resource must be one of: {', '.join(PROJECT_RESOURCES)}, not '{rule.resource}'"
    if not rule.object.startswith(f"{project}/"):
        return f"object must be of form '{project}/*' or '{project}/<name>', not '{rule.object}'"
    return ""


def check_project_roles(project: str, roles: Any) -> None:
    """Return if a project's roles can be used.

    Raises: RuleError with Argo CD's sentence.
    """
    seen: set[str] = set()
    check_count(roles or [], "spec.roles")
    for number, role in enumerate(roles or []):
        if not isinstance(role, dict):
            raise RuleError(f"spec.roles[{number}] must be an object")
        name = role.get("name")
        if not isinstance(name, str) or not re.fullmatch(
            r"[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?", name
        ):
            raise RuleError(
                f"invalid role name '{name}'. Must consist of alphanumeric characters, '-' or '_', and must start and end with an alphanumeric character"
            )
        if name in seen:
            raise RuleError(f"role '{name}' already exists")
        seen.add(name)
        _check_words(role.get("policies"), "policy", name)
        _check_words(role.get("groups"), "group", name)
    broken = project_policy(project, roles or []).problems
    if broken:
        raise RuleError(f"{broken[0].origin}: {broken[0].message}")


def _check_words(words: Any, what: str, role: str) -> None:
    if words is None:
        return
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RuleError(f"role '{role}': its {what} list must be a list of texts")
    check_count(words, f"role '{role}': its {what} list")
    for position, word in enumerate(words):
        if not word.strip() or (what == "group" and re.search(r'["\r\n\t]', word)):
            raise RuleError(f"role '{role}': {word!r} cannot be a {what}")
        if word in words[:position]:
            raise RuleError(f"{what} '{word}' already exists for role '{role}'")
