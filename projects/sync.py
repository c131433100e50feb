"""Run operations: a state machine in the database. Each run does what can be done now, stores it, and ends."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections, transaction
from django.db.models import Q
from django.utils import timezone

from clusters import live
from clusters.kube import Refused
from clusters.models import Cluster, LiveResource
from hub import audit
from hub.engine import health
from hub.engine.backoff import retry_policy
from hub.engine.diff import respect_ignored
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.guard import Candidate, Ruling, Verdict, budget_from, rule
from hub.engine.health import HOOK_FINALIZER
from hub.engine.normalize import normalize_desired
from hub.engine.options import ResourceOptions, parse_options, resource_options
from hub.engine.permits import permits_kind
from hub.engine.plan import (
    APPLY,
    FAILED,
    HOOK,
    PENDING,
    PRUNE,
    RUNNING,
    SUCCEEDED,
    Observation,
    PlanRequest,
    Step,
    hooks_to_delete,
    is_multi_step,
    next_group,
    observe,
    plan,
    waiting,
)
from hub.engine.resource import Manifest, ResourceKey, annotations_of, resource_key, with_metadata
from hub.engine.status import Health, Phase, Sync
from hub.metrics import SYNC
from hub.models import next_version
from hub.stream import publish, wake
from projects import sources
from projects.compare import Compared, Place, comparison, place_of, settings_for
from projects.jq import delete_path
from projects.lease import claim
from projects.manifests import stamp
from projects.models import Application, ApplicationEvent, Operation, Project, Revision
from projects.specs import find_cluster, project_of, spec_problems
from projects.target import Target

log = logging.getLogger(__name__)

APPLYING = "applying"
OPERATION_ID = "flotilla.io/operation-id"
APPROVED = "argocd.argoproj.io/deletion-approved"
LOOK_AGAIN = timedelta(seconds=10)


@dataclass
class Run:
    """One run of an operation: everything that it needs, loaded once."""

    operation: Operation
    application: Application
    project: Project
    cluster: Cluster
    place: Place
    target: Target
    options: dict[str, str]
    steps: list[Step]
    desired: dict[ResourceKey, Manifest]

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


def step(pk: int) -> bool:
    """Take an operation as far as it goes now, if nobody else does; return whether that was done."""
    due = Q(due_at__lte=timezone.now(), phase__in=["Running", "Terminating"])
    with claim(Operation, pk, when=due) as mine:
        if not mine:
            return False
        operation = Operation.objects.select_related("application__cluster").get(pk=pk)
        try:
            _step(operation)
        except RetryLater as error:
            _wait(operation, error.message, error.delay)
        except Stalled as error:
            finish(operation, Phase.ERROR, error.message)
        except (EngineError, Invalid) as error:
            finish(operation, Phase.FAILED, str(error))
        except Failed as error:
            finish(operation, Phase.FAILED, str(error))
        except Exception as error:  # a bug must end the operation in words, not hang it
            log.exception(
                "operation failed",
                extra={"operation": pk, "application": operation.application.qualified_name},
            )
            finish(operation, Phase.ERROR, f"internal error: {type(error).__name__}")
    return True


def _step(operation: Operation) -> None:
    if operation.phase == Phase.TERMINATING:
        _terminate(operation)
        return
    if _timed_out(operation):
        Operation.objects.filter(pk=operation.pk).update(
            phase=Phase.TERMINATING, message="operation is terminating due to timeout"
        )
        operation.phase = Phase.TERMINATING
        _terminate(operation)
        return
    _superseded(operation)
    run = load(operation)
    if not operation.is_planned:
        prepare(run)
        if operation.phase != Phase.RUNNING:
            return
    go_on(run)


def _timed_out(operation: Operation) -> bool:
    limit = settings.SYNC_TIMEOUT
    return bool(limit) and timezone.now() - operation.started_at > limit


def _superseded(operation: Operation) -> None:
    # A retry of an automated sync follows git: the commit that could not work may be mended by now.
    if not (
        operation.is_automated and operation.retries and not operation.is_planned
    ) or operation.sync.get("resources"):
        return
    application = operation.application
    if (
        application.revisions
        and application.revisions != operation.revisions
        and application.sources == operation.sources
    ):
        operation.revisions = application.revisions
        Operation.objects.filter(pk=operation.pk).update(revisions=operation.revisions)


def load(operation: Operation) -> Run:
    """Return everything that a run of an operation needs.

    Raises: Stalled when the application cannot be synced as it is, RetryLater when the cluster is away.
    """
    application = operation.application
    found = spec_problems(application)
    if found:
        raise Stalled("InvalidSpec", "; ".join(found))
    project = project_of(application.project)
    cluster = find_cluster(application.spec["destination"])
    options = parse_options(operation.sync.get("syncOptions") or [])
    target = Target(
        cluster, options.get("ClientSideApplyMigration") != "false",
        application.annotations.get("argocd.argoproj.io/client-side-apply-migration-manager", ""),
    )  # fmt: skip
    return Run(
        operation, application, project, cluster, place_of(application, cluster), target, options,
        # What a worker began to apply and did not finish is applied again; hooks are recognised by their mark.
        [replace(s, status=PENDING) if s.status == APPLYING else s for s in map(Step.from_json, operation.steps)], {},
    )  # fmt: skip


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
        from hub.engine.documents import parse_yaml
        from hub.engine.resource import manifests_from

        manifests = [
            m for text in local for m in manifests_from(parse_yaml(str(text)), "manifests")
        ]
        desired = replace(desired, manifests=manifests)
    found = comparison(run.application, desired, run.cluster, run.project.spec)
    if found.errors:
        raise Stalled("ComparisonError", "; ".join(text for _, text in found.errors))
    if run.options.get("FailOnSharedResource") == "true":
        shared = [text for kind, text in found.warnings if kind == "SharedResourceWarning"]
        if shared:
            raise Failed("Shared resource found: " + "; ".join(shared))
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
        revision=run.operation.revisions[0] if run.operation.revisions else "", started=int(run.operation.started_at.timestamp()),
        hooks=hooks, prune=bool(run.operation.sync.get("prune")), options=run.options,
    )  # fmt: skip
    by_key = {resource_key(m): m for m in desired}
    run.desired = by_key
    run.steps = plan(desired, extra, request)
    _check(run)
    run.steps = [_pruning(run, s) for s in run.steps]
    _create_namespace(run, [p.key for p in chosen])
    _dry_run(run, {p.key: p.live for p in chosen})
    run.operation.is_planned = True
    if run.dry_run:
        run.steps = [replace(s, status=SUCCEEDED, result=s.result or ("Pruned" if s.action == PRUNE else "Synced"),
                             message=s.message or ("pruned (dry run)" if s.action == PRUNE else "")) for s in run.steps]  # fmt: skip
        _store(run, "")
        finish(run.operation, Phase.SUCCEEDED, "successfully synced (dry run)")
        return
    _store(run, "")


def _chosen(run: Run, found: Compared) -> list[Any]:
    selected = run.operation.sync.get("resources")
    pairs = found.pairs
    if selected:
        pairs = [
            p
            for p in pairs
            if not p.state.hook and any(_selects(entry, p.key) for entry in selected)
        ]
    if run.options.get("ApplyOutOfSyncOnly") == "true":
        pairs = [p for p in pairs if p.state.hook or p.state.status is not Sync.SYNCED]
    return pairs


def _selects(entry: Mapping[str, Any], key: ResourceKey) -> bool:
    return (
        (entry.get("group") or "") == key.group and entry.get("kind") == key.kind and entry.get("name") == key.name
        and (not entry.get("namespace") or entry["namespace"] == key.namespace)
    )  # fmt: skip


def _check(run: Run) -> None:
    """Fail before anything is applied when a step is not allowed or not possible."""
    problems = []
    definitions = {
        s.key.name
        for s in run.steps
        if s.key.kind == "CustomResourceDefinition" and s.action == APPLY
    }
    for step_ in run.steps:
        key = step_.key
        namespaced = run.place.is_namespaced(key.group, key.kind)
        if not permits_kind(run.project.spec, key.group, key.kind, key.name, namespaced=namespaced):
            problems.append(
                f"resource {key.group}:{key.kind} is not permitted in project {run.project.name}"
            )
        elif namespaced and step_.action != PRUNE and not _permits_namespace(run, key.namespace):
            problems.append(
                f"namespace {key.namespace} is not permitted in project '{run.project.name}'"
            )
        elif (
            step_.action != PRUNE
            and not run.place.is_served(key.group, key.kind)
            and not _comes(run, step_, definitions)
        ):
            problems.append(
                f"The Kubernetes API could not find {key.group}/{key.kind} for requested resource {key.namespace}/{key.name}. Make sure the {key.kind} CRD is installed on the destination cluster."
            )
    if problems:
        raise Failed(
            "one or more synchronization tasks are not valid: " + "; ".join(dict.fromkeys(problems))
        )


def _permits_namespace(run: Run, namespace: str) -> bool:
    from hub.engine.permits import permits_destination

    return permits_destination(run.project.spec, run.cluster.server, run.cluster.name, namespace)


def _comes(run: Run, step_: Step, definitions: set[str]) -> bool:
    manifest = _manifest(run, step_)
    if manifest is not None and run.resource_options(manifest).has("SkipDryRunOnMissingResource"):
        return True
    if any(name.partition(".")[2] == step_.key.group for name in definitions):
        return True
    # The store may lag behind a definition that was installed a moment ago.
    return (
        not run.cluster.is_home
        and run.target.connection.kind(step_.key.group, step_.key.kind) is not None
    )


def _pruning(run: Run, step_: Step) -> Step:
    if step_.action != PRUNE:
        return step_
    manifest = _live(run, step_.key)
    options = resource_options(manifest, run.options) if manifest else None
    if options and options.value("Prune") == "false":
        return replace(step_, status=SUCCEEDED, result="PruneSkipped", message="ignored (no prune)")
    if not run.operation.sync.get("prune"):
        return replace(
            step_, status=SUCCEEDED, result="PruneSkipped", message="ignored (requires pruning)"
        )
    return step_


def _live(run: Run, key: ResourceKey) -> Manifest | None:
    row = LiveResource.objects.filter(cluster=run.cluster, key=key.text).first()
    return row.manifest if row else None


def _create_namespace(run: Run, keys: Sequence[ResourceKey]) -> None:
    name = run.application.dest_namespace
    if (
        run.options.get("CreateNamespace") != "true"
        or not name
        or run.is_selective
        or run.cluster.is_home
    ):
        return
    key = ResourceKey("", "Namespace", "", name)
    if key in keys and key in run.desired:
        return
    metadata = run.application.sync_policy.get("managedNamespaceMetadata")
    exists = LiveResource.objects.filter(cluster=run.cluster, key=key.text, deleting=False).exists()
    if exists and not metadata:
        return
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
    """Ask the API server about every resource before the first is applied."""
    namespaces = {s.key.name for s in run.steps if s.key.kind == "Namespace" and s.action == APPLY}
    if (
        run.dry_run
        and run.application.dest_namespace
        and run.options.get("CreateNamespace") == "true"
    ):
        namespaces.add(run.application.dest_namespace)
    tried = [n for n, s in enumerate(run.steps) if s.action == APPLY]
    results = _parallel(
        [
            lambda n=n: _try(run, run.steps[n], current.get(run.steps[n].key), namespaces)
            for n in tried
        ]
    )
    bad = False
    for number, error in zip(tried, results, strict=True):
        if error:
            run.steps[number] = replace(
                run.steps[number], status=FAILED, result="SyncFailed", message=error
            )
            bad = True
    if bad:
        _store(run, "")
        messages = [s.message for s in run.steps if s.status == FAILED]
        raise Failed(
            f"one or more objects failed to apply (dry run): {'; '.join(dict.fromkeys(messages))[:800]}"
        )


def _try(run: Run, step_: Step, current: Manifest | None, namespaces: set[str]) -> str:
    manifest = _manifest(run, step_)
    if manifest is None or step_.key.namespace in namespaces:
        return ""
    if (
        not run.target.is_home(step_.key)
        and run.target.connection.kind(step_.key.group, step_.key.kind) is None
    ):
        return ""
    try:
        run.target.apply(
            _sent(run, manifest, current),
            run.resource_options(manifest),
            current,
            dry_run=True,
            force=run.force,
        )
    except Refused as refused:
        return refused.message
    return ""


def _parallel(calls: Sequence[Any]) -> list[Any]:
    if len(calls) == 1:
        return [calls[0]()]
    if not calls:
        return []

    def call(function: Any) -> Any:
        try:
            return function()
        finally:
            close_old_connections()

    with ThreadPoolExecutor(max_workers=min(settings.KUBE_PARALLELISM, len(calls))) as pool:
        return list(pool.map(call, calls))


def _manifest(run: Run, step_: Step) -> Manifest | None:
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


def _sent(run: Run, manifest: Manifest, current: Manifest | None) -> Manifest:
    wanted = normalize_desired(manifest)
    if run.options.get("RespectIgnoreDifferences") == "true" and current is not None:
        wanted = respect_ignored(wanted, current, settings_for(run.application).rules, delete_path)
    return wanted


def go_on(run: Run) -> None:
    """Run group after group until something must be waited for, or all is done."""
    while True:
        _observe(run)
        _release_hooks(run)
        failed = [s for s in run.steps if s.status == FAILED]
        if failed and not _failing(run):
            _begin_failing(run)
        failing = _failing(run)
        text = waiting(
            [s for s in run.steps if (s.phase == "SyncFail") == failing] if failing else run.steps
        )
        if text:
            _store(run, text)
            _wait(run.operation, text, LOOK_AGAIN)
            return
        group = next_group(run.steps, failing=failing)
        if not group:
            _conclude(run, failing=failing)
            return
        if not _run_group(run, group):
            return
        if _is_last(run, failing=failing) and not failing and _nothing_left(run):
            _store(run, "")
            finish(run.operation, Phase.SUCCEEDED, "successfully synced (all tasks run)")
            return
        if (
            not any(s.status == FAILED for s in run.steps)
            and not _is_last(run, failing=failing)
            and settings.WAVE_DELAY
        ):
            text = waiting(run.steps) or "waiting before the next wave"
            _store(run, text)
            _wait(run.operation, text, settings.WAVE_DELAY)
            return


def _failing(run: Run) -> bool:
    return bool(run.operation.request.get("failing"))


def _begin_failing(run: Run) -> None:
    messages = dict.fromkeys(f"{s.key}: {s.message}" for s in run.steps if s.status == FAILED)
    hooks = any(s.action == HOOK and s.status == FAILED for s in run.steps)
    what = (
        "one or more synchronization tasks completed unsuccessfully"
        if hooks
        else "one or more objects failed to apply"
    )
    text = f"{what}, reason: {'; '.join(messages)}"[:1000]
    run.operation.request = {**run.operation.request, "failing": text}
    Operation.objects.filter(pk=run.operation.pk).update(request=run.operation.request)


def _is_last(run: Run, *, failing: bool) -> bool:
    return not next_group(run.steps, failing=failing)


def _nothing_left(run: Run) -> bool:
    # Argo CD's rule: the last group, if it has no hooks, is done once it is applied; health follows by itself.
    last = max((s.group for s in run.steps if s.phase != "SyncFail"), default=None)
    members = [s for s in run.steps if s.group == last and s.phase != "SyncFail"]
    return not any(s.status == FAILED for s in run.steps) and all(s.action != HOOK for s in members)


def _observe(run: Run) -> None:
    for number, step_ in enumerate(run.steps):
        if step_.status != RUNNING:
            continue
        run.steps[number] = observe(step_, _look(run, step_))


def _look(run: Run, step_: Step) -> Observation:
    if step_.action == HOOK or run.target.is_home(step_.key):
        manifest = (
            _hook_object(run, step_)
            if step_.action == HOOK
            else run.target.get(step_.key, step_.version)
        )
        if manifest is None:
            return Observation(exists=False)
        return Observation(exists=True, health=_hook_health(manifest))
    row = LiveResource.objects.filter(cluster=run.cluster, key=step_.key.text).first()
    if row is None or (step_.action == APPLY and row.body is None):
        # The store has not seen it: the cluster itself is asked.
        manifest = run.target.get(step_.key, step_.version)
        if manifest is None:
            return Observation(exists=False)
        return Observation(exists=True, health=health.assess(manifest, live.health_scripts()))
    return Observation(exists=True, health=row.assessment, deleting=row.deleting)


def _hook_health(manifest: Manifest) -> Any:
    # A finished hook that something else deletes has a result all the same, while our finalizer holds it.
    return health.assess(manifest, live.health_scripts())


def _hook_object(run: Run, step_: Step) -> Manifest | None:
    manifest = run.target.get(step_.key, step_.version)
    if manifest is None or annotations_of(manifest).get(OPERATION_ID) != _operation_id(run):
        return None
    return manifest


def _operation_id(run: Run) -> str:
    return f"{run.operation.pk}-{run.operation.retries}"


def _release_hooks(run: Run) -> None:
    for step_ in run.steps:
        if (
            step_.action == HOOK
            and step_.status in (SUCCEEDED, FAILED)
            and not run.target.is_home(step_.key)
        ):
            manifest = _hook_object(run, step_)
            if manifest is not None and HOOK_FINALIZER in (
                manifest["metadata"].get("finalizers") or []
            ):
                run.target.drop_hook_finalizer(manifest)


def _run_group(run: Run, group: Sequence[int]) -> bool:
    """Run the steps of one phase and wave; return whether to go on in this run."""
    if not _prune(run, [n for n in group if run.steps[n].action == PRUNE]):
        return False
    hooks = [n for n in group if run.steps[n].action == HOOK and run.steps[n].status == PENDING]
    if not _clear_old_hooks(run, hooks):
        return False
    numbers = [n for n in group if run.steps[n].action in (APPLY, HOOK)]
    for number in numbers:
        run.steps[number] = replace(run.steps[number], status=APPLYING)
    _store(run, "")
    for members in _by_kind(run, numbers):
        results = _parallel([lambda n=n: _execute(run, run.steps[n]) for n in members])
        for number, result in zip(members, results, strict=True):
            run.steps[number] = result
    _store(run, "")
    return True


def _by_kind(run: Run, numbers: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for number in numbers:
        if groups and run.steps[groups[-1][0]].key.kind == run.steps[number].key.kind:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _execute(run: Run, step_: Step) -> Step:
    manifest = _manifest(run, step_)
    if manifest is None:
        return replace(
            step_,
            status=FAILED,
            result="SyncFailed",
            message=f"{step_.key} is no longer in the source",
        )
    try:
        return (
            _apply_hook(run, step_, manifest)
            if step_.action == HOOK
            else _apply(run, step_, manifest)
        )
    except Refused as refused:
        return replace(step_, status=FAILED, result="SyncFailed", message=refused.message)
    except Stalled as error:
        return replace(step_, status=FAILED, result="SyncFailed", message=error.message)


def _apply(run: Run, step_: Step, manifest: Manifest) -> Step:
    current = _live(run, step_.key)
    if (
        current is None
        and LiveResource.objects.filter(cluster=run.cluster, key=step_.key.text).exists()
    ):
        current = run.target.get(step_.key, step_.version)
    result = run.target.apply(
        _sent(run, manifest, current), run.resource_options(manifest), current, force=run.force
    )
    before = (current or {}).get("metadata", {}).get("resourceVersion")
    after = result["metadata"].get("resourceVersion")
    word = "created" if current is None else "unchanged" if before == after else "configured"
    if step_.key.kind == "CustomResourceDefinition" and not run.cluster.is_home:
        _await_definition(run, step_)
    where = f"{step_.key.kind.lower()}{f'.{step_.key.group}' if step_.key.group else ''}/{step_.key.name}"
    return replace(step_, status=RUNNING, result="Synced", message=f"{where} {word}")


def _await_definition(run: Run, step_: Step) -> None:
    """Give a new definition up to three seconds to be served; what comes next may need it."""
    for _ in range(15):
        current = run.target.get(step_.key, step_.version)
        found = health.assess(current, {}) if current else None
        if found is not None and found.status is Health.HEALTHY:
            break
        time.sleep(0.2)
    run.target.connection.kinds(fresh=True)


def _apply_hook(run: Run, step_: Step, manifest: Manifest) -> Step:
    if _hook_object(run, step_) is not None:
        # A worker created it and died: it is not run twice.
        return replace(step_, status=RUNNING)
    finalizers = [*(manifest["metadata"].get("finalizers") or []), HOOK_FINALIZER]
    annotations = {**annotations_of(manifest), OPERATION_ID: _operation_id(run)}
    marked = with_metadata(
        manifest,
        annotations=annotations,
        finalizers=finalizers if not run.target.is_home(step_.key) else None,
    )
    run.target.apply(
        normalize_desired(marked), run.resource_options(manifest), None, force=run.force
    )
    return replace(step_, status=RUNNING, message="")


def _clear_old_hooks(run: Run, numbers: Sequence[int]) -> bool:
    """Delete the hooks of earlier operations that stand in the way; return whether the way is free."""
    busy = []
    for number in numbers:
        step_ = run.steps[number]
        if "BeforeHookCreation" not in step_.policies:
            continue
        old = run.target.get(step_.key, step_.version)
        if old is None or annotations_of(old).get(OPERATION_ID) == _operation_id(run):
            continue
        run.target.drop_hook_finalizer(old)
        if not (old["metadata"].get("deletionTimestamp")):
            run.target.delete(
                step_.key,
                step_.version,
                propagation="Background",
                uid=old["metadata"].get("uid", ""),
            )
        if run.target.get(step_.key, step_.version) is not None:
            busy.append(step_.key)
    if busy:
        text = f"waiting for deletion of hook {busy[0]}" + (
            f" and {len(busy) - 1} more hooks" if len(busy) > 1 else ""
        )
        _store(run, text)
        _wait(run.operation, text, timedelta(seconds=1))
    return not busy


def _prune(run: Run, numbers: Sequence[int]) -> bool:
    """Prune what the guard allows; return False when a confirmation is waited for."""
    if not numbers:
        return True
    ruling = _ruling(run)
    waiting_for = [n for n in numbers if ruling.verdicts.get(run.steps[n].key) is Verdict.CONFIRM]
    if waiting_for:
        text = (
            ruling.message
            + f"; confirm with the annotation {APPROVED} or POST …/applications/{run.application.name}/confirm-deletion"
        )
        _store(run, text)
        _wait(run.operation, text, timedelta(minutes=5))
        return False
    policy = run.options.get("PrunePropagationPolicy", "foreground").capitalize()
    for number in numbers:
        step_ = run.steps[number]
        try:
            row = LiveResource.objects.filter(cluster=run.cluster, key=step_.key.text).first()
            if row is not None and not row.deleting:
                run.target.delete(step_.key, step_.version, propagation=policy, uid=row.uid)
            run.steps[number] = replace(step_, status=RUNNING, result="Pruned", message="pruned")
        except Refused as refused:
            run.steps[number] = replace(
                step_, status=FAILED, result="SyncFailed", message=refused.message
            )
    _store(run, "")
    return True


def _ruling(run: Run) -> Ruling:
    candidates = []
    for step_ in run.steps:
        if step_.action == PRUNE and step_.status == PENDING:
            manifest = _live(run, step_.key)
            option = resource_options(manifest, run.options).value("Prune") if manifest else ""
            candidates.append(
                Candidate(step_.key, option if option in ("confirm", "false") else "")
            )
    total = len(run.application.resources) or len(run.steps)
    budget = budget_from((run.project.spec.get("flotilla") or {}).get("deletion"))
    return rule(
        candidates,
        total=total,
        budget=budget,
        confirmed=confirmed_since(run.application, run.operation.started_at),
    )


def confirmed_since(application: Application, since: datetime) -> bool:
    """Return whether somebody confirmed deletions of an application after a moment."""
    text = (
        Application.objects.filter(pk=application.pk).values_list("annotations", flat=True).first()
        or {}
    )
    approved = str(text.get(APPROVED, ""))
    # Both are written to the second.
    return bool(approved) and approved >= (stamp(since) or "")


def _conclude(run: Run, *, failing: bool) -> None:
    if failing:
        text = str(run.operation.request["failing"])
        worse = [s.message for s in run.steps if s.phase == "SyncFail" and s.status == FAILED]
        _delete_hooks(run, succeeded=False)
        _store(run, "")
        finish(run.operation, Phase.FAILED, text + (f"\n{'; '.join(worse)}" if worse else ""))
        return
    _delete_hooks(run, succeeded=True)
    _store(run, "")
    finish(run.operation, Phase.SUCCEEDED, "successfully synced (no more tasks)")


def _delete_hooks(run: Run, *, succeeded: bool) -> None:
    for step_ in hooks_to_delete(run.steps, succeeded=succeeded, ended=True):
        try:
            run.target.delete(step_.key, step_.version, propagation="Background")
        except Refused as refused:
            log.warning(
                "hook %s could not be deleted: %s",
                step_.key,
                refused.message,
                extra={"operation": run.operation.pk},
            )


def _terminate(operation: Operation) -> None:
    text = "Operation terminated"
    try:
        run = load(operation)
        for step_ in run.steps:
            if step_.action == HOOK and step_.status in (RUNNING, APPLYING):
                manifest = _hook_object(run, step_)
                if manifest is not None:
                    run.target.drop_hook_finalizer(manifest)
                    run.target.delete(step_.key, step_.version, propagation="Background")
    except (Refused, Stalled, RetryLater, EngineError) as error:
        finish(operation, Phase.ERROR, f"Operation termination had errors: {error}", retry=False)
        return
    if "timeout" in operation.message:
        text += ", triggered by controller sync timeout"
    finish(operation, Phase.FAILED, text, retry=False)


def _store(run: Run, message: str) -> None:
    """Write the steps, and let streams see them."""
    run.operation.steps = [s.to_json() for s in run.steps]
    if message:
        run.operation.message = message
    with transaction.atomic():
        Operation.objects.filter(pk=run.operation.pk).update(
            steps=run.operation.steps,
            is_planned=run.operation.is_planned,
            message=run.operation.message,
        )
        if is_multi_step(run.steps) or message:
            Application.objects.filter(pk=run.application.pk).update(
                resource_version=next_version()
            )
            publish()


def _wait(operation: Operation, message: str, delay: timedelta) -> None:
    changed = (
        Operation.objects.filter(pk=operation.pk).values_list("message", flat=True).first()
        != message
    )
    Operation.objects.filter(pk=operation.pk, phase="Running").update(
        message=message, due_at=timezone.now() + delay
    )
    if changed:
        with transaction.atomic():
            Application.objects.filter(pk=operation.application_id).update(
                resource_version=next_version()
            )
            publish()
    if delay < timedelta(seconds=10):
        wake("projects.sync", operation.pk, delay=delay.total_seconds() + 0.05)


def finish(operation: Operation, phase: Phase, message: str, *, retry: bool = True) -> None:
    """End an operation, or plan its retry; the application is looked at again."""
    now = timezone.now()
    application = operation.application
    current = Operation.objects.filter(pk=operation.pk).values_list("phase", flat=True).first()
    if current == Phase.TERMINATING and operation.phase != Phase.TERMINATING:
        # Somebody ended it while this run was busy: the next run terminates it.
        wake("projects.sync", operation.pk)
        return
    if phase is not Phase.SUCCEEDED and retry and _retry(operation, message, now):
        return
    if operation.retries:
        message = f"{message} (retried {operation.retries} times)."
    with transaction.atomic():
        request = {k: v for k, v in operation.request.items() if k != "failing"}
        operation.phase, operation.message, operation.finished_at = phase.value, message[:2000], now
        Operation.objects.filter(pk=operation.pk).update(
            phase=phase, message=operation.message, finished_at=now, request=request
        )
        if (
            phase is Phase.SUCCEEDED
            and not operation.sync.get("dryRun")
            and not operation.sync.get("resources")
        ):
            _remember(operation, application, now)
        Application.objects.filter(pk=application.pk).update(
            resource_version=next_version(), refresh_at=now
        )
        ApplicationEvent.objects.create(
            application_uid=application.uid, namespace=application.namespace, name=application.name, reason="OperationCompleted",
            kind="Normal" if phase is Phase.SUCCEEDED else "Warning", message=f"Sync operation to {', '.join(r[:12] for r in operation.revisions)} {phase.lower()}: {message}"[:1000],
        )  # fmt: skip
        who = (operation.request.get("initiatedBy") or {}).get("username") or "automated sync"
        audit.record(who, "operation-ended", "application", application.qualified_name, application.project, operation=operation.pk,
                     phase=phase.value, revisions=operation.revisions, message=message[:300])  # fmt: skip
        publish()
        wake("projects.refresh", application.pk, priority=2)
        _trim(application)
    SYNC.labels(
        application.project, phase.value, application.cluster.server if application.cluster else ""
    ).inc()


def _trim(application: Application) -> None:
    kept = list(application.operations.order_by("-pk").values_list("pk", flat=True)[:20])
    if len(kept) == 20:
        application.operations.filter(pk__lt=kept[-1]).exclude(
            phase__in=["Running", "Terminating"]
        ).delete()


def _retry(operation: Operation, message: str, now: datetime) -> bool:
    policy = retry_policy(operation.request.get("retry"), default_limit=0)
    if policy.limit == 0 or not policy.allows(operation.retries):
        return False
    delay = policy.backoff.delay(operation.retries)
    at = now + delay
    number = operation.retries + 1
    text = f"{message[:1500]}. Retrying attempt #{number} at {at.strftime('%I:%M%p').lstrip('0')}."
    request = {k: v for k, v in operation.request.items() if k != "failing"}
    revisions = operation.revisions
    if policy.refresh:
        revisions = _latest(operation)
    with transaction.atomic():
        Operation.objects.filter(pk=operation.pk).update(
            retries=number,
            message=text,
            due_at=at,
            steps=[],
            is_planned=False,
            request=request,
            revisions=revisions,
        )
        Application.objects.filter(pk=operation.application_id).update(
            resource_version=next_version()
        )
        publish()
    if delay < timedelta(seconds=30):
        wake("projects.sync", operation.pk, delay=delay.total_seconds() + 0.05)
    return True


def _latest(operation: Operation) -> list[str]:
    try:
        return [
            sources.resolve(s, operation.application.project, force=True) for s in operation.sources
        ]
    except (RetryLater, Stalled):
        return list(operation.revisions)


def _remember(operation: Operation, application: Application, now: datetime) -> None:
    last = application.history.order_by("-number").first()
    initiated = operation.request.get("initiatedBy") or {}
    Revision.objects.create(
        application=application, number=(last.number + 1) if last else 0, revisions=operation.revisions, sources=operation.sources,
        is_multi_source=application.is_multi_source, deployed_at=now, started_at=operation.started_at, initiated_by=initiated,
    )  # fmt: skip
    limit = application.spec.get("revisionHistoryLimit")
    keep = 10 if limit is None else int(limit)
    stale = application.history.order_by("-number").values_list("pk", flat=True)[keep:]
    Revision.objects.filter(pk__in=list(stale)).delete()


def terminate(application: Application, actor: str) -> None:
    """Ask a running operation to end.

    Raises: Stalled when none is running.
    """
    with transaction.atomic():
        count = Operation.objects.filter(application=application, phase=Phase.RUNNING).update(
            phase=Phase.TERMINATING, message="operation is terminating", due_at=timezone.now()
        )
        if not count:
            raise Stalled(
                "NoOperation", "Unable to terminate operation. No operation is in progress"
            )
        audit.record(
            actor, "terminate", "application", application.qualified_name, application.project
        )
        Application.objects.filter(pk=application.pk).update(resource_version=next_version())
        publish()
        for pk in application.operations.filter(phase=Phase.TERMINATING).values_list(
            "pk", flat=True
        ):
            wake("projects.sync", pk, priority=1)
