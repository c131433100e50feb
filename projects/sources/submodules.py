"""Git submodules: folders with the files of another repository, fetched on first access."""

import io
import posixpath
import stat
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from django.conf import settings
from dulwich.config import ConfigFile, parse_submodules

from hub.base.redaction import redact_text
from hub.engine.errors import Invalid, ManifestError
from projects.sources.files import Files
from projects.sources.git_urls import check_git_url

LIST = ".gitmodules"
MAX_NESTED = 5
_LINK = 0o160000
_MAX_BYTES = 1024**2


class SubmoduleCount:
    """Counts the submodules that one render reads, including nested ones."""

    def __init__(self) -> None:
        self._count = 0

    def count(self, folder: str) -> None:
        """Count a submodule.

        Raises: ManifestError naming its folder if the limit is exceeded.
        """
        self._count += 1
        if self._count > settings.MAX_SUBMODULES:
            raise ManifestError(
                f"submodule {folder}: more than {settings.MAX_SUBMODULES} submodules, "
                "the limit (HUB_MAX_SUBMODULES)"
            )


class WithSubmodules:
    """The files of a commit, including those of its submodules."""

    def __init__(
        self,
        files: Files,
        url: str,
        modules: Mapping[str, str],
        opened: Callable[[str, str, str], Files],
    ) -> None:
        self._files, self._url, self._modules, self._open = files, url, modules, opened
        self._inner: dict[str, Files] = {}

    def _place(self, path: str) -> tuple[str, str, str] | None:
        """Return the submodule that contains a path, its commit and the path inside."""
        end = len(path)
        while end > 0:
            folder = path[:end]
            if folder in self._modules:
                found = self._files.entry(folder)
                if found is not None and stat.S_IFMT(found[0]) == _LINK:
                    return folder, found[1], path[end + 1 :]
            end = path.rfind("/", 0, end)
        return None

    def _submodule(self, folder: str, commit: str) -> Files:
        if folder not in self._inner:
            self._inner[folder] = self._open(
                folder, absolute(self._modules[folder], self._url), commit
            )
        return self._inner[folder]

    def entry(self, path: str) -> tuple[int, str] | None:
        """Return (mode, hash) of a path; a submodule is a folder whose hash is its commit."""
        place = self._place(path)
        if place is None:
            return self._files.entry(path)
        folder, commit, rest = place
        return self._submodule(folder, commit).entry(rest) if rest else (stat.S_IFDIR, commit)

    def children(self, path: str) -> list[str]:
        """Return the names in a folder."""
        place = self._place(path)
        if place is None:
            return self._files.children(path)
        folder, commit, rest = place
        return self._submodule(folder, commit).children(rest)

    def blob(self, path: str) -> bytes:
        """Return the content of a file."""
        place = self._place(path)
        if place is None:
            return self._files.blob(path)
        folder, commit, rest = place
        return self._submodule(folder, commit).blob(rest)


def with_submodules(files: Files, url: str, opened: Callable[[str, str, str], Files]) -> Files:
    """Return files including submodules; `opened(folder, url, commit)` returns the files of one.

    Raises: ManifestError for an invalid list of submodules.
    """
    found = files.entry(LIST)
    if found is None or not stat.S_ISREG(found[0]):
        return files
    return WithSubmodules(files, url, _listed(files.blob(LIST)), opened)


def _listed(data: bytes) -> dict[str, str]:
    if len(data) > _MAX_BYTES:
        raise ManifestError(f"{LIST} is larger than {_MAX_BYTES // 1024**2} MiB, the limit")
    try:
        # Without includes: `[include]` would read local files.
        read = ConfigFile.from_file(io.BytesIO(data), expand_includes=False)
        listed = list(parse_submodules(read))
        texts = [(path.decode(), url.decode()) for path, url, _name in listed]
    except (ValueError, KeyError) as error:
        raise ManifestError(f"{LIST} is invalid: {error}") from error
    return {posixpath.normpath(path): url for path, url in texts}


def absolute(url: str, parent: str) -> str:
    """Return the absolute URL of a submodule.

    Raises: ManifestError if it leads outside the parent's server, or is not supported.
    """
    if url.startswith(("./", "../")):
        url = _joined(url, parent)
    try:
        check_git_url(url, LIST)
    except Invalid as error:
        raise ManifestError(str(error)) from error
    return url


def _joined(url: str, parent: str) -> str:
    if "://" in parent:
        parts = urlsplit(parent)
        head, path = f"{parts.scheme}://{parts.netloc}/", parts.path
    else:
        host, colon, path = parent.partition(":")
        head = host + colon
    folders = [p for p in path.split("/") if p]
    for part in url.split("/"):
        if part == ".." and not folders:
            raise ManifestError(
                f"{LIST}: {url!r} leads outside the server of {redact_text(parent)}"
            )
        if part == "..":
            folders.pop()
        elif part not in ("", "."):
            folders.append(part)
    return head + "/".join(folders)
