"""Git: list the refs of servers, and fetch commits into the hub's local repositories."""

import contextlib
import fcntl
import functools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings

from hub.base.metrics import GIT_FAILURES, GIT_REQUESTS
from hub.base.outbound.bounds import shown_size
from hub.base.redaction import redact_text
from hub.engine.errors import RetryLater, Stalled
from hub.engine.project_restrictions import normal_url
from projects.sources import git_transport, process
from projects.sources.app_tokens import with_token
from projects.sources.commit_history import commit_info
from projects.sources.credentials import IDENTITY, OWN_TRANSPORT
from projects.sources.git_trees import GitFiles
from projects.sources.git_urls import check_git_url
from projects.sources.local_repositories import close_repositories, folder_of, has_commit, is_commit

__all__ = [
    "GitFiles",
    "Refs",
    "check_git_url",
    "commit_info",
    "ensure",
    "ensure_history",
    "fetch_refs",
    "has_commit",
    "is_commit",
    "repack",
    "repository_key",
    "url_of_key",
]

_LOCAL_SECONDS = 600.0
_LOCAL_OPTIONS = (
    "-c",
    "protocol.allow=never",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "pack.threads=1",
    "-c",
    "pack.windowMemory=256m",
    "-c",
    "core.bigFileThreshold=32m",
)
"""Repacking handles untrusted content, so large files are stored without delta compression.

Git must not fetch a partial clone's missing objects from an unchecked server.
"""
_MAX_REF_NAME = 1000
_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Refs:
    """The refs of a repository."""

    refs: dict[str, str]
    head: str


def repository_key(url: str, credentials: Mapping[str, Any]) -> str:
    """Return the key under which a server's responses are stored for these credentials.

    If a project uses its own proxy or does not verify the server, responses are stored for that
    project only: others must not read them, and they grant no access to what others fetched.
    """
    way = credentials.get(OWN_TRANSPORT)
    # URLs contain no spaces, so no URL equals a project's key.
    return f"{normal_url(url)} {way}" if way else url


def url_of_key(place: str) -> str:
    """Return the URL of a key; in a project's key, it is normalized."""
    return place.partition(" ")[0]


def _lock(url: str) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(normal_url(url), threading.Lock())


@contextlib.contextmanager
def exclusive(url: str) -> Iterator[Path]:
    """Lock a local repository, across threads and processes, for one fetch at a time."""
    folder = folder_of(url)
    with _lock(url):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".lock"), "w") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (folder / "HEAD").exists():
                run_local("init", "-q", "--bare", "--template=", str(folder))
            yield folder


def run_local(*argv: str) -> str:
    """Run git on a local folder without credentials and return its output.

    Raises: Stalled with git's error.
    """
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": "/nonexistent"}
    env |= {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
    }
    command = git_transport.with_limits(
        ["git", *_LOCAL_OPTIONS, *argv], settings.MAX_REPOSITORY_BYTES
    )
    finished = process.run_own(command, environment=env, timeout=_LOCAL_SECONDS)
    if finished.code:
        raise Stalled("GitFailed", f"git {argv[-1]}: {finished.errors.strip()[-400:]}")
    return finished.output.decode(errors="replace").strip()


@functools.cache
def _require_git() -> None:
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    said = process.run_own(["git", "--version"], environment=env, timeout=_LOCAL_SECONDS)
    git_transport.require_version(said.output.decode(errors="replace"))


_moves: dict[str, tuple[float, str]] = {}
_MOVED_SECONDS = 600.0
_MAX_MOVES = 1000


def _run(url: str, credentials: Mapping[str, Any], argv: list[str], kind: str, maximum: int) -> str:
    """Run git for a repository, with `url` in its arguments replaced if it has moved.

    Units: `maximum` in bytes, the size limit of written files.
    """
    check_git_url(url)
    _require_git()
    place = repository_key(url, credentials)
    until, here = _moves.get(place, (0.0, ""))
    if not here or until < time.monotonic():
        try:
            return _run_at(url, url, credentials, argv, kind, maximum)
        except _Moved:
            here = git_transport.resolve_move(
                _without_password(url), {**_in_url(url), **with_token(url, credentials)}
            )
        if len(_moves) >= _MAX_MOVES:
            _moves.clear()
        _moves[place] = (time.monotonic() + _MOVED_SECONDS, here)
    same = urlsplit(here)[:2] == urlsplit(url)[:2]
    given = {**_in_url(url), **credentials}
    own = given if same else {k: v for k, v in given.items() if k not in IDENTITY}
    try:
        return _run_at(url, here, own, argv, kind, maximum)
    except _Moved as error:
        _moves.pop(place, None)
        raise RetryLater(
            "RepositoryUnreachable",
            f"{redact_text(url)} redirects repeatedly",
            timedelta(seconds=60),
        ) from error


class _Moved(Exception):
    """The server redirects to another URL."""


def _run_at(
    url: str, here: str, credentials: Mapping[str, Any], argv: list[str], kind: str, maximum: int
) -> str:
    way = git_transport.transport_for(here, credentials)
    plain = ["git", *(_without_password(here) if word == url else word for word in argv)]
    own = {**_in_url(here), **with_token(here, credentials)}
    GIT_REQUESTS.labels(kind).inc()
    said = ""
    # ssh accepts only one address: if it is unreachable, try the next one.
    for place in way.places[:3] if way.scheme == "ssh" else ("",):
        with git_transport.environment(way, own, place) as env:
            output, said = _execute(git_transport.with_limits(plain, maximum), env)
        if not said:
            return output
        GIT_FAILURES.labels(kind).inc()
        if not _is_unreachable(said):
            break
    raise _failure(url, said)


def _execute(argv: list[str], env: dict[str, str]) -> tuple[str, str]:
    """Run git; return its output, and its error or an empty string on success."""
    try:
        finished = process.run_own(
            argv, environment=env, timeout=settings.GIT_TIMEOUT.total_seconds()
        )
    except Stalled as error:
        if error.reason == "ToolMissing":
            raise
        return "", str(error)
    output = finished.output.decode(errors="replace")
    if finished.code:
        return output, finished.errors or output or f"git exited with status {finished.code}"
    return output.removesuffix("\n"), ""


def _is_unreachable(text: str) -> bool:
    return any(
        sign in text for sign in ("Connection refused", "timed out", "unreachable", "No route")
    )


def _in_url(url: str) -> dict[str, str]:
    """Return the credentials in a URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return {}
    # A token is often given as the user name, without a password.
    return {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}


def _without_password(url: str) -> str:
    """Return a URL without credentials, safe to pass as an argument."""
    if not _in_url(url):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


_PERMANENT = (
    (
        "could not read Username",
        "AuthenticationRequired",
        "the repository requires credentials, or rejected those provided",
    ),
    ("Authentication failed", "AuthenticationFailed", "the credentials are rejected"),
    ("Permission denied", "AuthenticationFailed", "the credentials are rejected"),
    ("HTTP code = 401", "AuthenticationFailed", "the credentials are rejected"),
    (
        "The requested URL returned error: 401",
        "AuthenticationFailed",
        "the credentials are rejected",
    ),
    (
        "The requested URL returned error: 403",
        "AuthenticationFailed",
        "access is forbidden with these credentials",
    ),
    ("not found", "RepositoryNotFound", "repository not found"),
    ("does not appear to be a git repository", "RepositoryNotFound", "repository not found"),
    (
        "Host key verification failed",
        "HostKeyUnknown",
        "the server's SSH host key is not known; add it to the known hosts",
    ),
)


_REDIRECT = re.compile(r"returned error: 30[12378]\b")
_TOO_LARGE = (
    "signal 25",
    "File size limit exceeded",
    "File too large",
    "out of memory",
    "Out of memory",
)


def _failure(url: str, text: str) -> Exception:
    shown = redact_text(url)
    if _REDIRECT.search(text):
        return _Moved()
    if any(sign in text for sign in _TOO_LARGE):
        return _too_large(url)
    for sign, reason, message in _PERMANENT:
        if sign.lower() in text.lower():
            return RetryLater(reason, f"{shown}: {message}", timedelta(seconds=60))
    lines = [line.strip() for line in redact_text(text).splitlines() if line.strip()]
    detail = next((line for line in lines if "fatal" in line), lines[-1] if lines else "no answer")
    detail = detail.strip("'").removeprefix("stderr: ").strip("' ").removeprefix("fatal: ")
    # Part of the text comes from the server: remove control characters.
    detail = "".join(c if c.isprintable() else " " for c in detail)
    return RetryLater("RepositoryUnreachable", f"{shown}: {detail[:400]}", timedelta(seconds=15))


def fetch_refs(url: str, credentials: Mapping[str, Any]) -> Refs:
    """Return the branches and tags of a repository; annotated tags are dereferenced.

    Raises: RetryLater with the server's error, Invalid for a refused URL.
    """
    output = _run(
        url,
        credentials,
        ["ls-remote", "--symref", "--", url],
        "ls-remote",
        settings.MAX_INDEX_BYTES,
    )
    return _refs_of(output, redact_text(url))


def _refs_of(output: str, shown: str) -> Refs:
    refs: dict[str, str] = {}
    head = ""
    # Not splitlines: ref names may contain other line separators.
    for line in output.split("\n"):
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            head = value[5:] if is_ref_name(value[5:]) else ""
            continue
        plain = name.removesuffix("^{}")
        if not is_commit(value) or not (plain == "HEAD" or is_ref_name(plain)):
            continue
        if plain != name:
            refs[plain] = value
        elif plain == "HEAD" or plain.startswith(("refs/heads/", "refs/tags/")):
            refs.setdefault(plain, value)
        if len(refs) > settings.MAX_REFS:
            raise Stalled(
                "TooManyRefs",
                f"{shown} has more than {settings.MAX_REFS:,} branches and tags, "
                "the limit (HUB_MAX_REFS)",
            )
    return Refs(refs, head)


def is_ref_name(text: str) -> bool:
    """Return whether a text is a valid ref name; servers may send anything.

    Source: git-check-ref-format.
    """
    return (
        text.startswith("refs/")
        and len(text) <= _MAX_REF_NAME
        and all(ord(c) >= 32 and ord(c) != 127 for c in text)
        and not any(c in text for c in " ~^:?*[\\")
        and not any(sign in text for sign in ("..", "@{", "//", "/."))
        and not text.endswith(("/", "."))
        and not any(part.endswith(".lock") for part in text.split("/"))
    )


# Keep fetched packs: when unpacked, a commit would appear before its trees.
KEEP_PACKS = ("-c", "fetch.unpackLimit=1")


def ensure(url: str, commit: str, credentials: Mapping[str, Any]) -> None:
    """Ensure that the local repository has a commit with its files, fetching it if needed.

    Raises: RetryLater or Stalled if the server does not provide it.
    """
    if not is_commit(commit):
        raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit[:80]!r} is not a commit id")
    place = repository_key(url, credentials)
    if has_commit(place, commit):
        return
    with exclusive(place) as folder:
        if has_commit(place, commit):
            return
        base = [
            *KEEP_PACKS,
            "--git-dir",
            str(folder),
            "fetch",
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
        ]
        everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        try:
            fetch_into(folder, url, credentials, [*base, "--depth", "1", "--", url, commit])
        except RetryLater as error:
            if "dumb http" in error.message:
                # This protocol would write single objects to files without a size limit.
                raise RetryLater(
                    "RepositoryUnreachable",
                    f"{redact_text(url)} is served as plain files; "
                    "serve it with git http-backend or ssh",
                    timedelta(seconds=60),
                ) from error
            # Old servers only serve refs, so fetch the whole history; each ref becomes a file.
            fetch_refs(url, credentials)
            fetch_into(folder, url, credentials, [*base, "--", url, *everything])
            require_few_refs(folder, url)
        close_repositories()
        if not has_commit(place, commit):
            raise Stalled("RevisionNotFound", f"{redact_text(url)} has no commit {commit}")


def fetch_into(folder: Path, url: str, credentials: Mapping[str, Any], argv: list[str]) -> None:
    """Fetch into a local repository, up to its size limit.

    Raises: RetryLater or Stalled with the server's error.
    """
    objects = folder / "objects"
    used = sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
    maximum = settings.MAX_REPOSITORY_BYTES - used
    try:
        if maximum <= 0:
            raise _too_large(url)
        _run(url, credentials, argv, "fetch", min(maximum, _free(folder)))
    except (RetryLater, Stalled) as error:
        if any(size + _SLACK > maximum for size in _clear(folder)):
            raise _too_large(url) from error
        raise


def _free(folder: Path) -> int:
    """Return the disk space that fetches may use, in bytes.

    Raises: RetryLater if there is none: a full disk would stop the hub.
    """
    free = shutil.disk_usage(folder).free - settings.KEEP_FREE_BYTES
    if free <= 0:
        raise RetryLater(
            "DiskFull",
            "fetching is paused while less than "
            f"{shown_size(settings.KEEP_FREE_BYTES)} of the hub's disk is free "
            "(HUB_KEEP_FREE_BYTES); remove local copies of unused repositories below `git` in "
            "HUB_DATA_DIR",
            timedelta(minutes=1),
        )
    return free


def _clear(folder: Path) -> list[int]:
    """Remove temporary files of killed processes; return their sizes."""
    packs = folder / "objects" / "pack"
    left = [path for pattern in ("tmp_*", ".tmp-*") for path in packs.glob(pattern)]
    sizes = [path.stat().st_size for path in left]
    for path in left:
        path.unlink(missing_ok=True)
    return sizes


def require_few_refs(folder: Path, url: str) -> None:
    """Check the number of fetched refs, which may exceed the number that the server listed.

    If there are too many, they are removed.

    Raises: Stalled.
    """
    count = sum(1 for path in (folder / "refs").rglob("*") if path.is_file())
    if count > 2 * settings.MAX_REFS:
        shutil.rmtree(folder / "refs")
        (folder / "refs").mkdir()
        raise Stalled(
            "TooManyRefs",
            f"{redact_text(url)} has more than {settings.MAX_REFS:,} branches and tags, "
            "the limit (HUB_MAX_REFS)",
        )


_SLACK = 64 * 1024


def _too_large(url: str) -> Stalled:
    return Stalled(
        "TooLarge",
        f"{redact_text(url)} is larger than the limit (HUB_MAX_REPOSITORY_BYTES)",
    )


def ensure_history(url: str, commit: str, credentials: Mapping[str, Any]) -> None:
    """Ensure that the local repository has a commit with its entire history.

    Raises: RetryLater if the server does not provide it.
    """
    ensure(url, commit, credentials)
    with exclusive(repository_key(url, credentials)) as folder:
        if not (folder / "shallow").exists():
            return
        argv = [
            *KEEP_PACKS,
            "--git-dir",
            str(folder),
            "fetch",
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--unshallow",
        ]
        fetch_into(folder, url, credentials, [*argv, "--", url, commit])
        close_repositories()


MAX_PACKS = 40


def repack(url: str) -> bool:
    """Repack a local repository into one pack if it has many; return whether it was repacked.

    Unreferenced objects are kept, since shallow fetches create no refs.
    """
    folder = folder_of(url)
    packs = list((folder / "objects" / "pack").glob("*.pack"))
    loose = sum(1 for _ in (folder / "objects").glob("[0-9a-f][0-9a-f]/*"))
    if len(packs) < MAX_PACKS and loose < MAX_PACKS * 100:
        return False
    with exclusive(url):
        try:
            run_local("--git-dir", str(folder), "repack", "-a", "-d", "-k", "-q")
        finally:
            _clear(folder)
            close_repositories()
    return True
