"""Files of the hub that other users of its machine must not read: database, keys, mirrors, logs."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHERS = 0o077


def tighten(folder: Path) -> None:
    """Remove other users' access to the data folder and the entries directly in it.

    Deeper files are protected by their folder. Links, and files that another user owns, stay as
    they are.
    """
    for path in open_to_others(folder):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


def open_to_others(folder: Path) -> list[Path]:
    """Return the hub's own paths that other users can access: a folder and its direct entries."""
    return [path for path in _entries(folder) if _is_open(path)]


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
        yield from sorted(folder.iterdir())


def _is_open(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:  # a journal of the database may disappear in between
        return False
    is_ours = found.st_uid == os.getuid()
    is_file = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return is_ours and is_file and bool(found.st_mode & _OTHERS)
