"""Rate limits on guessed passwords that do not lock out other users of the same address.

Failures are counted in the database, so that neither a restart nor a flood of other names clears
them. Five for an account hold sign-ins to it for 300 s; from an address where it has signed in
before, only failures from there count, so that an attacker cannot lock out its owner. Many failures
from one address delay the responses to further wrong guesses from there, but never to a correct
password.
"""

import contextvars
from collections.abc import MutableMapping
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from hub.audit import trail
from hub.models import Account, LoginFailure, LoginSession

MAX_FAILURES = 5
MAX_RECORDED = 50
MAX_RECORDED_OF_ALL = 1000
WINDOW = timedelta(seconds=300)
KNOWN_ADDRESS_PERIOD = timedelta(days=30)
DELAY = "flotilla.delay_seconds"
"""Key of an ASGI scope: seconds by which `hub.http.request_limits` delays the answer."""
MAX_DELAY_SECONDS = 5.0

scope: contextvars.ContextVar[MutableMapping[str, Any] | None] = contextvars.ContextVar(
    "scope", default=None
)
"""The ASGI scope of the request that is being served."""


def is_held(name: str, account: Account | None, now: datetime) -> bool:
    """Return whether sign-ins to an account are held, even with the right password."""
    key = _pair(name) if _is_known_address(account, now) else _account(name)
    return _is_over(key, now)


def count_failure(name: str, now: datetime, *, held: bool) -> int:
    """Count a wrong sign-in; return the count of its address, 0 without one.

    A refused attempt does not extend the lock: an attacker could extend it for ever.
    """
    address = _network(trail.address.get())
    keys = [] if held else [_account(name), _pair(name)]
    with transaction.atomic():
        counts = {key: _count(key, now) for key in sorted([*keys, f"address:{address}"])}
    count = counts[f"address:{address}"]
    _slow(count - settings.MAX_ADDRESS_FAILURES)
    return count


def may_record(now: datetime, count: int) -> bool:
    """Return whether an anonymous refusal may be recorded: repetitions must not fill the trail."""
    if count > max(MAX_RECORDED, settings.MAX_ADDRESS_FAILURES):
        return False
    with transaction.atomic():
        return _count("trail:sign-in", now) <= MAX_RECORDED_OF_ALL


def may_record_refusal(now: datetime) -> bool:
    """Return the same for a failed sign-in by a provider."""
    with transaction.atomic():
        count = _count(f"provider:{_network(trail.address.get())}", now)
    return may_record(now, count)


def forget(name: str) -> None:
    """Clear the failures of an account that has signed in from here."""
    LoginFailure.objects.filter(name__in=[_account(name), _pair(name)]).delete()


def _slow(over: int) -> None:
    found = scope.get()
    if found is not None and over >= 0:
        found[DELAY] = min(MAX_DELAY_SECONDS, 0.25 * 2 ** min(over, 8))


def _is_known_address(account: Account | None, now: datetime) -> bool:
    address = trail.address.get()
    if account is None or not address:
        return False
    since = now - KNOWN_ADDRESS_PERIOD
    return LoginSession.objects.filter(
        account=account, address=address, method__startswith="password", created_at__gt=since
    ).exists()


def _is_over(key: str, now: datetime) -> bool:
    recent = LoginFailure.objects.filter(name=key, last_at__gt=now - WINDOW)
    return recent.filter(count__gte=MAX_FAILURES).exists()


def _account(name: str) -> str:
    return f"account:{name}"[:200]


def _pair(name: str) -> str:
    return f"pair:{_network(trail.address.get())}:{name}"[:200]


def _network(address: str) -> str:
    """Return an address as failures are counted: for IPv6, its network.

    A user can choose the rest of an IPv6 address.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return f"{IPv6Address(int(found) >> 64 << 64)}/64" if found.version == 6 else address


def _count(key: str, now: datetime) -> int:
    row, _created = LoginFailure.objects.get_or_create(name=key)
    if row.last_at < now - WINDOW:
        LoginFailure.objects.filter(pk=row.pk).update(count=1, last_at=now)
        return 1
    LoginFailure.objects.filter(pk=row.pk).update(count=F("count") + 1, last_at=now)
    return row.count + 1
