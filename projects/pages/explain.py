"""Why an application is not healthy or not synced: the first cause, and what to do."""

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
    ask: bool = False
    """Whether the cluster's events may tell more."""

    @property
    def tab(self) -> str:
        """The tab of the resource panel to open first."""
        return {"bad": "events", "drift": "diff"}.get(self.tone, "summary")


_ADVICE = {
    "ComparisonError": "Live resources are unchanged. Fix the source, or refresh once it answers.",
    "InvalidSpecError": "Edit the application, or ask for the project to permit it.",
    "SyncError": (
        "Automated sync waits until the commit or the spec changes; a manual sync retries now."
    ),
    "DeletionError": "Mend what holds the deletion, or remove its finalizer.",
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
    for condition in application["conditions"]:
        if str(condition["type"]).endswith("Error"):
            return Cause(
                _words(condition["type"]),
                condition["message"],
                advice=_ADVICE.get(condition["type"], ""),
            )
    if operation is not None and operation["phase"] in ("Failed", "Error"):
        failed = next((s for s in operation["steps"] if s.get("status") == "failed"), None)
        text = str((failed or {}).get("message") or operation["message"])
        return Cause(
            "The last sync failed",
            text,
            key=_key(failed or {}),
            advice="What was applied before it stays. Mend the cause in Git, or sync again.",
        )
    broken = _first(application["resources"], "Degraded")
    if broken is not None:
        said = str(
            (broken.get("health") or {}).get("message") or "its cluster does not say why"
        ).rstrip(".")
        return Cause(
            f"{broken['kind']} {broken['name']} is Degraded",
            f"{said}.{_below(nodes, _key(broken))}",
            key=_key(broken),
            advice="Look at its events and logs, or roll back.",
            ask=True,
        )
    missing = [
        r for r in application["resources"] if (r.get("health") or {}).get("status") == "Missing"
    ]
    if missing:
        names = ", ".join(f"{r['kind']} {r['name']}" for r in missing[:3]) + (
            f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        )
        return Cause(
            "Not in the cluster yet"
            if len(missing) == len(application["resources"])
            else "Missing in the cluster",
            f"{names}.",
            "drift",
            _key(missing[0]),
            "A sync creates what is missing.",
        )
    if application["sync"] == "OutOfSync":
        return _drift(application["resources"])
    return _waiting(application, nodes)


def _waiting(application: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> Cause | None:
    """Return what is still in progress, or suspended."""
    coming = _first(application["resources"], "Progressing")
    if coming is not None:
        said = str((coming.get("health") or {}).get("message") or "its cluster is at work").rstrip(
            "."
        )
        return Cause(
            f"{coming['kind']} {coming['name']} comes up",
            f"{said}.{_below(nodes, _key(coming))}",
            "busy",
            _key(coming),
            ask=True,
        )
    held = _first(application["resources"], "Suspended")
    if held is not None:
        said = str((held.get("health") or {}).get("message") or "somebody suspended it").rstrip(".")
        return Cause(
            f"{held['kind']} {held['name']} is suspended",
            f"{said}.",
            "held",
            _key(held),
            "Resume it among its actions.",
        )
    if application["sync"] == "Unknown" or application["health"] == "Unknown":
        return Cause(
            "Not compared yet",
            "The hub has not finished its first look at Git and the cluster.",
            "busy",
            advice="It looks by itself; Refresh looks now.",
        )
    return None


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
    names = ", ".join(f"{r['kind']} {r['name']}" for r in different[:3]) + (
        f" and {len(different) - 3} more" if len(different) > 3 else ""
    )
    advice = "Its diff shows what a sync would change." + (
        f" {len(pruned)} are no longer in Git and go only with prune." if pruned else ""
    )
    return Cause(
        "The cluster is not as Git says",
        f"{names or 'The application'} differs.",
        "drift",
        _key(different[0]) if different else "",
        advice,
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
        "InvalidSpecError": "The application cannot work as it is written",
        "SyncError": "Automated sync does not go on",
        "DeletionError": "It cannot be deleted",
    }.get(kind, "The hub could not look at it")
