"""Import of Argo CD's ConfigMaps."""

import base64
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from hub.cli import configmaps
from hub.cli.client import path
from hub.cli.installation import own_objects
from hub.cli.installation.report import Document, Report


def take_config_map(report: Report, document: Document, name: str) -> None:
    """Import a ConfigMap of Argo CD, or one of the hub's own."""
    data = document.get("data") or {}
    if name == "argocd-cm":
        _settings(report, data)
    elif name == "argocd-rbac-cm":
        found = report.hub.get(path("flotilla", "rbac")).get("data") or {}
        report.write(
            "ConfigMap argocd-rbac-cm",
            found or None,
            data,
            lambda: report.hub.put(path("flotilla", "rbac"), {"data": data}),
        )
    elif name == "argocd-ssh-known-hosts-cm":
        _hosts(report, str(data.get("ssh_known_hosts") or ""))
    elif name == "argocd-gpg-keys-cm":
        _keys(report, data)
    elif name == "argocd-tls-certs-cm":
        _authorities(report, data)
    elif name == "argocd-notifications-cm":
        for key in data:
            report.line(
                f"ConfigMap {name} {key}", "kept back", "the hub sends no notifications yet"
            )
    elif name == own_objects.NAME:
        own_objects.take(report, data)
    elif own_objects.GENERATOR in (document["metadata"].get("labels") or {}):
        own_objects.take_config_map(report, document, name)
    else:
        report.line(
            f"ConfigMap {name}",
            "kept back",
            (
                "the hub does not store such objects; "
                "create a generator's with POST /api/v1/flotilla/configmaps"
            ),
        )


def _settings(report: Report, data: Mapping[str, Any]) -> None:
    found = configmaps.read(data)
    for name, value in found.settings.items():
        report.attempt(f"setting {name}", partial(_setting, report, name, value))
    for name, wanted in found.accounts.items():
        report.attempt(f"account {name}", partial(_account, report, name, wanted))
    if found.provider is not None:
        report.attempt("identity provider oidc", partial(_provider, report, found.provider))
    for key, note in found.left:
        report.line(f"ConfigMap argocd-cm {key}", "kept back", note)


def _setting(report: Report, name: str, value: Any) -> None:
    where = path("flotilla", "settings", name)
    before = report.hub.get(where)["value"]
    report.write(f"setting {name}", before, value, partial(report.hub.put, where, {"value": value}))


def _account(report: Report, name: str, wanted: Mapping[str, Any]) -> None:
    found = report.read(path("account", name))
    shown = {
        "capabilities": sorted(wanted.get("capabilities") or []),
        "enabled": wanted.get("enabled", True),
    }
    if found is None:
        report.line(
            f"account {name}",
            "kept back",
            (
                "its password cannot be carried over: create it (Settings, Accounts) "
                f"with {', '.join(shown['capabilities']) or 'no capabilities'}"
            ),
        )
        return
    before = {
        "capabilities": sorted(found.get("capabilities") or []),
        "enabled": found.get("enabled", False),
    }
    report.write(
        f"account {name}",
        before,
        shown,
        lambda: report.hub.patch(path("flotilla", "accounts", name), shown),
    )


def _provider(report: Report, config: dict[str, Any]) -> None:
    title = str(config.get("name") or "OIDC")
    secret = str(config.get("clientSecret") or "")
    body: dict[str, Any] = {
        "name": title,
        "type": "oidc",
        "config": {k: v for k, v in config.items() if k != "name"},
        "enabled": True,
    }
    found = next((p for p in own_objects.providers(report.hub) if p.get("id") == "oidc"), None)
    if secret.startswith("$"):
        del body["config"]["clientSecret"]
    if found is not None:
        report.line(
            "identity provider oidc",
            "unchanged",
            "it is registered already: change it in Settings, Sign-in",
        )
        return
    if secret.startswith("$"):
        report.line(
            "identity provider oidc",
            "kept back",
            (
                f"its secret is in {secret}: register it in Settings, Sign-in, "
                f"with issuer {config.get('issuer')}"
            ),
        )
        return
    report.write(
        "identity provider oidc",
        None,
        body,
        lambda: report.hub.put(path("flotilla", "sso", "providers", "oidc"), body),
    )


def _hosts(report: Report, text: str) -> None:
    known = {
        (i["serverName"], i["certSubType"])
        for i in report.hub.get(path("certificates")).get("items") or []
    }
    items = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and not words[0].startswith("#") and (words[0], words[1]) not in known:
            items.append(
                {
                    "serverName": words[0],
                    "certType": "ssh",
                    "certSubType": words[1],
                    "certData": words[2],
                }
            )
    report.write(
        "ConfigMap argocd-ssh-known-hosts-cm",
        [],
        items,
        lambda: report.hub.post(path("certificates"), {"items": items}),
    )


def _authorities(report: Report, data: Mapping[str, Any]) -> None:
    known = report.hub.get(path("flotilla", "known-hosts")).get("certificates") or {}
    for host, pem in data.items():
        item = {
            "serverName": host,
            "certType": "https",
            "certData": base64.b64encode(str(pem).encode()).decode(),
        }
        report.write(
            f"ConfigMap argocd-tls-certs-cm {host}",
            _pem(known.get(host.lower())),
            _pem(pem),
            lambda i=item: report.hub.post(path("certificates", upsert=True), {"items": [i]}),  # type: ignore[misc]
        )


def _keys(report: Report, data: Mapping[str, Any]) -> None:
    known = {str(i["keyID"]) for i in report.hub.get(path("gpgkeys")).get("items") or []}
    for key_id, text in data.items():
        before = True if key_id in known else None
        report.write(
            f"GnuPG key {key_id}",
            before,
            True,
            partial(report.hub.post, path("gpgkeys"), {"keydata": text}),
        )


def _pem(text: Any) -> list[str] | None:
    """Return the certificates of a PEM text in one format, so that equal ones compare equal."""
    if not text:
        return None
    bodies = re.findall(
        r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", str(text), re.DOTALL
    )
    return ["".join(b.split()) for b in bodies]
