"""Read objects of a Git repository within limits, since a small pack may contain huge objects.

The headers in a pack state the size of each object and delta, and of the delta's result. These are
added up before anything is unpacked, and only one delta is unpacked at a time.
Source: gitformat-pack, "pack-*.pack files have the following format".
"""

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dulwich.errors import ApplyDeltaError, FileFormatException
from dulwich.objects import Commit, ShaFile, Tag, object_class
from dulwich.pack import apply_delta
from dulwich.repo import Repo

_OFFSET_DELTA, _NAMED_DELTA = 6, 7
_KINDS = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
_MAX_CHAIN = 4096
"""The maximum length of a delta chain that Git creates."""
_MAX_WORK = 16
"""All steps together may unpack this many times the limit, since long delta chains are common."""
_LINK_BYTES = 1024
"""The minimum cost of a step, since each reads another part of the pack."""
_HEAD = 1024
_NAME = 20
_CHUNK = 64 * 1024


_UNREADABLE = (
    FileFormatException,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)
"""What dulwich raises for an invalid commit or tag."""


class TooLarge(Exception):
    """The object, or one that it is based on, exceeds the limit."""


class Damaged(Exception):
    """The stored data is not a valid object."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The position and size of an entry's content in a pack."""

    at: int
    size: int


def read(repo: Repo, name: str, maximum: int, spend: Callable[[int], None]) -> ShaFile:
    """Return an object of a repository.

    Shapes: `name` is hexadecimal; `spend` counts the bytes of several reads, and raises if they
        exceed a limit.
    Units: `maximum` in bytes, for the object and each object and delta that it is based on;
        16 times as much for all of them together.
    Raises: TooLarge before anything is unpacked; KeyError if it does not exist; Damaged.
    """
    try:
        kind, data = _read(repo, name, maximum, spend)
    except (zlib.error, IndexError, ValueError, ApplyDeltaError) as error:
        raise Damaged(name) from error
    return _parsed(kind, data)


def _parsed(kind: int, data: bytes) -> ShaFile:
    """Parse an object completely, so that errors occur here and not at a later access."""
    found = object_class(kind)
    if found is None:
        raise Damaged
    try:
        made = found.from_raw_string(kind, data)
        if isinstance(made, Tag):
            _ = made.object
        elif isinstance(made, Commit):
            _ = made.tree, made.parents
    except _UNREADABLE as error:
        raise Damaged(str(error)[:200]) from error
    return made


def _read(repo: Repo, name: str, maximum: int, spend: Callable[[int], None]) -> tuple[int, bytes]:
    store = repo.object_store
    for pack in itertools.chain(store._iter_cached_packs(), store.packs):
        try:
            offset = int(pack.index.object_offset(name.encode()))
        except KeyError:
            continue
        with Path(f"{pack._basename}.pack").open("rb") as file:
            kind, base, deltas = _planned(file, pack.index, offset, maximum, spend)
            return kind, _apply_deltas(file, base, deltas)
    return _loose(Path(repo.controldir()) / "objects" / name[:2] / name[2:], name, maximum, spend)


def _planned(
    file: BinaryIO, index: Any, offset: int, maximum: int, spend: Callable[[int], None]
) -> tuple[int, _Part, list[_Part]]:
    """Return the kind of an object, its base, and its deltas, last one first."""
    deltas: list[_Part] = []
    total = 0
    for _ in range(_MAX_CHAIN):
        file.seek(offset)
        head = file.read(_HEAD)
        kind, size, at = _header(head)
        total += size + _LINK_BYTES
        if kind == _OFFSET_DELTA:
            back, at = _distance(head, at)
            base = offset - back
        elif kind == _NAMED_DELTA:
            base = int(index.object_offset(head[at : at + _NAME]))
            at += _NAME
        else:
            _require(size, total, maximum)
            spend(total)
            return kind, _Part(offset + at, size), deltas
        made = max(_stated(head[at:]))
        total += made
        _require(max(size, made), total, maximum)
        deltas.append(_Part(offset + at, size))
        offset = base
    raise TooLarge


def _require(size: int, total: int, maximum: int) -> None:
    if size > maximum or total > max(maximum * _MAX_WORK, _MAX_CHAIN * _LINK_BYTES):
        raise TooLarge


def _header(head: bytes) -> tuple[int, int, int]:
    """Parse an entry's header; return its kind, content size and content position."""
    kind, size, shift, at = head[0] >> 4 & 7, head[0] & 15, 4, 0
    while head[at] & 0x80:
        at += 1
        size |= (head[at] & 0x7F) << shift
        shift += 7
    return kind, size, at + 1


def _distance(head: bytes, at: int) -> tuple[int, int]:
    """Parse the offset of an entry's base; return it and the position after it."""
    value = head[at] & 0x7F
    while head[at] & 0x80:
        at += 1
        value = (value + 1) << 7 | head[at] & 0x7F
    return value, at + 1


def _stated(packed: bytes) -> tuple[int, int]:
    """Return the sizes stated in a delta's header: of its base and its result."""
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
    raise Damaged


def _apply_deltas(file: BinaryIO, base: _Part, deltas: list[_Part]) -> bytes:
    data = _unpacked(file, base)
    for delta in reversed(deltas):
        data = b"".join(apply_delta(data, _unpacked(file, delta)))
    return data


def _unpacked(file: BinaryIO, part: _Part) -> bytes:
    """Unpack an entry; its size must match its header."""
    file.seek(part.at)
    reader, left = zlib.decompressobj(), 2 * part.size + _CHUNK
    found = bytearray()
    while not reader.eof and left > 0:
        packed = file.read(min(_CHUNK, left))
        if not packed:
            break
        left -= len(packed)
        found += reader.decompress(packed, part.size + 1 - len(found))
        if len(found) > part.size:
            break
    if len(found) != part.size:
        raise Damaged
    return bytes(found)


def _loose(path: Path, name: str, maximum: int, spend: Callable[[int], None]) -> tuple[int, bytes]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise KeyError(name) from error
    with file:
        head = zlib.decompressobj().decompress(file.read(_HEAD), 64)
        words, end, _ = head.partition(b"\0")
        kind, _, number = words.partition(b" ")
        if not end or kind not in _KINDS or not number.isdigit():
            raise Damaged(name)
        size = int(number)
        _require(size, size, maximum)
        spend(size + _LINK_BYTES)
        return _KINDS[kind], _unpacked(file, _Part(0, len(words) + 1 + size))[len(words) + 1 :]
