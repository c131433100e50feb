"""Determine from a live resource whether an earlier change took effect."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.engine.field_sets import MANAGER
from hub.engine.resource import Manifest
from hub.engine.secret_masking import digest_of

_PRECONDITIONS = ("resourceVersion", "uid")
"""Fields of a patch that it does not set."""
PATCH, DELETE, CREATE = "patch", "delete", "create"
_NOISE = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "selfLink")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a change."""

    outcome: str
    """`allowed` if it took effect, `failed` if not, `unknown` if the resource does not tell."""
    why: str = ""


def without_noise(manifest: Manifest) -> Manifest:
    """Return a manifest without server-side metadata and status."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return {k: v for k, v in manifest.items() if k != "status"}
    kept = {k: v for k, v in metadata.items() if k not in _NOISE}
    return {**{k: v for k, v in manifest.items() if k != "status"}, "metadata": kept}


def fingerprint(manifest: Manifest) -> dict[str, str]:
    """Return what identifies a version of a resource: uid, resourceVersion, our own updates."""
    metadata = manifest.get("metadata") or {}
    entries = metadata.get("managedFields") or []
    own = [e for e in entries if isinstance(e, dict) and e.get("manager") == MANAGER]
    return {
        "uid": str(metadata.get("uid") or ""),
        "resourceVersion": str(metadata.get("resourceVersion") or ""),
        "own": digest_of([e for e in own if e.get("operation") == "Update"]),
    }


def outcome_of(plan: Mapping[str, Any], current: Manifest | None) -> Outcome:
    """Return whether a change took effect.

    Shapes: `plan` has `how`, `patch` and `fingerprint` (of the resource before the change);
        `current` is the live resource, None if it does not exist.
    """
    how, before = plan.get("how"), plan.get("fingerprint") or {}
    if how == CREATE:
        return _created(current)
    now = fingerprint(current) if current is not None else {}
    is_same = current is not None and now["uid"] == before.get("uid")
    if how == DELETE:
        return _deleted(current if is_same else None)
    if current is None or not is_same:
        return Outcome(
            "unknown",
            "the resource was deleted since; whether it was changed before is unknown",
        )
    if now["resourceVersion"] == before.get("resourceVersion"):
        return Outcome("failed", f"not applied: resourceVersion is still {now['resourceVersion']}")
    return _patched(current, plan.get("patch"), is_ours=now["own"] != before.get("own"))


def _patched(current: Manifest, patch: Any, *, is_ours: bool) -> Outcome:
    """Return the outcome of a patch; `is_ours` tells whether the hub updated the resource since."""
    if current.get("kind") == "Secret":
        patch = _with_folded_text(patch)
    if contains_patch(current, patch):
        if is_ours or not _sets_values(patch):
            return Outcome("allowed", "applied: the resource has the requested values")
        return Outcome(
            "unknown",
            "the resource has the requested values, but others own them: check who set them",
        )
    if is_ours:
        return Outcome("allowed", "applied, and the resource was changed again since")
    if _is_taken_over(current, patch):
        return Outcome(
            "unknown",
            "others changed the same fields since; whether it was applied before is unknown",
        )
    return Outcome("failed", "not applied: the resource was changed only by others")


def _with_folded_text(patch: Any) -> Any:
    """Return a patch of a Secret with `stringData` as the `data` that servers store instead."""
    if not isinstance(patch, Mapping) or not isinstance(patch.get("stringData"), Mapping):
        return patch
    texts = {k: v for k, v in patch["stringData"].items() if isinstance(v, str)}
    encoded = {k: base64.b64encode(v.encode()).decode() for k, v in texts.items()}
    rest = {k: v for k, v in patch.items() if k != "stringData"}
    return {**rest, "data": {**(patch.get("data") or {}), **encoded}}


def _sets_values(patch: Any) -> bool:
    """Return whether a patch sets a value, and does not only remove fields."""
    if isinstance(patch, list):
        return any(isinstance(step, Mapping) and step.get("op") != "remove" for step in patch)
    if isinstance(patch, Mapping):
        return any(_sets_values(v) for k, v in patch.items() if k not in _PRECONDITIONS)
    return patch is not None


def _is_taken_over(current: Manifest, patch: Any) -> bool:
    """Return whether another manager updated a field that the patch sets."""
    entries = (current.get("metadata") or {}).get("managedFields") or []
    others = [
        entry.get("fieldsV1")
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("manager") != MANAGER
    ]
    return any(_overlaps(fields, path) for fields in others for path in _paths(patch))


def _overlaps(fields: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(fields, Mapping):
            return False
        if f"f:{name}" not in fields:
            # Elements of lists have keys of their own: what is in the same list may be the same.
            return any(key.startswith(("k:", "v:", "i:")) for key in fields)
        fields = fields[f"f:{name}"]
    return True


def _paths(patch: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the values that a patch sets, up to the first list."""
    if isinstance(patch, list) and not path:
        for step in patch:
            if isinstance(step, Mapping) and step.get("op") in ("add", "replace"):
                yield tuple(_parts(str(step.get("path", ""))))
    elif isinstance(patch, Mapping) and patch:
        for name, value in patch.items():
            if name not in _PRECONDITIONS and not str(name).startswith("$"):
                yield from _paths(value, (*path, str(name)))
    elif patch is not None:
        yield path


def _created(current: Manifest | None) -> Outcome:
    if current is None:
        return Outcome("failed", "not applied: the resource does not exist")
    return Outcome("allowed", "applied: the resource exists")


def _deleted(current: Manifest | None) -> Outcome:
    if current is None:
        return Outcome("allowed", "applied: the resource no longer exists")
    if (current.get("metadata") or {}).get("deletionTimestamp"):
        return Outcome("allowed", "applied: the resource is being deleted")
    return Outcome("failed", "not applied: the resource exists and is not being deleted")


def contains_patch(current: Any, patch: Any) -> bool:
    """Return whether a resource has every value that a patch sets, and none that it removes.

    Shapes: `patch` is a merge patch, a strategic merge patch or a JSON patch.
    """
    if isinstance(patch, list):
        return all(_holds_step(current, step) for step in patch if isinstance(step, Mapping))
    return _holds(current, patch)


def _holds(current: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if not isinstance(current, Mapping):
            return False
        return all(
            _holds_field(current, str(k), v)
            for k, v in wanted.items()
            if not str(k).startswith("$")
        )
    if isinstance(wanted, list) and isinstance(current, list) and current != wanted:
        return all(any(_holds(have, one) for have in current) for one in wanted)
    return bool(current == wanted)


def _holds_field(current: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name in _PRECONDITIONS:
        return True
    return name not in current if wanted is None else _holds(current.get(name), wanted)


_ABSENT = object()


def _holds_step(current: Any, step: Mapping[str, Any]) -> bool:
    if step.get("op") not in ("add", "replace", "remove"):
        return step.get("op") == "test"
    found = _at(current, _parts(str(step.get("path", ""))))
    if step["op"] == "remove":
        return found is _ABSENT
    return bool(found == step.get("value"))


def _parts(pointer: str) -> list[str]:
    return [p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:]]


def _at(current: Any, parts: list[str]) -> Any:
    for part in parts:
        if isinstance(current, Mapping) and part in current:
            current = current[part]
        elif isinstance(current, list) and (part == "-" or part.isdigit()):
            index = len(current) - 1 if part == "-" else int(part)
            if not 0 <= index < len(current):
                return _ABSENT
            current = current[index]
        else:
            return _ABSENT
    return current
