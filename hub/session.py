"""Sign in with a name and a password, and the tokens that this gives.

Source: as Argo CD 3.6: JWT, HS256, issuer `argocd`, subject `name:login`.
"""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from hub import audit
from hub.engine.errors import Unauthenticated
from hub.models import Account, LoginFailure, RevokedToken

ISSUER = "argocd"
MAX_FAILURES = 5
FAILURE_WINDOW = timedelta(seconds=300)
WRONG = "Invalid username or password"


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in, and by which token."""

    account: Account
    token_id: str
    expires_at: datetime


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"flotilla session\0" + secret.encode()).digest()


def sign_in(name: str, password: str) -> str:
    """Return a token for a name and a password.

    Raises: Unauthenticated with one text for an unknown name, a wrong password and a locked name.
    """
    now = timezone.now()
    locked = LoginFailure.objects.filter(
        name=name, count__gte=MAX_FAILURES, last_at__gt=now - FAILURE_WINDOW
    ).exists()
    account = Account.objects.filter(name=name).first()
    # An unknown name costs as much as a known one, so that the time tells nothing.
    known = account.password if account else _dummy_hash()
    fits = check_password(password, known)
    if locked or account is None or not fits:
        _count_failure(name, now)
        raise Unauthenticated(WRONG)
    if not account.enabled:
        raise Unauthenticated(f"Account {name} is disabled")
    if "login" not in account.capabilities:
        raise Unauthenticated(f"Account {name} does not have login capability")
    with transaction.atomic():
        LoginFailure.objects.filter(name=name).delete()
        audit.record(name, "login", "session", name)
    return issue(account, now)


_dummy: str = ""


def _dummy_hash() -> str:
    global _dummy
    if not _dummy:
        _dummy = make_password("nobody")
    return _dummy


def _count_failure(name: str, now: datetime) -> None:
    with transaction.atomic():
        row, _created = LoginFailure.objects.get_or_create(name=name[:150])
        if row.last_at < now - FAILURE_WINDOW:
            LoginFailure.objects.filter(pk=row.pk).update(count=1, last_at=now)
        else:
            LoginFailure.objects.filter(pk=row.pk).update(count=F("count") + 1, last_at=now)
        audit.record_refusal(
            name[:150], "login", "session", name, reason="wrong name, password or too many failures"
        )


def issue(account: Account, now: datetime) -> str:
    """Return a new token of an account."""
    claims = {
        "iss": ISSUER, "sub": f"{account.name}:login", "jti": str(uuid.uuid4()),
        "gen": str(account.token_generation), "iat": int(now.timestamp()), "nbf": int(now.timestamp()),
        "exp": int((now + settings.SESSION_DURATION).timestamp()),
    }  # fmt: skip
    return jwt.encode(claims, _key(settings.SECRET_KEY), algorithm="HS256")


def verify(token: str) -> Session:
    """Return the session of a token.

    Raises: Unauthenticated saying why: expired, revoked, account disabled, password changed.
    """
    claims = _claims(token)
    name = str(claims["sub"]).partition(":")[0]
    account = Account.objects.filter(name=name).first()
    if account is None or not account.enabled:
        raise Unauthenticated(f"account {name} is disabled")
    if claims.get("gen") != str(account.token_generation):
        raise Unauthenticated("account password has changed since token issued")
    if RevokedToken.objects.filter(jti=claims["jti"]).exists():
        raise Unauthenticated("token is revoked, please re-login")
    return Session(
        account,
        str(claims["jti"]),
        datetime.fromtimestamp(claims["exp"], timezone.get_current_timezone()),
    )


def _claims(token: str) -> dict[str, Any]:
    error: Exception | None = None
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        try:
            return jwt.decode(
                token, _key(secret), algorithms=["HS256"], issuer=ISSUER,
                options={"require": ["exp", "iat", "sub", "jti"]},
            )  # fmt: skip
        except jwt.PyJWTError as found:
            error = found
    raise Unauthenticated(f"invalid session: {error}") from error


def revoke(session: Session) -> None:
    """End a session before its time."""
    with transaction.atomic():
        RevokedToken.objects.get_or_create(
            jti=session.token_id, defaults={"expires_at": session.expires_at}
        )
        audit.record(session.account.name, "logout", "session", session.account.name)


def set_password(account: Account, password: str, actor: str) -> None:
    """Give an account a new password; all its tokens end."""
    with transaction.atomic():
        account.password = make_password(password)
        account.password_changed_at = timezone.now()
        account.token_generation = uuid.uuid4()
        account.save()
        audit.record(actor, "update-password", "account", account.name)
