"""Application sets that another application applies to the hub itself."""

from appsets.manifests import set_json
from appsets.models import ApplicationSet
from appsets.operations import sets
from hub.engine.resource import Manifest
from projects.destinations.in_cluster import ACTOR, Served


def _get(namespace: str, name: str) -> Manifest | None:
    row = ApplicationSet.objects.filter(namespace=namespace, name=name).first()
    return set_json(row, []) if row else None


def _save(manifest: Manifest, dry_run: bool) -> Manifest:
    wanted = sets.wanted_from(manifest)
    if dry_run:
        return manifest
    return set_json(sets.save(wanted, ACTOR, upsert=True, replace=True), [])


def _delete(namespace: str, name: str) -> None:
    row = ApplicationSet.objects.filter(namespace=namespace, name=name).first()
    if row is not None:
        sets.delete(row, ACTOR)


SERVED = Served(_get, _save, _delete)
