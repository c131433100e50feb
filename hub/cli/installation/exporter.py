"""Export of the hub as manifests, in Argo CD's form and order."""

import json
from collections.abc import Mapping
from typing import Any

from hub.cli import configmaps
from hub.cli.client import Client, path
from hub.cli.installation import own_objects
from hub.cli.installation.credentials import REPOSITORY_SWITCHES
from hub.cli.installation.report import API, OMITTED, SECRET_TYPE, Document, metadata_of

SETTINGS = (
    "health",
    "actions",
    "ignore_differences",
    "compare_options",
    "resource_filters",
    "global_projects",
    "anonymous",
    "enforce_rollback",
    "require_override_for_revision",
    "impersonation",
    "password_pattern",
    "notices",
)


def export(hub: Client) -> list[Document]:
    """Return everything that the hub keeps, without credentials."""
    documents = [*_config_maps(hub), *_secrets(hub), *own_objects.secrets(hub), *_objects(hub)]
    return [d for d in documents if d["kind"] != "ConfigMap" or d.get("data")]


def _config_maps(hub: Client) -> list[Document]:
    settings = {n: hub.get(path("flotilla", "settings", n))["value"] for n in SETTINGS}
    if not own_objects.is_banner(settings["notices"] or []):
        settings["notices"] = []  # all notices are in the hub's own ConfigMap
    accounts = hub.get(path("account")).get("items") or []
    rbac = hub.get(path("flotilla", "rbac")).get("data") or {}
    known = hub.get(path("flotilla", "known-hosts"))
    hosts = known.get("lines") or []
    keys = [
        hub.get(path("gpgkeys", i["keyID"])) for i in hub.get(path("gpgkeys")).get("items") or []
    ]
    return [
        _map("argocd-cm", configmaps.write(settings, accounts)),
        _map("argocd-rbac-cm", {k: v if isinstance(v, str) else str(v) for k, v in rbac.items()}),
        _map(
            "argocd-ssh-known-hosts-cm",
            {"ssh_known_hosts": "\n".join(hosts) + "\n"} if hosts else {},
        ),
        _map("argocd-tls-certs-cm", known.get("certificates") or {}),
        _map("argocd-gpg-keys-cm", {k["keyID"]: k.get("keyData", "") for k in keys}),
        _map(own_objects.NAME, own_objects.data_of(hub)),
        *own_objects.config_maps(hub),
    ]


def _secrets(hub: Client) -> list[Document]:
    clusters = hub.get(path("clusters"))["items"]
    repositories = hub.get(path("repositories")).get("items") or []
    templates = hub.get(path("repocreds")).get("items") or []
    return [
        *(_cluster_secret(c) for c in clusters if c.get("name") != "in-cluster"),
        *(_repository_secret(r, "repository") for r in repositories),
        *(_repository_secret(r, "repo-creds") for r in templates),
    ]


def _objects(hub: Client) -> list[Document]:
    found = []
    for kind, where in (
        ("AppProject", "projects"),
        ("Application", "applications"),
        ("ApplicationSet", "applicationsets"),
    ):
        for item in hub.get(path(where)).get("items") or []:
            metadata = metadata_of(item)
            owners = item["metadata"].get("ownerReferences")
            if owners:
                metadata["ownerReferences"] = owners
            found.append(
                {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": item["spec"]}
            )
    return found


def _map(name: str, data: Mapping[str, Any]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": "argocd",
            "labels": {"app.kubernetes.io/part-of": "argocd"},
        },
        "data": dict(data),
    }


def _secret_of(
    name: str,
    kind: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    data: Mapping[str, Any],
) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": "argocd",
            "labels": {SECRET_TYPE: kind, **labels},
            "annotations": {**annotations, OMITTED: "omitted"},
        },
        "stringData": {k: v for k, v in data.items() if v not in ("", None, False)},
    }


def _slug(text: str) -> str:
    return "".join(
        c if c.isalnum() else "-" for c in text.partition("://")[2].lower() or text.lower()
    ).strip("-")[:200]


def _cluster_secret(cluster: Mapping[str, Any]) -> Document:
    data = {
        "name": cluster.get("name", ""),
        "server": cluster["server"],
        "project": cluster.get("project", ""),
        "namespaces": ",".join(cluster.get("namespaces") or []),
        "clusterResources": "true" if cluster.get("clusterResources") else "",
        "config": json.dumps(
            {"tlsClientConfig": (cluster.get("config") or {}).get("tlsClientConfig") or {}}
        ),
    }
    return _secret_of(
        f"cluster-{_slug(cluster['server'])}",
        "cluster",
        cluster.get("labels") or {},
        cluster.get("annotations") or {},
        data,
    )


def _repository_secret(item: Mapping[str, Any], kind: str) -> Document:
    url = str(item.get("repo") or item.get("url"))
    data = {
        "url": url,
        **{k: item.get(k) for k in ("type", "name", "project", "username")},
        **{k: "true" for k in REPOSITORY_SWITCHES if item.get(k)},
    }
    return _secret_of(
        f"{'repo' if kind == 'repository' else 'creds'}-{_slug(url)}", kind, {}, {}, data
    )
