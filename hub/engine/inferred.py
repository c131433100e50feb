"""Children that name no owner, and yet belong to one.

Source: as Argo CD: Endpoints to the Service of their name, a service account's token to the account, a claim of
a template to its StatefulSet, a ClusterServiceVersion to its OperatorGroup.
"""

import re
from collections.abc import Mapping
from typing import Any

from hub.engine.resource import Manifest, ResourceKey, resource_key

CLAIM = ("", "PersistentVolumeClaim")
STATEFUL_SET = ("apps", "StatefulSet")
PARENTS = {
    STATEFUL_SET: CLAIM,
    ("", "Service"): ("", "Endpoints"),
    ("operators.coreos.com", "OperatorGroup"): ("operators.coreos.com", "ClusterServiceVersion"),
}
"""Kinds whose children are found by name → the kind of the children."""
_ACCOUNT = "kubernetes.io/service-account."
_ORDINAL = re.compile(r"(0|[1-9]\d*)\Z")


def owner_of(manifest: Manifest) -> dict[str, Any] | None:
    """Return the owner that a resource without ownerReferences has by what it says, None when it says none.

    Shapes: as an ownerReference; without a uid it is the resource of that name in the same namespace.
    """
    key = resource_key(manifest)
    notes = (manifest.get("metadata") or {}).get("annotations") or {}
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
    """Return a parent as the ownerReference that its child does not have."""
    return _owner(f"{parent.group}/v1" if parent.group else "v1", parent.kind, parent.name, uid)


def is_claim(name: str, stateful_set: Mapping[str, Any]) -> bool:
    """Return whether a claim of this name is made of a template of a StatefulSet: TEMPLATE-SET-ORDINAL."""
    own = str((stateful_set.get("metadata") or {}).get("name") or "")
    templates = (stateful_set.get("spec") or {}).get("volumeClaimTemplates") or []
    for template in templates if isinstance(templates, list) else []:
        of_it = (template.get("metadata") or {}) if isinstance(template, dict) else {}
        prefix = f"{of_it.get('name')}-{own}-"
        if name.startswith(prefix) and _ORDINAL.match(name[len(prefix) :]):
            return True
    return False
