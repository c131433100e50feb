"""REST API of operations: sync, roll back, terminate, confirm."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import Caller, is_allowed, require
from hub.audit import trail
from hub.engine.errors import (
    AccessDenied,
    Invalid,
    NotFound,
    Precondition,
    Protected,
    RuleError,
    Stalled,
)
from hub.engine.globs import check, check_count
from hub.engine.parsing import require_integer
from hub.engine.resource_selection import check_patterns, key_of, selection_problem
from hub.engine.shape_check import check_shape
from hub.engine.source_integrity import signature_requirement
from hub.engine.sync_options import parse_options
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import setting
from hub.rest.views import View, actor, body_map, must_agree
from projects import sources
from projects.api.applications import get_application
from projects.models import Application, Operation, Revision
from projects.objects import applications
from projects.objects.manifests import application_json, operation_json
from projects.objects.spec_fields import SYNC
from projects.objects.specs import application_named, project_of_or_none
from projects.objects.sync_windows import windows_of
from projects.operations.sync import terminate
from projects.refreshing.status import start_operation


class Sync(View):
    """`/applications/{name}/sync`: start a sync."""

    permission = ("applications", "sync")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Start a sync; its revision is resolved before it is stored."""
        check_windows(get_application(request, name, "get"))
        application = get_application(request, name, "sync")
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        begin_sync(actor(request), application, body)
        return Response(application_json(application_named(application.namespace, name)))


def begin_sync(account: Caller, application: Application, body: dict[str, Any]) -> None:
    """Start a sync for a caller who may sync; the revision is resolved before it is stored.

    Raises: Precondition, Protected or Invalid with the reason why it cannot run.
    """
    check_shape(body, SYNC, "")
    if body.get("manifests"):
        require_override(account, application)
        _refuse_unproved(application)
        if application.is_automated and not body.get("dryRun"):
            raise Protected(
                "cannot use local sync when Automatic Sync Policy is enabled unless for dry run"
            )
    if application.deletion_requested_at:
        raise Precondition("application is deleting")
    wanted = sources_at(application, body)
    if (
        wanted != application.sources
        and setting("require_override_for_revision", default=False) is True
    ):
        require_override(account, application)
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
    begin(application, operation, revisions, wanted, caller=account)


def _refuse_unproved(application: Application) -> None:
    project = project_of_or_none(application.project)
    try:
        demands = [
            signature_requirement(project.spec if project else {}, str(s.get("repoURL") or ""))
            for s in application.sources
        ]
    except RuleError as error:
        raise Protected(str(error)) from error
    if any(demands):
        raise Protected("cannot use local manifests: the project asks for signed commits")


def require_override(caller: Caller, application: Application) -> None:
    """Check that a caller may deploy something other than the spec's revision."""
    require(
        caller,
        "applications",
        "override",
        application.rbac_object,
        application.project,
        application.where,
    )


def check_windows(application: Application) -> None:
    """Check that the project's sync windows allow a manual sync now.

    Raises: AccessDenied with Argo CD's message.
    """
    if not windows_of(application, timezone.now()).can_sync(manual=True):
        raise AccessDenied("cannot sync: blocked by sync window")


def may_sync(caller: Caller, application: Application) -> bool:
    """Return whether a caller may sync: otherwise nothing beyond the current state is shown."""
    return is_allowed(caller, "applications", "sync", application.rbac_object, application.where)


def sources_at(application: Application, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of a sync with the revisions that the request names.

    Raises: Protected if automated sync is on and another revision is requested.
    """
    wanted = application.sources
    asked = body.get("revisions") or ([body["revision"]] if body.get("revision") else [])
    positions = body.get("sourcePositions") or list(range(1, len(asked) + 1))
    if len(positions) != len(asked):
        raise Invalid("revisions and sourcePositions must have the same length")
    result = [dict(s) for s in wanted]
    for position, revision in zip(positions, asked, strict=True):
        index = require_integer(position, "sourcePositions") - 1
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
            raise Protected(
                f"Cannot sync to {revision}: auto-sync currently set to {target or 'HEAD'}"
            )
        result[index]["targetRevision"] = revision or target
    return result


def resolved(
    application: Application, wanted: list[dict[str, Any]], body: dict[str, Any]
) -> list[str]:
    """Return the resolved revisions of a sync."""
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
    caller: Caller,
    rollback: bool = False,
) -> Operation:
    """Start an operation for a caller.

    Raises: Precondition if another operation is running.
    """
    _check_selection(application, operation["sync"], revisions)
    try:
        with transaction.atomic():
            # Automated sync compares with the sources of the spec, so the chosen revision is kept
            # apart.
            kept = (
                application.sources
                if [s.get("repoURL") for s in wanted]
                == [s.get("repoURL") for s in application.sources]
                and not rollback
                else wanted
            )
            return start_operation(
                application,
                operation,
                revisions,
                kept,
                actor=caller.name,
                rollback=rollback,
                caller=caller,
            )
    except IntegrityError as error:
        raise Precondition("another operation is already in progress") from error


def _check_selection(
    application: Application, sync: Mapping[str, Any], revisions: Sequence[str]
) -> None:
    """Check that the entries select a resource, as far as this is known without rendering.

    Raises: Invalid; RuleError naming an invalid pattern, or if there are too many entries.
    """
    entries = sync.get("resources") or []
    check_count(entries, "resources")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not entry.get("kind") or not entry.get("name"):
            raise Invalid("resources: each entry needs group, kind and name")
        for field in ("group", "kind", "name", "namespace"):
            # An invalid entry that excludes would exclude nothing.
            check(str(entry.get(field) or ""), f"resources[{number}].{field}")
    check_patterns(entries, "resources")
    is_known = list(revisions) == application.revisions and application.sync_status != "Unknown"
    if is_known and not sync.get("manifests"):
        wrong = selection_problem(
            entries, [key_of(r) for r in application.resources if not r.get("hook")]
        )
        if wrong:
            raise Invalid(f"resources: {wrong}")


class Rollback(View):
    """`/applications/{name}/rollback`: deploy an entry of the history again."""

    permission = ("applications", "sync")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Roll back to `id`; if it is 0 or absent, to the entry before the current one."""
        enforced = setting("enforce_rollback", default=False) is True
        application = get_application(request, name, "rollback" if enforced else "sync")
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        check_shape(body, SYNC, "")
        if application.deletion_requested_at:
            raise Precondition("application is deleting")
        if application.is_automated:
            raise Protected("rollback cannot be initiated when auto-sync is enabled")
        entry = _history_entry(application, body.get("id"))
        sync: dict[str, Any] = {
            "syncStrategy": {"apply": {}},
            "syncOptions": application.sync_policy.get("syncOptions") or [],
            **{k: True for k in ("prune", "dryRun") if body.get(k)},
            **(
                {"revisions": entry.revisions}
                if entry.is_multi_source
                else {"revision": entry.revisions[0] if entry.revisions else ""}
            ),
        }
        operation = {"sync": sync, "initiatedBy": {"username": actor(request).name}}
        begin(
            application,
            operation,
            entry.revisions,
            entry.sources,
            caller=actor(request),
            rollback=True,
        )
        return Response(application_json(application_named(application.namespace, name)))


def _history_entry(application: Application, number_: Any) -> Revision:
    wanted = require_integer(number_ or 0, "id")
    entries = list(application.history.all())
    if number_ is None and len(entries) > 1:
        return entries[-2]
    for entry in entries:
        if entry.number == wanted:
            return entry
    raise Invalid(f"application {application.name} does not have deployment with id {wanted}")


class OperationView(View):
    """`/applications/{name}/operation`: terminate the running operation."""

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
    """`/applications/{name}/confirm-deletion`: confirm deletions that the guard holds back."""

    permission = ("applications", "delete")

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Confirm the pending deletions."""
        application = get_application(request, name, "delete")
        stamp = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        annotations = {**application.annotations, "argocd.argoproj.io/deletion-approved": stamp}
        with transaction.atomic():
            changed = applications.change(application, actor(request).name, annotations=annotations)
            trail.record(
                actor(request).name,
                "confirm-deletion",
                "application",
                changed.qualified_name,
                changed.project,
                cluster=changed.cluster.name if changed.cluster else "",
                operation=changed.operation_id,
            )
        for pk in Operation.objects.filter(application=changed, phase="Running").values_list(
            "pk", flat=True
        ):
            Operation.objects.filter(pk=pk).update(due_at=timezone.now())
            wake(TaskName.PROJECTS_SYNC, pk, priority=1)
        return Response(application_json(changed))


class Plan(View):
    """`/flotilla/applications/{name}/operation` (Flotilla only): its steps."""

    permission = ("applications", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the steps in the order of execution, with their state."""
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
