"""Apply and delete resources of a destination: a cluster, or the hub for its own kinds."""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from clusters import live
from clusters.kinds import Kind, Refused
from clusters.kube import JSON_PATCH, Connection, connect, kind_of, secretless
from clusters.models import Cluster
from clusters.schemas import types_of
from hub.base.metrics import DRY_RUNS
from hub.engine.apply_merge import merge_for_apply, ownership
from hub.engine.diff import CompareSettings, compare_locally
from hub.engine.errors import EngineError, ManifestError, Stalled
from hub.engine.field_sets import MANAGER, is_unowned, owned_fields
from hub.engine.health import HOOK_FINALIZER
from hub.engine.prerequisites import Refusal
from hub.engine.resource import Manifest, ResourceKey, resource_key, split_api_version
from hub.engine.schema import OBJECT, Type
from hub.engine.sent_manifest import Preserved, manifest_to_send
from hub.engine.sync_options import ResourceOptions
from projects.access.own_kinds import Author
from projects.destinations import dry_runs, in_cluster


def _no_jq(_expression: str, value: Any) -> Any:
    return value


_CLIENT_SIDE_MANAGERS = (
    "kubectl-client-side-apply",
    "kubectl-create",
    "kubectl-edit",
    "argocd-controller",
    "argocd-application-controller",
)
_NEVER_RECREATED = ("CustomResourceDefinition", "Namespace")
"""Kinds whose deletion would delete resources of others: they are only updated."""
_DATA = ("PersistentVolumeClaim", "PersistentVolume")
_BEFORE_FIRST_APPLY = "before-first-apply"
"""The manager that an API server sets for fields without a manager before an apply."""
_OLDER_VERSION = "failed to prune fields"
"""In the answer to an apply whose fields an older version of a field manager does not have."""
_GENERATED = 5
"""Characters that an API server appends to `generateName`."""


class PendingDeletion(Exception):
    """A resource that is being recreated still exists."""

    def __init__(self, key: ResourceKey) -> None:
        super().__init__(f"waiting for deletion of {key} before it is recreated")


def _may_recreate(kind: Kind, options: ResourceOptions) -> bool:
    # Volumes are only recreated if their own manifest says Force=true.
    if kind.kind in _DATA and not kind.group:
        return options.own.get("Force") == "true"
    return kind.kind not in _NEVER_RECREATED


def _require_not_deleting(manifest: Manifest, current: Manifest | None, *, force: bool) -> None:
    if force and current is not None and current["metadata"].get("deletionTimestamp"):
        raise PendingDeletion(resource_key(manifest))


def _with_own_name(message: str, prefix: str, name: str) -> str:
    """Replace the generated name in the answer to a trial creation."""
    before, found, after = message.partition(prefix)
    return f"{before}{name}{after[_GENERATED:]}" if found else message


def _updated_by(current: Manifest, managers: Collection[str]) -> list[int]:
    """Return the indexes of managedFields entries that are updates by one of the managers."""
    entries = (current.get("metadata") or {}).get("managedFields") or []
    return [
        n
        for n, e in enumerate(entries)
        if e.get("manager") in managers
        and e.get("operation") == "Update"
        and not e.get("subresource")
    ]


def _removals(numbers: list[int]) -> list[dict[str, Any]]:
    # In reverse order, as each removal shifts the entries behind it.
    return [{"op": "remove", "path": f"/metadata/managedFields/{n}"} for n in reversed(numbers)]


@dataclass(frozen=True, slots=True)
class Target:
    """The destination in which an application's resources are changed."""

    cluster: Cluster
    migrate: bool = True
    migration_manager: str = ""
    as_user: str | Stalled = ""
    """The user to impersonate, empty for the hub itself; or why there is none."""
    author: Author | None = None
    """The author of changes of the hub's own kinds; without one they are refused."""

    @property
    def user(self) -> str:
        """The user of dry runs; without a valid user nothing is applied, whatever they return."""
        return "" if isinstance(self.as_user, Stalled) else self.as_user

    @property
    def connection(self) -> Connection:
        """The connection to the cluster.

        Raises: Stalled if the project names no service account to impersonate.
        """
        if isinstance(self.as_user, Stalled):
            raise self.as_user
        return connect(self.cluster, self.as_user)

    def published(self, group: str) -> dict[str, str]:
        """Return the published schema hash of each version of an API group."""
        prefix = f"apis/{group}/"
        try:
            paths = self.connection.request("GET", "/openapi/v3").get("paths") or {}
        except Refused:
            return {}
        return {
            path.removeprefix(prefix): str((entry or {}).get("serverRelativeURL", ""))
            for path, entry in paths.items()
            if path.startswith(prefix)
        }

    def is_home(self, key: ResourceKey) -> bool:
        """Return whether the hub itself serves a resource."""
        return self.cluster.is_home and in_cluster.is_ours(key.group, key.kind)

    def kind(self, manifest: Manifest) -> Kind:
        """Return how the cluster serves a manifest's kind.

        Raises: Refused with status 404 if it does not.
        """
        found = kind_of(self.connection, manifest)
        if found is None:
            name = f"{manifest['apiVersion']}/{manifest['kind']}"
            text = f"The Kubernetes API could not find {name}"
            raise Refused(404, "NotFound", f"{text}; is its CustomResourceDefinition installed?")
        return found

    def get(self, key: ResourceKey, version: str = "") -> Manifest | None:
        """Return a live resource, read from the cluster."""
        if self.is_home(key):
            return in_cluster.get(key.kind, key.namespace, key.name)
        kind = self.connection.kind(key.group, key.kind, version) or self.connection.kind(
            key.group, key.kind
        )
        return self.connection.get(kind, key.namespace, key.name) if kind else None

    def apply(
        self,
        manifest: Manifest,
        options: ResourceOptions,
        current: Manifest | None,
        *,
        preserved: Preserved | None = None,
        dry_run: bool = False,
        force: bool = False,
    ) -> Manifest:
        """Apply a manifest and return the resource; the live store is updated at once.

        Shapes: `manifest` as in Git, with namespace and marks; it is prepared by `to_send`.
        Raises: Refused with the server's reason, without the content of a Secret; as `to_send`.
        """
        manifest = self.to_send(manifest, current, preserved)
        if self.is_home(resource_key(manifest)):
            return in_cluster.apply(manifest, self.author, dry_run=dry_run)
        if dry_run:
            DRY_RUNS.labels(self.cluster.server, "sync").inc()
        try:
            result = self._apply(
                self.kind(manifest),
                manifest,
                options,
                current,
                dry_run=dry_run,
                force=force or options.own.get("Force") == "true",
            )
        except Refused as refused:
            raise secretless(refused, manifest) from refused
        if not dry_run:
            live.record(self.cluster.pk, [live.Seen(result, is_whole=True)], quiet=True)
            self._learn(manifest, result, options)
        return result

    def to_send(
        self, manifest: Manifest, current: Manifest | None, preserved: Preserved | None = None
    ) -> Manifest:
        """Return a manifest as it is sent.

        Raises: Refused for a repeated list element that API servers reject; RuleError for a rule
            of `ignoreDifferences` that fails.
        """
        type_ = None if self.is_home(resource_key(manifest)) else self.type_of(manifest)
        try:
            return manifest_to_send(manifest, current, type_, preserved)[0]
        except ManifestError as error:
            raise Refused(422, "Invalid", str(error)) from error

    def _learn(self, manifest: Manifest, result: Manifest, options: ResourceOptions) -> None:
        """Cache the applied result, so that the next comparison needs no dry run."""
        # The resource is applied, even if its answer cannot be compared.
        with contextlib.suppress(EngineError):
            type_ = self.type_of(manifest)
            comparison = compare_locally(manifest, result, CompareSettings(), _no_jq, type_)
            dry_runs.learn(self.cluster, self.user, comparison, validate=options.validate)

    def type_of(self, manifest: Manifest) -> Type | None:
        """Return the type that the cluster publishes for a manifest's kind, if any."""
        group, version = split_api_version(manifest["apiVersion"])
        name = (group, version, manifest["kind"])
        return types_of(self.cluster, [name]).get(name)

    def _apply(
        self,
        kind: Kind,
        manifest: Manifest,
        options: ResourceOptions,
        current: Manifest | None,
        *,
        dry_run: bool,
        force: bool,
    ) -> Manifest:
        if options.has("Replace"):
            return self._replace(kind, manifest, options, current, dry_run=dry_run, force=force)
        if self.migrate and current is not None and not dry_run:
            self._migrate(kind, current)
        try:
            _require_not_deleting(manifest, current, force=force)
            result = self.connection.apply(
                kind, manifest, dry_run=dry_run, validate=options.validate
            )
            if current is not None and is_unowned(current) and not dry_run:
                return self._without_updates(kind, result, {_BEFORE_FIRST_APPLY})
            return result
        except Refused as refused:
            if force and refused.status in (409, 422) and _may_recreate(kind, options):
                return self._recreate(kind, manifest, options, dry_run=dry_run)
            if not options.validate and "field not declared in schema" in refused.message:
                return self._write_unchecked(kind, manifest, current, dry_run=dry_run)
            if _OLDER_VERSION in refused.message and not dry_run:
                return self._apply_as_newer(kind, manifest, options)
            raise

    def _apply_as_newer(self, kind: Kind, manifest: Manifest, options: ResourceOptions) -> Manifest:
        """Apply a manifest that states a field which the version applied before does not have.

        A server converts the result to the version of each field manager, so that the hub's own
        fields must be those of the newer version first.
        """
        current = self._fresh(kind, manifest)
        entries = current["metadata"].get("managedFields") or [] if current else []
        moved = [
            {
                "op": "replace",
                "path": f"/metadata/managedFields/{number}",
                "value": {**entry, "apiVersion": manifest["apiVersion"]},
            }
            for number, entry in enumerate(entries)
            if entry.get("manager") == MANAGER and entry.get("apiVersion") != manifest["apiVersion"]
        ]
        if current is not None and moved:
            self._patch_managers(kind, current, moved)
        try:
            return self.connection.apply(kind, manifest, validate=options.validate)
        except Refused as refused:
            if _OLDER_VERSION not in refused.message:
                raise
            text = (
                f"{refused.message}; others manage it in an older version: sync with Replace=true"
            )
            raise Refused(refused.status, refused.reason, text, refused.causes) from refused

    def _replace(
        self,
        kind: Kind,
        manifest: Manifest,
        options: ResourceOptions,
        current: Manifest | None,
        *,
        dry_run: bool,
        force: bool,
    ) -> Manifest:
        if force and current is not None and _may_recreate(kind, options):
            return self._recreate(kind, manifest, options, dry_run=dry_run)
        if current is None:
            return self._create(kind, manifest, options, dry_run=dry_run)
        for _ in range(3):
            version = current["metadata"]["resourceVersion"]
            body = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
            try:
                result = self.connection.replace(
                    kind, body, dry_run=dry_run, validate=options.validate
                )
                break
            except Refused as refused:
                fresh = self._fresh(kind, manifest) if refused.status == 409 else None
                if fresh is None:
                    raise
                current = fresh
        else:
            text = f"{kind.kind} {manifest['metadata']['name']} keeps being changed: sync again"
            raise Refused(409, "Conflict", text)
        return result if dry_run else self._as_applied(kind, manifest, options, result)

    def _as_applied(
        self, kind: Kind, manifest: Manifest, options: ResourceOptions, replaced: Manifest
    ) -> Manifest:
        """Apply a replaced resource, so that all fields are owned by Apply only.

        A server keeps a field that is removed from an apply if an earlier update, of this manager
        or of kubectl, owns it as well. After a replace every field is stated or a default.
        """
        result = replaced
        with contextlib.suppress(Refused):
            result = self.connection.apply(kind, manifest, validate=options.validate)
            managers = {MANAGER, *(self._migrated if self.migrate else ())}
            return self._without_updates(kind, result, managers)
        return result

    def _without_updates(
        self, kind: Kind, applied: Manifest, managers: Collection[str]
    ) -> Manifest:
        found: Manifest | None = applied
        # Controllers may write the status of the replaced resource at the same time.
        for _ in range(5):
            updated = _updated_by(found, managers) if found else []
            if not found or not updated:
                break
            try:
                return self._patch_managers(kind, found, _removals(updated))
            except Refused as refused:
                if refused.status not in (409, 422):
                    raise
                found = self._fresh(kind, applied)
        return found or applied

    def _create(
        self, kind: Kind, manifest: Manifest, options: ResourceOptions, *, dry_run: bool
    ) -> Manifest:
        if not manifest["metadata"].get("name"):
            return self.connection.create(
                kind, manifest, dry_run=dry_run, validate=options.validate
            )
        try:
            return self.connection.apply(kind, manifest, dry_run=dry_run, validate=options.validate)
        except Refused as refused:
            if not options.validate and "field not declared in schema" in refused.message:
                return self._write_unchecked(kind, manifest, None, dry_run=dry_run)
            raise

    def _fresh(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        metadata = manifest["metadata"]
        return self.connection.get(kind, metadata.get("namespace", ""), metadata["name"])

    def _write_unchecked(
        self, kind: Kind, manifest: Manifest, current: Manifest | None, *, dry_run: bool
    ) -> Manifest:
        # Server-side apply rejects unknown fields; with Validate=false, as on an update, they are
        # dropped.
        if current is None:
            return self.connection.create(kind, manifest, dry_run=dry_run, validate=False)
        type_ = self.type_of(manifest) or OBJECT
        merged = merge_for_apply(manifest, current, type_, ownership(current, type_))[0]
        return self.connection.replace(kind, merged, dry_run=dry_run, validate=False)

    def _recreate(
        self, kind: Kind, manifest: Manifest, options: ResourceOptions, *, dry_run: bool
    ) -> Manifest:
        """Delete a resource, wait until it and its dependents are gone, and create it.

        Raises: Refused if it could not be created, and then nothing is deleted; PendingDeletion
            while the old resource exists.
        """
        self._try_create(kind, manifest, options)
        if dry_run:
            return manifest
        found = self._fresh(kind, manifest)
        if found is not None:
            metadata = found["metadata"]
            place = metadata.get("namespace", ""), metadata["name"]
            if not metadata.get("deletionTimestamp"):
                self.connection.delete(kind, *place, uid=metadata["uid"])
            if self.connection.get(kind, *place) is not None:
                raise PendingDeletion(resource_key(manifest))
        return self.connection.apply(kind, manifest, validate=options.validate)

    def _try_create(self, kind: Kind, manifest: Manifest, options: ResourceOptions) -> None:
        """Run a dry run that creates the resource under another name.

        Only errors of the manifest itself count: others may be caused by the existing resource.
        """
        metadata = {k: v for k, v in manifest["metadata"].items() if k != "name"}
        metadata["generateName"] = manifest["metadata"]["name"][:50] + "-"
        try:
            self.connection.create(
                kind, {**manifest, "metadata": metadata}, dry_run=True, validate=options.validate
            )
        except Refused as refused:
            found = Refusal(refused.status, refused.message)
            if (found.is_malformed or found.is_invalid) and "metadata.name" not in refused.message:
                raise Refused(
                    refused.status,
                    refused.reason,
                    _with_own_name(
                        refused.message, metadata["generateName"], manifest["metadata"]["name"]
                    ),
                    refused.causes,
                ) from refused

    @property
    def _migrated(self) -> set[str]:
        """The managers whose fields the hub takes over."""
        return {*_CLIENT_SIDE_MANAGERS, self.migration_manager} - {""}

    def _migrate(self, kind: Kind, current: Manifest) -> None:
        # On the first server-side apply, take over the fields of kubectl or Argo CD: a field that
        # is later removed from Git would otherwise stay.
        if owned_fields(current) is not None:
            return
        theirs = _updated_by(current, self._migrated)
        if not theirs:
            return
        first = current["metadata"]["managedFields"][theirs[0]]
        ours = {
            "op": "replace",
            "path": f"/metadata/managedFields/{theirs[0]}",
            "value": {**first, "operation": "Apply", "manager": MANAGER},
        }
        with contextlib.suppress(Refused):
            self._patch_managers(kind, current, [ours, *_removals(theirs[1:])])

    def _patch_managers(
        self, kind: Kind, current: Manifest, steps: list[dict[str, Any]]
    ) -> Manifest:
        metadata = current["metadata"]
        same = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": metadata["resourceVersion"],
        }
        place = metadata.get("namespace", ""), metadata["name"]
        return self.connection.patch(kind, *place, [same, *steps], content_type=JSON_PATCH)

    def delete(
        self,
        key: ResourceKey,
        version: str,
        *,
        propagation: str = "Foreground",
        uid: str = "",
        force: bool = False,
    ) -> None:
        """Delete a resource; callers have passed the deletion guard.

        Raises: Refused.
        """
        if self.is_home(key):
            in_cluster.delete(key.kind, key.namespace, key.name, self.author)
            return
        kind = self.connection.kind(key.group, key.kind, version) or self.connection.kind(
            key.group, key.kind
        )
        if kind is not None:
            self.connection.delete(
                kind, key.namespace, key.name, propagation=propagation, uid=uid, force=force
            )

    def drop_hook_finalizer(self, manifest: Manifest) -> None:
        """Remove the hook finalizer, once the result of the hook has been read."""
        finalizers = (manifest.get("metadata") or {}).get("finalizers") or []
        if HOOK_FINALIZER not in finalizers:
            return
        kind, metadata = self.kind(manifest), manifest["metadata"]
        rest = [f for f in finalizers if f != HOOK_FINALIZER]
        patch: Mapping[str, Any] = {
            "metadata": {
                "finalizers": rest or None,
                "resourceVersion": metadata.get("resourceVersion"),
            }
        }
        try:
            self.connection.patch(kind, metadata.get("namespace", ""), metadata["name"], patch)
        except Refused as refused:
            if refused.status not in (404, 409):
                raise
