"""REST of projects."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.models import Cluster
from hub.access import require
from hub.api import View, actor, body_map, flag, must_agree
from hub.engine.errors import AccessDenied, Invalid
from hub.models import current_version
from projects import applications
from projects.manifests import project_json
from projects.models import Project, Repository


def get_project(request: Request, name: str, action: str = "get") -> Project:
    """Return a project if the caller may do `action` to it; absent and forbidden look the same."""
    require(actor(request), "projects", action, name, name)
    found = Project.objects.filter(name=name).first()
    if found is None:
        raise AccessDenied("permission denied")
    return found


class Projects(View):
    """`/projects`: list and create."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List projects."""
        require(actor(request), "projects", "get", "*")
        query = Project.objects.order_by("name")
        if request.query_params.get("name"):
            query = query.filter(name=request.query_params["name"])
        return Response(
            {
                "metadata": {"resourceVersion": str(current_version())},
                "items": [project_json(p) for p in query],
            }
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create a project: `{project, upsert}`."""
        body = body_map(request)
        manifest = body.get("project")
        if not isinstance(manifest, dict):
            raise Invalid("project is required: an AppProject object")
        require(
            actor(request),
            "projects",
            "create",
            str((manifest.get("metadata") or {}).get("name", "")),
        )
        upsert = bool(body.get("upsert")) or flag(request, "upsert")
        return Response(
            project_json(applications.save_project(manifest, actor(request).name, upsert=upsert))
        )


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
        body = body_map(request)
        manifest = body.get("project") if isinstance(body.get("project"), dict) else body
        get_project(request, name, "update")
        metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
        must_agree(name, (metadata or {}).get("name"), "project.metadata.name")
        wanted = {**(manifest or {}), "metadata": {**(metadata or {}), "name": name}}
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
    """`/projects/{name}/detailed`: the project with its own repositories and clusters, without credentials."""

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
                "globalProjects": [],
                "repositories": repositories,
                "clusters": clusters,
            }
        )


class Empty(View):
    """Parts of a project that this hub has none of: links, global projects, windows, events."""

    permission = ("projects", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return an empty list."""
        get_project(request, name)
        return Response({"items": []})
