"""What a sandbox says of its kinds: discovery and OpenAPI."""

from typing import Any

from clusters.sandbox.kinds import Served
from clusters.sandbox.store import Failure, Store
from clusters.sandbox.types import document_of
from hub.engine.resource import is_builtin

VERSION = "v1.36.0-sandbox"
VERSIONS = {"major": "1", "minor": "36", "gitVersion": VERSION, "platform": "linux/amd64"}
JSON = "application/json"


def openapi(store: Store, name: str, path: str) -> Any:
    """Return just enough of OpenAPI v3 for kubectl to detect server-side field validation."""
    roots = {
        (f"apis/{k.group}/{k.version}" if k.group else f"api/{k.version}")
        for k in store.kinds.values()
    }
    if not path:
        return {
            "paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in sorted(roots)}
        }
    kinds = [
        k
        for k in store.kinds.values()
        if path in (f"apis/{k.group}/{k.version}", f"api/{k.version}")
    ]
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    schemas = [(k, store.schema(k)) for k in kinds if not is_builtin(k.group)]
    return {
        **document_of(schemas),
        "openapi": "3.0.0",
        "info": {"title": name, "version": VERSION},
        "paths": {
            f"/{path}/{k.plural}/{{name}}": {
                "patch": {
                    "parameters": parameters,
                    "responses": {},
                    "x-kubernetes-group-version-kind": {
                        "group": k.group,
                        "version": k.version,
                        "kind": k.kind,
                    },
                }
            }
            for k in kinds
        },
    }


def groups(store: Store, accept: str, *, core: bool) -> tuple[Any, str]:
    """Return the API groups, in the format that a client accepts, and its content type."""
    kinds = [k for k in store.kinds.values() if (k.group == "") == core]
    if "APIGroupDiscoveryList" in accept:
        body = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [_group_discovery(g, kinds) for g in sorted({k.group for k in kinds})],
        }
        content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        return body, content_type
    if core:
        return {"kind": "APIVersions", "versions": ["v1"]}, JSON
    found = []
    for group, version in sorted({(k.group, k.version) for k in kinds}):
        entry = {"groupVersion": f"{group}/{version}", "version": version}
        found.append({"name": group, "versions": [entry], "preferredVersion": entry})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}, JSON


def resources(store: Store, group: str, version: str) -> Any:
    """Return the kinds of a version of an API group.

    Raises: Failure if there are none.
    """
    kinds = [k for k in store.kinds.values() if (k.group, k.version) == (group, version)]
    if not kinds:
        raise Failure(404, "NotFound", "the server could not find the requested resource")
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].api_version,
        "resources": [
            {
                "name": k.plural,
                "singularName": k.kind.lower(),
                "namespaced": k.namespaced,
                "kind": k.kind,
                "verbs": list(k.verbs),
                "shortNames": list(k.short),
            }
            for k in kinds
        ],
    }


def _subresources(kind: Served) -> list[Any]:
    if kind.plural not in ("deployments", "replicasets", "statefulsets"):
        return []
    response = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    return [{"subresource": "scale", "responseKind": response, "verbs": ["get", "patch", "update"]}]


def _group_discovery(group: str, kinds: list[Served]) -> Any:
    versions: dict[str, list[Any]] = {}
    for k in kinds:
        if k.group == group:
            versions.setdefault(k.version, []).append(
                {
                    "resource": k.plural,
                    "singularResource": k.kind.lower(),
                    "verbs": list(k.verbs),
                    "shortNames": list(k.short),
                    "scope": "Namespaced" if k.namespaced else "Cluster",
                    "responseKind": {"group": group, "version": k.version, "kind": k.kind},
                    "subresources": _subresources(k),
                }
            )
    return {
        "metadata": {"name": group},
        "versions": [
            {"version": v, "freshness": "Current", "resources": r} for v, r in versions.items()
        ],
    }
