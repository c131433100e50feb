"""Convert between settings of the hub and Argo CD's ConfigMaps.

Pure functions: values in, values out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from hub.cli.output import as_yaml
from hub.cli.problem import Problem

PREFIX = "resource.customizations."
_SWITCHES = {
    "users.anonymous.enabled": "anonymous",
    "server.rbac.rollback.enforce.enable": "enforce_rollback",
    "application.sync.requireOverridePrivilegeForRevisionSync": "require_override_for_revision",
    "application.sync.impersonation.enabled": "impersonation",
}
_BLOCKS = {"resource.compareoptions": "compare_options", "globalProjects": "global_projects"}
ENVIRONMENT = {
    "url": "HUB_EXTERNAL_URL",
    "timeout.reconciliation": "HUB_POLL_INTERVAL",
    "timeout.reconciliation.jitter": "HUB_POLL_JITTER",
    "users.session.duration": "HUB_SESSION_DURATION",
    "application.instanceLabelKey": "HUB_INSTANCE_LABEL_KEY",
    "application.resourceTrackingMethod": "HUB_TRACKING_METHOD",
    "installationID": "HUB_INSTALLATION_ID",
    "server.maxPodLogsToRender": "HUB_MAX_POD_LOGS",
    "kustomize.buildOptions": "HUB_KUSTOMIZE_BUILD_OPTIONS",
    "helm.valuesFileSchemes": "HUB_HELM_VALUES_SCHEMES",
    "webhook.maxPayloadSizeMB": "HUB_MAX_WEBHOOK_BYTES",
}
"""Keys that an environment variable of the hub sets."""
FIXED: dict[str, tuple[tuple[str, ...], str]] = {
    "admin.enabled": (
        ("true",),
        "disable the account admin (Settings, Accounts) once another account is an administrator",
    ),
    "statusbadge.enabled": (("false",), "the hub draws no badges"),
    "exec.enabled": (("false",), "the hub has no terminal"),
    "cluster.inClusterEnabled": (
        ("true",),
        (
            "in-cluster is always known here: leave it out of the destinations of projects, "
            "or deny it there with !in-cluster"
        ),
    ),
    "resource.ignoreResourceUpdatesEnabled": (
        ("true",),
        "the hub reacts only to fields that are compared",
    ),
    "application.sync.impersonation.enforced": (
        ("true",),
        "with impersonation every sync needs a service account of its project",
    ),
    "server.rbac.disableApplicationFineGrainedRBACInheritance": (
        ("true",),
        (
            "a right to an application gives none to its resources: "
            "write update/* and delete/* where it is meant"
        ),
    ),
    "resource.respectRBAC": (
        (),
        "the hub reads every kind that its credentials may list, and says which it may not",
    ),
}
"""Settings that are fixed in the hub: the equivalent values, and the advice for others."""


@dataclass
class Found:
    """The content of a ConfigMap in the hub's terms."""

    settings: dict[str, Any] = field(default_factory=dict)
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → capabilities and enabled."""
    provider: dict[str, Any] | None = None
    """The configuration of oidc.config."""
    left: list[tuple[str, str]] = field(default_factory=list)
    """(key, what to do instead) of everything that is not carried over."""


def read(data: Mapping[str, Any]) -> Found:
    """Return the content of argocd-cm.

    Raises: Problem naming the key that cannot be read.
    """
    found = Found()
    for key in data:
        _take(found, key, data[key])
    return found


def _parsed(key: str, text: Any, kind: type) -> Any:
    try:
        value = yaml.safe_load(text) if isinstance(text, str) else text
    except yaml.YAMLError as error:
        raise Problem(f"argocd-cm, {key}: no YAML: {error}") from error
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise Problem(f"argocd-cm, {key}: must be {'a list' if kind is list else 'an object'}")
    return value


def _take(found: Found, key: str, text: Any) -> None:
    settings = found.settings
    if key in _SWITCHES:
        settings[_SWITCHES[key]] = str(text).lower() == "true"
    elif key in _BLOCKS:
        settings[_BLOCKS[key]] = _parsed(key, text, list if key == "globalProjects" else dict)
    elif key in ("resource.exclusions", "resource.inclusions"):
        settings.setdefault("resource_filters", {})[key.removeprefix("resource.")] = _parsed(
            key, text, list
        )
    elif key == "passwordPattern":
        settings["password_pattern"] = str(text)
    elif key in ("ui.bannercontent", "ui.bannerurl"):
        notice = settings.setdefault("notices", [{"tone": "info", "text": ""}])[0]
        notice["text" if key == "ui.bannercontent" else "url"] = str(text)
    elif key.startswith(PREFIX):
        _customization(found, key, text)
    elif key == "resource.customizations":
        for kind, block in _parsed(key, text, dict).items():
            _legacy(found, kind, block if isinstance(block, dict) else {})
    elif key.startswith("accounts."):
        _account(found, key, str(text))
    elif key == "oidc.config":
        found.provider = _parsed(key, text, dict)
    elif key in ENVIRONMENT:
        found.left.append(
            (
                key,
                f"the hub takes it from its environment: {ENVIRONMENT[key]}={_in_bytes(key, text)}",
            )
        )
    elif key == "dex.config":
        names = [
            str(c.get("name") or c.get("id"))
            for c in _parsed(key, text, dict).get("connectors") or []
            if isinstance(c, dict)
        ]
        found.left.append(
            (
                key,
                (
                    f"connectors {', '.join(names) or 'none'}: "
                    "register each provider itself (Settings, Sign-in)"
                ),
            )
        )
    elif key in FIXED:
        same, note = FIXED[key]
        if str(text).strip().lower() not in (*same, ""):
            found.left.append((key, f"{text}: {note}"))
    else:
        found.left.append((key, "the hub has no such setting"))


def _in_bytes(key: str, text: Any) -> Any:
    return int(str(text)) * 1024**2 if key.endswith("SizeMB") and str(text).isdigit() else text


def _customization(found: Found, key: str, text: Any) -> None:
    what, _, kind = key.removeprefix(PREFIX).partition(".")
    if what == "health":
        found.settings.setdefault("health", {})[_slashed(kind)] = str(text)
    elif what == "actions":
        found.settings.setdefault("actions", {})[_slashed(kind)] = _parsed(key, text, dict)
    elif what == "ignoreDifferences":
        _ignored(found, kind, _parsed(key, text, dict))
    elif what in ("useOpenLibs", "ignoreResourceUpdates"):
        found.left.append((key, "not needed: the hub reacts only to fields that are compared"))
    else:
        found.left.append((key, "the hub has no such setting"))


def _slashed(kind: str) -> str:
    group, _, name = kind.rpartition("_")
    return f"{group}/{name}" if group else name


def _ignored(found: Found, kind: str, rule: dict[str, Any]) -> None:
    group, _, name = ("*", "", "*") if kind == "all" else kind.rpartition("_")
    found.settings.setdefault("ignore_differences", []).append(
        {"group": group, "kind": name, **rule}
    )


def _legacy(found: Found, kind: str, block: Mapping[str, Any]) -> None:
    for name, value in block.items():
        if name == "health.lua":
            found.settings.setdefault("health", {})[kind] = str(value)
        elif name == "actions":
            found.settings.setdefault("actions", {})[kind] = _parsed(
                f"resource.customizations {kind}.actions", value, dict
            )
        elif name == "ignoreDifferences":
            _ignored(
                found,
                kind.replace("/", "_"),
                _parsed(f"resource.customizations {kind}.ignoreDifferences", value, dict),
            )
        else:
            found.left.append(
                (f"resource.customizations {kind}.{name}", "the hub has no such setting")
            )


def _account(found: Found, key: str, text: str) -> None:
    name = key.removeprefix("accounts.")
    if name.endswith(".enabled"):
        found.accounts.setdefault(name.removesuffix(".enabled"), {})["enabled"] = (
            text.lower() == "true"
        )
    else:
        words = [w.strip() for w in text.split(",") if w.strip()]
        found.accounts.setdefault(name, {})["capabilities"] = words


def write(settings: Mapping[str, Any], accounts: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return the data of argocd-cm for settings of the hub, without default values."""
    data: dict[str, str] = {}
    for key, name in _SWITCHES.items():
        if settings.get(name):
            data[key] = "true"
    for key, name in _BLOCKS.items():
        if settings.get(name):
            data[key] = as_yaml(settings[name])
    for name in ("exclusions", "inclusions"):
        if (settings.get("resource_filters") or {}).get(name):
            data[f"resource.{name}"] = as_yaml(settings["resource_filters"][name])
    if settings.get("password_pattern") not in (None, "", "^.{8,256}$"):
        data["passwordPattern"] = str(settings["password_pattern"])
    notice = next(iter(settings.get("notices") or []), None)
    if notice:
        data |= {
            "ui.bannercontent": str(notice["text"]),
            **({"ui.bannerurl": str(notice["url"])} if notice.get("url") else {}),
        }
    shapes: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("health", "health", str),
        ("actions", "actions", as_yaml),
    )
    for name, what, form in shapes:
        for kind, value in sorted((settings.get(name) or {}).items()):
            data[f"{PREFIX}{what}.{kind.replace('/', '_')}"] = form(value)
    for rule in settings.get("ignore_differences") or []:
        kind = (
            "all"
            if (rule.get("group"), rule.get("kind")) == ("*", "*")
            else "_".join(p for p in (rule.get("group") or "", rule.get("kind") or "") if p)
        )
        data[f"{PREFIX}ignoreDifferences.{kind}"] = as_yaml(
            {k: v for k, v in rule.items() if k not in ("group", "kind")}
        )
    for account in accounts:
        if account["name"] == "admin":
            continue
        data[f"accounts.{account['name']}"] = ", ".join(account.get("capabilities") or [])
        if not account.get("enabled", True):
            data[f"accounts.{account['name']}.enabled"] = "false"
    return data
