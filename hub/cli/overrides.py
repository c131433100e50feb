"""Test settings of Argo CD on this machine: validity, and results of scripts on a resource.

No server, no Django.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub.cli import configmaps
from hub.cli.problem import Problem
from hub.engine import health
from hub.engine.actions import ActionScript, available, perform
from hub.engine.errors import EngineError, ManifestError, RuleError
from hub.engine.health import script_for
from hub.engine.ignore_rules import ignore_rules, rules_for, without_ignored
from hub.engine.jq_syntax import require_allowed
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.lua import check, health_script
from hub.engine.resource import Manifest, resource_key

GROUPS = ("general", "accounts", "kustomize", "resource-overrides")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one group of settings."""

    group: str
    summary: str
    problems: tuple[str, ...] = ()


def settings(file: str) -> Mapping[str, Any]:
    """Return the data of an argocd-cm ConfigMap in a file.

    Raises: Problem when there is none.
    """
    for document in _documents(file):
        if document.get("kind") == "ConfigMap":
            return dict(document.get("data") or {})
    raise Problem(f"{file} holds no ConfigMap")


def resource(file: str) -> Manifest:
    """Return the resource in a file.

    Raises: Problem when it contains none, or several.
    """
    found = _documents(file)
    if len(found) != 1:
        raise Problem(f"{file} must hold one resource")
    return dict(found[0])


def _documents(file: str) -> list[Any]:
    try:
        found = [d for d in parse_yaml(Path(file).read_text(encoding="utf-8")) if d]
    except (OSError, UnicodeDecodeError, ManifestError) as error:
        raise Problem(f"{file} cannot be read: {error}") from error
    if not all(isinstance(d, dict) for d in found):
        raise Problem(f"{file} must hold objects")
    return found


def validate(data: Mapping[str, Any], groups: tuple[str, ...]) -> list[Verdict]:
    """Return a verdict on each group of settings."""
    checks = {
        "general": _general,
        "accounts": _accounts,
        "kustomize": _kustomize,
        "resource-overrides": _overrides,
    }
    return [checks[g](data) for g in groups]


def _part(data: Mapping[str, Any], wanted: Any) -> configmaps.Found | str:
    try:
        return configmaps.read({k: v for k, v in data.items() if wanted(k)})
    except Problem as problem:
        return str(problem)


def _general(data: Mapping[str, Any]) -> Verdict:
    found = _part(
        data, lambda k: not k.startswith(("accounts.", "resource.customizations", "kustomize."))
    )
    if isinstance(found, str):
        return Verdict("general", "", (found,))
    sign_on = (
        "SSO configured" if found.provider or "dex.config" in data else "SSO is not configured"
    )
    left = [f"{key}: {note}" for key, note in found.left]
    return Verdict("general", "\n".join([sign_on, *(f"  {line}" for line in left)]))


def _accounts(data: Mapping[str, Any]) -> Verdict:
    found = configmaps.read({k: v for k, v in data.items() if k.startswith("accounts.")})
    wrong = [
        f"accounts.{n}: {w!r} is not a capability: use login or apiKey"
        for n, a in found.accounts.items()
        for w in a.get("capabilities") or []
        if w not in ("login", "apiKey")
    ]
    return Verdict("accounts", f"{len(found.accounts)} accounts", tuple(wrong))


def _kustomize(data: Mapping[str, Any]) -> Verdict:
    keys = [k for k in data if k.startswith("kustomize.")]
    return Verdict(
        "kustomize",
        f"options of {', '.join(keys)}: the hub takes them from its environment"
        if keys
        else "default options",
    )


def _overrides(data: Mapping[str, Any]) -> Verdict:
    found = _part(data, lambda k: k.startswith("resource.customizations"))
    if isinstance(found, str):
        return Verdict("resource-overrides", "", (found,))
    wrong: list[str] = []
    scripts = found.settings.get("health") or {}
    codes = [(f"health of {kind}", code) for kind, code in scripts.items()]
    for kind, block in (found.settings.get("actions") or {}).items():
        codes.append((f"discovery of {kind}", str(block.get("discovery.lua") or "")))
        codes += [
            (f"action {d.get('name')} of {kind}", str(d.get("action.lua") or ""))
            for d in block.get("definitions") or []
            if isinstance(d, dict)
        ]
    for where, code in codes:
        problem = check(code) if code else ""
        if problem:
            wrong.append(f"{where}: {problem}")
    try:
        rules = found.settings.get("ignore_differences") or []
        for rule in ignore_rules(rules, "ignoreDifferences"):
            for expression in rule.jq_paths:
                require_allowed(expression)
    except EngineError as error:
        wrong.append(str(error))
    return Verdict(
        "resource-overrides",
        f"{len(scripts) + len(found.settings.get('actions') or {})} resource overrides",
        tuple(wrong),
    )


def assess(data: Mapping[str, Any], manifest: Manifest) -> tuple[str, str]:
    """Return a resource's health and message by the settings' scripts or the hub's rules.

    Raises: Problem when nothing assesses its kind.
    """
    scripts = {
        kind: health_script(code) for kind, code in (_taken(data).get("health") or {}).items()
    }
    found = health.assess(manifest, scripts)
    if found is None:
        raise Problem(f"nothing assesses the health of {resource_key(manifest).kind}")
    return str(found.status), found.message


def ignored(data: Mapping[str, Any], manifest: Manifest) -> Manifest:
    """Return a resource without the fields that the settings ignore."""
    rules = ignore_rules(_taken(data).get("ignore_differences") or [], "ignoreDifferences")
    return without_ignored(manifest, rules_for(resource_key(manifest), rules), delete_by_jq)


def delete_by_jq(expression: str, value: Any) -> Any:
    """Return a value without what a jq path selects.

    Raises: Problem for an invalid jq path, or one that the hub refuses.
    """
    import jq

    try:
        require_allowed(expression)
        jq.compile(expression)
        return jq.compile(f"del({expression}\n)").input_value(value).first()
    except RuleError as error:
        raise Problem(str(error)) from error
    except ValueError as error:
        raise Problem(f"jqPathExpressions: {expression!r}: {error}") from error


def actions(data: Mapping[str, Any], manifest: Manifest) -> list[dict[str, Any]]:
    """Return the actions on a resource."""
    return available(manifest, _script(data, manifest))


def run(
    data: Mapping[str, Any], manifest: Manifest, action: str, params: Mapping[str, str]
) -> list[tuple[str, Manifest]]:
    """Return (operation, resource) for everything that an action changes."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - the clock of this machine stands for the hub's
    return [
        (c.operation, c.resource)
        for c in perform(
            manifest, action, params, now, secrets.token_hex(3), _script(data, manifest)
        )
    ]


def _taken(data: Mapping[str, Any]) -> dict[str, Any]:
    return configmaps.read(
        {k: v for k, v in data.items() if k.startswith("resource.customizations")}
    ).settings


def _script(data: Mapping[str, Any], manifest: Manifest) -> ActionScript | None:
    key = resource_key(manifest)
    blocks = dict(_taken(data).get("actions") or {})
    block: Any = script_for(f"{key.group}/{key.kind}" if key.group else key.kind, blocks)
    if not isinstance(block, Mapping):
        return None
    definitions = {
        str(d["name"]): str(d.get("action.lua") or "") for d in block.get("definitions") or []
    }
    return ActionScript(
        str(block.get("discovery.lua") or ""), definitions, bool(block.get("mergeBuiltinActions"))
    )
