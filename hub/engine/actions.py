"""Resource actions: the built-in ones, named as in Argo CD, and user-defined Lua scripts."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.engine import lua
from hub.engine.errors import MALFORMED_OBJECT, EngineError, RuleError
from hub.engine.parsing import parse_digits
from hub.engine.resource import Manifest, resource_key


@dataclass(frozen=True, slots=True)
class Change:
    """The effect of an action: a resource to create, or an existing one to patch."""

    operation: str
    resource: Manifest
    """The whole resource to create, or the patched one."""


@dataclass(frozen=True, slots=True)
class ActionScript:
    """The user-defined scripts of one kind: one discovers actions, one per action performs it."""

    discovery: str = ""
    definitions: Mapping[str, str] = field(default_factory=dict)
    merge_builtin: bool = False


_WORKLOADS = {
    "Deployment": ("pause", "restart", "resume", "scale"),
    "StatefulSet": ("restart", "scale"),
    "DaemonSet": ("restart",),
    "CronJob": ("create-job", "resume", "suspend"),
    "Job": ("resume", "suspend", "terminate"),
}
_GROUPS = {
    "Deployment": "apps",
    "StatefulSet": "apps",
    "DaemonSet": "apps",
    "CronJob": "batch",
    "Job": "batch",
}


def available(live: Manifest, script: ActionScript | None = None) -> list[dict[str, Any]]:
    """Return the actions of a live resource as `{name, disabled, displayName, iconClass, params}`.

    Raises: RuleError when a user's discovery script fails.
    """
    with _of_its_kind(live):
        found = {} if script and not script.merge_builtin else _builtin_actions(live)
        if script:
            found.update(_discovered(live, script))
    return [{"name": name, **found[name]} for name in sorted(found)]


def _builtin_actions(live: Manifest) -> dict[str, dict[str, Any]]:
    key = resource_key(live)
    if _GROUPS.get(key.kind) != key.group:
        return {}
    return {name: _offer(name, key.kind, live) for name in _WORKLOADS[key.kind]}


def _offer(name: str, kind: str, live: Manifest) -> dict[str, Any]:
    spec = live.get("spec") or {}
    flag = "paused" if kind == "Deployment" else "suspend"
    stopped = bool(spec.get(flag))
    offer: dict[str, Any] = {"disabled": False}
    if name in ("pause", "suspend"):
        offer["disabled"] = stopped
    elif name == "resume":
        offer["disabled"] = not stopped
    elif name == "restart" and kind == "Deployment":
        offer["disabled"] = stopped
    elif name == "scale":
        offer["params"] = [
            {"name": "replicas", "type": "number", "default": str(spec.get("replicas", 1))}
        ]
    return offer


def _discovered(live: Manifest, script: ActionScript) -> dict[str, dict[str, Any]]:
    if not script.discovery:
        return {name: {"disabled": False} for name in script.definitions}
    result = lua.run(script.discovery, live)
    if not isinstance(result, dict):
        return {}
    return {
        name: {"disabled": False, **(offer if isinstance(offer, dict) else {})}
        for name, offer in result.items()
    }


def perform(
    live: Manifest,
    name: str,
    params: Mapping[str, str],
    now: str,
    unique: str,
    script: ActionScript | None = None,
) -> list[Change]:
    """Return the changes to make for an action.

    Units: `now` is an RFC 3339 time; `unique` a short suffix for names of created resources.
    Raises: RuleError for an action that the kind does not have or that is disabled, and for an
        invalid parameter.
    """
    if script and name in script.definitions:
        return _scripted(live, lua.run(script.definitions[name], live, params))
    offers = {offer["name"]: offer for offer in available(live, script)}
    key = resource_key(live)
    if name not in offers:
        raise RuleError(
            f"{key.kind} has no action {name!r}; it has {', '.join(sorted(offers)) or 'none'}"
        )
    if offers[name].get("disabled"):
        raise RuleError(f"action {name!r} is currently disabled for {key.kind} {key.name}")
    with _of_its_kind(live):
        if name == "create-job":
            return [Change("create", _job_of(live, unique))]
        return [Change("patch", _patched(live, name, params, now))]


@contextlib.contextmanager
def _of_its_kind(live: Manifest) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except MALFORMED_OBJECT as error:
        raise RuleError(
            f"{live.get('kind')} has malformed fields, so it has no actions: "
            "fix the resource in the cluster"
        ) from error


def _patched(live: Manifest, name: str, params: Mapping[str, str], now: str) -> Manifest:
    spec = dict(live.get("spec") or {})
    if name == "restart":
        template = dict(spec.get("template") or {})
        metadata = dict(template.get("metadata") or {})
        annotations = {
            **(metadata.get("annotations") or {}),
            "kubectl.kubernetes.io/restartedAt": now,
        }
        spec["template"] = {**template, "metadata": {**metadata, "annotations": annotations}}
    elif name == "scale":
        spec["replicas"] = _replicas(params)
    elif name in ("pause", "resume") and live.get("kind") == "Deployment":
        spec["paused"] = name == "pause"
    elif name in ("suspend", "resume"):
        spec["suspend"] = name == "suspend"
    elif name == "terminate":
        spec["activeDeadlineSeconds"] = 1
    return {**live, "spec": spec}


def _replicas(params: Mapping[str, str]) -> int:
    text = str(params.get("replicas", ""))
    wanted = parse_digits(text)
    if wanted is None or wanted > 100_000:
        raise RuleError(
            f"parameter replicas must be a whole number from 0 to 100000, not {text[:40]!r}"
        )
    return wanted


def _job_of(cron_job: Manifest, unique: str) -> Manifest:
    metadata = cron_job["metadata"]
    template = (cron_job.get("spec") or {}).get("jobTemplate") or {}
    own = template.get("metadata") or {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{metadata['name'][:52]}-{unique}",
            "namespace": metadata.get("namespace", ""),
            "labels": dict(own.get("labels") or {}),
            "annotations": {
                **(own.get("annotations") or {}),
                "cronjob.kubernetes.io/instantiate": "manual",
            },
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "name": metadata["name"],
                    "uid": metadata.get("uid", ""),
                    "controller": True,
                }
            ],
        },
        "spec": template.get("spec") or {},
    }


def _scripted(live: Manifest, result: Any) -> list[Change]:
    if isinstance(result, dict):
        return [Change("patch", _as_live(live, result))]
    if isinstance(result, list) and all(
        isinstance(r, dict) and isinstance(r.get("resource"), dict) for r in result
    ):
        return [Change(str(r.get("operation") or "patch"), r["resource"]) for r in result]
    raise RuleError(
        "script: an action must return the changed obj, or a list of {operation, resource}"
    )


def _as_live(live: Any, changed: Any) -> Any:
    # Lua has a single table type: an empty list comes back as an empty map.
    if isinstance(live, dict) and isinstance(changed, dict):
        return {k: _as_live(live.get(k), v) for k, v in changed.items()}
    if isinstance(live, list) and changed == {}:
        return []
    return changed


def merge_patch(before: Any, after: Any) -> dict[str, Any]:
    """Return the JSON merge patch that turns one object into another (RFC 7396)."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = merge_patch(old, value)
            if inner:
                patch[name] = inner
        elif value != old or name not in before:
            patch[name] = value
    return patch
