"""Remote inputs of a render: repositories and files that a kustomization refers to by URL.

The hub fetches them with the project's credentials, if the project permits them; the tools have no
network access. Each is recorded as an input, so that a moved branch causes a new render.
"""

import hashlib
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from hub.base.redaction import redact_text
from hub.engine.errors import EngineError, Invalid, ManifestError, RetryLater, Stalled
from hub.engine.project_restrictions import permits_source
from projects.sources import charts, git, submodules
from projects.sources.credentials import credentials_for, url_of_name
from projects.sources.files import Files, MemoryFiles, Recorder
from projects.sources.git_remotes import current_refs, require_reader
from projects.sources.remote_urls import GitFolder, page_url

GIT = "#git"
PAGE = "#page"
CHARTS = "#charts"
FAILURES = (EngineError, Invalid, RetryLater, Stalled)
_MAX_REPOSITORIES = 30
_MAX_PAGES = 100
_MAX_CACHED_PAGES = 200
_MAX_CACHED_BYTES = 64 * 1024**2
_pages: OrderedDict[tuple[Any, ...], tuple[datetime, bytes]] = OrderedDict()
_pages_lock = threading.Lock()


def git_files(
    url: str,
    commit: str,
    project: str,
    spec: Mapping[str, Any] | None,
    count: submodules.SubmoduleCount | None = None,
    depth: int = 0,
) -> Files:
    """Return the files of a commit, fetched if needed with the project's credentials.

    Shapes: with the project's `spec`, submodules are read if it permits their repositories;
        `count` is shared by all repositories of a render.
    Raises: Stalled, RetryLater with the server's message.
    """
    counted = count or submodules.SubmoduleCount()
    credentials = credentials_for(url, project)
    require_reader(url, project, credentials)
    git.ensure(url, commit, credentials)
    files = git.GitFiles(git.repository_key(url, credentials), commit)
    if spec is None or not settings.GIT_SUBMODULES:
        return files

    def opened(folder: str, place: str, inner: str) -> Files:
        if depth >= submodules.MAX_NESTED:
            raise ManifestError(f"submodule {folder}: nested more than {depth} levels deep")
        require_permitted(spec, project, place, f"submodule {folder}: repository")
        counted.count(folder)
        return git_files(place, inner, project, spec, counted, depth + 1)

    return submodules.with_submodules(files, url, opened)


def require_permitted(spec: Mapping[str, Any], project: str, url: str, what: str) -> None:
    """Check that a project permits a URL as a source.

    Raises: Stalled naming it.
    """
    if not permits_source(spec, url):
        raise Stalled(
            "SourceNotPermitted",
            f"{what} {redact_text(url)} is not permitted in project '{project}'",
        )


class Pages:
    """Files on HTTP servers, as a tree whose paths are URLs."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of a file."""
        return stat.S_IFREG, hashlib.sha256(self._fetch(path)).hexdigest()

    def children(self, path: str) -> list[str]:
        """Return nothing: HTTP servers cannot be listed."""
        del path
        return []

    def blob(self, path: str) -> bytes:
        """Return the content of a file."""
        return self._fetch(path)


class ChartReaders:
    """The credentials used to read charts, as a tree whose paths are `repository chart`.

    A published chart does not change, but access to it differs between projects: a chart that one
    fetched with its own credentials or transport options must not be reused for another.
    """

    def __init__(self, access: charts.Access) -> None:
        self._access = access

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of the reader of a chart."""
        return stat.S_IFREG, self._access.reader(path.rpartition(" ")[0])

    def children(self, path: str) -> list[str]:
        """Return nothing: readers are not listed."""
        del path
        return []

    def blob(self, path: str) -> bytes:
        """Return nothing: charts are not read here."""
        del path
        return b""


class RemoteInputs:
    """The remote inputs of one render; each is fetched once.

    Shapes: responses must be newer than `since`, or than the last poll. `used` is true once an
        input that may change later was read.
    """

    def __init__(self, project: str, spec: Mapping[str, Any], since: datetime | None) -> None:
        self._project, self._spec, self._since = project, spec, since
        self._fetched: dict[str, bytes] = {}
        self._modules = submodules.SubmoduleCount()
        self.used = False
        self._charts = charts.Access(
            lambda url: credentials_for(url, project),
            lambda url: require_permitted(spec, project, url, "helm repos"),
            lambda name: url_of_name(name, project),
        )
        self._trees: dict[str, Files] = {
            PAGE: Pages(self._page),
            CHARTS: ChartReaders(self._charts),
        }
        self._no_repositories = len(self._trees)

    def origin(self, folder: GitFolder) -> str:
        """Return the origin under which a repository's files are recorded."""
        return f"{GIT} {folder.url} {folder.ref or 'HEAD'} {'+' if folder.submodules else '-'}"

    def tree(self, origin: str) -> Files:
        """Return the files of an origin that is not a source of the application.

        Raises: Stalled, RetryLater, ManifestError or Invalid if they cannot be fetched.
        """
        if origin not in self._trees:
            if len(self._trees) - self._no_repositories >= _MAX_REPOSITORIES:
                raise ManifestError(f"more than {_MAX_REPOSITORIES} remote repositories")
            self._trees[origin] = self._opened(origin)
        return self._trees[origin]

    def _opened(self, origin: str) -> Files:
        kind, url, ref, modules = origin.split(" ")
        if kind != GIT or url.lower().startswith("file:"):
            raise ManifestError(f"{redact_text(url)} is not supported")
        git.check_git_url(url, "remote base")
        require_permitted(self._spec, self._project, url, "repository")
        commit = self._commit(url, ref)
        spec = self._spec if modules == "+" else None
        return git_files(url, commit, self._project, spec, self._modules)

    def _commit(self, url: str, ref: str) -> str:
        if git.is_commit(ref):
            return ref
        self.used = True
        force = self._since is not None
        remote = current_refs(url, self._project, force=force, since=self._since)
        if ref == "HEAD":
            names = ["HEAD", remote.head]
        else:
            # In the order in which `git fetch` resolves a name.
            names = [ref] if ref.startswith("refs/") else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
        found = next((remote.refs[name] for name in names if name in remote.refs), "")
        if not found:
            raise Stalled("RevisionNotFound", f"{redact_text(url)} has no branch or tag '{ref}'")
        return found

    def page(self, url: str) -> bytes:
        """Return a file from an HTTP server.

        Raises: Stalled, RetryLater, ManifestError or Invalid if it cannot be fetched.
        """
        return self._page(page_url(url))

    def read(self, files: Recorder, url: str) -> bytes:
        """Return a file from an HTTP server, and record it as an input.

        Raises: the same as `page`.
        """
        data = self.page(url)
        files.add_origin(PAGE, self._trees[PAGE])
        files.note_input(PAGE, url)
        return data

    def chart(self, files: Recorder, repository: str, name: str, version: str) -> MemoryFiles:
        """Return a chart of a repository, and record the credentials used as an input.

        Raises: Stalled, RetryLater, ManifestError or Invalid if it cannot be fetched.
        """
        found = self._charts.chart(repository, name, version)
        files.add_origin(CHARTS, self._trees[CHARTS])
        files.note_input(CHARTS, f"{repository} {name}")
        return found

    def _page(self, url: str) -> bytes:
        if url not in self._fetched:
            self.used = True
            if len(self._fetched) >= _MAX_PAGES:
                raise ManifestError(f"more than {_MAX_PAGES} remote files")
            require_permitted(self._spec, self._project, url, "the file")
            self._fetched[url] = _cached(url, credentials_for(url, self._project), self._since)
        return self._fetched[url]


def _cached(url: str, credentials: Mapping[str, Any], since: datetime | None) -> bytes:
    # Cached per credentials: another project's response must not be reused.
    place = (url, charts.credentials_key(credentials))
    oldest = since or timezone.now() - settings.POLL_INTERVAL
    with _pages_lock:
        found = _pages.get(place)
    if found and found[0] >= oldest:
        return found[1]
    now = timezone.now()
    data = charts.fetch_file(url, credentials)
    with _pages_lock:
        _pages[place] = (now, data)
        _pages.move_to_end(place)
        while (
            len(_pages) > _MAX_CACHED_PAGES
            or sum(len(d) for _, d in _pages.values()) > _MAX_CACHED_BYTES
        ):
            _pages.popitem(last=False)
    return data


def repositories_of(inputs: list[list[Any]]) -> set[str]:
    """Return the URLs of the repositories in inputs whose refs may move."""
    origins = {str(entry[1]) for entry in inputs if str(entry[1]).startswith(f"{GIT} ")}
    parts = [origin.split(" ") for origin in origins]
    return {url for _, url, ref, _ in parts if not git.is_commit(ref)}


def has_pages(inputs: list[list[Any]]) -> bool:
    """Return whether inputs include files from HTTP servers."""
    return any(entry[1] == PAGE for entry in inputs)
