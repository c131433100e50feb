"""Which live resources an application may access: show, read, change or delete.

The project must permit the kind and the destination, and no other application may own the resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hub.engine.project_restrictions import permits_destination, permits_kind
from hub.engine.resource import ResourceKey


@dataclass(slots=True)
class Limits:
    """The restrictions of a project in one cluster.

    Decisions are cached per kind and namespace, since thousands of resources share a few of them.
    """

    project: str
    spec: Mapping[str, Any]
    server: str
    cluster: str
    scopes: Mapping[tuple[str, str], bool]
    """Whether a (group, kind) is namespaced; for unknown kinds the resource's key decides."""
    closed: str = ""
    """Why access is refused entirely: the project does not permit the application's destination."""
    _names_resources: bool = field(init=False, repr=False)
    _kinds: dict[tuple[str, str, str, bool], bool] = field(default_factory=dict, repr=False)
    _namespaces: dict[str, bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check whether lists name single resources, so that the cache must include names."""
        entries = [entry for name in _KIND_LISTS for entry in self.spec.get(name) or ()]
        self._names_resources = any(entry.get("name") for entry in entries)

    def refusal(self, key: ResourceKey) -> str:
        """Return why the project does not permit a live resource, empty if it does.

        The message does not reveal whether the resource exists.
        """
        if self.closed:
            return self.closed
        namespaced = self.scopes.get((key.group, key.kind), bool(key.namespace))
        if not self._permits_kind(key, namespaced=namespaced):
            return f"resource {key.group}:{key.kind} is not permitted in project '{self.project}'"
        if namespaced and not self._permits_namespace(key.namespace):
            return f"namespace {key.namespace} is not permitted in project '{self.project}'"
        return ""

    def _permits_kind(self, key: ResourceKey, *, namespaced: bool) -> bool:
        asked = (key.group, key.kind, key.name if self._names_resources else "", namespaced)
        if asked not in self._kinds:
            self._kinds[asked] = permits_kind(
                self.spec, key.group, key.kind, key.name, namespaced=namespaced
            )
        return self._kinds[asked]

    def _permits_namespace(self, namespace: str) -> bool:
        if namespace not in self._namespaces:
            self._namespaces[namespace] = permits_destination(
                self.spec, self.server, self.cluster, namespace
            )
        return self._namespaces[namespace]


_KIND_LISTS = (
    "clusterResourceWhitelist",
    "clusterResourceBlacklist",
    "namespaceResourceWhitelist",
    "namespaceResourceBlacklist",
)


class Mark(NamedTuple):
    """The tracking information of a live resource."""

    uid: str
    owner_uid: str
    """The uid of its owner, from ownerReferences."""
    instance: str
    """The application instance in its tracking mark."""
    is_self: bool
    """Whether the mark was made for this resource, not copied from another."""


def owning_instance(mark: Mark, instance: str, known: Mapping[str, Mark]) -> str:
    """Return the application instance that owns a resource, empty if none does.

    A resource's own mark decides, otherwise that of its owner, and so on. A copied mark grants
    nothing, but a copy of another application's mark excludes this application.

    Shapes: `instance` is the requesting application; `known` are the known owners by uid.
    """
    seen: set[str] = set()
    copied = ""
    current: Mark | None = mark
    while current is not None:
        if current.instance and current.is_self:
            return current.instance
        if current.instance != instance:
            copied = copied or current.instance
        seen.add(current.uid)
        current = None if current.owner_uid in seen else known.get(current.owner_uid)
    return copied


def is_child(parent: ResourceKey, child: ResourceKey) -> bool:
    """Return whether Kubernetes honours an ownerReference between two resources.

    A namespaced owner can only own resources in its own namespace.
    """
    return not parent.namespace or parent.namespace == child.namespace
