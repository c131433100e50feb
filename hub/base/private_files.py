"""Files of the hub that others on its machine must not read: database, keys, mirrors, logs."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHERS = 0o077


def tighten(folder: Path) -> None:
    """Take the rights of others from the data folder and from what lies directly in it.

    What is deeper is behind a folder that is closed now. Links, and what another user owns, are left alone.
    """
    for path in open_to_others(folder):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


def open_to_others(folder: Path) -> list[Path]:
    """Return what the hub owns, of a folder and what lies directly in it, and others may read or write."""
    return [path for path in _entries(folder) if _is_open(path)]


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
        yield from sorted(folder.iterdir())


def _is_open(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:  # a journal of the database comes and goes
        return False
    is_ours = found.st_uid == os.getuid()
    is_file = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return is_ours and is_file and bool(found.st_mode & _OTHERS)
