"""Why an application is not healthy or not synced: the first cause, and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projects.pages.resource_tree import key_of, worst_below


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause in one sentence, its origin, and the next step."""

    lead: str
    text: str
    tone: str = "bad"
    key: str = ""
    """The resource, as group/kind/namespace/name."""
    advice: str = ""
    may_have_events: bool = False
    """Whether the cluster's events may have more details."""

    @property
    def tab(self) -> str:
        """The tab of the resource panel to open first."""
        return {"bad": "events", "drift": "diff"}.get(self.tone, "summary")


_ADVICE = {
    "ComparisonError": "Live resources are unchanged. Fix the source, or refresh when it answers.",
    "InvalidSpecError": "Edit the application, or request that the project permit it.",
    "SyncError": (
        "Automated sync waits until the commit or the spec changes; a manual sync retries now."
    ),
    "DeletionError": "Fix what blocks the deletion, or remove its finalizer.",
}


def explain(
    application: Mapping[str, Any],
    operation: Mapping[str, Any] | None,
    nodes: Sequence[Mapping[str, Any]] = (),
) -> Cause | None:
    """Return the first cause of a problem, None if all is well.

    Shapes: `application` has health, sync, health_message, conditions and resources as in its
        status; `operation` has phase, message and steps; `nodes` are those of Argo CD's resource
        tree.
    """
    return (
        _error(application)
        or _failed_sync(operation)
        or _degraded(application["resources"], nodes)
        or _missing(application["resources"])
        or (_drift(application["resources"]) if application["sync"] == "OutOfSync" else None)
        or _waiting(application, nodes)
    )


def _error(application: Mapping[str, Any]) -> Cause | None:
    errors = (c for c in application["conditions"] if str(c["type"]).endswith("Error"))
    found = next(errors, None)
    if found is None:
        return None
    kind = found["type"]
    return Cause(_words(kind), found["message"], advice=_ADVICE.get(kind, ""))


def _failed_sync(operation: Mapping[str, Any] | None) -> Cause | None:
    if operation is None or operation["phase"] not in ("Failed", "Error"):
        return None
    failed = next((s for s in operation["steps"] if s.get("status") == "failed"), None) or {}
    return Cause(
        "The last sync failed",
        str(failed.get("message") or operation["message"]),
        key=_key(failed),
        advice="Applied resources are kept. Fix the cause in Git, or sync again.",
    )


def _degraded(
    resources: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]
) -> Cause | None:
    found = _first(resources, "Degraded")
    if found is None:
        return None
    return Cause(
        f"{found['kind']} {found['name']} is Degraded",
        f"{_message(found, 'the cluster gives no reason')}.{_below(nodes, _key(found))}",
        key=_key(found),
        advice="See its events and logs, or roll back.",
        may_have_events=True,
    )


def _missing(resources: Sequence[Mapping[str, Any]]) -> Cause | None:
    missing = [r for r in resources if (r.get("health") or {}).get("status") == "Missing"]
    if not missing:
        return None
    is_new = len(missing) == len(resources)
    return Cause(
        "Not in the cluster yet" if is_new else "Missing in the cluster",
        f"{_names(missing)}.",
        "drift",
        _key(missing[0]),
        "A sync creates what is missing.",
    )


def _waiting(application: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> Cause | None:
    """Return what is still in progress, or suspended."""
    progressing = _first(application["resources"], "Progressing")
    if progressing is not None:
        message = _message(progressing, "the cluster is working on it")
        return Cause(
            f"{progressing['kind']} {progressing['name']} is progressing",
            f"{message}.{_below(nodes, _key(progressing))}",
            "busy",
            _key(progressing),
            may_have_events=True,
        )
    suspended = _first(application["resources"], "Suspended")
    if suspended is not None:
        return Cause(
            f"{suspended['kind']} {suspended['name']} is suspended",
            f"{_message(suspended, 'it was suspended')}.",
            "held",
            _key(suspended),
            "Resume it in its actions.",
        )
    if application["sync"] == "Unknown" or application["health"] == "Unknown":
        return Cause(
            "Not compared yet",
            "The hub has not finished the first refresh.",
            "busy",
            advice="It starts automatically; Refresh starts it now.",
        )
    return None


def _message(resource: Mapping[str, Any], otherwise: str) -> str:
    return str((resource.get("health") or {}).get("message") or otherwise).rstrip(".")


def _names(resources: Sequence[Mapping[str, Any]]) -> str:
    more = f" and {len(resources) - 3} more" if len(resources) > 3 else ""
    return ", ".join(f"{r['kind']} {r['name']}" for r in resources[:3]) + more


def _below(nodes: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return the message of the deepest failing resource below one, as a sentence."""
    found = worst_below(nodes, key)
    if found is None or key_of(found) == key:
        return ""
    reason = next(
        (str(i["value"]) for i in found.get("info") or [] if i.get("name") == "Status Reason"), ""
    )
    said = str((found.get("health") or {}).get("message") or reason)
    return f" {found['kind']} {found['name']}: {said}." if said else ""


def _drift(resources: Sequence[Mapping[str, Any]]) -> Cause:
    different = [r for r in resources if r.get("status") == "OutOfSync"]
    pruned = [r for r in different if r.get("requiresPruning")]
    pruning = f" {len(pruned)} are no longer in Git and need Prune." if pruned else ""
    return Cause(
        "The cluster differs from Git",
        f"{_names(different) or 'The application'} differs.",
        "drift",
        _key(different[0]) if different else "",
        f"Its diff shows what a sync would change.{pruning}",
    )


def _first(resources: Sequence[Mapping[str, Any]], word: str) -> Mapping[str, Any] | None:
    return next((r for r in resources if (r.get("health") or {}).get("status") == word), None)


def _key(resource: Mapping[str, Any]) -> str:
    key = resource.get("key")
    if isinstance(key, list):
        return "/".join(map(str, key))
    if not resource.get("kind"):
        return ""
    return "/".join(str(resource.get(f) or "") for f in ("group", "kind", "namespace", "name"))


def _words(kind: str) -> str:
    return {
        "ComparisonError": "Its source cannot be compared with the cluster",
        "InvalidSpecError": "Its spec is invalid",
        "SyncError": "Automated sync is stopped",
        "DeletionError": "It cannot be deleted",
    }.get(kind, "The hub could not refresh it")
