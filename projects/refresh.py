"""Refresh an application: what git wants, what runs, how they differ; and decide whether to sync."""

import hashlib
import logging
import random
import traceback
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from clusters.models import Cluster
from hub.base.metrics import REFRESH, clock
from hub.base.read_once import one_look
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.status import (
    Sync,
    application_health,
    application_sync,
)
from hub.engine.tree import is_usual
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects import sources
from projects.claims import claim
from projects.compare import comparison, live_digest
from projects.dry_runs import Ask
from projects.models import (
    DELAYED,
    Application,
    Project,
)
from projects.reach import place_of, reach_of
from projects.sources import Desired
from projects.sources.measures import digest_of
from projects.sources.reach import has_pages
from projects.sources.shares import REFUSALS
from projects.specs import (
    find_cluster,
    project_of,
    require_shape,
    spec_problems,
    spec_refusals,
    unknown_fields,
)
from projects.status import Outcome, write

log = logging.getLogger(__name__)


def refresh(pk: int) -> bool:
    """Look at an application if it is due and nobody else does; return whether that was done."""
    due = Q(refresh_at__lte=timezone.now())
    with claim(Application, pk, when=due) as mine, one_look():
        if not mine:
            return False
        application = Application.objects.select_related("cluster", "operation").get(pk=pk)
        if application.deletion_requested_at:
            return False
        started, seen = clock(), application.refresh_at
        outcome = look(application)
        try:
            write(application, outcome, seen)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # what was found cannot be kept: that is its condition
            write(application, _unexpected(application, Outcome(), error), seen)
        REFRESH.labels(application.cluster.server if application.cluster else "").observe(
            clock() - started
        )
    follow_up(pk)
    return True


def follow_up(pk: int) -> None:
    """Wake the next look when something came in during the last one."""
    again = Application.objects.filter(pk=pk, refresh_at__lte=timezone.now()).exists()
    if again:
        wake(TaskName.PROJECTS_REFRESH, pk)


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
        _unexpected(application, outcome, error)
    return outcome


def _unexpected(application: Application, outcome: Outcome, error: Exception) -> Outcome:
    """Say that a refresh failed in the hub itself, by a number that the log has; what was true is Unknown now.

    It is tried again after as long as it has failed: 2 minutes first, an hour at most.
    """
    places = traceback.extract_tb(error.__traceback__)
    said = [type(error).__name__, *(f"{place.filename}:{place.lineno}" for place in places)]
    # The same fault has the same number: a condition that is new each time would be a change each time.
    number = hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]
    about = {"application": application.qualified_name, "error_id": number}
    log.error("refresh failed", exc_info=error, extra=about)
    text = (
        f"the hub failed to refresh this application: its log has error {number}; it is tried again"
    )
    outcome.conditions.append(("UnknownError", text))
    since = next(
        (c.get("lastTransitionTime") for c in application.conditions if c.get("message") == text),
        None,
    )
    began = parse_datetime(since) if since else None
    waited = timezone.now() - began if began else timedelta()
    outcome.look_again = min(max(waited, timedelta(minutes=2)), timedelta(hours=1))
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
    outcome.look_again = max(error.delay, timedelta(seconds=2))
    if error.reason in REFUSALS:
        # Its turn has not come, which is no error of the application.
        outcome.conditions.append((DELAYED, error.message))
        outcome.keep_status = application.sync_status != "Unknown"
        return
    outcome.conditions.append(
        (
            kind,
            f"Failed to load target state: {error.message}"
            if error.reason != "ClusterUnreachable"
            else error.message,
        )
    )
    outcome.keep_status = (
        application.sync_status != "Unknown" and error.reason == "LiveStateUnknown"
    )
    if outcome.keep_status:
        outcome.conditions = []


def _look(application: Application, outcome: Outcome) -> None:
    require_shape(application)
    project = project_of(application.project)
    found = spec_problems(application, project)
    if found:
        outcome.conditions += [("InvalidSpecError", text) for text in found]
        outcome.refusal = "; ".join(spec_refusals(application, project))
        outcome.look_again = (
            settings.POLL_INTERVAL if any("Unable to get cluster" in t for t in found) else None
        )
        return
    cluster = find_cluster(application.spec)
    outcome.conditions += [
        ("UnknownFieldWarning", f"{name} is not known to this hub")
        for name in _unknown(application)
    ]
    hard = application.refresh_kind == "hard"
    force = bool(application.refresh_kind)
    since = (application.refresh_requested_at or timezone.now()) if force else None
    context = sources.context_of(application, project.spec, cluster, no_cache=hard, since=since)
    outcome.desired = _desired(application, context, force=force)
    outcome.look_again = _poll_again(application, outcome.desired)
    _require_live(cluster)
    outcome.digest = _digest(application, project, outcome.desired, cluster)
    # An automated application that is OutOfSync is compared again: what it waits for may be time, not a change.
    settled = application.sync_status == Sync.SYNCED or (
        application.sync_status == Sync.OUT_OF_SYNC and not application.is_automated
    )
    if outcome.digest == application.comparison_digest and not force and settled:
        outcome.compared = None
        return
    ask = Ask.ANEW if hard else Ask.ONCE
    outcome.compared = comparison(application, outcome.desired, cluster, project.spec, ask=ask)
    outcome.look_again = _sooner(outcome.look_again, outcome.compared.look_again)
    _judge(application, project, cluster, outcome)


def _sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((d for d in (one, other) if d is not None), default=None)


def _desired(application: Application, context: sources.Context, *, force: bool) -> sources.Desired:
    """Return what a look finds in the sources.

    A new application may be of a commit that is newer than what is known of its repository: before it is said
    to be wrong, the repository is asked once more.
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


def _unknown(application: Application) -> list[str]:

    return unknown_fields(application.spec)


def _digest(application: Application, project: Project, desired: Desired, cluster: Cluster) -> str:
    policy = [
        application.spec.get("ignoreDifferences"),
        application.sync_policy,
        application.annotations,
        project.generation,
        # Global projects and the clusters of a project change what it permits without a new generation.
        project.spec,
        cluster.name,
        _rules_version(),
    ]
    return digest_of(
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


def _poll_again(application: Application, desired: Desired) -> timedelta | None:
    # Git repositories are polled once for all applications; charts with a moving version and files of servers are
    # looked at one by one.
    is_polled = all(sources.kind_of(s) == "git" for s in application.sources)
    if is_polled and not has_pages(desired.inputs):
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
    from hub.engine.globs import matches

    rules = (project.spec.get("orphanedResources") or {}).get("ignore") or []
    keys = set(application.managed.values_list("key", flat=True))
    scopes, reach = place_of(application, cluster), reach_of(application, cluster, project.spec)
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
        if not reach.refusal(key):
            found.append(row)
    return found


def request_refresh(application: Application, kind: str = "normal") -> None:
    """Ask for a look that resolves revisions anew; `hard` also drops rendered manifests."""
    now = timezone.now()
    Application.objects.filter(pk=application.pk).update(
        refresh_kind=kind, refresh_at=now, refresh_requested_at=now
    )
    wake(TaskName.PROJECTS_REFRESH, application.pk, priority=1)
