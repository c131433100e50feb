"""Compare a resource in git with the same resource in a cluster."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hub.engine.errors import ODD_SHAPES, EngineError, ManifestError
from hub.engine.ignore import (
    DeleteByJq,
    IgnoreRule,
    manager_fields,
    rules_for,
    take_fields,
    without_ignored,
)
from hub.engine.merge import ownership, predict
from hub.engine.normalize import for_comparison, is_aggregated_role, normalize_desired
from hub.engine.resource import Manifest, resource_key
from hub.engine.tracking import Tracking

_NAMES = ("name", "namespace", "generateName")


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """What a comparison leaves out."""

    rules: tuple[IgnoreRule, ...] = ()
    tracking: Tracking = field(default_factory=Tracking)
    ignore_aggregated_roles: bool = False
    ignore_status: str = "all"
    """`all` kinds, only `crd`, or `none`, as `ignoreResourceStatusField` of Argo CD."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two sides that are compared, normalized, and whether they differ."""

    modified: bool
    live: Manifest | None
    predicted: Manifest | None


def compare(
    desired: Manifest,
    live: Manifest | None,
    settings: CompareSettings,
    delete_by_jq: DeleteByJq,
    dry_run: Manifest | None = None,
) -> Comparison:
    """Return how applying `desired` would change `live`.

    `dry_run` is the API server's own prediction, when server-side diff is on; without it the
    prediction is made here by field ownership.

    Raises: ManifestError for a manifest without identity, and for a live resource whose fields have shapes
        that its kind does not have.
    """
    try:
        return _compare(desired, live, settings, delete_by_jq, dry_run)
    except EngineError:
        raise
    except ODD_SHAPES as error:
        raise ManifestError(
            "it has fields of a shape that its kind does not have, live or in the source"
        ) from error


def _compare(
    desired: Manifest,
    live: Manifest | None,
    settings: CompareSettings,
    delete_by_jq: DeleteByJq,
    dry_run: Manifest | None,
) -> Comparison:
    wanted = normalize_desired(desired)
    if live is None:
        return Comparison(modified=True, live=None, predicted=wanted)
    predicted = dry_run or predict(wanted, live, *ownership(live))
    rules = rules_for(resource_key(desired), settings.rules)
    managers = [name for rule in rules for name in rule.managers]
    if managers:
        predicted = take_fields(predicted, live, manager_fields(live, managers))
    sides = [_comparable(side, rules, settings, delete_by_jq) for side in (live, predicted)]
    return Comparison(modified=sides[0] != sides[1], live=sides[0], predicted=sides[1])


def _comparable(
    manifest: Manifest, rules: list[IgnoreRule], settings: CompareSettings, delete_by_jq: DeleteByJq
) -> Manifest:
    ignore_status = settings.ignore_status == "all" or (
        settings.ignore_status == "crd" and manifest.get("kind") == "CustomResourceDefinition"
    )
    result = for_comparison(manifest, ignore_status=ignore_status)
    if settings.ignore_aggregated_roles and is_aggregated_role(result):
        result = {k: v for k, v in result.items() if k != "rules"}
    return without_ignored(result, rules, delete_by_jq) if rules else result


def respect_ignored(
    desired: Manifest, live: Manifest | None, rules: Iterable[IgnoreRule], delete_by_jq: DeleteByJq
) -> Manifest:
    """Return `desired` with the live value of every field that the rules ignore.

    Leaving the field out would not do: an apply removes what it set before and no longer names.
    Source: as `RespectIgnoreDifferences` of Argo CD 3.6: only for resources that exist.
    """
    chosen = rules_for(resource_key(desired), rules)
    if live is None or not chosen:
        return desired
    managers = [name for rule in chosen for name in rule.managers]
    result = take_fields(desired, live, manager_fields(live, managers)) if managers else desired
    body = for_comparison(live)
    kept = _overlay(
        without_ignored(result, chosen, delete_by_jq),
        body,
        without_ignored(body, chosen, delete_by_jq),
    )
    return _as_the_same(kept, desired)


def _as_the_same(result: Manifest, desired: Manifest) -> Manifest:
    """Return a manifest that names what `desired` names: that one was permitted, and no other."""
    names = {f: desired["metadata"][f] for f in _NAMES if f in desired["metadata"]}
    given = result.get("metadata")
    others = {k: v for k, v in given.items() if k not in _NAMES} if isinstance(given, dict) else {}  # fmt: skip
    about = {"apiVersion": desired["apiVersion"], "kind": desired["kind"]}
    return {**result, **about, "metadata": {**others, **names}}


def _overlay(base: Any, live: Any, stripped: Any) -> Any:
    if isinstance(live, dict) and isinstance(stripped, dict) and isinstance(base, dict):
        result = dict(base)
        for name, value in live.items():
            if name not in stripped:
                result[name] = value
            elif stripped[name] != value:
                result[name] = _overlay(base.get(name, stripped[name]), value, stripped[name])
        return result
    if isinstance(live, list) and isinstance(stripped, list) and isinstance(base, list):
        if len(live) == len(stripped) == len(base):
            return [_overlay(*sides) for sides in zip(base, live, stripped, strict=True)]
        return live
    return live
