"""Access rules for the hub's own kinds when they are applied from Git.

An application whose destination is the hub applies applications, sets and projects to it. Its
project limits what it may write, as for any other kind; anything beyond that project needs an
administrator.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q

from clusters import live
from clusters.models import HOME_NAME, HOME_SERVER, LiveResource
from hub.access.decisions import Caller, is_allowed, require, where_of
from hub.audit import trail
from hub.base.query_conditions import PairOf
from hub.engine.cluster_scopes import Where
from hub.engine.errors import AccessDenied, Stalled
from hub.engine.globs import matches
from hub.engine.project_restrictions import lists_kind, permits_destination, permits_kind
from hub.engine.resource import Manifest
from hub.engine.tracking import owner_of
from projects.access.project_limits import is_governing, require_change
from projects.models import Application, Project
from projects.objects.specs import find_cluster, is_namespace_permitted

GROUP = "argoproj.io"
API_VERSION = f"{GROUP}/v1alpha1"
_RESOURCES = {"Application": "applications", "ApplicationSet": "applicationsets"}


class Name(NamedTuple):
    """The identity of one of the hub's own resources."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def in_project(self, project: str) -> str:
        """Return its name in RBAC rules, for a project."""
        if self.namespace == settings.NAMESPACE:
            return f"{project}/{self.name}"
        return f"{project}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a change of the hub's own kinds: an application and, maybe, a person."""

    application: Application
    project: Project
    """The application's project, including the rules of global projects."""
    caller: Caller | None = None
    """None for an automated sync: then only the project's rules apply."""

    def may(self, name: Name, action: str, project: str, where: Where | None) -> bool:
        """Return whether the caller may perform an action on a resource."""
        named = name.in_project(project)
        return is_allowed(self.caller, _RESOURCES[name.kind], action, named, where)


def refusal(author: Author, name: Name, wanted: Manifest | None, current: Manifest | None) -> str:
    """Return why one of the hub's own resources must not be written, empty if it may be.

    Shapes: `wanted` is None for a deletion, `current` for a resource that does not exist.
    """
    if wanted is not None and wanted.get("apiVersion") != API_VERSION:
        return f"the hub serves {API_VERSION}, not {wanted.get('apiVersion')}"
    outside = _outside(author, name)
    if outside:
        return outside
    if name.kind == "AppProject":
        return _project_refusal(author, name, wanted, current)
    reason = _exceeded_limit(author, name, wanted, current) or _taken(author, name, wanted, current)
    return reason or ("" if wanted is not None else _cascade_refusal(author, name))


def _outside(author: Author, name: Name) -> str:
    """Return the limit of the author's project that a resource exceeds, empty if none."""
    project = author.project
    if not permits_kind(project.spec, GROUP, name.kind, name.name, namespaced=True):
        return f"project '{project.name}' does not permit {GROUP}/{name.kind}"
    if not permits_destination(project.spec, HOME_SERVER, HOME_NAME, name.namespace):
        return (
            f"project '{project.name}' does not permit the destination {HOME_NAME}/{name.namespace}"
        )
    return ""


def _project_refusal(
    author: Author, name: Name, wanted: Manifest | None, current: Manifest | None
) -> str:
    home = settings.NAMESPACE
    if name.namespace != home:
        return f"the hub keeps AppProjects in its own namespace '{home}' only"
    if not lists_kind(author.project.spec, GROUP, "AppProject", name.name):
        return (
            f"project '{author.project.name}' does not list {GROUP}/AppProject among its kinds; "
            "an administrator may add it"
        )
    if author.caller is None:
        return ""
    try:
        _require_project(author.caller, name.name, wanted, exists=current is not None)
    except AccessDenied as error:
        return str(error)
    return ""


def _require_project(caller: Caller, name: str, wanted: Manifest | None, *, exists: bool) -> None:
    """Check a change of a project as the REST API does.

    Raises: AccessDenied.
    """
    if wanted is None:
        require(caller, "projects", "delete", name, name)
        return
    spec, labels = wanted.get("spec") or {}, (wanted.get("metadata") or {}).get("labels") or {}
    project = Project.objects.filter(name=name).first() if exists else None
    if project is None:
        require(caller, "projects", "create", name)
    require_change(caller, project or Project(name=name), spec, labels)


def _exceeded_limit(
    author: Author, name: Name, wanted: Manifest | None, current: Manifest | None
) -> str:
    """Return why a resource of another project than the author's must not be written."""
    own = author.project.name
    sides = [
        (current, "delete" if wanted is None else "update", where_of),
        (wanted, "create" if current is None else "update", None),
    ]
    for manifest, action, finder in sides:
        if manifest is None:
            continue
        project = project_in(manifest)
        where = finder("applications", name.in_project(project)) if finder else _where(manifest)
        if not _may_use(author, project) and not author.may(name, action, project, where):
            return (
                f"it belongs to project '{project}', and application {author.application.name} "
                f"to '{own}': have it synced by an account that may {action} it, or have an "
                "administrator list "
                f"'{project}' in spec.flotilla.childProjects of project '{own}'"
            )
    return _namespace_refusal(name, wanted) if wanted is not None else ""


def _may_use(author: Author, project: str) -> bool:
    spec = author.project.spec
    if project == author.project.name or is_governing(spec):
        return True
    listed = (spec.get("flotilla") or {}).get("childProjects") or []
    return any(matches(pattern, project) for pattern in listed)


def _namespace_refusal(name: Name, wanted: Manifest) -> str:
    project = Project.objects.filter(name=project_in(wanted)).first()
    draft = Application(namespace=name.namespace, name=name.name)
    if project is not None and is_namespace_permitted(draft, project):
        return ""
    if project is None and name.namespace == settings.NAMESPACE:
        # The same sync may create the project; if not, the application reports that it is missing.
        return ""
    return (
        f"project '{project_in(wanted)}' does not permit namespace '{name.namespace}' "
        "(spec.sourceNamespaces)"
    )


def _taken(author: Author, name: Name, wanted: Manifest | None, current: Manifest | None) -> str:
    """Return why an existing resource that the author does not manage must not be written."""
    if current is None or is_governing(author.project.spec):
        return ""
    if owner_of(current, live.tracking()).instance == author.application.instance:
        return ""
    project = project_in(current)
    where = where_of("applications", name.in_project(project))
    action = "delete" if wanted is None else "update"
    if author.may(name, action, project, where):
        return ""
    return (
        f"it exists and is not managed by application {author.application.name}: "
        f"have it synced once by an account that may {action} it"
    )


def project_in(manifest: Mapping[str, Any]) -> str:
    """Return the project that an Application or ApplicationSet belongs to."""
    spec = manifest.get("spec") or {}
    if manifest.get("kind") == "ApplicationSet":
        spec = (spec.get("template") or {}).get("spec") or {}
    return str(spec.get("project") or "default")


def _where(manifest: Manifest) -> Where | None:
    if manifest.get("kind") != "Application":
        return None
    try:
        return find_cluster(manifest.get("spec") or {}).where
    except Stalled:
        return None


def record_refusal(author: Author, action: str, name: Name, reason: str) -> None:
    """Record in the audit log that one of the hub's own resources was refused, and why."""
    who = author.caller.name if author.caller else author.application.qualified_name
    trail.record_refusal(
        who, action, name.kind.lower(), f"{name.namespace}/{name.name}", author.project.name, reason
    )


def require_cascade(caller: Caller, application: Application) -> None:
    """Check that a caller may delete all that the deletion of an application cascades to.

    The cascade includes the children of applications of applications and of sets.
    Raises: AccessDenied naming the first resource that the caller may not delete.
    """
    for one in _cascade([application]):
        _require_children(caller, one)


def _cascade_refusal(author: Author, name: Name) -> str:
    """Return why a sync must not delete a resource whose cascade has projects, empty if it may.

    Other children are up to the projects whose applications created them. A project is only
    deleted with the right of the person who started the sync, if a person did.
    """
    if author.caller is None:
        return ""
    column = "owner" if name.kind == "ApplicationSet" else "name"
    rows = Application.objects.filter(namespace=name.namespace, **{column: name.name})
    for one in _cascade([row for row in rows.select_related("cluster") if row.cascades]):
        for row in _children(one):
            if row.kind != "AppProject":
                continue
            if not is_allowed(author.caller, "projects", "delete", row.name):
                return (
                    f"its cascade deletes AppProject {row.name}: have it synced by an account "
                    "that may delete it"
                )
    return ""


def _cascade(level: list[Application]) -> Iterator[Application]:
    """Yield applications and, recursively, the cascading applications that they delete."""
    seen = set[int]()
    while level:
        seen |= {one.pk for one in level}
        yield from level
        level = [one for top in level for one in _cascading_children(top) if one.pk not in seen]


def _require_children(caller: Caller, application: Application) -> None:
    for row in _children(application):
        if row.kind == "AppProject":
            require(caller, "projects", "delete", row.name, row.name)
            continue
        project = project_in(row.manifest or {"kind": row.kind})
        if project != application.project:
            named = Name(row.kind, row.namespace, row.name).in_project(project)
            resource = _RESOURCES[row.kind]
            require(caller, resource, "delete", named, project, where_of(resource, named))


def _cascading_children(application: Application) -> list[Application]:
    """Return the applications that a cascade deletes and that cascade themselves."""
    pairs: dict[str, list[tuple[str, str]]] = {"Application": [], "ApplicationSet": []}
    for row in _children(application):
        pairs.get(row.kind, []).append((row.namespace, row.name))
    query = Q(PairOf("namespace", "name", pairs["Application"]))
    query |= Q(PairOf("namespace", "owner", pairs["ApplicationSet"]))
    rows = Application.objects.filter(query).select_related("cluster")
    return [one for one in rows if one.cascades]


def _children(application: Application) -> list[LiveResource]:
    cluster = application.cluster
    if cluster is None or not cluster.is_home:
        return []
    return list(
        LiveResource.objects.filter(
            cluster=cluster,
            instance=application.instance,
            is_self=True,
            group=GROUP,
            kind__in=["AppProject", *_RESOURCES],
        ).order_by("kind", "name")
    )
