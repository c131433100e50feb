"""REST API of an application's details: manifests, differences, events, revisions."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

import orjson
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.audit import trail
from hub.engine.errors import EngineError, Invalid
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.node_info import redact
from hub.engine.sync_windows import Window
from hub.rest.lists import limit_of
from hub.rest.views import View, actor, flag, number
from projects import sources
from projects.api.applications import get_application
from projects.api.operations import may_sync, sources_at
from projects.api.resources import resource_events
from projects.comparison.compare import comparison
from projects.models import Application, ApplicationEvent
from projects.objects.specs import find_cluster, project_of, require_source_permitted
from projects.objects.sync_windows import windows_of
from projects.refreshing.status import resource_json
from projects.sources import git, git_remotes


class Manifests(View):
    """`/applications/{name}/manifests`: the rendered manifests."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the rendered manifests at a revision; values of Secrets are masked."""
        application = get_application(request, name)
        asked = request.query_params.getlist("revisions") or (
            [request.query_params["revision"]] if request.query_params.get("revision") else []
        )
        wanted = sources_at(
            application,
            {
                "revisions": asked,
                "sourcePositions": request.query_params.getlist("sourcePositions") or None,
                "dryRun": True,
            },
        )
        for source in wanted:
            require_source_permitted(application, source)
        revisions = [sources.resolve(s, application.project, force=True) for s in wanted]
        cluster = find_cluster(application.spec)
        context = sources.context_of(
            application,
            project_of(application.project).spec,
            cluster,
            no_cache=flag(request, "noCache"),
            asker=trail.asker(),
        )
        desired = sources.load(wanted, revisions, context)
        manifests = [orjson.dumps(redact(m)[0]).decode() for m in desired.manifests]
        return Response(
            {
                "manifests": manifests,
                "namespace": application.dest_namespace,
                "server": cluster.server,
                "revision": revisions[0],
                "sourceType": desired.source_types[0],
            }
        )


class Diff(View):
    """`/applications/{name}/diff` (Flotilla only): compare a revision without syncing."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the sync status of each resource at a revision."""
        application = get_application(request, name)
        asked = request.query_params.get("revision")
        wanted = sources_at(application, {"revision": asked, "dryRun": True})
        for source in wanted:
            require_source_permitted(application, source)
        project, cluster = (
            project_of(application.project),
            find_cluster(application.spec),
        )
        revisions = [sources.resolve(s, application.project, force=True) for s in wanted]
        desired = sources.load(
            wanted,
            revisions,
            sources.context_of(application, project.spec, cluster, asker=trail.asker()),
        )
        narrow = bool(asked) and not may_sync(actor(request), application)
        found = comparison(application, desired, cluster, project.spec, narrow=narrow)
        return Response(
            {"revisions": revisions, "resources": [resource_json(s) for s in found.states]}
        )


class Events(View):
    """`/applications/{name}/events`: events of the application or one of its resources."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return Kubernetes events of a resource, or the application's own events."""
        application = get_application(request, name)
        params = request.query_params
        if params.get("resourceName") or params.get("resourceUID"):
            return Response(
                resource_events(
                    application,
                    params.get("resourceNamespace", ""),
                    params.get("resourceName", ""),
                    params.get("resourceUID", ""),
                )
            )
        rows = ApplicationEvent.objects.filter(application_uid=application.uid).order_by("-pk")[
            : limit_of(request) or 200
        ]
        return Response(
            {
                "apiVersion": "v1",
                "kind": "EventList",
                "metadata": {},
                "items": [_event_json(application, e) for e in rows],
            }
        )


def _event_json(application: Application, event: ApplicationEvent) -> dict[str, Any]:
    at = event.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {
            "name": f"{event.name}.{event.pk:x}",
            "namespace": event.namespace,
            "creationTimestamp": at,
        },
        "involvedObject": {
            "kind": "Application",
            "namespace": event.namespace,
            "name": event.name,
            "uid": str(application.uid),
            "apiVersion": "argoproj.io/v1alpha1",
        },
        "reason": event.reason,
        "message": event.message,
        "type": event.kind,
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
    }


def _is_git(source: dict[str, Any]) -> bool:
    return sources.kind_of(source) == "git"


def source_of(
    request: Request, application: Application, fits: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """Return the source `sourceIndex`, or the first that matches; of the deployment `versionId`.

    Raises: Invalid naming the parameter.
    """
    found = list(application.sources)
    if request.query_params.get("versionId"):
        wanted = number(request, "versionId")
        entry = next((e for e in application.history.all() if e.number == wanted), None)
        if entry is None:
            raise Invalid(
                f"versionId: application {application.name} has no deployment with id {wanted}"
            )
        found = list(entry.sources)
    if request.query_params.get("sourceIndex", "") == "":
        return next((s for s in found if fits(s)), None)
    index = number(request, "sourceIndex")
    if not 0 <= index < len(found):
        raise Invalid(f"sourceIndex: the application has {len(found)} sources")
    return found[index] if fits(found[index]) else None


class RevisionMetadata(View):
    """`/applications/{name}/revisions/{revision}/metadata`: metadata of a commit."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str, revision: str) -> Response:
        """Return author, date, message and tags of a commit."""
        application = get_application(request, name)
        source = source_of(request, application, _is_git)
        if source is None:
            raise Invalid(
                "only revisions of Git sources have metadata; see chartdetails and ocimetadata"
            )
        require_source_permitted(application, source)
        if not git.is_commit(revision):
            revision = sources.resolve({**source, "targetRevision": revision}, application.project)
        sources.files_of(source, revision, application.project)
        url = str(source["repoURL"])
        remote = git_remotes.remote_of(url, application.project)
        info = git.commit_info(remote.url, revision)
        tags = sorted(
            n.removeprefix("refs/tags/")
            for n, c in remote.refs.items()
            if n.startswith("refs/tags/") and c == revision
        )
        answer = {
            "author": info.author,
            "date": info.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "message": info.message.strip(),
        }
        return Response({**answer, **({"tags": tags} if tags else {})})


class ChartDetails(View):
    """`/applications/{name}/revisions/{revision}/chartdetails`: metadata of a chart."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str, revision: str) -> Response:
        """Return description, home and maintainers of a chart."""
        application = get_application(request, name)
        source = source_of(request, application, lambda s: bool(s.get("chart")))
        if source is None:
            raise Invalid("the application has no source that is a chart of a repository")
        require_source_permitted(application, source)
        files = sources.files_of(source, revision, application.project)
        try:
            chart = parse_yaml(files.blob("Chart.yaml").decode())[0]
        except (EngineError, KeyError, IndexError) as error:
            raise Invalid("the chart has no readable Chart.yaml") from error
        maintainers = [
            f"{m.get('name', '')} <{m.get('email', '')}>" for m in chart.get("maintainers") or []
        ]
        return Response(
            {
                "description": chart.get("description", ""),
                "home": chart.get("home", ""),
                "maintainers": maintainers,
            }
        )


class SyncWindows(View):
    """`/applications/{name}/syncwindows`: the sync windows of the application."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the windows, whether a manual sync is allowed now, and when that may change."""
        windows = windows_of(get_application(request, name), timezone.now())
        reopens = windows.reopens_at()
        return Response(
            {
                "canSync": windows.can_sync(manual=True),
                "assignedWindows": [_window_json(w) for w in windows.assigned],
                "activeWindows": [_window_json(w) for w in windows.active],
                **(
                    {"flotillaChangesAt": reopens.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
                    if reopens
                    else {}
                ),
            }
        )


def _window_json(window: Window) -> dict[str, Any]:
    spec = window.spec
    return {
        "kind": spec.get("kind"),
        "schedule": spec.get("schedule"),
        "duration": spec.get("duration"),
        "manualSync": bool(spec.get("manualSync")),
        **({"timeZone": spec["timeZone"]} if spec.get("timeZone") else {}),
    }


class Links(View):
    """`/applications/{name}/links`: deep links."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return no links, as none can be configured."""
        get_application(request, name)
        return Response({"items": []})
