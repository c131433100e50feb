"""REST API of repositories; credentials are never returned."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import Caller, hide, is_allowed, require
from hub.audit import trail
from hub.base.redaction import redact_text
from hub.engine.errors import AccessDenied, EngineError, Invalid, NotFound, RetryLater, Stalled
from hub.engine.project_restrictions import normal_url, permits_source
from hub.events.changes import publish
from hub.models import Tombstone, next_version
from hub.rest.lists import arranged
from hub.rest.views import View, actor, asked, body_map, flag, inner_map, must_agree, text_at
from projects import sources
from projects.models import Application, GitRemote, RenderFailure, Repository
from projects.objects.specs import check_repository_url, project_of_or_none
from projects.refreshing.triggers import mark_refresh_due
from projects.sources import charts, git, git_remotes
from projects.sources.credentials import (
    TRANSPORT_OPTIONS,
    credentials_for,
    has_identity,
    repository_of,
    template_of,
)
from projects.sources.files import Recorder, path_inside_root

SECRET_FIELDS = (
    "username",
    "password",
    "bearerToken",
    "sshPrivateKey",
    "tlsClientCertData",
    "tlsClientCertKey",
    "githubAppPrivateKey",
    "gcpServiceAccountKey",
)
_COLUMNS = {
    "repo": "repo",
    "type": "type",
    "name": "name",
    "project": "project",
    "status": "connectionState.status",
}
OPTION_FIELDS = (
    "insecure",
    "insecureIgnoreHostKey",
    "enableLfs",
    "enableOCI",
    "insecureOCIForceHttp",
    "forceHttpBasicAuth",
    "proxy",
    "noProxy",
    "depth",
    "passCredentials",
    "githubAppID",
    "githubAppInstallationID",
    "githubAppEnterpriseBaseUrl",
)


def split_fields(body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the credentials and the options in a body.

    Raises: Invalid naming the field.
    """
    for field in SECRET_FIELDS:
        if body.get(field) is not None and not isinstance(body[field], str):
            raise Invalid(f"{field} must be text")
    return {f: body[f] for f in SECRET_FIELDS if body.get(f)}, {
        f: body[f] for f in OPTION_FIELDS if body.get(f)
    }


def repository_json(repository: Repository) -> dict[str, Any]:
    """Return a repository without its credentials; the user name is shown."""
    state = {
        "status": repository.connection,
        "message": repository.message,
        "attemptedAt": repository.attempted_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if repository.attempted_at
        else None,
    }
    result = {
        "repo": repository.url,
        "type": repository.kind,
        "name": repository.name,
        "project": repository.project,
        **{k: v for k, v in repository.options.items() if k != "proxy"},
        "connectionState": state,
        "inheritedCreds": not repository.credentials
        and bool(credentials_for(repository.url, repository.project).get("password")),
    }
    return {k: v for k, v in result.items() if v not in ("", None, False)}


def check_connection(url: str, kind: str, credentials: Mapping[str, Any]) -> str:
    """Return why a repository cannot be read, empty if it can."""
    try:
        if kind == "git":
            git.fetch_refs(url, credentials)
        elif kind == "helm" and not charts.is_oci(url, credentials):
            charts.fetch_index(url, credentials, fresh=True)
    except (RetryLater, Stalled, EngineError, Invalid) as error:
        return redact_text(str(error))
    return ""


def refresh_readers(url: str) -> None:
    """Refresh all that reads a repository whose credentials changed."""
    key = normal_url(url)
    rows = GitRemote.objects.filter(Q(url__iexact=key) | Q(url__istartswith=f"{key} "))
    RenderFailure.objects.all().delete()
    git_remotes.retry_with_changed_credentials(rows)
    for remote in rows:
        mark_refresh_due(remote.applications.values_list("pk", flat=True))


class Repositories(View):
    """`/repositories`: list and connect."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List repositories with their connection state; `forceRefresh` tests each first."""
        caller = actor(request)
        query = Repository.objects.order_by("url")
        if request.query_params.get("repo"):
            query = query.filter(url=request.query_params["repo"])
        if request.query_params.get("appProject"):
            query = query.filter(project=request.query_params["appProject"])
        shown = [r for r in query if is_allowed(caller, "repositories", "get", r.rbac_object)]
        if flag(request, "forceRefresh"):
            for row in shown:
                _test_again(row)
        answer = {"items": [repository_json(r) for r in shown], "metadata": {}}
        return Response(arranged(request, answer, _COLUMNS, ["repo", "project"]))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Connect a repository, after a test of the connection."""
        account = actor(request)
        _require_create(account, asked(request), "repo")
        body = body_map(request)
        url = check_repository_url(body.get("repo"))
        project = str(body.get("project") or "")
        existing = Repository.objects.filter(url=url, project=project).first()
        if existing and not is_allowed(account, "repositories", "get", existing.rbac_object):
            raise hide(account, "repositories", "create", existing.rbac_object, project)
        upsert = flag(request, "upsert") or bool(body.get("upsert"))
        if existing and upsert:
            require(account, "repositories", "update", existing.rbac_object, project)
        kind = kind_of(body)
        if kind == "git":
            git.check_git_url(url, "repo")
        secret, options = split_fields(body)
        _require_way(account, url, secret, options)
        problem = (
            ""
            if flag(request, "credsOnly")
            else check_connection(url, kind, {**options, **secret, **_inherited(url, secret)})
        )
        if problem:
            raise Invalid(f"repository not accessible: {problem}")
        if existing and not upsert:
            if (existing.credentials, existing.options) == (secret, options):
                return Response(repository_json(existing))
            raise Invalid("existing repository spec is different, use upsert flag to force update")
        was_asked = not flag(request, "credsOnly")
        return Response(
            repository_json(save_repository(existing, body, url, account.name, asked=was_asked))
        )


def _require_create(caller: Caller, given: Mapping[str, Any], field: str) -> None:
    """Check that a caller may create the repository in a body, before its URL is used."""
    url, project = text_at(given, field), text_at(given, "project")
    require(caller, "repositories", "create", f"{project}/{url}" if project else url, project)


def _inherited(url: str, secret: Mapping[str, Any]) -> dict[str, Any]:
    found = credentials_for(url)
    return {k: found[k] for k in ("knownHosts", "caData") if k in found} if secret else found


def _require_way(
    caller: Caller, url: str, secret: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Check that a caller may set the connection options of a repository without credentials.

    The hub then uses its own credentials for the URL: a proxy or a disabled check of certificates
    would disclose them to the caller.
    Raises: AccessDenied naming the fields.
    """
    named = [field for field in TRANSPORT_OPTIONS if options.get(field)]
    if secret or not named or not has_identity(credentials_for(url)):
        return
    owner, template = repository_of(url), template_of(url)
    lender = owner.rbac_object if owner and owner.credentials else template.url if template else url
    if not is_allowed(caller, "repositories", "update", lender):
        raise AccessDenied(
            f"{', '.join(named)}: the repository has no credentials of its own, and the hub's "
            "credentials for its URL are not sent that way; give it credentials, or ask for "
            "repositories, update on those"
        )


def kind_of(body: Mapping[str, Any]) -> str:
    """Return the type of the repository in a body: git, helm or oci.

    Raises: Invalid.
    """
    kind = str(
        body.get("type") or ("oci" if str(body.get("repo", "")).startswith("oci://") else "git")
    )
    if kind not in ("git", "helm", "oci"):
        raise Invalid(f"type must be git, helm or oci, not {kind!r}")
    return kind


_WRITTEN = (
    "kind",
    "name",
    "credentials",
    "options",
    "connection",
    "message",
    "attempted_at",
    "resource_version",
)


def save_repository(
    existing: Repository | None, body: Mapping[str, Any], url: str, who: str, *, asked: bool = False
) -> Repository:
    """Store a repository; it counts as connected only if the test succeeded."""
    secret, options = split_fields(body)
    with transaction.atomic():
        row = existing or Repository(url=url, project=str(body.get("project") or ""))
        if not row.lock() and existing is not None:
            raise NotFound(f"repository {url} was removed in the meantime: connect it again")
        refresh_readers(url)
        row.kind, row.name = kind_of({**body, "repo": url}), str(body.get("name") or "")
        row.credentials, row.options = secret, options
        row.connection, row.message = "Successful" if asked else "Unknown", ""
        row.attempted_at = timezone.now() if asked else None
        row.resource_version = next_version()
        row.save(update_fields=_WRITTEN if existing is not None else None)
        publish()
        trail.record(
            who,
            "update" if existing else "create",
            "repository",
            url,
            row.project,
            fields=sorted([*secret, *options]),
        )
    return row


def _named(request: Request, url: str, action: str) -> Repository:
    project, caller = request.query_params.get("appProject", ""), actor(request)
    found = repository_of(url, project)
    if found is None or not is_allowed(caller, "repositories", "get", found.rbac_object):
        raise hide(caller, "repositories", action, url, project)
    if action != "get":
        require(caller, "repositories", action, found.rbac_object, found.project)
    return found


def _require_read(request: Request, url: str) -> None:
    """Check that the caller may read a repository, with the credentials of the given project."""
    project = request.query_params.get("appProject", "")
    require(actor(request), "repositories", "get", f"{project}/{url}" if project else url, project)
    if project:
        _require_permitted(project, url)


def _require_permitted(project: str, url: str) -> None:
    # A right to all repositories of a project does not include those that it does not permit.
    rules = project_of_or_none(project)
    if rules is None or not permits_source(rules.spec, url):
        raise AccessDenied(
            f"application repo {redact_text(url)} is not permitted in project '{project}'"
        )


def _test_again(row: Repository) -> None:
    """Test a repository with its credentials, and store the result."""
    problem = check_connection(row.url, row.kind, credentials_for(row.url, row.project))
    word = "Failed" if problem else "Successful"
    with transaction.atomic():
        row.lock()
        more = (
            {"resource_version": next_version()}
            if (word, problem) != (row.connection, row.message)
            else {}
        )
        Repository.objects.filter(pk=row.pk).update(
            connection=word, message=problem, attempted_at=timezone.now(), **more
        )
        publish()
    row.refresh_from_db()


class OneRepository(View):
    """`/repositories/{repo}`: read, update, disconnect."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, repo: str) -> Response:
        """Return a repository; with `forceRefresh` it is tested first."""
        row = _named(request, repo, "get")
        if flag(request, "forceRefresh"):
            _test_again(row)
        return Response(repository_json(row))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, repo: str) -> Response:
        """Replace the credentials and options of a repository."""
        row = _named(request, repo, "update")
        body = body_map(request)
        must_agree(repo, body.get("repo"), "repo")
        _require_way(actor(request), row.url, *split_fields(body))
        return Response(
            repository_json(
                save_repository(row, {**body, "project": row.project}, row.url, actor(request).name)
            )
        )

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, repo: str) -> Response:
        """Disconnect a repository."""
        row = _named(request, repo, "delete")
        with transaction.atomic():
            row.lock()
            refresh_readers(row.url)
            Tombstone.objects.create(
                resource_version=next_version(),
                kind="Repository",
                name=row.url,
                project=row.project,
                row=row.pk,
                manifest=repository_json(row),
            )
            row.delete()
            publish()
            trail.record(actor(request).name, "delete", "repository", row.url, row.project)
        return Response({})


class ValidateRepository(View):
    """`/repositories/{repo}/validate`: test credentials without storing them."""

    permission = ("repositories", "create")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, repo: str) -> Response:
        """Test the repository with the given credentials."""
        body = request.data if isinstance(request.data, dict) else {}
        try_out(actor(request), {**request.query_params.dict(), **body, "repo": repo})
        return Response({})


def try_out(caller: Caller, given: Mapping[str, Any]) -> None:
    """Test a repository with the given credentials; nothing is stored.

    Raises: Invalid with the reason if it does not answer; AccessDenied.
    """
    _require_create(caller, given, "repo")
    url = check_repository_url(given.get("repo"))
    secret, options = split_fields(given)
    _require_way(caller, url, secret, options)
    problem = check_connection(
        url, kind_of(given), {**options, **secret, **_inherited(url, secret)}
    )
    if problem:
        raise Invalid(f"repository not accessible: {problem}")


class Refs(View):
    """`/repositories/{repo}/refs`: branches and tags."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, repo: str) -> Response:
        """Return branches and tags."""
        _require_read(request, repo)
        git.check_git_url(repo, "repo")
        remote = git_remotes.current_refs(
            repo, request.query_params.get("appProject", ""), force=flag(request, "forceRefresh")
        )

        def names(prefix: str) -> list[str]:
            return sorted(n.removeprefix(prefix) for n in remote.refs if n.startswith(prefix))

        return Response({"branches": names("refs/heads/"), "tags": names("refs/tags/")})


class AppsOf(View):
    """`/repositories/{repo}/apps`: folders with an application, and the tool that renders each."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, repo: str) -> Response:
        """Return the folders."""
        _require_read(request, repo)
        git.check_git_url(repo, "repo")
        source = {"repoURL": repo, "targetRevision": request.query_params.get("revision", "")}
        project = request.query_params.get("appProject", "")
        revision = sources.resolve(source, project)
        recorder = Recorder({"": sources.files_of(source, revision, project)})
        found: dict[str, str] = {}
        for name in recorder.walk(""):
            folder, _, file = name.rpartition("/")
            if file == "Chart.yaml":
                found.setdefault(folder, "Helm")
            elif file in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
                found[folder] = "Kustomize"
        return Response(
            {"items": [{"path": p or ".", "type": t} for p, t in sorted(found.items())]}
        )


class HelmCharts(View):
    """`/repositories/{repo}/helmcharts`: charts and their versions."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, repo: str) -> Response:
        """Return the charts."""
        _require_read(request, repo)
        found = charts.fetch_index(
            check_repository_url(repo),
            credentials_for(repo, request.query_params.get("appProject", "")),
        )
        return Response(
            {
                "items": [
                    {"name": name, "versions": [release.version for release in listed or ()]}
                    for name, listed in sorted(found.charts.items())
                ]
            }
        )


class OCITags(View):
    """`/repositories/{repo}/oci-tags`: tags of an OCI repository."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, repo: str) -> Response:
        """Return the tags."""
        _require_read(request, repo)
        url, project = check_repository_url(repo), request.query_params.get("appProject", "")
        found = charts.tags(url if "://" in url else f"oci://{url}", credentials_for(url, project))
        return Response({"tags": found})


class AppDetails(View):
    """`/repositories/{repo}/appdetails`: the type of a source and its parameters."""

    permission = ("applications", "get")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, repo: str) -> Response:
        """Return the type of a source; for a chart also its value files and values."""
        project = text_at(asked(request), "appProject") or "default"
        require_details(actor(request), project, text_at(asked(request), "appName"), repo)
        source = inner_map(body_map(request), "source")
        must_agree(repo, source.get("repoURL"), "source.repoURL")
        wanted = {**source, "repoURL": repo}
        problems = sources.check_sources([wanted], multi=False)
        if problems:
            raise Invalid("; ".join(problems))
        revision = sources.resolve(wanted, project)
        recorder = Recorder({"": sources.files_of(wanted, revision, project)})
        path = "" if wanted.get("chart") else path_inside_root(str(wanted.get("path") or ""))
        tool = sources.detect(recorder, path, wanted)
        answer: dict[str, Any] = {"type": tool}
        if tool == "Helm":
            names = [
                n
                for n in recorder.walk(path, recurse=False)
                if n.endswith((".yaml", ".yml")) and "values" in n.rpartition("/")[2]
            ]
            values = recorder.read(f"{path}/values.yaml" if path else "values.yaml") or b""
            answer["helm"] = {
                "valueFiles": [n[len(path) :].lstrip("/") for n in names],
                "values": values.decode(errors="replace"),
            }
        return Response(answer)


def require_details(caller: Caller, project: str, name: str, url: str) -> None:
    """Check that a caller may read a source: of an existing application, or of a new one."""
    found = (
        Application.objects.select_related("cluster")
        .filter(namespace=settings.NAMESPACE, name=name)
        .first()
    )
    if found is not None and found.project == project:
        named, where, action = found.rbac_object, found.where, "get"
    else:
        named, where, action = f"{project}/{name or '*'}", None, "create"
    if not is_allowed(caller, "applications", action, named, where):
        # The answer must not disclose whether the application exists.
        raise hide(caller, "applications", "get", named, project)
    _require_permitted(project, url)
