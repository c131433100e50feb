"""Requests by aiohttp: the lists and watches of clusters, thousands at once in one event loop."""

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import aiohttp.abc

from hub.base.outbound import addresses, refusal
from hub.base.outbound.bounds import Decoder
from hub.engine.errors import Invalid, RetryLater

Session = Any
"""An aiohttp.ClientSession: the library is not typed here."""
ClientError = aiohttp.ClientError
CONNECT = 15.0
"""Seconds for the name, the connection and the handshake together."""
_TURN = 4
"""The number of pieces after which other clusters are read, even if more data is available."""


class _Resolver(aiohttp.abc.AbstractResolver):  # type: ignore[misc]
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        del family
        try:
            places = await asyncio.to_thread(addresses, host, "the address")
        except (Invalid, RetryLater) as error:
            raise OSError(errno.EACCES, str(error)) from error
        return [
            aiohttp.abc.ResolveResult(
                hostname=host,
                host=place,
                port=port,
                proto=0,
                flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in place else socket.AF_INET,
            )
            for place in places
        ]

    async def close(self) -> None:
        """Do nothing: nothing is cached."""


def _socket(info: Any) -> socket.socket:
    """Return the socket for an address that a URL contains: aiohttp does not resolve those."""
    family, kind, protocol, _, where = info
    address = ipaddress.ip_address(str(where[0]).partition("%")[0])
    if why := refusal(address):
        raise OSError(errno.EACCES, f"{address} is {why}: the hub does not connect there")
    return socket.socket(family, kind, protocol)


def session(tls: ssl.SSLContext | bool, headers: Mapping[str, str]) -> Session:
    """Return a session that connects only to allowed addresses, and decodes nothing by itself."""
    connector = aiohttp.TCPConnector(
        limit=0,
        ssl=tls,
        keepalive_timeout=30,
        resolver=_Resolver(),
        use_dns_cache=False,
        socket_factory=_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=limits(None),
        headers={"Accept-Encoding": "gzip", **headers},
        auto_decompress=False,
        trust_env=False,
    )


def limits(total: float | None) -> aiohttp.ClientTimeout:
    """Return the time limits of a request; without `total` its response may last for ever."""
    return aiohttp.ClientTimeout(total=total, connect=CONNECT, sock_connect=5, sock_read=None)


def get(session: Session, url: str, **more: Any) -> Any:
    """Return a GET request as a context manager; no redirect is followed."""
    return session.get(url, allow_redirects=False, **more)


async def pieces(answer: aiohttp.ClientResponse, maximum: int | None) -> AsyncIterator[bytes]:
    """Yield the body of a response, decoded and limited in bytes; other tasks run in between.

    Raises: TooMuch, and what aiohttp raises.
    """
    decoder, count = Decoder(answer.headers.get("Content-Encoding"), maximum), 0
    async for chunk in answer.content.iter_any():
        # A chunk counts too: it may be long and decode to nothing.
        count += 1
        for piece in decoder.feed(chunk):
            yield piece
            count += 1
            if count % _TURN == 0:
                await asyncio.sleep(0)
        if count % _TURN == 0:
            await asyncio.sleep(0)
    decoder.end()


async def read(answer: aiohttp.ClientResponse, maximum: int) -> bytes:
    """Return the whole body of a response, decoded.

    Raises: TooMuch, and what aiohttp raises.
    """
    return b"".join([piece async for piece in pieces(answer, maximum)])
