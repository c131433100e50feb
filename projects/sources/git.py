"""Git: ask servers for refs, fetch commits, read trees and blobs in process."""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from dulwich.errors import NotGitRepository, ObjectFormatException
from dulwich.objects import Commit, Tag, Tree
from dulwich.repo import Repo

from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from hub.engine.permits import normal_url
from hub.metrics import GIT_FAILURES, GIT_REQUESTS
from hub.outbound.bounds import shown_size
from hub.redaction import redact_text, redact_url
from projects.sources import process, ways
from projects.sources.app_tokens import with_token
from projects.sources.credentials import IDENTITY, OWN_WAY
from projects.sources.sizes import TooLarge, require_size

_SCP = re.compile(r"^(?:[\w.-]+@)?[\w.-]+:(?!//)[^\s]+\Z")
_SHA = re.compile(r"^[0-9a-f]{40}\Z")
_LFS = b"version https://git-lfs.github.com/spec/"
_LOCAL_SECONDS = 600.0
_READ = (".yaml", ".yml", ".json", ".jsonnet", ".libsonnet", ".tpl")
_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


def check_git_url(url: str, field: str = "repoURL") -> None:
    """Return if a Git URL is one that the hub reads.

    Raises: Invalid naming the field: other schemes, options in disguise, local paths outside the allowed folder.
    """
    if (
        not url
        or url.startswith("-")
        or any(c.isspace() or ord(c) < 32 for c in url)
        or "::" in url.split("/", maxsplit=1)[0]
    ):
        raise Invalid(f"{field}: {redact_text(url)!r} is not a repository URL")
    if "://" not in url:
        if not _SCP.match(url):
            raise Invalid(
                f"{field}: {url!r} is not a repository URL; write https://… or git@host:path"
            )
        return
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise Invalid(f"{field}: {redact_url(url)!r} is not a repository URL") from error
    if parts.scheme == "file":
        root = settings.LOCAL_REPOSITORIES
        inside = root and Path(parts.path).resolve().is_relative_to(Path(root).resolve())
        if not inside:
            raise Invalid(
                f"{field}: repositories on this machine are not read; serve it over https or ssh"
            )
        return
    if parts.scheme not in ("https", "http", "ssh"):
        raise Invalid(f"{field}: {parts.scheme}:// is not read; use https:// or ssh://")
    if not parts.hostname or parts.hostname.startswith("-"):
        raise Invalid(f"{field}: {redact_text(url)!r} has no host")


@dataclass(frozen=True, slots=True)
class Refs:
    """The refs of a repository."""

    refs: dict[str, str]
    head: str


def place_of(url: str, credentials: Mapping[str, Any]) -> str:
    """Return the name under which what a server says is kept for those who ask with these credentials.

    Where a project's own proxy answers, or nobody proves who does, the answer is kept for that project
    alone: it is neither what others read, nor a reason to give out what they have read.
    """
    way = credentials.get(OWN_WAY)
    # No URL holds a space, so nobody writes one that names another's place.
    return f"{normal_url(url)} {way}" if way else url


def url_of(place: str) -> str:
    """Return the URL of a place, in its normal form where that is one of a project's own."""
    return place.partition(" ")[0]


def _folder(url: str) -> Path:
    digest = hashlib.sha256(normal_url(url).encode()).hexdigest()[:24]
    return Path(settings.DATA_DIR) / "git" / digest


def _lock(url: str) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(normal_url(url), threading.Lock())


@contextlib.contextmanager
def _exclusive(url: str) -> Iterator[Path]:
    # One fetch per repository at a time, in this process and in the others.
    folder = _folder(url)
    with _lock(url):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".lock"), "w") as file:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (folder / "HEAD").exists():
                _local("init", "-q", "--bare", str(folder))
            yield folder


def _local(*argv: str) -> None:
    """Run git on a folder of the hub, with nobody's credentials."""
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": "/nonexistent"}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    finished = process.run_own(["git", *argv], environment=env, timeout=_LOCAL_SECONDS)
    if finished.code:
        raise Stalled("GitFailed", f"git {argv[-1]}: {finished.errors.strip()[-400:]}")


@functools.cache
def _require_git() -> None:
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    said = process.run_own(["git", "--version"], environment=env, timeout=_LOCAL_SECONDS)
    ways.require_version(said.output.decode(errors="replace"))


_moves: dict[str, tuple[float, str]] = {}
_MOVED_SECONDS = 600.0
_MOST_MOVES = 1000


def _run(url: str, credentials: Mapping[str, Any], argv: list[str], kind: str, most: int) -> str:
    """Return what Git says of a repository, `url` in its arguments replaced by where it has moved to.

    Units: `most` in bytes, the largest file that it writes.
    """
    check_git_url(url)
    _require_git()
    place = place_of(url, credentials)
    until, here = _moves.get(place, (0.0, ""))
    if not here or until < time.monotonic():
        try:
            return _run_at(url, url, credentials, argv, kind, most)
        except _Moved:
            here = ways.moved(
                _without_password(url), {**_in_url(url), **with_token(url, credentials)}
            )
        if len(_moves) >= _MOST_MOVES:
            _moves.clear()
        _moves[place] = (time.monotonic() + _MOVED_SECONDS, here)
    same = urlsplit(here)[:2] == urlsplit(url)[:2]
    given = {**_in_url(url), **credentials}
    own = given if same else {k: v for k, v in given.items() if k not in IDENTITY}
    try:
        return _run_at(url, here, own, argv, kind, most)
    except _Moved as error:
        _moves.pop(place, None)
        raise RetryLater(
            "RepositoryUnreachable",
            f"{redact_text(url)} moves again and again",
            timedelta(seconds=60),
        ) from error


class _Moved(Exception):
    """The server answers that the repository is elsewhere."""


def _run_at(
    url: str, here: str, credentials: Mapping[str, Any], argv: list[str], kind: str, most: int
) -> str:
    way = ways.way_to(here, credentials)
    plain = ["git", *(_without_password(here) if word == url else word for word in argv)]
    own = {**_in_url(here), **with_token(here, credentials)}
    GIT_REQUESTS.labels(kind).inc()
    said = ""
    # ssh is told one address at a time; where the first does not answer, the next may.
    for place in way.places[:3] if way.scheme == "ssh" else ("",):
        with ways.environment(way, own, place) as env:
            output, said = _execute(ways.limited(plain, most), env)
        if not said:
            return output
        GIT_FAILURES.labels(kind).inc()
        if not _is_away(said):
            break
    raise _failure(url, said)


def _execute(argv: list[str], env: dict[str, str]) -> tuple[str, str]:
    """Return what Git says, and what it says went wrong, empty when nothing did."""
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
        return output, finished.errors or output or f"git ended with {finished.code}"
    return output.removesuffix("\n"), ""


def _is_away(text: str) -> bool:
    return any(
        sign in text for sign in ("Connection refused", "timed out", "unreachable", "No route")
    )


def _in_url(url: str) -> dict[str, str]:
    """Return the credentials that somebody has written into a URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return {}
    # A token often comes as the name alone.
    return {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}


def _without_password(url: str) -> str:
    """Return a URL as it may stand in a list of processes."""
    if not _in_url(url):
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


_PERMANENT = (
    (
        "could not read Username",
        "AuthenticationRequired",
        "the repository needs credentials, or has others than these",
    ),
    ("Authentication failed", "AuthenticationFailed", "the credentials are refused"),
    ("Permission denied", "AuthenticationFailed", "the credentials are refused"),
    ("HTTP code = 401", "AuthenticationFailed", "the credentials are refused"),
    (
        "The requested URL returned error: 401",
        "AuthenticationFailed",
        "the credentials are refused",
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
    return RetryLater("RepositoryUnreachable", f"{shown}: {detail[:400]}", timedelta(seconds=15))


def fetch_refs(url: str, credentials: Mapping[str, Any]) -> Refs:
    """Return the branches and tags of a repository; annotated tags as the commit they name.

    Raises: RetryLater with what the server said, Invalid for a URL that is not read.
    """
    output = _run(
        url,
        credentials,
        ["ls-remote", "--symref", "--", url],
        "ls-remote",
        settings.MAX_INDEX_BYTES,
    )
    refs: dict[str, str] = {}
    head = ""
    for line in output.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            head = value[5:]
        elif name.endswith("^{}"):
            refs[name[:-3]] = value
        elif name.startswith(("refs/heads/", "refs/tags/")) or name == "HEAD":
            refs.setdefault(name, value)
    return Refs(refs, head)


# What is fetched stays a pack, which appears whole: unpacked, a commit is there before its trees are.
AT_ONCE = ("-c", "fetch.unpackLimit=1")


def ensure(url: str, commit: str, credentials: Mapping[str, Any]) -> None:
    """Have a commit with its trees and blobs in the local repository, fetching it if needed.

    Raises: RetryLater when the server does not give it.
    """
    place = place_of(url, credentials)
    if has_commit(place, commit):
        return
    with _exclusive(place) as folder:
        if has_commit(place, commit):
            return
        base = [
            *AT_ONCE,
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
            _fetch(folder, url, credentials, [*base, "--depth", "1", "--", url, commit])
        except RetryLater:
            # Old servers give only what a ref names: then the history is needed.
            _fetch(folder, url, credentials, [*base, "--", url, *everything])
        _opened.cache_clear()
        if not has_commit(place, commit):
            raise Stalled("RevisionNotFound", f"{redact_text(url)} has no commit {commit}")


def _fetch(folder: Path, url: str, credentials: Mapping[str, Any], argv: list[str]) -> None:
    """Fetch into a local repository, which does not grow beyond the limit."""
    packs = folder / "objects" / "pack"
    used = sum(path.stat().st_size for path in packs.glob("*"))
    most = settings.MAX_REPOSITORY_BYTES - used
    try:
        if most <= 0:
            raise _too_large(url)
        _run(url, credentials, argv, "fetch", most)
    except (RetryLater, Stalled) as error:
        left = [(path, path.stat().st_size) for path in packs.glob("tmp_*")]
        for path, _ in left:
            # What a killed process leaves behind is nobody's.
            path.unlink(missing_ok=True)
        if any(size + _SLACK > most for _, size in left):
            raise _too_large(url) from error
        raise


_SLACK = 64 * 1024


def _too_large(url: str) -> Stalled:
    return Stalled(
        "TooLarge", f"{redact_text(url)} is larger than the hub keeps (HUB_MAX_REPOSITORY_BYTES)"
    )


def ensure_history(url: str, commit: str, credentials: Mapping[str, Any]) -> None:
    """Have a commit with everything before it, for those who must look at all of it.

    Raises: RetryLater when the server does not give it.
    """
    ensure(url, commit, credentials)
    with _exclusive(place_of(url, credentials)) as folder:
        if not (folder / "shallow").exists():
            return
        argv = [
            *AT_ONCE,
            "--git-dir",
            str(folder),
            "fetch",
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--unshallow",
        ]
        _fetch(folder, url, credentials, [*argv, "--", url, commit])
        _opened.cache_clear()


MAX_PACKS = 40


def tidy(url: str) -> bool:
    """Pack a local repository that has grown many packs into one; return whether that was needed.

    Everything is kept, referenced or not: shallow fetches leave no refs behind.
    """
    folder = _folder(url)
    packs = list((folder / "objects" / "pack").glob("*.pack"))
    loose = sum(1 for _ in (folder / "objects").glob("[0-9a-f][0-9a-f]/*"))
    if len(packs) < MAX_PACKS and loose < MAX_PACKS * 100:
        return False
    with _exclusive(url):
        _local("--git-dir", str(folder), "repack", "-a", "-d", "-k", "-q")
        _opened.cache_clear()
    return True


@functools.lru_cache(maxsize=64)
def _opened(path: str, thread: int) -> Repo:
    del thread  # dulwich repositories are not shared between threads
    return Repo(path)


def _repo(url: str) -> Repo:
    return _opened(str(_folder(url)), threading.get_ident())


def has_commit(url: str, commit: str) -> bool:
    """Return whether the local repository has a commit."""
    if not (_folder(url) / "HEAD").exists():
        return False
    try:
        return commit.encode() in _repo(url).object_store
    except NotGitRepository:
        # Another process or thread is just making it.
        return False
    except (OSError, ValueError):
        _opened.cache_clear()
        return commit.encode() in _repo(url).object_store


_MOST_TAGS = 10
"""Tags of tags."""


def _object(url: str, name: str, path: str = "") -> Any:
    """Return an object of the local repository.

    Raises: ManifestError when it is larger than the hub reads, KeyError when it is not there.
    """
    repo, most = _repo(url), settings.MAX_FILE_BYTES
    try:
        require_size(repo, name.encode(), most)
    except TooLarge as error:
        raise ManifestError(
            f"{path or name} is larger than {shown_size(most)}, the limit (HUB_MAX_FILE_BYTES)"
        ) from error
    return repo[name.encode()]


class GitFiles:
    """The files of one commit."""

    def __init__(self, url: str, commit: str) -> None:
        self._url, self.commit = url, commit
        self._root = _tree_of(url, commit)
        self._trees: dict[str, dict[str, tuple[int, str]] | None] = {}

    def _tree(self, path: str) -> dict[str, tuple[int, str]] | None:
        if path not in self._trees:
            if not path:
                self._trees[path] = _entries(self._url, self._root)
            else:
                found = self.entry(path)
                is_tree = found is not None and stat.S_ISDIR(found[0])
                self._trees[path] = _entries(self._url, found[1]) if found and is_tree else None
        return self._trees[path]

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of a path."""
        if not path:
            return stat.S_IFDIR, self._root
        folder, _, name = path.rpartition("/")
        tree = self._tree(folder)
        return tree.get(name) if tree else None

    def children(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return sorted(self._tree(path) or ())

    def blob(self, path: str) -> bytes:
        """Return the content of a file."""
        found = self.entry(path)
        if found is None:
            raise KeyError(path)
        data = bytes(_object(self._url, found[1], path).as_raw_string())
        if data.startswith(_LFS) and path.endswith(_READ):
            raise ManifestError(
                f"{path} is kept in Git LFS, which this hub does not read: keep it in Git itself"
            )
        return data


@functools.lru_cache(maxsize=2048)
def _tree_of(url: str, commit: str) -> str:
    found = _object(url, commit)
    for _ in range(_MOST_TAGS):
        if not isinstance(found, Tag):
            break
        found = _object(url, found.object[1].decode())
    if not isinstance(found, Commit):
        raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
    return str(found.tree.decode())


@functools.lru_cache(maxsize=1024)
def _entries(url: str, tree: str) -> dict[str, tuple[int, str]]:
    found = _object(url, tree)
    if not isinstance(found, Tree):
        return {}
    entries = {}
    for entry in found.iteritems():
        name = entry.path.decode(errors="replace")
        if name in ("", ".", "..") or "/" in name:
            # Git writes no such tree; a server that sends one wants a reader to leave the folder.
            raise ManifestError(f"{redact_text(url)}: the tree {tree} has an entry named {name!r}")
        entries[name] = (entry.mode, entry.sha.decode())
    return entries


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """Who made a commit, when and why."""

    author: str
    date: datetime
    message: str


def commits(url: str, commit: str, count: int) -> list[Commit]:
    """Return a commit and those before it, newest first, as far as the local repository has them.

    Raises: Stalled when it is not a commit.
    """
    repo, start = _repo(url), commit.encode()
    if not isinstance(_object(url, commit), Commit):
        raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
    return [entry.commit for entry in repo.get_walker(include=[start], max_entries=count)]


def commit_info(url: str, commit: str) -> CommitInfo:
    """Return author, date and message of a commit that the local repository has.

    Raises: Stalled when it is not a commit.
    """
    try:
        found = _object(url, commit)
        if not isinstance(found, Commit):
            raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
        zone = timezone(timedelta(seconds=found.author_timezone))
        return CommitInfo(
            found.author.decode(errors="replace"),
            datetime.fromtimestamp(found.author_time, zone).astimezone(UTC),
            str(found.message.decode(errors="replace")),
        )
    except (NotGitRepository, KeyError) as error:
        raise Stalled(
            "RevisionNotFound", f"{redact_text(url)}: {commit} is not known here"
        ) from error
    except (ObjectFormatException, ValueError, TypeError, AttributeError, OverflowError) as error:
        # Git keeps what its author wrote, also times that no calendar has.
        raise Stalled(
            "CommitUnreadable",
            f"{redact_text(url)}: commit {commit} has no readable author or date",
        ) from error


def is_commit(text: str) -> bool:
    """Return whether a text is a full commit id."""
    return bool(_SHA.match(text))
