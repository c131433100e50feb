"""Write files into a render folder, never outside it.

Each path is opened relative to the folder's own descriptor, one component at a time and without
following links, even those left by a repository, an archive or a tool.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hub.engine.errors import ManifestError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_beneath(folder: Path, content: Mapping[str, bytes], below: str = "") -> None:
    """Write new files into a folder, or into its subfolder `below`.

    Raises: ManifestError for an invalid path, or one that exists already.
    """
    root = os.open(folder, _FOLDER)
    try:
        for path, data in content.items():
            _write(root, f"{below}/{path}" if below else path, data)
    finally:
        os.close(root)


def _write(root: int, path: str, data: bytes) -> None:
    *folders, name = _names(path)
    try:
        with _opened(root, folders) as place:
            file = os.open(name, _NEW, 0o600, dir_fd=place)
            with os.fdopen(file, "wb") as target:
                target.write(data)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _opened(root: int, folders: list[str]) -> Iterator[int]:
    place = os.dup(root)
    try:
        for name in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=place)
            inner = os.open(name, _FOLDER, dir_fd=place)
            os.close(place)
            place = inner
        yield place
    finally:
        os.close(place)


def _names(path: str) -> list[str]:
    names = path.split("/")
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise ManifestError(f"{path!r} is not a path below its folder")
    return names
