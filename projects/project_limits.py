"""Who may give a project which limits."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from clusters.models import HOME_NAME, HOME_SERVER
from hub.access.decisions import Caller, require
from hub.engine.errors import Invalid
from hub.engine.project_restrictions import lists_kind, permits_destination, with_global_projects
from projects.models import Project
from projects.specs import check_project, global_projects, invalid_after

_KIND_LISTS = (
    "clusterResourceWhitelist",
    "clusterResourceBlacklist",
    "namespaceResourceWhitelist",
    "namespaceResourceBlacklist",
)


def is_governing(spec: Mapping[str, Any], name: str = "*") -> bool:
    """Return whether a project's applications may write projects: it lists the kind, and permits the hub's namespace.

    Such a project is an administrators' one: what it may write says what every project may.
    """
    home = permits_destination(spec, HOME_SERVER, HOME_NAME, settings.NAMESPACE)
    return home and lists_kind(spec, "argoproj.io", "AppProject", name)


def _writes_projects(spec: Mapping[str, Any]) -> bool:
    # An entry for one name gives a project as much as it needs: that name may be its own.
    unnamed = {
        f: [{k: v for k, v in entry.items() if k != "name"} for entry in spec.get(f) or []]
        for f in ("clusterResourceWhitelist", "namespaceResourceWhitelist")
    }
    return is_governing({"destinations": spec.get("destinations"), **unnamed})


def require_change(
    caller: Caller, project: Project, spec: Any, labels: Mapping[str, str] | None = None
) -> None:
    """Return if the caller may widen a project: to clusters, repositories and kinds that it governs itself.

    Who may only edit a project must not give it more than they have. `project` is not stored when it is new;
    `labels` are those that it gets, None when they stay.
    """
    if not isinstance(spec, dict):
        raise Invalid("spec must be an object")
    is_new = project.pk is None
    if not is_new:
        require(caller, "projects", "update", project.name, project.name)
    spec = check_project(spec, project.name)
    labels = project.labels if labels is None else labels
    if not is_new:
        _require_wider(caller, project.spec, spec)
        _require_globals(
            caller, project, Project(name=project.name, spec=spec, labels=dict(labels))
        )
    _require_governing(caller, project, spec, labels)
    if not is_new:
        invalid_after(project, spec)


_WIDER = (*_KIND_LISTS, "destinationServiceAccounts")


def _require_wider(caller: Caller, before: dict[str, Any], spec: dict[str, Any]) -> None:
    old, new = _places(before), _places(spec)
    for key in new.keys() - old.keys():
        _require_clusters(caller, new[key])
    for url in spec.get("sourceRepos") or []:
        if url not in (before.get("sourceRepos") or []):
            require(caller, "repositories", "update", url)
    for url in before.get("sourceRepos") or []:
        # A taken-away exclusion widens as much as a new entry.
        if url.startswith("!") and url not in (spec.get("sourceRepos") or []):
            require(caller, "repositories", "update", url[1:])
    if set(spec.get("sourceNamespaces") or []) - set(before.get("sourceNamespaces") or []):
        # What lives in a namespace of the hub may use that namespace's secrets.
        require(caller, "clusters", "update", HOME_SERVER)
    scoped = "permitOnlyProjectScopedClusters"
    widened = any(before.get(f) != spec.get(f) for f in _WIDER) or (
        bool(before.get(scoped)) and not spec.get(scoped)
    )
    lost = [d for k, d in old.items() if k not in new and any(v.startswith("!") for v in k)]
    for entry in [*(new.values() if widened else []), *lost]:
        _require_clusters(caller, entry)


def _require_globals(caller: Caller, project: Project, then: Project) -> None:
    """Return if the caller may have other global projects hold for a project: its labels choose them."""
    before, after = ({p.name for p in global_projects(one)} for one in (project, then))
    for name in sorted(before ^ after):
        require(caller, "projects", "update", name, project.name)


def _places(spec: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Return the destinations of a project by all that they say: each of server and name permits by itself."""
    return {
        (str(d.get("server") or ""), str(d.get("name") or ""), str(d.get("namespace") or "")): d
        for d in spec.get("destinations") or []
    }


def _require_clusters(caller: Caller, entry: Mapping[str, Any]) -> None:
    """Return if a caller may update what an entry of destinations names, by server and by name."""
    named = [str(entry[f]) for f in ("server", "name") if entry.get(f)] or [""]
    for cluster in named:
        require(caller, "clusters", "update", cluster.removeprefix("!"))


def _require_governing(
    caller: Caller, project: Project, spec: dict[str, Any], labels: Mapping[str, str]
) -> None:
    """Return if the caller may let a project's applications write to the hub what they could not before."""
    then = Project(name=project.name, spec=spec, labels=dict(labels))
    if _writes_projects(_effective(then)) and not _writes_projects(_effective(project)):
        require(caller, "clusters", "update", HOME_SERVER, project.name)
    for pattern in _child_projects(spec) - _child_projects(project.spec):
        require(caller, "projects", "update", pattern, project.name)


def _effective(project: Project) -> dict[str, Any]:
    return with_global_projects(project.spec, [p.spec for p in global_projects(project)])


def _child_projects(spec: Mapping[str, Any]) -> set[str]:
    return set((spec.get("flotilla") or {}).get("childProjects") or [])
