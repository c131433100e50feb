"""Convert between form fields and the manifest of an application; pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from hub.engine.parsing import parse_digits

Fields = Mapping[str, Sequence[str]]


def source_at(spec: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return one of the sources, or an empty one if it does not exist."""
    if isinstance(spec.get("sources"), list):
        listed = spec["sources"]
        found = listed[index] if 0 <= index < len(listed) else {}
    else:
        found = spec.get("source") or {}
    return dict(found) if isinstance(found, dict) else {}


def manifest_from(body: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return a manifest with the values of a form; other fields do not change.

    Shapes: `part` names the parts of the form that are present: general, source, helm, kustomize,
        directory, policy. Other parts of the manifest do not change.
    """
    parts = set(fields.get("part") or ())
    metadata = dict(body.get("metadata") or {})
    spec = dict(body.get("spec") or {})
    if "general" in parts:
        if "name" in fields:
            metadata["name"] = one(fields, "name")
        spec["project"] = one(fields, "project") or spec.get("project") or "default"
        spec["destination"] = _destination(dict(spec.get("destination") or {}), fields)
    index = parse_digits(one(fields, "index")) or 0
    source = source_at(spec, index)
    if "source" in parts:
        source = _source(source, fields)
    for tool in ("helm", "kustomize", "directory"):
        if tool in parts:
            block = {"helm": _helm, "kustomize": _kustomize, "directory": _directory}[tool](
                dict(source.get(tool) or {}), fields
            )
            put(source, tool, block)
    if isinstance(spec.get("sources"), list) and 0 <= index < len(spec["sources"]):
        spec["sources"] = [source if n == index else s for n, s in enumerate(spec["sources"])]
    elif source:
        spec["source"] = source
    if "policy" in parts:
        put(spec, "syncPolicy", _policy(dict(spec.get("syncPolicy") or {}), fields))
    return {**body, "metadata": metadata, "spec": spec}


def _destination(before: dict[str, Any], fields: Fields) -> dict[str, Any]:
    if one(fields, "cluster"):
        before.pop("server", None)
        before["name"] = one(fields, "cluster")
    put(before, "namespace", one(fields, "namespace"))
    return before


def _source(source: dict[str, Any], fields: Fields) -> dict[str, Any]:
    source["repoURL"] = one(fields, "repoURL")
    put(source, "chart", one(fields, "chart"))
    put(source, "path", "" if source.get("chart") else one(fields, "path") or ".")
    source["targetRevision"] = one(fields, "revision") or "HEAD"
    return source


def _helm(block: dict[str, Any], fields: Fields) -> dict[str, Any]:
    put(block, "releaseName", one(fields, "helm.releaseName"))
    put(block, "valueFiles", many(fields, "helm.valueFiles"))
    values = (fields.get("helm.values") or [""])[0]
    if values.strip() != str(block.get("values") or "").strip():
        block.pop("valuesObject", None)
        put(block, "values", values.rstrip() + "\n" if values.strip() else "")
    rows = _rows(fields, ("name", "value", "forceString"), "helm.parameter")
    parameters = [
        {
            "name": r["name"],
            "value": r["value"],
            **({"forceString": True} if r["forceString"] else {}),
        }
        for r in rows
        if r["name"]
    ]
    put(block, "parameters", parameters)
    put(block, "skipCrds", bool(one(fields, "helm.skipCrds")))
    return block


def _kustomize(block: dict[str, Any], fields: Fields) -> dict[str, Any]:
    for name in ("namePrefix", "nameSuffix", "namespace"):
        put(block, name, one(fields, f"kustomize.{name}"))
    put(block, "images", many(fields, "kustomize.images"))
    replicas = [
        {
            "name": r["name"],
            "count": r["count"] if parse_digits(r["count"]) is None else parse_digits(r["count"]),
        }
        for r in _rows(fields, ("name", "count"), "kustomize.replica")
        if r["name"]
    ]
    put(block, "replicas", replicas)
    labels = {
        r["key"]: r["value"] for r in _rows(fields, ("key", "value"), "kustomize.label") if r["key"]
    }
    put(block, "commonLabels", labels)
    return block


def _directory(block: dict[str, Any], fields: Fields) -> dict[str, Any]:
    put(block, "recurse", bool(one(fields, "directory.recurse")))
    for name in ("include", "exclude"):
        put(block, name, one(fields, f"directory.{name}"))
    return block


def _policy(policy: dict[str, Any], fields: Fields) -> dict[str, Any]:
    automated = dict(policy.get("automated") or {})
    automated.pop("enabled", None)
    for name in ("prune", "selfHeal"):
        put(automated, name, bool(one(fields, name)))
    policy.pop("automated", None)
    if one(fields, "automated"):
        policy["automated"] = automated
    options = [
        o for o in policy.get("syncOptions") or [] if not str(o).startswith("CreateNamespace=")
    ]
    put(
        policy,
        "syncOptions",
        [*options, *(["CreateNamespace=true"] if one(fields, "createNamespace") else [])],
    )
    return policy


def put(target: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or remove it if the value is empty."""
    if value:
        target[name] = value
    else:
        target.pop(name, None)


def one(fields: Fields, name: str) -> str:
    """Return the text of a field."""
    return (fields.get(name) or [""])[0].strip()


def many(fields: Fields, name: str) -> list[str]:
    """Return the values of a field that has several."""
    return [v.strip() for v in fields.get(name) or [] if v.strip()]


def _rows(fields: Fields, names: Sequence[str], prefix: str) -> list[dict[str, str]]:
    columns = [[v.strip() for v in fields.get(f"{prefix}.{n}") or []] for n in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=False)]
