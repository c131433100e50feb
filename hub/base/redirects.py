"""The only module that decides where a page of this hub may redirect a browser to."""

import re
from urllib.parse import urlsplit

MAX_CHARACTERS = 4000
# A path, with everything that is not plain percent-encoded, as browsers and Django write it.
_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*\Z")


def is_own_path(url: object) -> bool:
    """Return whether a URL can be nothing but a path of this hub.

    No scheme, no host, no backslash, no character that a browser drops or reads as another one, and
    no `//` further in: scripts pass paths on, and it may come first once its dots are resolved.
    """
    if not isinstance(url, str) or len(url) > MAX_CHARACTERS or not _PATH.match(url):
        return False
    return "//" not in re.split(r"[?#]", url, maxsplit=1)[0]


def own_path(url: object, default: str = "/") -> str:
    """Return a URL if it is a path of this hub, else the default."""
    return url if isinstance(url, str) and is_own_path(url) else default


def origin_of(text: str) -> tuple[str, str]:
    """Return scheme and host of the page that a browser comes from, both empty if unknown."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.lower()


def path_of(url: str, default: str = "/") -> str:
    """Return path and query of the page that a request comes from, as a path of this hub."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return default
    return own_path(parts.path + (f"?{parts.query}" if parts.query else ""), default)
