"""Import Argo CD's export of a whole installation, and export the hub in the same form."""

import base64
import binascii
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hub.cli import configmaps, hub_objects
from hub.cli.client import Client, path
from hub.cli.output import say
from hub.cli.problem import Problem

Document = dict[str, Any]
API = "argoproj.io/v1alpha1"
SECRET_TYPE = "argocd.argoproj.io/secret-type"
OMITTED = "flotilla.io/credentials"
"""Marks a Secret whose credentials are not exported: an import keeps the hub's own."""
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
_ORDER = {"ConfigMap": 0, "AppProject": 1, "Secret": 2, "ApplicationSet": 3, "Application": 4}
_REPOSITORY = (
    "insecure",
    "insecureIgnoreHostKey",
    "enableLfs",
    "enableOCI",
    "insecureOCIForceHttp",
    "forceHttpBasicAuth",
)
_NUMBERS = ("githubAppID", "githubAppInstallationID", "depth")


@dataclass(frozen=True, slots=True)
class Line:
    """The result for an object, or a part of it."""

    what: str
    result: str
    """created, updated, unchanged, kept back, or failed."""
    note: str = ""


class Writer:
    """Imports objects one by one, and records the results."""

    def __init__(self, hub: Client, *, dry_run: bool, stop_operation: bool = False) -> None:
        self.hub, self.dry_run, self.stop_operation = hub, dry_run, stop_operation
        self.lines: list[Line] = []
        self.made_by_sets: set[str] = set()

    def take_all(self, documents: list[Document]) -> None:
        """Import a whole installation, in the order of dependencies."""
        for document in sorted(documents, key=lambda d: _ORDER.get(str(d.get("kind")), 9)):
            self.take(document)

    def take(self, document: Document) -> None:
        """Import one object; an error is one line of the report."""
        kind = str(document.get("kind") or "")
        metadata = document.get("metadata") if isinstance(document.get("metadata"), dict) else {}
        name = str((metadata or {}).get("name") or "")
        takers: dict[str, Callable[[Document, str], None]] = {
            "AppProject": self._project,
            "Application": self._application,
            "ApplicationSet": self._set,
            "ConfigMap": self._config_map,
            "Secret": self._secret,
        }
        if kind not in takers or not name:
            self.line(
                f"{kind or 'object'} {name}", "kept back", "the hub does not keep such objects"
            )
            return
        try:
            takers[kind](document, name)
        except Problem as problem:
            self.line(f"{kind} {name}", "failed", str(problem))

    def prune(self, documents: list[Document]) -> None:
        """Delete from the hub what is not in the documents; deployed resources keep running."""
        for kind, where in (
            ("ApplicationSet", "applicationsets"),
            ("Application", "applications"),
            ("AppProject", "projects"),
        ):
            named = {_identity(d) for d in documents if d.get("kind") == kind}
            for item in self.hub.get(path(where)).get("items") or []:
                metadata = item["metadata"]
                if (
                    _identity(item) in named
                    or metadata.get("ownerReferences")
                    or (kind, metadata["name"]) == ("AppProject", "default")
                ):
                    continue
                self._prune(kind, where, metadata)

    def _prune(self, kind: str, where: str, metadata: Mapping[str, Any]) -> None:
        what = f"{kind} {metadata['name']}"
        space = {"applications": "appNamespace", "applicationsets": "appsetNamespace"}.get(where)
        query = {space: metadata.get("namespace")} if space else {}
        try:
            if not self.dry_run:
                self.hub.delete(
                    path(
                        where, metadata["name"], **query, **({"cascade": "false"} if space else {})
                    )
                )
        except Problem as problem:
            self.line(what, "failed", str(problem))
        else:
            self.line(what, "pruned")

    def report(self, *, verbose: bool = True) -> None:
        """Print the results; without `verbose` unchanged objects are left out.

        Raises: Problem when something failed.
        """
        for line in self.lines:
            if line.result == "unchanged" and not verbose and not line.note:
                continue
            changes = ("created", "updated", "pruned")
            dry = " (dry run)" if self.dry_run and line.result in changes else ""
            say(f"{line.what} {line.result}{dry}{f': {line.note}' if line.note else ''}")
        same = sum(line.result == "unchanged" for line in self.lines)
        if same and not verbose:
            say(f"{same} unchanged")
        failed = sum(line.result == "failed" for line in self.lines)
        if failed:
            raise Problem(f"{failed} of {len(self.lines)} could not be imported; the others were")

    def line(self, what: str, result: str, note: str = "") -> None:
        """Record a result."""
        self.lines.append(Line(what, result, note))

    def read(self, where: str) -> Any:
        """Return an object of the hub, None when it is absent."""
        try:
            return self.hub.get(where)
        except Problem as problem:
            # The hub reports a missing object as forbidden.
            if problem.status in (403, 404):
                return None
            raise

    def write(self, what: str, before: Any, wanted: Any, call: Callable[[], Any]) -> None:
        """Write when something differs, and record the result."""
        if before is not None and before == wanted:
            self.line(what, "unchanged")
            return
        if not self.dry_run:
            call()
        self.line(what, "created" if before is None else "updated")

    def _project(self, document: Document, name: str) -> None:
        spec = dict(document.get("spec") or {})
        tokens = [r.get("name") for r in spec.get("roles") or [] if r.get("jwtTokens")]
        spec["roles"] = [
            {k: v for k, v in r.items() if k != "jwtTokens"} for r in spec.get("roles") or []
        ]
        if not spec["roles"]:
            del spec["roles"]
        body = {"metadata": _metadata(document), "spec": spec}
        found = self.read(path("projects", name))
        before = {"metadata": _metadata(found), "spec": found["spec"]} if found else None
        self.write(
            f"AppProject {name}",
            before,
            body,
            lambda: self.hub.post(path("projects"), {"project": body, "upsert": True}),
        )
        if tokens:
            self.line(
                f"AppProject {name} tokens of {', '.join(map(str, tokens))}",
                "kept back",
                (
                    "they were signed by another server: "
                    "create new ones with flotilla proj role create-token"
                ),
            )

    def _application(self, document: Document, name: str) -> None:
        metadata = document["metadata"]
        owner = next(
            (o for o in metadata.get("ownerReferences") or [] if o.get("kind") == "ApplicationSet"),
            None,
        )
        if owner and str(owner.get("name")) in self.made_by_sets:
            self.line(f"Application {name}", "unchanged", f"set {owner['name']} makes it")
            return
        where = str(metadata.get("namespace") or "")
        found = self.read(path("applications", name, appNamespace=where))
        body = {
            "apiVersion": API,
            "kind": "Application",
            "metadata": _metadata(document),
            "spec": document.get("spec") or {},
        }
        before = (
            {
                "apiVersion": API,
                "kind": "Application",
                "metadata": _metadata(found),
                "spec": found["spec"],
            }
            if found
            else None
        )
        call = (
            (
                lambda: self.hub.put(
                    path("applications", name, appNamespace=where, validate="false"), body
                )
            )
            if found
            else (lambda: self.hub.post(path("applications", validate="false"), body))
        )
        if before is not None and before != body:
            self._stop(found, path("applications", name, "operation", appNamespace=where))
        self.write(f"Application {name}", before, body, call)
        self._not_served(f"Application {name}", document.get("spec") or {})

    def _not_served(self, what: str, spec: Mapping[str, Any]) -> None:
        """Report unsupported fields of an application, which is stored and reports them itself."""
        sources = [spec.get("source"), *(spec.get("sources") or [])]
        if any(isinstance(s, Mapping) and s.get("plugin") is not None for s in sources):
            self.line(
                f"{what} source.plugin",
                "kept back",
                "the hub runs no config management plugins: it is stored and cannot be rendered",
            )
        if spec.get("sourceHydrator") is not None:
            self.line(
                f"{what} sourceHydrator",
                "kept back",
                (
                    "the hub hydrates no branches: it is stored and cannot be synced; "
                    "name the hydrated branch in spec.source"
                ),
            )

    def _stop(self, found: Document, operation: str) -> None:
        state = ((found.get("status") or {}).get("operationState") or {}).get("phase")
        if self.stop_operation and not self.dry_run and state == "Running":
            self.hub.delete(operation)
            self.line(f"operation of Application {found['metadata']['name']}", "ended")

    def _set(self, document: Document, name: str) -> None:
        where = str(document["metadata"].get("namespace") or "")
        body = {
            "apiVersion": API,
            "kind": "ApplicationSet",
            "metadata": _metadata(document),
            "spec": document.get("spec") or {},
        }
        found = self.read(path("applicationsets", name, appsetNamespace=where))
        before = (
            {
                "apiVersion": API,
                "kind": "ApplicationSet",
                "metadata": _metadata(found),
                "spec": found["spec"],
            }
            if found
            else None
        )
        self.write(
            f"ApplicationSet {name}",
            before,
            body,
            lambda: self.hub.post(path("applicationsets", upsert=True), body),
        )
        self.made_by_sets.add(name)
        self._not_served(
            f"ApplicationSet {name}",
            ((document.get("spec") or {}).get("template") or {}).get("spec") or {},
        )

    def _config_map(self, document: Document, name: str) -> None:
        data = document.get("data") or {}
        if name == "argocd-cm":
            self._settings(data)
        elif name == "argocd-rbac-cm":
            found = self.hub.get(path("flotilla", "rbac")).get("data") or {}
            self.write(
                "ConfigMap argocd-rbac-cm",
                found or None,
                data,
                lambda: self.hub.put(path("flotilla", "rbac"), {"data": data}),
            )
        elif name == "argocd-ssh-known-hosts-cm":
            self._hosts(str(data.get("ssh_known_hosts") or ""))
        elif name == "argocd-gpg-keys-cm":
            self._keys(data)
        elif name == "argocd-tls-certs-cm":
            self._authorities(data)
        elif name == "argocd-notifications-cm":
            for key in data:
                self.line(
                    f"ConfigMap {name} {key}", "kept back", "the hub sends no notifications yet"
                )
        elif name == hub_objects.NAME:
            hub_objects.take(self, data)
        elif hub_objects.GENERATOR in (document["metadata"].get("labels") or {}):
            hub_objects.take_config_map(self, document, name)
        else:
            self.line(
                f"ConfigMap {name}",
                "kept back",
                (
                    "the hub does not store such objects; "
                    "create a generator's with POST /api/v1/flotilla/configmaps"
                ),
            )

    def _settings(self, data: Mapping[str, Any]) -> None:
        found = configmaps.read(data)
        for name, value in found.settings.items():
            where = path("flotilla", "settings", name)
            before = self.hub.get(where)["value"]
            self.write(
                f"setting {name}",
                before,
                value,
                partial(self.hub.put, where, {"value": value}),
            )
        for name, wanted in found.accounts.items():
            self._account(name, wanted)
        if found.provider is not None:
            self._provider(found.provider)
        for key, note in found.left:
            self.line(f"ConfigMap argocd-cm {key}", "kept back", note)

    def _account(self, name: str, wanted: Mapping[str, Any]) -> None:
        found = self.read(path("account", name))
        shown = {
            "capabilities": sorted(wanted.get("capabilities") or []),
            "enabled": wanted.get("enabled", True),
        }
        if found is None:
            self.line(
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
        self.write(
            f"account {name}",
            before,
            shown,
            lambda: self.hub.patch(path("flotilla", "accounts", name), shown),
        )

    def _provider(self, config: dict[str, Any]) -> None:
        title = str(config.get("name") or "OIDC")
        secret = str(config.get("clientSecret") or "")
        body: dict[str, Any] = {
            "name": title,
            "type": "oidc",
            "config": {k: v for k, v in config.items() if k != "name"},
            "enabled": True,
        }
        found = self.read(path("flotilla", "sso", "providers", "oidc"))
        if secret.startswith("$"):
            del body["config"]["clientSecret"]
        if found is not None:
            self.line(
                "identity provider oidc",
                "unchanged",
                "it is registered already: change it in Settings, Sign-in",
            )
            return
        if secret.startswith("$"):
            self.line(
                "identity provider oidc",
                "kept back",
                (
                    f"its secret is in {secret}: register it in Settings, Sign-in, "
                    f"with issuer {config.get('issuer')}"
                ),
            )
            return
        self.write(
            "identity provider oidc",
            None,
            body,
            lambda: self.hub.put(path("flotilla", "sso", "providers", "oidc"), body),
        )

    def _hosts(self, text: str) -> None:
        known = {
            (i["serverName"], i["certSubType"])
            for i in self.hub.get(path("certificates")).get("items") or []
        }
        items = []
        for line in text.splitlines():
            words = line.split()
            if (
                len(words) >= 3
                and not words[0].startswith("#")
                and (words[0], words[1]) not in known
            ):
                items.append(
                    {
                        "serverName": words[0],
                        "certType": "ssh",
                        "certSubType": words[1],
                        "certData": words[2],
                    }
                )
        self.write(
            "ConfigMap argocd-ssh-known-hosts-cm",
            [],
            items,
            lambda: self.hub.post(path("certificates"), {"items": items}),
        )

    def _authorities(self, data: Mapping[str, Any]) -> None:
        known = self.hub.get(path("flotilla", "known-hosts")).get("certificates") or {}
        for host, pem in data.items():
            item = {
                "serverName": host,
                "certType": "https",
                "certData": base64.b64encode(str(pem).encode()).decode(),
            }
            self.write(
                f"ConfigMap argocd-tls-certs-cm {host}",
                _pem(known.get(host.lower())),
                _pem(pem),
                lambda i=item: self.hub.post(path("certificates", upsert=True), {"items": [i]}),  # type: ignore[misc]
            )

    def _keys(self, data: Mapping[str, Any]) -> None:
        known = {str(i["keyID"]) for i in self.hub.get(path("gpgkeys")).get("items") or []}
        for key_id, text in data.items():
            before = True if key_id in known else None
            self.write(
                f"GnuPG key {key_id}",
                before,
                True,
                partial(self.hub.post, path("gpgkeys"), {"keydata": text}),
            )

    def _secret(self, document: Document, name: str) -> None:
        kind = str((document["metadata"].get("labels") or {}).get(SECRET_TYPE) or "")
        data = _decoded(document)
        keep = bool((document["metadata"].get("annotations") or {}).get(OMITTED))
        if kind == "cluster":
            self._cluster(document, data, keep=keep)
        elif kind in ("repository", "repo-creds"):
            self._repository(data, template=kind == "repo-creds", keep=keep)
        elif kind == hub_objects.GENERATOR_SECRET:
            hub_objects.take_secret(self, document, name)
        elif name == "argocd-secret":
            for key in data:
                note = "sessions and passwords of another server do not count here"
                if key.startswith("webhook."):
                    variable = f"HUB_{key.upper().replace('.', '_')}"
                    note = f"the hub takes it from its environment: {variable}"
                self.line(f"Secret {name} {key}", "kept back", note)
        else:
            self.line(
                f"Secret {name}",
                "kept back",
                "no cluster or repository; set generators' tokens with flotilla appset set-secret",
            )

    def _cluster(self, document: Document, data: Mapping[str, str], *, keep: bool) -> None:
        server = data.get("server", "").rstrip("/")
        labels = {
            k: v for k, v in (document["metadata"].get("labels") or {}).items() if k != SECRET_TYPE
        }
        annotations = {
            k: v
            for k, v in (document["metadata"].get("annotations") or {}).items()
            if k not in (OMITTED, "managed-by", "kubectl.kubernetes.io/last-applied-configuration")
        }
        body: dict[str, Any] = {
            "server": server,
            "name": data.get("name") or server,
            "labels": labels,
            "annotations": annotations,
            "project": data.get("project", ""),
            "namespaces": [n.strip() for n in data.get("namespaces", "").split(",") if n.strip()],
            "clusterResources": data.get("clusterResources") == "true",
        }
        found = self.read(path("clusters", server))
        shown = ("name", "labels", "annotations", "namespaces", "project", "clusterResources")
        before = {k: found.get(k) or type(body[k])() for k in shown} if found else None
        wanted = {k: body[k] for k in shown}
        if keep:
            if found is None:
                self.line(
                    f"cluster {body['name']}",
                    "failed",
                    "the export has no credentials for it: register it with flotilla cluster add",
                )
                return
            self.write(
                f"cluster {body['name']}",
                before,
                wanted,
                lambda: self.hub.put(path("clusters", server, updatedFields=list(shown)), body),
            )
            return
        try:
            body["config"] = json.loads(data.get("config") or "{}")
        except ValueError as error:
            raise Problem(f"cluster {body['name']}: its config is no JSON") from error
        # The hub does not return credentials, so they cannot be compared: they are written again.
        self.write(
            f"cluster {body['name']}",
            before if found is None else {**(before or {}), "config": None},
            {**wanted, "config": body["config"]},
            lambda: self.hub.post(path("clusters", upsert=True), body),
        )

    def _repository(self, data: Mapping[str, str], *, template: bool, keep: bool) -> None:
        url, word = data.get("url", ""), "repocreds" if template else "repository"
        where = (
            path("repocreds")
            if template
            else path("repositories", url, appProject=data.get("project", ""))
        )
        listed = self.read(where)
        found = (
            next((i for i in (listed or {}).get("items") or [] if i["url"] == url), None)
            if template
            else listed
        )
        if keep:
            self.line(
                f"{word} {url}",
                "unchanged" if found else "failed",
                ""
                if found
                else "the export has no credentials for it: connect it with flotilla repo add",
            )
            return
        body: dict[str, Any] = {("url" if template else "repo"): url}
        for key, value in data.items():
            if key == "url":
                continue
            body[key] = (
                value == "true"
                if key in _REPOSITORY
                else int(value)
                if key in _NUMBERS and value.isdigit()
                else value
            )
        call = (
            path("repocreds", upsert=True)
            if template
            else path("repositories", upsert=True, credsOnly=True)
        )
        self.write(
            f"{word} {url}",
            None if found is None else False,
            True,
            lambda: self.hub.post(call, body),
        )


def _decoded(document: Document) -> dict[str, str]:
    """Return the values of a secret as text.

    Raises: Problem naming the key.
    """
    found = {}
    for key, value in (document.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(str(value), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Problem(
                f"Secret {document['metadata'].get('name')}: data.{key} is not base64 of text"
            ) from error
    return {**found, **{k: str(v) for k, v in (document.get("stringData") or {}).items()}}


def without_label(documents: list[Document], label: str) -> list[Document]:
    """Return the documents without a label, key=value.

    Raises: Problem for an invalid label.
    """
    key, equals, value = label.partition("=")
    if not equals or not key:
        raise Problem(f"--skip-resources-with-label {label}: write key=value")
    return [
        d for d in documents if ((d.get("metadata") or {}).get("labels") or {}).get(key) != value
    ]


def _identity(document: Mapping[str, Any]) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    return str(metadata.get("namespace") or "argocd"), str(metadata.get("name"))


def _pem(text: Any) -> list[str] | None:
    """Return the certificates of a PEM text in one format, so that equal ones compare equal."""
    if not text:
        return None
    bodies = re.findall(
        r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", str(text), re.DOTALL
    )
    return ["".join(b.split()) for b in bodies]


_OWN = (
    "argocd.argoproj.io/refresh",
    "kubectl.kubernetes.io/last-applied-configuration",
    "argocd.argoproj.io/deletion-approved",
)


def _metadata(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an object without fields that a server sets."""
    metadata = document.get("metadata") or {}
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in _OWN}
    found = {
        "name": metadata.get("name"),
        "namespace": metadata.get("namespace") or "argocd",
        "labels": metadata.get("labels") or {},
        "annotations": annotations,
        "finalizers": metadata.get("finalizers") or [],
    }
    return {k: v for k, v in found.items() if v}


def export(hub: Client) -> list[Document]:
    """Return everything that the hub keeps, in Argo CD's form and order, without credentials."""
    settings = {n: hub.get(path("flotilla", "settings", n))["value"] for n in SETTINGS}
    if not hub_objects.is_banner(settings["notices"] or []):
        settings["notices"] = []  # all notices are in the hub's own ConfigMap
    accounts = hub.get(path("account")).get("items") or []
    rbac = hub.get(path("flotilla", "rbac")).get("data") or {}
    keys = [
        hub.get(path("gpgkeys", i["keyID"])) for i in hub.get(path("gpgkeys")).get("items") or []
    ]
    documents = [
        _map("argocd-cm", configmaps.write(settings, accounts)),
        _map("argocd-rbac-cm", {k: v if isinstance(v, str) else str(v) for k, v in rbac.items()}),
    ]
    known = hub.get(path("flotilla", "known-hosts"))
    hosts = known.get("lines") or []
    documents.append(
        _map(
            "argocd-ssh-known-hosts-cm",
            {"ssh_known_hosts": "\n".join(hosts) + "\n"} if hosts else {},
        )
    )
    documents.append(_map("argocd-tls-certs-cm", known.get("certificates") or {}))
    documents.append(_map("argocd-gpg-keys-cm", {k["keyID"]: k.get("keyData", "") for k in keys}))
    documents += [_map(hub_objects.NAME, hub_objects.data_of(hub)), *hub_objects.config_maps(hub)]
    documents += [
        _cluster_secret(c)
        for c in hub.get(path("clusters"))["items"]
        if c.get("name") != "in-cluster"
    ]
    documents += [
        _repository_secret(r, "repository")
        for r in hub.get(path("repositories")).get("items") or []
    ]
    documents += [
        _repository_secret(r, "repo-creds") for r in hub.get(path("repocreds")).get("items") or []
    ]
    documents += hub_objects.secrets(hub)
    for kind, where in (
        ("AppProject", "projects"),
        ("Application", "applications"),
        ("ApplicationSet", "applicationsets"),
    ):
        for item in hub.get(path(where)).get("items") or []:
            metadata = _metadata(item)
            owners = item["metadata"].get("ownerReferences")
            documents.append(
                {
                    "apiVersion": API,
                    "kind": kind,
                    "metadata": {**metadata, **({"ownerReferences": owners} if owners else {})},
                    "spec": item["spec"],
                }
            )
    return [d for d in documents if d["kind"] != "ConfigMap" or d.get("data")]


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
        **{k: "true" for k in _REPOSITORY if item.get(k)},
    }
    return _secret_of(
        f"{'repo' if kind == 'repository' else 'creds'}-{_slug(url)}", kind, {}, {}, data
    )


def warn(text: str) -> None:
    """Print a message to standard error."""
    sys.stderr.write(text + "\n")
