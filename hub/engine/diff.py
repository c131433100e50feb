"""Compare a resource in git with the same resource in a cluster."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import ParamSpec, TypeVar

import orjson

from hub.engine.apply_merge import (
    Doubt,
    Ownership,
    Uncertain,
    digest_of_doubts,
    filter_dry_run,
    merge_for_apply,
    ownership,
)
from hub.engine.effort import Effort
from hub.engine.errors import MALFORMED_OBJECT, EngineError, ManifestError
from hub.engine.field_managers import manager_fields, take_fields
from hub.engine.ignore_rules import DeleteByJq, IgnoreRule, rules_for, without_ignored
from hub.engine.normalize import for_comparison, is_aggregated_role, normalize_desired
from hub.engine.resource import Manifest, resource_key
from hub.engine.schema import OBJECT, Type
from hub.engine.tracking import Tracking

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """What a comparison ignores."""

    rules: tuple[IgnoreRule, ...] = ()
    tracking: Tracking = field(default_factory=Tracking)
    ignore_aggregated_roles: bool = False
    ignore_status: str = "all"
    """`all`, `crd` or `none`, as `ignoreResourceStatusField` of Argo CD."""
    effort: Effort = field(default_factory=Effort, compare=False)
    """The work that the rules may cause, for all resources together."""


def _reports_malformed(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise ManifestError for an object with malformed fields."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except EngineError:
            raise
        except MALFORMED_OBJECT as error:
            raise ManifestError(
                "the resource has malformed fields, live or in the source: "
                "compare it with the schema of its kind"
            ) from error

    return call


Sides = tuple[Manifest | None, Manifest | None]


@dataclass(frozen=True)
class Comparison:
    """Whether live and predicted differ, and both states, normalized, to show a diff."""

    modified: bool
    _sides: Callable[[], Sides]

    @cached_property
    def sides(self) -> Sides:
        """The live state, and the state predicted after an apply."""
        return self._sides()

    @property
    def live(self) -> Manifest | None:
        """The live state, normalized."""
        return self.sides[0]

    @property
    def predicted(self) -> Manifest | None:
        """The state predicted after an apply, normalized."""
        return self.sides[1]


@dataclass(frozen=True, slots=True)
class LocalComparison:
    """A comparison of one resource that uses no API server."""

    wanted: Manifest
    """The manifest as a sync would apply it."""
    live: Manifest
    doubts: list[Doubt]
    is_same: bool
    """Whether an apply certainly changes nothing relevant."""
    _type: Type
    _owner: Ownership
    _strip: Callable[[Manifest], Manifest]

    @property
    def doubts_digest(self) -> str:
        """The digest of the live values in doubt; a stored dry run is valid until it changes."""
        return digest_of_doubts(self.doubts)

    @_reports_malformed
    def best_guess(self) -> Comparison:
        """Return the most likely comparison, without a dry run."""
        likely, _ = merge_for_apply(
            self.wanted, self.live, self._type, self._owner, Uncertain.LIKELY
        )
        if self.is_same:
            likely = self.live
        return self._of(likely)

    def as_unchanged(self) -> Comparison:
        """Return the comparison for a resource that an apply is known not to change."""
        return Comparison(False, lambda: (self._strip(self.live),) * 2)

    @_reports_malformed
    def with_dry_run(self, answer: Manifest, *, mutations: bool = False) -> Comparison:
        """Return the comparison based on the API server's response to a dry run.

        Shapes: `mutations` includes changes that webhooks make to fields that we do not manage.
        """
        return self._of(answer if mutations else self.without_mutations(answer))

    @_reports_malformed
    def as_changed(self) -> Comparison:
        """Return the comparison for a resource that an apply changes in an unknown way."""
        changed, _ = merge_for_apply(self.wanted, self.live, self._type, self._owner)
        return Comparison(True, lambda: (self._strip(self.live), self._strip(changed)))

    @_reports_malformed
    def is_unchanged_by(self, answer: Manifest, *, mutations: bool = False) -> bool:
        """Return whether a dry run returns the live state, regardless of ignore rules."""
        found = answer if mutations else self.without_mutations(answer)
        return _equal(for_comparison(found), for_comparison(self.live))

    def without_mutations(self, answer: Manifest) -> Manifest:
        """Return the response of a dry run, limited to fields that we set or have applied."""
        return filter_dry_run(answer, self.live, self.wanted, self._type, self._owner)

    def _of(self, predicted: Manifest) -> Comparison:
        if predicted is self.live:
            return self.as_unchanged()
        sides = self._strip(self.live), self._strip(predicted)
        return Comparison(not _equal(*sides), lambda: sides)


def _equal(one: Manifest, other: Manifest) -> bool:
    # In Python 1 == True, so the serialized text is compared as well.
    return one == other and _text(one) == _text(other)


def _text(value: Manifest) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)


@_reports_malformed
def compare_locally(
    wanted: Manifest,
    live: Manifest,
    settings: CompareSettings,
    delete_by_jq: DeleteByJq,
    type_: Type | None = None,
) -> LocalComparison:
    """Compare a normalized manifest with the live resource without an API server.

    Shapes: `type_` is the type from the cluster's OpenAPI schema, None when it has none.
    """
    known = type_ or OBJECT
    owner = ownership(live, known)
    changed, doubts = merge_for_apply(wanted, live, known, owner)
    rules = rules_for(resource_key(wanted), settings.rules)
    managers = [name for rule in rules for name in rule.managers]
    theirs = manager_fields(live, managers) if managers else None

    def strip(manifest: Manifest) -> Manifest:
        kept = manifest if theirs is None else take_fields(manifest, live, theirs, known)
        return _comparable(kept, rules, settings, delete_by_jq)

    if any(rule.jq_paths for rule in rules):
        strip(live)  # report an invalid path even if nothing differs
    is_same = not doubts or _equal(strip(live), strip(changed))
    return LocalComparison(wanted, live, doubts, is_same, known, owner, strip)


@_reports_malformed
def compare(
    desired: Manifest,
    live: Manifest | None,
    settings: CompareSettings,
    delete_by_jq: DeleteByJq,
    type_: Type | None = None,
) -> Comparison:
    """Return how an apply of `desired` would change `live`, without a dry run.

    Raises: ManifestError for a manifest without identity, and for a live resource with malformed
        fields.
    """
    wanted = normalize_desired(desired)
    if live is None:
        return missing(wanted)
    return compare_locally(wanted, live, settings, delete_by_jq, type_).best_guess()


def missing(wanted: Manifest) -> Comparison:
    """Return the comparison for a resource that does not exist."""
    return Comparison(True, lambda: (None, wanted))


def _comparable(
    manifest: Manifest, rules: list[IgnoreRule], settings: CompareSettings, delete_by_jq: DeleteByJq
) -> Manifest:
    ignore_status = settings.ignore_status == "all" or (
        settings.ignore_status == "crd" and manifest.get("kind") == "CustomResourceDefinition"
    )
    result = for_comparison(manifest, ignore_status=ignore_status)
    if settings.ignore_aggregated_roles and is_aggregated_role(result):
        result = {k: v for k, v in result.items() if k != "rules"}
    return without_ignored(result, rules, delete_by_jq, settings.effort) if rules else result
