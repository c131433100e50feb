"""Passwords of local accounts: hashed, compared, and which ones may be used."""

import threading
from typing import Any

from django.contrib.auth.hashers import check_password, make_password

from hub.engine.errors import Invalid
from hub.engine.regex import PatternError, finds
from hub.models import (
    setting,
)

_HASHING = threading.BoundedSemaphore(4)


_dummy: str = ""


def dummy_hash() -> str:
    """Return the hash of a password that nobody has, to compare with for an unknown name."""
    global _dummy
    if not _dummy:
        _dummy = make_password("nobody")
    return _dummy


def fits_password(password: str, kept: str) -> bool:
    """Return whether a password is the kept one; few are hashed at once, as each takes 100 MB."""
    with _HASHING:
        return check_password(password, kept)


def check_new_password(password: Any, field: str = "newPassword") -> str:
    """Return a password that may be used.

    Raises: Invalid saying what it must be.
    """
    pattern = str(setting("password_pattern", "^.{8,256}$"))
    try:
        if isinstance(password, str) and len(password) <= 256 and finds(pattern, password):
            return password
    except PatternError as error:
        raise Invalid(
            f"the setting password_pattern cannot be used, an administrator must write it again: {error}"
        ) from error
    raise Invalid(f"{field}: new password does not match the following expression: {pattern}")
