"""Passwords of local accounts: hashing, comparison, and the rules for new ones."""

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
    """Return a hash that no password matches, to compare with for an unknown name."""
    global _dummy
    if not _dummy:
        _dummy = make_password("nobody")
    return _dummy


def fits_password(password: str, kept: str) -> bool:
    """Return whether a password matches; few are hashed at once, as each takes 100 MB."""
    with _HASHING:
        return check_password(password, kept)


def check_new_password(password: Any, field: str = "newPassword") -> str:
    """Return a new password that matches the rules.

    Raises: Invalid with the rule that it breaks.
    """
    pattern = str(setting("password_pattern", "^.{8,256}$"))
    try:
        if isinstance(password, str) and len(password) <= 256 and finds(pattern, password):
            return password
    except PatternError as error:
        raise Invalid(
            "the setting password_pattern is not a valid expression, "
            f"ask an administrator to correct it: {error}"
        ) from error
    raise Invalid(f"{field}: new password does not match the following expression: {pattern}")
