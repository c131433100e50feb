"""The hub's copies of Git repositories: where they are, and the bounded way to read an object of one."""

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
_MOST_COMMIT_BYTES = 1024**2
"""Of a commit or tag: a message, a signature, the names of those before it."""
_MOST_TAGS = 10
"""Tags of tags."""
_MOST_WORK = 64
"""How many times the limit of one file all reads together may unpack."""


def is_commit(text: str) -> bool:
    """Return whether a text is a full commit id."""
    return bool(_SHA.match(text))


def folder_of(url: str) -> Path:
    """Return where the copy of a repository is."""
    digest = hashlib.sha256(normal_url(url).encode()).hexdigest()[:24]
    return Path(settings.DATA_DIR) / "git" / digest


@functools.lru_cache(maxsize=64)
def _opened(path: str, thread: int) -> Repo:
    del thread  # dulwich repositories are not shared between threads
    return Repo(path)


def _repo(url: str) -> Repo:
    return _opened(str(folder_of(url)), threading.get_ident())


def close_repositories() -> None:
    """Open the copies anew: their packs have changed."""
    _opened.cache_clear()


def has_commit(url: str, commit: str) -> bool:
    """Return whether the local repository has a commit."""
    if not (folder_of(url) / "HEAD").exists():
        return False
    try:
        return commit.encode() in _repo(url).object_store
    except NotGitRepository:
        # Another process or thread is just making it.
        return False
    except (OSError, ValueError):
        close_repositories()
        return commit.encode() in _repo(url).object_store


class Unreadable(ManifestError):
    """An object that is none."""


class ReadBudget:
    """What the reads of one render, or of one history, may unpack together."""

    def __init__(self, url: str) -> None:
        """Keep whose files are read."""
        self._url, self._used = url, 0

    def spend(self, size: int) -> None:
        """Count bytes that are made.

        Raises: ManifestError when it is too much.
        """
        self._used += size
        most = _MOST_WORK * settings.MAX_FILE_BYTES
        if self._used > most:
            raise ManifestError(
                f"{redact_text(self._url)}: reading these files unpacks more than {shown_size(most)}, "
                f"{_MOST_WORK} times HUB_MAX_FILE_BYTES"
            )


def read_object(url: str, name: str, work: ReadBudget, path: str = "", most: int = 0) -> ShaFile:
    """Return an object of the local repository: the only way to any.

    Units: `most` in bytes, by default the limit of a file.
    Raises: ManifestError when it is larger than the hub reads or damaged, KeyError when it is not there.
    """
    if not is_commit(name):
        raise KeyError(name)
    limit, shown = most or settings.MAX_FILE_BYTES, path or name
    try:
        return _read(url, name, limit, work)
    except git_objects.TooLarge as error:
        raise ManifestError(
            f"{shown} is larger than {shown_size(limit)}, the limit"
            f"{'' if most else ' (HUB_MAX_FILE_BYTES)'}, or made from what is"
        ) from error
    except git_objects.Damaged as error:
        raise Unreadable(f"{redact_text(url)}: {shown} is damaged, or no object of Git") from error


def _read(url: str, name: str, limit: int, work: ReadBudget) -> ShaFile:
    try:
        return git_objects.read(_repo(url), name, limit, work.spend)
    except FileNotFoundError:
        # Another process has just packed the repository anew.
        close_repositories()
        return git_objects.read(_repo(url), name, limit, work.spend)


def read_commit(url: str, commit: str, work: ReadBudget) -> Commit:
    """Return a commit of the local repository, that of a tag for a tag.

    Raises: Stalled when it is none, or cannot be read; KeyError when it is not there.
    """
    name = commit
    for _ in range(_MOST_TAGS):
        try:
            found = read_object(url, name, work, most=_MOST_COMMIT_BYTES)
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
