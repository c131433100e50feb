"""Give the hub a new token for a cluster, and take the old one away."""

import base64
import time
from typing import Any

import jwt

from clusters.kinds import Refused
from clusters.kube import SECRETS, connect
from clusters.models import Cluster
from hub.engine.errors import Precondition

WAIT_SECONDS = 10


def rotate(cluster: Cluster) -> dict[str, Any]:
    """Return the config with a new service-account token; the old token's Secret is deleted.

    Raises: Precondition when the hub does not use a service-account token there, or may not make one.
    """
    token = str(cluster.config.get("bearerToken") or "")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        namespace, account, secret = (
            claims[f"kubernetes.io/serviceaccount/{f}"]
            for f in ("namespace", "service-account.name", "secret.name")
        )
    except (jwt.PyJWTError, KeyError) as error:
        raise Precondition(
            f"cluster {cluster.name} does not use a service-account token that can be rotated"
        ) from error
    connection = connect(cluster)
    body = {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"generateName": f"{account}-token-", "annotations": {"kubernetes.io/service-account.name": account}},
    }  # fmt: skip
    try:
        made = connection.request("POST", SECRETS.path(namespace), body)
        name = str(made["metadata"]["name"])
        fresh = _token(connection, SECRETS.resource_path(namespace, name))
        connection.request("DELETE", SECRETS.resource_path(namespace, secret))
    except Refused as refused:
        raise Precondition(
            f"cluster {cluster.name} does not allow it: {refused.message}"
        ) from refused
    return {**cluster.config, "bearerToken": fresh}


def _token(connection: Any, path: str) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        data = connection.request("GET", path).get("data") or {}
        if data.get("token"):
            return base64.b64decode(data["token"]).decode()
        time.sleep(0.1)
    raise Precondition("the cluster did not fill in a token within ten seconds")
