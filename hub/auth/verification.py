"""The callers behind tokens: a session, an account's token, or a project role's token."""

import contextlib
import uuid
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from hub.access.decisions import Caller, caller_of
from hub.auth.signed_tokens import claims_of
from hub.engine.errors import Unauthenticated
from hub.models import (
    ApiToken,
    LoginSession,
    ProjectPolicy,
)

_USED_EVERY = timedelta(seconds=60)


def verify(token: str) -> Caller:
    """Return the caller of a token.

    Raises: Unauthenticated with the reason: expired, revoked, account disabled.
    """
    claims = claims_of(token)
    subject, issued = str(claims["sub"]), int(claims["iat"])
    if subject.startswith("proj:"):
        return _role_caller(subject, str(claims["jti"]), issued)
    name, _, capability = subject.rpartition(":")
    if capability == "apiKey":
        return _token_caller(name, str(claims["jti"]), issued)
    if capability != "login":
        raise Unauthenticated("invalid session: the token's subject is none of this hub's")
    rows, now = _sessions([str(claims["jti"])]), timezone.now()
    caller = _session_caller(next(iter(rows.values()), None), name, issued, now)
    _mark_sessions(rows.values(), now)
    return caller


def verify_all(tokens: Collection[str]) -> dict[str, Caller | None]:
    """Return the caller of each token, None for invalid ones, with one query for all sessions."""
    found: dict[str, Caller | None] = dict.fromkeys(tokens)
    sessions: dict[str, tuple[str, str, int]] = {}
    for token in tokens:
        with contextlib.suppress(Unauthenticated):
            claims = claims_of(token)
            name, _, capability = str(claims["sub"]).rpartition(":")
            if capability == "login" and not name.startswith("proj:"):
                sessions[token] = name, str(claims["jti"]), int(claims["iat"])
            else:
                found[token] = verify(token)
    rows = _sessions([session_id for _, session_id, _ in sessions.values()])
    now, used = timezone.now(), []
    for token, (name, session_id, issued) in sessions.items():
        with contextlib.suppress(Unauthenticated):
            found[token] = _session_caller(rows.get(session_id), name, issued, now)
            used.append(rows[session_id])
    _mark_sessions(used, now)
    return found


def _sessions(ids: Iterable[str]) -> dict[str, LoginSession]:
    numbers = []
    for one in ids:
        with contextlib.suppress(ValueError):
            numbers.append(uuid.UUID(one))
    rows = LoginSession.objects.select_related("account").in_bulk(numbers)
    return {str(number): row for number, row in rows.items()}


def _mark_sessions(rows: Iterable[LoginSession], now: datetime) -> None:
    due = [row.pk for row in rows if _is_due(row.last_used_at, now)]
    if due:
        LoginSession.objects.filter(pk__in=due).update(last_used_at=now)


def _session_caller(session: LoginSession | None, name: str, issued: int, now: datetime) -> Caller:
    if session is None or session.account.name != name:
        raise Unauthenticated("token is revoked, please re-login")
    account = session.account
    if not account.enabled:
        raise Unauthenticated(f"account {name} is disabled")
    if session.ended_at is not None:
        raise Unauthenticated(
            "account password has changed since token issued"
            if session.ended_at == account.password_changed_at
            else "token is revoked, please re-login"
        )
    if session.expires_at <= now:
        raise Unauthenticated("invalid session: the session has expired")
    if account.is_local and "login" not in account.capabilities:
        raise Unauthenticated(f"account {name} does not have 'login' capability")
    return caller_of(account, session_id=str(session.pk), method=session.method, issued_at=issued)


def _is_due(last: datetime | None, now: datetime) -> bool:
    return last is None or last < now - _USED_EVERY


def _mark_used(rows: Any, last: datetime | None, now: datetime) -> None:
    if _is_due(last, now):
        rows.update(last_used_at=now)


def _token_caller(name: str, token_id: str, issued: int) -> Caller:
    row = (
        ApiToken.objects.select_related("account")
        .filter(account__name=name, token_id=token_id, project="")
        .first()
    )
    if row is None or row.account is None:
        raise Unauthenticated("token is revoked, please re-login")
    if not row.account.enabled:
        raise Unauthenticated(f"account {name} is disabled")
    if "apiKey" not in row.account.capabilities:
        raise Unauthenticated(f"account {name} does not have 'apiKey' capability")
    _check_token(row, issued)
    return caller_of(row.account, token_id=token_id, method="apiKey", issued_at=issued)


def _role_caller(subject: str, token_id: str, issued: int) -> Caller:
    _, project, role = [*subject.split(":", 2), "", ""][:3]
    row = ApiToken.objects.filter(project=project, role=role, token_id=token_id).first()
    policy = ProjectPolicy.objects.filter(project=project).first()
    if row is None or policy is None or not any(r.get("name") == role for r in policy.roles):
        raise Unauthenticated("token is revoked, please re-login")
    _check_token(row, issued)
    return Caller(
        subject,
        None,
        (subject,),
        project=project,
        token_id=token_id,
        method="project-token",
        issued_at=issued,
    )


def _check_token(row: ApiToken, issued: int) -> None:
    now = timezone.now()
    # An account that was deleted takes its tokens along. A new one of its name may use their ids.
    if row.revoked_at is not None or int(row.issued_at.timestamp()) != issued:
        raise Unauthenticated("token is revoked, please re-login")
    if row.expires_at is not None and row.expires_at <= now:
        raise Unauthenticated("invalid session: the token has expired")
    _mark_used(ApiToken.objects.filter(pk=row.pk), row.last_used_at, now)
