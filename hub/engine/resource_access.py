"""Which live resources an application may reach: show, read, change, delete. Values in, values out.

Three things must hold for each: the project permits its kind, the project permits its place, and it belongs to no
other application.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hub.engine.project_restrictions import permits_destination, permits_kind
from hub.engine.resource import ResourceKey


@dataclass(slots=True)
class Limits:
    """What a project permits in one cluster.

    Thousands of resources share a few kinds and namespaces: each is decided once in the life of this object.
    """

    project: str
    spec: Mapping[str, Any]
    server: str
    cluster: str
    scopes: Mapping[tuple[str, str], bool]
    """(group, kind) → whether it is namespaced; a kind that is not known is what its key looks like."""
    closed: str = ""
    """Why nothing at all may be reached: the project does not permit the application's own destination."""
    _names_resources: bool = field(init=False, repr=False)
    _kinds: dict[tuple[str, str, str, bool], bool] = field(default_factory=dict, repr=False)
    _namespaces: dict[str, bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Note whether lists name single resources: then the name is part of what is decided."""
        entries = [entry for name in _KIND_LISTS for entry in self.spec.get(name) or ()]
        self._names_resources = any(entry.get("name") for entry in entries)

    def refusal(self, key: ResourceKey) -> str:
        """Return why the project does not permit a live resource, empty when it does.

        It says nothing of whether the resource exists.
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
    """What a live resource says of whose it is."""

    uid: str
    owner_uid: str
    """The uid of the resource that made it, by its ownerReferences."""
    instance: str
    """The application instance that its tracking mark names."""
    is_self: bool
    """Whether the mark was made for this very resource, not copied from another."""


def owning_instance(mark: Mark, instance: str, known: Mapping[str, Mark]) -> str:
    """Return the application instance that a resource belongs to, empty when to none.

    A mark that was made for the resource decides; else what its owner says, and so on. A mark that was copied
    gives nobody anything, but a copy of another application's mark keeps others away.

    Shapes: `instance` is who asks; `known` are the owners by uid, as far as they are known.
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
    """Return whether an ownerReference from one place to another counts, as in Kubernetes.

    A namespaced owner owns in its own namespace only; a cluster-scoped one anywhere.
    """
    return not parent.namespace or parent.namespace == child.namespace
