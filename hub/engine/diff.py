"""Compare a resource in git with the same resource in a cluster."""

from dataclasses import dataclass, field

from hub.engine.errors import ODD_SHAPES, EngineError, ManifestError
from hub.engine.ignore import DeleteByJq, IgnoreRule, rules_for, without_ignored
from hub.engine.managers import manager_fields, take_fields
from hub.engine.merge import ownership, predict
from hub.engine.normalize import for_comparison, is_aggregated_role, normalize_desired
from hub.engine.resource import Manifest, resource_key
from hub.engine.tracking import Tracking


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
