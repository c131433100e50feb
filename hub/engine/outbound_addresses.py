"""The addresses that the hub never connects to, including IPv4 addresses embedded in IPv6.

Private networks are allowed, since clusters and Git servers are there. Networks that translate to
IPv4 are refused entirely, and the embedded address is checked as well.

Source: the registries of special-purpose addresses (RFC 6890), RFC 6052 (NAT64), RFC 3056 (6to4),
    RFC 4380 (Teredo), RFC 5214 (ISATAP), and the documentation of the clouds' metadata addresses.
"""

import functools
import ipaddress
from collections.abc import Iterator, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA = (
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::/32",  # AWS
    "fd00:c1::/32",  # Oracle
    "fd20:ce::/32",  # Google
    "fd00:42::/32",  # Scaleway
)
_TRANSLATED = (
    "::/96",  # IPv4-compatible
    "::ffff:0:0:0/96",  # SIIT
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # local-use NAT64
    "2001::/32",  # Teredo
    "2002::/16",  # 6to4
    "192.88.99.0/24",  # 6to4 relays
)
_SPECIAL = (
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "100::/64",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
_WHY = (
    ("a metadata address of a cloud", _METADATA),
    ("an address that translates to another one", _TRANSLATED),
    ("a link-local, reserved or multicast address", _SPECIAL),
)
_LOOPBACK = ("127.0.0.0/8", "::1/128")


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse networks in CIDR notation.

    Raises: ValueError for a text that is not a network.
    """
    return tuple(ipaddress.ip_network(text) for text in texts)


@functools.cache
def _refused() -> tuple[tuple[str, tuple[Network, ...]], ...]:
    return tuple((why, networks(texts)) for why, texts in _WHY)


def embedded(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address may translate to."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    bits = int(address)
    if bits >> 32 in (0, 0xFFFF, 0xFFFF_0000, 0x0064_FF9B << 64) or address in _NAT64:
        yield ipaddress.IPv4Address(bits & 0xFFFF_FFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if (bits >> 32) & 0xFDFF_FFFF == 0x5EFE:
        yield ipaddress.IPv4Address(bits & 0xFFFF_FFFF)


_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_LOOPBACK_NETWORKS = networks(_LOOPBACK)


def _inside(address: Address, among: Sequence[Network]) -> bool:
    return any(address.version == n.version and address in n for n in among)


def why_refused(
    address: Address, *, loopback: bool, allow: Sequence[Network] = (), deny: Sequence[Network] = ()
) -> str:
    """Return why the hub must not connect to an address, empty if it may.

    Shapes: `deny` and `allow` are the operator's networks; `deny` wins, `allow` lifts a refusal.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        return "an address with a zone"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:
        return why_refused(mapped, loopback=loopback, allow=allow, deny=deny)
    if _inside(address, deny):
        return "an address in HUB_OUTBOUND_DENY"
    for inner in embedded(address):
        if (
            address not in _LOOPBACK_NETWORKS[1]
            and int(address)
            and (why := why_refused(inner, loopback=loopback, allow=allow, deny=deny))
        ):
            return why
    if _inside(address, _LOOPBACK_NETWORKS):
        return "" if loopback else "this machine; set HUB_ALLOW_LOOPBACK=true to allow it"
    if _inside(address, allow):
        return ""
    return next((why for why, among in _refused() if _inside(address, among)), "")
