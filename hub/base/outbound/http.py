"""Requests by httpx: registries, repository hosts, identity providers and notification services.

A client is for one thread and one request at a time: its clock is that of the current request.
"""

import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
import httpx

from hub.base.outbound import addresses
from hub.base.outbound.bounds import read
from hub.engine.errors import Invalid, RetryLater

Client = httpx.Client
Response = httpx.Response
HTTPError = httpx.HTTPError
StatusError = httpx.HTTPStatusError
BasicAuth = httpx.BasicAuth
Auth = httpx.Auth
OK = httpx.codes.OK
SECONDS = 120.0
"""The default time limit of a request with its response."""


def links(header: str) -> dict[str, str]:
    """Return the URLs of a Link header by relation."""
    if not header:
        return {}
    found = httpx.Response(OK, headers={"link": header}).links.values()
    return {str(link.get("rel")): str(link["url"]) for link in found}


class _Clock:
    until = 0.0

    def left(self, timeout: float | None) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer takes too long")
        return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection with a time limit for the whole request, however slowly data arrives."""

    def __init__(self, inner: httpcore.NetworkStream, clock: _Clock) -> None:
        self._inner, self._clock = inner, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._clock.left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        found = self._inner.start_tls(ssl_context, server_hostname, self._clock.left(timeout))
        return _Stream(found, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects only to checked addresses, whatever the host in the URL is."""

    def __init__(self, clock: _Clock) -> None:
        self._inner, self._clock = httpcore.SyncBackend(), clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            places = addresses(host, "the address")
        except (Invalid, RetryLater) as error:
            raise httpcore.ConnectError(str(error)) from error
        failed: Exception | None = None
        for place in places:
            try:
                found = self._inner.connect_tcp(
                    place, port, self._clock.left(timeout), local_address, socket_options
                )
                return _Stream(found, self._clock)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = failed or error
        raise failed or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        del path, timeout, socket_options
        raise httpcore.ConnectError("sockets of this machine are not allowed")


class _Transport(httpx.HTTPTransport):
    def __init__(self, verify: ssl.SSLContext | bool, proxy: str, seconds: float) -> None:
        super().__init__(
            verify=verify, trust_env=False, proxy=httpx.Proxy(proxy) if proxy else None
        )
        self._clock, self._seconds = _Clock(), seconds
        # A private interface of httpx: it has no public way to replace the connection.
        self._pool._network_backend = _Backend(self._clock)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._clock.until = time.monotonic() + self._seconds
        return super().handle_request(request)


class _Client(httpx.Client):
    def build_request(self, *args: Any, **named: Any) -> httpx.Request:
        try:
            return super().build_request(*args, **named)
        except httpx.InvalidURL as error:
            # An invalid URL from a server is a failure of that server, like its other errors.
            raise httpx.UnsupportedProtocol(str(error)) from error


def client(
    *,
    verify: ssl.SSLContext | bool = True,
    proxy: str = "",
    timeout: float = 30,
    connect: float = 5,
    seconds: float = SECONDS,
    headers: Mapping[str, str] | None = None,
    auth: Any = None,
) -> Client:
    """Return a client that connects only to allowed addresses.

    It follows no redirect and decodes nothing. With a proxy, the proxy resolves names: then only
    the proxy's own address is checked here.
    Units: `timeout` of one read, `connect` and `seconds` of a request with its response, in
        seconds.
    """
    return _Client(
        transport=_Transport(verify, proxy, seconds),
        timeout=httpx.Timeout(timeout, connect=connect),
        headers={"Accept-Encoding": "gzip", **(headers or {})},
        auth=auth,
        follow_redirects=False,
        trust_env=False,
    )


def body(answer: Response, maximum: int) -> bytes:
    """Return the decoded body of a streamed response.

    Raises: TooMuch for more bytes than `maximum`, HTTPError as httpx does.
    """
    return read(answer.iter_raw(), answer.headers.get("content-encoding"), maximum)
