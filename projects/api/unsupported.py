"""Endpoints of Argo CD's features that are not supported.

They answer as Argo CD does when the feature is off.
"""

from django.http import HttpRequest, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.engine.errors import Invalid, NotFound, Unimplemented
from hub.rest.views import View, actor
from projects import sources
from projects.api.applications import get_application
from projects.api.details import source_of
from projects.api.resources import place
from projects.objects.specs import require_source_permitted
from projects.sources import charts
from projects.sources.credentials import credentials_for


class Notifications(View):
    """`/notifications/{services,templates,triggers}`: none are configured."""

    permission = ("applications", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, kind: str) -> Response:
        """Return no names."""
        actor(request)
        if kind not in ("services", "templates", "triggers"):
            raise NotFound(f"notifications have services, templates and triggers, not {kind!r}")
        return Response({"items": []})


class Plugins(View):
    """`/settings/plugins`: there are no config management plugins."""

    permission = ("settings", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return no names."""
        actor(request)
        return Response({"plugins": []})


class Hydrator(View):
    """`/write-repositories` and `/write-repocreds`: credentials of the source hydrator."""

    permission = ("repositories", "signed-in")

    def _off(self, request: Request, rest: str = "") -> Response:
        del rest
        actor(request)
        raise Unimplemented("hydrator is disabled")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, rest: str = "") -> Response:
        """Refuse: the feature is off."""
        return self._off(request, rest)

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, rest: str = "") -> Response:
        """Refuse: the feature is off."""
        return self._off(request, rest)

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, rest: str = "") -> Response:
        """Refuse: the feature is off."""
        return self._off(request, rest)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, rest: str = "") -> Response:
        """Refuse: the feature is off."""
        return self._off(request, rest)


class ResourceLinks(View):
    """`/applications/{name}/resource/links`: deep links of a resource: none are configured."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return no links for an existing resource."""
        place(request, name, "get")
        return Response({"items": []})


class OCIMetadata(View):
    """`/applications/{name}/revisions/{revision}/ocimetadata`: metadata of an OCI artifact."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str, revision: str) -> Response:
        """Return its annotations under Argo CD's names."""
        application = get_application(request, name)
        source = source_of(request, application, lambda s: sources.kind_of(s) == "oci")
        if source is None:
            raise Invalid("the application has no source that is an OCI artifact")
        require_source_permitted(application, source)
        url = str(source["repoURL"])
        found = charts.annotations(url, revision, credentials_for(url, application.project))
        names = {
            "created": "createdAt",
            "authors": "authors",
            "url": "imageUrl",
            "documentation": "docsUrl",
            "source": "sourceUrl",
            "version": "version",
            "description": "description",
        }
        return Response(
            {
                ours: found[f"org.opencontainers.image.{theirs}"]
                for theirs, ours in names.items()
                if f"org.opencontainers.image.{theirs}" in found
            }
        )


def badge(_request: HttpRequest) -> HttpResponse:
    """Return a badge that says that badges are off, as Argo CD does by default."""
    return HttpResponse(
        "404 page not found\n", status=404, content_type="text/plain; charset=utf-8"
    )
