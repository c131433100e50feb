"""Normalize manifests to the form in which an API server stores them."""

import base64
from typing import Any

from hub.engine.resource import Manifest, resource_key

_SERVER_METADATA = (
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def normalize_desired(manifest: Manifest) -> Manifest:
    """Normalize a manifest from a source.

    `stringData` moves into `data`; nulls, `status`, and empty annotations and labels are removed.
    """
    key = resource_key(manifest)
    result = {k: v for k, v in manifest.items() if k != "status"}
    if key.group == "" and key.kind == "Secret":
        result = _fold_string_data(result)
    if is_aggregated_role(result) and not result.get("rules"):
        # An empty list would take over the field that the cluster fills in.
        result = {k: v for k, v in result.items() if k != "rules"}
    metadata = {
        k: v
        for k, v in result["metadata"].items()
        if k not in _SERVER_METADATA and not (k in ("annotations", "labels") and not v)
    }
    for field in ("annotations", "labels"):
        if field in metadata:
            metadata[field] = {k: ("" if v is None else v) for k, v in metadata[field].items()}
    return dict(without_nulls({**result, "metadata": metadata}))


def _fold_string_data(manifest: Manifest) -> Manifest:
    data = {k: ("" if v is None else v) for k, v in (manifest.get("data") or {}).items()}
    for name, text in (manifest.get("stringData") or {}).items():
        value = "" if text is None else text if isinstance(text, str) else str(text)
        data[name] = base64.b64encode(value.encode()).decode()
    result = {k: v for k, v in manifest.items() if k not in ("stringData", "data")}
    return {**result, "data": data} if data else result


def without_nulls(value: Any) -> Any:
    """Remove null fields of objects at every depth."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def for_comparison(manifest: Manifest, *, ignore_status: bool = True) -> Manifest:
    """Remove the fields of a live or predicted resource that only the server sets."""
    result = {k: v for k, v in manifest.items() if k != "status" or not ignore_status}
    metadata = {
        k: v for k, v in (result.get("metadata") or {}).items() if k not in _SERVER_METADATA
    }
    annotations = {
        k: v
        for k, v in (metadata.get("annotations") or {}).items()
        if k
        not in (
            "kubectl.kubernetes.io/last-applied-configuration",
            "deployment.kubernetes.io/revision",
        )
    }
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    if not metadata.get("labels"):
        metadata.pop("labels", None)
    return {**result, "metadata": metadata}


def is_aggregated_role(manifest: Manifest) -> bool:
    """Return whether the cluster fills in a ClusterRole's rules by aggregation."""
    return manifest.get("kind") == "ClusterRole" and bool(manifest.get("aggregationRule"))
