"""Rotate the hub's token for a cluster, and delete the old one once the new one has been used."""

import base64
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from clusters.kinds import Refused
from clusters.kube import SECRETS, Connection, connect
from clusters.models import Cluster
from hub.engine.errors import Precondition, RetryLater

WAIT_SECONDS = 10
_TYPE = "kubernetes.io/service-account-token"
_ACCOUNT = "kubernetes.io/service-account.name"
_REPLACES = "flotilla.io/replaces"
"""On the Secret of a new token: the name of the old one, to finish an interrupted rotation."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new token beside the old one; both work until one of them is deleted."""

    config: dict[str, Any]
    """The cluster's, with the new token."""
    namespace: str
    old: str
    fresh: str
    """Names of the tokens' Secrets."""

    def retire(self, connection: Connection) -> None:
        """Delete the old token with the new one, and the tokens that interrupted rotations left.

        Raises: Precondition naming the Secret that could not be deleted.
        """
        for name in [self.old, *self._left(connection)]:
            try:
                connection.request("DELETE", SECRETS.resource_path(self.namespace, name))
            except Refused as refused:
                if refused.status != 404:
                    raise Precondition(
                        "the new token is in use, "
                        f"but the old one's Secret {self.namespace}/{name} "
                        f"could not be deleted: {refused.message}; delete it yourself"
                    ) from refused

    def undo(self, connection: Connection) -> None:
        """Delete the new token with the old one, when it does not work or is not needed."""
        with contextlib.suppress(Refused, RetryLater):
            connection.request("DELETE", SECRETS.resource_path(self.namespace, self.fresh))

    def _left(self, connection: Connection) -> list[str]:
        try:
            listed = connection.request("GET", SECRETS.path(self.namespace)).get("items") or []
        except Refused:
            # An account that may not list Secrets cannot find leftovers.
            return []
        replaces = {str(s["metadata"]["name"]): _replaced(s) for s in listed}
        before = replaces.get(self.old, "")
        return [
            name
            for name, old in replaces.items()
            if name != self.fresh and (old == self.old or (before and name == before))
        ]


def begin(cluster: Cluster) -> Rotation:
    """Create a new service-account token; the old one stays.

    Raises: Precondition when the hub does not use a service-account token there, or may not create
        one.
    """
    namespace, account, old = _identity(cluster)
    connection = connect(cluster)
    metadata = {
        "generateName": f"{account}-token-",
        "annotations": {_ACCOUNT: account, _REPLACES: old},
    }
    body = {"apiVersion": "v1", "kind": "Secret", "type": _TYPE, "metadata": metadata}
    try:
        made = connection.request("POST", SECRETS.path(namespace), body)
        name = str(made["metadata"]["name"])
        token = _token(connection, SECRETS.resource_path(namespace, name))
    except Refused as refused:
        raise Precondition(
            f"cluster {cluster.name} does not allow it: {refused.message}"
        ) from refused
    return Rotation({**cluster.config, "bearerToken": token}, namespace, old, name)


def _identity(cluster: Cluster) -> tuple[str, str, str]:
    """Return namespace, account and Secret of the hub's token."""
    token = str(cluster.config.get("bearerToken") or "")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        namespace, account, secret = (
            str(claims[f"kubernetes.io/serviceaccount/{f}"])
            for f in ("namespace", "service-account.name", "secret.name")
        )
    except (jwt.PyJWTError, KeyError) as error:
        raise Precondition(
            f"cluster {cluster.name} does not use a service-account token that can be rotated"
        ) from error
    return namespace, account, secret


def _replaced(secret: Mapping[str, Any]) -> str:
    return str((secret["metadata"].get("annotations") or {}).get(_REPLACES) or "")


def _token(connection: Connection, path: str) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        data = connection.request("GET", path).get("data") or {}
        if data.get("token"):
            return base64.b64decode(data["token"]).decode()
        time.sleep(0.1)
    raise Precondition("the cluster did not fill in a token within ten seconds")
