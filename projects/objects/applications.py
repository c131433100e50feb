"""Create, update and delete applications and projects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from hub.access.decisions import set_project_roles
from hub.audit import trail
from hub.auth.api_tokens import revoke_tokens
from hub.engine.errors import Conflict, Invalid, NotFound, NotPermitted, Outdated, Protected
from hub.engine.parsing import parse_integer
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import ApiToken, Tombstone, next_version
from projects.models import FINALIZER, Application, Project
from projects.objects.manifests import (
    application_json,
    mirror,
    mirror_application,
    project_json,
    stamp,
)
from projects.objects.specs import (
    bind,
    bind_remotes,
    check_name,
    check_project,
    normalized_spec,
    spec_problems,
    spec_refusals,
)
from projects.objects.sync_windows import resume_blocked
from projects.sources.git_remotes import JUST_NOW

PROPAGATION = {
    "": FINALIZER,
    "foreground": f"{FINALIZER}/foreground",
    "background": f"{FINALIZER}/background",
}


class Owner(NamedTuple):
    """The application set, in the same namespace, that created an application."""

    name: str
    uid: UUID


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state of an application."""

    namespace: str
    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: list[str] = field(default_factory=list)
    owner: Owner | None = None
    conditions: list[dict[str, str]] = field(default_factory=list)
    """The initial status, before the first refresh."""


def wanted_from(manifest: Any) -> Wanted:
    """Return the application that a manifest describes.

    Raises: Invalid naming the field.
    """
    if not isinstance(manifest, dict):
        raise Invalid("the body must be an Application object")
    if manifest.get("kind") not in (None, "", "Application"):
        raise Invalid(f"kind must be Application, not {manifest['kind']!r}")
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        raise Invalid("metadata is required")
    namespace = metadata.get("namespace") or settings.NAMESPACE
    return Wanted(
        check_name(namespace, "metadata.namespace"),
        check_name(metadata.get("name")),
        normalized_spec(manifest.get("spec") or {}),
        text_map(metadata.get("labels"), "metadata.labels"),
        text_map(metadata.get("annotations"), "metadata.annotations"),
        text_list(metadata.get("finalizers"), "metadata.finalizers"),
    )


def text_map(value: Any, name: str) -> dict[str, str]:
    """Return a metadata field with string values.

    Raises: Invalid naming the field.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Invalid(f"{name} must be an object of texts")
    return dict(value)


def text_list(value: Any, name: str) -> list[str]:
    """Return a metadata field with a list of strings.

    Raises: Invalid naming the field.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise Invalid(f"{name} must be a list of texts")
    return list(value)


def check(application: Application) -> None:
    """Check that a new or changed application is valid.

    Raises: Invalid with every problem, NotPermitted if the project forbids one.
    """
    found = spec_problems(application)
    if found:
        kind = NotPermitted if spec_refusals(application) else Invalid
        raise kind(
            f"application spec for {application.name} is invalid: "
            + "; ".join(f"InvalidSpecError: {p}" for p in found)
        )


def create(wanted: Wanted, actor: str, *, upsert: bool = False) -> tuple[Application, bool]:
    """Create an application; return it, and whether it was created or updated.

    An existing application that is equal is returned unchanged.
    Raises: Invalid if a different one exists and `upsert` is not set; Conflict.
    """
    existing = (
        Application.objects.select_related("cluster", "operation")
        .filter(namespace=wanted.namespace, name=wanted.name)
        .first()
    )
    if existing is not None:
        if _is_same(existing, wanted):
            return existing, False
        if not upsert:
            raise Invalid("existing application spec is different, use upsert flag to force update")
        return _upsert(existing, wanted, actor), True
    application = Application(
        namespace=wanted.namespace,
        name=wanted.name,
        spec=wanted.spec,
        labels=wanted.labels,
        annotations=wanted.annotations,
        finalizers=wanted.finalizers,
        created_by=actor,
        conditions=wanted.conditions,
        refresh_requested_at=timezone.now() - JUST_NOW,
        **_owner_columns(wanted.owner),
    )
    bind(application)
    try:
        with transaction.atomic():
            _insert(application, actor)
    except IntegrityError as error:
        text = f'application "{wanted.name}" was created by another request at the same time'
        raise Conflict(text) from error
    return application, True


def _upsert(existing: Application, wanted: Wanted, actor: str) -> Application:
    return change(
        existing,
        actor,
        spec=wanted.spec,
        labels={**existing.labels, **wanted.labels},
        annotations={**existing.annotations, **wanted.annotations},
        finalizers=wanted.finalizers or existing.finalizers,
    )


def _insert(application: Application, actor: str) -> None:
    application.resource_version = application.edited_version = next_version()
    application.save()
    bind_remotes(application)
    trail.record(
        actor,
        "create",
        "application",
        application.qualified_name,
        application.project,
        cluster=application.cluster.name if application.cluster else "",
        after=_auditable(application),
    )
    mirror_application(application.pk)
    publish()
    wake(TaskName.PROJECTS_REFRESH, application.pk, priority=4)


def _owner_columns(owner: Owner | None) -> dict[str, Any]:
    return {"owner": owner.name, "owner_uid": owner.uid} if owner else {}


def notify_owner(application: Application) -> None:
    """Enqueue a reconciliation of the application set that created an application."""
    if application.owner:
        wake(TaskName.APPSETS_CHILD_CHANGED, application.namespace, application.owner, priority=4)


def notify_rollout(application: Application) -> None:
    """Continue the rollout that an application may be part of, which needs automated sync off."""
    if application.owner and not application.is_automated:
        wake(TaskName.APPSETS_CHILD_MOVED, application.namespace, application.owner, priority=4)


def _auditable(application: Application) -> dict[str, Any]:
    return {
        "spec": application.spec,
        "labels": application.labels,
        "annotations": application.annotations,
        "finalizers": application.finalizers,
    }


def _is_same(application: Application, wanted: Wanted) -> bool:
    return (application.spec, application.labels, application.annotations) == (
        wanted.spec,
        wanted.labels,
        wanted.annotations,
    ) and (set(wanted.finalizers) <= set(application.finalizers))


def check_version(given: Any, first: int, last: int, what: str) -> None:
    """Check that a change is based on the current spec, by the resource version that it gives.

    Versions from the last edit to the newest are accepted; None and "" skip the check.
    Raises: Invalid if it is not a number; Outdated.
    """
    if given in (None, ""):
        return
    version = parse_integer(given)
    if version is None or version < 0:
        text = f"must be the number of an earlier response, not {str(given)[:40]!r}"
        raise Invalid(f"metadata.resourceVersion {text}")
    if not first <= version <= last:
        raise Outdated(
            f"{what} was changed since resourceVersion {version} (now {last}); "
            "read it again and repeat the change"
        )


def change(
    application: Application,
    actor: str,
    *,
    spec: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    finalizers: list[str] | None = None,
    owner: Owner | None = None,
    version: Any = None,
) -> Application:
    """Update an application and enqueue its refresh; fields that are None stay.

    Raises: NotFound if it was deleted; Outdated if it was changed since `version`.
    """
    with transaction.atomic():
        current = Application.objects.select_for_update().filter(pk=application.pk).first()
        if current is None:
            raise NotFound(f'applications.argoproj.io "{application.name}" not found')
        name = f"application {current.name}"
        check_version(version, current.edited_version, current.resource_version, name)
        before = _auditable(current)
        if spec is not None and spec != current.spec:
            if not current.refresh_kind and _reads(spec) != _reads(current.spec):
                current.refresh_requested_at = timezone.now() - JUST_NOW
            current.spec = spec
            current.generation += 1
        current.labels = current.labels if labels is None else labels
        current.finalizers = current.finalizers if finalizers is None else finalizers
        current.refresh_at = timezone.now()
        if annotations is not None:
            current.annotations = annotations
            _request_refresh(current)
        for column, value in _owner_columns(owner).items():
            setattr(current, column, value)
        _update(current, actor, before)
        if owner is None:
            notify_owner(current)
    return Application.objects.select_related("cluster", "operation").get(pk=current.pk)


def _request_refresh(application: Application) -> None:
    """Request the refresh that the annotations of an application ask for."""
    kind = application.annotations.get("argocd.argoproj.io/refresh", "")
    if kind:
        application.refresh_kind = "hard" if kind == "hard" else "normal"
        application.refresh_requested_at = application.refresh_at


def _update(application: Application, actor: str, before: dict[str, Any]) -> None:
    bind(application)
    application.resource_version = application.edited_version = next_version()
    application.save()
    bind_remotes(application)
    trail.record(
        actor,
        "update",
        "application",
        application.qualified_name,
        application.project,
        cluster=application.cluster.name if application.cluster else "",
        before=before,
        after=_auditable(application),
    )
    mirror_application(application.pk)
    publish()
    is_deleting = application.deletion_requested_at is not None
    task = TaskName.PROJECTS_DELETE_APPLICATION if is_deleting else TaskName.PROJECTS_REFRESH
    wake(task, application.pk, priority=2)


def _reads(spec: Mapping[str, Any]) -> tuple[Any, Any]:
    return spec.get("source"), spec.get("sources")


def request_deletion(
    application: Application,
    actor: str,
    *,
    cascade: bool | None = True,
    propagation: str = "",
    confirmed: bool = False,
) -> None:
    """Request the deletion of an application; with `cascade` its resources are deleted first.

    If `cascade` is None, the application's finalizers decide, as with kubectl.
    Raises: Invalid for an unknown propagation policy, or one without cascade.
    """
    if propagation not in PROPAGATION:
        raise Invalid(f"invalid propagation policy: {propagation}")
    if cascade is False and propagation:
        raise Invalid("cannot set propagation policy when cascading is disabled")
    with transaction.atomic():
        current = Application.objects.select_for_update().get(pk=application.pk)
        others = [f for f in current.finalizers if not f.startswith(FINALIZER)]
        if cascade is False:
            current.finalizers = others
        elif (
            cascade and not current.deletion_requested_at and (propagation or not current.cascades)
        ):
            current.finalizers = [*others, PROPAGATION[propagation]]
        if confirmed:
            approved = {"argocd.argoproj.io/deletion-approved": stamp(timezone.now()) or ""}
            current.annotations = {**current.annotations, **approved}
        current.deletion_requested_at = current.deletion_requested_at or timezone.now()
        current.resource_version = next_version()
        current.refresh_at = timezone.now()
        current.save()
        trail.record(
            actor,
            "delete",
            "application",
            current.qualified_name,
            current.project,
            cascade=current.cascades,
            confirmed=confirmed,
        )
        mirror_application(current.pk)
        publish()
        wake(TaskName.PROJECTS_DELETE_APPLICATION, current.pk, priority=2)


def remove(application: Application) -> None:
    """Remove the row of a deleted application, and publish the deletion."""
    manifest = application_json(application, history=[])
    with transaction.atomic():
        Application.objects.filter(pk=application.pk).locked()
        version = next_version()
        manifest["metadata"]["resourceVersion"] = str(version)
        Tombstone.objects.create(
            resource_version=version,
            kind="Application",
            namespace=application.namespace,
            name=application.name,
            project=application.project,
            row=application.pk,
            manifest=manifest,
        )
        trail.record(
            "hub", "deleted", "application", application.qualified_name, application.project
        )
        mirror(manifest, gone=True)
        Application.objects.filter(pk=application.pk).delete()
        publish()
        notify_owner(application)


def save_project(
    manifest: Any, actor: str, *, upsert: bool = False, must_exist: bool = False
) -> Project:
    """Create or replace a project.

    A replacement with `metadata.resourceVersion` must be based on the current version.
    Raises: Invalid naming the field, or if it exists and may not be replaced; Outdated; NotFound.
    """
    if not isinstance(manifest, dict):
        raise Invalid("project must be an AppProject object")
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        raise Invalid("metadata is required")
    name = check_name(metadata.get("name"))
    spec = check_project(manifest.get("spec") or {}, name)
    existing = Project.objects.filter(name=name).first()
    if existing is None and must_exist:
        raise NotFound(f'appprojects.argoproj.io "{name}" not found')
    if existing is not None and not (upsert or must_exist):
        if existing.spec == spec:
            return existing
        raise Invalid("existing project spec is different, use upsert flag to force update")
    with transaction.atomic():
        project = Project(name=name)
        if existing is not None:
            project = _locked(name)
            version = project.resource_version
            given = metadata.get("resourceVersion") if must_exist else None
            check_version(given, version, version, f"project {name}")
        _store_project(project, spec, metadata, actor)
    return project


def _store_project(
    project: Project, spec: dict[str, Any], metadata: dict[str, Any], actor: str
) -> None:
    is_new, before = project.pk is None, project.spec
    # A change of the project may change what any of its applications may do.
    members = Application.objects.filter(project=project.name).locked()
    keys = list(members.values_list("pk", flat=True))
    members.update(refresh_at=timezone.now())
    resume_blocked()
    project.spec = spec
    project.labels = text_map(metadata.get("labels"), "metadata.labels")
    project.annotations = text_map(metadata.get("annotations"), "metadata.annotations")
    project.generation += 0 if is_new else 1
    project.resource_version = next_version()
    project.save()
    set_project_roles(project.name, spec.get("roles") or [])
    _end_tokens(project.name, actor, () if is_new else spec.get("roles") or ())
    trail.record(
        actor,
        "create" if is_new else "update",
        "project",
        project.name,
        project.name,
        before=None if is_new else before,
        after=spec,
    )
    mirror(project_json(project))
    publish()
    for pk in keys:
        wake(TaskName.PROJECTS_REFRESH, pk)


def _end_tokens(project: str, actor: str, roles: Iterable[Mapping[str, Any]]) -> None:
    """Revoke the tokens of roles that a project no longer has.

    They would be valid again for a later role or project of the same name.
    """
    kept = {role.get("name") for role in roles}
    valid = ApiToken.objects.filter(project=project, revoked_at=None).values_list("pk", "role")
    ended = [pk for pk, role in valid if role not in kept]
    revoke_tokens(ApiToken.objects.filter(pk__in=ended), actor)


def _locked(name: str) -> Project:
    found = Project.objects.select_for_update().filter(name=name).first()
    if found is None:
        raise NotFound(f'appprojects.argoproj.io "{name}" not found')
    return found


def delete_project(name: str, actor: str) -> None:
    """Delete a project that nothing uses.

    Raises: NotFound; Protected if it is `default` or applications refer to it.
    """
    project = Project.objects.filter(name=name).first()
    if project is None:
        raise NotFound(f'appprojects.argoproj.io "{name}" not found')
    if name == "default":
        raise Protected("name 'default' is reserved and cannot be deleted")
    used = Application.objects.filter(project=name).count()
    if used:
        raise Protected(f"project is referenced by {used} applications")
    with transaction.atomic():
        project.lock()
        mirror(project_json(project), gone=True)
        before, manifest, version = project.spec, project_json(project), next_version()
        manifest["metadata"]["resourceVersion"] = str(version)
        Tombstone.objects.create(
            resource_version=version,
            kind="AppProject",
            namespace="argocd",
            name=name,
            project=name,
            row=project.pk,
            manifest=manifest,
        )
        project.delete()
        set_project_roles(name, None)
        _end_tokens(name, actor, ())
        trail.record(actor, "delete", "project", name, name, before=before)
        publish()
