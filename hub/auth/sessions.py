"""Sessions of accounts: a sign-in begins one; logout or a new password ends it.

Source: as Argo CD 3.6: JWT, HS256, issuer `argocd`, subject `name:login`, `name:apiKey` or
    `proj:project:role`. A token only holds an id: session and token are rows of the database, and
    end with them.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from hub.access.decisions import Caller, caller_of
from hub.audit import trail
from hub.auth import throttling
from hub.auth.signed_tokens import sign_token
from hub.models import (
    Account,
    LoginFailure,
    LoginSession,
)

FAILURE_WINDOW = throttling.WINDOW


def begin_session(
    account: Account, method: str, *, user_agent: str = "", refresh: dict[str, Any] | None = None
) -> str:
    """Start a session of an account; return its token."""
    now = timezone.now()
    with transaction.atomic():
        session = LoginSession.objects.create(
            account=account,
            method=method,
            address=trail.address.get(),
            user_agent=user_agent[:300],
            created_at=now,
            expires_at=now + settings.SESSION_DURATION,
            refresh=refresh or {},
        )
        caller = caller_of(account, session_id=str(session.pk), method=method)
        trail.who.set(caller.as_record())
        trail.record(caller.name, "login", "session", caller.name, method=method)
    return sign_token(f"{account.name}:login", str(session.pk), now, session.expires_at)


def issue(account: Account, now: datetime) -> str:
    """Return the token of a new session of an account, without an event: for tests and tools."""
    session = LoginSession.objects.create(
        account=account, created_at=now, expires_at=now + settings.SESSION_DURATION
    )
    return sign_token(f"{account.name}:login", str(session.pk), now, session.expires_at)


def revoke(caller: Caller) -> None:
    """End the session of a caller early."""
    if caller.session_id:
        end_sessions(LoginSession.objects.filter(pk=caller.session_id), caller.name, "logout")


def end_sessions(sessions: Any, actor: str, verb: str = "end-session") -> int:
    """End sessions; each is an event."""
    now = timezone.now()
    with transaction.atomic():
        rows = list(sessions.filter(ended_at=None).select_related("account"))
        for row in rows:
            LoginSession.objects.filter(pk=row.pk).update(ended_at=now, refresh={})
            trail.record(actor, verb, "session", row.account.shown_name, session=str(row.pk))
    return len(rows)


def forget_old(now: datetime) -> None:
    """Delete old failures of sign-in, and sessions that ended 30 days ago."""
    LoginFailure.objects.filter(last_at__lt=now - FAILURE_WINDOW).delete()
    LoginSession.objects.filter(expires_at__lt=now - timedelta(days=30)).delete()
