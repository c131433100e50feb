"""Where the hub may connect to: never link-local or metadata addresses, loopback only in development."""

import ipaddress
import socket
from urllib.parse import urlsplit

from django.conf import settings

from hub.engine.errors import Invalid, RetryLater


def check_url(
    url: str, field: str, schemes: tuple[str, ...] = ("https", "http"), *, proxied: bool = False
) -> None:
    """Return if the hub may connect to a URL.

    Raises: Invalid naming the field for another scheme, no host, or an address that is refused;
        RetryLater when the name does not resolve.
    """
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise Invalid(f"{field}: {url!r} must start with {' or '.join(s + '://' for s in schemes)}")
    if not parts.hostname:
        raise Invalid(f"{field}: {url!r} has no host")
    check_host(parts.hostname, field, proxied=proxied)


def check_host(host: str, field: str, *, proxied: bool = False) -> None:
    """Return if the hub may connect to a host; every address of the name must be allowed.

    With `proxied` a name may be one that only the proxy knows.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        if proxied:
            return
        raise RetryLater("Unreachable", f"{field}: the name {host} does not resolve") from error
    for entry in found:
        address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast:
            raise Invalid(f"{field}: {host} is at {address}, where the hub does not connect")
        if mapped.is_loopback and not settings.ALLOW_LOOPBACK:
            raise Invalid(
                f"{field}: {host} is this machine; set HUB_ALLOW_LOOPBACK=true to allow it"
            )
