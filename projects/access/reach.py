"""The access decision about live resources: which of them an application may reach.

Everything that reads, changes or deletes live resources of a destination uses it: the comparison,
the tree, live manifests, patches, actions, events, logs, prune, hooks and the deletion cascade.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusters import live
from clusters.models import Cluster, LiveQuerySet, LiveResource
from hub.engine.plan import defined_kind
from hub.engine.project_restrictions import permits_destination
from hub.engine.resource import Manifest, ResourceKey, split_api_version
from hub.engine.resource_access import Limits, Mark, is_child, owning_instance
from hub.engine.tree import Node
from projects.models import Application
from projects.objects.specs import cluster_problem, project_of

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Place:
    """A destination, and the kinds that its cluster serves."""

    cluster: Cluster
    namespace: str
    scopes: Mapping[tuple[str, str], bool]
    """(group, kind) → whether it is namespaced."""
    coming: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """The same for kinds whose definitions the application brings."""

    def knowing(self, manifests: Iterable[Manifest]) -> "Place":
        """Return the destination as it is after the definitions among the manifests are applied."""
        coming = {
            kind: m["spec"].get("scope") != "Cluster"
            for m in manifests
            if (kind := defined_kind(m))
        }
        return replace(self, coming=coming)

    def is_namespaced(self, group: str, kind: str) -> bool:
        """Return whether a kind is namespaced; unknown kinds are assumed to be."""
        if (group, kind) in live.OUR_KINDS:
            return True
        return self.scopes.get((group, kind), self.coming.get((group, kind), True))

    def is_served(self, group: str, kind: str) -> bool:
        """Return whether the cluster serves a kind."""
        return (group, kind) in self.scopes or (
            self.cluster.is_home and (group, kind) in live.OUR_KINDS
        )


def place_of(application: Application, cluster: Cluster) -> Place:
    """Return the destination of an application."""
    return Place(cluster, application.dest_namespace, _scopes(cluster))


def _scopes(cluster: Cluster) -> dict[tuple[str, str], bool]:
    return {(g, k): bool(namespaced) for g, _v, k, _plural, namespaced in cluster.api_kinds}


def limits_of(spec: Mapping[str, object], project: str, cluster: Cluster) -> Limits:
    """Return what a project permits in a cluster."""
    scopes = {**_scopes(cluster), **dict.fromkeys(live.OUR_KINDS, True)}
    return Limits(project, spec, cluster.server, cluster.name, scopes)


@dataclass(frozen=True, slots=True)
class Reached:
    """The live resources of an application and their descendants."""

    nodes: list[Node]
    held: Mapping[ResourceKey, str]
    """The resources in Git that another application manages, with its instance."""

    def find(self, key: ResourceKey) -> Node | None:
        """Return the resource of a key."""
        return next((node for node in self.nodes if node.key == key), None)


@dataclass(frozen=True, slots=True)
class Reach:
    """The resources that one application may reach in its destination."""

    application: Application
    cluster: Cluster
    limits: Limits

    def refusal(self, key: ResourceKey) -> str:
        """Return why the project does not permit a live resource, empty if it does."""
        return self.limits.refusal(key)

    def holders(self, nodes: Sequence[Node]) -> dict[str, str]:
        """Return the application instance that manages each resource, by uid; empty for none.

        Owners outside of `nodes` are loaded with one query per generation.
        """
        instance = self.application.instance
        known = {node.uid: _mark(node) for node in nodes}
        level: Sequence[Node] = nodes
        while level:
            level = self._owners(level, known)
            known |= {node.uid: _mark(node) for node in level}
        return {node.uid: owning_instance(known[node.uid], instance, known) for node in nodes}

    def _owners(self, nodes: Sequence[Node], known: Mapping[str, Mark]) -> list[Node]:
        wanted = {
            node.owner_uid: _owner_keys(node)
            for node in nodes
            if node.owner_uid and node.owner_uid not in known and not _decides(known[node.uid])
        }
        keys = sorted({key.text for found in wanted.values() for key in found})
        return [
            owner
            for chunk in _chunks(keys)
            for owner in self._query().filter(key__in=chunk).nodes()
            if owner.uid in wanted
        ]

    def others(self, manifest: Manifest) -> str:
        """Return which other application manages a resource, empty if none does."""
        seen = live.Seen(manifest, is_whole=False)
        row = live.row_of(self.cluster.pk, seen, live.tracking())
        found = self.holders([row.node()])[row.uid]
        return "" if found == self.application.instance else found

    def load(self) -> Reached:
        """Return the live resources that the application may reach.

        A resource is reached if it has the application's tracking mark, if Git names it and no
        other application manages it, or if a reached resource owns it. Each must be permitted by
        the project.
        """
        own = self._query().filter(instance=self.application.instance, is_self=True, owner_uid="")
        found = {node.uid: node for node in own.nodes() if not self.refusal(node.key)}
        wanted, held = self._wanted(found)
        found |= wanted
        level = list(found.values())
        while level:
            level = self._children(level, found)
            found |= {node.uid: node for node in level}
        return Reached(list(found.values()), held)

    def _wanted(self, found: Mapping[str, Node]) -> tuple[dict[str, Node], dict[ResourceKey, str]]:
        keys = self.application.managed.filter(cluster=self.cluster).values_list("key", flat=True)
        nodes = [
            node
            for chunk in _chunks(list(keys))
            for node in self._query().filter(key__in=chunk).nodes()
            if node.uid not in found and not self.refusal(node.key)
        ]
        holders = self.holders(nodes)
        free = ("", self.application.instance)
        reached = {node.uid: node for node in nodes if holders[node.uid] in free}
        return reached, {n.key: holders[n.uid] for n in nodes if n.uid not in reached}

    def _children(self, parents: Sequence[Node], found: Mapping[str, Node]) -> list[Node]:
        by_uid = {node.uid: node for node in parents}
        return [
            node
            for chunk in _chunks(list(by_uid))
            for node in self._query().filter(owner_uid__in=chunk).nodes()
            if node.uid not in found and self._is_reached(by_uid[node.owner_uid], node)
        ]

    def _is_reached(self, parent: Node, child: Node) -> bool:
        mark = _mark(child)
        if mark.is_self and mark.instance != self.application.instance:
            return False
        return is_child(parent.key, child.key) and not self.refusal(child.key)

    def _query(self) -> LiveQuerySet:
        return LiveResource.objects.filter(cluster=self.cluster)


def _mark(node: Node) -> Mark:
    if node.owner_uid and live.tracking().method == "label":
        # Pods copy the labels of their template, so a label does not say who manages them.
        return Mark(node.uid, node.owner_uid, "", is_self=False)
    return Mark(node.uid, node.owner_uid, node.instance, node.is_self)


def _decides(mark: Mark) -> bool:
    return bool(mark.instance) and mark.is_self


def _owner_keys(node: Node) -> list[ResourceKey]:
    """Return the possible keys of a resource's owner: in the same namespace, or cluster-scoped."""
    return [
        ResourceKey(
            split_api_version(str(owner.get("apiVersion") or ""))[0],
            str(owner.get("kind")),
            namespace,
            str(owner.get("name")),
        )
        for owner in node.owners
        if owner.get("uid") == node.owner_uid
        for namespace in dict.fromkeys((node.key.namespace, ""))
    ]


def _chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def reach_of(
    application: Application, cluster: Cluster, spec: Mapping[str, object] | None = None
) -> Reach:
    """Return what an application may reach in its destination.

    Shapes: `spec` is the project's, if it is already loaded.
    Raises: Stalled if the project does not exist.
    """
    name = application.project
    rules = project_of(name).spec if spec is None else spec
    limits = limits_of(rules, name, cluster)
    limits.closed = cluster_problem(rules, name, cluster)
    if not permits_destination(rules, cluster.server, cluster.name, application.dest_namespace):
        limits.closed = (
            f"namespace {application.dest_namespace} of cluster {cluster.name} is not permitted "
            f"in project '{name}'"
        )
    return Reach(application, cluster, limits)
