"""Refresh applications when live resources, clusters or repositories change.

Other causes of a refresh: charts and artifacts of registries (`artifact_triggers`), a request
(`refresh.request_refresh`), and the due time of each application (`projects.tasks`).
"""

import logging
import random
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from clusters.live import shown_by
from clusters.models import Cluster, LiveChange, LiveResource
from hub.base.claims import claim
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.project_restrictions import folded_url, normal_url
from hub.engine.repository_identity import repository_identity
from hub.events.changes import publish
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects import sources
from projects.models import (
    ERRORS,
    Application,
    GitRemote,
    ManagedResource,
    Operation,
    Project,
    RenderFailure,
    instance_filter,
)
from projects.objects.specs import bind, bind_remotes, repositories_read
from projects.refreshing.status import RUNNING
from projects.sources import git_remotes
from projects.sources.constraints import parse_version, satisfies
from projects.sources.files import CLUSTER
from projects.sources.git import is_commit, url_of_key
from projects.sources.helm import capabilities_digest
from projects.sources.remote_inputs import GIT, PAGE, repositories_of
from projects.sources.versions import is_constraint

log = logging.getLogger(__name__)

UNPROVED_PRIORITY = 7
"""The priority of unauthenticated requests: lower than all of the hub's own work."""
_Name = TypeVar("_Name", str, int)
_MOVE_SECONDS = 10.0
"""The time limit for moving applications without a refresh; the remaining ones are refreshed."""


def live_changed() -> None:
    """Refresh the applications and operations whose live resources changed."""
    changes = list(LiveChange.objects.order_by("pk")[:200])
    if not changes:
        return
    with transaction.atomic():
        found, touched = set[int](), set[int]()
        for cluster_id in {change.cluster_id for change in changes}:
            of_it = [change for change in changes if change.cluster_id == cluster_id]
            found |= _concerned(cluster_id, of_it)
            touched |= _showing(cluster_id, of_it)
        _mark_changed(found, touched)
        LiveChange.objects.filter(pk__in=[c.pk for c in changes]).delete()
        _wake_operations(Q(application__pk__one_of=found))
        publish()
    if len(changes) == 200:
        wake(TaskName.PROJECTS_LIVE_CHANGED)


def _concerned(cluster_id: int, changes: Iterable[LiveChange]) -> set[int]:
    """Return the applications whose comparison reads a resource that changed."""
    instances, keys = set[str](), set[str]()
    for change in changes:
        instances |= set(change.instances)
        keys |= set(change.keys)
    found = set[int]()
    for chunk in _chunks(sorted(instances)):
        found |= set(_of_instances(cluster_id, chunk))
    for chunk in _chunks(sorted(keys)):
        found |= set(_managing(cluster_id, chunk))
    return found


def _wake_operations(which: Q) -> None:
    running = Operation.objects.filter(which, phase__in=RUNNING)
    for pk in running.values_list("pk", flat=True):
        Operation.objects.filter(pk=pk).update(due_at=timezone.now())
        wake(TaskName.PROJECTS_SYNC, pk, priority=2)


def _showing(cluster_id: int, changes: Iterable[LiveChange]) -> set[int]:
    """Return the applications whose resource tree contains a changed resource, found by owners."""
    found, known, level = set[int](), set[str](), set[str]()
    for change in changes:
        level |= set(change.seen or ())
    while level:
        known |= level
        above, instances = set[str](), set[str]()
        for chunk in _chunks(sorted(level)):
            found |= set(_managing(cluster_id, chunk))
            rows = LiveResource.objects.filter(cluster_id=cluster_id, key__in=chunk)
            marked = rows.filter(~Q(owners=[]) | Q(is_self=True))
            for key, owners, is_self, instance in marked.values_list(
                "key", "owners", "is_self", "instance"
            ):
                above |= shown_by(key, owners)
                instances |= {instance} if is_self else set()
        for chunk in _chunks(sorted(instances - {""})):
            found |= set(_of_instances(cluster_id, chunk))
        level = above - known
    return found


def _managing(cluster_id: int, keys: Sequence[str]) -> Iterable[int]:
    managed = ManagedResource.objects.filter(cluster_id=cluster_id, key__in=keys)
    return managed.values_list("application_id", flat=True)


def _of_instances(cluster_id: int, instances: Sequence[str]) -> Iterable[int]:
    rows = Application.objects.filter(instance_filter(instances), cluster_id=cluster_id)
    return rows.values_list("pk", flat=True)


def _mark_changed(found: set[int], touched: set[int]) -> None:
    """Make `found` due, and publish a new version of `touched`, whose resource trees changed.

    Trees contain resources that are not compared, such as pods.
    """
    for chunk in _chunks(sorted(found & touched)):
        Application.objects.filter(pk__in=chunk).bump(refresh_at=timezone.now())
    for chunk in _chunks(sorted(touched - found)):
        Application.objects.filter(pk__in=chunk).bump()
    for pk in found & touched:
        wake(TaskName.PROJECTS_REFRESH, pk)
    mark_refresh_due(found - touched)


def _chunks(names: Sequence[_Name]) -> Iterable[Sequence[_Name]]:
    for start in range(0, len(names), 500):
        yield names[start : start + 500]


def mark_refresh_due(pks: Any) -> None:
    """Make applications due for a refresh, and enqueue them."""
    now = timezone.now()
    ids = list(pks)
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        with transaction.atomic():
            Application.objects.filter(pk__in=chunk).locked().update(refresh_at=now)
    for pk in ids:
        wake(TaskName.PROJECTS_REFRESH, pk)


def cluster_changed(cluster_id: int) -> None:
    """Refresh every application of a cluster whose connection changed."""
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    if cluster is None:
        return
    mark_refresh_due(cluster.applications.values_list("pk", flat=True))
    _wake_operations(Q(application__cluster=cluster))


def capabilities_changed(cluster_id: int) -> None:
    """Refresh the applications of a cluster that failed or used its previous API versions."""
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    if cluster is None:
        return
    digest = capabilities_digest(*sources.versions_of(cluster))
    found = [
        application.pk
        for application in cluster.applications.only("pk", "inputs", "conditions").iterator()
        if any(entry[1] == CLUSTER and entry[3] != digest for entry in application.inputs)
        or any(condition["type"] in ERRORS for condition in application.conditions)
    ]
    mark_refresh_due(found)


def bind_waiting(cluster: Cluster) -> None:
    """Bind the applications that referred to a cluster before it was registered."""
    for application in Application.objects.filter(cluster__isnull=True):
        bind(application)
        if application.cluster_id == cluster.pk:
            Application.objects.filter(pk=application.pk).update(
                cluster=cluster, refresh_at=timezone.now()
            )
            wake(TaskName.PROJECTS_REFRESH, application.pk)


def poll_remote(pk: int) -> None:
    """Poll a repository if it is due, and refresh the applications that read its refs."""
    with claim(GitRemote, pk, when=Q(due_at__lte=timezone.now())) as is_claimed:
        if not is_claimed:
            return
        remote = GitRemote.objects.get(pk=pk)
        url = _url_of(remote)
        projects = _projects_of(remote, url) if url else []
        if not projects:
            GitRemote.objects.filter(pk=pk).update(due_at=timezone.now() + timedelta(hours=1))
            return
        try:
            git_remotes.poll(remote, url, git_remotes.polling_project(remote, url, projects))
        except (RetryLater, Stalled, Invalid) as error:
            log.info("repository not polled: %s", error, extra={"repository": remote.url})
            now = timezone.now()
            later = now + git_remotes.FAILURE_BACKOFF.delay(0)
            GitRemote.objects.filter(pk=pk, due_at__lte=now).update(due_at=later)
            return
        jitter = settings.POLL_JITTER * random.random()
        GitRemote.objects.filter(pk=pk).update(
            due_at=timezone.now() + settings.POLL_INTERVAL + jitter
        )
        _propagate(pk)
    _enqueue_if_due(pk)


def propagate_moves(pk: int) -> None:
    """Refresh the readers of a repository's moved refs, whichever request detected the move."""
    with claim(GitRemote, pk, when=Q(moved_at__isnull=False)) as is_claimed:
        if not is_claimed:
            return
        _propagate(pk)
    _enqueue_if_due(pk)


def _propagate(pk: int) -> None:
    remote = GitRemote.objects.filter(pk=pk, moved_at__isnull=False).first()
    if remote is None:
        return
    advance(remote)
    _poll_other_urls(remote)
    wake(TaskName.APPSETS_REFS_MOVED, bare_url(remote.url), tuple(remote.moved or ()), priority=2)
    GitRemote.objects.filter(pk=pk, moved_at=remote.moved_at).update(moved=[], moved_at=None)


def _enqueue_if_due(pk: int) -> None:
    """Enqueue work that became due while the row was claimed, without waiting for the sweep."""
    remote = GitRemote.objects.filter(pk=pk).only("due_at", "moved_at").first()
    if remote and remote.moved_at:
        wake(TaskName.PROJECTS_REFS_MOVED, pk, priority=1)
    elif remote and remote.due_at <= timezone.now():
        wake(TaskName.PROJECTS_POLL, pk, priority=1)


def _poll_other_urls(remote: GitRemote) -> None:
    """Poll the other URLs of the same repository whose stored refs are older."""
    place = bare_url(remote.url)
    for other in GitRemote.objects.exclude(pk=remote.pk).filter(url__icontains=place):
        names = remote.refs if git_remotes.ALL in (remote.moved or ()) else remote.moved or ()
        is_older = any(other.refs.get(n) != remote.refs.get(n) for n in names)
        if is_older and bare_url(other.url) == place:
            GitRemote.objects.filter(pk=other.pk).update(due_at=timezone.now())
            wake(TaskName.PROJECTS_POLL, other.pk, priority=1)


def bare_url(url: str) -> str:
    """Return a repository's URL without its scheme and user: the same for all protocols."""
    # Some hosts are case-sensitive, others are not; an unnecessary poll does no harm.
    return re.sub(r"^[a-z+]+://([^@/]*@)?", "", folded_url(url_of_key(url)))


def reads_moved(target: str, names: Collection[str], prefix: str = "") -> bool:
    """Return whether a target revision may resolve to another commit now that refs moved.

    Shapes: `names` are full ref names, or `*` if any ref may have moved.
    """
    if is_commit(target):
        return False
    if git_remotes.ALL in names or "{{" in target:
        return True
    if target in ("", "HEAD"):
        return "HEAD" in names
    if is_constraint(target) and any(n.startswith("refs/tags/") for n in names):
        return True
    spelled = {target, f"refs/heads/{target}", f"refs/tags/{prefix}{target}"}
    return bool(spelled & set(names)) or re.fullmatch(r"[0-9a-f]{7,39}", target) is not None


def _projects_of(remote: GitRemote, url: str) -> list[str]:
    """Return the projects that read this row; bind the applications of others to their own row."""
    projects = sorted(set(remote.applications.values_list("project", flat=True)))
    here = [p for p in projects if git_remotes.key_of(url, p) == remote.url]
    for application in remote.applications.exclude(project__in=here):
        bind_remotes(application)
    return here


def _url_of(remote: GitRemote) -> str:
    """Return the repository's URL as an application spells it, empty if no application reads it."""
    wanted = url_of_key(remote.url)
    applications = remote.applications.order_by("pk").only("spec", "inputs")
    urls = (url for a in applications.iterator() for url in repositories_read(a))
    other = ""
    for url in urls:
        if normal_url(url) == wanted:
            return url
        # A row from before URLs were case-sensitive: its readers are bound to another row.
        other = url if folded_url(url) == wanted else other
    return other


def advance(remote: GitRemote) -> None:
    """Move applications to the new revisions of a repository.

    Applications whose input files are unchanged move immediately; the others are refreshed.
    """
    changed, same = [], []
    projects = {p.name: p for p in Project.objects.all()}
    now = timezone.now()
    # Applications that are due but not yet claimed will read the new refs anyway.
    waiting = Q(refresh_at__lte=now) & (Q(claimed_until__isnull=True) | Q(claimed_until__lt=now))
    applications = (
        remote.applications.filter(deletion_requested_at__isnull=True)
        .exclude(waiting)
        .select_related("cluster")
        .defer("resources", "summary")
    )
    until = time.monotonic() + _MOVE_SECONDS
    for application in applications.iterator(chunk_size=200):
        project = projects.get(application.project)
        is_quick = time.monotonic() < until and _reads_only(application, remote)
        found = _moved(application, project) if project and is_quick else None
        if found is None:
            changed.append(application.pk)
        elif found != application.revisions:
            same.append((application.pk, found))
        elif any(c["type"] == "ComparisonError" for c in application.conditions):
            changed.append(application.pk)
    with transaction.atomic():
        mark_refresh_due(changed)
    _move(same)


def _reads_only(application: Application, remote: GitRemote) -> bool:
    """Return whether all inputs of an application come from this repository.

    Other servers are read by the application's own refresh, since a slow one must not delay the
    commit for the other readers of the repository.
    """
    here = normal_url(url_of_key(remote.url))
    is_remote = any(str(entry[1]).startswith((GIT, PAGE)) for entry in application.inputs)
    return not is_remote and all(
        sources.kind_of(s) == "git" and normal_url(str(s.get("repoURL") or "")) == here
        for s in application.sources
    )


def _moved(application: Application, project: Project) -> list[str] | None:
    """Return the new revisions if the manifests are the same, None if they may differ."""
    is_complete = len(application.revisions) == len(application.sources)
    if not application.revisions or application.refresh_kind or not is_complete:
        return None
    try:
        revisions = [sources.resolve(s, application.project) for s in application.sources]
        if revisions == application.revisions and not repositories_of(application.inputs):
            return revisions
        context = sources.context_of(application, project.spec, application.cluster)
        if any(c["type"] in ERRORS for c in application.conditions):
            return None
        is_same = sources.unchanged(
            application.inputs, application.sources, application.revisions, revisions, context
        )
    except (RetryLater, Stalled, Invalid, EngineError, KeyError, ValueError):
        return None
    return revisions if is_same else None


def _move(moves: Sequence[tuple[int, list[str]]]) -> None:
    by_revisions: dict[tuple[str, ...], list[int]] = {}
    for pk, revisions in moves:
        by_revisions.setdefault(tuple(revisions), []).append(pk)
    now = timezone.now()
    for moved, pks in by_revisions.items():
        for chunk in _chunks(pks):
            rows = Application.objects.filter(pk__in=chunk)
            with transaction.atomic():
                rows.bump(revisions=list(moved), reconciled_at=now, compared_at=now)
                publish()
                owners = rows.exclude(owner="").values_list("namespace", "owner")
                for namespace, owner in set(owners):
                    wake(TaskName.APPSETS_CHILD_MOVED, namespace, owner, priority=4)


def push_received(
    urls: Iterable[str], moved: Sequence[tuple[str, str]], *, is_proved: bool = True
) -> int:
    """Poll the repositories named by a push event; return their number.

    Shapes: `urls` are web and clone URLs; `moved` are refs with their new commits. A repository
        that already has all of them is not polled. For an unsigned event, neither is one whose
        last poll failed, until its retry time.
    """
    wanted = {repository_identity(url) for url in urls if url}
    priority = (2, 1) if is_proved else (UNPROVED_PRIORITY, UNPROVED_PRIORITY)
    wake(TaskName.APPSETS_PUSHED, tuple(sorted(wanted)), priority=priority[0])
    known = GitRemote.objects.values_list("pk", "url")
    found = [pk for pk, url in known if repository_identity(url_of_key(url)) in wanted]
    now = timezone.now()
    for remote in GitRemote.objects.filter(pk__in=found):
        if all(is_commit(commit) and commit == remote.refs.get(ref) for ref, commit in moved):
            continue
        if not is_proved and remote.error and remote.due_at > now:
            continue
        GitRemote.objects.filter(pk=remote.pk).update(due_at=now)
        wake(TaskName.PROJECTS_POLL, remote.pk, priority=priority[1])
    return len(found)


def hosts_changed(hosts: Iterable[str]) -> None:
    """Refresh applications from hosts whose known SSH keys or TLS certificates changed."""
    wanted = {h.lower() for h in hosts}
    RenderFailure.objects.all().delete()
    for remote in GitRemote.objects.all():
        if wanted & _hosts_of(remote.url):
            GitRemote.objects.filter(pk=remote.pk).update(due_at=timezone.now(), error="")
            mark_refresh_due(remote.applications.values_list("pk", flat=True))


def _hosts_of(url: str) -> set[str]:
    """Return the host of a URL without and with its port, an empty set for an invalid URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    return {parts.hostname or "", parts.netloc.rpartition("@")[2]} - {""}


def registry_pushed(place: str, tag: str) -> int:
    """Refresh the applications that may use a pushed tag of a chart; return their number.

    Shapes: `place` is `host/path` in lower case.
    """
    wake(TaskName.APPSETS_PUBLISHED, (place, tag), priority=2)
    name = place.rpartition("/")[2]
    rows = Application.objects.alias(spec_text=Cast("spec", TextField()))
    candidates = rows.filter(spec_text__icontains=name)
    found = [a.pk for a in candidates if any(wants_tag(s, place, tag) for s in a.sources)]
    if found:
        now = timezone.now()
        Application.objects.filter(pk__in=found, refresh_kind="").update(
            refresh_kind="normal", refresh_requested_at=now
        )
        mark_refresh_due(found)
    return len(found)


def wants_tag(source: Mapping[str, Any], place: str, tag: str) -> bool:
    """Return whether a pushed tag may change the chart or artifact that a source refers to."""
    url = str(source.get("repoURL") or "").lower().removeprefix("oci://").rstrip("/")
    chart = str(source.get("chart") or "").lower()
    if sources.kind_of(source) == "git" or (f"{url}/{chart}" if chart else url) != place:
        return False
    wanted = str(source.get("targetRevision") or "")
    if not is_constraint(wanted):
        return wanted in ("", tag)
    version = parse_version(tag.replace("_", "+"))
    return version is not None and satisfies(version, wanted)
