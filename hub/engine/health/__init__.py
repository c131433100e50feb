"""Assess the health of live resources."""

from collections.abc import Callable, Mapping

from hub.engine.errors import RuleError
from hub.engine.globs import matches
from hub.engine.health.registry import ASSESSORS
from hub.engine.resource import Manifest, annotations_of, resource_key
from hub.engine.status import Assessment, Health

HOOK_FINALIZER = "argocd.argoproj.io/hook-finalizer"

Script = Callable[[Manifest], Assessment | None]


def assess(manifest: Manifest, scripts: Mapping[str, Script] | None = None) -> Assessment | None:
    """Return the health of a live resource, None for a kind without a health check.

    Shapes: `scripts` maps `group/Kind` to a script; globs are allowed, the exact name wins.
    Source: as Argo CD 3.6 assesses the same kinds.
    """
    metadata = manifest.get("metadata") or {}
    if metadata.get("deletionTimestamp") and HOOK_FINALIZER not in (
        metadata.get("finalizers") or []
    ):
        return Assessment(Health.PROGRESSING, "Pending deletion")
    key = resource_key(manifest)
    script = script_for(f"{key.group}/{key.kind}" if key.group else key.kind, scripts or {})
    if script is not None:
        try:
            return script(manifest)
        except RuleError as error:
            return Assessment(Health.UNKNOWN, str(error))
    assessor = ASSESSORS.get((key.group, key.kind))
    return assessor(manifest) if assessor else None


def script_for(name: str, scripts: Mapping[str, Script]) -> Script | None:
    """Return the script for a `group/Kind`: the exact match, else the first glob that matches."""
    if name in scripts:
        return scripts[name]
    for pattern, script in scripts.items():
        if "*" in pattern and matches(pattern, name):
            return script
    return None


def ignores_health(manifest: Manifest) -> bool:
    """Return whether a resource is excluded from the application's health."""
    return annotations_of(manifest).get("argocd.argoproj.io/ignore-healthcheck") == "true"
