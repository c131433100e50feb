"""The kinds that a sandbox serves from its start."""

from typing import NamedTuple

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Served(NamedTuple):
    """One kind of a sandbox."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """Group and version as in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that the kind supports."""
        return _VERBS


BUILTIN = [
    Served("", "v1", "Namespace", "namespaces", False, ("ns",)),
    Served("", "v1", "Node", "nodes", False, ("no",)),
    Served("", "v1", "PersistentVolume", "persistentvolumes", False, ("pv",)),
    Served("", "v1", "Pod", "pods", True, ("po",)),
    Served("", "v1", "Service", "services", True, ("svc",)),
    Served("", "v1", "ConfigMap", "configmaps", True, ("cm",)),
    Served("", "v1", "Secret", "secrets", True),
    Served("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",)),
    Served("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, ("pvc",)),
    Served("", "v1", "ResourceQuota", "resourcequotas", True, ("quota",)),
    Served("", "v1", "LimitRange", "limitranges", True),
    Served("", "v1", "ReplicationController", "replicationcontrollers", True, ("rc",)),
    Served("", "v1", "Event", "events", True, ("ev",)),
    Served("apps", "v1", "Deployment", "deployments", True, ("deploy",)),
    Served("apps", "v1", "ReplicaSet", "replicasets", True, ("rs",)),
    Served("apps", "v1", "StatefulSet", "statefulsets", True, ("sts",)),
    Served("apps", "v1", "DaemonSet", "daemonsets", True, ("ds",)),
    Served("batch", "v1", "Job", "jobs", True),
    Served("batch", "v1", "CronJob", "cronjobs", True, ("cj",)),
    Served("networking.k8s.io", "v1", "Ingress", "ingresses", True, ("ing",)),
    Served("networking.k8s.io", "v1", "IngressClass", "ingressclasses", False),
    Served("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", True, ("netpol",)),
    Served("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", True, ("pdb",)),
    Served(
        "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, ("hpa",)
    ),
    Served("storage.k8s.io", "v1", "StorageClass", "storageclasses", False, ("sc",)),
    Served("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False, ("pc",)),
    Served("rbac.authorization.k8s.io", "v1", "Role", "roles", True),
    Served("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", True),
    Served("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False),
    Served("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False),
    Served(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        False,
    ),
    Served(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        False,
    ),
    Served("apiregistration.k8s.io", "v1", "APIService", "apiservices", False),
    Served(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        False,
        ("crd", "crds"),
    ),
]
