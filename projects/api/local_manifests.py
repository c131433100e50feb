"""REST API to render an application from local files instead of those in git."""

import base64
import binascii
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson
from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import is_allowed
from hub.audit import trail
from hub.engine.errors import EngineError, Invalid, ManifestError, NotFound, Protected
from hub.engine.node_info import redact
from hub.rest.framework import read_body
from hub.rest.views import View, actor, agreed_namespace, flag
from projects import sources
from projects.api.applications import permitted
from projects.api.resources import compared_items
from projects.comparison.compare import comparison
from projects.destinations.dry_runs import DryRunUse
from projects.models import Application, Project
from projects.objects.specs import application_named, find_cluster, project_of
from projects.sources import archives
from projects.sources.files import MemoryFiles, path_inside_root

_MAX_VALUES = 10_000


class LinesParser(BaseParser):
    """Parses a stream of concatenated JSON values, as grpc-gateway sends them."""

    media_type = "application/json"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the values."""
        del media_type
        found = []
        for number, text in enumerate(io.BytesIO(read_body(stream, parser_context)), 1):
            if not text.strip():
                continue
            # A chunk is a single string; a line with many values would need much memory.
            if sum(text.count(mark) for mark in (b"[", b"{", b",")) > _MAX_VALUES:
                raise Invalid(f"line {number} has more than {_MAX_VALUES} values")
            try:
                found.append(orjson.loads(text))
            except orjson.JSONDecodeError as error:
                raise Invalid(f"line {number} is not valid JSON: {error}") from error
        return found


class ManifestsWithFiles(View):
    """`/applications/manifestsWithFiles`: render an application with local files."""

    permission = ("applications", "get")
    parser_classes = (LinesParser,)

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Render an application with local files.

        The body is `{"query": {name, appNamespace, project, checksum, path, sourcePosition}}`,
        followed by lines of `{"chunk": {"chunk": …}}`: the parts of one tar.gz in base64.
        Flotilla only: `path` is the application's folder in it, and `compare=true` adds the
        difference to the live state.

        Values of Secrets are masked. Without the right `override`, no other charts and sources
        are loaded, and no dry run is made.
        """
        lines = request.data if isinstance(request.data, list) else []
        query = _query(lines)
        application = _application(request, query)
        archive = _archive(lines)
        project = project_of(application.project)
        if project.spec.get("signatureKeys") or project.spec.get("sourceIntegrity"):
            raise Protected("Cannot use local manifests when source integrity is enabled")
        files = _files(archive, query)
        # The same right as a sync of these files: rendering alone must not need less.
        is_trusted = is_allowed(
            actor(request), "applications", "override", application.rbac_object, application.where
        )
        desired, context_cluster = _rendered(application, project, files, query, trusted=is_trusted)
        answer: dict[str, Any] = {
            "manifests": [orjson.dumps(redact(m)[0]).decode() for m in desired.manifests],
            "namespace": application.dest_namespace,
            "server": context_cluster.server,
            "revision": "",
            "sourceType": next((t for t in desired.source_types if t), ""),
        }
        if flag(request, "compare"):
            use = DryRunUse.REUSE if is_trusted else DryRunUse.NEVER
            compared = comparison(
                application, desired, context_cluster, project.spec, narrow=True, dry_run_use=use
            )
            answer["items"] = compared_items(compared)
        return Response(answer)


def _query(lines: list[Any]) -> dict[str, Any]:
    """Return the application that a stream names, with the fields that access decisions read.

    Raises: Invalid if it names none.
    """
    first = lines[0].get("query") if lines and isinstance(lines[0], dict) else None
    if not isinstance(first, dict):
        raise Invalid('the first line must be {"query": {"name": …}}')
    return first


def _archive(lines: list[Any]) -> bytes:
    """Return the archive in a stream.

    Raises: Invalid naming what is missing.
    """
    return b"".join(_chunks(lines[1:]))


def _chunks(items: list[Any]) -> Iterator[bytes]:
    size = 0
    for number, item in enumerate(items, 2):
        chunk = item.get("chunk") if isinstance(item, dict) else None
        text = chunk.get("chunk") if isinstance(chunk, dict) else None
        if not isinstance(text, str):
            raise Invalid(f'line {number} must be {{"chunk": {{"chunk": "…"}}}}')
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise Invalid(f"line {number}: chunk is not base64: {error}") from error
        size += len(data)
        if size > settings.MAX_LOCAL_BYTES:
            raise Invalid(
                f"the files are larger than {settings.MAX_LOCAL_BYTES // 1024**2} MiB, the limit"
            )
        yield data


def _application(request: Request, query: Mapping[str, Any]) -> Application:
    name, caller = str(query.get("name") or ""), actor(request)
    given = [*request.query_params.getlist("appNamespace"), str(query.get("appNamespace") or "")]
    namespace = agreed_namespace(given, "appNamespace")
    found: Application | None
    try:
        found = application_named(namespace, name)
    except NotFound:
        found = None
    row = permitted(caller, found, f"{namespace}/{name}", "get")
    if query.get("project") not in (None, "", row.project):
        raise NotFound(f'applications.argoproj.io "{name}" not found')
    return row


def _files(archive: bytes, query: Mapping[str, Any]) -> MemoryFiles:
    checksum = query.get("checksum")
    if checksum not in (None, "") and checksum != hashlib.sha256(archive).hexdigest():
        raise Invalid("checksum: the files did not arrive as they were sent; send them again")
    try:
        return archives.unpack(archive, strip=False)
    except EngineError as error:
        raise Invalid(f"the files: {error}") from error


def _rendered(
    application: Application,
    project: Project,
    files: MemoryFiles,
    query: Mapping[str, Any],
    *,
    trusted: bool,
) -> tuple[sources.Desired, Any]:
    """Return the manifests with one source's files replaced, and the destination cluster.

    Raises: Invalid with the reason if they cannot be rendered.
    """
    number = _position(application, query.get("sourcePosition"))
    cluster = find_cluster(application.spec)
    context = sources.context_of(
        application, project.spec, cluster, no_cache=True, asker=trail.asker()
    )
    if not trusted:
        context = replace(context, project_spec={**project.spec, "sourceRepos": []})
    local = {k: v for k, v in application.sources[number].items() if k != "chart"}
    try:
        local["path"] = path_inside_root(str(query.get("path") or "."))
    except ManifestError as error:
        raise Invalid(f"path: {error}") from error
    others = list(application.sources) if trusted else []
    return sources.load_local(local, files, others, number, context), cluster


def _position(application: Application, value: Any) -> int:
    if value in (None, "", 0):
        return 0
    if not isinstance(value, int) or not 1 <= value <= len(application.sources):
        raise Invalid(f"sourcePosition must be from 1 to {len(application.sources)}")
    return value - 1
