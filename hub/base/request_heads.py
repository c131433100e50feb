"""Request headers that are read before any framework, and the shape of errors.

Nothing here imports REST framework.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

COOKIE = "argocd.token"
MAX_COOKIES = 20


def joined_cookie(cookies: Mapping[str, str]) -> str:
    """Return the token of a session's cookie, whole or in chunks; empty when there is none."""
    first = cookies.get(COOKIE, "")
    count, separator, chunk = first.partition(":")
    if separator and count.isdecimal() and len(count) < 3 and 1 <= int(count) <= MAX_COOKIES:
        return chunk + "".join(cookies.get(f"{COOKIE}-{n}", "") for n in range(1, int(count)))
    return first


def address_of(peer: str, forwarded: str) -> str:
    """Return the client address of a request that a proxy passes on with X-Forwarded-For."""
    if settings.PROXY_HOPS:
        hops = [h.strip() for h in forwarded.split(",") if h.strip()]
        if len(hops) >= settings.PROXY_HOPS:
            return hops[-settings.PROXY_HOPS]
    return peer


def error_body(code: int, message: str) -> dict[str, Any]:
    """Return an error in the shape that clients of Argo CD read."""
    return {"error": message, "message": message, "code": code, "details": []}
