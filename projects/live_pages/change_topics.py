"""Topics of live updates: the keys by which pages subscribe to changes.

A page subscribes to keys, and receives a change if it has one of them and its reader may see the
object.

- `clusters` and `clusters:12`: all of a kind, or one object by row id; likewise `projects`,
`repositories` and `sets`
- `applications`, `on:ROW` (of a cluster), `in:PROJECT`, `children` and `children:NAMESPACE/SET`
(of application sets)
- `notices`: received by every page
- `access`: published when policies, roles, grants or accounts change
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db.models import Model, Q

from clusters.models import Cluster
from hub.engine.cluster_scopes import Where
from hub.engine.errors import Stalled
from hub.engine.parsing import parse_digits
from hub.models import NOTICES, Setting, Tombstone
from projects.models import Application, Project, Repository
from projects.objects.specs import find_cluster


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change or deletion of an object."""

    pk: int
    version: int
    rbac_object: str
    where: Where | None = None
    resource: str = "applications"
    """The RBAC resource, empty if every signed-in user may see the change."""
    keys: frozenset[str] = frozenset()
    drawn: dict[str, str] = field(default_factory=dict)
    """The rendered row of an application, for each view that shows it."""
    gone: bool = False


class Topic(NamedTuple):
    """A kind of object that pages subscribe to."""

    model: type[Model]
    resource: str
    kind: str
    """Its kind in tombstones."""
    place: Callable[[Any], tuple[str, Where | None]]
    """Return the RBAC name of an object, and the cluster that it concerns."""
    revive: Callable[[Tombstone], Any]
    """Return a deleted object with the fields that RBAC needs."""


TOPICS: dict[str, Topic] = {
    "clusters": Topic(
        Cluster,
        "clusters",
        "Cluster",
        lambda c: (c.rbac_object, c.where),
        lambda s: Cluster(
            server=s.name,
            name=s.manifest.get("name", ""),
            labels=s.manifest.get("labels") or {},
            project=s.project,
        ),
    ),
    "projects": Topic(
        Project, "projects", "AppProject", lambda p: (p.name, None), lambda s: Project(name=s.name)
    ),
    "repositories": Topic(
        Repository,
        "repositories",
        "Repository",
        lambda r: (r.rbac_object, None),
        lambda s: Repository(url=s.name, project=s.project),
    ),
}


def changes_of(name: str, after: int, through: int) -> Iterable[Change]:
    """Return the changes of a topic between two versions."""
    topic = TOPICS[name]

    def change(row: Any, pk: int, version: int, *, gone: bool = False) -> Change:
        keys = frozenset({name, f"{name}:{pk}"})
        return Change(pk, version, *topic.place(row), topic.resource, keys, gone=gone)

    rows: Any = topic.model._default_manager
    for row in rows.filter(resource_version__gt=after, resource_version__lte=through):
        yield change(row, row.pk, row.resource_version)
    for stone in tombstones(topic.kind, after, through):
        yield change(topic.revive(stone), stone.row or 0, stone.resource_version, gone=True)


def notices_since(after: int, through: int) -> list[Change]:
    """Return the change of the notices between two versions, if any."""
    found = Setting.objects.filter(
        name=NOTICES, resource_version__gt=after, resource_version__lte=through
    )
    versions = found.values_list("resource_version", flat=True)
    return [Change(0, v, NOTICES, resource="", keys=frozenset({NOTICES})) for v in versions]


def tombstones(kind: str, after: int, through: int) -> Iterable[Tombstone]:
    """Return the deletions of a kind between two versions."""
    return Tombstone.objects.filter(
        kind=kind, resource_version__gt=after, resource_version__lte=through
    )


def deleted_applications(stones: Iterable[Tombstone]) -> list[Change]:
    """Return the deletions of applications as changes; each cluster is loaded once."""
    places: dict[str, Where | None] = {}
    return [_deleted_application(stone, places) for stone in stones]


def _deleted_application(stone: Tombstone, places: dict[str, Where | None]) -> Change:
    place = Application(namespace=stone.namespace, name=stone.name, project=stone.project)
    owners = stone.manifest.get("metadata", {}).get("ownerReferences") or [{}]
    place.owner = owners[0].get("name", "")
    return Change(
        stone.row or 0,
        stone.resource_version,
        place.rbac_object,
        _where(stone.manifest, places),
        keys=keys_of(place),
        gone=True,
    )


def _where(manifest: dict[str, Any], places: dict[str, Where | None]) -> Where | None:
    spec = manifest.get("spec", {})
    destination = spec.get("destination") or {}
    key = repr((spec.get("project"), destination.get("server"), destination.get("name")))
    if key not in places:
        try:
            places[key] = find_cluster(spec).where
        except Stalled:
            places[key] = None
    return places[key]


def keys_of(application: Application) -> frozenset[str]:
    """Return the keys under which changes of an application are published."""
    keys = {"applications", f"in:{application.project}"}
    if application.cluster_id:
        keys.add(f"on:{application.cluster_id}")
    if application.owner:
        keys |= {"children", f"children:{application.namespace}/{application.owner}"}
    return frozenset(keys)


def applications_by(keys: Iterable[str]) -> Q:
    """Return a condition that matches the applications with any of the keys."""
    found = Q(pk__in=[])
    for key in keys:
        name, _, what = key.partition(":")
        if key == "applications":
            found |= ~Q(pk=None)
        elif name == "in":
            found |= Q(project=what)
        elif name == "on" and (cluster := parse_digits(what)) is not None:
            found |= Q(cluster_id=cluster)
        elif key == "children":
            found |= Q(owner__gt="")
        elif name == "children":
            namespace, _, owner = what.partition("/")
            found |= Q(namespace=namespace, owner=owner)
    return found
