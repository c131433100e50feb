"""Controllers of a sandbox's workloads, from Deployments to pods."""

import hashlib
from typing import Any

import orjson

from clusters.sandbox.kinds import Served
from clusters.sandbox.merging import now
from clusters.sandbox.store import Store
from hub.engine.resource import Manifest

BROKEN_IMAGE = "does-not-exist"
EXIT_CODE = "sandbox/exit-code"


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


def deployment(store: Store, kind: Served, manifest: Manifest) -> None:
    """Reconcile a Deployment."""
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


def replica_set(store: Store, kind: Served, manifest: Manifest) -> None:
    """Reconcile a ReplicaSet."""
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


def stateful_set(store: Store, kind: Served, manifest: Manifest) -> None:
    """Reconcile a StatefulSet."""
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


def daemon_set(store: Store, kind: Served, manifest: Manifest) -> None:
    """Reconcile a DaemonSet."""
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


def job(store: Store, kind: Served, manifest: Manifest) -> None:
    """Reconcile a Job."""
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


def pod(store: Store, kind: Served, manifest: Manifest) -> None:
    """Reconcile a Pod."""
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
