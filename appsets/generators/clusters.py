"""The generator `clusters`: the registered clusters that match a selector."""

from collections.abc import Mapping
from typing import Any

from appsets.generators.base import Block, ClusterFacts, Generator, Input, Labels, Params, Run
from appsets.generators.errors import GeneratorError
from appsets.generators.field_types import FLAG, SELECTOR
from appsets.generators.parameters import COMMON_FIELDS, with_values
from appsets.generators.selectors import fits
from appsets.template.functions.argocd import normalize

HOME_SERVER = "https://kubernetes.default.svc"


def _clusters(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
    selector = block.get("selector") or {}
    chosen = []
    for cluster in sorted(run.inputs.clusters(), key=lambda c: (c.name, c.server)):
        is_home = cluster.server == HOME_SERVER and not cluster.labels
        # The hub itself has no labels, so no selector matches it.
        if (is_home and not selector) or (not is_home and fits(selector, cluster.labels)):
            chosen.append(with_values(run, block, _cluster_params(run, cluster), where))
    if block.get("flatList"):
        return [{"clusters": chosen}]
    return chosen


def _cluster_params(run: Run, cluster: ClusterFacts) -> Params:
    found: Params = {
        "name": cluster.name,
        "nameNormalized": normalize(cluster.name),
        "server": cluster.server,
        "project": cluster.project,
    }
    if run.go:
        return {
            **found,
            "metadata": {"labels": dict(cluster.labels), "annotations": dict(cluster.annotations)},
        }
    for name, entries in (("labels", cluster.labels), ("annotations", cluster.annotations)):
        found |= {f"metadata.{name}.{k}": v for k, v in entries.items()}
    return found


def _depends_on(block: Block, before: Labels | None, after: Labels | None) -> bool:
    return any(_may_select(block.get("selector"), x) for x in (before, after) if x is not None)


def _may_select(selector: Any, labels: Mapping[str, str]) -> bool:
    if not isinstance(selector, Mapping) or not selector or "{{" in str(selector):
        return True
    try:
        return fits(selector, labels)
    except GeneratorError:
        return True


CLUSTERS = Generator(
    "clusters",
    _clusters,
    {"selector": SELECTOR, "flatList": FLAG, **COMMON_FIELDS},
    inputs=frozenset({Input.CLUSTERS}),
    depends_on_cluster=_depends_on,
)
