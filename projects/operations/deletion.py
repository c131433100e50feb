"""Delete applications: PreDelete hooks, resources wave by wave, PostDelete hooks."""

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from clusters.kinds import Refused
from clusters.models import Cluster, LiveResource
from hub.base.claims import claim
from hub.engine.deletion_guard import Candidate, Verdict, budget_from, decide_deletions
from hub.engine.errors import EngineError, RefusedByRule, RetryLater, Stalled
from hub.engine.hooks import DELETE_PHASES, SyncPhase, hook_phases, is_hook, wave
from hub.engine.resource import Manifest
from hub.engine.sync_options import parse_options, resource_options
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects.access.own_kinds import Author, Name, record_refusal
from projects.access.reach import reach_of
from projects.access.refusal_audit import not_deleted
from projects.destinations import in_cluster
from projects.destinations.destination import Target
from projects.models import FINALIZER, Application, Operation, Project
from projects.objects.applications import remove
from projects.objects.specs import find_cluster, project_of
from projects.operations.deletion_hooks import (
    HookFailed,
    Wait,
    clean_up,
    drop,
    is_failing,
    release_all,
    run_hooks,
    target_of,
)
from projects.operations.sync import confirmed_since

log = logging.getLogger(__name__)

RECHECK_INTERVAL = timedelta(seconds=5)


def delete_application(pk: int) -> None:
    """Run the deletion of an application as far as possible now."""
    with claim(Application, pk) as is_claimed:
        if not is_claimed:
            return
        application = Application.objects.select_related("cluster", "operation").get(pk=pk)
        if application.deletion_requested_at is None:
            return
        try:
            _delete(application)
        except Wait as wait:
            _postpone(application, str(wait), error=False)
        except HookFailed as failed:
            _postpone(application, failed.message, error=True, delay=failed.delay)
        except (RetryLater, Stalled) as error:
            if isinstance(error, RefusedByRule):
                not_deleted(application, error.message)
            _postpone(application, error.message, error=True)
        except (Refused, EngineError) as error:
            _postpone(application, str(error), error=True)
        except Exception as error:  # a bug that one application meets must not stop the others
            log.exception("deletion failed", extra={"application": application.qualified_name})
            text = f"internal error while deleting: {type(error).__name__}"
            _postpone(application, text, error=True)


def _postpone(
    application: Application, message: str, *, error: bool, delay: timedelta | None = None
) -> None:
    now = timezone.now()
    kind = "DeletionError" if error else "DeletionWaiting"
    condition = {
        "type": kind,
        "message": message,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    failures = [c for c in application.conditions if is_failing(application, c)]
    if failures and is_failing(application, condition):
        # The same hook still fails, perhaps with another message.
        condition["lastTransitionTime"] = failures[0]["lastTransitionTime"]
    deletion = ("DeletionError", "DeletionWaiting")
    kept = [c for c in application.conditions if c["type"] not in deletion]
    if not error:
        kept += failures  # still true while the hook is retried
    known = any((c["type"], c["message"]) == (kind, message) for c in application.conditions)
    delay = delay or (timedelta(seconds=20) if error else RECHECK_INTERVAL)
    with transaction.atomic():
        rows = Application.objects.filter(pk=application.pk)
        if known:
            rows.update(refresh_at=now + delay)
        else:
            rows.bump(refresh_at=now + delay, conditions=[*kept, condition])
        publish()
    wake(TaskName.PROJECTS_REFRESH, application.pk, delay=delay.total_seconds() + 0.1)


def _delete(application: Application) -> None:
    if application.operation and application.operation.phase in ("Running", "Terminating"):
        Operation.objects.filter(pk=application.operation.pk, phase="Running").update(
            phase="Terminating", due_at=timezone.now()
        )
        wake(TaskName.PROJECTS_SYNC, application.operation.pk, priority=1)
        raise Wait("waiting for the running operation to end")
    try:
        cluster = find_cluster(application.spec)
    except Stalled:
        # The destination is no longer registered, so nothing can be deleted there.
        cluster = None
    if cluster is None:
        remove(application)
        return
    if application.finalizers:
        project = project_of(application.project)
        run_hooks(application, project, cluster, SyncPhase.PRE_DELETE, "pre-delete")
        if application.cascades:
            _cascade(application, project, cluster)
        run_hooks(application, project, cluster, SyncPhase.POST_DELETE, "post-delete")
        for phase, name in DELETE_PHASES.items():
            clean_up(application, project, cluster, phase, name)
    rest = Application.objects.filter(pk=application.pk).values_list("finalizers", flat=True).get()
    ours = (FINALIZER, "pre-delete-finalizer", "post-delete-finalizer")
    foreign = [f for f in rest if not f.startswith(ours)]
    if foreign:
        raise Wait(f"waiting for finalizer {foreign[0]}")
    release_all(application, cluster)
    remove(application)


def _cascade(application: Application, project: Project, cluster: Cluster) -> None:
    """Delete the remaining resources of the highest wave; a later run deletes the next wave."""
    _require_live(cluster)
    candidates, kept = _candidates(application, project, cluster)
    options = parse_options(application.sync_policy.get("syncOptions") or [])
    ruling = decide_deletions(
        [Candidate(row.resource_key, _delete_option(row, options)) for row in candidates],
        total=len(candidates),
        budget=budget_from((project.spec.get("flotilla") or {}).get("deletion")),
        explicit=True,
        confirmed=confirmed_since(application, application.deletion_requested_at or timezone.now()),
    )
    for key in ruling.having(Verdict.REFUSED):
        not_deleted(application, f"{key}: its option Delete=false forbids it")
    if ruling.having(Verdict.CONFIRM):
        not_deleted(application, ruling.message)
        raise Wait(ruling.message)
    left = [row for row in candidates if ruling.verdicts[row.resource_key] is Verdict.ALLOWED]
    if not left:
        for name, reason in kept:
            record_refusal(Author(application, project), "delete", name, reason)
        for finalizer in [f for f in application.finalizers if f.startswith(FINALIZER)]:
            drop(application, finalizer)
        return
    deleting = [row for row in left if row.deleting]
    if not deleting:
        highest = max(_wave(row) for row in left)
        deleting = [row for row in left if _wave(row) == highest]
        _delete_rows(application, target_of(application, project, cluster), deleting)
    more = f" and {len(left) - 1} more resources" if len(left) > 1 else ""
    raise Wait(f"waiting for deletion of {deleting[0].resource_key}{more}")


def _require_live(cluster: Cluster) -> None:
    if not cluster.is_home and (cluster.connection == "Failed" or not cluster.is_synced):
        text = f"cluster {cluster.name} does not answer; its resources cannot be deleted"
        raise RetryLater("ClusterUnreachable", text, timedelta(seconds=20))


def _delete_rows(application: Application, target: Target, rows: list[LiveResource]) -> None:
    is_background = f"{FINALIZER}/background" in application.finalizers
    propagation = "Background" if is_background else "Foreground"
    for row in rows:
        target.delete(row.resource_key, row.version, propagation=propagation, uid=row.uid)


def _candidates(
    application: Application, project: Project, cluster: Cluster
) -> tuple[list[LiveResource], list[tuple[Name, str]]]:
    """Return the resources that a cascade deletes, and the hub's own that it keeps, with the rule.

    Definitions stay, as others may use them; hooks of the deletion are deleted by their own policy.
    """
    reach, author = reach_of(application, cluster, project.spec), Author(application, project)
    found: list[LiveResource] = []
    kept: list[tuple[Name, str]] = []
    itself = ("argoproj.io", "Application", application.namespace, application.name)
    rows = LiveResource.objects.filter(
        cluster=cluster, instance=application.instance, is_self=True, owner_uid=""
    )
    for row in rows:
        if (row.group, row.kind, row.namespace, row.name) == itself or _is_retained(row):
            continue
        if cluster.is_home and in_cluster.is_ours(row.group, row.kind):
            rule = in_cluster.why_not_deletable(row.resource_key, author)
            if rule:
                kept.append((Name(row.kind, row.namespace, row.name), rule))
                continue
        if not reach.refusal(row.resource_key):
            found.append(row)
    return found, kept


def _is_retained(row: LiveResource) -> bool:
    manifest = row.manifest
    is_hook_ = manifest is not None and is_hook(manifest) and _is_delete_hook(manifest)
    return row.kind == "CustomResourceDefinition" or is_hook_


def _is_delete_hook(manifest: Manifest) -> bool:
    return not DELETE_PHASES.keys().isdisjoint(hook_phases(manifest))


def _delete_option(row: LiveResource, options: dict[str, str]) -> str:
    manifest = row.manifest
    if manifest is None:
        return ""
    value = resource_options(manifest, options).value("Delete")
    return value if value in ("false", "confirm") else ""


def _wave(row: LiveResource) -> int:
    manifest = row.manifest
    return wave(manifest) if manifest else 0
