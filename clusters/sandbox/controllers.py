"""Controllers of a sandbox: the loop that calls them, and those of services and definitions."""

import asyncio
import base64
import hmac
import logging
import secrets
from collections.abc import Callable

import jwt

from clusters.sandbox import workloads
from clusters.sandbox.kinds import Served
from clusters.sandbox.store import Failure, Store
from hub.engine.resource import Manifest

log = logging.getLogger(__name__)

ADDRESS = "203.0.113.10"


class Controllers:
    """Handles changed resources a moment later, as the kind's controller would."""

    def __init__(self, store: Store, delay: float = 0.05) -> None:
        self._store, self._delay = store, delay
        self._due: dict[tuple[str, str, str, str], Served] = {}
        self._wake = asyncio.Event()
        store.on_change = self._changed
        for place, items in list(store.resources.items()):
            for manifest in list(items.values()):
                if place in store.kinds:
                    self._changed(store.kinds[place], "ADDED", manifest)

    def _changed(self, kind: Served, what: str, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        if what != "DELETED" and kind.kind in _ACTIONS:
            self._due[kind.group, kind.plural, metadata.get("namespace", ""), metadata["name"]] = (
                kind
            )
            self._wake.set()
        for owner in metadata.get("ownerReferences") or []:
            group = owner["apiVersion"].rpartition("/")[0]
            parent = self._store.by_kind(group, owner["kind"])
            if parent and parent.kind in _ACTIONS:
                self._due[
                    parent.group, parent.plural, metadata.get("namespace", ""), owner["name"]
                ] = parent
                self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self._delay)
            due, self._due = self._due, {}
            for (_group, _plural, namespace, name), kind in due.items():
                manifest = self._store.get(kind, namespace, name)
                if manifest is None or (
                    manifest["metadata"].get("deletionTimestamp") and kind.kind != "Namespace"
                ):
                    continue
                try:
                    _ACTIONS[kind.kind](self._store, kind, manifest)
                except Failure as failure:
                    log.debug("sandbox controller of %s %s: %s", kind.kind, name, failure.message)
                except Exception:  # one malformed resource must not stop the sandbox
                    log.exception("sandbox controller of %s %s failed", kind.kind, name)


def _service(store: Store, kind: Served, manifest: Manifest) -> None:
    if manifest["spec"].get("type") == "LoadBalancer":
        store.set_status(kind, manifest, {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}})


def _ingress(store: Store, kind: Served, manifest: Manifest) -> None:
    store.set_status(kind, manifest, {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}})


def _claim(store: Store, kind: Served, manifest: Manifest) -> None:
    requests = ((manifest.get("spec") or {}).get("resources") or {}).get("requests") or {}
    store.set_status(kind, manifest, {"phase": "Bound", "capacity": requests})


def _namespace(store: Store, kind: Served, manifest: Manifest) -> None:
    name = manifest["metadata"]["name"]
    if manifest["metadata"].get("deletionTimestamp"):
        store.delete(kind, manifest)
        return
    store.set_status(kind, manifest, {"phase": "Active"})
    if store.get(store.kinds["", "serviceaccounts"], name, "default") is None:
        store.put(
            store.kinds["", "serviceaccounts"], {"metadata": {"name": "default", "namespace": name}}
        )
        store.put(
            store.kinds["", "configmaps"],
            {"metadata": {"name": "kube-root-ca.crt", "namespace": name}, "data": {"ca.crt": ""}},
        )


def _definition(store: Store, kind: Served, manifest: Manifest) -> None:
    names = (manifest.get("spec") or {}).get("names") or {}
    store.set_status(
        kind,
        manifest,
        {
            "acceptedNames": names,
            "storedVersions": [
                v.get("name") for v in (manifest.get("spec") or {}).get("versions") or []
            ],
            "conditions": [
                {
                    "type": "NamesAccepted",
                    "status": "True",
                    "reason": "NoConflicts",
                    "message": "no conflicts found",
                },
                {
                    "type": "Established",
                    "status": "True",
                    "reason": "InitialNamesAccepted",
                    "message": "the initial names have been accepted",
                },
            ],
        },
    )


def _budget(store: Store, kind: Served, manifest: Manifest) -> None:
    store.set_status(
        kind,
        manifest,
        {
            "conditions": [
                {
                    "type": "DisruptionAllowed",
                    "status": "True",
                    "reason": "SufficientPods",
                    "message": "",
                }
            ],
            "disruptionsAllowed": 1,
        },
    )


SERVICE_TOKEN = "kubernetes.io/service-account-token"


def _token(store: Store, kind: Served, manifest: Manifest) -> None:
    """Fill in the token of a Secret that requests one of a service account."""
    metadata = manifest["metadata"]
    account = (metadata.get("annotations") or {}).get("kubernetes.io/service-account.name")
    if (
        manifest.get("type") != SERVICE_TOKEN
        or not account
        or (manifest.get("data") or {}).get("token")
    ):
        return
    if store.get(store.kinds["", "serviceaccounts"], metadata["namespace"], account) is None:
        return
    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": f"system:serviceaccount:{metadata['namespace']}:{account}",
        "jti": secrets.token_hex(8),
        "kubernetes.io/serviceaccount/namespace": metadata["namespace"],
        "kubernetes.io/serviceaccount/service-account.name": account,
        "kubernetes.io/serviceaccount/secret.name": metadata["name"],
    }
    # Signatures are not verified: a token is valid while its Secret exists.
    text = jwt.encode(claims, secrets.token_hex(32), algorithm="HS256")
    data = {**(manifest.get("data") or {}), "token": base64.b64encode(text.encode()).decode()}
    store.put(kind, {**manifest, "data": data}, manager="sandbox")


def is_service_token(store: Store, token: str) -> bool:
    """Return whether a token belongs to a service account of this sandbox."""
    wanted = base64.b64encode(token.encode()).decode()
    return any(
        m.get("type") == SERVICE_TOKEN
        and hmac.compare_digest((m.get("data") or {}).get("token", ""), wanted)
        for m in store.all(store.kinds["", "secrets"])
    )


_ACTIONS: dict[str, Callable[[Store, Served, Manifest], None]] = {
    "Deployment": workloads.deployment,
    "ReplicaSet": workloads.replica_set,
    "StatefulSet": workloads.stateful_set,
    "DaemonSet": workloads.daemon_set,
    "Job": workloads.job,
    "Pod": workloads.pod,
    "Service": _service,
    "Ingress": _ingress,
    "PersistentVolumeClaim": _claim,
    "Namespace": _namespace,
    "CustomResourceDefinition": _definition,
    "PodDisruptionBudget": _budget,
    "Secret": _token,
}
