"""Read responses with limits on bytes, lines, values, nesting and time.

Compressed responses are decoded here and nowhere else, a piece at a time: a library that decodes on
its own would have a whole decompression bomb in memory before it could be counted.
"""

import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

PIECE = 64 * 1024
"""The number of bytes that are decoded at once."""
DEPTH = 100
"""Nesting of a JSON value: more than any manifest has, and safe for recursive functions."""
VALUES = 500_000
"""Values of one JSON text: `[],` is three bytes on the wire, and sixty and more as an object."""

_OVERHEAD = 32
_STEP = 4 * 1024
"""The number of compressed bytes per step; the remainder is copied each time."""
_IDLE = 1024**2
"""Compressed bytes allowed in addition to twice the output, for headers and empty blocks."""
_MAX_MEMBERS = 10_000


class TooMuch(Exception):
    """A server sent too much, or too slowly; the message names the limit."""


def shown_size(count: int) -> str:
    """Return a number of bytes in a readable form."""
    return f"{count // 1024**2} MiB" if count >= 1024**2 else f"{count // 1024} KiB"


class Decoder:
    """Decodes the content encoding of one response, a piece at a time.

    Raises: TooMuch for an encoding that the hub did not ask for, for more than `maximum` bytes, for
        broken data, or for much input that decodes to nothing.
    """

    def __init__(self, encoding: str | None, maximum: int | None) -> None:
        name = (encoding or "").strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise TooMuch(f"the answer is encoded by {name[:40]!r}: the hub takes gzip")
        self._inflater = zlib.decompressobj(31) if name.endswith("gzip") else None
        self._maximum, self._total = maximum, 0
        self._encoded, self._members = 0, 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, in pieces of at most 64 KiB when they were compressed."""
        if self._inflater is None:
            yield self._count(data)
            return
        for start in range(0, len(data), _STEP):
            yield from self._inflated(data[start : start + _STEP])

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        self._encoded += len(data)
        piece = b""
        # A full piece may leave more in the inflater than in its unconsumed tail.
        while data or (len(piece) == PIECE and not self._is_complete()):
            piece, data = self._next(data)
            if piece:
                yield self._count(piece)
        if self._encoded > _IDLE + 2 * self._total:
            raise TooMuch("the gzip data contains too many empty blocks")

    def _is_complete(self) -> bool:
        return self._inflater is None or self._inflater.eof

    def _next(self, data: bytes) -> tuple[bytes, bytes]:
        if self._inflater is None or self._inflater.eof:
            # Servers may send several gzip members, one after the other.
            self._members += 1
            if self._members > _MAX_MEMBERS:
                raise TooMuch(f"the answer has more than {_MAX_MEMBERS} gzip members")
            self._inflater = zlib.decompressobj(31)
        try:
            piece = self._inflater.decompress(data, PIECE)
        except zlib.error as error:
            raise TooMuch(f"the response is not valid gzip: {error}") from error
        return piece, self._inflater.unconsumed_tail or self._inflater.unused_data

    def end(self) -> None:
        """Check that the compressed data is complete."""
        if self._encoded and not self._is_complete():
            raise TooMuch("the answer ends in the middle of its gzip")

    def _count(self, piece: bytes) -> bytes:
        self._total += len(piece)
        if self._maximum is not None and self._total > self._maximum:
            raise TooMuch(f"the answer is larger than {shown_size(self._maximum)}")
        return piece


def decoded(
    pieces: Iterable[bytes], encoding: str | None, maximum: int, *, until: float | None = None
) -> Iterator[bytes]:
    """Yield a whole response, decoded, in pieces; an incomplete one is an error at its end.

    Units: `until` as `time.monotonic` counts.
    Raises: TooMuch.
    """
    decoder = Decoder(encoding, maximum)
    for piece in pieces:
        if until is not None and time.monotonic() > until:
            raise TooMuch("the answer takes too long")
        yield from decoder.feed(piece)
    decoder.end()


def read(
    pieces: Iterable[bytes], encoding: str | None, maximum: int, *, until: float | None = None
) -> bytes:
    """Return a whole response, decoded.

    Units: `until` as `time.monotonic` counts.
    Raises: TooMuch.
    """
    kept = bytearray()
    for part in decoded(pieces, encoding, maximum, until=until):
        kept += part
    return bytes(kept)


class Lines:
    """Cuts a stream into lines, none of them longer than `maximum`.

    With `cut` a longer one is cut off and its rest left out; else TooMuch is raised.
    """

    def __init__(self, maximum: int, *, cut: bool = False) -> None:
        self._maximum, self._cut = maximum, cut
        self._rest, self._size, self._skips = list[bytes](), 0, False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the lines that a piece completes, without their ends."""
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._add(part)
            yield self._take()
        self._add(rest)

    def end(self) -> bytes:
        """Return the text after the last line end."""
        return self._take()

    def _add(self, part: bytes) -> None:
        if self._skips or not part:
            return
        room = self._maximum - self._size
        if len(part) > room:
            if not self._cut:
                raise TooMuch(f"a line is longer than {shown_size(self._maximum)}")
            part, self._skips = part[:room], True
        # A list: a bytes value that grows by many small pieces would be copied for each.
        self._rest.append(part)
        self._size += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._rest)
        self._rest, self._size, self._skips = [], 0, False
        return line


def room_of(data: bytes) -> int:
    """Return about how many bytes of memory a parsed JSON text needs.

    Small values are mostly overhead.
    """
    return len(data) + _OVERHEAD * _values_of(data)


def _values_of(data: bytes) -> int:
    # Separators inside strings are counted as well: parsing each byte would cost more than it is
    # worth.
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def parse(data: bytes, *, depth: int = DEPTH, values: int = VALUES) -> Any:
    """Return the value of a JSON text.

    Raises: TooMuch for more levels or values than there is room for; ValueError for invalid JSON.
    """
    if _values_of(data) > values:
        raise TooMuch(f"the answer has more than {values} values")
    value = orjson.loads(data)
    if is_deeper(value, depth):
        raise TooMuch(f"the answer is nested deeper than {depth} levels")
    return value


def is_deeper(value: Any, maximum: int) -> bool:
    """Return whether a JSON value has more levels of lists and objects than `maximum`."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(maximum):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return bool(level)
