"""Create, update and delete local accounts."""

import re
import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from hub.access.policy_names import record_of
from hub.audit import trail
from hub.auth.api_tokens import token_json
from hub.auth.passwords import check_new_password
from hub.auth.sessions import end_sessions
from hub.engine.errors import Invalid, NotFound, Precondition, Protected
from hub.models import (
    Account,
    ApiToken,
    LoginSession,
    access_changed,
)

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}\Z")


def set_password(account: Account, password: str, actor: str) -> None:
    """Set an account's password; its sessions and tokens end.

    Raises: Invalid when the password does not match the rules.
    """
    check_new_password(password)
    now = timezone.now()
    account.password, account.password_changed_at = make_password(password), now
    account.token_generation = uuid.uuid4()
    with transaction.atomic():
        # Update only the password, and only of an existing row: an account that was disabled or
        # deleted since it was read must not come back.
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
        trail.record(actor, "update-password", "account", account.name)
    if account.name == "admin":
        (settings.DATA_DIR / "initial-admin-password").unlink(missing_ok=True)


def end_grants(accounts: Any) -> None:
    """Revoke what accounts have begun or approved: sign-ins, devices, codes and their tokens."""
    from allauth.idp.oidc.models import Token

    Token.objects.filter(user__in=accounts).delete()
    accounts.update(token_generation=uuid.uuid4())


def account_json(account: Account) -> dict[str, Any]:
    """Return an account in Argo CD's shape, with this hub's fields."""
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


def save_account(
    name: str,
    actor: str,
    *,
    must_be_new: bool = False,
    password: Any = None,
    enabled: Any = None,
    capabilities: Any = None,
) -> Account:
    """Create or update a local account; fields that are None stay.

    Raises: Invalid naming the field; NotFound; Precondition when no administrator would be left.
    """
    try:
        with transaction.atomic():
            account = _draft(name, password) if must_be_new else _locked(name)
            before = record_of(account) if account.pk else None
            _set_rights(account, enabled, capabilities)
            # Save only these fields: a password or a provider's groups may have changed in between.
            account.save(update_fields=None if before is None else ["enabled", "capabilities"])
            if not account.may_sign_in:
                end_grants(Account.objects.filter(pk=account.pk))
            if not account.enabled:
                end_sessions(account.sessions, actor)
            record = record_of(account)
            verb = "create" if before is None else "update"
            trail.record(actor, verb, "account", name, before=before, after=record)
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
            "name must be at most 63 of letters, digits, '.', '_', '@' and '-', "
            "and begin with a letter or digit"
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
    """Delete an account with its sessions and tokens.

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
        trail.record(actor, "delete", "account", name, before=before)
        access_changed("account", name, None)
