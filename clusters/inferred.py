"""Give rows of the live store the owners that their resources do not name, whichever of the two was seen first."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from clusters.models import LiveResource
from hub.engine.inferred import CLAIM, PARENTS, STATEFUL_SET, is_claim, owner_by

CHILDREN = set(PARENTS.values())


def infer(cluster_id: int, rows: Mapping[str, LiveResource]) -> None:
    """Set the owners of rows that are about to be written."""
    children = [r for r in rows.values() if (r.group, r.kind) in CHILDREN and not r.owner_uid]
    if not children:
        return
    kinds = {p for p, child in PARENTS.items() if child in {(r.group, r.kind) for r in children}}
    parents = _rows(cluster_id, kinds, {r.namespace for r in children})
    known = {p.key: p for p in parents} | {
        k: r for k, r in rows.items() if (r.group, r.kind) in kinds
    }
    for row in children:
        parent = next((p for p in known.values() if _is_parent(p, row)), None)
        if parent is not None:
            _adopt(row, parent)


def adopt(cluster_id: int, fresh: Iterable[LiveResource], gone: Collection[str]) -> None:
    """Tie children that are there already to parents that were just written, and free those of parents that are gone."""
    parents = [r for r in fresh if (r.group, r.kind) in PARENTS]
    lost = [tuple(k.split("/")) for k in gone]
    lost_kinds = {(k[0], k[1]) for k in lost} & PARENTS.keys()
    kinds = {PARENTS[(p.group, p.kind)] for p in parents} | {PARENTS[k] for k in lost_kinds}
    if not kinds:
        return
    places = {p.namespace for p in parents} | {k[2] for k in lost if (k[0], k[1]) in lost_kinds}
    changed = []
    for row in _rows(cluster_id, kinds, places):
        if row.owners and not row.owners[0].get("inferred"):
            continue
        before = row.owner_uid
        if _owner_key(row) in gone:
            row.owner_uid = ""
            row.owners = [] if (row.group, row.kind) == CLAIM else row.owners
        parent = next((p for p in parents if _is_parent(p, row)), None)
        if parent is not None:
            _adopt(row, parent)
        if row.owner_uid != before:
            changed.append(row)
    LiveResource.objects.bulk_update(changed, ["owners", "owner_uid"])


def _rows(
    cluster_id: int, kinds: Iterable[tuple[str, str]], places: Collection[str]
) -> list[LiveResource]:
    found = LiveResource.objects.filter(cluster_id=cluster_id, namespace__in=places)
    return [row for group, kind in kinds for row in found.filter(group=group, kind=kind)]


def _is_parent(parent: LiveResource, child: LiveResource) -> bool:
    if parent.namespace != child.namespace or PARENTS.get((parent.group, parent.kind)) != (
        child.group,
        child.kind,
    ):
        return False
    if (parent.group, parent.kind) == STATEFUL_SET:
        return is_claim(child.name, parent.manifest or {})
    return any((o["kind"], o["name"]) == (parent.kind, parent.name) for o in child.owners)


def _adopt(row: LiveResource, parent: LiveResource) -> None:
    row.owner_uid = parent.uid
    row.owners = [owner_by(parent.resource_key, parent.uid)]


def _owner_key(row: LiveResource) -> str:
    owner: Mapping[str, Any] = row.owners[0] if row.owners else {}
    group, _, _ = str(owner.get("apiVersion") or "").rpartition("/")
    return "/".join((group, str(owner.get("kind")), row.namespace, str(owner.get("name"))))
