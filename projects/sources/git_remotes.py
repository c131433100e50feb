"""The last known refs of Git servers, shared by all applications, and who may read them.

A project must not read what only another project's credentials can access: stored refs and commits
are only used with credentials that the server accepted within the last hour.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from hub.engine.errors import Invalid, RetryLater, Stalled
from hub.engine.project_restrictions import normal_url
from hub.engine.retry import Backoff
from hub.events.queue import wake
from hub.events.task_names import TaskName
from projects.models import GitRemote
from projects.sources import git
from projects.sources.app_tokens import TOKEN_UNAVAILABLE
from projects.sources.credentials import configured_for, credentials_for, reader_name

FAILURE_BACKOFF = Backoff(timedelta(seconds=10), 3, timedelta(minutes=10))
PROOF = timedelta(hours=1)
JUST_NOW = timedelta(seconds=3)
"""The maximum age of refs for new applications and sources, so that many share one poll."""
_REFUSED = (
    "AuthenticationRequired",
    "AuthenticationFailed",
    "RepositoryNotFound",
    "InvalidCredentials",
)
_REFUSED_FOR = timedelta(seconds=60)
_MAX_READERS = 50
_ANSWERED = ("refs", "head", "checked_at", "failures", "error", "due_at")
_STORED = (*_ANSWERED, "readers", "moved", "moved_at")
ALL = "*"
"""Stands for all refs in the list of moved refs."""
_MAX_MOVED = 1000
_MEMORY_SECONDS = 300.0
_NAME_SECONDS = 1.0
_MAX_NAMES = 20_000
_recent: dict[tuple[str, str], float] = {}
_names: dict[tuple[str, str], tuple[float, str, str]] = {}


def forget() -> None:
    """Clear all caches."""
    _recent.clear()
    _names.clear()


def remote_of(url: str, project: str) -> GitRemote:
    """Return the row of a Git repository for a project, created if needed."""
    return _row(key_of(url, project))


def resume_polling(found: Sequence[GitRemote]) -> None:
    """Resume polling repositories that an application now uses.

    Repositories that no application uses, such as after a validation or preview, are rarely polled.
    """
    interval = settings.POLL_INTERVAL + settings.POLL_JITTER
    later = GitRemote.objects.filter(pk__in=[r.pk for r in found], error="")
    later.filter(due_at__gt=timezone.now() + interval).update(due_at=timezone.now() + interval)


def _row(key: str) -> GitRemote:
    found = GitRemote.objects.filter(url=key).first()
    if found:
        return found
    try:
        with transaction.atomic():
            return GitRemote.objects.create(url=key)
    except IntegrityError:
        return GitRemote.objects.get(url=key)


def current_refs(
    url: str, project: str, *, force: bool = False, since: datetime | None = None
) -> GitRemote:
    """Return the refs of a repository, polling it if they are stale or access is unproved.

    With `force`, they must be newer than `since`, the time of the request (by default now), so that
    many applications refreshed together share one poll. Without `force`, `since` applies too, but
    a server that failed is not polled before its retry time.
    Raises: RetryLater with the server's error.
    """
    who, key = _reader_and_key(url, project)
    remote = _row(key)
    now = timezone.now()
    oldest = (since or now) if force else _oldest(now, since)
    is_fresh = remote.checked_at is not None and remote.checked_at >= oldest and not remote.error
    if is_fresh and _is_proved(remote, who, now):
        return remote
    if not force:
        _raise_refused(remote, who, now)
        if remote.error and now < remote.due_at and not _is_error_of_other_reader(remote, who):
            raise RetryLater("RepositoryUnreachable", remote.error, remote.due_at - now)
    return poll(remote, url, project)


def _oldest(now: datetime, since: datetime | None) -> datetime:
    polled = now - settings.POLL_INTERVAL * 2
    return max(polled, since) if since else polled


def require_reader(url: str, project: str, credentials: Mapping[str, Any]) -> None:
    """Check that these credentials grant access to the hub's local copy of a repository.

    If the server is temporarily unreachable, credentials that it accepted before remain valid.
    Raises: RetryLater, Stalled or Invalid with the server's error.
    """
    who, key = reader_name(credentials), _key(url, credentials)
    place = (key, who)
    if _recent.get(place, 0.0) > time.monotonic():
        return
    remote, now = _row(key), timezone.now()
    if not _is_proved(remote, who, now):
        _raise_refused(remote, who, now)
        try:
            poll(remote, url, project)
        except RetryLater as error:
            if error.reason in _REFUSED or not (remote.readers.get(who) or {}).get("at"):
                raise
    _recent[place] = time.monotonic() + _MEMORY_SECONDS


def poll(remote: GitRemote, url: str, project: str) -> GitRemote:
    """Fetch the refs from the server, and store the result or the error."""
    now = timezone.now()
    credentials = credentials_for(url, project)
    who = reader_name(credentials)
    if _key(url, credentials) != remote.url:
        raise RetryLater(
            "CredentialsChanged",
            "the project's credentials for this repository have changed",
            timedelta(seconds=1),
        )
    try:
        found = git.fetch_refs(url, credentials)
    except (RetryLater, Stalled, Invalid) as error:
        _failed(remote, who, error, now)
        raise
    with transaction.atomic():
        _store(remote, found, who, now)
    return remote


def _store(remote: GitRemote, found: git.Refs, who: str, asked_at: datetime) -> None:
    """Store the refs of a server, and enqueue the refresh of their readers if they changed.

    All changes go through here. Moved refs are stored until all readers are enqueued, so that no
    commit is lost if a worker dies in between.
    """
    known = GitRemote.objects.select_for_update().get(pk=remote.pk)
    remote.refs, remote.head, remote.checked_at = found.refs, found.head, asked_at
    if known.checked_at and known.checked_at > asked_at:
        # A later poll finished first: keep its result.
        remote.refs, remote.head, remote.checked_at = known.refs, known.head, known.checked_at
    moved = _moved(known, remote)
    if moved or known.error:
        names = {*(known.moved or ()), *moved}
        # Above a limit, all refs count as moved, to keep the row small.
        remote.moved = sorted(names) if len(names) <= _MAX_MOVED else [ALL]
        remote.moved_at = timezone.now()
        wake(TaskName.PROJECTS_REFS_MOVED, remote.pk, priority=1)
    else:
        remote.moved, remote.moved_at = known.moved, known.moved_at
    remote.failures, remote.error = 0, ""
    remote.due_at = asked_at + settings.POLL_INTERVAL
    remote.readers = _newest({**known.readers, who: {"at": asked_at.isoformat()}})
    remote.save(update_fields=_STORED)


def _moved(before: GitRemote, after: GitRemote) -> set[str]:
    """Return the refs that changed or were deleted."""
    names = before.refs.keys() | after.refs.keys()
    moved = {name for name in names if before.refs.get(name) != after.refs.get(name)}
    return moved | {"HEAD"} if before.head != after.head else moved


def polling_project(remote: GitRemote, url: str, projects: Sequence[str]) -> str:
    """Return the project whose credentials are used for polling.

    Prefers credentials that the server accepted, then those that it has not rejected.
    """
    now = timezone.now()
    if len(projects) == 1:
        return projects[0]
    names = {p: _reader_and_key(url, p)[0] for p in projects}
    known = (p for p in projects if _is_proved(remote, names[p], now))
    fresh = (p for p in projects if not (remote.readers.get(names[p]) or {}).get("error"))
    return next(known, None) or next(fresh, projects[0])


def _failed(remote: GitRemote, who: str, error: Exception, now: datetime) -> None:
    """Store why a poll failed: for all readers, or for these credentials only."""
    # Another project may have been accepted in the meantime.
    remote.refresh_from_db(fields=["readers"])
    reason = getattr(error, "reason", "")
    refused = reason in _REFUSED
    is_own = refused or reason == TOKEN_UNAVAILABLE or not _is_proved(remote, who, now)
    if is_own and any(w != who and _is_proved(remote, w, now) for w in remote.readers):
        # The server works for others, so neither their refs nor their next poll are affected.
        until, columns = now + _REFUSED_FOR, ["readers"]
    else:
        remote.failures += 1
        remote.error = str(error)
        until = remote.due_at = now + FAILURE_BACKOFF.delay(min(remote.failures, 5))
        columns = ["failures", "error", "due_at", "readers"]
    if refused:
        entry = {"error": str(error), "until": until.isoformat()}
        remote.readers = _newest({**remote.readers, who: entry})
    remote.save(update_fields=columns)


def _is_error_of_other_reader(remote: GitRemote, who: str) -> bool:
    """Return whether the stored error is a rejection of other credentials."""
    return any(w != who and e.get("error") == remote.error for w, e in remote.readers.items())


def retry_with_changed_credentials(urls: QuerySet[GitRemote]) -> None:
    """Poll repositories whose credentials changed, since the new ones may be accepted."""
    _names.clear()
    for remote in urls:
        kept = {who: entry for who, entry in remote.readers.items() if entry.get("at")}
        GitRemote.objects.filter(pk=remote.pk).update(due_at=timezone.now(), error="", readers=kept)


def _reader_and_key(url: str, project: str) -> tuple[str, str]:
    """Return the opaque name of a project's credentials, and the key of their row.

    They are cached briefly, since a commit triggers hundreds of lookups. A stale name is harmless:
    it is not in the row, so the server is polled with the current credentials.
    """
    place, now = (url, project), time.monotonic()
    until, name, key = _names.get(place, (0.0, "", ""))
    if until < now:
        credentials = configured_for(url, project)
        name, key = reader_name(credentials), _key(url, credentials)
        if len(_names) >= _MAX_NAMES:
            _names.clear()
        _names[place] = (now + _NAME_SECONDS, name, key)
    return name, key


def key_of(url: str, project: str) -> str:
    """Return the key of the row with a server's refs for a project."""
    return _reader_and_key(url, project)[1]


def _key(url: str, credentials: Mapping[str, Any]) -> str:
    return normal_url(git.repository_key(url, credentials))


def _is_proved(remote: GitRemote, who: str, now: datetime) -> bool:
    at = str((remote.readers.get(who) or {}).get("at") or "")
    return bool(at) and datetime.fromisoformat(at) > now - PROOF


def _raise_refused(remote: GitRemote, who: str, now: datetime) -> None:
    entry = remote.readers.get(who) or {}
    if entry.get("error"):
        wait = datetime.fromisoformat(entry["until"]) - now
        if wait > timedelta(0):
            raise RetryLater("AuthenticationFailed", entry["error"], wait)


def _newest(readers: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    ordered = sorted(readers.items(), key=lambda entry: entry[1].get("at") or entry[1]["until"])
    return dict(ordered[-_MAX_READERS:])
