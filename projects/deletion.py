"""Delete applications: hooks before, resources wave by wave, hooks after; every deletion through the guard."""

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from clusters.kinds import Refused
from clusters.models import Cluster, LiveResource
from hub.engine.deletion_guard import Candidate, Verdict, budget_from, decide_deletions
from hub.engine.errors import EngineError, RefusedByRule, RetryLater, Stalled
from hub.engine.hooks import SyncPhase, hook_phases, is_hook, wave
from hub.engine.resource import Manifest
from hub.engine.sync_options import parse_options, resource_options
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects import in_cluster
from projects.applications import remove
from projects.claims import claim
from projects.deletion_hooks import (
    PHASES,
    HookFailed,
    Wait,
    clean_up,
    drop,
    is_failing,
    release_all,
    run_hooks,
    target_of,
)
from projects.models import FINALIZER, Application, Operation, Project
from projects.own_kinds import Author, Name, record_refusal
from projects.reach import reach_of
from projects.refusal_audit import not_deleted
from projects.specs import find_cluster, project_of
from projects.sync import confirmed_since

log = logging.getLogger(__name__)

LOOK_AGAIN = timedelta(seconds=5)


def delete_application(pk: int) -> None:
    """Take the deletion of an application as far as it goes now."""
    with claim(Application, pk) as mine:
        if not mine:
            return
        application = Application.objects.select_related("cluster", "operation").get(pk=pk)
        if application.deletion_requested_at is None:
            return
        try:
            _delete(application)
        except Wait as wait:
            _again(application, str(wait), error=False)
        except HookFailed as failed:
            _again(application, failed.message, error=True, delay=failed.delay)
        except (RetryLater, Stalled) as error:
            if isinstance(error, RefusedByRule):
                not_deleted(application, error.message)
            _again(application, error.message, error=True)
        except (Refused, EngineError) as error:
            _again(application, str(error), error=True)
        except Exception as error:  # one odd application must not stop the others
            log.exception("deletion failed", extra={"application": application.qualified_name})
            _again(
                application, f"internal error while deleting: {type(error).__name__}", error=True
            )


def _again(
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
        # It is the same trouble as before, in other words perhaps.
        condition["lastTransitionTime"] = failures[0]["lastTransitionTime"]
    deletion = ("DeletionError", "DeletionWaiting")
    kept = [c for c in application.conditions if c["type"] not in deletion]
    if not error:
        kept += failures  # still said while the hook is run again
    known = any((c["type"], c["message"]) == (kind, message) for c in application.conditions)
    delay = delay or (timedelta(seconds=20) if error else LOOK_AGAIN)
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
        # The destination is not registered any more: there is nothing that could be deleted there.
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
        for phase, name in PHASES:
            clean_up(application, project, cluster, phase, name)
    rest = Application.objects.filter(pk=application.pk).values_list("finalizers", flat=True).get()
    foreign = [
        f
        for f in rest
        if not f.startswith((FINALIZER, "pre-delete-finalizer", "post-delete-finalizer"))
    ]
    if foreign:
        raise Wait(f"waiting for finalizer {foreign[0]}")
    release_all(application, cluster)
    remove(application)


def _cascade(application: Application, project: Project, cluster: Cluster) -> None:
    """Delete the resources of the highest wave that are left; the next ones when those are gone."""
    if not cluster.is_home and (cluster.connection == "Failed" or not cluster.is_synced):
        raise RetryLater(
            "ClusterUnreachable",
            f"cluster {cluster.name} does not answer; its resources cannot be deleted",
            timedelta(seconds=20),
        )
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
    going = [row for row in left if row.deleting]
    if not going:
        highest = max(_wave(row) for row in left)
        background = any(f == f"{FINALIZER}/background" for f in application.finalizers)
        target = target_of(application, project, cluster)
        going = [row for row in left if _wave(row) == highest]
        for row in going:
            target.delete(
                row.resource_key,
                row.version,
                propagation="Background" if background else "Foreground",
                uid=row.uid,
            )
    raise Wait(
        f"waiting for deletion of {going[0].resource_key}"
        + (f" and {len(left) - 1} more resources" if len(left) > 1 else "")
    )


def _candidates(
    application: Application, project: Project, cluster: Cluster
) -> tuple[list[LiveResource], list[tuple[Name, str]]]:
    """Return what a cascade deletes, and those of the hub's own kinds that it must leave, each with the rule."""
    reach, author = reach_of(application, cluster, project.spec), Author(application, project)
    found: list[LiveResource] = []
    kept: list[tuple[Name, str]] = []
    for row in LiveResource.objects.filter(
        cluster=cluster, instance=application.instance, is_self=True, owner_uid=""
    ):
        manifest = row.manifest
        if row.kind == "CustomResourceDefinition" or (
            manifest is not None and is_hook(manifest) and _is_delete_hook(manifest)
        ):
            continue
        if (row.group, row.kind, row.namespace, row.name) == (
            "argoproj.io",
            "Application",
            application.namespace,
            application.name,
        ):
            continue
        if cluster.is_home and in_cluster.is_ours(row.group, row.kind):
            rule_ = in_cluster.why_keep(row.resource_key, author)
            if rule_:
                kept.append((Name(row.kind, row.namespace, row.name), rule_))
                continue
        if not reach.refusal(row.resource_key):
            found.append(row)
    return found, kept


def _is_delete_hook(manifest: Manifest) -> bool:
    return bool({SyncPhase.PRE_DELETE, SyncPhase.POST_DELETE} & set(hook_phases(manifest)))


def _delete_option(row: LiveResource, options: dict[str, str]) -> str:
    manifest = row.manifest
    if manifest is None:
        return ""
    value = resource_options(manifest, options).value("Delete")
    return value if value in ("false", "confirm") else ""


def _wave(row: LiveResource) -> int:
    manifest = row.manifest
    return wave(manifest) if manifest else 0
