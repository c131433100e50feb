"""Evaluate a policy file: no server, no Django."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.cli.problem import Problem
from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.rbac import ACTIONS, RESOURCES, Enforcer, Policy, builtin, parse


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The content of a policy file: lines alone, or a whole ConfigMap."""

    policy: Policy
    default_role: str = ""
    mode: str = "glob"


def read(path: str) -> PolicyFile:
    """Return the policy of a CSV file, or of a ConfigMap with `policy.csv` and `policy.*.csv`.

    Raises: Problem when the file cannot be read.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read: {error}") from error
    data = _config_map(text)
    if data is None:
        return PolicyFile(parse(text, Path(path).name))
    mode = str(data.get("policy.matchMode") or "glob")
    if mode not in ("glob", "regex"):
        raise Problem(f"{path}: policy.matchMode must be glob or regex, not {mode!r}")
    names = [
        n
        for n in sorted(data)
        if n == "policy.csv" or (n.startswith("policy.") and n.endswith(".csv"))
    ]
    policy = Policy()
    for name in names:
        policy += parse(str(data[name] or ""), name, mode)
    return PolicyFile(policy, str(data.get("policy.default") or ""), mode)


def _config_map(text: str) -> dict[str, Any] | None:
    try:
        documents = parse_yaml(text)
    except ManifestError:
        return None
    if (
        len(documents) == 1
        and isinstance(documents[0], dict)
        and documents[0].get("kind") == "ConfigMap"
    ):
        return dict(documents[0].get("data") or {})
    return None


def can(
    question: tuple[str, str, str, str], file: PolicyFile, *, default_role: str, use_builtin: bool
) -> bool:
    """Return whether a subject may do an action on an object.

    Raises: Problem for an action or a resource that does not exist.
    """
    subject, action, resource, name = question
    if resource not in RESOURCES:
        raise Problem(f"{resource!r} is not a resource; the resources are {', '.join(RESOURCES)}")
    if action.partition("/")[0] not in ACTIONS:
        raise Problem(f"{action!r} is not an action; the actions are {', '.join(ACTIONS)}")
    policy = (builtin() if use_builtin else Policy()) + file.policy
    enforcer = Enforcer(policy, file.mode, default_role or file.default_role)
    return enforcer.decide([subject], resource, action, name or "*").allowed
