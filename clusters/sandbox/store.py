"""The state of one sandbox cluster: resources, versions, field ownership, events."""

import asyncio
import copy
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import orjson

from clusters.sandbox.defaults import Rejected, check, with_defaults
from clusters.sandbox.kinds import BUILTIN, Served
from clusters.sandbox.merging import (
    _content,
    _entry,
    _intersection,
    _managed,
    _merge,
    _paths,
    _same,
    _secret,
    _strategic,
    _with_update_manager,
    changed_fields,
    now,
)
from clusters.sandbox.types import schema_in, type_in
from hub.engine.apply_merge import Ownership, merge_for_apply
from hub.engine.field_sets import (
    applied_fields,
    others_fields,
    owned_fields,
)
from hub.engine.normalize import without_nulls
from hub.engine.resource import Manifest, is_builtin, is_dns_name
from hub.engine.schema import Type

HISTORY = 5000


_KEEP = (
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "managedFields",
)


Slot = tuple[str, str]
"""Namespace and name."""


class Failure(Exception):
    """An error status with a reason and a message, worded as in Kubernetes."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class Store:
    """All resources of one sandbox."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name, self.path = name, path
        self.version = 1
        self.kinds: dict[tuple[str, str], Served] = {(k.group, k.plural): k for k in BUILTIN}
        self.resources: dict[tuple[str, str], dict[Slot, Manifest]] = {}
        self.events: deque[tuple[int, tuple[str, str], str, Manifest]] = deque(maxlen=HISTORY)
        self.first_event = 0
        self.waiters: set[asyncio.Event] = set()
        self.on_change: Callable[[Served, str, Manifest], None] = lambda *_: None
        self.dirty = False
        if path and path.exists():
            self._load(path)
        if ("", "default") not in self.resources.get(("", "namespaces"), {}):
            for namespace in ("default", "kube-system"):
                self.put(self.kinds["", "namespaces"], {"metadata": {"name": namespace}})
            self.put(
                self.kinds["", "nodes"],
                {"metadata": {"name": "node-0", "labels": {"kubernetes.io/hostname": "node-0"}}},
            )

    def _load(self, path: Path) -> None:
        data = orjson.loads(path.read_bytes())
        self.version = data["version"] + 1000
        self.first_event = self.version
        for text, items in data["resources"].items():
            group, plural = text.split("|")
            self.resources[group, plural] = {tuple(k.split("/", 1)): m for k, m in items.items()}
        for crd in self.resources.get(
            ("apiextensions.k8s.io", "customresourcedefinitions"), {}
        ).values():
            self.serve(crd)

    def save(self) -> None:
        """Save the state to its file atomically."""
        if self.path is None or not self.dirty:
            return
        self.dirty = False
        data = {
            "version": self.version,
            "resources": {
                f"{group}|{plural}": {"/".join(slot): m for slot, m in items.items()}
                for (group, plural), items in self.resources.items()
            },
        }
        part = self.path.with_suffix(".part")
        part.write_bytes(orjson.dumps(data))
        part.replace(self.path)

    def all(self, kind: Served, namespace: str = "") -> Iterator[Manifest]:
        """Yield the resources of a kind."""
        for (found, _name), manifest in sorted(
            self.resources.get((kind.group, kind.plural), {}).items()
        ):
            if not namespace or found == namespace:
                yield manifest

    def get(self, kind: Served, namespace: str, name: str) -> Manifest | None:
        """Return a resource, None when there is none."""
        return self.resources.get((kind.group, kind.plural), {}).get(
            (namespace if kind.namespaced else "", name)
        )

    def by_kind(self, group: str, kind: str) -> Served | None:
        """Return the served kind of a manifest."""
        return next((k for k in self.kinds.values() if (k.group, k.kind) == (group, kind)), None)

    def put(
        self, kind: Served, manifest: Manifest, *, manager: str = "", dry_run: bool = False
    ) -> Manifest:
        """Create or replace a resource, and return it as stored.

        Raises: Failure, worded as in Kubernetes, for anything that a real server would reject.
        """
        metadata = manifest.get("metadata") or {}
        name = metadata.get("name") or (metadata.get("generateName", "") + uuid.uuid4().hex[:5])
        namespace = (metadata.get("namespace") or "default") if kind.namespaced else ""
        before = self.get(kind, namespace, name)
        after = self._prepared(kind, manifest, namespace, name, before)
        if before is not None and _same(before, after):
            return before
        if manager:
            after = _with_update_manager(before, after, manager, self.type(kind))
        return self._store(kind, before, after, dry_run=dry_run)

    def _prepared(
        self, kind: Served, manifest: Manifest, namespace: str, name: str, before: Manifest | None
    ) -> Manifest:
        if not is_dns_name(name.replace(":", "-")):
            raise Failure(
                422, "Invalid", f'{kind.kind} "{name}" is invalid: metadata.name: Invalid value'
            )
        if before is None:
            self._check_namespace(kind, namespace)
        metadata = {
            k: v
            for k, v in (manifest.get("metadata") or {}).items()
            if k not in ("generateName", "selfLink")
        }
        metadata |= {"name": name} | ({"namespace": namespace} if kind.namespaced else {})
        metadata.pop("namespace", None) if not kind.namespaced else None
        old = (before or {}).get("metadata") or {}
        for field in _KEEP:
            if field in old and field != "managedFields":
                metadata[field] = old[field]
        if before is not None and "managedFields" not in metadata:
            metadata["managedFields"] = old.get("managedFields", [])
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", now())
        result = {
            **copy.deepcopy(manifest),
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": metadata,
        }
        if kind.group == "" and kind.kind == "Secret":
            result = {"type": "Opaque", **_secret(result)}
        if is_builtin(kind.group):
            result = with_defaults(kind.kind, result)
            try:
                check(kind.kind, result, before)
            except Rejected as error:
                raise Failure(
                    422,
                    "Invalid",
                    f'{kind.kind}{f".{kind.group}" if kind.group else ""} "{name}" '
                    f"is invalid: {error}",
                ) from error
        return result

    def _check_namespace(self, kind: Served, namespace: str) -> None:
        if not kind.namespaced:
            return
        found = self.get(self.kinds["", "namespaces"], "", namespace)
        if found is None:
            raise Failure(404, "NotFound", f'namespaces "{namespace}" not found')
        if found["metadata"].get("deletionTimestamp"):
            raise Failure(
                403,
                "Forbidden",
                f"unable to create new content in namespace {namespace} "
                "because it is being terminated",
            )

    def _store(
        self, kind: Served, before: Manifest | None, after: Manifest, *, dry_run: bool
    ) -> Manifest:
        metadata = dict(after["metadata"])
        if before is None or _content(before) != _content(after):
            metadata["generation"] = metadata.get("generation", 0) + 1
        if dry_run:
            return {**after, "metadata": metadata}
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        after = {**after, "metadata": metadata}
        slot = (metadata.get("namespace", ""), metadata["name"])
        self.resources.setdefault((kind.group, kind.plural), {})[slot] = after
        self._emit(kind, "ADDED" if before is None else "MODIFIED", after)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._remove(kind, after)
        return after

    def _emit(self, kind: Served, what: str, manifest: Manifest) -> None:
        self.dirty = True
        self.events.append((self.version, (kind.group, kind.plural), what, manifest))
        if len(self.events) == HISTORY:
            self.first_event = self.events[0][0]
        if kind.kind == "CustomResourceDefinition":
            self.serve(manifest) if what != "DELETED" else self._unserve(manifest)
        for waiter in self.waiters:
            waiter.set()
        self.on_change(kind, what, manifest)

    def serve(self, crd: Manifest) -> None:
        """Serve the kind of a definition."""
        spec = crd.get("spec") or {}
        names = spec.get("names") or {}
        version = next(
            (v["name"] for v in spec.get("versions") or [] if v.get("served", True)), "v1"
        )
        served = Served(
            spec.get("group", ""),
            version,
            names.get("kind", ""),
            names.get("plural", ""),
            spec.get("scope") == "Namespaced",
            tuple(names.get("shortNames") or ()),
        )
        self.kinds[served.group, served.plural] = served

    def schema(self, kind: Served) -> Any:
        """Return the schema in a kind's definition, None for the built-in kinds."""
        definitions = self.kinds["apiextensions.k8s.io", "customresourcedefinitions"]
        found = self.get(definitions, "", f"{kind.plural}.{kind.group}")
        return schema_in(found, kind.version) if found else None

    def type(self, kind: Served) -> Type:
        """Return the type of a kind."""
        return type_in(kind, None if is_builtin(kind.group) else self.schema(kind))

    def _unserve(self, crd: Manifest) -> None:
        spec = crd.get("spec") or {}
        place = (spec.get("group", ""), (spec.get("names") or {}).get("plural", ""))
        kind = self.kinds.pop(place, None)
        if kind:
            for manifest in list(self.resources.get(place, {}).values()):
                self._remove(kind, manifest)

    def apply(
        self,
        kind: Served,
        namespace: str,
        name: str,
        manifest: Manifest,
        *,
        manager: str,
        force: bool,
        dry_run: bool,
    ) -> Manifest:
        """Server-side apply: create or merge by field ownership, and return the result.

        Raises: Failure 409 when another manager owns a field and `force` is not set.
        """
        wanted = without_nulls({**manifest, "apiVersion": kind.api_version, "kind": kind.kind})
        wanted["metadata"] = {
            k: v for k, v in (wanted.get("metadata") or {}).items() if k != "managedFields"
        }
        wanted["metadata"]["name"] = name
        if kind.namespaced:
            wanted["metadata"]["namespace"] = namespace
        if kind.group == "" and kind.kind == "Secret":
            wanted = _secret(wanted)
        before = self.get(kind, namespace, name)
        type_ = self.type(kind)
        fields = applied_fields(wanted, type_)
        if before is None:
            after = self._prepared(kind, wanted, namespace if kind.namespaced else "", name, None)
            after["metadata"]["managedFields"] = [_entry(manager, "Apply", kind, fields)]
            return self._store(kind, None, after, dry_run=dry_run)
        owned = owned_fields(before, (manager,))
        others = others_fields(before, (manager,))
        merged = merge_for_apply(wanted, before, type_, Ownership(owned, lambda: others))[0]
        changed = changed_fields(before, merged, type_)
        if not force:
            clash = _intersection(fields, _intersection(changed, others))
            if clash:
                raise Failure(
                    409,
                    "Conflict",
                    "Apply failed with conflicts: conflicts with other managers: "
                    f"{', '.join(_paths(clash))}",
                )
        after = self._prepared(kind, merged, namespace if kind.namespaced else "", name, before)
        after["metadata"]["managedFields"] = _managed(
            before, manager, "Apply", kind, fields, changed
        )
        if _same(before, after):
            return before
        return self._store(kind, before, after, dry_run=dry_run)

    def patch(
        self,
        kind: Served,
        before: Manifest,
        patch: Any,
        content_type: str,
        *,
        manager: str,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Manifest:
        """Apply a merge patch, strategic merge patch or JSON patch."""
        if content_type.endswith("json-patch+json"):
            try:
                after = jsonpatch.apply_patch(copy.deepcopy(before), patch)
            except jsonpatch.JsonPatchException as error:
                raise Failure(
                    422,
                    "Invalid",
                    f"the server rejected our request due to an error in our request: {error}",
                ) from error
        elif content_type.endswith("strategic-merge-patch+json"):
            after = _strategic(before, patch, self.type(kind))
        else:
            after = _merge(before, patch)
        uid = before["metadata"]["uid"]
        if (after.get("metadata") or {}).get("uid", uid) != uid:
            raise Failure(409, "Conflict", "Precondition failed: UID in precondition differs")
        if subresource == "status":
            return self.set_status(kind, before, after.get("status") or {})
        if "status" in before:
            after["status"] = before["status"]
        return self.put(kind, after, manager=manager, dry_run=dry_run)

    def set_status(self, kind: Served, before: Manifest, status: Any) -> Manifest:
        """Write the status of a resource, if it differs."""
        current = self.get(
            kind, before["metadata"].get("namespace", ""), before["metadata"]["name"]
        )
        if current is None or current.get("status") == status:
            return before
        return self._store(kind, current, {**current, "status": status}, dry_run=False)

    def delete(
        self,
        kind: Served,
        manifest: Manifest,
        *,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> Manifest:
        """Delete a resource, or mark it when finalizers or foreground propagation block that."""
        metadata = manifest["metadata"]
        if dry_run:
            return manifest
        if propagation == "Orphan":
            self._orphan(metadata["uid"])
        if metadata.get("finalizers") or (
            kind.kind == "Namespace" and self._content_of(metadata["name"])
        ):
            if not metadata.get("deletionTimestamp"):
                status = {"status": {"phase": "Terminating"}} if kind.kind == "Namespace" else {}
                manifest = {
                    **manifest,
                    **status,
                    "metadata": {
                        **metadata,
                        "deletionTimestamp": now(),
                        "deletionGracePeriodSeconds": 0,
                    },
                }
                manifest = self._store(
                    kind,
                    self.get(kind, metadata.get("namespace", ""), metadata["name"]),
                    manifest,
                    dry_run=False,
                )
            if kind.kind == "Namespace":
                self._empty_namespace(metadata["name"])
            return manifest
        self._remove(kind, manifest)
        return manifest

    def _content_of(self, namespace: str) -> list[tuple[Served, Manifest]]:
        return [
            (self.kinds[place], m)
            for place, items in list(self.resources.items())
            for (where, _name), m in list(items.items())
            if where == namespace and place in self.kinds
        ]

    def _empty_namespace(self, name: str) -> None:
        for kind, manifest in self._content_of(name):
            if self.get(kind, name, manifest["metadata"]["name"]) is not None:
                self.delete(kind, manifest)
        namespaces = self.kinds["", "namespaces"]
        left = self.get(namespaces, "", name)
        if (
            left is not None
            and not left["metadata"].get("finalizers")
            and not self._content_of(name)
        ):
            self._remove(namespaces, left)

    def _remove(self, kind: Served, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        slot = (metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
        gone = self.resources.get((kind.group, kind.plural), {}).pop(slot, None)
        if gone is None:
            return
        self.version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._emit(kind, "DELETED", gone)
        for child_kind, child in self._children(metadata["uid"]):
            if (
                self.get(
                    child_kind, child["metadata"].get("namespace", ""), child["metadata"]["name"]
                )
                is not None
            ):
                self.delete(child_kind, child)
        namespace = metadata.get("namespace", "")
        owner = self.get(self.kinds["", "namespaces"], "", namespace) if namespace else None
        if owner is not None and _may_go(owner) and not self._content_of(namespace):
            self._remove(self.kinds["", "namespaces"], owner)

    def _children(self, uid: str) -> list[tuple[Served, Manifest]]:
        return [
            (self.kinds[place], m)
            for place, items in list(self.resources.items())
            for m in list(items.values())
            if place in self.kinds
            and any(o.get("uid") == uid for o in m["metadata"].get("ownerReferences") or [])
        ]

    def _orphan(self, uid: str) -> None:
        for kind, child in self._children(uid):
            rest = [o for o in child["metadata"]["ownerReferences"] if o.get("uid") != uid]
            self._store(
                kind,
                child,
                {**child, "metadata": {**child["metadata"], "ownerReferences": rest}},
                dry_run=False,
            )


def _may_go(manifest: Manifest) -> bool:
    metadata = manifest["metadata"]
    return bool(metadata.get("deletionTimestamp")) and not metadata.get("finalizers")
