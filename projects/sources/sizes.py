"""How large an object of a Git repository is, before it is read: a pack of a few KiB may hold one of many GiB.

Read from the headers of packs, where Git states the size of each object and of what a delta makes.

Source: gitformat-pack, "pack-*.pack files have the following format".
"""

import itertools
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from dulwich.repo import Repo

_OFFSET_DELTA, _NAMED_DELTA = 6, 7
_MOST_CHAIN = 5000
_HEAD = 1024
_NAME = 20


class TooLarge(Exception):
    """An object, or one that it is made from, is larger than the hub reads."""


def require_size(repo: Repo, name: bytes, most: int) -> None:
    """Return if an object can be read without more than so many bytes at once.

    Shapes: `name` in hexadecimal. An object that is not there is fine: whoever reads it will say so.
    Raises: TooLarge.
    """
    store = repo.object_store
    for pack in itertools.chain(store._iter_cached_packs(), store.packs):
        try:
            offset = int(pack.index.object_offset(name))
        except KeyError:
            continue
        with Path(f"{pack._basename}.pack").open("rb") as file:
            _require_chain(file, pack.index, offset, most)
        return
    _require_loose(Path(repo.controldir()) / "objects", name.decode(), most)


def _require_chain(file: BinaryIO, index: Any, offset: int, most: int) -> None:
    for _ in range(_MOST_CHAIN):
        file.seek(offset)
        head = file.read(_HEAD)
        kind, size, at = _header(head)
        if size > most:
            raise TooLarge
        if kind == _OFFSET_DELTA:
            back, at = _distance(head, at)
            base = offset - back
        elif kind == _NAMED_DELTA:
            base = int(index.object_offset(head[at : at + _NAME]))
            at += _NAME
        else:
            return
        if max(_made(head[at:])) > most:
            raise TooLarge
        offset = base
    raise TooLarge


def _header(head: bytes) -> tuple[int, int, int]:
    """Return the kind of an entry, the size of its content, and where that begins."""
    kind, size, shift, at = head[0] >> 4 & 7, head[0] & 15, 4, 0
    while head[at] & 0x80:
        at += 1
        size |= (head[at] & 0x7F) << shift
        shift += 7
    return kind, size, at + 1


def _distance(head: bytes, at: int) -> tuple[int, int]:
    """Return how far before an entry its base is, and where what follows begins."""
    value = head[at] & 0x7F
    while head[at] & 0x80:
        at += 1
        value = (value + 1) << 7 | head[at] & 0x7F
    return value, at + 1


def _made(packed: bytes) -> tuple[int, int]:
    """Return the sizes that a delta states: of its base, and of what it makes."""
    data = zlib.decompressobj().decompress(packed, 2 * _NAME)
    sizes, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            sizes.append(value)
            value = shift = 0
        if len(sizes) == 2:
            return sizes[0], sizes[1]
    raise TooLarge


def _require_loose(objects: Path, name: str, most: int) -> None:
    try:
        with (objects / name[:2] / name[2:]).open("rb") as file:
            head = zlib.decompressobj().decompress(file.read(_HEAD), 64)
    except OSError:
        return
    size = head.partition(b"\0")[0].rpartition(b" ")[2]
    if not size.isdigit() or int(size) > most:
        raise TooLarge
