"""Parse Git URLs, and refuse those that Git, ssh or curl could interpret differently.

Both the check of a connection and the connection itself use the result.
Source: git-clone, "Git URLs"; RFC 3986 for URLs with a scheme.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from hub.base.redaction import redact_text, redact_url
from hub.engine.errors import Invalid

PORTS = {"https": 443, "http": 80, "ssh": 22}
_MAX_LENGTH = 2048
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]*\Z")
# Git and ssh disagree on names with a colon, a slash or a second @ before the path.
_SCP = re.compile(
    r"(?:([A-Za-z0-9_.][A-Za-z0-9_.+-]*)@)?"
    r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?):(?!//)([^-].*)\Z"
)
_PLACE = re.compile(
    r"(?:([A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)|\[([0-9A-Fa-f:.]+)\])"
    r"(?::([1-9][0-9]{0,4}))?\Z"
)


@dataclass(frozen=True, slots=True)
class GitURL:
    """The parts of a repository's URL."""

    scheme: str
    host: str = ""
    """A name or an address without brackets."""
    port: int = 0
    user: str = ""
    """The ssh user; the user of an https URL is part of its credentials."""
    path: str = ""


def parse(url: str, field: str = "repoURL") -> GitURL:
    """Parse a Git URL.

    Raises: Invalid naming the field, for other schemes, options and ambiguous URLs.
    """
    if not url or url.startswith("-") or _is_malformed(url) or "::" in url.partition("/")[0]:
        raise Invalid(f"{field}: {redact_text(url)!r} is not a repository URL")
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _scp(url, field)
    if scheme not in (*PORTS, "file"):
        raise Invalid(f"{field}: {redact_text(scheme)}:// is not supported; use https:// or ssh://")
    authority, slash, path = rest.partition("/")
    if scheme == "file":
        if authority or "%" in path:
            raise Invalid(f"{field}: {redact_url(url)!r} has no folder; write file:///folder")
        return GitURL(scheme, path=slash + path)
    if scheme != "ssh" and "#" in path:
        raise Invalid(f"{field}: {redact_url(url)!r} is not a repository URL: it has a '#'")
    user, at, place = authority.rpartition("@")
    _check_user(user, at, scheme, url, field)
    return _at(scheme, place, user if scheme == "ssh" else "", slash + path, (url, field))


def _is_malformed(url: str) -> bool:
    return len(url) > _MAX_LENGTH or any(
        c.isspace() or ord(c) < 32 or ord(c) == 127 or c == "\\" for c in url
    )


def _scp(url: str, field: str) -> GitURL:
    found = _SCP.match(url)
    if not found or (not found[1] and "@" in found[3]):
        raise Invalid(
            f"{field}: {redact_text(url)!r} is not a repository URL; "
            "write https://… or git@host:path"
        )
    return GitURL("ssh", found[2], PORTS["ssh"], found[1] or "", found[3])


def _check_user(user: str, at: str, scheme: str, url: str, field: str) -> None:
    if scheme == "ssh" and at and not _USER.match(user):
        raise Invalid(
            f"{field}: {redact_url(url)!r} has an invalid user name; "
            "a password or key belongs in the repository's credentials"
        )
    if "@" in user or any(c in user for c in "[]?#"):
        raise Invalid(
            f"{field}: {redact_url(url)!r} has credentials that are not percent-encoded; "
            "set them on the repository instead"
        )


def _at(scheme: str, place: str, user: str, path: str, shown: tuple[str, str]) -> GitURL:
    url, field = shown
    if not place.isascii():
        raise Invalid(f"{field}: {redact_url(url)!r}: write the host in ASCII (xn--…)")
    found = _PLACE.match(place)
    if not found or (found[2] and not _is_ipv6(found[2])):
        what = "is not a repository URL: its host or port is invalid" if place else "has no host"
        raise Invalid(f"{field}: {redact_url(url)!r} {what}")
    port = int(found[3] or PORTS[scheme])
    if port > 65535:
        raise Invalid(f"{field}: {redact_url(url)!r} has an invalid port: use 1 to 65535")
    return GitURL(scheme, found[1] or found[2], port, user, path)


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def check_git_url(url: str, field: str = "repoURL") -> None:
    """Check that the hub may read a Git URL.

    Raises: Invalid naming the field, as `parse` and for local paths outside the allowed folder.
    """
    found = parse(url, field)
    if found.scheme != "file":
        return
    root = settings.LOCAL_REPOSITORIES
    if not root or not Path(found.path).resolve().is_relative_to(Path(root).resolve()):
        raise Invalid(f"{field}: local repositories are not allowed; serve it over https or ssh")
