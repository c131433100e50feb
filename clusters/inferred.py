"""Infer owners that resources do not name, for rows of the live store.

It works whichever of parent and child was seen first.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from clusters.models import LiveResource
from hub.engine.errors import MALFORMED_OBJECT
from hub.engine.inferred_owners import (
    CLAIM,
    PARENTS,
    STATEFUL_SET,
    claim_stems,
    owner_by,
    stem_of_claim,
)

CHILDREN = set(PARENTS.values())
MAX_BYTES = 256 * 1024
"""The maximum size of a StatefulSet that is read for its templates."""
# The link between parent and child: the namespace, the parent's kind and a name.
_Tie = tuple[str, tuple[str, str], str]


def infer(cluster_id: int, rows: Mapping[str, LiveResource]) -> None:
    """Set the owners of rows before they are written."""
    children = [r for r in rows.values() if (r.group, r.kind) in CHILDREN and not r.owner_uid]
    if not children:
        return
    kinds = {p for p, child in PARENTS.items() if child in {(r.group, r.kind) for r in children}}
    parents = _rows(cluster_id, kinds, {r.namespace for r in children})
    known = {p.key: p for p in parents} | {
        k: r for k, r in rows.items() if (r.group, r.kind) in kinds
    }
    ties = _ties(known.values())
    for row in children:
        parent = next((ties[tie] for tie in _ties_of_child(row) if tie in ties), None)
        if parent is not None:
            _adopt(row, parent)


def adopt(cluster_id: int, fresh: Iterable[LiveResource], gone: Collection[str]) -> None:
    """Set the owner of stored children of new parents, and clear it for deleted parents."""
    parents = [r for r in fresh if (r.group, r.kind) in PARENTS]
    lost = [tuple(k.split("/")) for k in gone]
    lost_kinds = {(k[0], k[1]) for k in lost} & PARENTS.keys()
    kinds = {PARENTS[(p.group, p.kind)] for p in parents} | {PARENTS[k] for k in lost_kinds}
    if not kinds:
        return
    places = {p.namespace for p in parents} | {k[2] for k in lost if (k[0], k[1]) in lost_kinds}
    changed, ties = [], _ties(parents)
    for row in _rows(cluster_id, kinds, places):
        if row.owners and not row.owners[0].get("inferred"):
            continue
        before = row.owner_uid
        if _owner_key(row) in gone:
            row.owner_uid = ""
            row.owners = [] if (row.group, row.kind) == CLAIM else row.owners
        parent = next((ties[tie] for tie in _ties_of_child(row) if tie in ties), None)
        if parent is not None:
            _adopt(row, parent)
        if row.owner_uid != before:
            changed.append(row)
    LiveResource.objects.bulk_update(changed, ["owners", "owner_uid"])


def _rows(
    cluster_id: int, kinds: Iterable[tuple[str, str]], places: Collection[str]
) -> list[LiveResource]:
    found = LiveResource.objects.filter(cluster_id=cluster_id, namespace__in=places).defer("shown")
    # For all other kinds only the names are read.
    return [
        row
        for group, kind in kinds
        for row in (found if (group, kind) == STATEFUL_SET else found.defer("body")).filter(
            group=group, kind=kind
        )
    ]


def _ties(parents: Iterable[LiveResource]) -> dict[_Tie, LiveResource]:
    """Return parents by what links children to them; each is read once for all its children."""
    found: dict[_Tie, LiveResource] = {}
    for parent in parents:
        kind = (parent.group, parent.kind)
        for word in _stems(parent) if kind == STATEFUL_SET else [parent.name]:
            found.setdefault((parent.namespace, kind, word), parent)
    return found


def _stems(parent: LiveResource) -> list[str]:
    reader = zlib.decompressobj()
    text = reader.decompress(bytes(parent.body or b""), MAX_BYTES)
    if not reader.eof:
        return []
    try:
        return claim_stems(orjson.loads(text))
    except MALFORMED_OBJECT:
        return []


def _ties_of_child(child: LiveResource) -> list[_Tie]:
    kind = (child.group, child.kind)
    if kind == CLAIM:
        stem = stem_of_claim(child.name)
        return [(child.namespace, STATEFUL_SET, stem)] if stem else []
    return [
        (child.namespace, parent, str(owner["name"]))
        for parent, of_it in PARENTS.items()
        for owner in child.owners
        if of_it == kind and owner["kind"] == parent[1]
    ]


def _adopt(row: LiveResource, parent: LiveResource) -> None:
    row.owner_uid = parent.uid
    row.owners = [owner_by(parent.resource_key, parent.uid)]


def _owner_key(row: LiveResource) -> str:
    owner: Mapping[str, Any] = row.owners[0] if row.owners else {}
    group, _, _ = str(owner.get("apiVersion") or "").rpartition("/")
    return "/".join((group, str(owner.get("kind")), row.namespace, str(owner.get("name"))))
