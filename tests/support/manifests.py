"""Random manifests of a cluster's kinds, made from the schemas that the cluster itself
publishes.
"""

import copy
import random
from dataclasses import dataclass
from typing import Any

from clusters.kinds import Refused
from clusters.kube import Connection, kind_of
from hub.base.outbound.bounds import parse
from hub.engine.resource import Manifest, split_api_version

_PREFIX = "#/components/schemas/"
_TEXTS = ("a", "b", "x1", "web", "10Mi", "1h", "80", "true", "")
_WHOLE = (0, 1, 2, 3, 5, 80, 1000)
_QUANTITIES = ("1", "1000m", "0.5", "500m", "1Gi", "1024Mi", 2, "0", "1e3")
_EITHER = (0, 1, "50%", "http", 25)
SKIPPED = {
    "managedFields",
    "ownerReferences",
    "status",
    "finalizers",
    "webhooks",
    "deletionTimestamp",
    "nodeName",
}
"""Fields that would break the control plane, or that are no part of a comparison."""


class Schemas:
    """The schemas of a cluster as it publishes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._known = connection, {}

    def of(self, api_version: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the schema of a kind, and those that it names."""
        group, version = split_api_version(api_version)
        root = f"apis/{group}/{version}" if group else f"api/{version}"
        if root not in self._known:
            document = parse(self._connection.read(f"/openapi/v3/{root}"))
            self._known[root] = document["components"]["schemas"]
        mark = {"group": group, "version": version, "kind": kind}
        found = self._known[root]
        return next(
            s for s in found.values() if mark in s.get("x-kubernetes-group-version-kind", ())
        ), found


def resolved(schema: dict[str, Any], all_: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the one that it names put in."""
    for _ in range(5):
        named = schema.get("$ref") or next(
            (s["$ref"] for s in schema.get("allOf", ()) if "$ref" in s), None
        )
        if not named:
            return schema
        name = named.removeprefix(_PREFIX)
        if name.endswith(".Quantity"):
            return {"format": "quantity"}
        schema = all_[name]
    return schema


def value(
    schema: dict[str, Any], all_: dict[str, Any], chance: random.Random, depth: int = 3
) -> Any:
    """Return a random value of a schema; whether the server takes it is for the server to say."""
    schema = resolved(schema, all_)
    form, kind = schema.get("format"), schema.get("type")
    if form == "quantity":
        return chance.choice(_QUANTITIES)
    if form == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return chance.choice(_EITHER)
    if schema.get("enum"):
        return chance.choice(schema["enum"])
    if kind == "array":
        count = chance.choice((0, 1, 1, 2)) if depth else 0
        return [value(schema["items"], all_, chance, depth - 1) for _ in range(count)]
    if kind == "boolean":
        return chance.random() < 0.5
    if kind in ("integer", "number"):
        return chance.choice(_WHOLE)
    if kind == "string":
        return "YQ==" if form == "byte" else chance.choice(_TEXTS)
    if "properties" in schema:
        return _object(schema, all_, chance, depth)
    if isinstance(schema.get("additionalProperties"), dict):
        names = chance.sample(("a", "b", "app"), chance.choice((0, 1, 2)))
        return {n: value(schema["additionalProperties"], all_, chance, depth - 1) for n in names}
    return {"a": chance.choice(_WHOLE)} if kind == "object" else chance.choice(_TEXTS)


def _object(schema: dict[str, Any], all_: dict[str, Any], chance: random.Random, depth: int) -> Any:
    names = [n for n in schema["properties"] if n not in SKIPPED]
    required = [n for n in schema.get("required", ()) if n in names]
    more = chance.sample(names, min(len(names), chance.choice((0, 1, 1, 2)))) if depth > 0 else []
    chosen = dict.fromkeys([*required, *more])
    return {n: value(schema["properties"][n], all_, chance, depth - 1) for n in chosen}


def changed(
    manifest: Manifest, schema: dict[str, Any], all_: dict[str, Any], chance: random.Random
) -> Manifest:
    """Return a manifest with one place that its schema names set to a random value, or to a zero
    value, or taken out.
    """
    result = copy.deepcopy(manifest)
    node, kind = result, schema
    names = [
        n for n in schema["properties"] if n not in ("apiVersion", "kind", "metadata", *SKIPPED)
    ]
    if not names:
        return _labelled(result, chance)
    name: Any = chance.choice(names)
    inner = schema["properties"][name]
    while True:
        kind = resolved(inner, all_)
        current = node[name] if isinstance(name, int) or name in node else None
        if isinstance(current, dict) and current and chance.random() < 0.85:
            options = [n for n in kind.get("properties", ()) if n not in SKIPPED] or list(current)
            present = [n for n in options if n in current]
            node = current
            name = chance.choice(present if present and chance.random() < 0.6 else options)
            inner = kind.get("properties", {}).get(name) or kind.get("additionalProperties") or {}
        elif isinstance(current, list) and current and chance.random() < 0.85:
            node, name, inner = current, chance.randrange(len(current)), kind.get("items", {})
        else:
            break
    _set(node, name, kind, all_, chance)
    return result


def _labelled(manifest: Manifest, chance: random.Random) -> Manifest:
    labels = {"x": chance.choice(("", "a", "b"))} if chance.random() < 0.8 else {}
    manifest["metadata"] = {**manifest["metadata"], "labels": labels}
    return manifest


def _set(
    node: Any, name: Any, kind: dict[str, Any], all_: dict[str, Any], chance: random.Random
) -> None:
    current = node[name] if isinstance(name, int) or name in node else None
    if current is not None and chance.random() < 0.25:
        del node[name]
        return
    zeros = {"boolean": False, "integer": 0, "number": 0, "string": "", "array": [], "object": {}}
    if chance.random() < 0.3 and kind.get("type") in zeros:
        node[name] = zeros[kind["type"]]
        return
    node[name] = value(kind, all_, chance)


@dataclass
class Tried:
    """A cluster that says what it takes."""

    connection: Connection
    schemas: Schemas

    def takes(self, manifest: Manifest) -> Manifest | None:
        """Return what a manifest would become, None when the cluster refuses it."""
        try:
            kind = kind_of(self.connection, manifest)
            return self.connection.apply(kind, manifest, dry_run=True)
        except Refused:
            return None

    def grown(self, base: Manifest, chance: random.Random, steps: int) -> Manifest:
        """Return a manifest with random changes that the cluster takes."""
        schema, all_ = self.schemas.of(base["apiVersion"], base["kind"])
        result = base
        for _ in range(steps):
            tried = changed(result, schema, all_, chance)
            if tried != result and self.takes(tried) is not None:
                result = tried
        return result
