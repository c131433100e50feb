"""The only module that opens outgoing connections: it decides where the hub may connect to.

A name is resolved once, every address of it is checked, and the connection goes to one of those: a
name server that returns another address the next time has no effect. `http` (httpx), `pools`
(urllib3) and `streams` (aiohttp) return the clients; `bounds` limits what is read from servers.
"""

import ipaddress
import re
import socket
from urllib.parse import urljoin, urlsplit

from django.conf import settings

from hub.base.redaction import redact_url
from hub.engine.errors import Invalid, RetryLater
from hub.engine.outbound_addresses import Address, why_refused

# Numbers that some libraries read as an IPv4 address: 2852039166, 0xa9fea9fe, 0251.0376.0251.0376,
# 169.254.43518.
_NUMBERS = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?\Z")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?\Z")
_MAX_NAME = 253


def check_url(
    url: str, field: str, schemes: tuple[str, ...] = ("https", "http"), *, proxied: bool = False
) -> None:
    """Check that the hub may connect to a URL.

    Raises: Invalid naming the field for another scheme, no host, or an address that is refused;
        RetryLater when the name does not resolve.
    """
    shown = redact_url(url)
    if any(c.isspace() or ord(c) < 32 or c in '\\"<>^`{|}' or ord(c) == 127 for c in url):
        raise Invalid(f"{field}: {shown!r} holds characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid(f"{field}: {shown!r} is no URL: {_reason(error)}") from error
    if parts.scheme not in schemes:
        raise Invalid(
            f"{field}: {shown!r} must start with {' or '.join(s + '://' for s in schemes)}"
        )
    if not parts.hostname:
        raise Invalid(f"{field}: {shown!r} has no host")
    if port == 0:
        raise Invalid(f"{field}: {shown!r} names port 0")
    check_host(parts.hostname, field, proxied=proxied)


def joined(base: str, target: str, field: str) -> str:
    """Return the URL that a server points to, by a redirect or a link.

    Raises: Invalid when it is not a valid URL.
    """
    try:
        found = urljoin(base, target)
        _ = urlsplit(found).port
    except ValueError as error:
        raise Invalid(f"{field}: the server points to what is no URL") from error
    return found


def _reason(error: ValueError) -> str:
    # The library's message quotes the port, which may be the beginning of a password.
    return "its port is not a number" if "cast to integer" in str(error) else redact_url(str(error))


def check_host(host: str, field: str, *, proxied: bool = False) -> None:
    """Check that the hub may connect to a host; every address of the name must be allowed.

    With `proxied` a name may be one that only the proxy knows.
    Raises: as `addresses`.
    """
    try:
        addresses(host, field)
    except RetryLater:
        if not proxied:
            raise


def addresses(host: str, field: str) -> list[str]:
    """Return the addresses of a host, in the order in which they should be tried.

    The caller must connect to one of these, and not resolve the name again.
    Raises: Invalid naming the field when one of them is refused, or when libraries could read the
    host in different ways; RetryLater when the name does not resolve.
    """
    written = host.removeprefix("[").removesuffix("]")
    literal = _literal(written)
    if literal is not None:
        _require_allowed(literal, host, field)
        return [str(literal)]
    if not host.isascii():
        raise Invalid(f"{field}: write the host {host!r} in ASCII (xn--…)")
    if _NUMBERS.match(host):
        raise Invalid(f"{field}: write the address {host} with four decimal numbers, or as a name")
    if not _NAME.match(host) or len(host) > _MAX_NAME:
        raise Invalid(f"{field}: {host!r} is not a valid host name")
    found = [ipaddress.ip_address(text) for text in _resolved(host, field)]
    for address in found:
        _require_allowed(address, host, field)
    return [str(address) for address in found]


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _resolved(host: str, field: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RetryLater("Unreachable", f"{field}: the name {host} does not resolve") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _require_allowed(address: Address, host: str, field: str) -> None:
    why = refusal(address)
    if why:
        at = "" if str(address) == host else f" is at {address}, which"
        raise Invalid(f"{field}: {host}{at} is {why}: the hub does not connect there")


def refusal(address: Address) -> str:
    """Return why the settings refuse an address, or an empty text."""
    return why_refused(
        address,
        loopback=settings.ALLOW_LOOPBACK,
        allow=settings.OUTBOUND_ALLOW,
        deny=settings.OUTBOUND_DENY,
    )
