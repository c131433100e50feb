"""Cluster configs in Argo CD's shape: which are accepted, and how they authenticate requests.

The `kubernetes` package is used here only, to load the credentials of the pod that the hub runs in.
"""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from typing import Any

from hub.engine.errors import Invalid, Stalled


def check_config(config: Any) -> dict[str, Any]:
    """Return a cluster config, which may neither run a program nor read a file of the hub.

    Shapes: as Argo CD's cluster Secrets have it under `config`.
    Raises: Invalid naming the field.
    """
    if not isinstance(config, dict):
        raise Invalid("config must be an object")
    for field in ("execProviderConfig", "awsAuthConfig", "exec", "authProvider", "auth-provider"):
        if config.get(field):
            raise Invalid(
                f"config.{field} is refused: it would run a program on the hub. "
                "Use a service-account token (config.bearerToken) or a client certificate."
            )
    if config.get("proxyUrl"):
        raise Invalid(
            "config.proxyUrl is refused: the hub connects to clusters without a proxy. "
            "Remove it, and set server to an address that the hub can reach."
        )
    tls = config.get("tlsClientConfig") or {}
    if not isinstance(tls, dict):
        raise Invalid("config.tlsClientConfig must be an object")
    for field in ("certFile", "keyFile", "caFile", "tokenFile"):
        if tls.get(field) or config.get(field):
            raise Invalid(
                f"config.{field} is refused: it names a file on the hub. Send its content instead."
            )
    for field in ("caData", "certData", "keyData"):
        _pem(tls.get(field), f"config.tlsClientConfig.{field}")
    if bool(tls.get("certData")) != bool(tls.get("keyData")):
        raise Invalid("config.tlsClientConfig needs certData and keyData together")
    if tls.get("insecure") and tls.get("caData"):
        raise Invalid("config.tlsClientConfig: insecure and caData are mutually exclusive")
    return config


def _pem(value: Any, field: str) -> str:
    if not value:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{field} must be a string")
    if "-----BEGIN" in value:
        return value
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Invalid(f"{field} must be PEM, or PEM in base64") from error
    if "-----BEGIN" not in text:
        raise Invalid(f"{field} does not contain a PEM certificate or key")
    return text


def ssl_context(config: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the TLS settings of a cluster config.

    Raises: Stalled when a certificate or key cannot be used.
    """
    tls = config.get("tlsClientConfig") or {}
    try:
        authority = _pem(tls.get("caData"), "caData")
        context = ssl.create_default_context(cadata=authority or None)
        if tls.get("insecure"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.get("certData"):
            load_certificate(
                context, _pem(tls["certData"], "certData"), _pem(tls["keyData"], "keyData")
            )
    except (ssl.SSLError, ValueError, Invalid) as error:
        raise Stalled(
            "InvalidCredentials", f"the TLS settings of the cluster are invalid: {error}"
        ) from error
    return context


def load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load a client certificate and its key, both in PEM.

    Raises: ssl.SSLError when they do not match.
    """
    # The ssl module reads key pairs from files only; this one exists for the length of the call.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pair.pem")  # noqa: PTH118
        with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(certificate + "\n" + key)
        context.load_cert_chain(path)


def in_cluster_config() -> tuple[str, dict[str, Any]] | None:
    """Return the server and config of the cluster that the hub runs in, None outside of one."""
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    from kubernetes import client, config

    config.load_incluster_config()
    found = client.Configuration.get_default_copy()
    with open(found.ssl_ca_cert) as file:  # noqa: PTH123
        authority = file.read()
    token = str(found.api_key.get("authorization", "")).partition(" ")[2]
    return str(found.host), {"bearerToken": token, "tlsClientConfig": {"caData": authority}}


def headers_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that authenticate a request."""
    if config.get("bearerToken"):
        return {"Authorization": f"Bearer {config['bearerToken']}"}
    if config.get("username"):
        pair = f"{config['username']}:{config.get('password', '')}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    return {}
