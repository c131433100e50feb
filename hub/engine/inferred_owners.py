"""Owners of resources that have no ownerReferences.

Source: as Argo CD. Endpoints belong to the Service of the same name, a service account's token to
the account, a claim of a template to its StatefulSet, a ClusterServiceVersion to its OperatorGroup.
"""

import re
from collections.abc import Mapping
from typing import Any

from hub.engine.resource import Manifest, ResourceKey, annotations_of, resource_key

CLAIM = ("", "PersistentVolumeClaim")
STATEFUL_SET = ("apps", "StatefulSet")
PARENTS = {
    STATEFUL_SET: CLAIM,
    ("", "Service"): ("", "Endpoints"),
    ("operators.coreos.com", "OperatorGroup"): ("operators.coreos.com", "ClusterServiceVersion"),
}
"""Kinds whose children are found by name, with the kind of the children."""
_ACCOUNT = "kubernetes.io/service-account."
_MAX_TEMPLATES = 100
_ORDINAL = re.compile(r"(0|[1-9]\d*)\Z")


def owner_of(manifest: Manifest) -> dict[str, Any] | None:
    """Return the owner that a resource without ownerReferences implies, None if it has none.

    Shapes: an ownerReference; without a uid it is the resource of that name in the same namespace.
    """
    key = resource_key(manifest)
    notes = annotations_of(manifest)
    if (key.group, key.kind) == ("", "Secret"):
        name, uid = (str(notes.get(f"{_ACCOUNT}{field}") or "") for field in ("name", "uid"))
        return _owner("v1", "ServiceAccount", name, uid) if name and uid else None
    if (key.group, key.kind) == ("", "Endpoints"):
        return _owner("v1", "Service", key.name)
    if (key.group, key.kind) == ("operators.coreos.com", "ClusterServiceVersion"):
        name = str(notes.get("olm.operatorGroup") or "")
        return _owner("operators.coreos.com/v1", "OperatorGroup", name) if name else None
    return None


def _owner(api_version: str, kind: str, name: str, uid: str = "") -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": False,
        "inferred": True,
    }


def owner_by(parent: ResourceKey, uid: str) -> dict[str, Any]:
    """Return an ownerReference to a parent."""
    return _owner(f"{parent.group}/v1" if parent.group else "v1", parent.kind, parent.name, uid)


def claim_stems(stateful_set: Mapping[str, Any]) -> list[str]:
    """Return the name prefixes of a StatefulSet's claims: TEMPLATE-SET of TEMPLATE-SET-ORDINAL."""
    own = (stateful_set.get("metadata") or {}).get("name")
    templates = (stateful_set.get("spec") or {}).get("volumeClaimTemplates") or []
    listed = templates if isinstance(templates, list) else []
    said = [t.get("metadata") for t in listed[:_MAX_TEMPLATES] if isinstance(t, dict)]
    return [f"{about.get('name')}-{own}" for about in said if isinstance(about, dict)]


def stem_of_claim(name: str) -> str:
    """Return the name of a claim without its ordinal, empty if it has none."""
    stem, _, ordinal = name.rpartition("-")
    return stem if _ORDINAL.match(ordinal) else ""
