"""Sign-in by name, password and second factor."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from hub.audit import trail
from hub.auth import throttling
from hub.auth.passwords import dummy_hash, fits_password
from hub.auth.sessions import begin_session
from hub.engine.errors import Unauthenticated
from hub.models import (
    Account,
)

WRONG = "Invalid username or password"


def check_login(name: str, password: str) -> Account:
    """Return the local account of a name and a password.

    Raises: Unauthenticated with one text for an unknown name, a wrong password and a locked name or
        address.
    """
    now = timezone.now()
    account = Account.objects.filter(name=name, issuer="").first()
    # An unknown name takes as long as a known one, so that the time reveals nothing.
    known = account.password if account and account.password else dummy_hash()
    fits = fits_password(password, known)
    held = throttling.is_held(name, account, now)
    if held or account is None or not account.password or not fits:
        refuse_login(name, account, now)
        raise Unauthenticated(WRONG)
    if not account.enabled:
        raise Unauthenticated(f"Account {name} is disabled")
    if "login" not in account.capabilities:
        raise Unauthenticated(f"Account {name} does not have login capability")
    return account


def has_second_factor(account: Account) -> bool:
    """Return whether an account needs a second factor."""
    from allauth.mfa.utils import is_mfa_enabled

    return bool(is_mfa_enabled(account))


def fits_second_factor(account: Account, code: str) -> bool:
    """Return whether a one-time or recovery code is right; each works once."""
    from allauth.mfa.models import Authenticator

    kinds = [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]
    with transaction.atomic():
        for row in Authenticator.objects.select_for_update().filter(user=account, type__in=kinds):
            if row.wrap().validate_code(code):
                row.record_usage()
                return True
    return False


def sign_in(name: str, password: str, *, code: str = "", user_agent: str = "") -> str:
    """Return a session token for a name, a password, and a one-time code if the account needs one.

    Raises: Unauthenticated; see `check_login`.
    """
    account = check_login(name, password)
    if has_second_factor(account):
        if not code:
            raise Unauthenticated(
                "a one-time code is required: send it as otp, or sign in by the browser"
            )
        if not fits_second_factor(account, code):
            refuse_login(name, account, timezone.now())
            raise Unauthenticated(WRONG)
    throttling.forget(name)
    return begin_session(account, "password", user_agent=user_agent)


def refuse_login(name: str, account: Account | None, now: datetime) -> None:
    """Count a failed sign-in, and record it up to a limit."""
    held = throttling.is_held(name, account, now)
    count = throttling.count_failure(name, now, held=held)
    if throttling.may_record(now, count):
        reason = "wrong name, password or code, or too many failures"
        if count >= settings.MAX_ADDRESS_FAILURES:
            reason = "many failures from this address: its wrong guesses are slowed"
        trail.record_refusal(name[:150], "login", "session", name[:150], reason=reason)


def confirm_password(account: Account, password: str) -> bool:
    """Return whether the current account's password is right, with the limits of a sign-in."""
    now, fits = timezone.now(), fits_password(password, account.password)
    if fits and not throttling.is_held(account.name, account, now):
        return True
    refuse_login(account.name, account, now)
    return False


def record_factor(verb: str, user: Account, authenticator: Any, **_: Any) -> None:
    """Record that a second factor was added or removed."""
    trail.record(user.shown_name, verb, "account", user.name, factor=str(authenticator.type))


def refuse_factor(user: Account, **_: Any) -> None:
    """Count and record a wrong second factor, as at every other sign-in."""
    refuse_login(user.name, user, timezone.now())
