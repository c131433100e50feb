"""The live resources that a comparison reads, from the live store or, if need be, the cluster."""

import hashlib
from collections.abc import Sequence

import orjson

from clusters import live
from clusters.kube import connect, kind_of
from clusters.models import Cluster, LiveResource
from hub.engine.hooks import is_hook
from hub.engine.resource import Manifest, ResourceKey, resource_key
from projects.access.reach import Reach
from projects.models import Application


def rows_of(
    reach: Reach, keys: Sequence[ResourceKey], *, narrow: bool
) -> dict[ResourceKey, LiveResource]:
    """Return the resources of an application and those with these keys.

    Shapes: with `narrow`, only those that the application may reach.
    """
    application, cluster = reach.application, reach.cluster
    found = {
        row.resource_key: row
        for row in LiveResource.objects.filter(
            cluster=cluster, instance=application.instance, owner_uid=""
        )
    }
    missing = [k.text for k in keys if k not in found]
    for start in range(0, len(missing), 500):
        for row in LiveResource.objects.filter(
            cluster=cluster, key__in=missing[start : start + 500]
        ):
            found[row.resource_key] = row
    if narrow:
        reached = {node.key for node in reach.load().nodes}
        return {key: row for key, row in found.items() if key in reached}
    return found


def is_left_alone(row: LiveResource, reach: Reach, hooks: Sequence[Manifest]) -> bool:
    """Return whether an application ignores a live resource that is not in Git."""
    application = reach.application
    if row.instance != application.instance or not row.is_self:
        return True
    itself = ("argoproj.io", "Application", application.namespace, application.name)
    if (row.group, row.kind, row.namespace, row.name) == itself:
        return True
    if any(resource_key(h) == row.resource_key for h in hooks):
        return True
    if row.manifest is not None and is_hook(row.manifest):
        return True
    managed = application.sync_policy.get("managedNamespaceMetadata") is not None
    if managed and (row.kind, row.name) == ("Namespace", application.dest_namespace):
        return True
    return bool(reach.refusal(row.resource_key))


def live_manifest(
    row: LiveResource | None, target: Manifest | None, cluster: Cluster
) -> Manifest | None:
    """Return the whole live resource; if the store has only its name, it is fetched and stored."""
    if row is None:
        return None
    found = row.manifest
    if found is not None and (target is None or found["apiVersion"] == target["apiVersion"]):
        return found
    if cluster.is_home and (row.group, row.kind) in live.OUR_KINDS:
        return found
    connection = connect(cluster)
    # Fetch the version that the manifest uses, so that both sides can be compared.
    kind = kind_of(connection, target) if target else connection.kind(row.group, row.kind)
    if kind is None:
        return found
    fetched = connection.get(kind, row.namespace, row.name)
    if fetched is not None and found is None:
        live.store_manifest(row, fetched)
    return fetched


def live_digest(application: Application, cluster: Cluster) -> str:
    """Return a digest of all live resources that a comparison reads."""
    columns = ("key", "digest", "health", "health_message", "deleting", "instance", "uid")
    rows = list(
        LiveResource.objects.filter(
            cluster=cluster, instance=application.instance, owner_uid=""
        ).values_list(*columns)
    )
    keys = list(application.managed.values_list("key", flat=True))
    own = {row[0] for row in rows}
    rest = [k for k in keys if k not in own]
    for start in range(0, len(rest), 500):
        rows += LiveResource.objects.filter(
            cluster=cluster, key__in=rest[start : start + 500]
        ).values_list(*columns)
    return hashlib.sha256(orjson.dumps(sorted(rows))).hexdigest()
