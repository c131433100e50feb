"""REST of applications: list, read, write, sync, roll back, delete."""

from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access import require
from hub.api import View, actor, body_map, flag, must_agree, number, project_fields, selector
from hub.engine.errors import AccessDenied, EngineError, Invalid, NotFound, Precondition, Stalled
from hub.engine.options import parse_options
from hub.engine.permits import normal_url
from hub.models import current_version
from projects import applications, sources
from projects.api.waiting import wait_for_refresh
from projects.compare import comparison
from projects.manifests import application_json, operation_json
from projects.models import Application, ApplicationEvent, Operation, Revision
from projects.refresh import request_refresh, start_operation
from projects.sources import git
from projects.specs import application_named, find_cluster, normalized_spec, project_of
from projects.sync import terminate

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
    account = actor(request)
    try:
        application = application_named(namespace, name)
    except NotFound:
        if project:
            require(account, "applications", action, f"{project}/{name}", project)
            raise
        raise AccessDenied("permission denied") from None
    require(account, "applications", action, f"{application.project}/{name}", application.project)
    if project and project != application.project:
        raise NotFound(f'applications.argoproj.io "{name}" not found')
    return application


def _wanted_columns(fields: str) -> set[str]:
    """The heavy columns that an answer can do without."""
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


def listed(request: Request, fields: str = "") -> list[dict[str, Any]]:
    """Return the applications that the query of a request chooses, as JSON."""
    query = Application.objects.order_by("name", "namespace").defer(*_wanted_columns(fields))
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
    rows = list(query.select_related("cluster") if _wants(fields, "status.reconciledAt") else query)
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
    if fields and not fields.startswith("-") and _is_narrow(fields):
        return [_narrow(row) for row in rows]
    history: dict[int, list[Revision]] = {}
    if _wants(fields, "status.history"):
        for revision in (
            Revision.objects.filter(application_id__in=[r.pk for r in rows])
            if len(rows) < 500
            else Revision.objects.all()
        ):
            history.setdefault(revision.application_id, []).append(revision)
    if _wants(fields, "status.reconciledAt") and len(rows) > 1:
        from django.db.models import prefetch_related_objects

        prefetch_related_objects(rows, "remotes")
    return [application_json(row, history=history.get(row.pk, [])) for row in rows]


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
        """List applications, filtered by name, project, namespace, repository and label selector."""
        require(actor(request), "applications", "get", "*/*")
        fields = request.query_params.get("fields", "")
        version = current_version()
        items = listed(request, fields)
        answer = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "ApplicationList",
            "metadata": {"resourceVersion": str(version)},
            "items": items,
        }
        return Response(orjson.dumps(project_fields(answer, fields)))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create an application; with `upsert` change the one that exists."""
        wanted = applications.wanted_from(body_map(request, "the Application"))
        account = actor(request)
        require(
            account,
            "applications",
            "create",
            f"{wanted.spec['project']}/{wanted.name}",
            wanted.spec["project"],
        )
        draft = Application(namespace=wanted.namespace, name=wanted.name, spec=wanted.spec)
        _check(draft, validate=flag(request, "validate", default=True))
        application, _changed = applications.create(
            wanted, account.name, upsert=flag(request, "upsert")
        )
        return Response(
            application_json(application_named(application.namespace, application.name))
        )


def _check(draft: Application, *, validate: bool) -> None:
    from projects.specs import bind, spec_problems

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
            (body.get("metadata") or {}).get("name")
            if isinstance(body.get("metadata"), dict)
            else None,
            "metadata.name",
        )
        application = get_application(request, name, "update")
        metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
        wanted = applications.wanted_from(
            {**body, "metadata": {**metadata, "name": name, "namespace": application.namespace}}
        )
        _check_version(application, metadata.get("resourceVersion"))
        _check(
            Application(namespace=wanted.namespace, name=name, spec=wanted.spec),
            validate=flag(request, "validate", default=True),
        )
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
        _check(Application(namespace=wanted.namespace, name=name, spec=wanted.spec), validate=True)
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
        _check(
            Application(namespace=application.namespace, name=name, spec=spec),
            validate=flag(request, "validate", default=True),
        )
        return Response(applications.change(application, actor(request).name, spec=spec).spec)


class Sync(View):
    """`/applications/{name}/sync`: start a sync."""

    permission = ("applications", "sync")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Start a sync to a revision, resolved before it is stored."""
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        application = get_application(request, name, "sync")
        account = actor(request)
        if body.get("manifests"):
            require(
                account,
                "applications",
                "override",
                f"{application.project}/{name}",
                application.project,
            )
            if application.is_automated and not body.get("dryRun"):
                raise Precondition(
                    "cannot use local sync when Automatic Sync Policy is enabled unless for dry run"
                )
        if application.deletion_requested_at:
            raise Precondition("application is deleting")
        wanted = sources_at(application, body)
        revisions = resolved(application, wanted, body)
        sync = {
            k: body[k]
            for k in ("prune", "dryRun", "resources", "manifests", "revision", "revisions")
            if body.get(k)
        }
        sync["syncStrategy"] = _strategy(body.get("strategy"))
        sync["syncOptions"] = _sync_options(application, body)
        sync = {k: v for k, v in sync.items() if v not in (None, {}, [])}
        retry = body.get("retryStrategy") or application.sync_policy.get("retry")
        operation = {
            "sync": sync,
            "initiatedBy": {"username": account.name},
            **({"retry": retry} if retry else {}),
            **({"info": body["infos"]} if body.get("infos") else {}),
        }
        begin(application, operation, revisions, wanted, actor=account.name)
        return Response(application_json(application_named(application.namespace, name)))


def sources_at(application: Application, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of a sync with the revisions that the request names.

    Raises: Precondition when automated sync is on and another revision is asked for.
    """
    wanted = application.sources
    asked = body.get("revisions") or ([body["revision"]] if body.get("revision") else [])
    positions = body.get("sourcePositions") or list(range(1, len(asked) + 1))
    if len(positions) != len(asked):
        raise Invalid("revisions and sourcePositions must have the same length")
    result = [dict(s) for s in wanted]
    for position, revision in zip(positions, asked, strict=True):
        try:
            index = int(position) - 1
        except (TypeError, ValueError) as error:
            raise Invalid(f"sourcePositions: {position!r} must be a whole number") from error
        if not 0 <= index < len(result):
            raise Invalid(
                f"sourcePositions: the application has {len(result)} sources, not {position}"
            )
        if not isinstance(revision, str):
            raise Invalid("revision must be text")
        target = result[index].get("targetRevision") or ""
        if (
            application.is_automated
            and revision not in (target, "", target or "HEAD")
            and not body.get("dryRun")
        ):
            raise Precondition(
                f"Cannot sync to {revision}: auto-sync currently set to {target or 'HEAD'}"
            )
        result[index]["targetRevision"] = revision or target
    return result


def resolved(
    application: Application, wanted: list[dict[str, Any]], body: dict[str, Any]
) -> list[str]:
    """Return the exact revisions of a sync."""
    if body.get("manifests"):
        return list(application.revisions)
    return [sources.resolve(s, application.project, force=True) for s in wanted]


def _strategy(value: Any) -> dict[str, Any] | None:
    if value in (None, {}):
        return None
    if not isinstance(value, dict) or not set(value) <= {"apply", "hook"}:
        raise Invalid("strategy must be {apply: {force}} or {hook: {force}}")
    return {k: v or {} for k, v in value.items() if v is not None} or None


def _sync_options(application: Application, body: dict[str, Any]) -> list[str]:
    asked = body.get("syncOptions")
    items = asked.get("items") if isinstance(asked, dict) else asked
    options = items if items is not None else application.sync_policy.get("syncOptions") or []
    if not isinstance(options, list):
        raise Invalid("syncOptions.items must be a list")
    parse_options(options, "syncOptions")
    return options


def begin(
    application: Application,
    operation: dict[str, Any],
    revisions: list[str],
    wanted: list[Any],
    *,
    actor: str,
    rollback: bool = False,
) -> Operation:
    """Start an operation.

    Raises: Precondition when another one is running.
    """
    for entry in operation["sync"].get("resources") or []:
        if not isinstance(entry, dict) or not entry.get("kind") or not entry.get("name"):
            raise Invalid("resources: each entry needs group, kind and name")
    try:
        with transaction.atomic():
            # The spec's own sources are what automated sync compares with; a chosen revision is part of the revisions.
            kept = (
                application.sources
                if [s.get("repoURL") for s in wanted]
                == [s.get("repoURL") for s in application.sources]
                and not rollback
                else wanted
            )
            return start_operation(
                application, operation, revisions, kept, actor=actor, rollback=rollback
            )
    except IntegrityError as error:
        raise Precondition("another operation is already in progress") from error


class Rollback(View):
    """`/applications/{name}/rollback`: deploy an entry of the history again."""

    permission = ("applications", "sync")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Roll back to `id`, the last one before the current when 0 or absent."""
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        application = get_application(request, name, "sync")
        if application.deletion_requested_at:
            raise Precondition("application is deleting")
        if application.is_automated:
            raise Precondition("rollback cannot be initiated when auto-sync is enabled")
        entry = _history_entry(application, body.get("id"))
        sync: dict[str, Any] = {
            "syncStrategy": {"apply": {}}, "syncOptions": application.sync_policy.get("syncOptions") or [],
            **{k: True for k in ("prune", "dryRun") if body.get(k)},
            **({"revisions": entry.revisions} if entry.is_multi_source else {"revision": entry.revisions[0] if entry.revisions else ""}),
        }  # fmt: skip
        operation = {"sync": sync, "initiatedBy": {"username": actor(request).name}}
        begin(
            application,
            operation,
            entry.revisions,
            entry.sources,
            actor=actor(request).name,
            rollback=True,
        )
        return Response(application_json(application_named(application.namespace, name)))


def _history_entry(application: Application, number_: Any) -> Revision:
    try:
        wanted = int(number_ or 0)
    except (TypeError, ValueError) as error:
        raise Invalid(f"id must be a whole number, not {number_!r}") from error
    entries = list(application.history.all())
    if number_ is None and len(entries) > 1:
        return entries[-2]
    for entry in entries:
        if entry.number == wanted:
            return entry
    raise Invalid(f"application {application.name} does not have deployment with id {wanted}")


class OperationView(View):
    """`/applications/{name}/operation`: end what runs."""

    permission = ("applications", "sync")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Terminate the running operation."""
        application = get_application(request, name, "sync")
        try:
            terminate(application, actor(request).name)
        except Stalled as error:
            raise Precondition(error.message) from error
        return Response({})


class ConfirmDeletion(View):
    """`/applications/{name}/confirm-deletion`: say yes to what the deletion guard holds."""

    permission = ("applications", "delete")

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Approve the deletions that wait."""
        application = get_application(request, name, "delete")
        stamp = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        annotations = {**application.annotations, "argocd.argoproj.io/deletion-approved": stamp}
        changed = applications.change(application, actor(request).name, annotations=annotations)
        from hub import audit
        from hub.stream import wake

        audit.record(
            actor(request).name,
            "confirm-deletion",
            "application",
            changed.qualified_name,
            changed.project,
        )
        for pk in Operation.objects.filter(application=changed, phase="Running").values_list(
            "pk", flat=True
        ):
            Operation.objects.filter(pk=pk).update(due_at=timezone.now())
            wake("projects.sync", pk, priority=1)
        return Response(application_json(changed))


class Manifests(View):
    """`/applications/{name}/manifests`: what the source gives."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the rendered manifests at a revision; values of Secrets are masked."""
        from hub.engine.describe import redact

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
        revisions = [sources.resolve(s, application.project, force=True) for s in wanted]
        cluster = find_cluster(application.spec["destination"])
        context = sources.context_of(
            application,
            project_of(application.project).spec,
            cluster,
            no_cache=flag(request, "noCache"),
        )
        desired = sources.load(wanted, revisions, context)
        manifests = [orjson.dumps(redact(m)[0]).decode() for m in desired.manifests]
        return Response({
            "manifests": manifests, "namespace": application.dest_namespace, "server": cluster.server,
            "revision": revisions[0], "sourceType": desired.source_types[0],
        })  # fmt: skip


class Diff(View):
    """`/applications/{name}/diff` (ours): compare a revision without syncing."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the sync status of each resource at a revision."""
        application = get_application(request, name)
        asked = request.query_params.get("revision")
        wanted = sources_at(application, {"revision": asked, "dryRun": True})
        project, cluster = (
            project_of(application.project),
            find_cluster(application.spec["destination"]),
        )
        revisions = [sources.resolve(s, application.project, force=True) for s in wanted]
        desired = sources.load(
            wanted, revisions, sources.context_of(application, project.spec, cluster)
        )
        found = comparison(application, desired, cluster, project.spec)
        from projects.refresh import resource_json

        return Response(
            {"revisions": revisions, "resources": [resource_json(s) for s in found.states]}
        )


class Events(View):
    """`/applications/{name}/events`: what happened to the application or one of its resources."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return Kubernetes events of a resource of the tree, or the application's own."""
        application = get_application(request, name)
        params = request.query_params
        if params.get("resourceName") or params.get("resourceUID"):
            from projects.api.resources import resource_events

            return Response(
                resource_events(
                    application,
                    params.get("resourceNamespace", ""),
                    params.get("resourceName", ""),
                    params.get("resourceUID", ""),
                )
            )
        rows = ApplicationEvent.objects.filter(application_uid=application.uid).order_by("-pk")[
            : number(request, "limit", 200) or 200
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
        "metadata": {"name": f"{event.name}.{event.pk:x}", "namespace": event.namespace, "creationTimestamp": at},
        "involvedObject": {"kind": "Application", "namespace": event.namespace, "name": event.name, "uid": str(application.uid), "apiVersion": "argoproj.io/v1alpha1"},
        "reason": event.reason, "message": event.message, "type": event.kind, "count": 1, "firstTimestamp": at, "lastTimestamp": at,
    }  # fmt: skip


class RevisionMetadata(View):
    """`/applications/{name}/revisions/{revision}/metadata`: who made a commit, when and why."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str, revision: str) -> Response:
        """Return author, date, message and tags of a commit."""
        application = get_application(request, name)
        index = number(request, "sourceIndex")
        if not 0 <= index < len(application.sources):
            raise Invalid(f"sourceIndex: the application has {len(application.sources)} sources")
        source = application.sources[index]
        if sources.kind_of(source) != "git":
            raise Invalid(
                "only revisions of Git sources have metadata; see chartdetails and ocimetadata"
            )
        if not git.is_commit(revision):
            revision = sources.resolve({**source, "targetRevision": revision}, application.project)
        sources.files_of(source, revision, application.project)
        info = git.commit_info(str(source["repoURL"]), revision)
        remote = sources.remote_of(str(source["repoURL"]))
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
    """`/applications/{name}/revisions/{revision}/chartdetails`: what a chart says of itself."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str, revision: str) -> Response:
        """Return description, home and maintainers of a chart."""
        from hub.engine.documents import parse_yaml

        application = get_application(request, name)
        source = next((s for s in application.sources if s.get("chart")), None)
        if source is None:
            raise Invalid("the application has no source that is a chart of a repository")
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
    """`/applications/{name}/syncwindows`: when it may be synced."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the windows; none are set, so a sync is always allowed."""
        get_application(request, name)
        return Response({"canSync": True, "assignedWindows": [], "activeWindows": []})


class Links(View):
    """`/applications/{name}/links`: deep links."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the links that are configured: none."""
        get_application(request, name)
        return Response({"items": []})


class Plan(View):
    """`/flotilla/applications/{name}/operation` (ours): the plan of the last operation, step by step."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the steps in the order in which they run, with the state of each."""
        application = get_application(request, name)
        operation = application.operation
        if operation is None:
            raise NotFound(f"application {name} was never synced")
        return Response(
            {
                **operation_json(operation, multi=application.is_multi_source),
                "steps": operation.steps,
            }
        )
