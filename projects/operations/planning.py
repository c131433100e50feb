"""Prepare an operation: load its data, plan its steps, check them, and run the dry run."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.db import transaction

from clusters.kinds import Refused
from clusters.models import Cluster, LiveResource
from hub.access.decisions import caller_by
from hub.engine.errors import Forbidden, RefusedByRule, RetryLater, Stalled
from hub.engine.kubernetes_yaml import Volume, parse_yaml
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
from hub.engine.project_restrictions import permits_source
from hub.engine.resource import Manifest, ResourceKey, manifests_from, resource_key
from hub.engine.resource_selection import Selection, selection_problem
from hub.engine.secret_masking import digest_of
from hub.engine.sent_manifest import Preserved
from hub.engine.status import Phase, Sync
from hub.engine.sync_options import ResourceOptions, parse_options, resource_options
from hub.engine.tracking import rename
from hub.events.changes import publish
from projects import sources
from projects.access.own_kinds import Author
from projects.access.reach import Place, Reach, place_of, reach_of
from projects.access.refusal_audit import refused
from projects.comparison.compare import Compared, Pair, comparison, prepared, preserved_by
from projects.destinations import dry_runs, in_cluster
from projects.destinations.destination import PendingDeletion, Target
from projects.destinations.dry_runs import in_parallel
from projects.destinations.impersonation import identity_for
from projects.models import Application, Operation, Project
from projects.objects.specs import find_cluster, project_of, spec_problems, spec_refusals
from projects.operations.completion import finish

APPLYING = "applying"


@dataclass
class Run:
    """The loaded data of one run of an operation."""

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

    @cached_property
    def preserved(self) -> Preserved | None:
        """The ignored fields that keep their live values, None without the option.

        Raises: RuleError naming the rule that is invalid.
        """
        return preserved_by(self.application, self.options)

    @property
    def dry_run(self) -> bool:
        """Whether the operation only simulates the sync."""
        return bool(self.operation.sync.get("dryRun"))

    @property
    def force(self) -> bool:
        """Whether the request allows to delete and recreate resources that cannot be changed."""
        strategy = self.operation.sync.get("syncStrategy") or {}
        return bool(
            (strategy.get("apply") or {}).get("force") or (strategy.get("hook") or {}).get("force")
        )

    @property
    def is_selective(self) -> bool:
        """Whether only selected resources are synced."""
        return bool(self.operation.sync.get("resources"))

    def resource_options(self, manifest: Manifest) -> ResourceOptions:
        """Return the options of one resource."""
        return resource_options(manifest, self.options)


class Failed(Exception):
    """The sync cannot succeed because of its manifests or its spec."""


class NotAllowed(RefusedByRule, Failed):
    """A rule of the project forbids the sync."""


def load(operation: Operation) -> Run:
    """Load the data of a run.

    Raises: Stalled if the application's spec is invalid, RetryLater if the cluster is
        unreachable.
    """
    application = operation.application
    found = spec_problems(application)
    if found:
        kind = Forbidden if spec_refusals(application) else Stalled
        raise kind("InvalidSpec", "; ".join(found))
    project = project_of(application.project)
    for source in operation.sources:
        # The sources of a rollback are not those of the spec: check them by today's project.
        url = str(source.get("repoURL") or "")
        if not permits_source(project.spec, url):
            text = f"application repo {url} is not permitted in project '{project.name}'"
            raise Forbidden("InvalidSpec", text)
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
    # A step that a dead worker began is applied again; a hook is recognized by its operation id.
    steps = [
        replace(s, status=PENDING) if s.status == APPLYING else s
        for s in map(Step.from_json, operation.steps)
    ]
    return Run(
        operation,
        application,
        project,
        cluster,
        place_of(application, cluster),
        reach_of(application, cluster, project.spec),
        target,
        options,
        steps,
        {},
    )


def desired_of(run: Run) -> sources.Desired:
    """Return the manifests of exactly the operation's revisions."""
    context = sources.context_of(run.application, run.project.spec, run.cluster)
    return sources.load(run.operation.sources, run.operation.revisions, context)


def compared(run: Run) -> Compared:
    """Compare the operation's revisions with the live state.

    Raises: RetryLater until the live state is known; Stalled for errors that forbid a sync.
    """
    _require_live(run.cluster)
    desired = desired_of(run)
    local = run.operation.sync.get("manifests")
    if local:
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


def _require_live(cluster: Cluster) -> None:
    if cluster.is_home:
        return
    if cluster.connection == "Failed":
        text = cluster.message or f"cluster {cluster.name} does not answer"
        raise RetryLater("ClusterUnreachable", text, timedelta(seconds=15))
    if not cluster.is_synced:
        text = f"waiting for the live state of cluster {cluster.name}"
        raise RetryLater("LiveStateUnknown", text, timedelta(seconds=3))


def prepare(run: Run) -> None:
    """Plan an operation, check it, create the namespace, run the dry run, and store the steps.

    No resource is applied before the plan is stored.
    """
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
    run.desired = {resource_key(m): m for m in desired}
    run.operation.manifests_digest = digest_of({"manifests": list(desired)})
    run.steps = plan(desired, extra, request)
    _check(run)
    run.steps = [_pruning(run, s) for s in run.steps]
    _create_namespace(run, [p.key for p in chosen])
    _dry_run(run, {p.key: _current(run, p) for p in chosen})
    run.operation.is_planned = True
    if run.dry_run:
        run.steps = [_simulated(s) for s in run.steps]
    store_steps(run, "")
    if run.dry_run:
        finish(run.operation, Phase.SUCCEEDED, "successfully synced (dry run)")


def _simulated(step_: Step) -> Step:
    is_prune = step_.action == PRUNE
    return replace(
        step_,
        status=SUCCEEDED,
        result=step_.result or ("Pruned" if is_prune else "Synced"),
        message=step_.message or ("pruned (dry run)" if is_prune else ""),
    )


def _current(run: Run, pair: Pair) -> Manifest | None:
    # The pair hides a resource of another application, but applying it needs the live state.
    is_hidden = pair.live is None and pair.state.exists
    return live_state(run, pair.key) if is_hidden else pair.live


def _chosen(run: Run, found: Compared) -> list[Any]:
    selected = run.operation.sync.get("resources")
    pairs = found.pairs
    if selected:
        pairs = [p for p in pairs if not p.state.hook]
        # Self-heal may select resources that are in sync by now: only manual syncs report it.
        if not run.operation.is_automated:
            problem = selection_problem(selected, [p.key for p in pairs])
            if problem:
                raise Failed(problem)
        selection = Selection(selected)
        pairs = [p for p in pairs if selection.has(p.key)]
    if run.options.get("ApplyOutOfSyncOnly") == "true":
        pairs = [p for p in pairs if p.state.hook or p.state.status is not Sync.SYNCED]
    return pairs


def _check(run: Run) -> None:
    """Check every step before the first is applied.

    Raises: NotAllowed if the project forbids one, Failed if one is impossible.
    """
    definitions = {s.defines for s in run.steps if s.defines}
    refusals: list[str] = []
    problems: list[str] = []
    for step_ in run.steps:
        is_prune = step_.action == PRUNE
        if step_.action == APPLY and _has_no_name(run, step_):
            text = "metadata.generateName without a name is for hooks: set metadata.name"
            problems.append(f"{step_.key}: {text}")
        elif not is_prune and run.target.is_home(step_.key):
            problems += _home_problems(run, step_)
        elif refusal := refusal_of(run, step_):
            problems.append(refusal)
            refusals.append(refusal)
        elif not is_prune and not _will_be_served(run, step_, definitions):
            problems.append(_kind_not_found(step_.key))
    if problems:
        kind = NotAllowed if refusals else Failed
        text = "; ".join(dict.fromkeys(problems))
        raise kind(f"one or more synchronization tasks are not valid: {text}")


def _kind_not_found(key: ResourceKey) -> str:
    return (
        f"The Kubernetes API could not find {key.group}/{key.kind} for requested resource "
        f"{key.namespace}/{key.name}. Make sure the {key.kind} CRD is installed on the "
        "destination cluster."
    )


def _has_no_name(run: Run, step_: Step) -> bool:
    # A resource with Replace=true is created, so the server generates its name.
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
    """Return why the project does not permit a step, empty if it does.

    A kind that the last discovery does not have may be cluster-scoped, so the server is asked.
    """
    key = step_.key
    if (key.group, key.kind) not in run.reach.limits.scopes and not run.cluster.is_home:
        kind = run.target.connection.kind(key.group, key.kind)
        key = key if kind is None or kind.namespaced else key._replace(namespace="")
    return run.reach.refusal(key)


def _will_be_served(run: Run, step_: Step, definitions: Collection[tuple[str, str] | None]) -> bool:
    if run.place.is_served(step_.key.group, step_.key.kind):
        return True
    manifest = manifest_of(run, step_)
    if manifest is not None and run.resource_options(manifest).has("SkipDryRunOnMissingResource"):
        return True
    if (step_.key.group, step_.key.kind) in definitions:
        return True
    # The store may not yet have a definition that was just installed.
    return (
        not run.cluster.is_home
        and run.target.connection.kind(step_.key.group, step_.key.kind) is not None
    )


def _pruning(run: Run, step_: Step) -> Step:
    if step_.action != PRUNE:
        return step_
    manifest = live_state(run, step_.key)
    options = resource_options(manifest, run.options) if manifest else None
    is_requested = bool(run.operation.sync.get("prune"))
    message = "" if is_requested else "ignored (requires pruning)"
    if options and options.value("Prune") == "false":
        message = "ignored (no prune)"
        if is_requested:
            refused(run.operation, f"{step_.key}: its option Prune=false forbids it", verb="prune")
    if not message:
        return step_
    return replace(step_, status=SUCCEEDED, result="PruneSkipped", message=message)


def live_state(run: Run, key: ResourceKey) -> Manifest | None:
    """Return a resource from the live store, None if the store does not have all of it."""
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
    """Run the server-side dry run of every resource before the first is applied.

    A refusal that an earlier step of the plan may resolve is not final.
    """
    numbers = [n for n, s in enumerate(run.steps) if s.action == APPLY]
    accepted = _accepted(run, [run.steps[n] for n in numbers], current)
    numbers = [n for n in numbers if run.steps[n].key not in accepted]
    refusals = in_parallel(
        [lambda n=n: _try(run, run.steps[n], current.get(run.steps[n].key)) for n in numbers]
    )
    for number, refusal in zip(numbers, refusals, strict=True):
        if refusal is not None:
            run.steps[number] = _with_refusal(run, number, refusal)
    messages = [s.message for s in run.steps if s.status == FAILED]
    if messages:
        store_steps(run, "")
        text = "; ".join(dict.fromkeys(messages))[:800]
        raise Failed(f"one or more objects failed to apply (dry run): {text}")


def _accepted(
    run: Run, steps: Sequence[Step], current: Mapping[ResourceKey, Manifest | None]
) -> set[ResourceKey]:
    """Return the resources whose manifest passed a dry run of a recent comparison."""
    pairs = {}
    for step_ in steps:
        manifest = manifest_of(run, step_)
        if manifest is None or current.get(step_.key) is None:
            continue
        options = run.resource_options(manifest)
        if not options.has("Replace"):
            # A manifest that cannot be sent was not accepted: the dry run of its step reports why.
            with contextlib.suppress(Refused):
                sent = run.target.to_send(manifest, current[step_.key], run.preserved)
                pairs[step_.key] = (sent, current[step_.key], options.validate)
    return dry_runs.accepted(run.cluster, run.target.user, pairs)


def _with_refusal(run: Run, number: int, refusal: Refusal) -> Step:
    step_ = run.steps[number]
    before = prerequisite_of(run.steps, number, refusal)
    if refusal.is_answer and before is None and not _is_without_namespace(run, step_, refusal):
        return replace(step_, status=FAILED, result="SyncFailed", message=refusal.message)
    if not run.dry_run:
        return step_
    text = f"dry run skipped: it depends on {before.key}" if before else "dry run skipped"
    return replace(step_, message=text if refusal.is_answer else f"{text}: {refusal.message}")


def _is_without_namespace(run: Run, step_: Step, refusal: Refusal) -> bool:
    """Return whether a dry run only fails because the sync has yet to create the namespace."""
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
        return None  # some kinds refuse a replacement, and it would change nothing
    if not run.target.is_home(step_.key) and _is_served_later(run, step_, options):
        return None
    try:
        run.target.apply(
            manifest,
            options,
            current,
            preserved=run.preserved,
            dry_run=True,
            force=run.force,
        )
    except Refused as refused:
        return Refusal(refused.status, refused.message)
    except PendingDeletion:
        return None
    return None


def _is_served_later(run: Run, step_: Step, options: ResourceOptions) -> bool:
    """Return whether a kind or its version is not served yet, but the sync may still succeed."""
    key, connection = step_.key, run.target.connection
    if connection.kind(key.group, key.kind) is None:
        return True
    is_skipped = options.has("SkipDryRunOnMissingResource")
    return is_skipped and connection.kind(key.group, key.kind, step_.version) is None


def manifest_of(run: Run, step_: Step) -> Manifest | None:
    """Return the manifest that a step applies, with its generated name if it has one."""
    if not run.desired:
        manifests = prepared(desired_of(run).manifests, run.application, run.place)[0]
        run.desired = {resource_key(m): m for m in manifests}
    key = step_.key._replace(name=step_.source_name) if step_.source_name else step_.key
    manifest = run.desired.get(key)
    if manifest is None or not step_.source_name:
        return manifest
    return rename(manifest, step_.key.name)


def is_forced(run: Run, manifest: Manifest) -> bool:
    """Return whether a resource that cannot be changed may be deleted and recreated."""
    return run.force or run.resource_options(manifest).own.get("Force") == "true"


def store_steps(run: Run, message: str) -> None:
    """Store the steps, and publish the change."""
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
