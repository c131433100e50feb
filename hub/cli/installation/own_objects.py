"""Export and import what the hub stores in addition to Argo CD's objects.

That is roles, grants, providers, notices, the targets of the audit trail, the data of generators.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hub.cli.client import Client, path
from hub.cli.installation.report import OMITTED, SECRET_TYPE, Report
from hub.cli.problem import Problem

NAME = "flotilla-cm"
"""The ConfigMap of an export that holds roles, grants, providers and so on, each as JSON."""
GENERATOR = "flotilla.io/generator"
"""Labels the ConfigMaps of an export that generators use."""
GENERATOR_SECRET = "generator"
_SERVERS = "flotilla.io/servers"
_PROJECT = "flotilla.io/project"
_FORWARD = "auditForward"
_ROLE = ("name", "description", "rules", "members")
_GRANT = ("subject", "resource", "action", "object", "clusters", "reason", "ticket")
_NOTICES = path("flotilla", "settings", "notices")
_PROVIDER = ("id", "name", "type", "enabled", "config")


def data_of(hub: Client) -> dict[str, str]:
    """Return the data of `flotilla-cm`; secrets of providers stay in the hub."""
    found = {
        "roles": _roles(hub),
        "grants": _grants(hub),
        "notices": [] if is_banner(_notices(hub)) else _notices(hub),
        "providers": [
            {**_only(p, _PROVIDER), "hasSecret": bool(p.get("hasSecret"))} for p in providers(hub)
        ],
        _FORWARD: _forward(hub),
    }
    return {k: json.dumps(v, indent=2, sort_keys=True) for k, v in found.items() if v}


def is_banner(notices: list[Any]) -> bool:
    """Return whether Argo CD's single banner can express the notices."""
    plain = {"tone", "text", "url"}
    return len(notices) == 1 and set(notices[0]) <= plain and notices[0].get("tone") == "info"


def config_maps(hub: Client) -> list[dict[str, Any]]:
    """Return the ConfigMaps that generators use."""
    return [_config_map(c) for c in _items(hub, "configmaps")]


def secrets(hub: Client) -> list[dict[str, Any]]:
    """Return the Secrets that generators use; their values stay in the hub."""
    return [_secret(s) for s in _items(hub, "secrets")]


def _items(hub: Client, name: str) -> list[dict[str, Any]]:
    return list(hub.get(path("flotilla", name)).get("items") or [])


def _roles(hub: Client) -> list[dict[str, Any]]:
    return [_only(r, _ROLE) for r in _items(hub, "roles")]


def _grants(hub: Client) -> list[dict[str, Any]]:
    return [
        {**_only(g, _GRANT), "from": g["startsAt"], "until": g["endsAt"]}
        for g in _items(hub, "grants")
    ]


def providers(hub: Client) -> list[dict[str, Any]]:
    """Return the identity providers, without secrets."""
    return list(hub.get(path("flotilla", "sso", "providers")).get("items") or [])


def _forward(hub: Client) -> list[dict[str, Any]]:
    """Return the targets of the audit trail as a list of none or one."""
    found = hub.get(path("flotilla", "audit", "forward"))
    fields = {"syslog": ("address", "protocol"), "webhook": ("url", "signed")}
    targets = {k: _only(found[k], names) for k, names in fields.items() if found.get(k)}
    return [targets] if targets else []


def _notices(hub: Client) -> list[Any]:
    return list(hub.get(_NOTICES)["value"] or [])


def _only(item: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {k: item[k] for k in fields if item.get(k) not in (None, "", [], {})}


def _config_map(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": item["name"], "namespace": item["namespace"], "labels": {GENERATOR: "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": item["data"]}


def _secret(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        "name": item["name"],
        "namespace": item["namespace"],
        "labels": {SECRET_TYPE: GENERATOR_SECRET},
        "annotations": {_SERVERS: ",".join(item.get("servers") or []), OMITTED: "omitted"},
    }
    data = {"project": item.get("project") or ""}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {k: v for k, v in data.items() if v},
    }


def take(report: Report, data: Mapping[str, Any]) -> None:
    """Import the content of `flotilla-cm`.

    Raises: Problem naming the key that cannot be read.
    """
    takers = {"roles": _take_role, "grants": _take_grant, "providers": _take_provider}
    takers[_FORWARD] = _take_forward
    for key, text in data.items():
        value = _parsed(key, text)
        if key == "notices":
            report.write(
                "setting notices",
                _notices(report.hub) or None,
                value,
                partial(report.hub.put, _NOTICES, {"value": value}),
            )
        elif key in takers:
            for item in value:
                takers[key](report, item)
        else:
            report.line(f"ConfigMap {NAME} {key}", "kept back", "the hub has no such setting")


def _parsed(key: str, text: Any) -> list[dict[str, Any]]:
    try:
        value = json.loads(str(text))
    except ValueError as error:
        raise Problem(f"{NAME}, {key}: no JSON: {error}") from error
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Problem(f"{NAME}, {key}: must be a list of objects")
    return value


def _take_role(report: Report, item: dict[str, Any]) -> None:
    name = str(item.get("name"))
    before = next((r for r in _roles(report.hub) if r["name"] == name), None)
    report.write(
        f"role {name}", before, item, lambda: report.hub.put(path("flotilla", "roles", name), item)
    )


def _take_grant(report: Report, item: dict[str, Any]) -> None:
    right = f"{item.get('resource')} {item.get('action')} {item.get('object')}"
    what = f"grant {item.get('subject')} {right}"
    before = item if item in _grants(report.hub) else None
    try:
        report.write(what, before, item, lambda: report.hub.post(path("flotilla", "grants"), item))
    except Problem as problem:
        # One that has expired since, for example.
        report.line(what, "kept back", str(problem))


def _take_provider(report: Report, item: dict[str, Any]) -> None:
    slug, wanted = str(item.get("id")), _only(item, _PROVIDER)
    found = next((p for p in providers(report.hub) if p.get("id") == slug), None)
    what = f"identity provider {slug}"
    if found is None and item.get("hasSecret"):
        report.line(
            what, "kept back", "its secret is not in the export: register it in Settings, Sign-in"
        )
        return
    before = _only(found, _PROVIDER) if found is not None else None
    report.write(
        what,
        before,
        wanted,
        lambda: report.hub.put(path("flotilla", "sso", "providers", slug), wanted),
    )


def _take_forward(report: Report, item: dict[str, Any]) -> None:
    what, webhook = "forwarding of the audit trail", item.get("webhook") or {}
    before = next(iter(_forward(report.hub)), None)
    if before == item:
        report.line(what, "unchanged")
        return
    if webhook.get("signed") and not webhook.get("secret"):
        report.line(
            what,
            "kept back",
            "its webhook's secret is not in the export: PUT /api/v1/flotilla/audit/forward",
        )
        return
    wanted = {**item, **({"webhook": _only(webhook, ("url", "secret"))} if webhook else {})}
    report.write(
        what, before, wanted, partial(report.hub.put, path("flotilla", "audit", "forward"), wanted)
    )


def take_config_map(report: Report, document: Mapping[str, Any], name: str) -> None:
    """Import a ConfigMap of generators."""
    space = str(document["metadata"].get("namespace") or "argocd")
    found = next(
        (
            c
            for c in _items(report.hub, "configmaps")
            if (c["namespace"], c["name"]) == (space, name)
        ),
        None,
    )
    data = dict(document.get("data") or {})
    body = {"name": name, "namespace": space, "data": data}
    report.write(
        f"ConfigMap {name}",
        found["data"] if found else None,
        data,
        lambda: report.hub.post(path("flotilla", "configmaps"), body),
    )


def take_secret(report: Report, document: Mapping[str, Any], data: Mapping[str, str]) -> None:
    """Import a Secret of generators; without values only report whether the hub has it."""
    metadata = document["metadata"]
    space, name = str(metadata.get("namespace") or "argocd"), str(metadata["name"])
    annotations = metadata.get("annotations") or {}
    servers = annotations.get(_SERVERS) or "HOST"
    is_known = (space, name) in {(s["namespace"], s["name"]) for s in _items(report.hub, "secrets")}
    if OMITTED not in annotations:
        body = {"name": name, "namespace": space, "data": dict(data)}
        body |= {"project": annotations.get(_PROJECT, ""), "servers": servers.split(",")}
        # The hub does not return values, so they cannot be compared: they are written again.
        report.write(
            f"Secret {name}",
            False if is_known else None,
            True,
            partial(report.hub.post, path("flotilla", "secrets"), body),
        )
    elif is_known:
        report.line(f"Secret {name}", "unchanged")
    else:
        report.line(
            f"Secret {name}",
            "failed",
            (
                f"the export has no value for it: "
                f"flotilla appset set-secret {space}/{name} --server {servers}"
            ),
        )


def secret_with_values(document: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Secret of generators with its values, and the servers that may have them."""
    annotations = {_SERVERS: ",".join(item["servers"]), _PROJECT: item["project"]}
    return {
        **document,
        "metadata": {**document["metadata"], "annotations": annotations},
        "stringData": item["data"],
    }


def with_secrets(document: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `flotilla-cm` with the secrets of providers and of the audit trail's webhook."""
    data = dict(document.get("data") or {})
    configs = {i["id"]: i["config"] for i in items if i["kind"] == "provider"}
    if data.get("providers"):
        data["providers"] = json.dumps(
            [
                {**_only(p, _PROVIDER), "config": configs[p["id"]]} if p["id"] in configs else p
                for p in _parsed("providers", data["providers"])
            ]
        )
    webhook = next((i for i in items if i["kind"] == "webhook"), None)
    if data.get(_FORWARD) and webhook:
        data[_FORWARD] = json.dumps(
            [
                {**targets, "webhook": _only(webhook, ("url", "secret"))}
                for targets in _parsed(_FORWARD, data[_FORWARD])
            ]
        )
    return {**document, "data": data}
