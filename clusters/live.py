"""The live store: observed resources, written in batches, and the refreshes that follow."""

import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from clusters.inferred import adopt, infer
from clusters.intake import complaint
from clusters.models import Cluster, LiveChange, LiveResource, pack
from hub.base.outbound.bounds import room_of
from hub.engine import health, inferred_owners
from hub.engine.errors import MALFORMED_OBJECT, RetryLater, RuleError
from hub.engine.lua import health_script
from hub.engine.node_info import describe
from hub.engine.normalize import for_comparison
from hub.engine.resource import Manifest, ResourceKey, resource_key, split_api_version
from hub.engine.tracking import Tracking, owner_of
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import next_version, setting

CHILD_KINDS = {
    ("", "Pod"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
    ("apps", "ControllerRevision"),
}
OUR_KINDS = {
    ("argoproj.io", "Application"),
    ("argoproj.io", "AppProject"),
    ("argoproj.io", "ApplicationSet"),
}
"""The hub's own objects in its home cluster, whatever that cluster serves under these names."""
DEFINITION = ("apiextensions.k8s.io", "CustomResourceDefinition")
"""Definitions carry no tracking mark: only their health and digest are stored."""
_COLUMNS = [
    "group",
    "version",
    "kind",
    "namespace",
    "name",
    "uid",
    "resource_version",
    "created_at",
    "owners",
    "owner_uid",
    "instance",
    "is_self",
    "deleting",
    "health",
    "health_message",
    "shown",
    "digest",
    "body",
]


@dataclass(frozen=True, slots=True)
class Seen:
    """A resource as a watch or a response showed it."""

    manifest: Manifest
    is_whole: bool
    """False when only metadata was sent."""
    fetched: int = 0
    """Memory that it needs in addition to the page or event that named it, see `room_of`."""


def fetched(manifest: Manifest, found: Manifest | None, cluster: str) -> Seen:
    """Return a cluster's response for a full resource of which only metadata was listed.

    Raises: RetryLater when another resource has the name by now.
    """
    if found is None or complaint(found):
        return Seen(manifest, is_whole=False)
    whole = {**found, "apiVersion": manifest["apiVersion"], "kind": manifest["kind"]}
    if resource_key(whole) != resource_key(manifest):
        raise RetryLater(
            "BadAnswer", f"cluster {cluster}: it returned another object than the requested one"
        )
    return Seen(whole, is_whole=True, fetched=room_of(orjson.dumps(whole)))


async def portions(found: AsyncIterator[Seen]) -> AsyncIterator[list[Seen]]:
    """Yield the objects of a page in one or more lists, the last one perhaps empty.

    The full objects that are fetched for them have no common limit, so they are written in
    portions.
    """
    some, size = list[Seen](), 0
    async for seen in found:
        some.append(seen)
        size += seen.fetched
        if size >= _FETCHED_BYTES:
            yield some
            some, size = [], 0
    yield some


@dataclass
class Batch:
    """Changes of one cluster that are not written yet."""

    seen: dict[str, Seen] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    first_at: float = 0.0
    size: int = 0
    """The approximate memory of the events."""

    @property
    def is_full(self) -> bool:
        """Whether reading must pause until the database has written these."""
        return len(self.seen) + len(self.gone) >= _WAITING or self.size >= _WAITING_BYTES


# Changes of one cluster that are not written yet; a server that sends more has to wait.
_WAITING, _WAITING_BYTES = 2000, 32 * 1024**2
_FETCHED_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class _Before:
    key: str
    uid: str
    resource_version: str
    digest: str
    health: str
    instance: str
    is_self: bool
    deleting: bool
    owners: list[dict[str, Any]]
    shown: dict[str, Any]


def tracking() -> Tracking:
    """Return how this hub marks the resources that it manages."""
    return Tracking(settings.TRACKING_METHOD, settings.INSTANCE_LABEL_KEY, settings.INSTALLATION_ID)


_scripts: tuple[float, dict[str, Any]] = (0.0, {})


def health_scripts() -> dict[str, Any]:
    """Return the administrators' health scripts by `group/Kind`, cached for 5 seconds."""
    global _scripts
    read_at, scripts = _scripts
    if time.monotonic() - read_at > 5 or not read_at:
        codes = setting("health", {})
        scripts = {name: health_script(code) for name, code in codes.items()}
        _scripts = (time.monotonic(), scripts)
    return scripts


def forget_scripts() -> None:
    """Clear the cached health scripts."""
    global _scripts
    _scripts = (0.0, {})


def row_of(cluster_id: int, seen: Seen, marks: Tracking) -> LiveResource:
    """Return the row of a resource; with its manifest only if an application manages it."""
    manifest = seen.manifest
    metadata = manifest.get("metadata") or {}
    key = resource_key(manifest)
    owner = owner_of(manifest, marks)
    owners = [
        {k: reference.get(k, "") for k in ("apiVersion", "kind", "name", "uid")}
        | {"controller": bool(reference.get("controller"))}
        for reference in metadata.get("ownerReferences") or []
    ]
    managed = bool(owner.instance) and not owners
    # A resource that an application manages has no inferred owner, whatever its annotations about
    # accounts say.
    said = None if owners or owner.instance else inferred_owners.owner_of(manifest)
    owners += [said] if said else []
    row = LiveResource(
        cluster_id=cluster_id,
        key=key.text,
        group=key.group,
        version=split_api_version(manifest["apiVersion"])[1],
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        uid=metadata.get("uid", ""),
        resource_version=str(metadata.get("resourceVersion", "")),
        created_at=metadata.get("creationTimestamp") or "",
        owners=owners,
        owner_uid=_main_owner(owners),
        instance=owner.instance[:600].replace("\0", ""),
        is_self=owner.is_self,
        deleting=bool(metadata.get("deletionTimestamp")),
    )
    if seen.is_whole and (managed or (key.group, key.kind) in CHILD_KINDS):
        _assess(row, manifest)
    if seen.is_whole and (key.group, key.kind) == DEFINITION:
        _assess(row, manifest)
        row.digest = digest_of(manifest)
    if seen.is_whole and managed:
        row.body = pack(manifest)
        row.digest = digest_of(manifest)
    return row


def _assess(row: LiveResource, manifest: Manifest) -> None:
    try:
        found = health.assess(manifest, health_scripts())
        # The message is often one of the object's own fields, of any type.
        message = str(found.message)[:1000].replace("\0", "") if found is not None else ""
        shown = describe(manifest)
    except (*MALFORMED_OBJECT, RuleError):
        # Fields may have any type in kinds without a schema, and in objects from a faulty server.
        row.health, row.health_message = "Unknown", "its fields are not what its kind says"
        return
    if found is not None:
        row.health, row.health_message = found.status, message
    row.shown = _without_nul(shown)


def _without_nul(value: Any) -> Any:
    """Return a value that PostgreSQL can store as JSON."""
    text = orjson.dumps(value)
    return orjson.loads(text.replace(b"\\u0000", b"")) if b"\\u0000" in text else value


def _main_owner(owners: Sequence[dict[str, Any]]) -> str:
    for owner in owners:
        if owner["controller"]:
            return str(owner["uid"])
    return str(owners[0]["uid"]) if owners else ""


def digest_of(manifest: Manifest) -> str:
    """Return a digest of what a comparison uses: all but status and the server's counters."""
    body = for_comparison(manifest)
    entries = (manifest.get("metadata") or {}).get("managedFields") or []
    owners = [
        (e.get("manager"), e.get("operation"), e.get("fieldsV1"))
        for e in entries
        if not e.get("subresource")
    ]
    return hashlib.sha256(orjson.dumps([body, owners], option=orjson.OPT_SORT_KEYS)).hexdigest()[
        :40
    ]


class LeaseLost(Exception):
    """Another watcher has the cluster's lease, so this one's data may be older."""


def record(
    cluster_id: int,
    seen: Iterable[Seen],
    gone: Iterable[str] = (),
    *,
    quiet: bool = False,
    is_list: bool = False,
    holder: str = "",
) -> int:
    """Write seen and deleted resources, enqueue their applications, and return the changed rows.

    Shapes: `gone` are keys as text. An older version of a resource never overwrites a newer one. A
        list replaces a stored resource of the same version, since the schema of its kind may have
        changed. `holder` is the watcher that saw it.
    Raises: LeaseLost when that watcher has lost the lease; nothing is written.
    """
    marks = tracking()
    rows = {row.key: row for row in (row_of(cluster_id, s, marks) for s in seen)}
    deleted_keys = set(gone)
    with transaction.atomic():
        # A watch event and the response to an apply may carry two versions of one resource at the
        # same moment: reading and writing under the cluster's lock keeps the older from overwriting
        # the newer.
        holders = list(
            Cluster.objects.select_for_update()
            .filter(pk=cluster_id)
            .values_list("lease_holder", flat=True)
        )
        # A watcher that was paused continues with old events, and only then checks its leases.
        if holder and holders != [holder]:
            raise LeaseLost
        before = _before(cluster_id, [*rows, *deleted_keys])
        fresh = {
            k: row
            for k, row in rows.items()
            if k not in before or _is_newer(row, before[k], is_list=is_list)
        }
        deleted_keys -= set(fresh)
        infer(cluster_id, fresh)
        if fresh:
            LiveResource.objects.bulk_create(
                fresh.values(),
                update_conflicts=True,
                unique_fields=["cluster", "key"],
                update_fields=_COLUMNS,
            )
        for chunk in _chunks(sorted(deleted_keys)):
            LiveResource.objects.filter(cluster_id=cluster_id, key__in=chunk).delete()
        adopt(cluster_id, fresh.values(), deleted_keys)
        if not quiet:
            _wake(cluster_id, fresh, before, deleted_keys)
    return len(fresh) + len(deleted_keys)


def _before(cluster_id: int, keys: list[str]) -> dict[str, _Before]:
    found: dict[str, _Before] = {}
    for chunk in _chunks(keys):
        query = LiveResource.objects.filter(cluster_id=cluster_id, key__in=chunk).values_list(
            "key",
            "uid",
            "resource_version",
            "digest",
            "health",
            "instance",
            "is_self",
            "deleting",
            "owners",
            "shown",
        )
        found |= {row[0]: _Before(*row) for row in query}
    return found


def _chunks(keys: list[str], size: int = 500) -> Iterable[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _is_newer(row: LiveResource, before: _Before, *, is_list: bool) -> bool:
    if row.uid != before.uid:
        # Another resource with the same name: the newer one wins.
        return not _older(row.resource_version, before.resource_version)
    if row.resource_version == before.resource_version:
        # When a definition loses a field, or gains a default, the server shows the same stored
        # version of a resource differently.
        if is_list and row.is_self != before.is_self and (row.digest or not before.digest):
            # An earlier release may have stored the row, and read tracking marks in another way.
            return True
        return bool(row.digest) and row.digest != before.digest and (is_list or not before.digest)
    return not _older(row.resource_version, before.resource_version)


def _older(one: str, other: str) -> bool:
    # Compared as texts: a server may send other digits, or more of them than a number holds.
    if not (one.isascii() and one.isdigit() and other.isascii() and other.isdigit()):
        return False
    one, other = one.lstrip("0"), other.lstrip("0")
    return (len(one), one) < (len(other), other)


def _wake(
    cluster_id: int, fresh: dict[str, LiveResource], before: dict[str, _Before], gone: set[str]
) -> None:
    instances, keys, seen = set[str](), set[str](), set[str]()
    for key, row in fresh.items():
        old = before.get(key)
        is_changed = old is None or _state(row) != _state(old)
        if is_changed or (old is not None and row.shown != old.shown):
            seen |= shown_by(key, row.owners)
        if is_changed and (row.instance or not row.owner_uid):
            instances |= {row.instance, old.instance if old else ""}
            keys.add(key)
    for key in gone & before.keys():
        instances.add(before[key].instance)
        keys.add(key)
        seen |= shown_by(key, before[key].owners)
    instances.discard("")
    if keys or seen:
        LiveChange.objects.create(
            cluster_id=cluster_id, instances=sorted(instances), keys=sorted(keys), seen=sorted(seen)
        )
        wake(TaskName.PROJECTS_LIVE_CHANGED, priority=3)


def _state(row: LiveResource | _Before) -> tuple[Any, ...]:
    return row.digest, row.health, row.instance, row.deleting, row.uid


def shown_by(key: str, owners: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the keys of a resource's owners, or its own key when it has none.

    A tree shows the resource below them.
    """
    namespace = key.split("/")[2]
    found = {
        ResourceKey(
            split_api_version(str(o.get("apiVersion") or ""))[0],
            str(o.get("kind")),
            place,
            str(o.get("name")),
        ).text
        for o in owners
        for place in (namespace, "")
    }
    return found or {key}


def known_keys(cluster_id: int, group: str, kind: str, namespaces: Sequence[str] = ()) -> set[str]:
    """Return the stored keys of one kind: those missing from a new list are deleted."""
    query = LiveResource.objects.filter(cluster_id=cluster_id, group=group, kind=kind)
    if namespaces:
        query = query.filter(namespace__in=namespaces)
    return set(query.values_list("key", flat=True))


def forget_kind(cluster_id: int, group: str, kind: str, *, holder: str = "") -> None:
    """Delete the resources of a kind that the cluster no longer serves."""
    keys = LiveResource.objects.filter(cluster_id=cluster_id, group=group, kind=kind).values_list(
        "key", flat=True
    )
    record(cluster_id, [], list(keys), holder=holder)


def forget_unwatched(
    cluster: Cluster,
    watched: set[tuple[str, str]],
    kept: set[tuple[str, str]],
    groups: set[str],
    *,
    holder: str = "",
) -> None:
    """Delete what an earlier watch wrote and this one does not cover.

    That includes kinds that are gone or excluded, and other namespaces.
    Shapes: `kept` are kinds that are served and cannot be watched; `groups` those whose server does
        not respond.
    """
    rows = LiveResource.objects.filter(cluster_id=cluster.pk)
    kinds = set(rows.values_list("group", "kind").distinct()) - watched - kept
    for group, kind in sorted(kinds):
        if group not in groups and not (cluster.is_home and (group, kind) in OUR_KINDS):
            forget_kind(cluster.pk, group, kind, holder=holder)
    if cluster.namespaces:
        others = rows.exclude(namespace__in=[*cluster.namespaces, ""])
        record(cluster.pk, [], list(others.values_list("key", flat=True)), holder=holder)


def managed_kinds(cluster_id: int) -> set[tuple[str, str]]:
    """Return the kinds with managed resources in a cluster."""
    query = (
        LiveResource.objects.filter(cluster_id=cluster_id)
        .exclude(instance="")
        .values_list("group", "kind")
    )
    return set(query.distinct())


def store_manifest(row: LiveResource, manifest: Manifest) -> None:
    """Store the full manifest of a resource that an application wants but has not marked yet.

    It is kept until the resource changes.
    """
    fresh = LiveResource(cluster_id=row.cluster_id)
    _assess(fresh, manifest)
    LiveResource.objects.filter(pk=row.pk, resource_version=row.resource_version).update(
        body=pack(manifest),
        digest=digest_of(manifest),
        health=fresh.health,
        health_message=fresh.health_message,
        shown=fresh.shown,
    )


_ASKED_BY_CHARTS = ("server_version", "api_kinds")


def set_connection(
    cluster_id: int, status: str, message: str = "", *, holder: str = "", **columns: Any
) -> None:
    """Write a cluster's connection state, and enqueue its applications when it changed.

    Raises: LeaseLost when a watcher reports the state but has lost the lease.
    """
    before = (
        Cluster.objects.filter(pk=cluster_id)
        .values("connection", "is_synced", "server_version", "api_kinds")
        .first()
    )
    if before is None:
        return
    now_synced = columns.get("is_synced", before["is_synced"])
    is_other = (status, now_synced) != (before["connection"], before["is_synced"])
    with transaction.atomic():
        rows = Cluster.objects.filter(pk=cluster_id)
        mine = rows.filter(lease_holder=holder) if holder else rows
        written = mine.update(
            connection=status, message=message[:1000], attempted_at=timezone.now(), **columns
        )
        if holder and not written:
            raise LeaseLost
        if is_other:
            rows.update(resource_version=next_version())
            publish()
    if is_other:
        wake(TaskName.PROJECTS_CLUSTER_CHANGED, cluster_id)
    known: dict[str, Any] = dict(before)
    if any(columns.get(name, known[name]) != known[name] for name in _ASKED_BY_CHARTS):
        wake(TaskName.PROJECTS_CAPABILITIES_CHANGED, cluster_id)
