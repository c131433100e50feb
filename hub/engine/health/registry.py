"""The kinds with a built-in health check. A new one is an entry here."""

from collections.abc import Callable

from hub.engine.health import kinds
from hub.engine.resource import Manifest
from hub.engine.status import Assessment

Assessor = Callable[[Manifest], Assessment | None]
"""Takes a live resource; returns None if it has no health now."""

ASSESSORS: dict[tuple[str, str], Assessor] = {
    ("apps", "Deployment"): kinds.deployment,
    ("apps", "StatefulSet"): kinds.stateful_set,
    ("apps", "DaemonSet"): kinds.daemon_set,
    ("apps", "ReplicaSet"): kinds.replica_set,
    ("", "Pod"): kinds.pod,
    ("", "PersistentVolumeClaim"): kinds.claim,
    ("", "Service"): kinds.service,
    ("", "Namespace"): kinds.namespace,
    ("networking.k8s.io", "Ingress"): kinds.ingress,
    ("extensions", "Ingress"): kinds.ingress,
    ("batch", "Job"): kinds.job,
    ("batch", "CronJob"): kinds.cron_job,
    ("autoscaling", "HorizontalPodAutoscaler"): kinds.autoscaler,
    ("apiregistration.k8s.io", "APIService"): kinds.api_service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): kinds.resource_definition,
    ("policy", "PodDisruptionBudget"): kinds.disruption_budget,
    ("argoproj.io", "Workflow"): kinds.workflow,
    ("argoproj.io", "Application"): kinds.application,
    ("argoproj.io", "ApplicationSet"): kinds.application_set,
}
"""By group and kind."""
