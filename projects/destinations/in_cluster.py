"""The destination `in-cluster`: the hub itself, which stores its own kinds as rows."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from django.conf import settings

from clusters.kinds import Refused
from hub.engine.apply_merge import Ownership, merge_for_apply
from hub.engine.errors import AccessDenied, Conflict, Invalid, NotFound, Precondition
from hub.engine.field_sets import MANAGER, applied_fields, owned_fields
from hub.engine.normalize import without_nulls
from hub.engine.resource import Manifest, ResourceKey
from hub.engine.schema import OBJECT
from projects.access.own_kinds import GROUP, Author, Name, project_in, record_refusal, refusal
from projects.models import Application, Project
from projects.objects import applications
from projects.objects.manifests import application_json, project_json
from projects.objects.specs import bind, check_project, spec_problems

ACTOR = "app of apps"


class Served(NamedTuple):
    """How the hub reads, saves and deletes a kind of another Django app.

    Shapes: `get(namespace, name)`; `save(manifest, dry_run)` raises Invalid or Conflict;
        `delete(namespace, name)`.
    """

    get: Callable[[str, str], Manifest | None]
    save: Callable[[Manifest, bool], Manifest]
    delete: Callable[[str, str], None]


_others: dict[str, Served] = {}


def serve(kind: str, how: Served) -> None:
    """Register a kind that can be applied to the hub."""
    _others[kind] = how


def get(kind: str, namespace: str, name: str) -> Manifest | None:
    """Return one of the hub's own resources, None if it does not exist."""
    if kind == "Application":
        row = (
            Application.objects.select_related("cluster", "operation")
            .filter(namespace=namespace, name=name)
            .first()
        )
        return _with_owner(application_json(row, history=[])) if row else None
    if kind == "AppProject":
        if namespace != settings.NAMESPACE:
            return None
        project = Project.objects.filter(name=name).first()
        return _with_owner(project_json(project)) if project else None
    found = _others[kind].get(namespace, name) if kind in _others else None
    return _with_owner(found) if found else None


def _with_owner(manifest: Manifest) -> Manifest:
    # The hub owns every field of its own kinds: a field that is removed in Git is removed here.
    body = {k: v for k, v in manifest.items() if k not in ("status", "operation")}
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": applied_fields(body)}
    return {**manifest, "metadata": {**manifest["metadata"], "managedFields": [entry]}}


def _name_of(manifest: Manifest) -> Name:
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace") or settings.NAMESPACE
    return Name(manifest["kind"], namespace, str(metadata.get("name") or ""))


class _Change(NamedTuple):
    """The result of applying a manifest, before it is saved."""

    name: Name
    current: Manifest | None
    merged: Manifest

    @property
    def is_none(self) -> bool:
        """Whether nothing would change: then nothing is written and no permission is needed."""
        return self.current is not None and _written(self.current) == _written(self.merged)


def _written(manifest: Mapping[str, object]) -> dict[str, object]:
    metadata = manifest.get("metadata")
    fields = ("labels", "annotations", "finalizers")
    kept = {f: metadata.get(f) or None for f in fields} if isinstance(metadata, Mapping) else {}
    return {"apiVersion": manifest.get("apiVersion"), "spec": manifest.get("spec"), **kept}


def _change(manifest: Manifest) -> _Change:
    name = _name_of(manifest)
    current = get(*name)
    if current is None:
        return _Change(name, None, manifest)
    owner = Ownership(owned_fields(current), dict)
    merged = merge_for_apply(without_nulls(manifest), current, OBJECT, owner)[0]
    return _Change(name, current, dict(merged))


def why_not(manifest: Manifest, author: Author) -> str:
    """Return why one of the hub's own resources must not be applied, empty if it may be."""
    change = _change(manifest)
    return "" if change.is_none else refusal(author, change.name, change.merged, change.current)


def why_not_deletable(key: ResourceKey, author: Author) -> str:
    """Return why one of the hub's own resources must not be deleted, empty if it may be."""
    name = Name(key.kind, key.namespace, key.name)
    current = get(*name)
    return refusal(author, name, None, current) if current else ""


def _refuse(author: Author | None, action: str, name: Name, reason: str) -> None:
    if author is None:
        raise Refused(403, "Forbidden", f"{name}: the hub's own kinds need a known author")
    if reason:
        record_refusal(author, action, name, reason)
        raise Refused(403, "Forbidden", f"{name}: {reason}")


def check(manifest: Manifest, author: Author | None) -> None:
    """Check that one of the hub's own resources may be applied, and record a refusal.

    Raises: Refused naming the resource and the rule.
    """
    change = _change(manifest)
    if author is not None and change.is_none:
        return
    reason = refusal(author, change.name, change.merged, change.current) if author else ""
    _refuse(author, "update" if change.current else "create", change.name, reason)


def apply(manifest: Manifest, author: Author | None, *, dry_run: bool = False) -> Manifest:
    """Create or update one of the hub's own resources, and return it.

    Raises: Refused, as an API server would.
    """
    try:
        check(manifest, author)
        change = _change(manifest)
        if change.current is not None and change.is_none:
            return change.current
        return _save(change, dry_run=dry_run)
    except AccessDenied as error:
        raise Refused(403, "Forbidden", str(error)) from error
    except Conflict as error:
        raise Refused(409, "Conflict", str(error)) from error
    except (Invalid, Precondition) as error:
        raise Refused(422, "Invalid", str(error)) from error


def _save(change: _Change, *, dry_run: bool) -> Manifest:
    kind, merged = change.name.kind, change.merged
    if kind == "AppProject":
        if dry_run:
            check_project(merged.get("spec") or {}, str(merged["metadata"].get("name") or ""))
            return merged
        return _with_owner(project_json(applications.save_project(merged, ACTOR, upsert=True)))
    if kind in _others:
        return _with_owner(_others[kind].save(merged, dry_run))
    wanted = applications.wanted_from(merged)
    _check_limits(wanted)
    if dry_run:
        return merged
    rows = Application.objects.filter(namespace=wanted.namespace, name=wanted.name)
    row = rows.first() if change.current else None
    if row is not None and change.current is not None and row.project != project_in(change.current):
        raise Conflict(f"{change.name} was moved to another project at the same time: sync again")
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


def _check_limits(wanted: applications.Wanted) -> None:
    """Check that the project permits an application; other problems become its conditions.

    Raises: Invalid.
    """
    if not Project.objects.filter(name=wanted.spec["project"]).exists():
        return
    draft = Application(namespace=wanted.namespace, name=wanted.name, spec=wanted.spec)
    bind(draft)
    beyond = [p for p in spec_problems(draft) if "project" in p]
    if beyond:
        raise Invalid("; ".join(beyond))


def delete(kind: str, namespace: str, name: str, author: Author | None) -> None:
    """Request the deletion of one of the hub's own resources; finalizers decide the cascade.

    Raises: Refused, as an API server would.
    """
    named = Name(kind, namespace, name)
    current = get(*named)
    if current is None:
        return
    _refuse(author, "delete", named, refusal(author, named, None, current) if author else "")
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
    return group == GROUP and kind in ("Application", "AppProject", *_others)
