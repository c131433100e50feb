"""REST API of applications: list, read, write, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import Caller, hide, is_allowed, require
from hub.audit import trail
from hub.base.yaml_json import to_json
from hub.engine.errors import AccessDenied, Invalid, NotFound, NotPermitted, Outdated
from hub.models import current_version
from hub.rest.views import (
    View,
    actor,
    asked,
    body_map,
    flag,
    inner_map,
    must_agree,
    namespace_of,
    placed,
    project_fields,
    text_at,
)
from projects.access.own_kinds import require_cascade
from projects.api.lists import listed
from projects.api.refreshes import refresh_kind, wait_for_refresh
from projects.models import Application
from projects.objects import applications
from projects.objects.manifests import application_json
from projects.objects.specs import (
    application_named,
    bind,
    check_reason,
    is_namespace_permitted,
    normalized_spec,
    project_of_or_none,
    spec_problems,
)
from projects.refreshing.refresh import request_refresh
from projects.refreshing.validation import is_same, require_manifests

# How often a patch is retried if the application is changed at the same time.
PATCH_ATTEMPTS = 5


def get_application(
    request: Request, name: str, action: str = "get", also: Sequence[str] = ()
) -> Application:
    """Return the application of a request if the caller may do `action` to it.

    Shapes: `also` are namespaces that the body names it by.
    Raises: AccessDenied, even if it does not exist; NotFound only if the request names its
        project.
    """
    namespace = namespace_of(request, "appNamespace", also=also)
    project = request.query_params.get("project") or ""
    caller = actor(request)
    found: Application | None = None
    try:
        found = application_named(namespace, name)
    except NotFound:
        pass
    if project:
        named = (
            f"{project}/{name}"
            if namespace == settings.NAMESPACE
            else f"{project}/{namespace}/{name}"
        )
        require(caller, "applications", "get", named, project)
        if found is None or found.project != project:
            raise NotFound(f'applications.argoproj.io "{name}" not found')
    return permitted(caller, found, f"{namespace}/{name}", action)


def permitted(caller: Caller, found: Application | None, named: str, action: str) -> Application:
    """Return an application if the caller may do `action` to it; absent looks like forbidden.

    Raises: AccessDenied; Protected if its project asks for a reason.
    """
    if found is None and is_allowed(caller, "applications", action, "*/*"):
        # No rule refused this caller, so it is not recorded as a refusal.
        raise AccessDenied("permission denied", recorded=True)
    if found is None or not is_allowed(
        caller, "applications", "get", found.rbac_object, found.where
    ):
        raise hide(caller, "applications", action, named, found.project if found else "")
    rules = project_of_or_none(found.project)
    if rules is not None and not is_namespace_permitted(found, rules):
        raise hide(caller, "applications", action, found.rbac_object, found.project)
    verb = action if action != "get" else ""
    where = found.cluster.name if found.cluster else ""
    trail.concern(verb, "applications", found.qualified_name, found.project, where)
    if action != "get":
        require(caller, "applications", action, found.rbac_object, found.project, found.where)
        check_reason(rules.spec if rules else {}, found.project)
    return found


def _sketch(body: Mapping[str, Any], namespace: str) -> Application:
    """Return the fields of an application in a body that access decisions read, unchecked."""
    spec = {
        "project": text_at(body, "spec", "project") or "default",
        "destination": {f: text_at(body, "spec", "destination", f) for f in ("server", "name")},
    }
    found = Application(namespace=namespace, name=text_at(body, "metadata", "name"), spec=spec)
    bind(found)
    return found


class Applications(View):
    """`/applications`: list and create."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List applications, filtered by name, project, namespace, repository and label selector.

        Flotilla only: `sort` by a column; `limit`, with `metadata.continue` for the next page;
        `facets` with counts of values; and the filters of the applications page (`health`,
        `sync`, `cluster`, `operation`, `freshness`, `auto`, `set`, `q`).
        """
        fields = request.query_params.get("fields", "")
        version = current_version()
        found = listed(request, fields)
        answer = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "ApplicationList",
            "metadata": {"resourceVersion": str(version), **found.more},
            "items": found.items,
        }
        facets = {"facets": found.facets} if found.facets is not None else {}
        return Response(to_json({**project_fields(answer, fields), **facets}))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create an application; with `upsert` change the one that exists."""
        account = actor(request)
        inside = text_at(asked(request), "metadata", "namespace")
        namespace = namespace_of(request, "appNamespace", also=[inside])
        sketch = _sketch(asked(request), namespace)
        require(account, "applications", "create", sketch.rbac_object, sketch.project, sketch.where)
        wanted = applications.wanted_from(placed(body_map(request, "the Application"), namespace))
        draft = Application(namespace=wanted.namespace, name=wanted.name, spec=wanted.spec)
        bind(draft)
        require(account, "applications", "create", draft.rbac_object, draft.project, draft.where)
        existing = (
            Application.objects.select_related("cluster")
            .filter(namespace=wanted.namespace, name=wanted.name)
            .first()
        )
        if existing is not None:
            _require_same_or_update(account, existing, draft, upsert=flag(request, "upsert"))
        trail.concern("create", "applications", draft.qualified_name, draft.project)
        rules = project_of_or_none(draft.project)
        check_reason(rules.spec if rules else {}, draft.project)
        _check(draft, existing, validate=flag(request, "validate", default=True))
        application, _changed = applications.create(
            replace(wanted, conditions=draft.conditions),
            account.name,
            upsert=flag(request, "upsert"),
        )
        return Response(
            application_json(application_named(application.namespace, application.name))
        )


def _require_same_or_update(
    caller: Caller, existing: Application, draft: Application, *, upsert: bool
) -> None:
    """Check that a caller may know that an application exists, and update it if `upsert` is set."""
    if not is_allowed(caller, "applications", "get", existing.rbac_object, existing.where):
        raise hide(caller, "applications", "create", draft.rbac_object, draft.project)
    if upsert:
        require(
            caller, "applications", "update", existing.rbac_object, existing.project, existing.where
        )
        _require_move(caller, existing, draft)


def _require_move(caller: Caller, existing: Application, draft: Application) -> None:
    """Check that a caller may move an application to the project or cluster of a draft."""
    if draft.project != existing.project:
        require(caller, "applications", "create", draft.rbac_object, draft.project, draft.where)
    if draft.project != existing.project or draft.cluster != existing.cluster:
        require(caller, "applications", "update", draft.rbac_object, draft.project, draft.where)


def _is_being_deleted_unchanged(application: Application, wanted: applications.Wanted) -> bool:
    """Return whether an application is being deleted and its spec stays.

    Its finalizers can then be changed even if the spec is invalid, which may block the deletion.
    """
    return application.deletion_requested_at is not None and wanted.spec == application.spec


def _check(draft: Application, existing: Application | None, *, validate: bool) -> None:
    """Check that an application may be stored: first its project's limits, then its sources.

    Raises: Invalid.
    """
    bind(draft)
    if validate:
        applications.check(draft)
        if existing is None or not is_same(existing, draft):
            require_manifests(draft)
        return
    # The project's limits apply even without validation.
    kept = [p for p in spec_problems(draft) if "project" in p]
    if kept:
        raise NotPermitted("; ".join(kept))


class OneApplication(View):
    """`/applications/{name}`: read, replace, patch, delete."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return an application; with `refresh`, after a refresh."""
        application = get_application(request, name)
        params = request.query_params
        if len(params.getlist("projects") or params.getlist("project")) > 1:
            raise Invalid("project: name one project")
        refresh = request.query_params.get("refresh")
        if refresh:
            request_refresh(application, refresh_kind(actor(request), application, refresh))
            application = wait_for_refresh(application)
        return Response(
            project_fields(application_json(application), request.query_params.get("fields", ""))
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, name: str) -> Response:
        """Replace spec, labels, annotations and finalizers."""
        inside = text_at(asked(request), "metadata", "namespace")
        application = get_application(request, name, "update", [inside])
        body = body_map(request, "the Application")
        must_agree(
            name,
            inner_map(body, "metadata").get("name"),
            "metadata.name",
        )
        metadata = inner_map(body, "metadata")
        wanted = applications.wanted_from(
            {**body, "metadata": {**metadata, "name": name, "namespace": application.namespace}}
        )
        draft = Application(namespace=wanted.namespace, name=name, spec=wanted.spec)
        bind(draft)
        _require_move(actor(request), application, draft)
        if not _is_being_deleted_unchanged(application, wanted):
            _check(draft, application, validate=flag(request, "validate", default=True))
        changed = applications.change(
            application,
            actor(request).name,
            spec=wanted.spec,
            labels=wanted.labels,
            annotations=wanted.annotations,
            finalizers=wanted.finalizers,
            version=metadata.get("resourceVersion"),
        )
        return Response(application_json(changed))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def patch(self, request: Request, name: str) -> Response:
        """Patch an application: `{patch, patchType}` with a merge patch or a JSON patch."""
        get_application(request, name, "update")
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        for attempt in range(PATCH_ATTEMPTS):
            try:
                return Response(application_json(_patch(request, name, body)))
            except Outdated:  # changed at the same time: patch the new version
                if attempt == PATCH_ATTEMPTS - 1:
                    raise
        raise AssertionError

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete an application; with `cascade` (the default) its resources too."""
        application = get_application(request, name, "delete")
        if not flag(request, "cascade", default=True) and request.query_params.get(
            "propagationPolicy"
        ):
            raise Invalid("cannot set propagation policy when cascading is disabled")
        if flag(request, "cascade", default=True):
            require_cascade(actor(request), application)
        applications.request_deletion(
            application,
            actor(request).name,
            cascade=flag(request, "cascade", default=True),
            propagation=request.query_params.get("propagationPolicy", ""),
            confirmed=flag(request, "confirm"),
        )
        return Response({})


def _patch(request: Request, name: str, body: dict[str, Any]) -> Application:
    application = get_application(request, name, "update")
    current = application_json(application)
    manifest = patched(current, body.get("patch"), str(body.get("patchType") or "json"))
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        raise Invalid("patch: metadata must stay an object")
    manifest["metadata"] = {**metadata, "name": name, "namespace": application.namespace}
    wanted = applications.wanted_from(manifest)
    draft = Application(namespace=wanted.namespace, name=name, spec=wanted.spec)
    bind(draft)
    _require_move(actor(request), application, draft)
    if not _is_being_deleted_unchanged(application, wanted):
        _check(draft, application, validate=flag(request, "validate", default=True))
    given = metadata.get("resourceVersion")
    applications.check_version(
        given, application.edited_version, application.resource_version, f"application {name}"
    )
    return applications.change(
        application,
        actor(request).name,
        spec=wanted.spec,
        labels=wanted.labels,
        annotations=wanted.annotations,
        finalizers=wanted.finalizers,
        version=application.resource_version,
    )


def patched(current: dict[str, Any], patch: Any, kind: str) -> dict[str, Any]:
    """Return an object after a patch in Argo CD's format: text, of type merge or json.

    Raises: Invalid if the patch cannot be parsed or applied.
    """
    import jsonpatch

    if not isinstance(patch, str | dict | list):
        raise Invalid("patch is required: a JSON text")
    try:
        parsed = orjson.loads(patch) if isinstance(patch, str) else patch
    except orjson.JSONDecodeError as error:
        raise Invalid(f"patch is not valid JSON: {error}") from error
    if kind in ("merge", "application/merge-patch+json"):
        if not isinstance(parsed, dict):
            raise Invalid("patch: a merge patch must be an object")
        return dict(_merged(current, parsed))
    if kind not in ("json", "", "application/json-patch+json"):
        raise Invalid(f"patchType must be merge or json, not {kind!r}")
    try:
        return dict(jsonpatch.apply_patch(current, parsed))
    except (
        jsonpatch.JsonPatchException,
        jsonpatch.JsonPointerException,
        TypeError,
        ValueError,
        KeyError,
    ) as error:
        raise Invalid(f"patch cannot be applied: {error}") from error


def _merged(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


class Spec(View):
    """`/applications/{name}/spec`: replace the spec only."""

    permission = ("applications", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, name: str) -> Response:
        """Replace the spec."""
        application = get_application(request, name, "update")
        spec = normalized_spec(body_map(request, "the spec"))
        draft = Application(namespace=application.namespace, name=name, spec=spec)
        bind(draft)
        _require_move(actor(request), application, draft)
        _check(draft, application, validate=flag(request, "validate", default=True))
        return Response(applications.change(application, actor(request).name, spec=spec).spec)
