"""Defaults and validation of a real API server for the common kinds."""

import base64
import binascii
from typing import Any

from hub.engine.resource import Manifest

_CONTAINER = {
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}


class Rejected(Exception):
    """The resource is invalid, which a real server answers with 422."""


def with_defaults(kind: str, manifest: Manifest) -> Manifest:
    """Return the manifest with the defaults of its kind filled in."""
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        return manifest
    if kind == "Pod":
        spec = _pod_spec(spec)
    elif kind == "Service":
        spec = _service(spec)
    elif kind == "Deployment":
        spec = {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
            },
            **spec,
        }
        spec = _with_template(spec)
    elif kind == "StatefulSet":
        spec = {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            **spec,
        }
        spec = _with_template(spec)
    elif kind == "DaemonSet":
        spec = {
            "revisionHistoryLimit": 10,
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
            **spec,
        }
        spec = _with_template(spec)
    elif kind in ("ReplicaSet", "Job"):
        spec = (
            {"replicas": 1, **spec}
            if kind == "ReplicaSet"
            else {"parallelism": 1, "completions": 1, "backoffLimit": 6, "suspend": False, **spec}
        )
        spec = _with_template(spec)
    return {**manifest, "spec": spec}


def _with_template(spec: dict[str, Any]) -> dict[str, Any]:
    template = spec.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        return spec
    return {**spec, "template": {**template, "spec": _pod_spec(template["spec"])}}


def _pod_spec(spec: dict[str, Any]) -> dict[str, Any]:
    result = {**_POD, **spec}
    for field in ("containers", "initContainers"):
        if isinstance(spec.get(field), list):
            result[field] = [_container(c) for c in spec[field]]
    return result


def _container(container: dict[str, Any]) -> dict[str, Any]:
    result = {**_CONTAINER, **container}
    if isinstance(container.get("ports"), list):
        result["ports"] = [{"protocol": "TCP", **port} for port in container["ports"]]
    return result


def _service(spec: dict[str, Any]) -> dict[str, Any]:
    result = {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        **spec,
    }
    if result["type"] != "ExternalName":
        result.setdefault("clusterIP", "10.0.0.1")
        result.setdefault("clusterIPs", [result["clusterIP"]])
    if isinstance(spec.get("ports"), list):
        result["ports"] = [
            {"protocol": "TCP", "targetPort": p.get("port"), **p} for p in spec["ports"]
        ]
    return result


_IMMUTABLE = {
    "Deployment": ("selector",),
    "ReplicaSet": ("selector",),
    "DaemonSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "volumeClaimTemplates"),
    "Job": ("selector", "template", "completions"),
}


def check(kind: str, manifest: Manifest, before: Manifest | None) -> None:
    """Check that a resource is valid.

    Raises: Rejected with the text of a real server's first complaint.
    """
    spec = manifest.get("spec") or {}
    if kind == "Secret":
        _check_secret(manifest)
    if kind == "ConfigMap":
        for name, value in (manifest.get("data") or {}).items():
            if not isinstance(value, str):
                raise Rejected(f"data.{name}: Invalid value: must be text")
    if kind in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"):
        _check_selector(spec)
    if kind in ("Deployment", "StatefulSet", "ReplicaSet") and (
        not isinstance(spec.get("replicas", 1), int) or spec.get("replicas", 1) < 0
    ):
        raise Rejected("spec.replicas: Invalid value: must be greater than or equal to 0")
    if kind in ("Deployment", "DaemonSet", "StatefulSet", "Job"):
        containers = ((spec.get("template") or {}).get("spec") or {}).get("containers")
        if not isinstance(containers, list) or not containers:
            raise Rejected("spec.template.spec.containers: Required value")
    if before is not None:
        for field in _IMMUTABLE.get(kind, ()):
            if field in (before.get("spec") or {}) and (before["spec"][field] != spec.get(field)):
                raise Rejected(f"spec.{field}: Invalid value: field is immutable")


def _check_secret(manifest: Manifest) -> None:
    for name, value in (manifest.get("data") or {}).items():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise Rejected(f"data.{name}: illegal base64 data: {value}") from error


def _check_selector(spec: dict[str, Any]) -> None:
    wanted = (spec.get("selector") or {}).get("matchLabels")
    if not spec.get("selector"):
        raise Rejected("spec.selector: Required value")
    labels = (((spec.get("template") or {}).get("metadata")) or {}).get("labels") or {}
    if wanted and any(labels.get(k) != v for k, v in wanted.items()):
        raise Rejected(
            "spec.template.metadata.labels: Invalid value: "
            "`selector` does not match template `labels`"
        )
