"""Kinds and clusters that the settings exclude."""

from collections.abc import Iterable
from typing import Any

from hub.engine.globs import matches

DEFAULT_EXCLUSIONS: list[dict[str, list[str]]] = [
    {"apiGroups": ["events.k8s.io", "metrics.k8s.io"], "kinds": ["*"]},
    {"apiGroups": [""], "kinds": ["Event"]},
    {"apiGroups": ["", "discovery.k8s.io"], "kinds": ["Endpoints", "EndpointSlice"]},
    {"apiGroups": ["coordination.k8s.io"], "kinds": ["Lease"]},
    {"apiGroups": ["authentication.k8s.io", "authorization.k8s.io"], "kinds": ["*"]},
    {"apiGroups": ["certificates.k8s.io"], "kinds": ["CertificateSigningRequest"]},
    {"apiGroups": ["cert-manager.io"], "kinds": ["CertificateRequest"]},
    {
        "apiGroups": ["cilium.io"],
        "kinds": ["CiliumIdentity", "CiliumEndpoint", "CiliumEndpointSlice"],
    },
    {
        "apiGroups": ["kyverno.io", "reports.kyverno.io", "wgpolicyk8s.io"],
        "kinds": [
            "PolicyReport",
            "ClusterPolicyReport",
            "EphemeralReport",
            "ClusterEphemeralReport",
            "AdmissionReport",
            "ClusterAdmissionReport",
            "BackgroundScanReport",
            "ClusterBackgroundScanReport",
            "UpdateRequest",
        ],
    },
]


def is_excluded(group: str, kind: str, server: str, rules: dict[str, Any] | None = None) -> bool:
    """Return whether the settings exclude a kind.

    It is excluded if an exclusion matches, or if inclusions exist and none matches.
    """
    rules = rules or {}
    if any(_rule_fits(r, group, kind, server) for r in rules.get("exclusions", DEFAULT_EXCLUSIONS)):
        return True
    inclusions = rules.get("inclusions") or []
    return bool(inclusions) and not any(_rule_fits(r, group, kind, server) for r in inclusions)


def _rule_fits(rule: dict[str, Any], group: str, kind: str, server: str) -> bool:
    def fits(patterns: Iterable[str], text: str) -> bool:
        return any(matches(p, text) for p in patterns)

    return (
        (not rule.get("apiGroups") or fits(rule["apiGroups"], group))
        and (not rule.get("kinds") or fits(rule["kinds"], kind))
        and (not rule.get("clusters") or fits(rule["clusters"], server))
    )
