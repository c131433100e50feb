"""Git: ask servers for refs, fetch commits, read trees and blobs in process."""

import base64
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from dulwich.errors import NotGitRepository
from dulwich.objects import Commit, Tag, Tree
from dulwich.repo import Repo

from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from hub.engine.permits import normal_url
from hub.metrics import GIT_FAILURES, GIT_REQUESTS
from hub.outbound import check_host
from hub.redaction import redact_text
from projects.sources import process
from projects.sources.app_tokens import with_token
from projects.sources.credentials import proxy_of

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
    parts = urlsplit(url)
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


@contextlib.contextmanager
def _environment(url: str, credentials: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="git-") as text:
        home = Path(text)
        config = {
            "gc.auto": "0",
            "credential.helper": "",
            "protocol.version": "2",
            "core.hooksPath": "/dev/null",
        }
        env = {
            "HOME": text, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": "https:http:ssh:file", "LC_ALL": "C", "PATH": os.environ.get("PATH", ""),
        }  # fmt: skip
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if os.environ.get(name):
                env[name] = os.environ[name]
        if url.startswith(("http://", "https://")):
            _write_config(home / ".gitconfig", _http_config(credentials, home))
            if credentials.get("caData"):
                # By the environment: there it wins over what the hub's machine sets for all.
                env["GIT_SSL_CAINFO"] = str(_private(home / "authorities", str(credentials["caData"])))  # fmt: skip
        elif not url.startswith("file://"):
            env["GIT_SSH_COMMAND"] = _ssh_command(credentials, home)
        env["GIT_CONFIG_COUNT"] = str(len(config))
        for number, (name, value) in enumerate(config.items()):
            env[f"GIT_CONFIG_KEY_{number}"], env[f"GIT_CONFIG_VALUE_{number}"] = name, value
        yield env


def _local(*argv: str) -> None:
    """Run git on a folder of the hub, with nobody's credentials."""
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": "/nonexistent"}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    finished = process.run_own(["git", *argv], environment=env, timeout=_LOCAL_SECONDS)
    if finished.code:
        raise Stalled("GitFailed", f"git {argv[-1]}: {finished.errors.strip()[-400:]}")


def _write_config(path: Path, config: Mapping[str, str]) -> None:
    """Write settings of git into a file that only the hub reads.

    Credentials travel there: never in argv, in a stored URL, or in an environment, which every
    helper of git inherits.
    Raises: Stalled for a value that would begin another line.
    """
    lines = []
    for name, value in config.items():
        if any(ord(c) < 32 or ord(c) == 127 for c in value):
            raise Stalled("InvalidCredentials", "credentials must be one line without control characters")  # fmt: skip
        section, _, key = name.partition(".")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{section}]\n\t{key} = "{escaped}"')
    _private(path, "\n".join(lines))


def _http_config(credentials: Mapping[str, Any], home: Path) -> dict[str, str]:
    config = {}
    if credentials.get("bearerToken"):
        config["http.extraHeader"] = f"Authorization: Bearer {credentials['bearerToken']}"
    elif credentials.get("password") or credentials.get("username"):
        pair = f"{credentials.get('username') or 'git'}:{credentials.get('password', '')}".encode()
        config["http.extraHeader"] = "Authorization: Basic " + base64.b64encode(pair).decode()
    if credentials.get("insecure"):
        config["http.sslVerify"] = "false"
    if credentials.get("proxy"):
        config["http.proxy"] = str(credentials["proxy"])
    for field, option in (
        ("tlsClientCertData", "http.sslCert"),
        ("tlsClientCertKey", "http.sslKey"),
    ):
        if credentials.get(field):
            config[option] = str(_private(home / field, str(credentials[field])))
    return config


def _private(path: Path, content: str) -> Path:
    with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(content if content.endswith("\n") else content + "\n")
    return path


def _ssh_command(credentials: Mapping[str, Any], home: Path) -> str:
    options = [
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "ConnectTimeout=10",
    ]
    if credentials.get("insecureIgnoreHostKey") or credentials.get("insecure"):
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    else:
        known = _private(home / "known_hosts", str(credentials.get("knownHosts") or ""))
        options += [
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            f"UserKnownHostsFile={known}",
            "-o",
            "GlobalKnownHostsFile=/dev/null",
        ]
    if credentials.get("sshPrivateKey"):
        options += ["-i", str(_private(home / "key", str(credentials["sshPrivateKey"])))]
    return " ".join(options)


def _run(url: str, credentials: Mapping[str, Any], argv: list[str], kind: str) -> str:
    check_git_url(url)
    proxy = _check_reachable(url, credentials)
    GIT_REQUESTS.labels(kind).inc()
    given = {**_in_url(url), **with_token(url, credentials), "proxy": proxy}
    plain = ["git", *(_without_password(a) if a == url else a for a in argv)]
    with _environment(url, given) as env:
        seconds = settings.GIT_TIMEOUT.total_seconds()
        try:
            finished = process.run_own(plain, environment=env, timeout=seconds)
        except Stalled as error:
            if error.reason == "ToolMissing":
                raise
            GIT_FAILURES.labels(kind).inc()
            raise _failure(url, str(error)) from error
    output = finished.output.decode(errors="replace")
    if finished.code:
        GIT_FAILURES.labels(kind).inc()
        raise _failure(url, finished.errors or output or f"git ended with {finished.code}")
    return output.removesuffix("\n")


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


def _check_reachable(url: str, credentials: Mapping[str, Any]) -> str:
    """Return the proxy that the server is asked through, empty for none."""
    parts = urlsplit(url)
    host = (
        parts.hostname
        if "://" in url
        else url.partition("@")[2].partition(":")[0] or url.partition(":")[0]
    )
    if parts.scheme == "file" or not host:
        return ""
    proxy = proxy_of(host, credentials) if parts.scheme in ("http", "https") else ""
    check_host(host, "repoURL", proxied=bool(proxy))
    return proxy


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


def _failure(url: str, text: str) -> Exception:
    shown = redact_text(url)
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
    output = _run(url, credentials, ["ls-remote", "--symref", "--", url], "ls-remote")
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
    if has_commit(url, commit):
        return
    with _exclusive(url) as folder:
        if has_commit(url, commit):
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
        try:
            _run(url, credentials, [*base, "--depth", "1", "--", url, commit], "fetch")
        except RetryLater:
            # Old servers give only what a ref names: then the history is needed.
            _run(
                url,
                credentials,
                [
                    *base,
                    "--",
                    url,
                    "+refs/heads/*:refs/remotes/origin/*",
                    "+refs/tags/*:refs/tags/*",
                ],
                "fetch",
            )
        _opened.cache_clear()
        if not has_commit(url, commit):
            raise Stalled("RevisionNotFound", f"{redact_text(url)} has no commit {commit}")


def ensure_history(url: str, commit: str, credentials: Mapping[str, Any]) -> None:
    """Have a commit with everything before it, for those who must look at all of it.

    Raises: RetryLater when the server does not give it.
    """
    ensure(url, commit, credentials)
    with _exclusive(url) as folder:
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
        _run(url, credentials, [*argv, "--", url, commit], "fetch")
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
        data = bytes(_repo(self._url)[found[1].encode()].as_raw_string())
        if data.startswith(_LFS) and path.endswith(_READ):
            raise ManifestError(
                f"{path} is kept in Git LFS, which this hub does not read: keep it in Git itself"
            )
        return data


@functools.lru_cache(maxsize=2048)
def _tree_of(url: str, commit: str) -> str:
    found = _repo(url)[commit.encode()]
    while isinstance(found, Tag):
        found = _repo(url)[found.object[1]]
    if not isinstance(found, Commit):
        raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
    return str(found.tree.decode())


@functools.lru_cache(maxsize=1024)
def _entries(url: str, tree: str) -> dict[str, tuple[int, str]]:
    found = _repo(url)[tree.encode()]
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
    if not isinstance(repo[start], Commit):
        raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
    return [entry.commit for entry in repo.get_walker(include=[start], max_entries=count)]


def commit_info(url: str, commit: str) -> CommitInfo:
    """Return author, date and message of a commit that the local repository has.

    Raises: Stalled when it is not a commit.
    """
    try:
        found = _repo(url)[commit.encode()]
    except (NotGitRepository, KeyError) as error:
        raise Stalled(
            "RevisionNotFound", f"{redact_text(url)}: {commit} is not known here"
        ) from error
    if not isinstance(found, Commit):
        raise Stalled("RevisionNotFound", f"{redact_text(url)}: {commit} is not a commit")
    zone = timezone(timedelta(seconds=found.author_timezone))
    return CommitInfo(
        found.author.decode(errors="replace"),
        datetime.fromtimestamp(found.author_time, zone).astimezone(UTC),
        str(found.message.decode(errors="replace")),
    )


def is_commit(text: str) -> bool:
    """Return whether a text is a full commit id."""
    return bool(_SHA.match(text))
