"""REST API of projects."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.models import Cluster
from hub.access.decisions import Caller, hide, is_allowed, require
from hub.auth.api_tokens import create_token, moment, revoke_tokens
from hub.engine.errors import Invalid, NotFound
from hub.engine.parsing import parse_digits
from hub.engine.sync_windows import active_windows
from hub.events.changes import publish
from hub.models import ApiToken, current_version, next_version
from hub.rest.lists import arranged
from hub.rest.views import View, actor, asked, body_map, flag, inner_map, must_agree, text_at
from projects.access.project_limits import require_change
from projects.models import Project, Repository
from projects.objects import applications
from projects.objects.applications import text_map
from projects.objects.manifests import project_json
from projects.objects.specs import global_projects, project_of_or_none


def get_project(request: Request, name: str, action: str = "get") -> Project:
    """Return a project on which the caller may do `action`; absent and forbidden look the same."""
    caller = actor(request)
    found = Project.objects.filter(name=name).first()
    if found is None or not is_allowed(caller, "projects", "get", name):
        raise hide(caller, "projects", action, name)
    if action != "get":
        require(caller, "projects", action, name, name)
    return found


class Projects(View):
    """`/projects`: list and create."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List projects."""
        caller = actor(request)
        query = Project.objects.order_by("name")
        if request.query_params.get("name"):
            query = query.filter(name=request.query_params["name"])
        version = current_version()
        items = [project_json(p) for p in query if is_allowed(caller, "projects", "get", p.name)]
        answer = {"metadata": {"resourceVersion": str(version)}, "items": items}
        columns = {"name": "metadata.name", "created": "metadata.creationTimestamp"}
        return Response(arranged(request, answer, columns, ["metadata.name"]))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create a project: `{project, upsert}`."""
        name = text_at(asked(request), "project", "metadata", "name")
        require(actor(request), "projects", "create", name)
        body = body_map(request)
        manifest = body.get("project")
        if not isinstance(manifest, dict):
            raise Invalid("project is required: an AppProject object")
        upsert = bool(body.get("upsert")) or flag(request, "upsert")
        existing = Project.objects.filter(name=name).first()
        if existing is None or upsert:
            _require(actor(request), existing or Project(name=name), manifest)
        return Response(
            project_json(applications.save_project(manifest, actor(request).name, upsert=upsert))
        )


def _require(caller: Caller, project: Project, manifest: dict[str, Any]) -> None:
    labels = inner_map(manifest, "metadata").get("labels")
    require_change(caller, project, manifest.get("spec") or {}, text_map(labels, "metadata.labels"))


class OneProject(View):
    """`/projects/{name}`: read, replace, delete."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return a project."""
        return Response(project_json(get_project(request, name)))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, name: str) -> Response:
        """Replace a project."""
        project = get_project(request, name, "update")
        body = body_map(request)
        manifest = body.get("project", body)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("spec"), dict):
            raise Invalid(
                "project.spec is required: an object, {} to take everything from the project"
            )
        if not isinstance(manifest.get("metadata") or {}, dict):
            raise Invalid("project.metadata must be an object")
        _require(actor(request), project, manifest)
        metadata = inner_map(manifest, "metadata")
        must_agree(name, metadata.get("name"), "project.metadata.name")
        wanted = {**manifest, "metadata": {**metadata, "name": name}}
        return Response(
            project_json(applications.save_project(wanted, actor(request).name, must_exist=True))
        )

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete a project that nothing uses."""
        get_project(request, name, "delete")
        applications.delete_project(name, actor(request).name)
        return Response({})


class Detailed(View):
    """`/projects/{name}/detailed`: a project with its repositories and clusters, no credentials."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the project and what belongs to it."""
        project = get_project(request, name)
        repositories: list[dict[str, Any]] = [
            {"repo": r.url, "type": r.kind, "name": r.name, "project": r.project}
            for r in Repository.objects.filter(project=name)
        ]
        clusters = [
            {"server": c.server, "name": c.name} for c in Cluster.objects.filter(project=name)
        ]
        return Response(
            {
                "project": project_json(project),
                "globalProjects": [project_json(p) for p in global_projects(project)],
                "repositories": repositories,
                "clusters": clusters,
            }
        )


class GlobalProjects(View):
    """`/projects/{name}/globalprojects`: the projects whose rules are added to it."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the global projects of a project."""
        found = global_projects(get_project(request, name))
        return Response({"items": [project_json(p) for p in found]})


class SyncWindows(View):
    """`/projects/{name}/syncwindows`: the windows that are active now."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the active windows."""
        get_project(request, name)
        effective = project_of_or_none(name)
        windows = effective.spec.get("syncWindows") if effective else None
        return Response({"windows": active_windows(windows or [], timezone.now())})


def _tokens_changed(project: Project) -> None:
    """Publish that the status of a project, which lists tokens, has changed."""
    with transaction.atomic():
        project.lock()
        Project.objects.filter(pk=project.pk).update(resource_version=next_version())
        publish()


class RoleTokens(View):
    """`/projects/{project}/roles/{role}/token`: create a token."""

    permission = ("projects", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str, role: str) -> Response:
        """Return a new token of a role: `{expiresIn, id, description}`; it is shown only once."""
        project = get_project(request, name, "update")
        body = body_map(request)
        must_agree(name, body.get("project"), "project")
        must_agree(role, body.get("role"), "role")
        if not any(r.get("name") == role for r in project.spec.get("roles") or []):
            raise NotFound(f"project '{name}' does not have role '{role}'")
        token = create_token(
            actor(request).name,
            project=name,
            role=role,
            token_id=body.get("id"),
            seconds=body.get("expiresIn"),
            description=str(body.get("description") or ""),
        )
        _tokens_changed(project)
        return Response({"token": token})


class RoleToken(View):
    """`/projects/{project}/roles/{role}/token/{iat}`: revoke a token."""

    permission = ("projects", "update")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str, role: str, issued: str) -> Response:
        """Revoke the token with `id`, or the one issued at `iat`."""
        project = get_project(request, name, "update")
        rows = ApiToken.objects.filter(project=name, role=role)
        if request.query_params.get("id"):
            rows = rows.filter(token_id=request.query_params["id"])
        elif (second := parse_digits(issued, 11)) is not None:
            rows = rows.filter(issued_at=moment(second))
        else:
            raise Invalid(f"iat must be the second at which the token was issued, not {issued!r}")
        if not revoke_tokens(rows, actor(request).name):
            raise NotFound(f"role '{role}' of project '{name}' has no such token")
        _tokens_changed(project)
        return Response({})


class Empty(View):
    """Parts of a project that are not supported: links, events."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return an empty list."""
        get_project(request, name)
        return Response({"items": []})
