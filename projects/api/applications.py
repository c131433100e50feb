"""REST of applications: list, read, write, sync, roll back, delete."""

import base64
from typing import Any

import orjson
from django.conf import settings
from django.db.models import Q
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access import Caller, hide, is_allowed, require
from hub.api import (
    View,
    actor,
    body_map,
    flag,
    inner_map,
    must_agree,
    number,
    project_fields,
    selector,
)
from hub.engine.errors import Invalid, NotFound
from hub.engine.permits import normal_url
from hub.models import current_version
from projects import applications
from projects.api.waiting import wait_for_refresh
from projects.manifests import application_json
from projects.models import Application, Revision
from projects.refresh import request_refresh
from projects.specs import (
    application_named,
    bind,
    check_reason,
    is_namespace_permitted,
    normalized_spec,
    project_of_or_none,
    spec_problems,
)
from projects.visible import visible

_HEAVY = {
    "resources": "status.resources", "summary": "status.summary", "conditions": "status.conditions", "compared_to": "status.sync.comparedTo",
    "inputs": "-", "spec": "spec", "labels": "metadata.labels", "annotations": "metadata.annotations", "finalizers": "metadata.finalizers",
    "source_types": "status.sourceType",
}  # fmt: skip


def get_application(request: Request, name: str, action: str = "get") -> Application:
    """Return the application of a request if the caller may do `action` to it.

    Raises: AccessDenied also for one that is absent, unless the request names its project: then NotFound.
    """
    namespace = request.query_params.get("appNamespace") or settings.NAMESPACE
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
    """Return an application if the caller may do `action` to it; one that is absent looks like a forbidden one.

    Raises: AccessDenied; Precondition where its project asks for a reason.
    """
    if found is None or not is_allowed(
        caller, "applications", "get", found.rbac_object, found.where
    ):
        raise hide(caller, "applications", action, named, found.project if found else "")
    rules = project_of_or_none(found.project)
    if rules is not None and not is_namespace_permitted(found, rules):
        raise hide(caller, "applications", action, found.rbac_object, found.project)
    if action != "get":
        require(caller, "applications", action, found.rbac_object, found.project, found.where)
        check_reason(rules.spec if rules else {}, found.project)
    return found


def _wanted_columns(fields: str) -> set[str]:
    """Return the heavy columns that an answer can do without."""
    if not fields or fields.startswith("-"):
        return {"inputs"}
    paths = [
        p.removeprefix("items.").removeprefix("result.application.") for p in fields.split(",")
    ]
    return {
        column for column, path in _HEAVY.items()
        if not any(p == "items" or path.startswith(p) or p.startswith(path) for p in paths)
    }  # fmt: skip


def _wants(fields: str, path: str) -> bool:
    if not fields or fields.startswith("-"):
        return True
    return any(
        path.startswith(p.removeprefix("items."))
        or p.removeprefix("items.").startswith(path)
        or p == "items"
        for p in fields.split(",")
    )


def _page(request: Request) -> tuple[int, tuple[str, str] | None]:
    """Return how many applications a page has at most, 0 for all, and after which it begins.

    Raises: Invalid naming the parameter.
    """
    limit = number(request, "limit")
    if limit < 0:
        raise Invalid("limit must be a whole number from 0")
    token = request.query_params.get("continue", "")
    if not token:
        return limit, None
    try:
        name, namespace = orjson.loads(base64.urlsafe_b64decode(token.encode() + b"=="))
    except (ValueError, TypeError) as error:
        raise Invalid("continue must be what the page before had in metadata.continue") from error
    if not isinstance(name, str) or not isinstance(namespace, str):
        raise Invalid("continue must be what the page before had in metadata.continue")
    return limit, (name, namespace)


def _token(row: Application) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([row.name, row.namespace])).decode().rstrip("=")


def listed(request: Request, fields: str = "") -> tuple[list[dict[str, Any]], str]:
    """Return the applications that the query of a request chooses, as JSON, and where the next page begins."""
    limit, after = _page(request)
    query = visible(actor(request)).order_by("name", "namespace").defer(*_wanted_columns(fields))
    params = request.query_params
    projects = params.getlist("project") or params.getlist("projects")
    if projects:
        query = query.filter(project__in=projects)
    if params.get("name"):
        query = query.filter(name=params["name"])
    if params.get("appNamespace"):
        query = query.filter(namespace=params["appNamespace"])
    if _wants(fields, "status.operationState") or _wants(fields, "operation"):
        query = query.select_related("operation")
    else:
        query = query.defer(*_wanted_columns(fields))
    if after:
        query = query.filter(Q(name__gt=after[0]) | Q(name=after[0], namespace__gt=after[1]))
    found = query.select_related("cluster") if _wants(fields, "status.reconciledAt") else query
    # Labels and repositories are looked at here: only without them the database can stop early.
    is_plain = not params.get("selector") and not params.get("repo")
    rows = list(found[: limit + 1] if limit and is_plain else found)
    if params.get("selector"):
        fits = selector(params["selector"])
        rows = [row for row in rows if fits(row.labels)]
    if params.get("repo"):
        wanted = normal_url(params["repo"])
        rows = [
            row
            for row in rows
            if any(normal_url(str(s.get("repoURL", ""))) == wanted for s in row.sources)
        ]
    token = _token(rows[limit - 1]) if limit and len(rows) > limit else ""
    rows = rows[:limit] if limit else rows
    if fields and not fields.startswith("-") and _is_narrow(fields):
        return [_narrow(row) for row in rows], token
    history: dict[int, list[Revision]] = {}
    if _wants(fields, "status.history"):
        for revision in (
            Revision.objects.filter(application_id__in=[r.pk for r in rows])
            if len(rows) < 500
            else Revision.objects.filter(application__in=visible(actor(request)))
        ):
            history.setdefault(revision.application_id, []).append(revision)
    if _wants(fields, "status.reconciledAt") and len(rows) > 1:
        from django.db.models import prefetch_related_objects

        prefetch_related_objects(rows, "remotes")
    return [application_json(row, history=history.get(row.pk, [])) for row in rows], token


_NARROW = {
    "items.metadata.name", "items.metadata.namespace", "items.metadata.resourceVersion", "items.status.sync.status",
    "items.status.sync.revision", "items.status.sync", "items.status.health", "items.status.health.status", "metadata.resourceVersion",
}  # fmt: skip


def _is_narrow(fields: str) -> bool:
    return set(fields.split(",")) <= _NARROW - {"items.status.sync"}


def _narrow(row: Application) -> dict[str, Any]:
    sync: dict[str, Any] = {"status": row.sync_status}
    if row.revisions:
        sync["revision"] = row.revisions[0]
    return {
        "metadata": {"name": row.name, "namespace": row.namespace, "resourceVersion": str(row.resource_version)},
        "status": {"sync": sync, "health": {"status": row.health_status}},
    }  # fmt: skip


class Applications(View):
    """`/applications`: list and create."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List applications, filtered by name, project, namespace, repository and label selector.

        With `limit` (ours) at most so many, and `metadata.continue` for the next page.
        """
        fields = request.query_params.get("fields", "")
        version = current_version()
        items, after = listed(request, fields)
        more = {"continue": after} if after else {}
        answer = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "ApplicationList",
            "metadata": {"resourceVersion": str(version), **more},
            "items": items,
        }
        return Response(orjson.dumps(project_fields(answer, fields)))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create an application; with `upsert` change the one that exists."""
        wanted = applications.wanted_from(body_map(request, "the Application"))
        account = actor(request)
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
        rules = project_of_or_none(draft.project)
        check_reason(rules.spec if rules else {}, draft.project)
        _check(draft, validate=flag(request, "validate", default=True))
        application, _changed = applications.create(
            wanted, account.name, upsert=flag(request, "upsert")
        )
        return Response(
            application_json(application_named(application.namespace, application.name))
        )


def _require_same_or_update(
    caller: Caller, existing: Application, draft: Application, *, upsert: bool
) -> None:
    """Return if a caller may learn that an application exists, and change it when that is asked for."""
    if not is_allowed(caller, "applications", "get", existing.rbac_object, existing.where):
        raise hide(caller, "applications", "create", draft.rbac_object, draft.project)
    if upsert:
        require(
            caller, "applications", "update", existing.rbac_object, existing.project, existing.where
        )
        _require_move(caller, existing, draft)


def _require_move(caller: Caller, existing: Application, draft: Application) -> None:
    """Return if a caller may bring an application to where a draft has it: another project or cluster."""
    if draft.project != existing.project:
        require(caller, "applications", "create", draft.rbac_object, draft.project, draft.where)
    if draft.project != existing.project or draft.cluster != existing.cluster:
        require(caller, "applications", "update", draft.rbac_object, draft.project, draft.where)


def _check(draft: Application, *, validate: bool) -> None:
    bind(draft)
    if validate:
        applications.check(draft)
        return
    # Without validation the project's limits hold all the same.
    kept = [p for p in spec_problems(draft) if "project" in p]
    if kept:
        raise Invalid("; ".join(kept))


class OneApplication(View):
    """`/applications/{name}`: read, replace, patch, delete."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return an application; with `refresh` wait until it was looked at."""
        if (
            len(request.query_params.getlist("projects") or request.query_params.getlist("project"))
            > 1
        ):
            raise Invalid("project: name one project")
        application = get_application(request, name)
        refresh = request.query_params.get("refresh")
        if refresh:
            kind = "hard" if refresh == "hard" else "normal"
            request_refresh(application, kind)
            application = wait_for_refresh(application)
        return Response(
            project_fields(application_json(application), request.query_params.get("fields", ""))
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, name: str) -> Response:
        """Replace spec, labels, annotations and finalizers."""
        body = body_map(request, "the Application")
        must_agree(
            name,
            inner_map(body, "metadata").get("name"),
            "metadata.name",
        )
        application = get_application(request, name, "update")
        metadata = inner_map(body, "metadata")
        wanted = applications.wanted_from(
            {**body, "metadata": {**metadata, "name": name, "namespace": application.namespace}}
        )
        _check_version(application, metadata.get("resourceVersion"))
        draft = Application(namespace=wanted.namespace, name=name, spec=wanted.spec)
        bind(draft)
        _require_move(actor(request), application, draft)
        _check(draft, validate=flag(request, "validate", default=True))
        changed = applications.change(
            application,
            actor(request).name,
            spec=wanted.spec,
            labels=wanted.labels,
            annotations=wanted.annotations,
            finalizers=wanted.finalizers,
        )
        return Response(application_json(changed))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def patch(self, request: Request, name: str) -> Response:
        """Patch an application: `{patch, patchType}` with a merge patch or a JSON patch."""
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        application = get_application(request, name, "update")
        current = application_json(application)
        manifest = patched(current, body.get("patch"), str(body.get("patchType") or "json"))
        manifest["metadata"] = {
            **manifest["metadata"],
            "name": name,
            "namespace": application.namespace,
        }
        wanted = applications.wanted_from(manifest)
        draft = Application(namespace=wanted.namespace, name=name, spec=wanted.spec)
        bind(draft)
        _require_move(actor(request), application, draft)
        _check(draft, validate=True)
        changed = applications.change(
            application,
            actor(request).name,
            spec=wanted.spec,
            labels=wanted.labels,
            annotations=wanted.annotations,
            finalizers=wanted.finalizers,
        )
        return Response(application_json(changed))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete an application; with `cascade` (the default) its resources too."""
        application = get_application(request, name, "delete")
        if not flag(request, "cascade", default=True) and request.query_params.get(
            "propagationPolicy"
        ):
            raise Invalid("cannot set propagation policy when cascading is disabled")
        applications.request_deletion(
            application, actor(request).name, cascade=flag(request, "cascade", default=True),
            propagation=request.query_params.get("propagationPolicy", ""), confirmed=flag(request, "confirm"),
        )  # fmt: skip
        return Response({})


def _check_version(application: Application, version: Any) -> None:
    if version and str(version) != str(application.resource_version):
        from hub.engine.errors import Conflict

        raise Conflict(
            f"the application has changed since resourceVersion {version}; read it again and repeat the change"
        )


def patched(current: dict[str, Any], patch: Any, kind: str) -> dict[str, Any]:
    """Return an object after a patch in Argo CD's form: text, of type merge or json.

    Raises: Invalid when the patch cannot be read or applied.
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
        _check(draft, validate=flag(request, "validate", default=True))
        return Response(applications.change(application, actor(request).name, spec=spec).spec)
