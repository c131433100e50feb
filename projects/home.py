"""The hub as a destination: its own kinds, applied to `in-cluster`, become rows here."""

from collections.abc import Callable
from typing import NamedTuple

from clusters.kube import Refused
from hub.engine.errors import Conflict, Invalid, NotFound, Precondition
from hub.engine.fields import MANAGER, applied_fields, owned_fields
from hub.engine.merge import predict
from hub.engine.normalize import without_nulls
from hub.engine.resource import Manifest
from projects import applications
from projects.manifests import application_json, project_json
from projects.models import Application, Project
from projects.specs import check_project

ACTOR = "app of apps"


class Served(NamedTuple):
    """How a kind of another app is read, written and deleted.

    Shapes: `get(namespace, name)`; `save(manifest, dry_run)` raises Invalid or Conflict; `delete(namespace, name)`.
    """

    get: Callable[[str, str], Manifest | None]
    save: Callable[[Manifest, bool], Manifest]
    delete: Callable[[str, str], None]


_others: dict[str, Served] = {}


def serve(kind: str, how: Served) -> None:
    """Let an app have its kind applied to the hub."""
    _others[kind] = how


def get(kind: str, namespace: str, name: str) -> Manifest | None:
    """Return one of the hub's own resources, None when there is none."""
    if kind == "Application":
        row = (
            Application.objects.select_related("cluster", "operation")
            .filter(namespace=namespace, name=name)
            .first()
        )
        return _with_owner(application_json(row, history=[])) if row else None
    if kind == "AppProject":
        project = Project.objects.filter(name=name).first()
        return _with_owner(project_json(project)) if project else None
    found = _others[kind].get(namespace, name) if kind in _others else None
    return _with_owner(found) if found else None


def _with_owner(manifest: Manifest) -> Manifest:
    # The hub owns every field of its own kinds, so that what leaves git leaves the row too.
    body = {k: v for k, v in manifest.items() if k not in ("status", "operation")}
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": applied_fields(body)}
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": [entry]}}


def apply(manifest: Manifest, *, dry_run: bool = False) -> Manifest:
    """Create or change one of the hub's own resources, and return it.

    Raises: Refused, as an API server would.
    """
    kind, metadata = manifest["kind"], manifest["metadata"]
    current = get(kind, metadata.get("namespace") or "argocd", metadata["name"])
    merged = (
        predict(without_nulls(manifest), current, owned_fields(current), {})
        if current
        else manifest
    )
    try:
        return _save(kind, merged, current, dry_run=dry_run)
    except (Invalid, Precondition) as error:
        raise Refused(422, "Invalid", str(error)) from error
    except Conflict as error:
        raise Refused(409, "Conflict", str(error)) from error


def _save(kind: str, merged: Manifest, current: Manifest | None, *, dry_run: bool) -> Manifest:
    if kind == "AppProject":
        if dry_run:
            check_project(merged.get("spec") or {}, str(merged["metadata"].get("name") or ""))
            return merged
        return _with_owner(project_json(applications.save_project(merged, ACTOR, upsert=True)))
    if kind in _others:
        return _with_owner(_others[kind].save(merged, dry_run))
    wanted = applications.wanted_from(merged)
    if dry_run:
        return merged
    row = (
        Application.objects.filter(namespace=wanted.namespace, name=wanted.name).first()
        if current
        else None
    )
    if row is None:
        row, _new = applications.create(wanted, ACTOR)
    else:
        row = applications.change(
            row,
            ACTOR,
            spec=wanted.spec,
            labels=wanted.labels,
            annotations=wanted.annotations,
            finalizers=wanted.finalizers,
        )
    row = Application.objects.select_related("cluster", "operation").get(pk=row.pk)
    return _with_owner(application_json(row, history=[]))


def delete(kind: str, namespace: str, name: str) -> None:
    """Ask for the deletion of one of the hub's own resources; an application cascades if its finalizers say so."""
    if kind == "Application":
        row = Application.objects.filter(namespace=namespace, name=name).first()
        if row is not None and not row.deletion_requested_at:
            applications.request_deletion(row, ACTOR, cascade=None)
    elif kind == "AppProject":
        try:
            applications.delete_project(name, ACTOR)
        except NotFound:
            return
        except Precondition as error:
            raise Refused(409, "Conflict", str(error)) from error
    elif kind in _others:
        _others[kind].delete(namespace, name)


def is_ours(group: str, kind: str) -> bool:
    """Return whether the hub itself serves a kind."""
    return group == "argoproj.io" and kind in ("Application", "AppProject", *_others)
