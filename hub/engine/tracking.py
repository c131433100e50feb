"""Resource tracking: mark applied resources with their application, and read the marks."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from hub.engine.hooks import hook_phases
from hub.engine.resource import (
    Manifest,
    ResourceKey,
    annotations_of,
    labels_of,
    resource_key,
    with_metadata,
)

TRACKING_ID = "argocd.argoproj.io/tracking-id"
INSTALLATION_ID = "argocd.argoproj.io/installation-id"
# What `plan.generated_name` appends to the generateName of a hook.
_GENERATED = re.compile(r".{0,7}-([a-z]+)-[0-9]+")


@dataclass(frozen=True, slots=True)
class Tracking:
    """The tracking settings of this hub."""

    method: str = "annotation"
    label_key: str = "app.kubernetes.io/instance"
    installation_id: str = ""


class Owner(NamedTuple):
    """The application in the tracking marks of a resource."""

    instance: str
    """The name of the application instance, empty if the resource is not managed."""
    is_self: bool
    """Whether the marks were made for this resource, not copied from another."""


NOBODY = Owner("", is_self=False)


def tracking_id(instance: str, key: ResourceKey, namespace: str) -> str:
    """Return the tracking id of a resource.

    Shapes: `instance:group/Kind:namespace/name`; for a cluster-scoped resource the namespace is
        the destination's, as in Argo CD 3.6.
    """
    return f"{instance}:{key.group}/{key.kind}:{key.namespace or namespace}/{key.name}"


def mark(manifest: Manifest, instance: str, namespace: str, tracking: Tracking) -> Manifest:
    """Return the manifest with the tracking marks of an application instance.

    CustomResourceDefinitions are not marked but matched by name, so that no application prunes
    them, as in Argo CD 3.6.
    """
    key = resource_key(manifest)
    if key.kind == "CustomResourceDefinition":
        return manifest
    annotations, labels = dict(annotations_of(manifest)), dict(labels_of(manifest))
    if tracking.method != "label":
        annotations[TRACKING_ID] = tracking_id(instance, key, namespace)
        if tracking.installation_id:
            annotations[INSTALLATION_ID] = tracking.installation_id
    if tracking.method != "annotation":
        cut = instance if tracking.method == "label" else instance[:63].rstrip("-_.")
        labels[tracking.label_key] = cut
    return with_metadata(manifest, annotations=annotations or None, labels=labels or None)


def rename(manifest: Manifest, name: str) -> Manifest:
    """Set the final name of a marked manifest that has only `generateName`, also in its mark."""
    prefix = manifest["metadata"].get("generateName") or ""
    annotations = dict(annotations_of(manifest))
    start, slash, marked = annotations.get(TRACKING_ID, "").rpartition("/")
    if slash and marked == prefix:
        annotations[TRACKING_ID] = f"{start}/{name}"
    return with_metadata(manifest, name=name, generateName=None, annotations=annotations or None)


def owner_of(manifest: Manifest, tracking: Tracking) -> Owner:
    """Return the application instance in the tracking marks of a live resource."""
    if tracking.method == "label":
        instance = labels_of(manifest).get(tracking.label_key, "")
        return Owner(instance, is_self=bool(instance))
    annotations = annotations_of(manifest)
    text = annotations.get(TRACKING_ID, "")
    if not text or annotations.get(INSTALLATION_ID, "") != tracking.installation_id:
        return NOBODY
    parts = text.split(":")
    if len(parts) != 3:
        return NOBODY
    key = resource_key(manifest)
    group, _, kind = parts[1].partition("/")
    namespace, _, name = parts[2].partition("/")
    same = (group, kind) == (key.group, key.kind)
    same = same and (name == key.name or _is_named_by_hub(manifest, name, key.name))
    return Owner(parts[0], is_self=same and (not key.namespace or namespace == key.namespace))


def _is_named_by_hub(manifest: Manifest, marked: str, name: str) -> bool:
    # Earlier releases marked a hook that has only `generateName` with that, not with its name.
    if not name.startswith(marked):
        return False
    found = _GENERATED.fullmatch(name.removeprefix(marked))
    return found is not None and found[1] in {phase.lower() for phase in hook_phases(manifest)}


def unmark(manifest: Manifest, tracking: Tracking) -> Manifest:
    """Remove all tracking marks, so that changing the method causes no diff."""
    annotations = {
        k: v for k, v in annotations_of(manifest).items() if k not in (TRACKING_ID, INSTALLATION_ID)
    }
    labels = {k: v for k, v in labels_of(manifest).items() if k != tracking.label_key}
    return with_metadata(manifest, annotations=annotations or None, labels=labels or None)
