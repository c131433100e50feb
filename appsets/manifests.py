"""Application sets as Kubernetes manifests, as the API returns them."""

from collections.abc import Sequence
from typing import Any

from appsets.models import ApplicationSet, SetEvent
from hub.engine.resource import Manifest
from projects.models import Application
from projects.objects.manifests import API_VERSION, filled, mirror, stamp

SHOWN = 5000


def children_of(row: ApplicationSet) -> Sequence[Application]:
    """Return the applications of a set without their large columns."""
    return list(
        Application.objects.filter(namespace=row.namespace, owner=row.name)
        .only(
            "namespace",
            "name",
            "uid",
            "project",
            "sync_status",
            "health_status",
            "created_at",
            "finalizers",
        )
        .order_by("name")
    )


def set_json(row: ApplicationSet, children: Sequence[Application] | None = None) -> Manifest:
    """Return a set in Argo CD's shape; its applications are loaded unless given."""
    found = children_of(row) if children is None else children
    return {
        "apiVersion": API_VERSION,
        "kind": "ApplicationSet",
        "metadata": filled(
            {
                "name": row.name,
                "namespace": row.namespace,
                "uid": str(row.uid),
                "resourceVersion": str(row.resource_version),
                "generation": row.generation,
                "creationTimestamp": stamp(row.created_at),
                "labels": row.labels,
                "annotations": row.annotations,
                "finalizers": row.finalizers,
                "deletionTimestamp": stamp(row.deletion_requested_at),
            }
        ),
        "spec": row.spec,
        "status": filled(
            {
                "conditions": row.conditions,
                "health": _health(row.conditions),
                "resources": [_child(c) for c in found[:SHOWN]],
                "resourcesCount": len(found) or None,
                "applicationStatus": _visible_status(row, found),
                "flotilla": filled(
                    {
                        "deletionsWaiting": _visible_waits(row, found),
                        "reconciledAt": stamp(row.reconciled_at),
                        "rollout": _rollout(row),
                    }
                ),
            }
        ),
    }


def _visible_status(row: ApplicationSet, children: Sequence[Application]) -> list[dict[str, Any]]:
    names = {c.name for c in children}
    return [e for e in row.application_status if e["application"] in names]


def _visible_waits(row: ApplicationSet, children: Sequence[Application]) -> list[str]:
    names = {c.name for c in children}
    return [name for name in row.awaits if name in names]


def _rollout(row: ApplicationSet) -> dict[str, Any]:
    """Return the progress of a rollout."""
    state, requested = row.rollout_state, row.rollout
    return filled(
        {
            "step": state.get("step"),
            "waitsFor": state.get("waits"),
            "halted": state.get("halted") or None,
            "paused": requested.get("paused"),
            "pausedBy": requested.get("pausedBy"),
            "aborted": len(requested.get("aborted") or {}) or None,
        }
    )


def _child(child: Application) -> dict[str, Any]:
    return {
        "group": "argoproj.io",
        "version": "v1alpha1",
        "kind": "Application",
        "namespace": child.namespace,
        "name": child.name,
        "status": child.sync_status,
        "health": {"status": child.health_status},
    }


def mirror_set(row: ApplicationSet, *, gone: bool = False) -> None:
    """Store a set as a live resource of the hub's own cluster, if an application manages it."""
    mirror(set_json(row, []), gone=gone)


def tree_json(row: ApplicationSet, children: Sequence[Application]) -> Manifest:
    """Return the applications of a set as the nodes of a resource tree."""
    parent = {
        "group": "argoproj.io",
        "version": "v1alpha1",
        "kind": "ApplicationSet",
        "namespace": row.namespace,
        "name": row.name,
        "uid": str(row.uid),
    }
    return {
        "nodes": [
            {
                **_child(c),
                "uid": str(c.uid),
                "createdAt": stamp(c.created_at),
                "parentRefs": [parent],
            }
            for c in children
        ]
    }


def _health(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    is_true = {c["type"]: c for c in conditions if c["status"] == "True"}
    if error := is_true.get("ErrorOccurred"):
        return {"status": "Degraded", "message": error["message"]}
    if rolling := is_true.get("RolloutProgressing"):
        return {"status": "Progressing", "message": rolling["message"]}
    return {"status": "Healthy" if "ResourcesUpToDate" in is_true else "Unknown"}


def event_json(row: ApplicationSet, event: SetEvent) -> Manifest:
    """Return an event of a set as a Kubernetes event."""
    at = stamp(event.at)
    return {
        "metadata": {
            "name": f"{row.name}.{event.pk:x}",
            "namespace": row.namespace,
            "creationTimestamp": at,
        },
        "involvedObject": {
            "kind": "ApplicationSet",
            "namespace": row.namespace,
            "name": row.name,
            "uid": str(row.uid),
            "apiVersion": API_VERSION,
        },
        "reason": event.reason,
        "message": event.message,
        "type": event.kind,
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
    }
