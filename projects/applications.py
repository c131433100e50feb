"""Create, change and delete applications and projects: what REST, the app of apps and the seed all do."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from hub.access.decisions import set_project_roles
from hub.audit import trail
from hub.engine.errors import Conflict, Invalid, NotFound, NotPermitted, Outdated, Protected
from hub.engine.parsing import parse_integer
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import Tombstone, next_version
from projects.manifests import application_json, mirror, mirror_application, project_json
from projects.models import FINALIZER, Application, Project
from projects.specs import (
    bind,
    bind_remotes,
    check_name,
    check_project,
    normalized_spec,
    spec_problems,
    spec_refusals,
)

PROPAGATION = {
    "": FINALIZER,
    "foreground": f"{FINALIZER}/foreground",
    "background": f"{FINALIZER}/background",
}


class Owner(NamedTuple):
    """The application set, of the same namespace, that an application comes from."""

    name: str
    uid: UUID


@dataclass(frozen=True, slots=True)
class Wanted:
    """An application as somebody wants it."""

    namespace: str
    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: list[str] = field(default_factory=list)
    owner: Owner | None = None


def wanted_from(manifest: Any) -> Wanted:
    """Return what a manifest asks for.

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
    """Return a field of metadata that holds texts by name; raises Invalid naming it."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Invalid(f"{name} must be an object of texts")
    return dict(value)


def text_list(value: Any, name: str) -> list[str]:
    """Return a field of metadata that lists texts; raises Invalid naming it."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise Invalid(f"{name} must be a list of texts")
    return list(value)


def check(application: Application) -> None:
    """Return if a new or changed application could work.

    Raises: Invalid with every reason that it could not.
    """
    found = spec_problems(application)
    if found:
        kind = NotPermitted if spec_refusals(application) else Invalid
        raise kind(
            f"application spec for {application.name} is invalid: "
            + "; ".join(f"InvalidSpecError: {p}" for p in found)
        )


def create(wanted: Wanted, actor: str, *, upsert: bool = False) -> tuple[Application, bool]:
    """Create an application; return it and whether it is new or changed.

    An equal one that exists is returned as it is.
    Raises: Invalid when another one has the name and `upsert` is not set.
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
        labels, annotations = (
            {**existing.labels, **wanted.labels},
            {**existing.annotations, **wanted.annotations},
        )
        return change(
            existing,
            actor,
            spec=wanted.spec,
            labels=labels,
            annotations=annotations,
            finalizers=wanted.finalizers or existing.finalizers,
        ), True
    application = Application(
        namespace=wanted.namespace,
        name=wanted.name,
        spec=wanted.spec,
        labels=wanted.labels,
        annotations=wanted.annotations,
        finalizers=wanted.finalizers,
        created_by=actor,
        **_owner_columns(wanted.owner),
    )
    bind(application)
    try:
        with transaction.atomic():
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
    except IntegrityError as error:
        raise Conflict(
            f'application "{wanted.name}" was created by somebody else at the same moment'
        ) from error
    return application, True


def _owner_columns(owner: Owner | None) -> dict[str, Any]:
    return {"owner": owner.name, "owner_uid": owner.uid} if owner else {}


def notify_owner(application: Application) -> None:
    """Have the application set that an application comes from look at it."""
    if application.owner:
        wake(TaskName.APPSETS_CHILD_CHANGED, application.namespace, application.owner, priority=4)


def notify_rollout(application: Application) -> None:
    """Have the rollout that an application may be part of carried on; such a one never syncs by itself."""
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
    """Return when a change builds on what is: on a resource version from the last change to the newest one.

    None and the empty text say nothing about it.
    Raises: Invalid for what no version is; Outdated.
    """
    if given in (None, ""):
        return
    version = parse_integer(given)
    if version is None or version < 0:
        raise Invalid(
            f"metadata.resourceVersion must be the number that an answer had, not {str(given)[:40]!r}"
        )
    if not first <= version <= last:
        raise Outdated(
            f"{what} was changed since resourceVersion {version} (now {last}); read it again and repeat the change"
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
    """Change an application, and look at it at once; what is None stays.

    Raises: NotFound when it is gone; Outdated when somebody changed it since `version`.
    """
    with transaction.atomic():
        current = Application.objects.select_for_update().filter(pk=application.pk).first()
        if current is None:
            raise NotFound(f'applications.argoproj.io "{application.name}" not found')
        check_version(
            version, current.edited_version, current.resource_version, f"application {current.name}"
        )
        refresh_kind, before = "", _auditable(current)
        if spec is not None and spec != current.spec:
            current.spec = spec
            current.generation += 1
        if labels is not None:
            current.labels = labels
        if annotations is not None:
            refresh_kind = annotations.get("argocd.argoproj.io/refresh", "")
            current.annotations = annotations
        if finalizers is not None:
            current.finalizers = finalizers
        for column, value in _owner_columns(owner).items():
            setattr(current, column, value)
        bind(current)
        current.refresh_at = timezone.now()
        if refresh_kind:
            current.refresh_kind = "hard" if refresh_kind == "hard" else "normal"
            current.refresh_requested_at = current.refresh_at
        current.resource_version = current.edited_version = next_version()
        current.save()
        bind_remotes(current)
        trail.record(
            actor,
            "update",
            "application",
            current.qualified_name,
            current.project,
            cluster=current.cluster.name if current.cluster else "",
            before=before,
            after=_auditable(current),
        )
        mirror_application(current.pk)
        publish()
        if owner is None:
            notify_owner(current)
        wake(
            TaskName.PROJECTS_DELETE_APPLICATION
            if current.deletion_requested_at
            else TaskName.PROJECTS_REFRESH,
            current.pk,
            priority=2,
        )
    return Application.objects.select_related("cluster", "operation").get(pk=current.pk)


def request_deletion(
    application: Application,
    actor: str,
    *,
    cascade: bool | None = True,
    propagation: str = "",
    confirmed: bool = False,
) -> None:
    """Ask for the deletion of an application; with `cascade` its resources go first.

    `cascade` None leaves it to the application's finalizers, as kubectl does.
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
            current.annotations = {
                **current.annotations,
                "argocd.argoproj.io/deletion-approved": timezone.now().strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                ),
            }
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
    """Remove the row of an application whose deletion is done; streams hear of it."""
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

    A replacement that names a `metadata.resourceVersion` replaces nothing newer.
    Raises: Invalid naming the field; Conflict when it exists and neither is wanted; Outdated; NotFound.
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
            given = metadata.get("resourceVersion") if must_exist else None
            check_version(
                given, project.resource_version, project.resource_version, f"project {name}"
            )
        before = project.spec if existing is not None else None
        # Everything that the project permits may have changed with it.
        of_it = Application.objects.filter(project=name).locked()
        concerned = list(of_it.values_list("pk", flat=True))
        of_it.update(refresh_at=timezone.now())
        project.spec = spec
        project.labels = text_map(metadata.get("labels"), "metadata.labels")
        project.annotations = text_map(metadata.get("annotations"), "metadata.annotations")
        if existing is not None:
            project.generation += 1
        project.resource_version = next_version()
        project.save()
        set_project_roles(name, spec.get("roles") or [])
        trail.record(
            actor,
            "update" if existing else "create",
            "project",
            name,
            name,
            before=before,
            after=spec,
        )
        mirror(project_json(project))
        publish()
        for pk in concerned:
            wake(TaskName.PROJECTS_REFRESH, pk)
    return project


def _locked(name: str) -> Project:
    found = Project.objects.select_for_update().filter(name=name).first()
    if found is None:
        raise NotFound(f'appprojects.argoproj.io "{name}" not found')
    return found


def delete_project(name: str, actor: str) -> None:
    """Delete a project that nothing uses.

    Raises: NotFound; Protected when it is `default` or applications refer to it.
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
        trail.record(actor, "delete", "project", name, name, before=before)
        publish()
