"""Change resources of a destination: a cluster, or the hub itself for its own kinds."""

import contextlib
from collections.abc import Mapping
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
from hub.engine.duplicate_elements import without_duplicates
from hub.engine.errors import EngineError, ManifestError, Stalled
from hub.engine.field_sets import MANAGER, owned_fields
from hub.engine.health import HOOK_FINALIZER
from hub.engine.prerequisites import Refusal
from hub.engine.resource import Manifest, ResourceKey, resource_key, split_api_version
from hub.engine.schema import OBJECT, Type
from hub.engine.sync_options import ResourceOptions
from projects import dry_runs, in_cluster
from projects.own_kinds import Author


def _no_jq(_expression: str, value: Any) -> Any:
    return value


_CLIENT_SIDE = (
    "kubectl-client-side-apply",
    "kubectl-create",
    "kubectl-edit",
    "argocd-controller",
    "argocd-application-controller",
)


_KEPT = ("CustomResourceDefinition", "Namespace")
"""Deleting one would delete what others have in it: these are only ever updated."""
_DATA = ("PersistentVolumeClaim", "PersistentVolume")
_GENERATED = 5
"""Characters that an API server appends to `generateName`."""


class Going(Exception):
    """A resource that is created anew is still there: it goes first."""

    def __init__(self, key: ResourceKey) -> None:
        super().__init__(f"waiting for deletion of {key}, to create it anew")


def _may_recreate(kind: Kind, options: ResourceOptions) -> bool:
    # What holds data is recreated only where its own manifest says so.
    if kind.kind in _DATA and not kind.group:
        return options.own.get("Force") == "true"
    return kind.kind not in _KEPT


def _require_staying(manifest: Manifest, current: Manifest | None, *, force: bool) -> None:
    if force and current is not None and current["metadata"].get("deletionTimestamp"):
        raise Going(resource_key(manifest))


def _with_own_name(message: str, prefix: str, name: str) -> str:
    """Replace the generated name in the answer to a trial creation."""
    before, found, after = message.partition(prefix)
    return f"{before}{name}{after[_GENERATED:]}" if found else message


def _updated_by(current: Manifest, managers: set[str]) -> list[int]:
    """Return which entries of managedFields are updates by one of the managers, those of subresources left out."""
    entries = (current.get("metadata") or {}).get("managedFields") or []
    return [
        n
        for n, e in enumerate(entries)
        if e.get("manager") in managers
        and e.get("operation") == "Update"
        and not e.get("subresource")
    ]


def _removals(numbers: list[int]) -> list[dict[str, Any]]:
    # From the last one on: each removal moves those behind it.
    return [{"op": "remove", "path": f"/metadata/managedFields/{n}"} for n in reversed(numbers)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the resources of an application are changed."""

    cluster: Cluster
    migrate: bool = True
    migration_manager: str = ""
    as_user: str | Stalled = ""
    """Whom the requests impersonate, empty for the hub itself; or why there is nobody."""
    author: Author | None = None
    """On whose behalf the hub's own kinds are written: without one they are not."""

    @property
    def user(self) -> str:
        """The user of dry runs; where there is none nothing is applied, whatever they say."""
        return "" if isinstance(self.as_user, Stalled) else self.as_user

    @property
    def connection(self) -> Connection:
        """The connection to the cluster.

        Raises: Stalled where the project names no service account to act as.
        """
        if isinstance(self.as_user, Stalled):
            raise self.as_user
        return connect(self.cluster, self.as_user)

    def published(self, group: str) -> dict[str, str]:
        """Return the hash of the schemas that the cluster publishes of each version of a group."""
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

        Raises: Refused 404 when it does not.
        """
        found = kind_of(self.connection, manifest)
        if found is None:
            raise Refused(
                404,
                "NotFound",
                f"The Kubernetes API could not find {manifest['apiVersion']}/{manifest['kind']}; is its CustomResourceDefinition installed?",
            )
        return found

    def get(self, key: ResourceKey, version: str = "") -> Manifest | None:
        """Return a live resource, asked of the cluster itself."""
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
        dry_run: bool = False,
        force: bool = False,
    ) -> Manifest:
        """Bring a resource to what a manifest says, and return it; the live store learns it at once.

        Raises: Refused with the server's reason, without the content of a Secret.
        """
        key = resource_key(manifest)
        if self.is_home(key):
            return in_cluster.apply(manifest, self.author, dry_run=dry_run)
        manifest = self._once(manifest)
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

    def _once(self, manifest: Manifest) -> Manifest:
        type_ = self.type_of(manifest)
        try:
            return without_duplicates(manifest, type_)[0] if type_ else manifest
        except ManifestError as error:
            raise Refused(422, "Invalid", str(error)) from error

    def _learn(self, manifest: Manifest, result: Manifest, options: ResourceOptions) -> None:
        """Remember what the server made of a manifest: the next comparison need not ask."""
        # It is applied, whatever shape the answer has.
        with contextlib.suppress(EngineError):
            type_ = self.type_of(manifest)
            comparison = compare_locally(manifest, result, CompareSettings(), _no_jq, type_)
            dry_runs.learn(self.cluster, self.user, comparison, validate=options.validate)

    def type_of(self, manifest: Manifest) -> Type | None:
        """Return what the cluster says of a manifest's kind, None when it says nothing."""
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
            _require_staying(manifest, current, force=force)
            return self.connection.apply(kind, manifest, dry_run=dry_run, validate=options.validate)
        except Refused as refused:
            if force and refused.status in (409, 422) and _may_recreate(kind, options):
                return self._recreate(kind, manifest, options, dry_run=dry_run)
            if not options.validate and "field not declared in schema" in refused.message:
                return self._write_unchecked(kind, manifest, current, dry_run=dry_run)
            raise

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
            raise Refused(
                409,
                "Conflict",
                f"{kind.kind} {manifest['metadata']['name']} keeps being changed: sync again",
            )
        return result if dry_run else self._as_applied(kind, manifest, options, result)

    def _as_applied(
        self, kind: Kind, manifest: Manifest, options: ResourceOptions, replaced: Manifest
    ) -> Manifest:
        """Have what was replaced be ours by an apply alone: then a field that leaves Git is ours to remove.

        A server keeps a field that is left out of an apply where an update is noted to have set it too, even one of
        the same manager, or of kubectl before us. All that is there now is stated, or a default, which belongs to nobody.
        """
        result = replaced
        with contextlib.suppress(Refused):
            result = self.connection.apply(kind, manifest, validate=options.validate)
            return self._without_updates(kind, result)
        return result

    def _without_updates(self, kind: Kind, applied: Manifest) -> Manifest:
        managers = {MANAGER, *(self._migrated if self.migrate else ())}
        found: Manifest | None = applied
        # Controllers write the status of what was replaced a moment ago.
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
        # Server-side apply knows no unknown fields; Validate=false asks for what an update does with them.
        if current is None:
            return self.connection.create(kind, manifest, dry_run=dry_run, validate=False)
        type_ = self.type_of(manifest) or OBJECT
        merged = merge_for_apply(manifest, current, type_, ownership(current, type_))[0]
        return self.connection.replace(kind, merged, dry_run=dry_run, validate=False)

    def _recreate(
        self, kind: Kind, manifest: Manifest, options: ResourceOptions, *, dry_run: bool
    ) -> Manifest:
        """Delete a resource, wait until it is gone with what depends on it, and create it.

        Raises: Refused when it could not be created: then nothing is deleted. Going while the old one is there.
        """
        self._try_anew(kind, manifest, options)
        if dry_run:
            return manifest
        found = self._fresh(kind, manifest)
        if found is not None:
            metadata = found["metadata"]
            place = metadata.get("namespace", ""), metadata["name"]
            if not metadata.get("deletionTimestamp"):
                self.connection.delete(kind, *place, uid=metadata["uid"])
            if self.connection.get(kind, *place) is not None:
                raise Going(resource_key(manifest))
        return self.connection.apply(kind, manifest, validate=options.validate)

    def _try_anew(self, kind: Kind, manifest: Manifest, options: ResourceOptions) -> None:
        """Ask the API server whether it would create a resource that has another name now.

        Only what it says against the manifest itself counts: the old one may stand in the way of the new one.
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
        """The managers whose updates become ours."""
        return {*_CLIENT_SIDE, self.migration_manager} - {""}

    def _migrate(self, kind: Kind, current: Manifest) -> None:
        # The first server-side apply of what kubectl or another hub applied: their ownership becomes ours,
        # or fields that leave git later would stay.
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
        """Ask for the deletion of a resource. Callers have passed the deletion guard.

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
        """Let a hook go: its result was read."""
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
