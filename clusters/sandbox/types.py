"""The types of a sandbox's kinds: lists with merge keys, and definitions with their schemas."""

import functools
from typing import Any

from clusters.sandbox.kinds import Served
from hub.engine.resource import Manifest, is_builtin
from hub.engine.schema import LIST, MAP, OBJECT, TEXT, Small, Type, small_document, type_of

_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "webhooks": ("name",),
    "secrets": ("name",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "resourceClaims": ("name",),
}
_PLAIN = {"NetworkPolicy", "Ingress", "CustomResourceDefinition", "EndpointSlice", "Endpoints"}
"""Kinds whose lists are atomic."""


@functools.lru_cache(maxsize=256)
def _builtin(kind: str) -> Type:
    lists: dict[str, Small] = {"finalizers": {"t": LIST, "v": TEXT, "s": 1}}
    for name, keys in {} if kind in _PLAIN else _KEYS.items():
        own = ("port", "protocol") if (kind, name) == ("Service", "ports") else keys
        lists[name] = {"t": LIST, "v": "#entry" if name == "ports" else "#map", "k": list(own)}
    entry: Small = {"t": MAP, "v": "#map", "f": {**lists, "protocol": {"t": TEXT, "d": "TCP"}}}
    return Type("#map", {"map": {"t": MAP, "v": "#map", "f": lists}, "entry": entry})


def type_in(kind: Served, schema: Any = None) -> Type:
    """Return the type of a kind; `schema` is from its definition, if it has one."""
    if is_builtin(kind.group):
        return _builtin(kind.kind)
    return (
        type_of(small_document(document_of([(kind, schema)])), kind.group, kind.version, kind.kind)
        or OBJECT
    )


def document_of(kinds: list[tuple[Served, Any]]) -> dict[str, Any]:
    """Return the part of an OpenAPI v3 document with the schemas of definitions."""
    return {
        "components": {"schemas": {k.kind: _schema(k, s) for k, s in kinds if isinstance(s, dict)}}
    }


def _schema(kind: Served, schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    metadata: dict[str, Any] = {
        "type": "object",
        "properties": {
            "finalizers": {
                "type": "array",
                "items": {"type": "string"},
                "x-kubernetes-list-type": "set",
            },
        },
        "x-kubernetes-preserve-unknown-fields": True,
    }
    mark = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    own = properties if isinstance(properties, dict) else {}
    return {
        **schema,
        "properties": {**own, "metadata": metadata},
        "x-kubernetes-group-version-kind": [mark],
    }


def schema_in(definition: Manifest, version: str) -> Any:
    """Return the schema of a version in a definition, None without one."""
    versions = (definition.get("spec") or {}).get("versions") or []
    found = next((v for v in versions if isinstance(v, dict) and v.get("name") == version), {})
    return (found.get("schema") or {}).get("openAPIV3Schema")
