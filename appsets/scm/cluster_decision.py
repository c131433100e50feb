"""The generator `clusterDecisionResource`: clusters that a custom resource selects."""

from collections.abc import Mapping, Sequence
from typing import Any

from appsets.generators.base import ClusterFacts, Params
from appsets.generators.errors import GeneratorError
from appsets.scm.credentials import Keys
from appsets.template import fast
from clusters.kinds import Refused, path_of
from clusters.kube import connect
from clusters.models import HOME_SERVER, Cluster


def check_decision(block: Mapping[str, Any], where: str) -> str:
    """Return the name of the ConfigMap of a decision generator; raises GeneratorError."""
    name = block.get("configMapRef")
    if not isinstance(name, str) or not name:
        raise GeneratorError(f"{where}.configMapRef is required")
    if bool(block.get("name")) == bool(block.get("labelSelector")):
        raise GeneratorError(
            f"{where}: there is a problem with the definition of the ClusterDecisionResource "
            "generator: give either name or labelSelector"
        )
    return name


def decisions(
    block: Mapping[str, Any], keys: Keys, clusters: Sequence[ClusterFacts]
) -> list[Params]:
    """Return the clusters that a custom resource selects, as parameters.

    Shapes: beyond Argo CD's keys the ConfigMap may name the registered `cluster` of the resource.
    Raises: GeneratorError; RetryLater or Stalled if that cluster is unreachable.
    """
    name = check_decision(block, "clusterDecisionResource")
    config = keys.config(name, "clusterDecisionResource.configMapRef")
    group, slash, version = str(config.get("apiVersion") or "").rpartition("/")
    if not slash or not config.get("kind"):
        raise GeneratorError(
            f"clusterDecisionResource: ConfigMap {name!r} needs apiVersion (group/version) and "
            "kind (the plural name)"
        )
    match = str(config.get("matchKey") or "")
    by_name = {c.name: c for c in clusters}
    found: list[Params] = []
    for resource in _resources(block, keys, config, (group, version), name):
        status = resource.get("status")
        entries = (
            status.get(str(config.get("statusListKey") or "clusters"))
            if isinstance(status, Mapping)
            else None
        )
        for entry in entries if isinstance(entries, list) and match else []:
            cluster = by_name.get(str(entry.get(match))) if isinstance(entry, Mapping) else None
            if cluster is not None:
                found.append(
                    {
                        **{str(k): fast.plain(v) for k, v in entry.items()},
                        "name": cluster.name,
                        "server": cluster.server,
                    }
                )
    return found


def _resources(
    block: Mapping[str, Any],
    keys: Keys,
    config: Mapping[str, str],
    version: tuple[str, str],
    name: str,
) -> list[Mapping[str, Any]]:
    where = {"name": config["cluster"]} if config.get("cluster") else {"server": HOME_SERVER}
    cluster = Cluster.objects.filter(**where).first()
    if cluster is None:
        raise GeneratorError(
            f"clusterDecisionResource: ConfigMap {name!r}: there is no cluster "
            f"{config.get('cluster')!r}"
        )
    namespace = str(config.get("namespace") or keys.namespace)
    query = {}
    if block.get("labelSelector"):
        query = {"labelSelector": _selector(block["labelSelector"])}
    elif block.get("name"):
        query = {"fieldSelector": f"metadata.name={block['name']}"}
    what = f"{config['kind']} of {'/'.join(version)} in namespace {namespace}"
    try:
        path = path_of("apis", *version, "namespaces", namespace, str(config["kind"]))
        answer = connect(cluster).request("GET", path, query=query)
    except Refused as refused:
        raise GeneratorError(
            f"clusterDecisionResource: cluster {cluster.name} refuses {what} ({refused.status}): "
            f"{refused.message}"
        ) from refused
    items = answer.get("items") if isinstance(answer, Mapping) else None
    if not isinstance(items, list) or not items:
        raise GeneratorError(f"no clusterDecisionResources found: {what}")
    return [i for i in items if isinstance(i, Mapping)]


def _selector(selector: Any) -> str:
    """Return a label selector as a query parameter; raises GeneratorError."""
    if not isinstance(selector, Mapping):
        raise GeneratorError("clusterDecisionResource.labelSelector must be an object")
    parts = [f"{k}={v}" for k, v in (selector.get("matchLabels") or {}).items()]
    for entry in selector.get("matchExpressions") or []:
        key, operator, values = entry.get("key"), entry.get("operator"), entry.get("values") or []
        listed = f"({','.join(map(str, values))})"
        forms = {
            "In": f"{key} in {listed}",
            "NotIn": f"{key} notin {listed}",
            "Exists": f"{key}",
            "DoesNotExist": f"!{key}",
        }
        if operator not in forms:
            raise GeneratorError(
                f"clusterDecisionResource.labelSelector: operator {operator!r} is none of In, "
                "NotIn, Exists, DoesNotExist"
            )
        parts.append(forms[operator])
    return ",".join(parts)
