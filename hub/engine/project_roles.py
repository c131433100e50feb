"""The roles in a project's spec: their policy and validation."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hub.engine.errors import RuleError
from hub.engine.globs import check_count
from hub.engine.rbac import Policy, Problem, joined, parse
from hub.engine.rbac_rules import Rule

MAX_LINES = 2000
"""The limit for all roles of a project together, since every process compiles them."""


def project_policy(project: str, roles: Sequence[Mapping[str, Any]], mode: str = "glob") -> Policy:
    """Return the policy of a project's roles; each role may also read the project.

    A line about anything outside the project becomes a problem and grants nothing.
    """
    found = list[Policy]()
    for number, role in enumerate(roles):
        try:
            found.append(_role_policy(project, role, mode))
        except (TypeError, ValueError, AttributeError):
            # Stored without validation; the other roles still apply.
            reason = f"spec.roles[{number}] is malformed and grants nothing: write it again"
            problem = Problem(f"project {project}, role {number + 1}", reason)
            found.append(Policy(problems=(problem,)))
    return joined(found)


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
    "applications",
    "applicationsets",
    "logs",
    "exec",
    "clusters",
    "repositories",
)


def _outside(rule: Rule, project: str, subject: str) -> str:
    if rule.subject != subject:
        return f"policy subject must be: '{subject}', not '{rule.subject}'"
    if rule.resource not in PROJECT_RESOURCES:
        return f"resource must be one of: {', '.join(PROJECT_RESOURCES)}, not '{rule.resource}'"
    if not rule.object.startswith(f"{project}/"):
        return f"object must be of form '{project}/*' or '{project}/<name>', not '{rule.object}'"
    return ""


def check_project_roles(project: str, roles: Any) -> None:
    """Check a project's roles.

    Raises: RuleError with the same message as Argo CD.
    """
    seen: set[str] = set()
    check_count(roles or [], "spec.roles")
    if problem := too_many(roles):
        raise RuleError(problem)
    for number, role in enumerate(roles or []):
        if not isinstance(role, dict):
            raise RuleError(f"spec.roles[{number}] must be an object")
        name = role.get("name")
        if not isinstance(name, str) or not re.fullmatch(
            r"[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?", name
        ):
            raise RuleError(
                f"invalid role name '{name}'. Must consist of alphanumeric characters, "
                "'-' or '_', and must start and end with an alphanumeric character"
            )
        if name in seen:
            raise RuleError(f"role '{name}' already exists")
        seen.add(name)
        _check_words(role.get("policies"), "policy", name)
        _check_words(role.get("groups"), "group", name)
    broken = project_policy(project, roles or []).problems
    if broken:
        raise RuleError(f"{broken[0].origin}: {broken[0].message}")


def too_many(roles: Any) -> str:
    """Return an error if a project's roles have too many entries in total, empty if not."""
    for field, what, advice in (
        (
            "policies",
            "policy lines",
            "write one line with a glob for many objects, or split the project",
        ),
        ("groups", "groups", "use one group of the identity provider for many people"),
    ):
        count = sum(
            len(role[field]) for role in _readable(roles) if isinstance(role.get(field), list)
        )
        if count > MAX_LINES:
            return (
                f"spec.roles has {count} {what} in all its roles ({field}): "
                f"at most {MAX_LINES} are allowed; {advice}"
            )
    return ""


def _readable(roles: Any) -> list[Mapping[str, Any]]:
    return [r for r in roles if isinstance(r, Mapping)] if isinstance(roles, list) else []


def _check_words(words: Any, what: str, role: str) -> None:
    if words is None:
        return
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RuleError(f"role '{role}': its {what} list must be a list of strings")
    check_count(words, f"role '{role}': its {what} list")
    seen = set[str]()
    for word in words:
        if not word.strip() or (what == "group" and re.search(r'["\r\n\t]', word)):
            raise RuleError(f"role '{role}': {word!r} is not a valid {what}")
        if word in seen:
            raise RuleError(f"{what} '{word}' already exists for role '{role}'")
        seen.add(word)
