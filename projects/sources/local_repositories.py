"""The hub's local copies of Git repositories, and size-limited reads of their objects."""

import functools
import hashlib
import re
import threading
from pathlib import Path

from django.conf import settings
from dulwich.errors import NotGitRepository
from dulwich.objects import Commit, ShaFile, Tag
from dulwich.repo import Repo

from hub.base.outbound.bounds import shown_size
from hub.base.redaction import redact_text
from hub.engine.errors import ManifestError, Stalled
from hub.engine.project_restrictions import normal_url
from projects.sources import git_objects

_SHA = re.compile(r"[0-9a-f]{40}\Z")
_MAX_COMMIT_BYTES = 1024**2
"""The size limit of a commit or tag, including its message, signature and parents."""
_MAX_TAGS = 10
"""The limit on nested tags."""
_MAX_WORK = 64
"""The limit on all reads together, as a multiple of the size limit of a file."""


def is_commit(text: str) -> bool:
    """Return whether a text is a full commit id."""
    return bool(_SHA.match(text))


def folder_of(url: str) -> Path:
    """Return the folder of the local copy of a repository."""
    digest = hashlib.sha256(normal_url(url).encode()).hexdigest()[:24]
    return Path(settings.DATA_DIR) / "git" / digest


@functools.lru_cache(maxsize=64)
def _opened(path: str, thread: int) -> Repo:
    del thread  # dulwich repositories are not shared between threads
    return Repo(path)


def _repo(url: str) -> Repo:
    return _opened(str(folder_of(url)), threading.get_ident())


def close_repositories() -> None:
    """Close all repositories, because their packs have changed."""
    _opened.cache_clear()


def has_commit(url: str, commit: str) -> bool:
    """Return whether the local repository has a commit."""
    if not (folder_of(url) / "HEAD").exists():
        return False
    try:
        return commit.encode() in _repo(url).object_store
    except NotGitRepository:
        # Another process or thread is still creating it.
        return False
    except (OSError, ValueError):
        close_repositories()
        return commit.encode() in _repo(url).object_store


class Unreadable(ManifestError):
    """An invalid object."""


class ReadBudget:
    """The budget of unpacked bytes for one render or one history."""

    def __init__(self, url: str) -> None:
        """Start with the full budget; `url` is for error messages."""
        self._url, self._used = url, 0

    def spend(self, size: int) -> None:
        """Count unpacked bytes.

        Raises: ManifestError if the limit is exceeded.
        """
        self._used += size
        maximum = _MAX_WORK * settings.MAX_FILE_BYTES
        if self._used > maximum:
            raise ManifestError(
                f"{redact_text(self._url)}: reading these files unpacks more than "
                f"{shown_size(maximum)}, "
                f"{_MAX_WORK} times HUB_MAX_FILE_BYTES"
            )


def read_object(url: str, name: str, work: ReadBudget, path: str = "", maximum: int = 0) -> ShaFile:
    """Return an object of the local repository; all reads use this function.

    Units: `maximum` in bytes, by default the size limit of a file.
    Raises: ManifestError if it is too large or damaged, KeyError if it does not exist.
    """
    if not is_commit(name):
        raise KeyError(name)
    limit, shown = maximum or settings.MAX_FILE_BYTES, path or name
    try:
        return _read(url, name, limit, work)
    except git_objects.TooLarge as error:
        raise ManifestError(
            f"{shown} is larger than {shown_size(limit)}, the limit"
            f"{'' if maximum else ' (HUB_MAX_FILE_BYTES)'}, or based on an object that is"
        ) from error
    except git_objects.Damaged as error:
        raise Unreadable(f"{redact_text(url)}: {shown} is damaged, or not a Git object") from error


def _read(url: str, name: str, limit: int, work: ReadBudget) -> ShaFile:
    try:
        return git_objects.read(_repo(url), name, limit, work.spend)
    except FileNotFoundError:
        # Another process has just repacked the repository.
        close_repositories()
        return git_objects.read(_repo(url), name, limit, work.spend)


def read_commit(url: str, commit: str, work: ReadBudget) -> Commit:
    """Return a commit of the local repository, dereferencing tags.

    Raises: Stalled if it is not a commit or unreadable, KeyError if it does not exist.
    """
    name = commit
    for _ in range(_MAX_TAGS):
        try:
            found = read_object(url, name, work, maximum=_MAX_COMMIT_BYTES)
        except Unreadable as error:
            raise Stalled(
                "CommitUnreadable",
                f"{redact_text(url)}: commit {name} has no readable author or date, or is damaged",
            ) from error
        except ManifestError as error:
            raise Stalled("CommitUnreadable", f"{redact_text(url)}: commit {error}") from error
        if isinstance(found, Commit):
            return found
        if not isinstance(found, Tag):
            break
        name = found.object[1].decode()
    raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
