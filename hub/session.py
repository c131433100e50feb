"""Sign in, and the sessions and tokens that speak for an account or a project's role.

Source: as Argo CD 3.6: JWT, HS256, issuer `argocd`, subject `name:login`, `name:apiKey` or
`proj:project:role`. A token is only a number: session and token live in the database, and die there.
"""

import contextlib
import hashlib
import re
import threading
import uuid
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from hub import audit, guessing
from hub.access import Caller, caller_of
from hub.engine.errors import Invalid, NotFound, Precondition, Protected, Unauthenticated
from hub.engine.parsing import require_integer
from hub.engine.regex import PatternError, finds
from hub.models import (
    Account,
    ApiToken,
    LoginFailure,
    LoginSession,
    ProjectPolicy,
    access_changed,
    setting,
)
from hub.naming import record_of

ISSUER = "argocd"
FAILURE_WINDOW = guessing.WINDOW
_HASHING = threading.BoundedSemaphore(4)
WRONG = "Invalid username or password"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}\Z")
_USED_EVERY = timedelta(seconds=60)


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"flotilla session\0" + secret.encode()).digest()


def check_login(name: str, password: str) -> Account:
    """Return the local account of a name and a password.

    Raises: Unauthenticated with one text for an unknown name, a wrong password and a locked name or address.
    """
    now = timezone.now()
    account = Account.objects.filter(name=name, issuer="").first()
    # An unknown name costs as much as a known one, so that the time tells nothing.
    known = account.password if account and account.password else _dummy_hash()
    fits = fits_password(password, known)
    held = guessing.is_held(name, account, now)
    if held or account is None or not account.password or not fits:
        _refuse(name, account, now)
        raise Unauthenticated(WRONG)
    if not account.enabled:
        raise Unauthenticated(f"Account {name} is disabled")
    if "login" not in account.capabilities:
        raise Unauthenticated(f"Account {name} does not have login capability")
    return account


def has_second_factor(account: Account) -> bool:
    """Return whether an account signs in with more than a password."""
    from allauth.mfa.utils import is_mfa_enabled

    return bool(is_mfa_enabled(account))


def fits_second_factor(account: Account, code: str) -> bool:
    """Return whether a one-time or recovery code is right; each is good once."""
    from allauth.mfa.models import Authenticator

    kinds = [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]
    with transaction.atomic():
        for row in Authenticator.objects.select_for_update().filter(user=account, type__in=kinds):
            if row.wrap().validate_code(code):
                row.record_usage()
                return True
    return False


def sign_in(name: str, password: str, *, code: str = "", user_agent: str = "") -> str:
    """Return a session token for a name and a password, and a one-time code where the account has one.

    Raises: Unauthenticated; see `check_login`.
    """
    account = check_login(name, password)
    if has_second_factor(account):
        if not code:
            raise Unauthenticated(
                "a one-time code is required: send it as otp, or sign in by the browser"
            )
        if not fits_second_factor(account, code):
            _refuse(name, account, timezone.now())
            raise Unauthenticated(WRONG)
    guessing.forget(name)
    return begin_session(account, "password", user_agent=user_agent)


def begin_session(
    account: Account, method: str, *, user_agent: str = "", refresh: dict[str, Any] | None = None
) -> str:
    """Start a session of an account; return its token."""
    now = timezone.now()
    with transaction.atomic():
        session = LoginSession.objects.create(
            account=account,
            method=method,
            address=audit.address.get(),
            user_agent=user_agent[:300],
            created_at=now,
            expires_at=now + settings.SESSION_DURATION,
            refresh=refresh or {},
        )
        caller = caller_of(account, session_id=str(session.pk), method=method)
        audit.who.set(caller.as_record())
        audit.record(caller.name, "login", "session", caller.name, method=method)
    return _encode(f"{account.name}:login", str(session.pk), now, session.expires_at)


_dummy: str = ""


def _dummy_hash() -> str:
    global _dummy
    if not _dummy:
        _dummy = make_password("nobody")
    return _dummy


def _refuse(name: str, account: Account | None, now: datetime) -> None:
    held = guessing.is_held(name, account, now)
    count = guessing.count_failure(name, now, held=held)
    if guessing.may_record(now, count):
        reason = "wrong name, password or code, or too many failures"
        if count >= settings.MAX_ADDRESS_FAILURES:
            reason = "many failures from this address: its wrong guesses are slowed"
        audit.record_refusal(name[:150], "login", "session", name[:150], reason=reason)


def fits_password(password: str, kept: str) -> bool:
    """Return whether a password is the kept one; few are hashed at once, as each takes 100 MB."""
    with _HASHING:
        return check_password(password, kept)


def confirm_password(account: Account, password: str) -> bool:
    """Return whether who is signed in knows the password; who guesses has to wait as at sign-in."""
    now, fits = timezone.now(), fits_password(password, account.password)
    if fits and not guessing.is_held(account.name, account, now):
        return True
    _refuse(account.name, account, now)
    return False


def _encode(subject: str, token_id: str, now: datetime, expires_at: datetime | None) -> str:
    stamp = int(now.timestamp())
    claims = {"iss": ISSUER, "sub": subject, "jti": token_id, "iat": stamp, "nbf": stamp}
    if expires_at is not None:
        claims["exp"] = int(expires_at.timestamp())
    return jwt.encode(claims, _key(settings.SECRET_KEY), algorithm="HS256")


def issue(account: Account, now: datetime) -> str:
    """Return the token of a new session of an account, without an event: for tests and tools."""
    session = LoginSession.objects.create(
        account=account, created_at=now, expires_at=now + settings.SESSION_DURATION
    )
    return _encode(f"{account.name}:login", str(session.pk), now, session.expires_at)


def verify(token: str) -> Caller:
    """Return who speaks by a token.

    Raises: Unauthenticated saying why not: expired, revoked, account disabled.
    """
    claims = _claims(token)
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


def subject_of(token: str) -> str:
    """Return whom a token was given to, empty when this hub has not signed it; whether it still holds is not asked.

    Costs no look into the database, so that it can be asked of every request before anything else.
    """
    try:
        return str(_claims(token)["sub"]) if token else ""
    except Unauthenticated:
        return ""


def verify_all(tokens: Collection[str]) -> dict[str, Caller | None]:
    """Return who speaks by each token, None where nobody does any more; sessions are read in one go."""
    found: dict[str, Caller | None] = dict.fromkeys(tokens)
    sessions: dict[str, tuple[str, str, int]] = {}
    for token in tokens:
        with contextlib.suppress(Unauthenticated):
            claims = _claims(token)
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
    _check_token(row)
    return caller_of(row.account, token_id=token_id, method="apiKey", issued_at=issued)


def _role_caller(subject: str, token_id: str, issued: int) -> Caller:
    _, project, role = [*subject.split(":", 2), "", ""][:3]
    row = ApiToken.objects.filter(project=project, role=role, token_id=token_id).first()
    policy = ProjectPolicy.objects.filter(project=project).first()
    if row is None or policy is None or not any(r.get("name") == role for r in policy.roles):
        raise Unauthenticated("token is revoked, please re-login")
    _check_token(row)
    return Caller(
        subject,
        None,
        (subject,),
        project=project,
        token_id=token_id,
        method="project-token",
        issued_at=issued,
    )


def _check_token(row: ApiToken) -> None:
    now = timezone.now()
    if row.revoked_at is not None:
        raise Unauthenticated("token is revoked, please re-login")
    if row.expires_at is not None and row.expires_at <= now:
        raise Unauthenticated("invalid session: the token has expired")
    _mark_used(ApiToken.objects.filter(pk=row.pk), row.last_used_at, now)


def _claims(token: str) -> dict[str, Any]:
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


def revoke(caller: Caller) -> None:
    """End the session of a caller before its time."""
    if caller.session_id:
        end_sessions(LoginSession.objects.filter(pk=caller.session_id), caller.name, "logout")


def end_sessions(sessions: Any, actor: str, verb: str = "end-session") -> int:
    """End sessions; each is an event."""
    now = timezone.now()
    with transaction.atomic():
        rows = list(sessions.filter(ended_at=None).select_related("account"))
        for row in rows:
            LoginSession.objects.filter(pk=row.pk).update(ended_at=now, refresh={})
            audit.record(actor, verb, "session", row.account.shown_name, session=str(row.pk))
    return len(rows)


def set_password(account: Account, password: str, actor: str) -> None:
    """Give an account a new password; its sessions and tokens end.

    Raises: Invalid when the password is no good.
    """
    check_new_password(password)
    now = timezone.now()
    account.password, account.password_changed_at = make_password(password), now
    account.token_generation = uuid.uuid4()
    with transaction.atomic():
        # Nothing else, and only where it is: an account that was disabled or deleted since it was
        # read must not come back.
        written = Account.objects.filter(pk=account.pk).update(
            password=account.password,
            password_changed_at=now,
            token_generation=account.token_generation,
        )
        if not written:
            raise NotFound(f"account '{account.name}' does not exist")
        LoginSession.objects.filter(account=account, ended_at=None).update(ended_at=now)
        end_grants(Account.objects.filter(pk=account.pk))
        account.refresh_from_db(fields=["token_generation"])
        ApiToken.objects.filter(account=account, revoked_at=None).update(revoked_at=now)
        audit.record(actor, "update-password", "account", account.name)
    if account.name == "admin":
        (settings.DATA_DIR / "initial-admin-password").unlink(missing_ok=True)


def end_grants(accounts: Any) -> None:
    """End what accounts have begun or approved that is no session yet: sign-ins, devices, codes and their tokens."""
    from allauth.idp.oidc.models import Token

    Token.objects.filter(user__in=accounts).delete()
    accounts.update(token_generation=uuid.uuid4())


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


def record_factor(verb: str, user: Account, authenticator: Any, **_: Any) -> None:
    """Write the event of a second factor that came or went."""
    audit.record(user.shown_name, verb, "account", user.name, factor=str(authenticator.type))


def refuse_factor(user: Account, **_: Any) -> None:
    """Count and write down a wrong second factor of a page, as of every other way to sign in."""
    _refuse(user.name, user, timezone.now())


def account_json(account: Account) -> dict[str, Any]:
    """Return an account in Argo CD's shape, ours beyond it."""
    tokens = account.tokens.filter(revoked_at=None).order_by("issued_at")
    result = {
        "name": account.name,
        "enabled": account.enabled,
        "capabilities": account.capabilities,
        "tokens": [token_json(t) for t in tokens],
    }
    if not account.is_local:
        result |= {
            "issuer": account.issuer,
            "subject": account.subject,
            "email": account.email,
            "groups": account.groups,
        }
    return result


def token_json(row: ApiToken) -> dict[str, Any]:
    """Return what may be shown of a token."""
    result = {
        "id": row.token_id,
        "issuedAt": int(row.issued_at.timestamp()),
        "expiresAt": int(row.expires_at.timestamp()) if row.expires_at else 0,
        "lastUsedAt": int(row.last_used_at.timestamp()) if row.last_used_at else 0,
        "description": row.description,
    }
    return {k: v for k, v in result.items() if v not in ("", 0)} | {"id": row.token_id}


def save_account(
    name: str,
    actor: str,
    *,
    must_be_new: bool = False,
    password: Any = None,
    enabled: Any = None,
    capabilities: Any = None,
) -> Account:
    """Create or change a local account; what is None stays.

    Raises: Invalid naming the field; NotFound; Precondition when nobody could administer any more.
    """
    try:
        with transaction.atomic():
            account = _draft(name, password) if must_be_new else _locked(name)
            before = record_of(account) if account.pk else None
            _set_rights(account, enabled, capabilities)
            # Only what is changed here: somebody else may give a password, or a provider groups, meanwhile.
            account.save(update_fields=None if before is None else ["enabled", "capabilities"])
            if not account.may_sign_in:
                end_grants(Account.objects.filter(pk=account.pk))
            if not account.enabled:
                end_sessions(account.sessions, actor)
            record = record_of(account)
            verb = "create" if before is None else "update"
            audit.record(actor, verb, "account", name, before=before, after=record)
            access_changed("account", name, record)
    except IntegrityError as error:
        raise Precondition(f"account {name} exists") from error
    if not must_be_new and password is not None:
        if not account.is_local:
            raise Invalid(f"{name} signs in by {account.provider}: it has no password here")
        set_password(account, check_new_password(password, "password"), actor)
    return account


def _draft(name: str, password: Any) -> Account:
    if not _NAME.match(name):
        raise Invalid(
            "name must be at most 63 of letters, digits, '.', '_', '@' and '-', and begin with a letter or digit"
        )
    if Account.objects.filter(name=name).exists():
        raise Precondition(f"account {name} exists")
    account = Account(name=name, capabilities=["login"])
    if password is not None:
        account.password = make_password(check_new_password(password, "password"))
    return account


def _locked(name: str) -> Account:
    account = Account.objects.select_for_update().filter(name=name).first()
    if account is None:
        raise NotFound(f"account '{name}' does not exist")
    return account


def _set_rights(account: Account, enabled: Any, capabilities: Any) -> None:
    if capabilities is not None:
        if not isinstance(capabilities, list) or not set(capabilities) <= {"login", "apiKey"}:
            raise Invalid("capabilities must be a list of login and apiKey")
        account.capabilities = sorted(set(capabilities), reverse=True)
    if enabled is not None:
        if not isinstance(enabled, bool):
            raise Invalid("enabled must be true or false")
        account.enabled = enabled


def delete_account(name: str, actor: str) -> None:
    """Delete an account; its sessions and tokens die with it.

    Raises: NotFound; Protected for admin, which can only be disabled.
    """
    account = Account.objects.filter(name=name).first()
    if account is None:
        raise NotFound(f"account '{name}' does not exist")
    if name == "admin":
        raise Protected("admin cannot be deleted: disable it instead")
    with transaction.atomic():
        before = record_of(account)
        account.delete()
        audit.record(actor, "delete", "account", name, before=before)
        access_changed("account", name, None)


def create_token(
    actor: str,
    *,
    account: Account | None = None,
    project: str = "",
    role: str = "",
    token_id: Any = "",
    seconds: Any = 0,
    description: str = "",
) -> str:
    """Return a new token of an account or of a project's role.

    Units: `seconds` until it ends, 0 for never.
    Raises: Invalid naming the field; Precondition for an id that is taken; Protected.
    """
    seconds = require_integer(seconds or 0, "expiresIn")
    if not 0 <= seconds <= 10 * 366 * 86_400:
        raise Invalid("expiresIn must be between 0 (never) and ten years in seconds")
    token_id = token_id or str(uuid.uuid4())
    if not isinstance(token_id, str) or not re.fullmatch(r"[\w.:@-]{1,64}", token_id):
        raise Invalid("id must be at most 64 letters, digits, '.', ':', '@', '_' and '-'")
    if account is not None and "apiKey" not in account.capabilities:
        raise Protected(f"account '{account.name}' does not have apiKey capability")
    now = timezone.now().replace(microsecond=0)
    ends = now + timedelta(seconds=seconds) if seconds else None
    subject = f"{account.name}:apiKey" if account else f"proj:{project}:{role}"
    existing = ApiToken.objects.filter(
        account=account, project=project, role=role, token_id=token_id
    )
    if existing.exists():
        raise Precondition(
            f"{'account' if account else f'role {role}'} already has token with id '{token_id}'"
        )
    with transaction.atomic():
        ApiToken.objects.create(
            account=account,
            project=project,
            role=role,
            token_id=token_id,
            issued_at=now,
            expires_at=ends,
            description=description[:300],
            created_by=actor,
        )
        audit.record(
            actor,
            "create-token",
            "account" if account else "project",
            account.name if account else project,
            project,
            token=token_id,
            role=role,
            expires=ends.isoformat() if ends else "never",
        )
    return _encode(subject, token_id, now, ends)


def revoke_tokens(rows: Any, actor: str) -> int:
    """Revoke tokens; each is an event, and the number can be used no more."""
    with transaction.atomic():
        found = list(rows.filter(revoked_at=None).select_related("account"))
        for row in found:
            ApiToken.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
            audit.record(
                actor,
                "delete-token",
                "account" if row.account else "project",
                row.account.name if row.account else row.project,
                row.project,
                token=row.token_id,
                role=row.role,
            )
    return len(found)


def forget_old(now: datetime) -> None:
    """Remove what no sign-in needs any more: failures of the past, sessions that ended 30 days ago."""
    LoginFailure.objects.filter(last_at__lt=now - FAILURE_WINDOW).delete()
    LoginSession.objects.filter(expires_at__lt=now - timedelta(days=30)).delete()


def moment(seconds: int) -> datetime:
    """Return the time of a number of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
