"""Validate and complete specs of applications and projects, and bind them to what they name."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists

from clusters.models import HOME_NAME, HOME_SERVER, Cluster
from hub.audit import trail
from hub.base.read_once import once
from hub.engine.deletion_guard import budget_from
from hub.engine.errors import (
    AccessDenied,
    EngineError,
    Invalid,
    NotFound,
    NotPermitted,
    Protected,
    RuleError,
    Stalled,
)
from hub.engine.globs import check, check_all, matches
from hub.engine.ignore_rules import ignore_rules
from hub.engine.project_restrictions import (
    check_restrictions,
    check_service_accounts,
    matches_label_selector,
    permits_destination,
    permits_source,
    restriction_violations,
    source_violations,
    with_global_projects,
)
from hub.engine.project_roles import check_project_roles
from hub.engine.regex import PatternError, compiled, fits
from hub.engine.resource import is_dns_name
from hub.engine.retry import retry_policy
from hub.engine.shape_check import Shape, check_shape
from hub.engine.source_integrity import check_integrity
from hub.engine.sync_options import parse_options
from hub.engine.sync_windows import check_windows
from hub.models import Setting, setting
from projects import sources
from projects.models import DEFAULT_PROJECT, Application, Project, Repository
from projects.objects.spec_fields import APPLICATION, PROJECT
from projects.sources import git_remotes
from projects.sources.remote_inputs import repositories_of

_KNOWN_SPEC = {
    "project",
    "source",
    "sources",
    "sourceHydrator",
    "destination",
    "syncPolicy",
    "ignoreDifferences",
    "info",
    "revisionHistoryLimit",
    "flotilla",
}


def normalized_spec(spec: Any) -> dict[str, Any]:
    """Return a spec as it is stored: without empty blocks, and with a project.

    Raises: Invalid naming the field.
    """
    if not isinstance(spec, dict):
        raise Invalid("spec must be an object")
    result = {k: v for k, v in spec.items() if v is not None}
    result["project"] = result.get("project") or "default"
    _check_shape(result, APPLICATION)
    if not result.get("syncPolicy"):
        result.pop("syncPolicy", None)
    if result.get("source"):
        result["source"] = _filled(result["source"])
    if result.get("sources"):
        result["sources"] = [_filled(s) for s in result["sources"]]
    result.setdefault("destination", {})
    _check_rules(result)
    return result


def _filled(source: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in source.items() if v not in (None, {}, "")}


def _check_shape(spec: Any, shape: Shape) -> None:
    try:
        check_shape(spec, shape, "spec")
    except RuleError as error:
        raise Invalid(str(error)) from error


def _check_rules(spec: Mapping[str, Any]) -> None:
    policy = spec.get("syncPolicy") or {}
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        raise Invalid("spec.revisionHistoryLimit must be a whole number from 0")
    if len(spec.get("sources") or []) > sources.MAX_SOURCES:
        raise Invalid(f"spec.sources: at most {sources.MAX_SOURCES} are allowed")
    try:
        parse_options(policy.get("syncOptions") or [], "spec.syncPolicy.syncOptions")
        retry_policy(policy.get("retry"), default_limit=0)
        ignore_rules(spec.get("ignoreDifferences") or [], "spec.ignoreDifferences")
        _check_source_globs(spec)
    except RuleError as error:
        raise Invalid(str(error)) from error


def _check_source_globs(spec: Mapping[str, Any]) -> None:
    sources = {"spec.source": spec.get("source") or {}}
    sources |= {f"spec.sources[{n}]": s for n, s in enumerate(spec.get("sources") or [])}
    for where, source in sources.items():
        for field in ("include", "exclude"):
            pattern = (source.get("directory") or {}).get(field) or ""
            check(pattern, f"{where}.directory.{field}")
        names = (source.get("helm") or {}).get("valueFiles") or []
        globs = [name if any(c in name for c in "*?[") else "" for name in names]
        check_all(globs, f"{where}.helm.valueFiles")


def unknown_fields(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of spec fields that this hub does not know."""
    return sorted(f"spec.{name}" for name in spec if name not in _KNOWN_SPEC)


def check_name(name: Any, field: str = "metadata.name") -> str:
    """Return a name that Kubernetes would accept.

    Raises: Invalid naming the field.
    """
    if not isinstance(name, str) or not name:
        raise Invalid(f"{field} is required")
    if not is_dns_name(name):
        raise Invalid(
            f"{field}: {name!r} must be at most 253 of a-z, 0-9, - and ., "
            "and begin and end with a letter or digit"
        )
    return name


def require_shape(application: Application) -> None:
    """Check the types of an application's stored spec.

    Raises: Stalled naming the field, if the spec was stored without validation.
    """
    try:
        check_shape(application.spec, APPLICATION, "spec")
        normalized = {**application.spec, "project": application.project}
        _check_rules(normalized)
    except RuleError as error:
        text = f"the stored spec cannot be used, save it again: {error}"
        raise Stalled("InvalidSpec", text) from error
    except Invalid as error:
        raise Stalled("InvalidSpec", str(error)) from error


def project_of(name: str) -> Project:
    """Return a project, including the rules of global projects.

    Raises: Stalled if it does not exist or its spec is invalid.
    """
    found = project_of_or_none(name)
    if found is None:
        raise Stalled("InvalidSpec", f"Application referencing project {name} which does not exist")
    if not found.spec and (problem := stored_problem(name)):
        raise Stalled("InvalidProject", f"project {name} cannot be used, save it again: {problem}")
    return found


def stored_problem(name: str) -> str:
    """Return the first type error in the stored spec of a project, empty if there is none."""
    return shape_problem(Project.objects.filter(name=name).values_list("spec", flat=True).first())


def shape_problem(spec: Any) -> str:
    """Return the first type error in the spec of a project, empty if there is none."""
    try:
        check_shape(spec, PROJECT, "spec")
    except RuleError as error:
        return str(error)
    return ""


def project_of_or_none(name: str) -> Project | None:
    """Return a project including global projects and its own repositories and clusters, or None.

    The result must not be saved.
    """
    return once(("project", name), lambda: _with_additions(name))


def _with_additions(name: str) -> Project | None:
    # One query tells whether there is anything to add, as every refresh calls this.
    found = (
        Project.objects.filter(name=name)
        .annotate(
            has_globals=Exists(Setting.objects.filter(name="global_projects")),
            has_repositories=Exists(Repository.objects.filter(project=name)),
            has_clusters=Exists(Cluster.objects.filter(project=name)),
        )
        .first()
    )
    if found is None:
        return None
    if shape_problem(found.spec):
        # It permits nothing; `project_of` and the page of the project report the error.
        found.spec = {}
        return found
    if found.has_globals:
        found.spec = with_global_projects(found.spec, [p.spec for p in global_projects(found)])
    if found.has_repositories or found.has_clusters:
        found.spec = _with_own(dict(found.spec), name)
    return found


def invalid_after(project: Project, spec: Mapping[str, Any]) -> None:
    """Check that a new spec still permits every application that the project permits now.

    Raises: NotPermitted with Argo CD's message.
    """
    now = project_of_or_none(project.name)
    if now is None:
        return
    then = Project(name=project.name, spec=dict(spec), labels=project.labels)
    globals_ = [p.spec for p in global_projects(then)]
    after = _with_own(with_global_projects(spec, globals_), project.name)
    sources_lost = destinations_lost = 0
    rows = Application.objects.filter(project=project.name).select_related("cluster")
    for app in rows.only("spec", "project", "dest_namespace", "cluster"):
        sources_lost += _permits_sources(now.spec, app) and not _permits_sources(after, app)
        destinations_lost += _permits_place(now.spec, app) and not _permits_place(after, app)
    if sources_lost or destinations_lost:
        lost = [(sources_lost, "source"), (destinations_lost, "destination")]
        parts = [f"{count} applications {what} became invalid" for count, what in lost if count]
        raise NotPermitted(f"as a result of project update {' and '.join(parts)}")


def _permits_sources(spec: Mapping[str, Any], app: Application) -> bool:
    return all(permits_source(spec, str(s.get("repoURL") or "")) for s in app.sources)


def _permits_place(spec: Mapping[str, Any], app: Application) -> bool:
    cluster = app.cluster
    return cluster is not None and permits_destination(
        spec, cluster.server, cluster.name, app.dest_namespace
    )


def global_projects(project: Project) -> list[Project]:
    """Return the projects that the setting `global_projects` adds to this one."""
    entries = [
        e
        for e in setting("global_projects", [])
        if _is_global(e)
        and e["projectName"] != project.name
        and matches_label_selector(e["labelSelector"], project.labels)
    ]
    if not entries:
        return []
    found = Project.objects.in_bulk([e["projectName"] for e in entries], field_name="name")
    return [found[e["projectName"]] for e in entries if e["projectName"] in found]


def _is_global(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("projectName"), str):
        return False
    selector = entry.get("labelSelector")
    return isinstance(selector, dict) and isinstance(selector.get("matchLabels") or {}, dict)


def _with_own(spec: dict[str, Any], name: str) -> dict[str, Any]:
    repositories = list(Repository.objects.filter(project=name).values_list("url", flat=True))
    clusters = list(Cluster.objects.filter(project=name).values_list("server", flat=True))
    if repositories:
        spec["sourceRepos"] = [*(spec.get("sourceRepos") or []), *repositories]
    if clusters:
        own = [{"server": server, "namespace": "*"} for server in clusters]
        spec["destinations"] = [*(spec.get("destinations") or []), *own]
    return spec


def check_reason(spec: Mapping[str, Any], project: str) -> None:
    """Check that the current request gives the reason and ticket that its project requires.

    Raises: Protected saying how to give them.
    """
    wanted = (spec.get("flotilla") or {}).get("audit") or {}
    reason, ticket = trail.why.get()
    if wanted.get("requireReason") and not reason:
        raise Protected(
            f"project '{project}' asks for a reason: repeat the request with ?reason=... "
            "or the header X-Flotilla-Reason"
        )
    pattern = str(wanted.get("ticketPattern") or "")
    is_missing = wanted.get("requireTicket") and not ticket
    if is_missing or (pattern and ticket and not _is_ticket(pattern, ticket, project)):
        form = f" of the form {pattern}" if pattern else ""
        raise Protected(
            f"project '{project}' asks for a ticket{form}: repeat the request with ?ticket=... "
            "or the header X-Flotilla-Ticket"
        )


def _is_ticket(pattern: str, ticket: str, project: str) -> bool:
    try:
        return fits(pattern, ticket)
    except PatternError as error:
        raise Protected(
            f"spec.flotilla.audit.ticketPattern of project '{project}' is invalid, "
            f"save it again: {error}"
        ) from error


def home_cluster() -> Cluster:
    """Return the cluster of the hub itself, created at first use."""
    found = Cluster.objects.filter(server=HOME_SERVER).first()
    if found:
        return found
    try:
        with transaction.atomic():
            return Cluster.objects.create(
                server=HOME_SERVER, name=HOME_NAME, connection="Successful", is_synced=True
            )
    except IntegrityError:
        return Cluster.objects.get(server=HOME_SERVER)


def default_project() -> Project:
    """Return the project `default`, created at first use."""
    return Project.objects.get_or_create(name="default", defaults={"spec": DEFAULT_PROJECT})[0]


def find_cluster(spec: Mapping[str, Any]) -> Cluster:
    """Return the cluster that the destination of an application's spec names.

    Names are not unique: clusters that belong to another project are ignored.
    Raises: Stalled with Argo CD's message if both or none are given, or several or none match.
    """
    destination = spec.get("destination") or {}
    server, name = destination.get("server") or "", destination.get("name") or ""
    if server and name:
        raise Stalled(
            "InvalidSpec",
            f"application destination can't have both name and server defined: {name} {server}",
        )
    if not server and not name:
        raise Stalled(
            "InvalidSpec",
            "application destination server or name is required: "
            "set spec.destination.server or spec.destination.name",
        )
    project = str(spec.get("project") or "default")
    return once(("cluster", server, name, project), lambda: _cluster(server, name, project))


def _cluster(server: str, name: str, project: str) -> Cluster:
    if server.rstrip("/") == HOME_SERVER or name == HOME_NAME:
        return home_cluster()
    rows = Cluster.objects.filter(name=name)
    if server:
        bare = server.rstrip("/")
        rows = Cluster.objects.filter(server__in={server, bare, bare + "/"})
    found = list(rows)
    if len(found) > 1:
        found = [cluster for cluster in found if cluster.project in ("", project)]
    if len(found) > 1:
        servers = sorted(c.server for c in found)
        text = f"there are {len(found)} clusters with the same name: {servers}"
        raise Stalled("InvalidSpec", text)
    if not found:
        raise Stalled(
            "ClusterNotFound",
            "Unable to get cluster: there are no clusters with this "
            f"{'URL' if server else 'name'}: {server or name}",
        )
    return found[0]


def spec_problems(application: Application, project: Project | None = None) -> list[str]:
    """Return a sentence for each problem of a spec that can be found without the network."""
    found = sources.check_sources(application.sources, multi=application.is_multi_source)
    try:
        project = project or project_of(application.project)
    except Stalled as error:
        return [*found, error.message]
    try:
        cluster = find_cluster(application.spec)
    except Stalled as error:
        return [*found, error.message, *_refusals(application, project, None)]
    return found + _refusals(application, project, cluster)


def spec_refusals(application: Application, project: Project | None = None) -> list[str]:
    """Return a sentence for each part of an application that its project does not permit."""
    project = project or project_of_or_none(application.project)
    if project is None:
        return []
    try:
        cluster = find_cluster(application.spec)
    except Stalled:
        return _refusals(application, project, None)
    return _refusals(application, project, cluster)


def _refusals(application: Application, project: Project, cluster: Cluster | None) -> list[str]:
    urls = [str(s.get("repoURL") or "") for s in application.sources]
    if cluster is None:
        # An unknown destination does not hide the sources that the project does not permit.
        return source_violations(project.spec, project.name, urls)
    found = []
    if not is_namespace_permitted(application, project):
        found.append(
            f"application '{application.name}' in namespace '{application.namespace}' "
            f"is not permitted to use project '{project.name}'"
        )
    problem = cluster_problem(project.spec, project.name, cluster)
    found += [problem] if problem else []
    return found + restriction_violations(
        project.spec, project.name, urls, (cluster.server, cluster.name, application.dest_namespace)
    )


def require_source_permitted(application: Application, source: dict[str, Any]) -> None:
    """Check that the project still permits a source.

    Raises: AccessDenied naming it.
    """
    url = str(source.get("repoURL") or "")
    if not permits_source(project_of(application.project).spec, url):
        raise AccessDenied(
            f"application repo {url} is not permitted in project '{application.project}'"
        )


def cluster_problem(spec: Mapping[str, Any], project: str, cluster: Cluster) -> str:
    """Return why applications of a project may not use a cluster, empty if they may."""
    if spec.get("permitOnlyProjectScopedClusters") and cluster.project != project:
        return f"project '{project}' only permits clusters of its own, and {cluster.name} is not"
    if cluster.project and cluster.project != project:
        return f"cluster {cluster.name} belongs to another project"
    return ""


def is_namespace_permitted(application: Application, project: Project) -> bool:
    """Return whether a project permits applications in the namespace of this one."""
    if application.namespace == settings.NAMESPACE:
        return True
    return any(
        matches(p, application.namespace) for p in project.spec.get("sourceNamespaces") or []
    )


def bind(application: Application) -> None:
    """Set the columns that the spec determines: project, namespace, cluster."""
    application.project = application.spec["project"]
    application.dest_namespace = (application.spec.get("destination") or {}).get("namespace") or ""
    try:
        application.cluster = find_cluster(application.spec)
    except Stalled:
        application.cluster = None


def bind_remotes(application: Application) -> None:
    """Link an application to the git repositories that it reads, so that a push refreshes it."""
    read = repositories_read(application)
    found = [git_remotes.remote_of(url, application.project) for url in read]
    application.remotes.set(found)
    git_remotes.resume_polling(found)


def repositories_read(application: Application) -> list[str]:
    """Return the URLs of the git repositories of an application, including remote bases."""
    own = [
        str(source["repoURL"])
        for source in application.sources
        if source.get("repoURL") and sources.kind_of(source) == "git"
    ]
    return [*own, *sorted(repositories_of(application.inputs))]


def check_project(spec: Any, name: str = "") -> dict[str, Any]:
    """Return a valid project spec without empty fields.

    Raises: Invalid naming the field.
    """
    if not isinstance(spec, dict):
        raise Invalid("spec must be an object")
    _check_shape(spec, PROJECT)
    _check_words(spec, "sourceRepos", "source repository")
    _check_words(spec, "sourceNamespaces", "source namespace")
    _check_destinations(spec)
    if len(str(spec.get("description") or "")) > 255:
        raise Invalid("spec.description must be at most 255 characters")
    try:
        check_restrictions(spec)
        check_project_roles(name, spec.get("roles"))
        check_windows(spec.get("syncWindows"))
        check_integrity(spec)
        check_service_accounts(spec.get("destinationServiceAccounts"))
        budget_from((spec.get("flotilla") or {}).get("deletion"))
        children = (spec.get("flotilla") or {}).get("childProjects")
        check_all(children, "spec.flotilla.childProjects")
        _check_ticket_pattern(spec)
    except EngineError as error:
        raise Invalid(str(error)) from error
    return {k: v for k, v in spec.items() if v is not None}


def _check_ticket_pattern(spec: Mapping[str, Any]) -> None:
    pattern = ((spec.get("flotilla") or {}).get("audit") or {}).get("ticketPattern")
    try:
        compiled(str(pattern or ""))
    except PatternError as error:
        raise RuleError(f"spec.flotilla.audit.ticketPattern: {error}") from error


def _check_destinations(spec: Mapping[str, Any]) -> None:
    seen = set()
    for number, entry in enumerate(spec.get("destinations") or []):
        if "!*" in (entry.get("server"), entry.get("name"), entry.get("namespace")):
            raise Invalid(f"spec.destinations[{number}]: '!*' denies everything")
        key = (entry.get("server") or entry.get("name") or "", entry.get("namespace") or "")
        if key in seen:
            raise Invalid(f"destination '{key[0]}/{key[1]}' already added")
        seen.add(key)


def _check_words(spec: Mapping[str, Any], field: str, title: str) -> None:
    seen = set()
    for number, word in enumerate(spec.get(field) or []):
        if not word:
            raise Invalid(f"spec.{field}[{number}] must not be empty")
        if word == "!*":
            raise Invalid(f"spec.{field}[{number}]: '!*' denies everything")
        if word in seen:
            raise Invalid(f"{title} '{word}' already added")
        seen.add(word)


_URL_SCHEME = re.compile(r"^(https?://|ssh://|oci://|file://|[\w.-]+@[\w.-]+:|[\w.-]+[:/])")


def check_repository_url(url: Any) -> str:
    """Return a repository URL that may be stored and shown as a link.

    Raises: Invalid for scripts and other URLs that are not repositories.
    """
    if not isinstance(url, str) or not url:
        raise Invalid("repo is required: the URL of the repository")
    if (
        not _URL_SCHEME.match(url)
        or re.match(r"^(javascript|data|vbscript):", url, re.IGNORECASE)
        or any(ord(c) <= 32 for c in url)
        or not _is_readable(url)
    ):
        raise Invalid(f"repo: {url!r} is not a repository URL")
    return url


def _is_readable(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def application_named(namespace: str, name: str) -> Application:
    """Return an application.

    Raises: NotFound.
    """
    found = (
        Application.objects.select_related("cluster", "operation")
        .filter(namespace=namespace, name=name)
        .first()
    )
    if found is None:
        raise NotFound(f'applications.argoproj.io "{name}" not found')
    return found
