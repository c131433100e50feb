"""Normalize manifests to the form in which an API server stores them."""

import base64
from typing import Any

from hub.engine.resource import Manifest, is_builtin, resource_key
from hub.engine.schema import ABSENT, ANY, LIST, MAP, Type

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


def normalize_desired(manifest: Manifest, type_: Type | None = None) -> Manifest:
    """Normalize a manifest from a source.

    `stringData` moves into `data`; `status` and empty annotations and labels are removed, and the
    nulls that state nothing: all of them where the type is not known.
    """
    key = resource_key(manifest)
    result = {k: v for k, v in manifest.items() if k != "status"}
    if (key.group, key.kind) == ("", "Secret"):
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
            metadata[field] = _with_empty_text(metadata[field])
    result = {**result, "metadata": metadata}
    if type_ is None:
        return dict(without_nulls(result))
    stated = with_stated_nulls if is_builtin(key.group) else with_nullable_nulls
    return dict(stated(result, type_))


def _with_empty_text(texts: dict[str, Any]) -> dict[str, Any]:
    """Replace the null of a key by an empty text, as API servers do where a map holds texts."""
    return {key: "" if text is None else text for key, text in texts.items()}


def _fold_string_data(manifest: Manifest) -> Manifest:
    data = _with_empty_text(manifest.get("data") or {})
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


def with_stated_nulls(value: Any, type_: Type) -> Any:
    """Replace the nulls of a built-in kind by what they state to an API server.

    A null list or map is an empty one: `rules: null` of a Role grants nothing. The null of another
    field resets it, and stays. Nulls inside atomic values and of unknown fields state nothing.
    """
    if isinstance(value, list) and type_.keys:
        return [with_stated_nulls(item, type_.element) for item in value]
    if not isinstance(value, dict) or type_.is_atomic or type_.shape != MAP:
        return without_nulls(value)
    found = {name: _stated(inner, name, type_) for name, inner in value.items()}
    return {name: inner for name, inner in found.items() if inner is not ABSENT}


def _stated(value: Any, name: str, around: Type) -> Any:
    type_ = around.field(name)
    if value is not None:
        return with_stated_nulls(value, type_)
    if around.is_key(name):
        return "" if type_.default == "" else ABSENT
    if type_.shape == LIST:
        return []
    if type_.is_keyed_by_author:
        return {}
    # An API server sets creation times; a field that identifies an element has its default.
    is_given = type_.shape == ANY or type_.default is not ABSENT or name == "creationTimestamp"
    return ABSENT if is_given else None


def with_nullable_nulls(value: Any, type_: Type) -> Any:
    """Keep the nulls of a custom kind where null is a value, and remove the others.

    API servers reject the others in an apply, and drop them in a creation. Of fields that a schema
    preserves without defining them, every null is a value.
    """
    if isinstance(value, list) and type_.shape == LIST:
        return [with_nullable_nulls(item, type_.element) for item in value]
    if not isinstance(value, dict) or type_.shape != MAP:
        return value
    return {
        name: with_nullable_nulls(inner, type_.field(name))
        for name, inner in value.items()
        if inner is not None or type_.field(name).is_nullable or _is_preserved(type_, name)
    }


def _is_preserved(type_: Type, name: str) -> bool:
    return type_.is_open and not type_.has_field(name)


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
