"""The resource tree of an application."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.engine.resource import ResourceKey
from hub.engine.status import Assessment


@dataclass(frozen=True, slots=True)
class Node:
    """A live resource in the tree."""

    key: ResourceKey
    version: str
    uid: str
    resource_version: str = ""
    created_at: str = ""
    owners: tuple[Mapping[str, Any], ...] = ()
    health: Assessment | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    """`info`, `images` and `networkingInfo` from `node_info.describe`."""
    owner_uid: str = ""
    """The uid of the relevant owner: the controller, else the first."""
    instance: str = ""
    """The application instance in its tracking mark."""
    is_self: bool = False
    """Whether the mark was made for this resource, not copied from another."""


def node_json(node: Node, parents: Iterable[Node] = ()) -> dict[str, Any]:
    """Return a node in the shape of Argo CD's ResourceNode."""
    result: dict[str, Any] = {
        "group": node.key.group,
        "version": node.version,
        "kind": node.key.kind,
        "namespace": node.key.namespace,
        "name": node.key.name,
        "uid": node.uid,
        "resourceVersion": node.resource_version,
        "createdAt": node.created_at,
        **node.shown,
    }
    refs = [
        {
            "group": p.key.group,
            "kind": p.key.kind,
            "namespace": p.key.namespace,
            "name": p.key.name,
            "uid": p.uid,
        }
        for p in parents
    ]
    if refs:
        result["parentRefs"] = refs
    if node.health is not None:
        result["health"] = {"status": node.health.status}
        if node.health.message:
            result["health"]["message"] = node.health.message
    return {k: v for k, v in result.items() if v != "" or k in ("group", "kind", "name")}


def missing_json(key: ResourceKey, version: str) -> dict[str, Any]:
    """Return the node of a resource that is missing in the cluster."""
    return {**node_json(Node(key, version, uid="")), "health": {"status": "Missing"}}


def parents_of(
    node: Node, by_uid: Mapping[str, Node], by_name: Mapping[tuple[str, str, str], Node]
) -> list[Node]:
    """Return the known owners of a node, by uid, else by kind and name.

    They include owners from `hub.engine.inferred_owners`.
    """
    found = []
    for owner in node.owners:
        parent = by_uid.get(str(owner.get("uid") or ""))
        if parent is None and not owner.get("uid"):
            parent = by_name.get(
                (str(owner.get("kind")), node.key.namespace, str(owner.get("name")))
            )
        if parent is not None:
            found.append(parent)
    if not node.owners and node.key.kind == "Endpoints":
        service = by_name.get(("Service", node.key.namespace, node.key.name))
        found += [service] if service else []
    return found


_DEFAULT_ORPHANS = {
    ("", "ServiceAccount", "default"),
    ("", "ConfigMap", "kube-root-ca.crt"),
}


def is_usual(key: ResourceKey) -> bool:
    """Return whether every namespace has this resource, so that it is not orphaned."""
    return (key.group, key.kind, key.name) in _DEFAULT_ORPHANS or (
        key == ResourceKey("", "Service", "default", "kubernetes")
    )
