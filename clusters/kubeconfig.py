"""Parse a pasted kubeconfig: the server and credentials of one of its contexts."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from hub.engine.errors import Invalid


def config_of(document: Any, context: str = "") -> dict[str, Any]:
    """Return name, server and config, in Argo CD's shape, of a context, by default the current one.

    Raises: Invalid naming what is missing, or what the hub does not support: programs and files.
    """
    if not isinstance(document, dict):
        raise Invalid("The kubeconfig must be a document with contexts, clusters and users")
    contexts = _named(document, "contexts", "context")
    wanted = context or str(document.get("current-context") or "") or next(iter(contexts), "")
    if wanted not in contexts:
        raise Invalid(
            f"The kubeconfig has no context {wanted!r}; "
            f"it has {', '.join(sorted(contexts)) or 'none'}"
        )
    cluster = _named(document, "clusters", "cluster").get(str(contexts[wanted].get("cluster")), {})
    user = _named(document, "users", "user").get(str(contexts[wanted].get("user")), {})
    for field in ("exec", "auth-provider"):
        if user.get(field):
            raise Invalid(
                f"Context {wanted} signs in by a program ({field}), which the hub does not run. "
                f"Use `flotilla cluster add {wanted}`, which creates a service account."
            )
    for where, fields in (
        (cluster, ("certificate-authority",)),
        (user, ("client-certificate", "client-key", "tokenFile")),
    ):
        for field in fields:
            if where.get(field):
                raise Invalid(
                    f"{field} names a file of your machine. "
                    "Paste `kubectl config view --raw --flatten --minify`."
                )
    if not cluster.get("server"):
        raise Invalid(f"Context {wanted} names no cluster with a server")
    tls = {
        "insecure": bool(cluster.get("insecure-skip-tls-verify")),
        "serverName": str(cluster.get("tls-server-name") or ""),
        "caData": _text(cluster, "certificate-authority-data"),
        "certData": _text(user, "client-certificate-data"),
        "keyData": _text(user, "client-key-data"),
    }
    config = {
        "bearerToken": str(user.get("token") or ""),
        "username": str(user.get("username") or ""),
        "password": str(user.get("password") or ""),
        "tlsClientConfig": {k: v for k, v in tls.items() if v},
    }
    return {
        "name": wanted,
        "server": str(cluster["server"]),
        "config": {k: v for k, v in config.items() if v},
    }


def _named(document: Mapping[str, Any], field: str, inner: str) -> dict[str, dict[str, Any]]:
    entries = document.get(field)
    if not isinstance(entries, list):
        return {}
    return {
        str(e.get("name")): e[inner]
        for e in entries
        if isinstance(e, dict) and isinstance(e.get(inner), dict)
    }


def _text(entry: Mapping[str, Any], field: str) -> str:
    if not entry.get(field):
        return ""
    try:
        return base64.b64decode(str(entry[field]), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Invalid(f"{field} must be base64 of PEM") from error
