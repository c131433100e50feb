"""Compare the desired manifests of an application with its live resources.

`_pair` decides the status of a resource: from its fields (`hub.engine.diff`) and, where only the
API server knows, from a dry run (`projects.destinations.dry_runs`). `hub.engine.status` derives the
status of the application from it, and `projects.pages.explain` words it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings

from clusters import live
from clusters.filters import is_excluded
from clusters.kinds import Refused
from clusters.models import Cluster, LiveResource
from clusters.schemas import types_of
from hub.engine import health
from hub.engine.diff import CompareSettings, Comparison, compare_locally, missing
from hub.engine.duplicate_elements import Duplicate
from hub.engine.errors import EngineError, Stalled
from hub.engine.field_sets import LAST_APPLIED, is_unowned
from hub.engine.hooks import is_hook, is_ignored, wave
from hub.engine.ignore_rules import IgnoreRule, ignore_rules
from hub.engine.resource import (
    Manifest,
    ResourceKey,
    annotations_of,
    resource_key,
    split_api_version,
    unique,
    with_metadata,
)
from hub.engine.schema import Type
from hub.engine.sent_manifest import Preserved, manifest_to_send
from hub.engine.status import ResourceState, Sync
from hub.engine.sync_options import compare_options, parse_options, resource_options
from hub.engine.tracking import mark
from hub.models import setting
from projects.access.own_kinds import Author
from projects.access.reach import Place, Reach, place_of, reach_of
from projects.comparison.jq import Jq
from projects.comparison.live_rows import is_left_alone, live_manifest, rows_of
from projects.destinations import dry_runs, in_cluster
from projects.destinations.dry_runs import (
    DryRunUse,
    Mode,
    Question,
    Settled,
    counts_mutations,
    mode_of,
    settle,
)
from projects.destinations.impersonation import user_for
from projects.models import Application, Project
from projects.sources import Desired

NOT_PERMITTED = "ResourceNotPermittedWarning"
UNANSWERED = "ComparisonWarning"
"""The API server did not answer a dry run that was needed."""
REPEATED = "RepeatedElementWarning"
"""A manifest contains a list element twice."""

Types = Mapping[tuple[str, str, str], Type]
"""By group, version and kind: the types that the cluster describes."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One resource: its desired and its live state."""

    key: ResourceKey
    desired: Manifest | None
    live: Manifest | None
    row: LiveResource | None
    comparison: Comparison | None
    state: ResourceState
    is_permitted: bool = True
    """Whether the project permits it; the live state of one that is not permitted is not read."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of all resources of an application."""

    pairs: list[Pair]
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """(condition type, message)."""
    errors: list[tuple[str, str]] = field(default_factory=list)
    retry_after: timedelta | None = None
    """When a further comparison may have a better result, None if this one is complete."""

    @property
    def is_final(self) -> bool:
        """Whether another comparison of the same inputs would give the same result."""
        return not self.errors and self.retry_after is None

    @property
    def states(self) -> list[ResourceState]:
        """The state of each resource."""
        return [pair.state for pair in self.pairs]


def system_rules() -> tuple[IgnoreRule, ...]:
    """Return the ignoreDifferences of the whole hub, from the setting `ignore_differences`."""
    return ignore_rules(setting("ignore_differences", []), "ignore_differences")


def settings_for(application: Application) -> CompareSettings:
    """Return which differences comparisons of an application ignore.

    Raises: RuleError naming the rule that is invalid.
    """
    options = setting("compare_options", {})
    own = ignore_rules(application.spec.get("ignoreDifferences") or [], "spec.ignoreDifferences")
    return CompareSettings(
        rules=(*system_rules(), *own),
        tracking=live.tracking(),
        ignore_aggregated_roles=bool(options.get("ignoreAggregatedRoles")),
        ignore_status=options.get("ignoreResourceStatusField", "all"),
    )


def prepared(
    desired: Sequence[Manifest], application: Application, place: Place
) -> tuple[list[Manifest], list[tuple[str, str]]]:
    """Return the manifests to compare, and warnings about those that were dropped.

    Namespaces and tracking marks are set; excluded kinds and repeated keys are left out.
    """
    rules = setting("resource_filters", {})
    place = place.knowing(desired)
    kept, warnings = [], []
    for manifest in desired:
        key = resource_key(manifest)
        if is_excluded(key.group, key.kind, place.cluster.server, rules):
            text = f"Resource {key.group}/{key.kind} {key.name} is excluded in the settings"
            warnings.append(("ExcludedResourceWarning", text))
            continue
        kept.append(_placed(manifest, key, place))
    single, repeated = unique(kept)
    for key, count in repeated.items():
        name = f"{key.group}/{key.kind}/{key.namespace}/{key.name}"
        text = f"Resource {name} appeared {count} times among application resources."
        warnings.append(("RepeatedResourceWarning", text))
    marks = live.tracking()
    return [mark(m, application.instance, place.namespace, marks) for m in single], warnings


def _placed(manifest: Manifest, key: ResourceKey, place: Place) -> Manifest:
    if not place.is_namespaced(key.group, key.kind):
        return with_metadata(manifest, namespace=None)
    if (key.group, key.kind) in live.OUR_KINDS and not key.namespace and place.cluster.is_home:
        return with_metadata(manifest, namespace=place.namespace or settings.NAMESPACE)
    return manifest if key.namespace else with_metadata(manifest, namespace=place.namespace or None)


@dataclass(frozen=True, slots=True)
class _Context:
    """The state that all resources of one comparison share."""

    application: Application
    cluster: Cluster
    rules: CompareSettings
    options: Mapping[str, str]
    preserved: Preserved | None
    jq: Jq
    types: Types
    dry_run_use: DryRunUse


@dataclass(frozen=True, slots=True)
class _Draft:
    """One resource after the local comparison."""

    key: ResourceKey
    target: Manifest | None
    row: LiveResource | None
    current: Manifest | None
    comparison: Comparison | None
    question: Question | None
    holder: str
    """The instance of another application that manages the resource."""
    repeats: Sequence[Duplicate] = ()
    error: EngineError | Refused | None = None
    note: str = ""


def comparison(
    application: Application,
    desired: Desired,
    cluster: Cluster,
    project: Mapping[str, Any],
    *,
    narrow: bool = False,
    dry_run_use: DryRunUse = DryRunUse.REUSE,
) -> Compared:
    """Return how an application differs from its live resources.

    With `narrow`, only resources that the application already reaches count as live: the manifests
    come from a caller who may not sync, and naming a resource must not disclose it.
    Raises: Stalled if the spec is invalid, RetryLater if the live state is unknown.
    """
    place, reach = place_of(application, cluster), reach_of(application, cluster, project)
    manifests, warnings = prepared(desired.manifests, application, place)
    hooks = [m for m in manifests if is_hook(m)]
    targets = {resource_key(m): m for m in manifests if not is_hook(m)}
    errors = _spec_errors(targets, place.knowing(desired.manifests))
    author = Author(application, Project(name=application.project, spec=dict(project)))
    context = _context(application, cluster, _types(cluster, targets), dry_run_use)
    refused = _refused(targets, reach)
    warnings += [(NOT_PERMITTED, f"{key}: {refused[key]}") for key in sorted(refused)]
    rows = rows_of(reach, [key for key in targets if key not in refused], narrow=narrow)
    rows = {k: r for k, r in rows.items() if k in targets or not is_left_alone(r, reach, hooks)}
    drafts, found = _drafts(targets.keys() - refused.keys(), targets, rows, reach, author, context)
    settled = _settled(drafts, author.project, context)
    pairs = [_refused_pair(key, targets[key]) for key in refused]
    pairs += [_pair(draft, settled.get(draft.key), context.options) for draft in drafts]
    pairs.sort(key=lambda pair: pair.key)
    pairs += [_hook_pair(m) for m in hooks if not is_ignored(m)]
    errors += _errors(drafts, settled)
    is_transient = any(one.is_transient for one in settled.values())
    retry_after = dry_runs.RETRY_REFUSED_AFTER if is_transient else None
    return Compared(pairs, warnings + found + _notes(drafts, settled), errors, retry_after)


def _context(
    application: Application, cluster: Cluster, types: Types, dry_run_use: DryRunUse
) -> _Context:
    rules, jq = settings_for(application), Jq(application.project, application.qualified_name)
    options = parse_options((application.sync_policy.get("syncOptions")) or [])
    preserved = _preserved(rules, options, jq)
    return _Context(application, cluster, rules, options, preserved, jq, types, dry_run_use)


def _preserved(rules: CompareSettings, options: Mapping[str, str], jq: Jq) -> Preserved | None:
    if options.get("RespectIgnoreDifferences") != "true":
        return None
    return Preserved(rules.rules, jq.paths, rules.effort)


def preserved_by(application: Application, options: Mapping[str, str]) -> Preserved | None:
    """Return the ignored fields that a sync leaves as they are, None without the sync option.

    Raises: RuleError naming the rule that is invalid.
    """
    jq = Jq(application.project, application.qualified_name)
    return _preserved(settings_for(application), options, jq)


def _refused(targets: Mapping[ResourceKey, Manifest], reach: Reach) -> dict[ResourceKey, str]:
    """Return the resources that the project does not permit, with the reason."""
    refusals = {key: reach.refusal(key) for key in targets if not _is_hubs(reach.cluster, key)}
    return {key: reason for key, reason in refusals.items() if reason}


def _drafts(
    permitted: AbstractSet[ResourceKey],
    targets: Mapping[ResourceKey, Manifest],
    rows: Mapping[ResourceKey, LiveResource],
    reach: Reach,
    author: Author,
    context: _Context,
) -> tuple[list[_Draft], list[tuple[str, str]]]:
    """Return the local comparisons, and warnings about resources that others manage."""
    held = _managed_elsewhere(rows, targets, reach)
    drafts, warnings = [], []
    for key in sorted(permitted | (rows.keys() - targets.keys())):
        row, target = rows.get(key), targets.get(key)
        rule = _hubs_rule(key, target, author, reach)
        if rule:
            warnings.append(("HubKindWarning", f"{key.kind} {key.namespace}/{key.name}: {rule}"))
            row = None
            if target is None:
                continue
        holder = held.get(key, "") if row is not None else ""
        if holder:
            warnings.append(_shared_warning(key, context.application, holder))
        drafts.append(_draft(key, target, row, context, holder))
    return drafts, warnings


def _errors(
    drafts: Sequence[_Draft], settled: Mapping[ResourceKey, Settled]
) -> list[tuple[str, str]]:
    found = [(d, d.error or (settled[d.key].error if d.key in settled else None)) for d in drafts]
    return [_comparison_error(draft.key, error, draft.holder) for draft, error in found if error]


def _types(cluster: Cluster, targets: Mapping[ResourceKey, Manifest]) -> Types:
    names = {_type_name(m) for key, m in targets.items() if not _is_hubs(cluster, key)}
    return types_of(cluster, names)


def _type_name(manifest: Manifest) -> tuple[str, str, str]:
    return (*split_api_version(manifest["apiVersion"]), manifest["kind"])


def _spec_errors(targets: Mapping[ResourceKey, Manifest], place: Place) -> list[tuple[str, str]]:
    return [
        (
            "InvalidSpecError",
            f"Namespace for {key.name} {m['apiVersion']}, Kind={key.kind} is missing.",
        )
        for key, m in targets.items()
        if place.is_namespaced(key.group, key.kind) and not key.namespace
    ]


def _shared_warning(key: ResourceKey, application: Application, holder: str) -> tuple[str, str]:
    both = f"{application.instance} and {holder}"
    return "SharedResourceWarning", f"{key.kind}/{key.name} is part of applications {both}"


def _comparison_error(
    key: ResourceKey, error: EngineError | Refused, holder: str
) -> tuple[str, str]:
    # An API server's message may quote the live resource, which belongs to another application.
    is_quoted = holder and isinstance(error, Refused)
    text = "it cannot be compared" if is_quoted else str(error)
    return "ComparisonError", f"{key}: {text}"


def _hubs_rule(key: ResourceKey, target: Manifest | None, author: Author, reach: Reach) -> str:
    """Return why one of the hub's own resources is not compared, empty for any other resource."""
    if not _is_hubs(reach.cluster, key):
        return ""
    rule = (
        in_cluster.why_not(target, author) if target else in_cluster.why_not_deletable(key, author)
    )
    return rule or reach.refusal(key)


def _is_hubs(cluster: Cluster, key: ResourceKey) -> bool:
    """Whether the hub serves the resource itself: its own rules replace the project's limits."""
    return cluster.is_home and in_cluster.is_ours(key.group, key.kind)


def _managed_elsewhere(
    rows: Mapping[ResourceKey, LiveResource], targets: Mapping[ResourceKey, Manifest], reach: Reach
) -> dict[ResourceKey, str]:
    """Return the resources in Git that another application manages, with its instance."""
    instance = reach.application.instance
    nodes = [
        row.node()
        for key, row in rows.items()
        if key in targets and not (row.is_self and row.instance == instance)
    ]
    holders = reach.holders(nodes)
    return {n.key: holders[n.uid] for n in nodes if holders[n.uid] not in ("", instance)}


def _refused_pair(key: ResourceKey, target: Manifest) -> Pair:
    # Always Missing: whether it exists is not disclosed to a project that does not permit it.
    state = ResourceState(
        key,
        split_api_version(target["apiVersion"])[1],
        Sync.OUT_OF_SYNC,
        exists=False,
        wave=wave(target),
    )
    return Pair(key, target, None, None, None, state, is_permitted=False)


def _without_data(pair: Pair) -> Pair:
    """Return a pair that discloses only the sync status of another application's resource."""
    state = ResourceState(
        pair.key, pair.state.version, pair.state.status, exists=True, wave=pair.state.wave
    )
    return Pair(pair.key, pair.desired, None, None, None, state)


def _unknown_pair(
    key: ResourceKey, target: Manifest | None, row: LiveResource | None, *, is_shown: bool
) -> Pair:
    version, wanted = row.version if row else "", target is not None
    state = ResourceState(key, version, Sync.UNKNOWN, exists=row is not None, wanted=wanted)
    return Pair(key, target, None, row if is_shown else None, None, state)


def _draft(
    key: ResourceKey,
    target: Manifest | None,
    row: LiveResource | None,
    context: _Context,
    holder: str,
) -> _Draft:
    try:
        return _compared_locally(key, target, row, context, holder)
    except (EngineError, Refused) as error:
        return _Draft(key, target, row, None, None, None, holder, error=error)


def _compared_locally(
    key: ResourceKey,
    target: Manifest | None,
    row: LiveResource | None,
    context: _Context,
    holder: str,
) -> _Draft:
    cluster, application = context.cluster, context.application
    current = live_manifest(row, target, cluster)
    if target is None:
        return _Draft(key, target, row, current, None, None, holder)
    type_ = context.types.get(_type_name(target))
    wanted, repeats = manifest_to_send(target, current, type_, context.preserved)
    if current is None:
        return _Draft(key, target, row, current, missing(wanted), None, holder, repeats)
    local = compare_locally(wanted, current, context.rules, context.jq.delete, type_)
    if _has_lost_owners(row, current, context):
        changed, note = local.as_changed(), _WITHOUT_OWNERS
        return _Draft(key, target, row, current, changed, None, holder, repeats, note=note)
    never = context.dry_run_use is DryRunUse.NEVER or _is_hubs(cluster, key)
    mode = Mode.NEVER if never else mode_of(target, application)
    if local.is_same and mode is not Mode.ALWAYS:
        return _Draft(key, target, row, current, local.as_unchanged(), None, holder, repeats)
    if mode is Mode.NEVER:
        return _Draft(key, target, row, current, local.best_guess(), None, holder, repeats)
    question = Question(
        local,
        always=mode is Mode.ALWAYS,
        mutations=counts_mutations(target, application),
        validate=resource_options(target, context.options).validate,
    )
    return _Draft(key, target, row, current, None, question, holder, repeats)


_WITHOUT_OWNERS = (
    "metadata.managedFields was removed, so a field that leaves Git would stay: "
    "sync to apply the resource again"
)


def _has_lost_owners(row: LiveResource | None, current: Manifest, context: _Context) -> bool:
    """Return whether a resource that the application applied has lost its field managers."""
    if row is None or not row.is_self or row.instance != context.application.instance:
        return False
    if _is_hubs(context.cluster, row.resource_key):
        return False
    return is_unowned(current) and LAST_APPLIED not in annotations_of(current)


def _settled(
    drafts: Sequence[_Draft], project: Project, context: _Context
) -> dict[ResourceKey, Settled]:
    asked = [(d.key, d.question) for d in drafts if d.question is not None]
    if not asked:
        return {}
    try:
        user = user_for(context.application, project, context.cluster)
    except Stalled as error:
        return {key: Settled(question.local.best_guess(), error.message) for key, question in asked}
    questions = [question for _, question in asked]
    found = settle(context.cluster, user, questions, fresh=context.dry_run_use is DryRunUse.FRESH)
    return {key: answer for (key, _), answer in zip(asked, found, strict=True)}


def _notes(
    drafts: Sequence[_Draft], settled: Mapping[ResourceKey, Settled]
) -> list[tuple[str, str]]:
    """Return warnings about failed dry runs and repeated list elements."""
    held = {draft.key for draft in drafts if draft.holder}
    return [
        (UNANSWERED, f"{key}: {found.note if key not in held else 'it cannot be compared'}")
        for key, found in settled.items()
        if found.note
    ] + [
        (REPEATED, f"{draft.key}: {repeat}: the last one is used{_without_names(repeat)}")
        for draft in drafts
        for repeat in draft.repeats
    ]


def _without_names(repeat: Duplicate) -> str:
    if not repeat.lost:
        return ""
    return f", and references to {', '.join(map(repr, repeat.lost))} by name do not resolve"


def _pair(draft: _Draft, settled: Settled | None, options: Mapping[str, str]) -> Pair:
    key, target, row, current = draft.key, draft.target, draft.row, draft.current
    if draft.error or (settled and settled.error):
        return _unknown_pair(key, target, row, is_shown=not draft.holder)
    example = target or current or {}
    found = settled.comparison if settled else draft.comparison
    status: Sync | None = Sync.SYNCED
    if target is None or current is None or (found and found.modified):
        status = Sync.OUT_OF_SYNC
    own = resource_options(current or example, options)
    state = ResourceState(
        key=key,
        version=split_api_version(example.get("apiVersion", ""))[1] or (row.version if row else ""),
        status=status,
        health=_health(row, current),
        exists=current is not None,
        wanted=target is not None,
        wave=wave(example) if example else 0,
        ignore_extraneous="IgnoreExtraneous" in (compare_options(current) if current else set()),
        ignore_health=health.ignores_health(current) if current else False,
        needs_confirmation=target is None and own.value("Prune") == "confirm",
        note=settled.note if settled else draft.note,
    )
    pair = Pair(key, target, current, row, found, state)
    return _without_data(pair) if draft.holder else pair


def _health(row: LiveResource | None, current: Manifest | None) -> Any:
    if row is not None and row.body is not None:
        return row.assessment
    return health.assess(current, live.health_scripts()) if current else None


def _hook_pair(manifest: Manifest) -> Pair:
    key = resource_key(manifest)
    state = ResourceState(
        key,
        split_api_version(manifest["apiVersion"])[1],
        None,
        hook=True,
        exists=False,
        wave=wave(manifest),
    )
    return Pair(key, manifest, None, None, None, state)
