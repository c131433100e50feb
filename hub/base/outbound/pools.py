"""Requests by urllib3, raw and pooled: to the API servers of clusters, where overhead counts.

urllib3 costs less than httpx and has fewer limits: it reads lines and interim responses without an
end, so its sockets here limit bytes and time.
"""

import io
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import connection as _sockets

from hub.base.outbound import addresses
from hub.base.outbound.bounds import Decoder, TooMuch
from hub.engine.errors import Invalid, RetryLater

Pool = urllib3.PoolManager
Response = urllib3.BaseHTTPResponse
HTTPError = urllib3.exceptions.HTTPError
IDLE = 60.0
"""Seconds without any data after which a request fails."""
_WAIT = 30.0
_FRAMING = 256 * 1024
"""Bytes allowed for headers and chunk framing, in addition to the body."""
# "insecure" is a choice of the operator; the cluster's page shows it, so the log need not repeat
# it.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
_current = threading.local()


class Allowance:
    """The bytes and the time that are left for a request.

    For a stream, both start again with each piece that is returned, and the whole has no limit.
    """

    def __init__(self, maximum: int, seconds: float) -> None:
        self._maximum, self._seconds, self.streams = maximum + _FRAMING, seconds, False
        self.renew()

    def stream(self) -> None:
        """Remove the limits for the rest of the response."""
        self.streams = True
        self.renew()

    def renew(self) -> None:
        """Reset both limits."""
        self._bytes, self._until = self._maximum, time.monotonic() + self._seconds

    def left(self) -> float:
        """Return for how many seconds the next read may wait."""
        left = self._until - time.monotonic()
        if left <= 0 and not self.streams:
            raise TimeoutError("the answer takes too long")
        return IDLE if self.streams else min(IDLE, left)

    def take(self, count: int) -> None:
        """Count bytes that were read."""
        self._bytes -= count
        if self._bytes < 0:
            raise OSError("the answer is longer than the hub reads")


class _Raw(io.RawIOBase):
    """The bytes of a socket, counted against the allowance of the request that runs on it."""

    def __init__(self, inner: Any, sock: Any, allowance: Allowance | None) -> None:
        self._inner, self._sock, self._allowance = inner, sock, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._allowance is None:
            return int(self._inner.readinto(buffer))
        self._sock.settimeout(self._allowance.left())
        count = self._inner.readinto(buffer)
        self._allowance.take(count or 0)
        return int(count or 0)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Socket:
    """A connected socket whose reader counts bytes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.allowance: Allowance | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def makefile(self, mode: str, *_more: Any, **_named: Any) -> io.BufferedReader:
        return io.BufferedReader(
            _Raw(self._inner.makefile(mode, buffering=0), self._inner, self.allowance)
        )


class _Checked:
    """The differences of both kinds of connections from urllib3's own."""

    sock: Any
    port: int
    timeout: Any
    source_address: Any
    socket_options: Any
    _dns_host: str

    def _new_conn(self) -> Any:
        try:
            places = addresses(self._dns_host, "the address")
        except (Invalid, RetryLater) as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error  # type: ignore[arg-type]
        failed: OSError | None = None
        for place in places:
            try:
                return _sockets.create_connection(
                    (place, self.port), self.timeout, self.source_address, self.socket_options
                )
            except OSError as error:
                failed = failed or error
        text = "timed out" if isinstance(failed, TimeoutError) else str(failed)
        raise urllib3.exceptions.NewConnectionError(self, text) from failed  # type: ignore[arg-type]

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock = _Socket(self.sock)

    def getresponse(self) -> Any:
        self.sock.allowance = getattr(_current, "allowance", None)
        return super().getresponse()  # type: ignore[misc]


class _Plain(_Checked, HTTPConnection):
    pass


class _Secure(_Checked, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


def pool(*, maxsize: int, **tls: Any) -> urllib3.PoolManager:
    """Return a pool of connections to one server, limited to allowed addresses."""
    found = urllib3.PoolManager(
        num_pools=1,
        maxsize=maxsize,
        block=True,
        retries=False,
        timeout=urllib3.Timeout(connect=5, read=IDLE),
        **tls,
    )
    found.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return found


def send(
    connections: urllib3.PoolManager,
    method: str,
    url: str,
    allowance: Allowance,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response whose body is not read yet; no redirect is followed.

    Raises: HTTPError and OSError as urllib3 does.
    """
    _current.allowance = allowance
    try:
        found = connections.request(
            method,
            url,
            body=body,
            headers=headers,
            preload_content=False,
            redirect=False,
            pool_timeout=_WAIT,
        )
    finally:
        _current.allowance = None
    return found


def pieces(answer: Response, maximum: int | None) -> Iterator[bytes]:
    """Yield the body of a response, decoded and limited in bytes.

    Raises: TooMuch, HTTPError, OSError.
    """
    decoder = Decoder(answer.headers.get("content-encoding"), maximum)
    for piece in answer.stream(64 * 1024, decode_content=False):
        yield from decoder.feed(piece)
    decoder.end()


def read(answer: Response, maximum: int) -> bytes:
    """Return the whole body of a response and release its connection.

    Raises: TooMuch, HTTPError, OSError; then the connection is closed.
    """
    try:
        found = b"".join(pieces(answer, maximum))
    except BaseException:
        # The rest of this response must not be read as the beginning of the next one.
        answer.close()
        raise
    answer.release_conn()
    return found


__all__ = ["Allowance", "HTTPError", "Response", "TooMuch", "pieces", "pool", "read", "send"]
