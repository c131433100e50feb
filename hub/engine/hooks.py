"""Hooks and sync waves: when a resource is applied during a sync."""

from enum import StrEnum

from hub.engine.parsing import parse_integer
from hub.engine.resource import Manifest, annotations_of, csv_annotation

HOOK = "argocd.argoproj.io/hook"
HOOK_DELETE_POLICY = "argocd.argoproj.io/hook-delete-policy"
SYNC_WAVE = "argocd.argoproj.io/sync-wave"
HELM_HOOK = "helm.sh/hook"


class SyncPhase(StrEnum):
    """Phases of a sync, in order; the last two run when an application is deleted."""

    PRE_SYNC = "PreSync"
    SYNC = "Sync"
    POST_SYNC = "PostSync"
    SYNC_FAIL = "SyncFail"
    PRE_DELETE = "PreDelete"
    POST_DELETE = "PostDelete"


PHASE_ORDER = list(SyncPhase)
DELETE_PHASES = {SyncPhase.PRE_DELETE: "pre-delete", SyncPhase.POST_DELETE: "post-delete"}
"""The phases of a deletion, with their names in finalizers."""

_HELM = {
    "pre-install": SyncPhase.PRE_SYNC,
    "pre-upgrade": SyncPhase.PRE_SYNC,
    "post-install": SyncPhase.POST_SYNC,
    "post-upgrade": SyncPhase.POST_SYNC,
    "pre-delete": SyncPhase.PRE_DELETE,
    "post-delete": SyncPhase.POST_DELETE,
}
_POLICIES = {
    "HookSucceeded": "HookSucceeded",
    "HookFailed": "HookFailed",
    "BeforeHookCreation": "BeforeHookCreation",
    "hook-succeeded": "HookSucceeded",
    "hook-failed": "HookFailed",
    "before-hook-creation": "BeforeHookCreation",
}


def hook_phases(manifest: Manifest) -> list[SyncPhase]:
    """Return the phases in which a hook runs, empty for other resources and ignored hooks."""
    words = csv_annotation(manifest, HOOK)
    phases = [SyncPhase(w) for w in words if w in set(SyncPhase)]
    if words and phases:
        return sorted(set(phases), key=PHASE_ORDER.index)
    if words == ["Skip"]:
        return []
    helm = [_HELM[w] for w in csv_annotation(manifest, HELM_HOOK) if w in _HELM]
    return sorted(set(helm), key=PHASE_ORDER.index)


def is_delete_hook(manifest: Manifest) -> bool:
    """Return whether a hook runs only when the application is deleted, and in no sync."""
    phases = set(hook_phases(manifest))
    return bool(phases) and phases <= DELETE_PHASES.keys()


def is_hook(manifest: Manifest) -> bool:
    """Return whether a resource is a hook, including ignored ones."""
    if csv_annotation(manifest, HOOK):
        return True
    words = csv_annotation(manifest, HELM_HOOK)
    return bool(words) and words != ["crd-install"]


def is_ignored(manifest: Manifest) -> bool:
    """Return whether a sync ignores a resource: a hook of an unknown type."""
    return is_hook(manifest) and not hook_phases(manifest)


def wave(manifest: Manifest) -> int:
    """Return the sync wave; text that is not a number means 0, as in Argo CD."""
    annotations = annotations_of(manifest)
    for name in (SYNC_WAVE, "helm.sh/hook-weight"):
        if name in annotations:
            return parse_integer(annotations[name]) or 0
    return 0


def delete_policies(manifest: Manifest) -> set[str]:
    """Return when a hook is deleted; by default before it is created again."""
    words = csv_annotation(manifest, HOOK_DELETE_POLICY) or csv_annotation(
        manifest, "helm.sh/hook-delete-policy"
    )
    return {_POLICIES[w] for w in words if w in _POLICIES} or {"BeforeHookCreation"}
