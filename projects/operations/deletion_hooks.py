"""Run the PreDelete and PostDelete hooks of an application, wave by wave, and clean them up."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from clusters import live
from clusters.kinds import Refused
from clusters.models import Cluster, LiveResource
from hub.engine import health
from hub.engine.errors import EngineError, Forbidden, RetryLater, Stalled
from hub.engine.health import HOOK_FINALIZER
from hub.engine.hooks import DELETE_PHASES, SyncPhase, delete_policies, hook_phases, is_hook, wave
from hub.engine.plan import generated_name, kind_rank
from hub.engine.project_restrictions import permits_source
from hub.engine.resource import Manifest, ResourceKey, annotations_of, resource_key
from hub.engine.status import Assessment, Health, worst
from hub.engine.sync_options import parse_options, resource_options
from hub.engine.tracking import rename
from projects import sources
from projects.access.own_kinds import Author
from projects.access.reach import Reach, place_of, reach_of
from projects.comparison.compare import prepared
from projects.destinations.destination import Target
from projects.destinations.impersonation import identity_for
from projects.models import Application, Project
from projects.objects.specs import project_of
from projects.operations.applying import OPERATION_ID, marked

log = logging.getLogger(__name__)


class Wait(Exception):
    """The deletion has to wait for something; the message says what for."""


class HookFailed(Stalled):
    """A hook of the deletion failed; it is retried after `delay`."""

    def __init__(self, message: str, delay: timedelta) -> None:
        super().__init__("HookFailed", message)
        self.delay = delay


@dataclass(frozen=True, slots=True)
class _Deletion:
    application: Application
    project: Project
    cluster: Cluster
    phase: SyncPhase
    finalizer: str
    target: Target
    reach: Reach

    @property
    def run(self) -> str:
        """The id of this deletion's hooks, which hooks of a sync do not have."""
        return f"delete-{self.started}"

    @property
    def started(self) -> int:
        moment = self.application.deletion_requested_at
        return int(moment.timestamp()) if moment else 0

    @property
    def remedy(self) -> str:
        return (
            "correct the hook in the source, or remove the finalizer "
            f"{self.finalizer} to delete the application without it"
        )


def run_hooks(
    application: Application, project: Project, cluster: Cluster, phase: SyncPhase, name: str
) -> None:
    """Run the hooks of one phase of a deletion as far as possible now.

    Raises: Wait while one runs, HookFailed if one failed, Stalled if one cannot be run.
    """
    finalizer = f"{name}-finalizer.argocd.argoproj.io"
    if finalizer not in application.finalizers:
        return
    deletion = _deletion(application, project, cluster, phase, finalizer)
    hooks = _manifests(deletion)
    for _, members in groupby(hooks, key=wave):
        busy = [resource_key(m) for m in members if not _is_done(deletion, m)]
        if busy:
            more = f" and {len(busy) - 1} more hooks" if len(busy) > 1 else ""
            raise Wait(f"waiting for {phase} hook {busy[0]}{more}")
    drop(application, finalizer)
    for manifest in hooks:
        _release(deletion, manifest)


def clean_up(
    application: Application, project: Project, cluster: Cluster, phase: SyncPhase, name: str
) -> None:
    """Delete the hooks of one phase whose delete policy says so."""
    finalizer = f"{name}-finalizer.argocd.argoproj.io/cleanup"
    if finalizer not in application.finalizers:
        return
    deletion = _deletion(application, project, cluster, phase, finalizer)
    found = _left_hooks(deletion)
    assessments = [a for a in map(_health, found) if a is not None]
    succeeded = worst(assessments) is Health.HEALTHY
    for current in found:
        deletion.target.drop_hook_finalizer(current)
        policies = delete_policies(current)
        is_due = (
            policies == {"BeforeHookCreation"}
            or ("HookSucceeded" in policies and succeeded)
            or ("HookFailed" in policies and not succeeded)
        )
        if is_due:
            _delete(deletion, current)
    drop(application, finalizer)


def _left_hooks(deletion: _Deletion) -> list[Manifest]:
    """Return the live hooks of a phase: those in Git, and those that this deletion ran.

    After a failure a hook may have run from a newer commit than the one that was compared.
    """
    keys = {resource_key(m): "" for m in _manifests(deletion)}
    rows = LiveResource.objects.filter(
        cluster=deletion.cluster,
        instance=deletion.application.instance,
        is_self=True,
        owner_uid="",
    )
    keys |= {row.resource_key: row.version for row in rows.iterator() if _ran(deletion, row)}
    permitted = [key for key in keys if not deletion.reach.refusal(key)]
    hooks = [deletion.target.get(key, keys[key]) for key in sorted(permitted)]
    return [hook for hook in hooks if hook is not None and not deletion.reach.others(hook)]


def _ran(deletion: _Deletion, row: LiveResource) -> bool:
    manifest = row.manifest
    if manifest is None or annotations_of(manifest).get(OPERATION_ID) != deletion.run:
        return False
    return deletion.phase in hook_phases(manifest)


def release_all(application: Application, cluster: Cluster) -> None:
    """Remove the finalizer from all hooks of an application, as no one will read their results."""
    rows = LiveResource.objects.filter(
        cluster=cluster, instance=application.instance, is_self=True, owner_uid=""
    )
    held = [row for row in rows.iterator() if _is_held(row.manifest)]
    if not held:
        return
    try:
        target = target_of(application, project_of(application.project), cluster)
        for row in held:
            current = target.get(row.resource_key, row.version)
            if current is not None:
                target.drop_hook_finalizer(current)
    except (Refused, RetryLater, Stalled) as error:
        log.warning(
            "hooks keep their finalizer: %s",
            error,
            extra={"application": application.qualified_name},
        )


def _is_held(manifest: Manifest | None) -> bool:
    finalizers = manifest["metadata"].get("finalizers") or [] if manifest else []
    return manifest is not None and HOOK_FINALIZER in finalizers and is_hook(manifest)


def target_of(application: Application, project: Project, cluster: Cluster) -> Target:
    """Return the destination in which an application's resources are deleted."""
    as_user = identity_for(application, project, cluster)
    return Target(cluster, as_user=as_user, author=Author(application, project))


def drop(application: Application, finalizer: str) -> None:
    """Remove one finalizer from an application."""
    application.finalizers = [f for f in application.finalizers if f != finalizer]
    Application.objects.filter(pk=application.pk).bump(finalizers=application.finalizers)


def _deletion(
    application: Application, project: Project, cluster: Cluster, phase: SyncPhase, finalizer: str
) -> _Deletion:
    return _Deletion(
        application,
        project,
        cluster,
        phase,
        finalizer,
        target_of(application, project, cluster),
        reach_of(application, cluster, project.spec),
    )


def _manifests(deletion: _Deletion) -> list[Manifest]:
    """Return the hooks of a phase in the order of execution, with generated names."""
    application, project = deletion.application, deletion.project
    for source in application.sources:
        url = str(source.get("repoURL") or "")
        if not permits_source(project.spec, url):
            # As for a sync: a source that is no longer permitted is not rendered.
            raise Forbidden(
                "SourceNotPermitted",
                f"{deletion.phase} hooks: application repo {url} is not permitted in project "
                f"'{project.name}'; permit it, or remove the finalizer {deletion.finalizer} to "
                "delete the application without them",
            )
    place = place_of(application, deletion.cluster)
    manifests, _warnings = prepared(_desired(deletion).manifests, application, place)
    hooks = [_named(m, deletion) for m in manifests if deletion.phase in hook_phases(m)]
    return sorted(hooks, key=lambda m: (wave(m), kind_rank(m["kind"]), resource_key(m)))


def _desired(deletion: _Deletion) -> sources.Desired:
    """Return the manifests of the last compared revision, or of the newest one after a failure.

    The compared revision is cached, and a failing hook is fixed by a newer commit.
    """
    application = deletion.application
    context = sources.context_of(application, deletion.project.spec, deletion.cluster)
    known = application.revisions
    if known and _last_failure(deletion) is None:
        return sources.load(application.sources, known, context)
    try:
        newest = [sources.resolve(s, application.project, force=True) for s in application.sources]
        return sources.load(application.sources, newest, context)
    except (RetryLater, Stalled, EngineError):
        if not known:
            raise
    return sources.load(application.sources, known, context)


def _named(manifest: Manifest, deletion: _Deletion) -> Manifest:
    if manifest["metadata"].get("name"):
        return manifest
    revisions = deletion.application.revisions
    prefix = manifest["metadata"]["generateName"]
    revision = str(revisions[0]) if revisions else ""
    name = generated_name(prefix, revision, deletion.phase, deletion.started)
    return rename(manifest, name)


def _is_done(deletion: _Deletion, manifest: Manifest) -> bool:
    """Create a hook that does not exist, and return whether it has succeeded."""
    key = resource_key(manifest)
    found = _live_hook(deletion, key)
    if found is not None and annotations_of(found).get(OPERATION_ID) != deletion.run:
        # It ran in a sync or an earlier deletion, which says nothing about this deletion.
        _delete(deletion, found)
        if deletion.target.get(key) is not None:
            return False
        found = None
    if found is None:
        _create(deletion, manifest)
        found = deletion.target.get(key)
    if found is None:
        return False
    assessment = _health(found)
    if assessment is None or assessment.status is Health.HEALTHY:
        return True
    if assessment.status in (Health.DEGRADED, Health.UNKNOWN):
        _delete(deletion, found)
        raise _failure(deletion, key, assessment.message or assessment.status.value)
    return False


def _create(deletion: _Deletion, manifest: Manifest) -> None:
    key = resource_key(manifest)
    mark = None if deletion.target.is_home(key) else HOOK_FINALIZER
    options = parse_options(deletion.application.sync_policy.get("syncOptions") or [])
    try:
        deletion.target.apply(
            marked(manifest, deletion.run, mark),
            resource_options(manifest, options),
            None,
        )
    except Refused as refused:
        raise _failure(deletion, key, refused.message) from refused


def _failure(deletion: _Deletion, key: ResourceKey, reason: str) -> HookFailed:
    """Return the error of a hook, with a retry delay that grows while it keeps failing."""
    begun = _last_failure(deletion)
    age = timezone.now() - begun if begun else timedelta()
    delay = min(max(age, timedelta(seconds=5)), timedelta(minutes=5))
    return HookFailed(
        f"{deletion.phase} hook {key} failed: {reason}; it will be retried, and nothing that it "
        f"guards is deleted before: {deletion.remedy}",
        delay,
    )


def _last_failure(deletion: _Deletion) -> datetime | None:
    """Return since when a hook of the phase fails, None if none does."""
    for condition in deletion.application.conditions:
        if _says_failed(condition, deletion.phase):
            return parse_datetime(condition["lastTransitionTime"])
    return None


def is_failing(application: Application, condition: Mapping[str, Any]) -> bool:
    """Return whether a condition reports a failed hook that the deletion waits for."""
    return any(
        _says_failed(condition, phase)
        for phase, name in DELETE_PHASES.items()
        if f"{name}-finalizer.argocd.argoproj.io" in application.finalizers
    )


def _says_failed(condition: Mapping[str, Any], phase: SyncPhase) -> bool:
    words = str(condition.get("message", ""))
    is_of_hook = words.startswith(f"{phase} hook ") and " failed: " in words
    return condition.get("type") == "DeletionError" and is_of_hook


def _live_hook(deletion: _Deletion, key: ResourceKey) -> Manifest | None:
    """Return the live hook, None if it does not exist.

    Raises: Stalled if the project does not permit it, or another application manages it.
    """
    refusal = deletion.reach.refusal(key)
    if refusal:
        raise Forbidden(
            "HookNotPermitted",
            f"hook {key}: {refusal}; remove it from the source, or have the project permit it",
        )
    found = deletion.target.get(key)
    other = deletion.reach.others(found) if found is not None else ""
    if other:
        raise Forbidden(
            "SharedResource",
            f"hook {key} is part of application {other}: give the hook another name in the source",
        )
    return found


def _release(deletion: _Deletion, manifest: Manifest) -> None:
    current = deletion.target.get(resource_key(manifest))
    if current is not None and annotations_of(current).get(OPERATION_ID) == deletion.run:
        deletion.target.drop_hook_finalizer(current)


def _delete(deletion: _Deletion, current: Manifest) -> None:
    deletion.target.drop_hook_finalizer(current)
    metadata = current["metadata"]
    if not metadata.get("deletionTimestamp"):
        uid = str(metadata.get("uid") or "")
        deletion.target.delete(resource_key(current), "", propagation="Background", uid=uid)


def _health(found: Manifest) -> Assessment | None:
    return health.assess(found, live.health_scripts())
