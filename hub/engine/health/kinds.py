"""Built-in health checks for the kinds of Kubernetes and Argo.

Source: as Argo CD 3.6; the statuses and messages are the same.
"""

import json
from typing import Any

from hub.engine.resource import Manifest, annotations_of
from hub.engine.status import Assessment, Health

HEALTHY = Assessment(Health.HEALTHY)


def _progressing(message: str) -> Assessment:
    return Assessment(Health.PROGRESSING, message)


def _degraded(message: str) -> Assessment:
    return Assessment(Health.DEGRADED, message)


def _parts(manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    return manifest.get("metadata") or {}, manifest.get("spec") or {}, manifest.get("status") or {}


def _int(mapping: dict[str, Any], name: str, default: int = 0) -> int:
    value = mapping.get(name, default)
    return value if isinstance(value, int) else default


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any] | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == kind:
            return dict(condition)
    return None


def _is_behind(metadata: dict[str, Any], status: dict[str, Any]) -> bool:
    return _int(status, "observedGeneration") < _int(metadata, "generation")


def deployment(manifest: Manifest) -> Assessment:
    """Assess an apps Deployment."""
    metadata, spec, status = _parts(manifest)
    if spec.get("paused"):
        return Assessment(Health.SUSPENDED, "Deployment is paused")
    if _is_behind(metadata, status):
        return _progressing(
            "Waiting for rollout to finish: observed deployment generation "
            "less than desired generation"
        )
    progress = _condition(status, "Progressing")
    if progress and progress.get("reason") == "ProgressDeadlineExceeded":
        return _degraded(f'Deployment "{metadata.get("name")}" exceeded its progress deadline')
    updated, replicas = _int(status, "updatedReplicas"), _int(status, "replicas")
    available, wanted = _int(status, "availableReplicas"), _int(spec, "replicas", 1)
    if updated < wanted:
        return _progressing(
            f"Waiting for rollout to finish: {updated} out of {wanted} "
            "new replicas have been updated..."
        )
    if replicas > updated:
        return _progressing(
            f"Waiting for rollout to finish: {replicas - updated} "
            "old replicas are pending termination..."
        )
    if available < updated:
        return _progressing(
            f"Waiting for rollout to finish: {available} of {updated} "
            "updated replicas are available..."
        )
    return HEALTHY


def stateful_set(manifest: Manifest) -> Assessment:
    """Assess an apps StatefulSet."""
    metadata, spec, status = _parts(manifest)
    if not status.get("observedGeneration") or _is_behind(metadata, status):
        return _progressing("Waiting for statefulset spec update to be observed...")
    wanted, ready = _int(spec, "replicas", 1), _int(status, "readyReplicas")
    if ready < wanted:
        return _progressing(f"Waiting for {wanted - ready} pods to be ready...")
    strategy = spec.get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type", "RollingUpdate") == "RollingUpdate" and rolling:
        return _partitioned(wanted, _int(status, "updatedReplicas"), rolling.get("partition"))
    if strategy.get("type") == "OnDelete":
        return Assessment(Health.HEALTHY, f"statefulset has {ready} ready pods")
    if status.get("updateRevision") != status.get("currentRevision"):
        return _progressing(
            "waiting for statefulset rolling update to complete "
            f"{_int(status, 'updatedReplicas')} pods "
            f"at revision {status.get('updateRevision')}..."
        )
    return HEALTHY


def _partitioned(wanted: int, updated: int, partition: Any) -> Assessment:
    if isinstance(partition, int) and updated < wanted - partition:
        return _progressing(
            f"Waiting for partitioned roll out to finish: {updated} out of {wanted - partition} "
            "new pods have been updated..."
        )
    return Assessment(
        Health.HEALTHY, f"partitioned roll out complete: {updated} new pods have been updated..."
    )


def daemon_set(manifest: Manifest) -> Assessment:
    """Assess an apps DaemonSet."""
    metadata, spec, status = _parts(manifest)
    if _is_behind(metadata, status):
        return _progressing(
            "Waiting for rollout to finish: observed daemon set generation "
            "less than desired generation"
        )
    updated, wanted = _int(status, "updatedNumberScheduled"), _int(status, "desiredNumberScheduled")
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        return Assessment(
            Health.HEALTHY, f"daemon set {updated} out of {wanted} new pods have been updated"
        )
    if updated < wanted:
        return _progressing(
            f"Waiting for daemon set rollout to finish: {updated} out of {wanted} "
            "new pods have been updated..."
        )
    available = _int(status, "numberAvailable")
    if available < wanted:
        return _progressing(
            f"Waiting for daemon set rollout to finish: {available} of {wanted} "
            "updated pods are available..."
        )
    return HEALTHY


def replica_set(manifest: Manifest) -> Assessment:
    """Assess an apps ReplicaSet."""
    metadata, spec, status = _parts(manifest)
    if _is_behind(metadata, status):
        return _progressing(
            "Waiting for rollout to finish: observed replica set generation "
            "less than desired generation"
        )
    failure = _condition(status, "ReplicaFailure")
    if failure and failure.get("status") == "True":
        return _degraded(failure.get("message", ""))
    available, wanted = _int(status, "availableReplicas"), _int(spec, "replicas", 1)
    if available < wanted:
        return _progressing(
            f"Waiting for rollout to finish: {available} out of {wanted} "
            "new replicas are available..."
        )
    return HEALTHY


def pod(manifest: Manifest) -> Assessment:
    """Assess a Pod."""
    _metadata, spec, status = _parts(manifest)
    statuses = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    is_hook = "argocd.argoproj.io/hook" in annotations_of(manifest)
    ignored = annotations_of(manifest).get("argocd.argoproj.io/ignore-restart-policy") == "true"
    restarts_always = spec.get("restartPolicy", "Always") == "Always"
    if restarts_always or (ignored and not is_hook):
        messages = [_waiting_message(c) for c in statuses if _is_stuck(c)]
        if messages:
            return _degraded(", ".join(messages))
    phase = status.get("phase")
    if phase == "Pending":
        return _progressing(status.get("message", ""))
    if phase == "Succeeded":
        return Assessment(Health.HEALTHY, status.get("message", ""))
    if phase == "Failed":
        return _degraded(status.get("message") or _failure(statuses))
    if phase == "Running":
        return _running_pod(status, restarts_always=restarts_always)
    return Assessment(Health.UNKNOWN, status.get("message", ""))


def _running_pod(status: dict[str, Any], *, restarts_always: bool) -> Assessment:
    if not restarts_always:
        return _progressing(status.get("message", ""))
    ready = _condition(status, "Ready")
    if ready and ready.get("status") == "True":
        return Assessment(Health.HEALTHY, status.get("message", ""))
    if any(
        (c.get("lastState") or {}).get("terminated") for c in status.get("containerStatuses") or []
    ):
        return _degraded(status.get("message", ""))
    return _progressing(status.get("message", ""))


def _is_stuck(container: dict[str, Any]) -> bool:
    reason = ((container.get("state") or {}).get("waiting") or {}).get("reason") or ""
    return bool(reason.startswith("Err") or reason.endswith(("Error", "BackOff")))


def _waiting_message(container: dict[str, Any]) -> str:
    waiting = container["state"]["waiting"]
    return str(waiting.get("message") or waiting.get("reason"))


def _failure(statuses: list[dict[str, Any]]) -> str:
    for container in statuses:
        ended = (container.get("state") or {}).get("terminated")
        if not ended or ended.get("exitCode", 0) == 0:
            continue
        if ended.get("message"):
            return str(ended["message"])
        if ended.get("reason") == "OOMKilled":
            return "OOMKilled"
        return f'container "{container.get("name")}" failed with exit code {ended.get("exitCode")}'
    return ""


def claim(manifest: Manifest) -> Assessment:
    """Assess a PersistentVolumeClaim."""
    phase = (manifest.get("status") or {}).get("phase")
    words = {"Bound": Health.HEALTHY, "Pending": Health.PROGRESSING, "Lost": Health.DEGRADED}
    return Assessment(words.get(str(phase), Health.UNKNOWN))


def service(manifest: Manifest) -> Assessment:
    """Assess a Service: a load balancer is progressing until it has an address."""
    _metadata, spec, status = _parts(manifest)
    if spec.get("type") == "LoadBalancer" and not (status.get("loadBalancer") or {}).get("ingress"):
        return Assessment(Health.PROGRESSING)
    return HEALTHY


def ingress(manifest: Manifest) -> Assessment:
    """Assess an Ingress: progressing until it has an address."""
    status = manifest.get("status") or {}
    return (
        HEALTHY
        if (status.get("loadBalancer") or {}).get("ingress")
        else Assessment(Health.PROGRESSING)
    )


def job(manifest: Manifest) -> Assessment:
    """Assess a batch Job."""
    _metadata, _spec, status = _parts(manifest)
    failed, complete = _condition(status, "Failed"), _condition(status, "Complete")
    suspended = _condition(status, "Suspended")
    if failed:
        return _degraded(failed.get("message", ""))
    if suspended and suspended.get("status") == "True":
        return Assessment(Health.SUSPENDED, suspended.get("message", ""))
    if complete:
        return Assessment(Health.HEALTHY, complete.get("message", ""))
    return Assessment(Health.PROGRESSING)


_HPA_FAILURES = {
    "AbleToScale": {"FailedGetScale", "FailedUpdateScale"},
    "ScalingActive": {
        "FailedGetResourceMetric",
        "FailedGetObjectMetric",
        "FailedGetPodsMetric",
        "FailedGetExternalMetric",
        "FailedComputeMetricsReplicas",
        "InvalidSelector",
    },
}


def autoscaler(manifest: Manifest) -> Assessment:
    """Assess a HorizontalPodAutoscaler of any version."""
    conditions = (manifest.get("status") or {}).get("conditions")
    if conditions is None:
        try:
            conditions = json.loads(
                annotations_of(manifest).get("autoscaling.alpha.kubernetes.io/conditions", "[]")
            )
        except ValueError:
            conditions = []
    for condition in conditions:
        if condition.get("reason") in _HPA_FAILURES.get(condition.get("type"), ()):
            return _degraded(condition.get("message", ""))
    for condition in conditions:
        if (
            condition.get("type") in ("AbleToScale", "ScalingLimited")
            and condition.get("status") == "True"
        ):
            return Assessment(Health.HEALTHY, condition.get("message", ""))
    return _progressing("Waiting to Autoscale")


def api_service(manifest: Manifest) -> Assessment:
    """Assess an APIService."""
    available = _condition(manifest.get("status") or {}, "Available")
    if available and available.get("status") == "True":
        return Assessment(Health.HEALTHY, f"{available.get('reason')}: {available.get('message')}")
    if available:
        return _progressing(f"{available.get('reason')}: {available.get('message')}")
    return _progressing("Waiting to be processed")


def workflow(manifest: Manifest) -> Assessment:
    """Assess an Argo Workflow."""
    status = manifest.get("status") or {}
    words = {
        "": Health.PROGRESSING,
        "Pending": Health.PROGRESSING,
        "Running": Health.PROGRESSING,
        "Succeeded": Health.HEALTHY,
        "Failed": Health.DEGRADED,
        "Error": Health.DEGRADED,
    }
    return Assessment(words.get(status.get("phase", ""), Health.UNKNOWN), status.get("message", ""))


def resource_definition(manifest: Manifest) -> Assessment:
    """Assess a CustomResourceDefinition."""
    status = manifest.get("status") or {}
    terminating = _condition(status, "Terminating")
    if terminating and terminating.get("status") == "True":
        return _progressing("CRD is being terminated")
    names = _condition(status, "NamesAccepted")
    if names and names.get("status") == "False":
        return _degraded(f"CRD names have not been accepted: {names.get('message')}")
    violating = _condition(status, "NonStructuralSchema")
    if violating and violating.get("status") == "True":
        return _degraded(f"Schema violations found: {violating.get('message')}")
    established = _condition(status, "Established")
    if not established or established.get("status") != "True":
        return _progressing("Waiting for the CRD to be established")
    return Assessment(Health.HEALTHY, "CRD is healthy")


def disruption_budget(manifest: Manifest) -> Assessment:
    """Assess a PodDisruptionBudget."""
    allowed = _condition(manifest.get("status") or {}, "DisruptionAllowed")
    if allowed is None:
        return _progressing("Waiting for status")
    if allowed.get("reason") == "SyncFailed":
        return _degraded(allowed.get("message", ""))
    return Assessment(
        Health.HEALTHY,
        "PDB has healthy pods" if allowed.get("status") == "True" else "PDB allows no disruption",
    )


def cron_job(manifest: Manifest) -> Assessment:
    """Assess a CronJob."""
    _metadata, spec, _status = _parts(manifest)
    if spec.get("suspend"):
        return Assessment(Health.SUSPENDED, "CronJob is suspended")
    return HEALTHY


def application(manifest: Manifest) -> Assessment:
    """Assess a child Application by its own health."""
    health = (manifest.get("status") or {}).get("health") or {}
    try:
        return Assessment(Health(str(health.get("status"))), health.get("message", ""))
    except ValueError:
        return _progressing("Waiting for application to be reconciled")


def application_set(manifest: Manifest) -> Assessment:
    """Assess an ApplicationSet by its conditions."""
    conditions = {c.get("type"): c for c in (manifest.get("status") or {}).get("conditions") or []}

    def holds(kind: str) -> bool:
        return bool(conditions.get(kind, {}).get("status") == "True")

    if holds("ErrorOccurred"):
        return _degraded(conditions["ErrorOccurred"].get("message", ""))
    if holds("RolloutProgressing"):
        return _progressing(conditions["RolloutProgressing"].get("message", ""))
    if holds("ResourcesUpToDate"):
        return HEALTHY
    return _progressing("Waiting for the application set to be reconciled")


def namespace(manifest: Manifest) -> Assessment | None:
    """Assess a Namespace: progressing while it is terminating, otherwise without health."""
    if (manifest.get("status") or {}).get("phase") == "Terminating":
        return _progressing("Namespace is terminating")
    return None
