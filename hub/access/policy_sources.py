"""The inputs of access decisions, and how they are compiled.

They are documents, roles, roles of projects, and grants.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hub.engine.cluster_scopes import parse_scope
from hub.engine.errors import RuleError
from hub.engine.project_roles import project_policy
from hub.engine.rbac import (
    Enforcer,
    Policy,
    Problem,
    as_expressions,
    builtin,
    joined,
    parse,
    usable,
)
from hub.engine.rbac_rules import Rule

log = logging.getLogger(__name__)

DOCUMENT = re.compile(r"^policy\.([A-Za-z0-9_-]+\.)?csv\Z")

# The match mode, and the roles and policy of each project, as last compiled.
Known = dict[str, tuple[str, tuple[Mapping[str, Any], ...], Policy]]


@dataclass(frozen=True, slots=True)
class Sources:
    """All inputs of access decisions at one moment."""

    documents: Mapping[str, str]
    default_role: str
    mode: str
    scopes: tuple[str, ...]
    roles: tuple[Mapping[str, Any], ...]
    projects: Mapping[str, tuple[Mapping[str, Any], ...]]
    grants: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()
    """Stored policies that could not be parsed."""

    def enforcer(self, known: "Known | None" = None) -> Enforcer:
        """Compile; `known` caches the policies of projects for the next call."""
        makers: list[tuple[str, Callable[[], Policy]]] = [
            ("builtin", lambda: self._as_globs(builtin()))
        ]
        makers += [
            (name, partial(parse, self.documents[name], name, self.mode))
            for name in sorted(self.documents)
        ]
        makers += [
            (f"role {role.get('name')}", partial(lambda r: self._as_globs(role_policy(r)), role))
            for role in self.roles
        ]
        parts = [self._part(origin, make) for origin, make in makers]
        parts += self._of_projects(known if known is not None else {})
        parts.append(usable(self._as_globs(Policy(self.grants)), self.mode))
        parts.append(Policy(problems=self.problems))
        return Enforcer(joined(parts), self.mode, self.default_role, is_usable=True)

    def _part(self, origin: str, make: Callable[[], Policy]) -> Policy:
        try:
            return usable(make(), self.mode)
        except (RuleError, KeyError, TypeError, ValueError, AttributeError) as error:
            # One unreadable source must not remove other subjects' rights.
            log.warning("the policy of %s cannot be used: %s", origin, error)
            return Policy(
                problems=(Problem(origin, f"it cannot be read, write it again: {error}"),)
            )

    def _of_projects(self, known: "Known") -> list[Policy]:
        """Return the policies of projects; unchanged ones come from the cache."""
        found: Known = {}
        for project, roles in self.projects.items():
            before = known.get(project)
            if before and before[0] == self.mode and before[1] == roles:
                found[project] = before
            else:
                make = partial(project_policy, project, roles, self.mode)
                found[project] = self.mode, roles, self._part(f"project {project}", make)
        known.clear()
        known.update(found)
        return [policy for _, _, policy in found.values()]

    def _as_globs(self, policy: Policy) -> Policy:
        """Return rules that always match as globs: the built-in ones, roles and grants.

        `policy.matchMode` does not apply to them.
        """
        if self.mode != "regex":
            return policy
        return replace(policy, rules=tuple(as_expressions(rule) for rule in policy.rules))


def sources_from(
    documents: Any,
    roles: Iterable[Mapping[str, Any]],
    projects: Mapping[str, Any],
    grants: Iterable[Rule],
) -> Sources:
    """Return the inputs of decisions from what is stored."""
    problems = list[Problem]()
    if not isinstance(documents, Mapping):
        documents = {}
        problems.append(Problem("policy documents", "they must be an object: write them again"))
    lists = {n: r for n, r in projects.items() if isinstance(r, list | tuple)}
    problems += [
        Problem(f"project {n}", "its roles must be a list: save it again")
        for n in projects
        if n not in lists
    ]
    return Sources(
        {n: str(t or "") for n, t in documents.items() if DOCUMENT.match(n)},
        str(documents.get("policy.default") or ""),
        str(documents.get("policy.matchMode") or "glob"),
        _scopes(documents.get("scopes")),
        tuple(roles),
        {n: tuple(r) for n, r in lists.items()},
        tuple(grants),
        tuple(problems),
    )


def _scopes(value: Any) -> tuple[str, ...]:
    words = re.findall(r"[\w:./-]+", value) if isinstance(value, str) else value
    if not isinstance(words, list):
        words = []
    return tuple(str(word) for word in words) or ("groups",)


def names_of_roles(roles: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of roles that are stored as objects, which no provider's group may claim.

    A provider may have a group with the name of a role, so only the role's members have it.
    """
    return frozenset(
        str(role.get("name"))
        for role in roles
        if not isinstance(role.get("members"), list) or role["name"] not in role["members"]
    )


def role_policy(role: Mapping[str, Any]) -> Policy:
    """Return the policy lines of a role that is stored as an object."""
    name, origin = str(role["name"]), f"role {role['name']}"
    rules, problems = list[Rule](), list[Problem]()
    for number, entry in enumerate(_list(role.get("rules")), 1):
        where = f"{origin}, rule {number}"
        try:
            rules.append(_role_rule(name, entry, where))
        except (RuleError, KeyError, TypeError, AttributeError) as error:
            problems.append(Problem(where, f"it cannot be read, save the role again: {error}"))
            if isinstance(entry, Mapping) and entry.get("effect") == "deny":
                # An unreadable rule denies everything that it may have denied.
                resource, action, about = (
                    _word(entry.get(f)) for f in ("resource", "action", "object")
                )
                rules.append(Rule(name, resource, action, about, "deny", where))
    members = tuple((str(member), name) for member in _list(role.get("members")))
    return Policy(tuple(rules), members, tuple(problems))


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise TypeError("its rules and members must be lists")
    return value or []


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else "*"


def _role_rule(name: str, entry: Mapping[str, Any], where: str) -> Rule:
    words = [entry[f] for f in ("resource", "action", "object")] + [entry.get("effect", "allow")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("resource, action, object and effect must be text")
    resource, action, about, effect = words
    scope = parse_scope(entry.get("clusters") or "")
    return Rule(name, resource, action, about, effect, where, scope)


def grant_rule(grant: Mapping[str, Any]) -> Rule:
    """Return the policy line of an active grant."""
    return Rule(
        grant["subject"],
        grant["resource"],
        grant["action"],
        grant["object"],
        "allow",
        f"grant {grant['id']} until {grant['endsAt']}",
        parse_scope(grant.get("clusters") or ""),
    )
