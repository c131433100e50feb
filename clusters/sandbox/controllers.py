"""Controllers of a sandbox: workloads, services and resource definitions."""

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any

import jwt
import orjson

from clusters.sandbox.kinds import Served
from clusters.sandbox.merging import now
from clusters.sandbox.store import Failure, Store
from hub.engine.resource import Manifest

log = logging.getLogger(__name__)

ADDRESS = "203.0.113.10"
BROKEN_IMAGE = "does-not-exist"
EXIT_CODE = "sandbox/exit-code"


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
                except Exception:  # one odd resource must not stop the sandbox
                    log.exception("sandbox controller of %s %s failed", kind.kind, name)


def _hash(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:9]


def _owner(manifest: Manifest) -> list[dict[str, Any]]:
    metadata = manifest["metadata"]
    return [
        {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def _owned(store: Store, plural: str, group: str, manifest: Manifest) -> list[Manifest]:
    uid = manifest["metadata"]["uid"]
    return [
        m
        for m in store.all(store.kinds[group, plural], manifest["metadata"].get("namespace", ""))
        if any(o.get("uid") == uid for o in m["metadata"].get("ownerReferences") or [])
        and not m["metadata"].get("deletionTimestamp")
    ]


def _child(
    store: Store,
    group: str,
    plural: str,
    parent: Manifest,
    name: str,
    body: dict[str, Any],
    labels: Any,
    annotations: Any = None,
) -> None:
    metadata = {
        "name": name,
        "namespace": parent["metadata"].get("namespace", ""),
        "labels": labels or {},
        "ownerReferences": _owner(parent),
    }
    if annotations:
        metadata["annotations"] = annotations
    store.put(store.kinds[group, plural], {"metadata": metadata, **body}, manager="sandbox")


def _is_ready(pod: Manifest) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in (pod.get("status") or {}).get("conditions") or []
    )


def _deployment(store: Store, kind: Served, manifest: Manifest) -> None:
    spec = manifest["spec"]
    template_hash = _hash(spec["template"])
    name = f"{manifest['metadata']['name']}-{template_hash}"
    sets = _owned(store, "replicasets", "apps", manifest)
    current = next((s for s in sets if s["metadata"]["name"] == name), None)
    if current is None and not spec.get("paused"):
        _roll_out(store, manifest, sets, template_hash)
        return
    _scale(store, manifest, sets, current)
    store.set_status(kind, manifest, _deployment_status(manifest, sets, current))


def _roll_out(store: Store, manifest: Manifest, sets: list[Manifest], template_hash: str) -> None:
    spec = manifest["spec"]
    revisions = [
        int((s["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", 0))
        for s in sets
    ]
    labels = {
        **(spec["template"].get("metadata", {}).get("labels") or {}),
        "pod-template-hash": template_hash,
    }
    template = {
        **spec["template"],
        "metadata": {**(spec["template"].get("metadata") or {}), "labels": labels},
    }
    replica_set = {
        "replicas": spec.get("replicas", 1),
        "selector": {"matchLabels": labels},
        "template": template,
    }
    _child(
        store,
        "apps",
        "replicasets",
        manifest,
        f"{manifest['metadata']['name']}-{template_hash}",
        {"spec": replica_set},
        labels,
        {"deployment.kubernetes.io/revision": str(max(revisions, default=0) + 1)},
    )


def _scale(
    store: Store, manifest: Manifest, sets: list[Manifest], current: Manifest | None
) -> None:
    spec = manifest["spec"]
    wanted = spec.get("replicas", 1)
    for replica_set in sets:
        target = wanted if replica_set is current else 0
        if spec.get("paused") and replica_set is not current:
            continue
        if (
            target == 0
            and current is not None
            and (current.get("status") or {}).get("readyReplicas", 0) < wanted
        ):
            continue
        if replica_set["spec"].get("replicas") != target:
            store.put(
                store.kinds["apps", "replicasets"],
                {**replica_set, "spec": {**replica_set["spec"], "replicas": target}},
                manager="sandbox",
            )


def _deployment_status(
    manifest: Manifest, sets: list[Manifest], current: Manifest | None
) -> dict[str, Any]:
    wanted = manifest["spec"].get("replicas", 1)
    total = sum((s.get("status") or {}).get("replicas", 0) for s in sets)
    ready = sum((s.get("status") or {}).get("readyReplicas", 0) for s in sets)
    updated = (current or {}).get("status", {}).get("replicas", 0)
    available = ready >= wanted
    status: dict[str, Any] = {
        "observedGeneration": manifest["metadata"].get("generation", 1),
        "conditions": [
            {
                "type": "Available",
                "status": "True" if available else "False",
                "reason": "MinimumReplicasAvailable" if available else "MinimumReplicasUnavailable",
            },
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable" if available else "ReplicaSetUpdated",
            },
        ],
    }
    for field, value in (
        ("replicas", total),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
    ):
        if value:
            status[field] = value
    return status


def _replica_set(store: Store, kind: Served, manifest: Manifest) -> None:
    wanted = manifest["spec"].get("replicas", 1)
    pods = _owned(store, "pods", "", manifest)
    template = manifest["spec"]["template"]
    for number in range(max(0, wanted - len(pods))):
        suffix = _hash([manifest["metadata"]["uid"], store.version, number])[:5]
        _child(
            store,
            "",
            "pods",
            manifest,
            f"{manifest['metadata']['name']}-{suffix}",
            {"spec": template["spec"]},
            (template.get("metadata") or {}).get("labels"),
            (template.get("metadata") or {}).get("annotations"),
        )
    for pod in pods[wanted:]:
        store.delete(store.kinds["", "pods"], pod)
    pods = _owned(store, "pods", "", manifest)
    ready = sum(1 for p in pods if _is_ready(p))
    status: dict[str, Any] = {
        "replicas": len(pods),
        "observedGeneration": manifest["metadata"].get("generation", 1),
    }
    if ready:
        status |= {
            "readyReplicas": ready,
            "availableReplicas": ready,
            "fullyLabeledReplicas": len(pods),
        }
    store.set_status(kind, manifest, status)


def _stateful_set(store: Store, kind: Served, manifest: Manifest) -> None:
    spec = manifest["spec"]
    wanted, revision = spec.get("replicas", 1), _hash(spec["template"])
    pods = {p["metadata"]["name"]: p for p in _owned(store, "pods", "", manifest)}
    name = manifest["metadata"]["name"]
    for number in range(wanted):
        pod = pods.get(f"{name}-{number}")
        if pod is None:
            _create_replica(store, manifest, f"{name}-{number}", revision)
            break
        if (pod["metadata"].get("labels") or {}).get("controller-revision-hash") != revision:
            store.delete(store.kinds["", "pods"], pod)
            break
    for pod_name, pod in pods.items():
        if int(pod_name.rpartition("-")[2]) >= wanted:
            store.delete(store.kinds["", "pods"], pod)
    pods_now = _owned(store, "pods", "", manifest)
    ready = sum(1 for p in pods_now if _is_ready(p))
    updated = sum(
        1
        for p in pods_now
        if (p["metadata"].get("labels") or {}).get("controller-revision-hash") == revision
    )
    done = ready >= wanted and updated >= wanted
    old = (manifest.get("status") or {}).get("currentRevision", f"{name}-{revision}")
    store.set_status(
        kind,
        manifest,
        {
            "observedGeneration": manifest["metadata"].get("generation", 1),
            "replicas": len(pods_now),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": updated,
            "updateRevision": f"{name}-{revision}",
            "currentRevision": f"{name}-{revision}" if done else old,
        },
    )


def _create_replica(store: Store, manifest: Manifest, name: str, revision: str) -> None:
    spec, namespace = manifest["spec"], manifest["metadata"].get("namespace", "")
    claims = store.kinds["", "persistentvolumeclaims"]
    for template in spec.get("volumeClaimTemplates") or []:
        claim = f"{template['metadata']['name']}-{name}"
        if store.get(claims, namespace, claim) is None:
            body = {
                "metadata": {"name": claim, "namespace": namespace},
                "spec": template.get("spec") or {},
            }
            store.put(claims, body)
    labels = {
        **((spec["template"].get("metadata") or {}).get("labels") or {}),
        "controller-revision-hash": revision,
    }
    _child(store, "", "pods", manifest, name, {"spec": spec["template"]["spec"]}, labels)


def _daemon_set(store: Store, kind: Served, manifest: Manifest) -> None:
    spec = manifest["spec"]
    revision = _hash(spec["template"])
    labels = {
        **((spec["template"].get("metadata") or {}).get("labels") or {}),
        "controller-revision-hash": revision,
    }
    pods = _owned(store, "pods", "", manifest)
    for pod in pods:
        if (pod["metadata"].get("labels") or {}).get("controller-revision-hash") != revision:
            store.delete(store.kinds["", "pods"], pod)
    pods = _owned(store, "pods", "", manifest)
    if not pods:
        _child(
            store,
            "",
            "pods",
            manifest,
            f"{manifest['metadata']['name']}-{revision[:5]}",
            {"spec": spec["template"]["spec"]},
            labels,
        )
        pods = _owned(store, "pods", "", manifest)
    ready = sum(1 for p in pods if _is_ready(p))
    store.set_status(
        kind,
        manifest,
        {
            "observedGeneration": manifest["metadata"].get("generation", 1),
            "desiredNumberScheduled": 1,
            "currentNumberScheduled": len(pods),
            "updatedNumberScheduled": len(pods),
            "numberReady": ready,
            "numberAvailable": ready,
            "numberMisscheduled": 0,
        },
    )


def _job(store: Store, kind: Served, manifest: Manifest) -> None:
    spec, status = manifest["spec"], manifest.get("status") or {}
    if any(c["type"] in ("Complete", "Failed") for c in status.get("conditions") or []):
        ttl = spec.get("ttlSecondsAfterFinished")
        if ttl is not None and ttl == 0:
            store.delete(kind, manifest)
        return
    if spec.get("suspend"):
        suspended = _condition("Suspended", "JobSuspended", "Job suspended")
        store.set_status(kind, manifest, {"conditions": [suspended]})
        return
    pods = _owned(store, "pods", "", manifest)
    if not pods:
        _start_job(store, manifest)
        store.set_status(kind, manifest, {"active": 1, "startTime": now()})
        return
    phases = [(p.get("status") or {}).get("phase") for p in pods]
    started = {"startTime": status.get("startTime", now())}
    if "Succeeded" in phases:
        complete = _condition(
            "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        )
        done = {"succeeded": 1, **started, "completionTime": now(), "conditions": [complete]}
        store.set_status(kind, manifest, done)
    elif "Failed" in phases:
        failed = _condition(
            "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        )
        store.set_status(kind, manifest, {"failed": 1, **started, "conditions": [failed]})


def _condition(kind: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


def _start_job(store: Store, manifest: Manifest) -> None:
    template = manifest["spec"]["template"]
    labels = {
        **((template.get("metadata") or {}).get("labels") or {}),
        "job-name": manifest["metadata"]["name"],
    }
    _child(
        store,
        "",
        "pods",
        manifest,
        f"{manifest['metadata']['name']}-{_hash(manifest['metadata']['uid'])[:5]}",
        {"spec": template["spec"]},
        labels,
        (template.get("metadata") or {}).get("annotations"),
    )


def _pod(store: Store, kind: Served, manifest: Manifest) -> None:
    spec = manifest["spec"]
    if (manifest.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return
    phase, ready = "Running", "True"
    containers = []
    for container in spec.get("containers") or []:
        status: dict[str, Any] = {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": container.get("image", ""),
            "restartCount": 0,
            "ready": False,
        }
        if BROKEN_IMAGE in container.get("image", ""):
            phase, ready = "Pending", "False"
            status["state"] = {
                "waiting": {
                    "reason": "ImagePullBackOff",
                    "message": f'Back-off pulling image "{container["image"]}"',
                }
            }
        elif spec.get("restartPolicy", "Always") != "Always":
            code = int((manifest["metadata"].get("annotations") or {}).get(EXIT_CODE, 0))
            phase, ready = ("Failed" if code else "Succeeded"), "False"
            status["state"] = {
                "terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}
            }
        else:
            status |= {
                "ready": True,
                "started": True,
                "state": {"running": {"startedAt": manifest["metadata"]["creationTimestamp"]}},
            }
        containers.append(status)
    conditions = [
        {"type": t, "status": ready if t in ("Ready", "ContainersReady") else "True"}
        for t in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    if not spec.get("nodeName"):
        manifest = store.put(
            kind, {**manifest, "spec": {**spec, "nodeName": "node-0"}}, manager="sandbox"
        )
    store.set_status(
        kind,
        manifest,
        {
            "phase": phase,
            "hostIP": "127.0.0.1",
            "podIP": "10.1.0.1",
            "startTime": manifest["metadata"]["creationTimestamp"],
            "conditions": conditions,
            "containerStatuses": containers,
        },
    )


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
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "Pod": _pod,
    "Service": _service,
    "Ingress": _ingress,
    "PersistentVolumeClaim": _claim,
    "Namespace": _namespace,
    "CustomResourceDefinition": _definition,
    "PodDisruptionBudget": _budget,
    "Secret": _token,
}
