"""Decide who may extend the limits of a project, and how far."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from clusters.models import HOME_NAME, HOME_SERVER
from hub.access.decisions import Caller, require
from hub.engine.errors import Invalid
from hub.engine.project_restrictions import lists_kind, permits_destination, with_global_projects
from projects.models import Project
from projects.objects.specs import check_project, global_projects, invalid_after

_KIND_LISTS = (
    "clusterResourceWhitelist",
    "clusterResourceBlacklist",
    "namespaceResourceWhitelist",
    "namespaceResourceBlacklist",
)


def is_governing(spec: Mapping[str, Any], name: str = "*") -> bool:
    """Return whether a project's applications may write AppProjects to the hub's namespace.

    Such a project belongs to administrators, as it determines what every project may do.
    """
    home = permits_destination(spec, HOME_SERVER, HOME_NAME, settings.NAMESPACE)
    return home and lists_kind(spec, "argoproj.io", "AppProject", name)


def _writes_projects(spec: Mapping[str, Any]) -> bool:
    # An entry for a single name is enough: it could be the name of the project itself.
    unnamed = {
        f: [{k: v for k, v in entry.items() if k != "name"} for entry in spec.get(f) or []]
        for f in ("clusterResourceWhitelist", "namespaceResourceWhitelist")
    }
    return is_governing({"destinations": spec.get("destinations"), **unnamed})


def require_change(
    caller: Caller, project: Project, spec: Any, labels: Mapping[str, str] | None = None
) -> None:
    """Check that the caller may change the limits of a project.

    They may only add clusters and repositories that they may update themselves.

    A new `project` is not stored yet; `labels` are the new labels, None if they stay.
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
        then = Project(name=project.name, spec=spec, labels=dict(labels))
        _require_globals(caller, project, then)
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
        # Removing an exclusion extends the project as much as a new entry does.
        if url.startswith("!") and url not in (spec.get("sourceRepos") or []):
            require(caller, "repositories", "update", url[1:])
    if set(spec.get("sourceNamespaces") or []) - set(before.get("sourceNamespaces") or []):
        # Applications in a namespace of the hub may use the secrets of that namespace.
        require(caller, "clusters", "update", HOME_SERVER)
    scoped = "permitOnlyProjectScopedClusters"
    is_unscoped = bool(before.get(scoped)) and not spec.get(scoped)
    widened = is_unscoped or any(before.get(f) != spec.get(f) for f in _WIDER)
    lost = [d for k, d in old.items() if k not in new and any(v.startswith("!") for v in k)]
    for entry in [*(new.values() if widened else []), *lost]:
        _require_clusters(caller, entry)


def _require_globals(caller: Caller, project: Project, then: Project) -> None:
    """Check that the caller may change the global projects of a project, selected by its labels."""
    before, after = ({p.name for p in global_projects(one)} for one in (project, then))
    for name in sorted(before ^ after):
        require(caller, "projects", "update", name, project.name)


def _places(spec: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Return the destinations of a project by server, name and namespace."""
    return {
        (str(d.get("server") or ""), str(d.get("name") or ""), str(d.get("namespace") or "")): d
        for d in spec.get("destinations") or []
    }


def _require_clusters(caller: Caller, entry: Mapping[str, Any]) -> None:
    """Check that a caller may update the clusters that a destination names."""
    named = [str(entry[f]) for f in ("server", "name") if entry.get(f)] or [""]
    for cluster in named:
        require(caller, "clusters", "update", cluster.removeprefix("!"))


def _require_governing(
    caller: Caller, project: Project, spec: dict[str, Any], labels: Mapping[str, str]
) -> None:
    """Check that the caller may let a project's applications write more of the hub's own kinds."""
    then = Project(name=project.name, spec=spec, labels=dict(labels))
    if _writes_projects(_effective(then)) and not _writes_projects(_effective(project)):
        require(caller, "clusters", "update", HOME_SERVER, project.name)
    for pattern in _child_projects(spec) - _child_projects(project.spec):
        require(caller, "projects", "update", pattern, project.name)


def _effective(project: Project) -> dict[str, Any]:
    return with_global_projects(project.spec, [p.spec for p in global_projects(project)])


def _child_projects(spec: Mapping[str, Any]) -> set[str]:
    return set((spec.get("flotilla") or {}).get("childProjects") or [])
