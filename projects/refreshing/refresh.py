"""Refresh an application: load its sources, compare them with the cluster, store the result.

`projects.refreshing.triggers`, `projects.refreshing.artifact_triggers` and `request_refresh`
decide when an application is due; `projects.tasks` finds and enqueues what is due.
"""

import hashlib
import logging
import random
import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from clusters.models import Cluster, LiveResource
from hub.base.claims import claim
from hub.base.metrics import REFRESH, clock
from hub.base.read_once import cached_reads
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.globs import matches
from hub.engine.resource import ResourceKey
from hub.engine.status import Sync, application_health, application_sync
from hub.engine.tree import is_usual
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import settings_of
from projects import sources
from projects.access.reach import place_of, reach_of
from projects.comparison.compare import comparison
from projects.comparison.live_rows import live_digest
from projects.destinations.dry_runs import DryRunUse
from projects.models import DELAYED, Application, Project
from projects.objects.specs import (
    find_cluster,
    project_of,
    require_shape,
    spec_problems,
    spec_refusals,
    unknown_fields,
)
from projects.refreshing.status import Outcome, write
from projects.sources import Desired
from projects.sources.manifest_size import digest_of
from projects.sources.remote_inputs import has_pages
from projects.sources.render_queue import REFUSALS

log = logging.getLogger(__name__)

_SHOWN_FILES = 5
_LONGEST = 1000

_TRANSIENT_REASONS = {
    "ClusterNotFound",
    "RevisionNotFound",
    "NotFound",
    "ChartNotFound",
    "Timeout",
    "RendererDied",
}
"""Reasons of failures that may clear up without a new spec or revision."""


def refresh(pk: int) -> bool:
    """Refresh an application; return False if it is not due or another worker has claimed it."""
    due = Q(refresh_at__lte=timezone.now())
    with claim(Application, pk, when=due) as is_claimed, cached_reads():
        if not is_claimed:
            return False
        application = Application.objects.select_related("cluster", "operation").get(pk=pk)
        if application.deletion_requested_at:
            return False
        started, seen = clock(), application.refresh_at
        outcome = evaluate(application)
        try:
            write(application, outcome, seen)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # a result that cannot be stored is an error of this application
            write(application, _unexpected(application, Outcome(), error), seen)
        server = application.cluster.server if application.cluster else ""
        REFRESH.labels(server).observe(clock() - started)
    _enqueue_if_due(pk)
    return True


def _enqueue_if_due(pk: int) -> None:
    # An event during the refresh makes the application due again.
    if Application.objects.filter(pk=pk, refresh_at__lte=timezone.now()).exists():
        wake(TaskName.PROJECTS_REFRESH, pk)


def evaluate(application: Application) -> Outcome:
    """Return the current state of an application; every error becomes one of its conditions."""
    outcome = Outcome()
    skip = str(application.annotations.get("argocd.argoproj.io/skip-reconcile", ""))
    if skip.lower() in ("true", "1", "t"):
        outcome.keeps_status = True
        return outcome
    try:
        _evaluate(application, outcome)
    except Stalled as error:
        _failed(outcome, error.reason, error.message)
    except RetryLater as error:
        _delayed(application, outcome, error)
    except (EngineError, Invalid) as error:
        _failed(outcome, "InvalidSpec", str(error))
    except Exception as error:  # a bug that affects one application must not stop the others
        _unexpected(application, outcome, error)
    return outcome


def _unexpected(application: Application, outcome: Outcome, error: Exception) -> Outcome:
    """Add a condition for an internal error, with an id that also appears in the log.

    The retry delay equals the time that the error has persisted, from 2 minutes to 1 hour.
    """
    places = traceback.extract_tb(error.__traceback__)
    trace = [type(error).__name__, *(f"{place.filename}:{place.lineno}" for place in places)]
    # The id depends only on where the error occurred, so that retries keep the same condition.
    number = hashlib.sha256("\n".join(trace).encode()).hexdigest()[:8]
    about = {"application": application.qualified_name, "error_id": number}
    log.error("refresh failed", exc_info=error, extra=about)
    text = f"internal error {number} while refreshing: see the hub's log; it will be retried"
    outcome.conditions.append(("UnknownError", text))
    known = (c for c in application.conditions if c.get("message") == text)
    since = next((c.get("lastTransitionTime") for c in known), None)
    began = parse_datetime(since) if since else None
    persisted = timezone.now() - began if began else timedelta()
    outcome.retry_after = min(max(persisted, timedelta(minutes=2)), timedelta(hours=1))
    return outcome


def _failed(outcome: Outcome, reason: str, message: str) -> None:
    if reason in ("InvalidSpec", "ClusterNotFound"):
        outcome.conditions.append(("InvalidSpecError", message))
    else:
        text = f"Failed to load target state: {message}"
        outcome.conditions.append(("ComparisonError", text))
    if reason in _TRANSIENT_REASONS:
        outcome.retry_after = settings.POLL_INTERVAL


def _delayed(application: Application, outcome: Outcome, error: RetryLater) -> None:
    is_known = application.sync_status != "Unknown"
    outcome.retry_after = max(error.delay, timedelta(seconds=2))
    if error.reason in REFUSALS:
        # Waiting for a renderer is not an error of the application.
        outcome.conditions.append((DELAYED, error.message))
        outcome.keeps_status = is_known
        return
    if is_known and error.reason == "LiveStateUnknown":
        # Nothing is known while the cluster is being listed: keep the status, whose age is shown.
        outcome.keeps_status = True
        outcome.conditions = []
        return
    prefix = "" if error.reason == "ClusterUnreachable" else "Failed to load target state: "
    outcome.conditions.append(("ComparisonError", f"{prefix}{error.message}"))


def _evaluate(application: Application, outcome: Outcome) -> None:
    require_shape(application)
    project = project_of(application.project)
    problems = spec_problems(application, project)
    if problems:
        outcome.conditions += [("InvalidSpecError", text) for text in problems]
        outcome.refusal = "; ".join(spec_refusals(application, project))
        if any("Unable to get cluster" in text for text in problems):
            outcome.retry_after = settings.POLL_INTERVAL
        return
    cluster = find_cluster(application.spec)
    outcome.conditions += [
        ("UnknownFieldWarning", f"{name} is not known to this hub")
        for name in unknown_fields(application.spec)
    ]
    hard = application.refresh_kind == "hard"
    force = bool(application.refresh_kind)
    since = (application.refresh_requested_at or timezone.now()) if force else None
    context = sources.context_of(application, project.spec, cluster, no_cache=hard, since=since)
    outcome.desired = _desired(application, context, force=force)
    outcome.retry_after = _poll_interval(application, outcome.desired)
    _require_live(cluster)
    ignored = ignored_files(application, outcome.desired, context)
    outcome.conditions += ignored
    outcome.digest = _digest(application, project, outcome.desired, cluster)
    if ignored:
        outcome.digest = digest_of([outcome.digest, ignored])
    # Compare an automated application that is OutOfSync even without a change: its sync may be
    # due only after some time.
    settled = application.sync_status == Sync.SYNCED or (
        application.sync_status == Sync.OUT_OF_SYNC and not application.is_automated
    )
    if outcome.digest == application.comparison_digest and not force and settled:
        outcome.compared = None
        return
    use = DryRunUse.FRESH if hard else DryRunUse.REUSE
    outcome.compared = comparison(
        application, outcome.desired, cluster, project.spec, dry_run_use=use
    )
    outcome.retry_after = _sooner(outcome.retry_after, outcome.compared.retry_after)
    _assess(application, project, cluster, outcome)


def ignored_files(
    application: Application, desired: Desired, context: sources.Context
) -> list[tuple[str, str]]:
    """Return a warning if nothing was rendered and files were ignored.

    Shapes: type and message of a condition, or nothing.
    Raises: Stalled or RetryLater if the files can no longer be read.
    """
    if desired.manifests:
        return []
    found = sources.ignored_files(application.sources, desired, context)
    shown = "; ".join(found[:_SHOWN_FILES])
    more = f"; and {len(found) - _SHOWN_FILES} more" if len(found) > _SHOWN_FILES else ""
    text = f"no manifest was rendered, since these files were ignored: {shown}{more}"
    return [("IgnoredFilesWarning", text[:_LONGEST])] if found else []


def _sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((d for d in (one, other) if d is not None), default=None)


def _desired(application: Application, context: sources.Context, *, force: bool) -> sources.Desired:
    """Return the rendered sources.

    A new application may refer to a commit that is newer than the last poll of its repository. If
    it fails, its revisions are resolved again from the server.
    """

    def at(since: datetime | None, *, fresh: bool) -> list[str]:
        return [
            sources.resolve(s, application.project, force=fresh, since=since)
            for s in application.sources
        ]

    revisions: list[str] = []
    try:
        revisions = at(application.refresh_requested_at, fresh=force)
        return sources.load(application.sources, revisions, context)
    except (Stalled, EngineError):
        if force or application.reconciled_at is not None:
            raise
        newer = at(application.created_at, fresh=True)
        if newer == revisions:
            raise
    return sources.load(application.sources, newer, context)


def _digest(application: Application, project: Project, desired: Desired, cluster: Cluster) -> str:
    policy = [
        application.spec.get("ignoreDifferences"),
        application.sync_policy,
        application.annotations,
        project.generation,
        # Global projects and cluster scopes affect what a project permits without a new generation.
        project.spec,
        cluster.name,
        _rules_version(),
    ]
    live = live_digest(application, cluster)
    return digest_of([desired.digest, live, policy, cluster.pk, len(cluster.api_kinds)])


def _rules_version() -> list[Any]:
    names = ["ignore_differences", "compare_options", "resource_filters", "health"]
    return sorted(settings_of(names).items())


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


def _poll_interval(application: Application, desired: Desired) -> timedelta | None:
    # A git repository is polled once for all of its applications; charts with a version range and
    # files of web servers are polled for each application.
    is_polled = all(sources.kind_of(s) == "git" for s in application.sources)
    if is_polled and not has_pages(desired.inputs):
        return None
    return settings.POLL_INTERVAL + settings.POLL_JITTER * random.random()


def _assess(application: Application, project: Project, cluster: Cluster, outcome: Outcome) -> None:
    compared = outcome.compared
    if compared is None:
        return
    outcome.conditions += compared.errors + compared.warnings
    is_unknown = any(s.status is Sync.UNKNOWN for s in compared.states)
    is_invalid = any(kind == "InvalidSpecError" for kind, _ in compared.errors)
    outcome.sync = application_sync(compared.states)
    if is_unknown or is_invalid:
        outcome.sync = Sync.UNKNOWN
    outcome.health = application_health(compared.states)
    orphaned = project.spec.get("orphanedResources")
    if orphaned is not None and orphaned.get("warn"):
        count = len(orphans(application, project, cluster))
        if count:
            text = f"Application has {count} orphaned resources"
            outcome.conditions.append(("OrphanedResourceWarning", text))


def orphans(application: Application, project: Project, cluster: Cluster) -> list[LiveResource]:
    """Return the resources in the application's namespace that no application manages."""
    rules = (project.spec.get("orphanedResources") or {}).get("ignore") or []
    keys = set(application.managed.values_list("key", flat=True))
    scopes, reach = place_of(application, cluster), reach_of(application, cluster, project.spec)
    rows = cluster.live.filter(namespace=application.dest_namespace, owner_uid="", instance="")
    found = []
    for row in rows.defer("body"):
        key = row.resource_key
        if row.key in keys or is_usual(key) or any(_is_ignored(rule, key) for rule in rules):
            continue
        if scopes.is_namespaced(key.group, key.kind) and not reach.refusal(key):
            found.append(row)
    return found


def _is_ignored(rule: Mapping[str, Any], key: ResourceKey) -> bool:
    return (
        matches(rule.get("group") or "", key.group)
        and matches(rule.get("kind") or "*", key.kind)
        and matches(rule.get("name") or "*", key.name)
    )


def request_refresh(application: Application, kind: str = "normal") -> None:
    """Request a refresh that resolves revisions again; `hard` also drops cached manifests."""
    now = timezone.now()
    Application.objects.filter(pk=application.pk).update(
        refresh_kind=kind, refresh_at=now, refresh_requested_at=now
    )
    wake(TaskName.PROJECTS_REFRESH, application.pk, priority=1)
