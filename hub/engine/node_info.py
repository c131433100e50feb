"""Details that the resource tree shows for a live resource."""

import contextlib
import re
from typing import Any

from hub.engine.errors import MALFORMED_OBJECT
from hub.engine.parsing import parse_integer
from hub.engine.quantity import parse_quantity
from hub.engine.resource import Manifest, annotations_of, labels_of, resource_key

LINK = "link.argocd.argoproj.io/"

# An exabyte. A misbehaving server may report a value too large to print.
_MAX_QUANTITY = 10**18


def describe(manifest: Manifest) -> dict[str, Any]:
    """Return `info`, `images` and `networkingInfo` of a live resource, without empty entries.

    Source: as Argo CD 3.6's resource nodes.
    """
    key = resource_key(manifest)
    result: dict[str, Any] = {}
    images = _images(manifest.get("spec"))
    if images:
        result["images"] = images
    info = _info(key.kind, manifest)
    if info:
        result["info"] = [{"name": name, "value": value} for name, value in info]
    networking = _networking(key.kind, manifest)
    if networking:
        result["networkingInfo"] = networking
    return result


def _images(spec: Any) -> list[str]:
    if not isinstance(spec, dict):
        return []
    inner = spec
    for step in ("jobTemplate", "spec", "template", "spec"):
        if isinstance(inner.get(step), dict):
            inner = inner[step]
    containers = [*_maps(inner.get("initContainers")), *_maps(inner.get("containers"))]
    return sorted({c["image"] for c in containers if isinstance(c.get("image"), str)})


def _maps(value: Any) -> list[dict[str, Any]]:
    return (
        [item for item in value or [] if isinstance(item, dict)] if isinstance(value, list) else []
    )


def _info(kind: str, manifest: Manifest) -> list[tuple[str, str]]:
    if kind == "Pod":
        return _pod_info(manifest)
    if kind in ("ReplicaSet", "Rollout"):
        revision = annotations_of(manifest).get("deployment.kubernetes.io/revision")
        return [("Revision", f"Rev:{revision}")] if revision else []
    return []


def _pod_info(manifest: Manifest) -> list[tuple[str, str]]:
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    statuses = _maps(status.get("containerStatuses"))
    ready = sum(1 for c in statuses if c.get("ready"))
    restarts = sum(parse_integer(c.get("restartCount")) or 0 for c in statuses)
    info = [
        ("Status Reason", _pod_reason(manifest, status, statuses)),
        ("Node", str(spec.get("nodeName") or "")),
        ("Containers", f"{ready}/{len(_maps(spec.get('containers')))}"),
    ]
    if restarts:
        info.append(("Restart Count", str(restarts)))
    for resource in ("cpu", "memory"):
        total = sum(
            parse_quantity(((c.get("resources") or {}).get("requests") or {}).get(resource)) or 0
            for c in _maps(spec.get("containers"))
        )
        if 0 < total < _MAX_QUANTITY:
            info.append((resource, str(int(total * 1000))))
    return [(name, value) for name, value in info if value]


def _pod_reason(manifest: Manifest, status: dict[str, Any], statuses: list[dict[str, Any]]) -> str:
    if (manifest.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for container in statuses:
        state = container.get("state") or {}
        reason = (state.get("waiting") or {}).get("reason") or (state.get("terminated") or {}).get(
            "reason"
        )
        if reason:
            return str(reason)
    return str(status.get("reason") or status.get("phase") or "")


def _networking(kind: str, manifest: Manifest) -> dict[str, Any]:
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    result: dict[str, Any] = {}
    if kind == "Pod" and labels_of(manifest):
        result["labels"] = labels_of(manifest)
    if kind == "Service" and isinstance(spec.get("selector"), dict):
        result["targetLabels"] = spec["selector"]
    ingress = (status.get("loadBalancer") or {}).get("ingress")
    if ingress and kind in ("Service", "Ingress"):
        result["ingress"] = ingress
    if kind == "Ingress":
        result["targetRefs"] = _backends(manifest, spec)
    urls = external_urls(manifest)
    if urls:
        result["externalURLs"] = urls
    return {k: v for k, v in result.items() if v}


def _backends(manifest: Manifest, spec: dict[str, Any]) -> list[dict[str, str]]:
    namespace = manifest["metadata"].get("namespace", "")
    services = [(spec.get("defaultBackend") or {}).get("service")]
    for rule in _maps(spec.get("rules")):
        services += [
            (path.get("backend") or {}).get("service")
            for path in _maps((rule.get("http") or {}).get("paths"))
        ]
    names = sorted({s["name"] for s in services if isinstance(s, dict) and "name" in s})
    return [
        {"group": "", "kind": "Service", "namespace": namespace, "name": name} for name in names
    ]


def external_urls(manifest: Manifest) -> list[str]:
    """Return the links of a resource, except those with an unsafe scheme."""
    urls = [
        value.partition("|")[2] or value
        for name, value in annotations_of(manifest).items()
        if name.startswith(LINK)
    ]
    if annotations_of(manifest).get("argocd.argoproj.io/ignore-default-links") != "true":
        # Links are optional: a malformed object simply has none.
        with contextlib.suppress(*MALFORMED_OBJECT):
            urls += _default_urls(manifest)
    return sorted({url for url in urls if is_safe_url(url)})


def _default_urls(manifest: Manifest) -> list[str]:
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    kind = manifest.get("kind")
    addresses = [
        str(entry.get("hostname") or entry.get("ip") or "")
        for entry in _maps((status.get("loadBalancer") or {}).get("ingress"))
    ]
    if kind == "Service" and spec.get("type") == "LoadBalancer":
        port = next((p.get("port") for p in _maps(spec.get("ports"))), 80)
        scheme = "https" if port == 443 else "http"
        tail = "" if port in (80, 443) else f":{port}"
        return [f"{scheme}://{address}{tail}" for address in addresses if address]
    if kind != "Ingress":
        return []
    secured = {host for entry in _maps(spec.get("tls")) for host in entry.get("hosts") or []}
    urls = []
    for rule in _maps(spec.get("rules")):
        host = rule.get("host") or next(iter(addresses), "")
        paths = [
            str(p.get("path") or "/") for p in _maps((rule.get("http") or {}).get("paths"))
        ] or ["/"]
        scheme = (
            "https" if rule.get("host") in secured or (secured and not rule.get("host")) else "http"
        )
        urls += [f"{scheme}://{host}{path.rstrip('*')}" for path in paths if host]
    return urls


def is_safe_url(url: Any) -> bool:
    """Return whether a link is http or https and has no control characters or white space."""
    return isinstance(url, str) and bool(
        re.fullmatch(r"https?://[^\s\x00-\x1f<>\"'`\\]+", url, re.IGNORECASE)
    )


def redact(manifest: Manifest, *others: Manifest | None) -> list[Manifest | None]:
    """Return copies of several states of one resource with a Secret's values replaced by "+".

    Equal values get equally many plus signs across the states, different values get more.
    The last-applied annotation is removed.
    Source: as Argo CD 3.6.
    """
    states = [manifest, *others]
    if not any(
        s is not None and s.get("kind") == "Secret" and "/" not in str(s.get("apiVersion"))
        for s in states
    ):
        return list(states)
    runs: dict[str, dict[Any, str]] = {}
    return [_redacted(state, runs) if state is not None else None for state in states]


def _redacted(manifest: Manifest, runs: dict[str, dict[Any, str]]) -> Manifest:
    result = dict(manifest)
    for field in ("data", "stringData"):
        values = result.get(field)
        if isinstance(values, dict):
            result[field] = {name: _run(runs, name, value) for name, value in values.items()}
        elif field in result:
            result[field] = "++++++++"
    metadata = dict(result.get("metadata") or {})
    if isinstance(metadata.get("annotations"), dict):
        metadata["annotations"] = {
            k: v
            for k, v in metadata["annotations"].items()
            if k != "kubectl.kubernetes.io/last-applied-configuration"
        }
    return {**result, "metadata": metadata}


def _run(runs: dict[str, dict[Any, str]], name: str, value: Any) -> str:
    seen = runs.setdefault(name, {})
    return seen.setdefault(str(value), "++++++++" + "+" * len(seen))
