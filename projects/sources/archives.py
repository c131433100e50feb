"""Read tar archives of charts and uploads, plain or gzipped, within limits.

The standard library's `tarfile` parses extended headers with regular expressions, merges them for
each member and recurses for consecutive ones: a few kilobytes could block the interpreter for
minutes. This parser reads each byte once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from hub.base.outbound.bounds import TooMuch, decoded, shown_size
from hub.engine.errors import ManifestError
from projects.sources.files import MemoryFiles, require_shallow

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAX_ENTRIES = 20_000
_MAX_FOLDERS = 20_000
_MAX_NAME = 1024
_MAX_EXTENSION = 64 * 1024
"""The size limit of an extended header; real ones have a name, times and owners."""
_MAX_HEADERS_IN_A_ROW = 8
_MAX_RECORDS = 200_000
"""The limit on records in all extended headers: ten per entry."""

_REGULAR = (b"0", b"\0", b"7")
_SPARSE = b"S"
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders and pipes, which have no data even if their header has a size."""
_PAX = (b"x", b"X")
_GLOBAL = b"g"
_LONG_NAME, _LONG_LINK = b"L", b"K"


class ArchiveBudget:
    """The remaining limits for archives that form one chart."""

    def __init__(self) -> None:
        """Start with the limits of one chart."""
        self._content, self._entries = settings.MAX_CHART_BYTES, _MAX_ENTRIES
        self._records, self._folders = _MAX_RECORDS, _MAX_FOLDERS
        # Small files need additional space for headers and padding.
        self.unpacked = settings.MAX_CHART_BYTES + _MAX_ENTRIES * 1024

    def spend_content(self, size: int) -> None:
        """Count the bytes of a file.

        Raises: ManifestError if the limit is exceeded, like the methods below.
        """
        self._content -= size
        if self._content < 0:
            maximum = shown_size(settings.MAX_CHART_BYTES)
            raise ManifestError(f"the archive unpacks to more than {maximum}, the limit")

    def spend_entry(self) -> None:
        """Count an entry of any kind."""
        self._entries -= 1
        if self._entries < 0:
            raise ManifestError(f"the archive has more than {_MAX_ENTRIES} entries, the limit")

    def spend_record(self) -> None:
        """Count a record of an extended header."""
        self._records -= 1
        if self._records < 0:
            raise _unreadable(f"its extended headers have more than {_MAX_RECORDS} records")

    def spend_folders(self, count: int) -> None:
        """Count folders; a single path may contain a hundred."""
        self._folders -= count
        if self._folders < 0:
            raise ManifestError(f"the archive has more than {_MAX_FOLDERS} folders, the limit")


def unpack(data: bytes, *, strip: bool, room: ArchiveBudget | None = None) -> MemoryFiles:
    """Return the regular files of a tar archive.

    Shapes: `strip` removes the first folder of each path; `room` is shared by the archives of a
        chart.
    Raises: ManifestError for an invalid archive, a path outside it, or an exceeded limit.
    """
    room = room or ArchiveBudget()
    stream = _Stream(data, room)
    content: dict[str, bytes] = {}
    try:
        for name, held in _Tar(stream, room).files():
            path = _path(name, strip=strip)
            if path:
                content[path] = held
        # Data after the last entry is ignored, but must be complete and within the limits.
        stream.drain()
    except TooMuch as error:
        words = str(error).replace("answer", "archive")
        limit = ", the limit" if "larger" in words else ""
        raise _unreadable(f"{words}{limit}") from error
    _check_folders(content, room)
    return MemoryFiles(content)


def _unreadable(why: str) -> ManifestError:
    return ManifestError(f"the archive cannot be read: {why}")


def _path(name: str, *, strip: bool) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ManifestError(f"the archive has a path that leads outside it: {name[:200]!r}")
    require_shallow(name)
    if len(name) > _MAX_NAME:
        raise _unreadable(f"a name has more than {_MAX_NAME} characters")
    return "/".join(parts[1:] if strip else parts)


def _check_folders(content: dict[str, bytes], room: ArchiveBudget) -> None:
    folders: set[str] = set()
    for path in content:
        known = len(folders)
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
        room.spend_folders(len(folders) - known)
    both = folders & content.keys()
    if both:
        raise ManifestError(f"the archive has {min(both)!r} both as a file and as a folder")


class _Stream:
    """The decompressed bytes of an archive, read in pieces."""

    def __init__(self, data: bytes, room: ArchiveBudget) -> None:
        encoding = "gzip" if data[:2] == b"\x1f\x8b" else None
        self._pieces = decoded([data], encoding, room.unpacked)
        self._piece, self._at, self._room = b"", 0, room

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the archive."""
        parts = []
        while size > 0 and (part := self._next(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Skip bytes, and return how many there were."""
        left = size
        while left > 0 and (part := self._next(left)):
            left -= len(part)
        return size - left

    def drain(self) -> None:
        """Read to the end."""
        while self._next(1 << 20):
            pass

    def _next(self, maximum: int) -> bytes:
        while self._at >= len(self._piece):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._room.unpacked -= len(piece)
            self._piece, self._at = piece, 0
        part = self._piece[self._at : self._at + maximum]
        self._at += len(part)
        return part


@dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    kind: bytes
    size: int


class _Tar:
    """Reads the entries of a tar archive.

    Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; the manual of
        GNU tar, "Basic Tar Format".
    """

    def __init__(self, stream: _Stream, room: ArchiveBudget) -> None:
        self._stream, self._room = stream, room
        self._is_empty = True

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents of the regular files.

        Raises: ManifestError, TooMuch.
        """
        while (header := self._entry()) is not None:
            self._room.spend_entry()
            size = 0 if header.kind in _WITHOUT_DATA else header.size
            is_folder = header.kind == b"\0" and header.name.endswith(b"/")
            if header.kind not in _REGULAR or is_folder:
                self._skip(size)
                continue
            self._room.spend_content(size)
            name = _text(header.name)
            held = self._stream.take(size)
            if len(held) < size:
                raise _unreadable("it ends in the middle of a file")
            yield name, held
            # Some tools omit the padding of the last entry.
            self._stream.skip(-size % _BLOCK)

    def _skip(self, size: int) -> None:
        if self._stream.skip(size) < size:
            raise _unreadable("it ends in the middle of an entry")
        self._stream.skip(-size % _BLOCK)

    def _entry(self) -> _Header | None:
        """Return the next entry with its extended headers applied, None at the end."""
        pax: dict[bytes, bytes] = {}
        longer: dict[bytes, bytes] = {}
        for count in range(_MAX_HEADERS_IN_A_ROW + 1):
            header = self._header()
            if header is None:
                if count and (pax or longer):
                    raise _unreadable("it ends after an extended header")
                return None
            if header.kind in _PAX:
                pax |= self._records(header)
            elif header.kind == _GLOBAL:
                _require_harmless(self._records(header))
            elif header.kind in (_LONG_NAME, _LONG_LINK):
                longer[header.kind] = self._extension(header).partition(b"\0")[0]
            else:
                return _merged(header, pax, longer)
        raise _unreadable(f"it has more than {_MAX_HEADERS_IN_A_ROW} extended headers in a row")

    def _header(self) -> _Header | None:
        block = self._stream.take(_BLOCK)
        is_first, self._is_empty = self._is_empty, False
        if not block and is_first:
            raise _unreadable("it is empty")
        if not block or block == _ZEROS:
            return None
        if len(block) < _BLOCK:
            raise _unreadable("it ends in the middle of a header")
        _check_sum(block)
        if block[156:157] == _SPARSE:
            raise _sparse()
        return _Header(_name(block), block[156:157], _number(block[124:136], "size"))

    def _extension(self, header: _Header) -> bytes:
        if header.size > _MAX_EXTENSION:
            raise _unreadable(f"an extended header is larger than {shown_size(_MAX_EXTENSION)}")
        body = self._stream.take(header.size)
        if len(body) < header.size:
            raise _unreadable("it ends in the middle of an extended header")
        self._stream.skip(-header.size % _BLOCK)
        return body

    def _records(self, header: _Header) -> dict[bytes, bytes]:
        """Return the relevant records of an extended header: path and size."""
        body, at = self._extension(header), 0
        found: dict[bytes, bytes] = {}
        while at < len(body) and body[at]:
            self._room.spend_record()
            end, key, value = _record(body, at)
            if key.startswith(b"GNU.sparse."):
                raise _sparse()
            if key in (b"path", b"size"):
                found[key] = value
            at = end
        return found


def _record(body: bytes, at: int) -> tuple[int, bytes, bytes]:
    """Parse a record `<length> <key>=<value>`; return its end, key and value."""
    space = body.find(b" ", at, at + 7)
    digits = body[at : max(space, at)]
    end = at + int(digits) if digits.isdigit() else 0
    equals = body.find(b"=", space, end)
    if equals < 0 or end > len(body) or body[end - 1 : end] != b"\n":
        raise _unreadable("a record of an extended header has no length, no key or no end")
    return end, body[space + 1 : equals], body[equals + 1 : end - 1]


def _require_harmless(records: dict[bytes, bytes]) -> None:
    # Tar implementations disagree on whether these apply to all later entries.
    if records:
        raise _unreadable("a global header sets the name or size of all entries")


def _merged(header: _Header, pax: dict[bytes, bytes], longer: dict[bytes, bytes]) -> _Header:
    if pax and longer:
        raise _unreadable("an entry has extended headers of both POSIX and GNU")
    name = pax.get(b"path") or longer.get(_LONG_NAME) or header.name
    if b"\0" in name:
        raise _unreadable(f"the name {name[:100]!r} has a zero byte")
    digits = pax.get(b"size")
    if not digits:
        return _Header(name, header.kind, header.size)
    if not digits.isdigit() or len(digits) > 19:
        raise _unreadable(f"size={digits[:40]!r} in an extended header is invalid")
    return _Header(name, header.kind, int(digits))


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[257:263] != b"ustar\0":
        # Other formats store times in the field where ustar stores the name's prefix.
        return name
    prefix = block[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, what: str) -> int:
    """Parse a number: octal digits, or binary if the highest bit is set, for large numbers."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise _unreadable(f"the {what} of an entry is negative")
        return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:])
    digits = field.strip(b" \0")
    if digits.translate(None, b"01234567"):
        raise _unreadable(f"the {what} of an entry is not an octal number")
    return int(digits or b"0", 8)


def _check_sum(block: bytes) -> None:
    said = _number(block[148:156], "checksum")
    rest = block[:148] + b"        " + block[156:]
    found = sum(rest)
    # Some old tools sum signed bytes.
    if said not in (found, found - 256 * sum(byte > 127 for byte in rest)):
        raise _unreadable("the checksum of a header is wrong: is it a tar archive?")


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(f"the name {name[:100]!r} is not UTF-8") from error


def _sparse() -> ManifestError:
    return _unreadable("it has a sparse file: create it without --sparse")
