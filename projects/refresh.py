"""Refresh an application: what git wants, what runs, how they differ; and decide whether to sync."""

import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from clusters.models import Cluster, LiveChange
from hub import audit
from hub.engine.autosync import Decision, LastOperation, decide
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.status import (
    Assessment,
    Health,
    Phase,
    ResourceState,
    Sync,
    application_health,
    application_sync,
)
from hub.engine.tree import is_usual
from hub.metrics import REFRESH, clock
from hub.models import next_version
from hub.stream import publish, wake
from projects import sources
from projects.compare import Compared, comparison, is_delete_hook, live_digest, place_of
from projects.lease import claim
from projects.models import (
    Application,
    ApplicationEvent,
    GitRemote,
    ManagedResource,
    Operation,
    Project,
    instance_filter,
)
from projects.sources import Desired
from projects.sources.git import is_commit
from projects.specs import bind, bind_remotes, find_cluster, project_of, spec_problems

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=20)
ERRORS = ("InvalidSpecError", "ComparisonError", "UnknownError")
WARNINGS = (
    "SharedResourceWarning",
    "RepeatedResourceWarning",
    "ExcludedResourceWarning",
    "OrphanedResourceWarning",
    "UnknownFieldWarning",
)
RUNNING = ("Running", "Terminating")


@dataclass
class Outcome:
    """What a look at an application found; all exits write it at one place."""

    sync: Sync = Sync.UNKNOWN
    health: Assessment = field(default_factory=lambda: Assessment(Health.UNKNOWN))
    conditions: list[tuple[str, str]] = field(default_factory=list)
    desired: Desired | None = None
    compared: Compared | None = None
    look_again: timedelta | None = None
    keep_status: bool = False
    """Leave sync, health and resources as they were: the reason is likely to pass."""
    digest: str = ""


def refresh(pk: int) -> bool:
    """Look at an application if it is due and nobody else does; return whether that was done."""
    due = Q(refresh_at__lte=timezone.now())
    with claim(Application, pk, when=due) as mine:
        if not mine:
            return False
        application = Application.objects.select_related("cluster", "operation").get(pk=pk)
        if application.deletion_requested_at:
            Application.objects.filter(pk=pk).update(refresh_at=None)
            wake("projects.delete_application", pk)
            return False
        started, seen = clock(), application.refresh_at
        outcome = look(application)
        write(application, outcome, seen)
        REFRESH.labels(application.cluster.server if application.cluster else "").observe(
            clock() - started
        )
    follow_up(pk)
    return True


def follow_up(pk: int) -> None:
    """Wake the next look when something came in during the last one."""
    again = Application.objects.filter(pk=pk, refresh_at__lte=timezone.now()).exists()
    if again:
        wake("projects.refresh", pk)


def look(application: Application) -> Outcome:
    """Return what an application looks like now; every error becomes a condition of it alone."""
    outcome = Outcome()
    if str(application.annotations.get("argocd.argoproj.io/skip-reconcile", "")).lower() in (
        "true",
        "1",
        "t",
    ):
        outcome.keep_status = True
        return outcome
    try:
        _look(application, outcome)
    except Stalled as error:
        _failed(application, outcome, error.reason, error.message)
    except RetryLater as error:
        _passing(application, outcome, error)
    except (EngineError, Invalid) as error:
        _failed(application, outcome, "InvalidSpec", str(error))
    except (
        Exception
    ) as error:  # one odd application must not stop the others; the traceback is logged
        log.exception("refresh failed", extra={"application": application.qualified_name})
        outcome.conditions.append(
            ("UnknownError", f"internal error while refreshing: {type(error).__name__}")
        )
        outcome.look_again = timedelta(minutes=2)
    return outcome


def _failed(application: Application, outcome: Outcome, reason: str, message: str) -> None:
    kind = "InvalidSpecError" if reason in ("InvalidSpec", "ClusterNotFound") else "ComparisonError"
    text = message if kind == "InvalidSpecError" else f"Failed to load target state: {message}"
    outcome.conditions.append((kind, text))
    if reason in (
        "ClusterNotFound",
        "RevisionNotFound",
        "NotFound",
        "ChartNotFound",
        "Timeout",
        "RendererDied",
    ):
        outcome.look_again = settings.POLL_INTERVAL
    del application


def _passing(application: Application, outcome: Outcome, error: RetryLater) -> None:
    # A server that is away for a moment says nothing about the application: what was true stays, its age shows.
    kind = "ComparisonError"
    outcome.conditions.append(
        (
            kind,
            f"Failed to load target state: {error.message}"
            if error.reason != "ClusterUnreachable"
            else error.message,
        )
    )
    outcome.look_again = max(error.delay, timedelta(seconds=2))
    outcome.keep_status = (
        application.sync_status != "Unknown" and error.reason == "LiveStateUnknown"
    )
    if outcome.keep_status:
        outcome.conditions = []


def _look(application: Application, outcome: Outcome) -> None:
    project = project_of(application.project)
    found = spec_problems(application, project)
    if found:
        outcome.conditions += [("InvalidSpecError", text) for text in found]
        outcome.look_again = (
            settings.POLL_INTERVAL if any("Unable to get cluster" in t for t in found) else None
        )
        return
    cluster = find_cluster(application.spec["destination"])
    outcome.conditions += [
        ("UnknownFieldWarning", f"{name} is not known to this hub")
        for name in _unknown(application)
    ]
    hard = application.refresh_kind == "hard"
    force = bool(application.refresh_kind)
    context = sources.context_of(application, project.spec, cluster, no_cache=hard)
    revisions = [
        sources.resolve(s, application.project, force=force, since=application.refresh_at)
        for s in application.sources
    ]
    outcome.desired = sources.load(application.sources, revisions, context)
    outcome.look_again = _poll_again(application)
    _require_live(cluster)
    outcome.digest = _digest(application, project, outcome.desired, cluster)
    # An automated application that is OutOfSync is compared again: what it waits for may be time, not a change.
    settled = application.sync_status == Sync.SYNCED or (
        application.sync_status == Sync.OUT_OF_SYNC and not application.is_automated
    )
    if outcome.digest == application.comparison_digest and not force and settled:
        outcome.compared = None
        return
    outcome.compared = comparison(application, outcome.desired, cluster, project.spec)
    _judge(application, project, cluster, outcome)


def _unknown(application: Application) -> list[str]:
    from projects.specs import unknown_fields

    return unknown_fields(application.spec)


def _digest(application: Application, project: Project, desired: Desired, cluster: Cluster) -> str:
    policy = [
        application.spec.get("ignoreDifferences"),
        application.sync_policy,
        application.annotations,
        project.generation,
        _rules_version(),
    ]
    return sources._digest(
        [
            desired.digest,
            live_digest(application, cluster),
            policy,
            cluster.pk,
            len(cluster.api_kinds),
        ]
    )


def _rules_version() -> list[Any]:
    from hub.models import settings_of

    return sorted(
        settings_of(["ignore_differences", "compare_options", "resource_filters", "health"]).items()
    )


def _require_live(cluster: Cluster) -> None:
    if cluster.is_home:
        return
    if cluster.connection == "Failed":
        raise RetryLater(
            "ClusterUnreachable",
            cluster.message or f"cluster {cluster.name} does not answer",
            timedelta(seconds=30),
        )
    if not cluster.is_synced:
        raise RetryLater(
            "LiveStateUnknown",
            f"the live state of cluster {cluster.name} is still being read",
            timedelta(seconds=5),
        )


def _poll_again(application: Application) -> timedelta | None:
    # Git repositories are polled once for all applications; only charts with a moving version are looked at one by one.
    if all(sources.kind_of(s) == "git" for s in application.sources):
        return None
    return settings.POLL_INTERVAL + settings.POLL_JITTER * random.random()


def _judge(application: Application, project: Project, cluster: Cluster, outcome: Outcome) -> None:
    compared = outcome.compared
    if compared is None:
        return
    outcome.conditions += compared.errors + compared.warnings
    outcome.sync = application_sync(compared.states)
    if any(s.status is Sync.UNKNOWN for s in compared.states) or any(
        kind == "InvalidSpecError" for kind, _ in compared.errors
    ):
        outcome.sync = Sync.UNKNOWN
    outcome.health = application_health(compared.states)
    orphaned = project.spec.get("orphanedResources")
    if orphaned is not None and orphaned.get("warn"):
        count = len(orphans(application, project, cluster))
        if count:
            outcome.conditions.append(
                ("OrphanedResourceWarning", f"Application has {count} orphaned resources")
            )


def orphans(application: Application, project: Project, cluster: Cluster) -> list[Any]:
    """Return the rows of resources in the application's namespace that no application manages."""
    from hub.engine.permits import matches, permits_kind

    rules = (project.spec.get("orphanedResources") or {}).get("ignore") or []
    keys = set(application.managed.values_list("key", flat=True))
    scopes = place_of(application, cluster)
    found = []
    for row in cluster.live.filter(
        namespace=application.dest_namespace, owner_uid="", instance=""
    ).defer("body"):
        key = row.resource_key
        ignored = any(
            matches(r.get("group") or "", key.group)
            and matches(r.get("kind") or "*", key.kind)
            and matches(r.get("name") or "*", key.name)
            for r in rules
        )
        if (
            row.key in keys
            or is_usual(key)
            or ignored
            or not scopes.is_namespaced(key.group, key.kind)
        ):
            continue
        if permits_kind(project.spec, key.group, key.kind, key.name, namespaced=True):
            found.append(row)
    return found


def write(application: Application, outcome: Outcome, seen: datetime | None) -> None:
    """Store what a look found, if it differs; start an operation if it should; plan the next look."""
    now = timezone.now()
    with transaction.atomic():
        current = Application.objects.select_for_update().get(pk=application.pk)
        if current.generation != application.generation:
            # The spec changed under the look: what it found is of no use.
            Application.objects.filter(pk=application.pk).update(refresh_at=now)
            return
        changes = _columns(current, outcome, now)
        decision = _automated(current, outcome, changes, now)
        if outcome.compared is not None:
            _write_managed(current, outcome.compared)
        visible = {
            k: v
            for k, v in changes.items()
            if getattr(current, k) != v
            and k not in ("reconciled_at", "comparison_digest", "inputs")
        }
        if visible or current.refresh_kind:
            changes["resource_version"] = next_version()
            publish()
        if current.refresh_kind:
            changes["annotations"] = {
                k: v for k, v in current.annotations.items() if k != "argocd.argoproj.io/refresh"
            }
        changes["refresh_kind"] = ""
        if current.refresh_at == seen:
            waits = [d for d in (outcome.look_again, decision.look_again) if d is not None]
            changes["refresh_at"] = now + min(waits) if waits else None
        Application.objects.filter(pk=current.pk).update(**changes)
        if "sync_status" in visible or "health_status" in visible:
            _event(
                current,
                "StatusRefreshed",
                f"Sync status {changes['sync_status']}, health {changes['health_status']}",
            )
        if decision.start and outcome.desired:
            _start(current, outcome, decision)
        _mirror(current)


def _mirror(application: Application) -> None:
    from projects.manifests import mirror_application

    mirror_application(application.pk)


def _columns(current: Application, outcome: Outcome, now: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    conditions = dict.fromkeys(outcome.conditions)
    unchanged = (
        outcome.compared is None
        and outcome.desired is not None
        and bool(outcome.digest)
        and not any(k in ERRORS for k, _ in conditions)
    )
    if outcome.keep_status:
        return {"reconciled_at": current.reconciled_at}
    if unchanged:
        changes |= {
            "revisions": outcome.desired.revisions if outcome.desired else [],
            "inputs": outcome.desired.inputs if outcome.desired else [],
        }
        changes |= {
            "reconciled_at": now,
            "sync_status": current.sync_status,
            "health_status": current.health_status,
        }
        kept = [c for c in current.conditions if c["type"] not in ERRORS]
        changes["conditions"] = kept
        changes["comparison_digest"] = outcome.digest
        return changes
    changes["conditions"] = _conditions(current, list(conditions), now)
    changes["sync_status"] = outcome.sync
    changes["health_status"], changes["health_message"] = (
        outcome.health.status,
        outcome.health.message[:1000],
    )
    if outcome.health.status != current.health_status or not current.health_changed_at:
        changes["health_changed_at"] = now
    if outcome.sync is Sync.OUT_OF_SYNC:
        changes["out_of_sync_since"] = current.out_of_sync_since or now
    elif outcome.sync is Sync.SYNCED:
        changes["out_of_sync_since"] = None
    changes["comparison_digest"] = (
        outcome.digest if outcome.compared is not None and not outcome.compared.errors else ""
    )
    if outcome.desired is not None:
        changes |= {
            "revisions": outcome.desired.revisions, "inputs": outcome.desired.inputs, "source_types": outcome.desired.source_types,
        }  # fmt: skip
    if outcome.compared is not None:
        changes |= {
            "reconciled_at": now, "resources": [resource_json(s) for s in outcome.compared.states if not _is_delete_hook(outcome, s)],
            "summary": _summary(outcome.compared),
            "compared_to": {
                "sources": current.sources, "destination": current.spec.get("destination"),
                "ignoreDifferences": current.spec.get("ignoreDifferences") or [],
            },
        }  # fmt: skip
        finalizers = _hook_finalizers(current, outcome.compared)
        if finalizers != current.finalizers:
            changes["finalizers"] = finalizers
    return changes


def _is_delete_hook(outcome: Outcome, state: ResourceState) -> bool:
    if not state.hook or outcome.compared is None:
        return False
    return any(
        p.key == state.key and p.desired is not None and is_delete_hook(p.desired)
        for p in outcome.compared.pairs
    )


def _hook_finalizers(current: Application, compared: Compared) -> list[str]:
    from hub.engine.hooks import hook_phases

    phases = {
        p.value
        for pair in compared.pairs
        if pair.state.hook and pair.desired
        for p in hook_phases(pair.desired)
    }
    result = [
        f
        for f in current.finalizers
        if not f.startswith(("pre-delete-finalizer", "post-delete-finalizer"))
    ]
    for phase, name in (("PreDelete", "pre-delete"), ("PostDelete", "post-delete")):
        if phase in phases:
            result += [
                f"{name}-finalizer.argocd.argoproj.io",
                f"{name}-finalizer.argocd.argoproj.io/cleanup",
            ]
    return result


def _conditions(
    current: Application, found: Sequence[tuple[str, str]], now: datetime
) -> list[dict[str, str]]:
    before = {(c["type"], c["message"]): c for c in current.conditions}
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = [
        c
        for c in current.conditions
        if c["type"] not in ERRORS and c["type"] not in WARNINGS and c["type"] != "SyncError"
    ]
    old_error = [c for c in current.conditions if c["type"] == "SyncError"]
    fresh = [
        before.get((kind, text), {"type": kind, "message": text, "lastTransitionTime": stamp})
        for kind, text in found
    ]
    return [*kept, *old_error, *fresh]


def resource_json(state: ResourceState) -> dict[str, Any]:
    """Return the status of one resource as `status.resources` has it."""
    result: dict[str, Any] = {
        "group": state.key.group, "version": state.version, "kind": state.key.kind,
        "namespace": state.key.namespace, "name": state.key.name,
    }  # fmt: skip
    if state.status is not None:
        result["status"] = state.status.value
    if state.health is not None and state.exists:
        result["health"] = {"status": state.health.status.value} | (
            {"message": state.health.message} if state.health.message else {}
        )
    elif not state.exists and not state.hook:
        result["health"] = {"status": "Missing"}
    for name, value in (("hook", state.hook), ("requiresPruning", state.requires_pruning),
                        ("requiresDeletionConfirmation", state.needs_confirmation), ("syncWave", state.wave)):  # fmt: skip
        if value:
            result[name] = value
    return {k: v for k, v in result.items() if v != "" or k in ("kind", "name")}


def _summary(compared: Compared) -> dict[str, Any]:
    images, urls = set(), set()
    for pair in compared.pairs:
        shown = (pair.row.shown if pair.row else None) or {}
        images |= set(shown.get("images") or ())
        urls |= set((shown.get("networkingInfo") or {}).get("externalURLs") or ())
    result: dict[str, Any] = {}
    if images:
        result["images"] = sorted(images)
    if urls:
        result["externalURLs"] = sorted(urls)
    if any((s.key.group, s.key.kind) == ("argoproj.io", "Application") for s in compared.states):
        result["isAppOfApps"] = True
    return result


def _write_managed(current: Application, compared: Compared) -> None:
    if current.cluster is None:
        return
    wanted = {p.key.text for p in compared.pairs}
    known = dict(current.managed.values_list("key", "cluster_id"))
    stale = [k for k, c in known.items() if k not in wanted or c != current.cluster_id]
    if stale:
        current.managed.filter(key__in=stale).delete()
    fresh = wanted - (known.keys() - set(stale))
    if fresh:
        ManagedResource.objects.bulk_create(
            [ManagedResource(application=current, cluster=current.cluster, key=k) for k in fresh],
            ignore_conflicts=True,
        )


def _automated(
    current: Application, outcome: Outcome, changes: dict[str, Any], now: datetime
) -> Decision:
    if (
        not current.is_automated
        or outcome.desired is None
        or changes.get("sync_status") is not Sync.OUT_OF_SYNC
    ):
        if changes.get("sync_status") == Sync.SYNCED:
            changes["conditions"] = [
                c for c in changes.get("conditions", current.conditions) if c["type"] != "SyncError"
            ]
        return Decision(start=False)
    if current.deletion_requested_at or (current.operation and current.operation.phase in RUNNING):
        return Decision(start=False)
    if any(c["type"] in ERRORS for c in changes["conditions"]) or outcome.compared is None:
        return Decision(start=False)
    last = _last(current)
    wanted = LastOperation(Phase.SUCCEEDED, tuple(outcome.desired.revisions), current.sources)
    decision = decide(
        current.sync_policy["automated"] or {},
        Sync.OUT_OF_SYNC,
        outcome.compared.states,
        wanted,
        last,
        now,
    )
    conditions = [c for c in changes["conditions"] if c["type"] != "SyncError"]
    if decision.error:
        old = next(
            (
                c
                for c in current.conditions
                if c["type"] == "SyncError" and c["message"] == decision.error
            ),
            None,
        )
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions.append(
            old or {"type": "SyncError", "message": decision.error, "lastTransitionTime": stamp}
        )
    changes["conditions"] = conditions
    return decision


def _last(current: Application) -> LastOperation | None:
    operation = current.operation
    if operation is None or (operation.sync.get("dryRun")):
        return None
    return LastOperation(
        Phase(operation.phase),
        tuple(operation.revisions),
        operation.sources,
        operation.message,
        operation.finished_at,
        operation.heal_attempts,
    )


def _start(current: Application, outcome: Outcome, decision: Decision) -> None:
    policy, desired = current.sync_policy, outcome.desired
    if desired is None or outcome.compared is None:
        return
    sync: dict[str, Any] = {
        "prune": bool((policy.get("automated") or {}).get("prune")),
        "syncOptions": policy.get("syncOptions") or [],
    }
    if decision.heal:
        sync["resources"] = [
            {"group": s.key.group, "kind": s.key.kind, "name": s.key.name, "namespace": s.key.namespace}
            for s in outcome.compared.states if s.status is Sync.OUT_OF_SYNC
        ]  # fmt: skip
        sync["autoHealAttemptsCount"] = (
            current.operation.heal_attempts if current.operation else 0
        ) + 1
    request = {
        "sync": sync,
        "initiatedBy": {"automated": True},
        "retry": policy.get("retry") or {"limit": 5},
    }
    start_operation(current, request, desired.revisions, current.sources, actor="automated sync")


def start_operation(
    application: Application,
    request: dict[str, Any],
    revisions: Sequence[str],
    wanted: Sequence[Any],
    *,
    actor: str,
    rollback: bool = False,
) -> Operation:
    """Create the operation of an application, and wake a worker for it.

    Raises: IntegrityError when another one is running.
    """
    operation = Operation.objects.create(
        application=application, request=request, revisions=list(revisions), sources=list(wanted), message="initiated",
        heal_attempts=(request.get("sync") or {}).get("autoHealAttemptsCount", 0), is_rollback=rollback,
    )  # fmt: skip
    Application.objects.filter(pk=application.pk).update(
        operation=operation, resource_version=next_version()
    )
    verb = "rollback" if rollback else "sync"
    audit.record(
        actor,
        verb,
        "application",
        application.qualified_name,
        application.project,
        revisions=list(revisions),
        operation=operation.pk,
    )
    _event(
        application,
        "OperationStarted",
        f"{actor} initiated {verb} to {', '.join(r[:12] for r in revisions)}",
    )
    publish()
    wake("projects.sync", operation.pk, priority=2)
    return operation


def _event(application: Application, reason: str, message: str, kind: str = "Normal") -> None:
    ApplicationEvent.objects.create(
        application_uid=application.uid,
        namespace=application.namespace,
        name=application.name,
        reason=reason,
        message=message,
        kind=kind,
    )


def request_refresh(application: Application, kind: str = "normal") -> None:
    """Ask for a look that resolves revisions anew; `hard` also drops rendered manifests."""
    Application.objects.filter(pk=application.pk).update(
        refresh_kind=kind, refresh_at=timezone.now()
    )
    wake("projects.refresh", application.pk, priority=1)


def rebind(application: Application) -> None:
    """Follow a changed spec: cluster, repositories; and look at once."""
    bind(application)
    application.refresh_at = timezone.now()
    application.save()
    bind_remotes(application)
    wake("projects.refresh", application.pk, priority=4)


def live_changed() -> None:
    """Hand changes of live resources to the applications concerned."""
    changes = list(LiveChange.objects.order_by("pk")[:200])
    if not changes:
        return
    with transaction.atomic():
        found = set()
        for change in changes:
            found |= set(
                Application.objects.filter(
                    instance_filter(change.instances), cluster_id=change.cluster_id
                ).values_list("pk", flat=True)
            )
            for start in range(0, len(change.keys), 500):
                keys = change.keys[start : start + 500]
                found |= set(
                    ManagedResource.objects.filter(
                        cluster_id=change.cluster_id, key__in=keys
                    ).values_list("application_id", flat=True)
                )
        mark_due(found)
        LiveChange.objects.filter(pk__in=[c.pk for c in changes]).delete()
        for operation in Operation.objects.filter(
            application_id__in=found, phase__in=RUNNING
        ).values_list("pk", flat=True):
            Operation.objects.filter(pk=operation).update(due_at=timezone.now())
            wake("projects.sync", operation, priority=2)
        publish()
    if len(changes) == 200:
        wake("projects.live_changed")


def mark_due(pks: Any) -> None:
    """Make applications due now, and wake workers for them."""
    now = timezone.now()
    ids = list(pks)
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        Application.objects.filter(pk__in=chunk).update(refresh_at=now)
    for pk in ids:
        wake("projects.refresh", pk)


def cluster_changed(cluster_id: int) -> None:
    """Look at every application of a cluster whose connection changed, and bind those that waited for it."""
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    if cluster is None:
        return
    mark_due(cluster.applications.values_list("pk", flat=True))
    for operation in Operation.objects.filter(
        application__cluster=cluster, phase__in=RUNNING
    ).values_list("pk", flat=True):
        Operation.objects.filter(pk=operation).update(due_at=timezone.now())
        wake("projects.sync", operation, priority=2)


def bind_waiting(cluster: Cluster) -> None:
    """Bind the applications that named a cluster before it was registered."""
    for application in Application.objects.filter(cluster__isnull=True):
        bind(application)
        if application.cluster_id == cluster.pk:
            Application.objects.filter(pk=application.pk).update(
                cluster=cluster, refresh_at=timezone.now()
            )
            wake("projects.refresh", application.pk)


def poll_remote(pk: int) -> None:
    """Ask a repository for its refs if that is due, and let the applications follow."""
    with claim(GitRemote, pk, when=Q(due_at__lte=timezone.now())) as mine:
        if not mine:
            return
        remote = GitRemote.objects.get(pk=pk)
        application = remote.applications.first()
        if application is None:
            GitRemote.objects.filter(pk=pk).update(due_at=timezone.now() + timedelta(hours=1))
            return
        before = dict(remote.refs)
        was_broken = bool(remote.error)
        url = next(
            str(s["repoURL"])
            for s in application.sources
            if sources.remote_of(str(s["repoURL"])).pk == pk
        )
        try:
            sources.poll(remote, url, application.project)
        except (RetryLater, Stalled, Invalid) as error:
            log.info("repository not polled: %s", error, extra={"repository": remote.url})
            return
        jitter = settings.POLL_JITTER * random.random()
        GitRemote.objects.filter(pk=pk).update(
            due_at=timezone.now() + settings.POLL_INTERVAL + jitter
        )
        if remote.refs != before or was_broken:
            advance(remote)


def advance(remote: GitRemote) -> None:
    """Move applications to new revisions of a repository: at once where nothing that they read changed.

    The others are looked at: first those, since somebody waits for them.
    """
    changed, same = [], []
    projects = {p.name: p for p in Project.objects.all()}
    contexts: dict[int, Cluster | None] = {}
    applications = (
        remote.applications.filter(deletion_requested_at__isnull=True)
        .select_related("cluster")
        .defer("resources", "summary")
    )
    for application in applications.iterator(chunk_size=200):
        project = projects.get(application.project)
        found = _moved(application, project, contexts) if project else None
        if found is None:
            changed.append(application.pk)
        elif found != application.revisions:
            same.append((application.pk, found))
        elif any(c["type"] == "ComparisonError" for c in application.conditions):
            changed.append(application.pk)
    with transaction.atomic():
        mark_due(changed)
    _move(same)


def _moved(
    application: Application, project: Project, contexts: dict[int, Cluster | None]
) -> list[str] | None:
    """The new revisions when the manifests are the same there, None when they may differ."""
    contexts.setdefault(application.pk, application.cluster)
    if (
        not application.revisions
        or application.refresh_kind
        or len(application.revisions) != len(application.sources)
    ):
        return None
    try:
        revisions = [sources.resolve(s, application.project) for s in application.sources]
        if revisions == application.revisions:
            return revisions
        context = sources.context_of(application, project.spec, application.cluster)
        if any(c["type"] in ERRORS for c in application.conditions):
            return None
        if sources.unchanged(
            application.inputs, application.sources, application.revisions, revisions, context
        ):
            return revisions
    except (RetryLater, Stalled, Invalid, EngineError, KeyError):
        return None
    return None


def _move(moves: Sequence[tuple[int, list[str]]]) -> None:
    by_revisions: dict[tuple[str, ...], list[int]] = {}
    for pk, revisions in moves:
        by_revisions.setdefault(tuple(revisions), []).append(pk)
    for moved, pks in by_revisions.items():
        for start in range(0, len(pks), 500):
            with transaction.atomic():
                Application.objects.filter(pk__in=pks[start : start + 500]).update(
                    revisions=list(moved),
                    reconciled_at=timezone.now(),
                    resource_version=next_version(),
                )
                publish()


def push_received(urls: Sequence[str], revision: str, commit: str) -> int:
    """Ask the repositories that a push names at once; return how many there are.

    Shapes: `urls` are web and clone URLs; `commit` is the new head, so that a repository that
        already has it is not asked again.
    """
    from hub.engine.permits import normal_url

    wanted = {re.sub(r"^[a-z+]+://([^@/]*@)?", "", normal_url(url)) for url in urls if url}
    found = [
        r for r in GitRemote.objects.all() if re.sub(r"^[a-z+]+://([^@/]*@)?", "", r.url) in wanted
    ]
    for remote in found:
        if commit and is_commit(commit) and commit == remote.refs.get(revision):
            continue
        GitRemote.objects.filter(pk=remote.pk).update(due_at=timezone.now())
        wake("projects.poll", remote.pk, priority=1)
    return len(found)
