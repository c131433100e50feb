"""Prepare an operation: load what it needs, plan its steps, check them, try them dry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from django.db import transaction

from clusters.kinds import Refused
from clusters.models import Cluster, LiveResource
from hub.access.decisions import caller_by
from hub.engine.effort import Effort
from hub.engine.errors import Forbidden, RefusedByRule, RetryLater, Stalled
from hub.engine.normalize import normalize_desired
from hub.engine.plan import (
    APPLY,
    FAILED,
    PENDING,
    PRUNE,
    SUCCEEDED,
    PlanRequest,
    Step,
    is_multi_step,
    plan,
)
from hub.engine.prerequisites import Refusal, prerequisite_of
from hub.engine.preserve_ignored import preserve_ignored
from hub.engine.project_restrictions import permits_source
from hub.engine.resource import Manifest, ResourceKey, resource_key
from hub.engine.resource_selection import is_selected, selection_problem
from hub.engine.schema import OBJECT
from hub.engine.secret_masking import digest_of
from hub.engine.status import Phase, Sync
from hub.engine.sync_options import ResourceOptions, parse_options, resource_options
from hub.events.changes import publish
from projects import dry_runs, in_cluster, sources
from projects.compare import Compared, Pair, comparison, settings_for
from projects.completion import finish
from projects.destination import Going, Target
from projects.dry_runs import in_parallel
from projects.impersonation import identity_for
from projects.jq import Jq
from projects.models import Application, Operation, Project
from projects.own_kinds import Author
from projects.reach import Place, Reach, place_of, reach_of
from projects.refusal_audit import refused
from projects.specs import find_cluster, project_of, spec_problems, spec_refusals

APPLYING = "applying"


@dataclass
class Run:
    """One run of an operation: everything that it needs, loaded once."""

    operation: Operation
    application: Application
    project: Project
    cluster: Cluster
    place: Place
    reach: Reach
    target: Target
    options: dict[str, str]
    steps: list[Step]
    desired: dict[ResourceKey, Manifest]
    effort: Effort = field(default_factory=Effort)
    """The work that `ignoreDifferences` rules may cause, for all resources together."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing is really changed."""
        return bool(self.operation.sync.get("dryRun"))

    @property
    def force(self) -> bool:
        """Whether the request said that conflicts are solved by deleting and creating anew."""
        strategy = self.operation.sync.get("syncStrategy") or {}
        return bool(
            (strategy.get("apply") or {}).get("force") or (strategy.get("hook") or {}).get("force")
        )

    @property
    def is_selective(self) -> bool:
        """Whether only some resources are synced."""
        return bool(self.operation.sync.get("resources"))

    def resource_options(self, manifest: Manifest) -> ResourceOptions:
        """Return the options of one resource."""
        return resource_options(manifest, self.options)


class Failed(Exception):
    """The sync cannot succeed as it is: a problem of the user's."""


class NotAllowed(RefusedByRule, Failed):
    """The sync would do what a rule of the project does not permit."""


def load(operation: Operation) -> Run:
    """Return everything that a run of an operation needs.

    Raises: Stalled when the application cannot be synced as it is, RetryLater when the cluster is away.
    """
    application = operation.application
    found = spec_problems(application)
    if found:
        kind = Forbidden if spec_refusals(application) else Stalled
        raise kind("InvalidSpec", "; ".join(found))
    project = project_of(application.project)
    for source in operation.sources:
        # A rollback brings sources of its own, which the project must permit today.
        if not permits_source(project.spec, str(source.get("repoURL") or "")):
            raise Forbidden(
                "InvalidSpec",
                f"application repo {source.get('repoURL')} is not permitted in project '{project.name}'",
            )
    cluster = find_cluster(application.spec)
    options = parse_options(operation.sync.get("syncOptions") or [])
    caller = None if operation.is_automated else caller_by(operation.started_by)
    target = Target(
        cluster,
        options.get("ClientSideApplyMigration") != "false",
        application.annotations.get("argocd.argoproj.io/client-side-apply-migration-manager", ""),
        identity_for(application, project, cluster),
        Author(application, project, caller),
    )
    return Run(
        operation,
        application,
        project,
        cluster,
        place_of(application, cluster),
        reach_of(application, cluster, project.spec),
        target,
        options,
        # What a worker began to apply and did not finish is applied again; hooks are recognised by their mark.
        [
            replace(s, status=PENDING) if s.status == APPLYING else s
            for s in map(Step.from_json, operation.steps)
        ],
        {},
    )


def desired_of(run: Run) -> sources.Desired:
    """Return the manifests of exactly the operation's revisions."""
    context = sources.context_of(run.application, run.project.spec, run.cluster)
    return sources.load(run.operation.sources, run.operation.revisions, context)


def compared(run: Run) -> Compared:
    """Compare the operation's revisions with what runs now.

    Raises: RetryLater while the live state is not known; Stalled for conditions that forbid a sync.
    """
    if run.cluster.connection == "Failed" and not run.cluster.is_home:
        raise RetryLater(
            "ClusterUnreachable",
            run.cluster.message or f"cluster {run.cluster.name} does not answer",
            timedelta(seconds=15),
        )
    if not run.cluster.is_synced and not run.cluster.is_home:
        raise RetryLater(
            "LiveStateUnknown",
            f"waiting for the live state of cluster {run.cluster.name}",
            timedelta(seconds=3),
        )
    desired = desired_of(run)
    local = run.operation.sync.get("manifests")
    if local:
        from hub.engine.kubernetes_yaml import Volume, parse_yaml
        from hub.engine.resource import manifests_from

        volume = Volume()
        manifests = [
            m for text in local for m in manifests_from(parse_yaml(str(text), volume), "manifests")
        ]
        desired = replace(desired, manifests=manifests)
    found = comparison(run.application, desired, run.cluster, run.project.spec)
    if found.errors:
        raise Stalled("ComparisonError", "; ".join(text for _, text in found.errors))
    if run.options.get("FailOnSharedResource") == "true":
        shared = [text for kind, text in found.warnings if kind == "SharedResourceWarning"]
        if shared:
            raise NotAllowed("Shared resource found: " + "; ".join(shared))
    return found


def prepare(run: Run) -> None:
    """Make the plan: namespace, checks, guard, dry run; store it. Nothing was applied before it is stored."""
    found = compared(run)
    chosen = _chosen(run, found)
    desired = [
        p.desired for p in chosen if p.desired is not None and (p.state.wanted or p.state.hook)
    ]
    extra = [p.live for p in chosen if p.state.requires_pruning and p.live is not None]
    hooks = not run.is_selective and "apply" not in (run.operation.sync.get("syncStrategy") or {})
    request = PlanRequest(
        revision=run.operation.revisions[0] if run.operation.revisions else "",
        started=int(run.operation.started_at.timestamp()),
        hooks=hooks,
        prune=bool(run.operation.sync.get("prune")),
        options=run.options,
        synced={p.key for p in chosen if p.state.status is Sync.SYNCED},
    )
    by_key = {resource_key(m): m for m in desired}
    run.desired = by_key
    run.operation.manifests_digest = digest_of({"manifests": list(desired)})
    run.steps = plan(desired, extra, request)
    _check(run)
    run.steps = [_pruning(run, s) for s in run.steps]
    _create_namespace(run, [p.key for p in chosen])
    _dry_run(run, {p.key: _current(run, p) for p in chosen})
    run.operation.is_planned = True
    if run.dry_run:
        run.steps = [
            replace(
                s,
                status=SUCCEEDED,
                result=s.result or ("Pruned" if s.action == PRUNE else "Synced"),
                message=s.message or ("pruned (dry run)" if s.action == PRUNE else ""),
            )
            for s in run.steps
        ]
        store_steps(run, "")
        finish(run.operation, Phase.SUCCEEDED, "successfully synced (dry run)")
        return
    store_steps(run, "")


def _current(run: Run, pair: Pair) -> Manifest | None:
    # What another application has is not shown; that it is there decides how it is taken over.
    return (
        pair.live if pair.live is not None or not pair.state.exists else live_state(run, pair.key)
    )


def _chosen(run: Run, found: Compared) -> list[Any]:
    selected = run.operation.sync.get("resources")
    pairs = found.pairs
    if selected:
        pairs = [p for p in pairs if not p.state.hook]
        # What healed itself since it was found to differ is not missed.
        wrong = (
            ""
            if run.operation.is_automated
            else selection_problem(selected, [p.key for p in pairs])
        )
        if wrong:
            raise Failed(wrong)
        pairs = [p for p in pairs if is_selected(selected, p.key)]
    if run.options.get("ApplyOutOfSyncOnly") == "true":
        pairs = [p for p in pairs if p.state.hook or p.state.status is not Sync.SYNCED]
    return pairs


def _check(run: Run) -> None:
    """Fail before anything is applied when a step is not allowed or not possible."""
    problems = []
    refusals = []
    definitions = {s.defines for s in run.steps if s.defines}
    for step_ in run.steps:
        key = step_.key
        if step_.action == APPLY and _has_no_name(run, step_):
            problems.append(
                f"{key}: metadata.generateName without a name is for hooks: set metadata.name"
            )
            continue
        if step_.action != PRUNE and run.target.is_home(key):
            problems += _home_problems(run, step_)
            continue
        refusal = refusal_of(run, step_)
        if refusal:
            problems.append(refusal)
            refusals.append(refusal)
        elif (
            step_.action != PRUNE
            and not run.place.is_served(key.group, key.kind)
            and not _comes(run, step_, definitions)
        ):
            problems.append(
                f"The Kubernetes API could not find {key.group}/{key.kind} for requested resource {key.namespace}/{key.name}. Make sure the {key.kind} CRD is installed on the destination cluster."
            )
    if problems:
        kind = NotAllowed if refusals else Failed
        raise kind(
            "one or more synchronization tasks are not valid: " + "; ".join(dict.fromkeys(problems))
        )


def _has_no_name(run: Run, step_: Step) -> bool:
    # With Replace a resource is created, which makes up a name for it.
    manifest = manifest_of(run, step_)
    if manifest is None or manifest["metadata"].get("name"):
        return False
    return not run.resource_options(manifest).has("Replace")


def _home_problems(run: Run, step_: Step) -> list[str]:
    manifest = manifest_of(run, step_)
    try:
        if manifest is not None:
            in_cluster.check(manifest, run.target.author)
    except Refused as refused:
        return [refused.message]
    return []


def refusal_of(run: Run, step_: Step) -> str:
    """Return why the project does not permit a step, empty when it does.

    A kind that discovery has not found yet may turn out to be cluster-scoped: the cluster itself is asked.
    """
    key = step_.key
    if (key.group, key.kind) not in run.reach.limits.scopes and not run.cluster.is_home:
        kind = run.target.connection.kind(key.group, key.kind)
        key = key if kind is None or kind.namespaced else key._replace(namespace="")
    return run.reach.refusal(key)


def _comes(run: Run, step_: Step, definitions: Collection[tuple[str, str] | None]) -> bool:
    manifest = manifest_of(run, step_)
    if manifest is not None and run.resource_options(manifest).has("SkipDryRunOnMissingResource"):
        return True
    if (step_.key.group, step_.key.kind) in definitions:
        return True
    # The store may lag behind a definition that was installed a moment ago.
    return (
        not run.cluster.is_home
        and run.target.connection.kind(step_.key.group, step_.key.kind) is not None
    )


def _pruning(run: Run, step_: Step) -> Step:
    if step_.action != PRUNE:
        return step_
    manifest = live_state(run, step_.key)
    options = resource_options(manifest, run.options) if manifest else None
    if options and options.value("Prune") == "false":
        if run.operation.sync.get("prune"):
            refused(run.operation, f"{step_.key}: its option Prune=false forbids it", verb="prune")
        return replace(step_, status=SUCCEEDED, result="PruneSkipped", message="ignored (no prune)")
    if not run.operation.sync.get("prune"):
        return replace(
            step_, status=SUCCEEDED, result="PruneSkipped", message="ignored (requires pruning)"
        )
    return step_


def live_state(run: Run, key: ResourceKey) -> Manifest | None:
    """Return a resource as the live store has it, None when it has not all of it."""
    row = LiveResource.objects.filter(cluster=run.cluster, key=key.text).first()
    return row.manifest if row else None


def _create_namespace(run: Run, keys: Sequence[ResourceKey]) -> None:
    name = run.application.dest_namespace
    if run.options.get("CreateNamespace") != "true" or not name or run.cluster.is_home:
        return
    key = ResourceKey("", "Namespace", "", name)
    if key in run.desired and (key in keys or run.is_selective):
        return
    metadata = run.application.sync_policy.get("managedNamespaceMetadata")
    row = LiveResource.objects.filter(cluster=run.cluster, key=key.text, deleting=False).first()
    if row is not None and not metadata:
        return
    if row is not None and row.is_self and row.instance not in ("", run.application.instance):
        raise NotAllowed(
            f"namespace {name} is managed by application {row.instance}: remove "
            "spec.syncPolicy.managedNamespaceMetadata, or set its metadata in that application"
        )
    manifest: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    if metadata:
        manifest["metadata"] |= {
            k: dict(metadata[k]) for k in ("labels", "annotations") if metadata.get(k)
        }
    try:
        run.target.apply(manifest, run.resource_options(manifest), None, dry_run=run.dry_run)
    except Refused as refused:
        raise Failed(f"namespace {name} could not be created: {refused.message}") from refused


def _dry_run(run: Run, current: Mapping[ResourceKey, Manifest | None]) -> None:
    """Ask the API server about every resource before the first is applied.

    A refusal that an earlier step of the plan may change is not final: the resource has its turn.
    """
    tried = [n for n, s in enumerate(run.steps) if s.action == APPLY]
    spared = _spared(run, [run.steps[n] for n in tried], current)
    tried = [n for n in tried if run.steps[n].key not in spared]
    results = in_parallel(
        [lambda n=n: _try(run, run.steps[n], current.get(run.steps[n].key)) for n in tried]
    )
    for number, refusal in zip(tried, results, strict=True):
        if refusal is not None:
            run.steps[number] = _judged(run, number, refusal)
    messages = [s.message for s in run.steps if s.status == FAILED]
    if messages:
        store_steps(run, "")
        raise Failed(
            f"one or more objects failed to apply (dry run): {'; '.join(dict.fromkeys(messages))[:800]}"
        )


def _spared(
    run: Run, steps: Sequence[Step], current: Mapping[ResourceKey, Manifest | None]
) -> set[ResourceKey]:
    """Return the resources whose dry run the comparison made a moment ago, with the same manifest."""
    pairs = {}
    for step_ in steps:
        manifest = manifest_of(run, step_)
        if manifest is None or current.get(step_.key) is None:
            continue
        options = run.resource_options(manifest)
        if not options.has("Replace"):
            sent = manifest_to_send(run, manifest, current[step_.key])
            pairs[step_.key] = (sent, current[step_.key], options.validate)
    return dry_runs.accepted(run.cluster, run.target.user, pairs)


def _judged(run: Run, number: int, refusal: Refusal) -> Step:
    step_ = run.steps[number]
    before = prerequisite_of(run.steps, number, refusal)
    if refusal.is_answer and before is None and not _is_without_namespace(run, step_, refusal):
        return replace(step_, status=FAILED, result="SyncFailed", message=refusal.message)
    if not run.dry_run:
        return step_
    text = f"not tried: it depends on {before.key}, which comes first" if before else "not tried"
    return replace(step_, message=text if refusal.is_answer else f"not tried: {refusal.message}")


def _is_without_namespace(run: Run, step_: Step, refusal: Refusal) -> bool:
    """Return whether a dry run lacks only the namespace that the sync creates."""
    is_created = run.dry_run and run.options.get("CreateNamespace") == "true"
    return (
        is_created
        and refusal.status == 404
        and bool(step_.key.namespace)
        and step_.key.namespace == run.application.dest_namespace
    )


def _try(run: Run, step_: Step, current: Manifest | None) -> Refusal | None:
    manifest = manifest_of(run, step_)
    if manifest is None:
        return None
    options = run.resource_options(manifest)
    if step_.synced and options.has("Replace"):
        return None  # to replace it would be refused for some kinds, and changes nothing
    if not run.target.is_home(step_.key) and _is_to_come(run, step_, options):
        return None
    try:
        run.target.apply(
            manifest_to_send(run, manifest, current),
            options,
            current,
            dry_run=True,
            force=run.force,
        )
    except Refused as refused:
        return Refusal(refused.status, refused.message)
    except Going:
        return None
    return None


def _is_to_come(run: Run, step_: Step, options: ResourceOptions) -> bool:
    """Return whether a kind, or the version of it, is not served yet and need not be."""
    key, connection = step_.key, run.target.connection
    if connection.kind(key.group, key.kind) is None:
        return True
    is_spared = options.has("SkipDryRunOnMissingResource")
    return is_spared and connection.kind(key.group, key.kind, step_.version) is None


def manifest_of(run: Run, step_: Step) -> Manifest | None:
    """Return the manifest that a step applies, with the name that was generated for it."""
    if not run.desired:
        from projects.compare import prepared

        desired = desired_of(run)
        run.desired = {
            resource_key(m): m for m in prepared(desired.manifests, run.application, run.place)[0]
        }
    key = step_.key._replace(name=step_.source_name) if step_.source_name else step_.key
    manifest = run.desired.get(key)
    if manifest is None or not step_.source_name:
        return manifest
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "generateName"}
    return {**manifest, "metadata": {**metadata, "name": step_.key.name}}


def is_forced(run: Run, manifest: Manifest) -> bool:
    """Return whether a resource that cannot be changed is deleted and created anew."""
    return run.force or run.resource_options(manifest).own.get("Force") == "true"


def manifest_to_send(run: Run, manifest: Manifest, current: Manifest | None) -> Manifest:
    """Return a manifest as it goes to the cluster: normalized, ignored fields left as they are there."""
    wanted = normalize_desired(manifest)
    if run.options.get("RespectIgnoreDifferences") == "true" and current is not None:
        jq = Jq(run.application.project, run.application.qualified_name)
        type_ = run.target.type_of(manifest) or OBJECT
        rules = settings_for(run.application).rules
        wanted = preserve_ignored(wanted, current, rules, jq.paths, type_, run.effort)
    return wanted


def store_steps(run: Run, message: str) -> None:
    """Write the steps, and let streams see them."""
    run.operation.steps = [s.to_json() for s in run.steps]
    if message:
        run.operation.message = message
    with transaction.atomic():
        Application.objects.filter(pk=run.application.pk).locked()
        Operation.objects.filter(pk=run.operation.pk).update(
            steps=run.operation.steps,
            is_planned=run.operation.is_planned,
            manifests_digest=run.operation.manifests_digest,
            message=run.operation.message,
        )
        if is_multi_step(run.steps) or message:
            Application.objects.filter(pk=run.application.pk).bump()
            publish()
