"""The accounts of identities that providers know."""

import hashlib
import secrets
from typing import Any

from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.db import IntegrityError, transaction
from django.utils import timezone

from hub.access.policy_names import record_of
from hub.audit import trail
from hub.auth.oidc import Identity, SignInError
from hub.models import Account, access_changed

UNUSABLE = "!"


def social_login(provider: Any, identity: Identity) -> SocialLogin:
    """Return an identity as a login for allauth's flow."""
    login = SocialLogin(
        account=SocialAccount(provider=provider.sub_id, uid=identity.subject[:191]),
        provider=provider,
    )
    login.hub_identity = identity
    return login


def account_for(identity: Identity, slug: str) -> Account:
    """Return the account of an identity, created at the first sign-in and updated at each.

    It is found by issuer and subject only: names and emails can pass to other people.
    Raises: SignInError when it is disabled.
    """
    with transaction.atomic():
        account = (
            Account.objects.select_for_update()
            .filter(issuer=identity.issuer, subject=identity.subject)
            .first()
        )
        if account is None:
            account = _new_account(identity, slug)
        if not account.enabled:
            raise SignInError(f"{slug}: account {account.name} is disabled")
        update_identity(account, identity)
    return account


def _new_account(identity: Identity, slug: str) -> Account:
    name = f"{slug}:{identity.subject}"
    if len(name) > 140:
        name = f"{slug}:{hashlib.sha256(identity.subject.encode()).hexdigest()[:32]}"
    if Account.objects.filter(name=name).exists():
        name = f"{name[:140]}~{secrets.token_hex(4)}"
    try:
        with transaction.atomic():
            account = Account.objects.create(
                name=name,
                issuer=identity.issuer,
                subject=identity.subject,
                provider=slug,
                capabilities=["login"],
                password=UNUSABLE,
            )
    except IntegrityError:
        # A concurrent first sign-in has created it.
        return Account.objects.get(issuer=identity.issuer, subject=identity.subject)
    trail.record(
        name,
        "create",
        "account",
        name,
        after={"issuer": identity.issuer, "subject": identity.subject, "provider": slug},
    )
    return account


def update_identity(account: Account, identity: Identity) -> None:
    """Store the provider's current claims; a change of groups goes into the history of access."""
    before = (list(account.groups), account.email, account.email_verified)
    account.email, account.email_verified = identity.email, identity.email_verified
    account.display_name, account.groups = identity.name, list(identity.groups)
    account.groups_at = timezone.now()
    # No other fields: an account that was disabled since it was read must not be enabled again.
    account.save(update_fields=["email", "email_verified", "display_name", "groups", "groups_at"])
    after = (list(account.groups), account.email, account.email_verified)
    if before != after or not account.last_login:
        access_changed("account", account.name, record_of(account))
    if before[0] != after[0]:
        trail.record(
            account.shown_name,
            "update-groups",
            "account",
            account.name,
            before={"groups": before[0]},
            after={"groups": after[0]},
        )
