"""JSON Web Tokens that this hub signs and verifies."""

import hashlib
from datetime import datetime
from typing import Any

import jwt
from django.conf import settings

from hub.engine.errors import Unauthenticated

ISSUER = "argocd"


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"flotilla session\0" + secret.encode()).digest()


def sign_token(subject: str, token_id: str, now: datetime, expires_at: datetime | None) -> str:
    """Return a signed token; without `expires_at` it does not expire."""
    stamp = int(now.timestamp())
    claims = {"iss": ISSUER, "sub": subject, "jti": token_id, "iat": stamp, "nbf": stamp}
    if expires_at is not None:
        claims["exp"] = int(expires_at.timestamp())
    return jwt.encode(claims, _key(settings.SECRET_KEY), algorithm="HS256")


def subject_of(token: str) -> str:
    """Return the subject of a token, empty if this hub has not signed it.

    It needs no database query, so that it is cheap enough for every request. Whether the token is
    still valid is not checked.
    """
    try:
        return str(claims_of(token)["sub"]) if token else ""
    except Unauthenticated:
        return ""


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a token that this hub has signed.

    Raises: Unauthenticated.
    """
    error: Exception | None = None
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        try:
            return jwt.decode(
                token,
                _key(secret),
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["iat", "sub", "jti"]},
            )
        except jwt.PyJWTError as found:
            error = found
    raise Unauthenticated(f"invalid session: {error}") from error
