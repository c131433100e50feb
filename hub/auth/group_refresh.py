"""Refresh the groups of signed-in accounts from their identity providers."""

import logging
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from hub.auth import oidc
from hub.auth.identities import update_identity
from hub.auth.oidc import SignInError
from hub.auth.providers import provider_named
from hub.auth.sessions import end_sessions
from hub.engine.errors import NotFound
from hub.models import Account, LoginSession

log = logging.getLogger(__name__)

BATCH = 50


def refresh_due() -> int:
    """Refresh the groups of accounts in use whose provider's interval has passed.

    Return how many were refreshed.
    """
    now, count = timezone.now(), 0
    for provider in set(Account.objects.exclude(provider="").values_list("provider", flat=True)):
        try:
            minutes = provider_named(provider).config.get("refreshMinutes", 15)
        except NotFound:
            continue
        due = LoginSession.objects.filter(
            account__provider=provider,
            account__enabled=True,
            ended_at=None,
            expires_at__gt=now,
            last_used_at__gt=now - timedelta(minutes=minutes),
        ).filter(
            Q(account__groups_at=None) | Q(account__groups_at__lt=now - timedelta(minutes=minutes))
        )
        for session in due.select_related("account").order_by(F("last_used_at").desc())[:BATCH]:
            count += refresh(session, now - timedelta(minutes=minutes))
    return count


def refresh(session: LoginSession, before: object) -> bool:
    """Refresh one account; if the provider revoked its access, the session ends.

    The account is claimed first, so that only one process sends the request.
    """
    account = session.account
    token = session.refresh.get("refresh_token")
    if not token:
        return False
    claimed = Account.objects.filter(pk=account.pk).filter(
        Q(groups_at=None) | Q(groups_at__lt=before)
    )
    if not claimed.update(groups_at=timezone.now()):
        return False
    provider = provider_named(account.provider)
    if provider.issuer != account.issuer:
        # The provider's settings name another issuer now, which must not receive this token.
        end_sessions(LoginSession.objects.filter(pk=session.pk), "hub")
        return False
    try:
        tokens = oidc.fetch_tokens(
            provider, {"grant_type": "refresh_token", "refresh_token": token}
        )
        identity = oidc.identity_of(provider, tokens, nonce=None, subject=account.subject)
    except SignInError as error:
        log.warning("groups of %s could not be refreshed: %s", account.name, error)
        if "invalid_grant" in str(error):
            end_sessions(LoginSession.objects.filter(pk=session.pk), "hub")
        return False
    if tokens.get("refresh_token"):
        kept = {"provider": provider.slug, "refresh_token": tokens["refresh_token"]}
        LoginSession.objects.filter(pk=session.pk).update(refresh=kept)
    with transaction.atomic():
        # The account may have been disabled or deleted during the request.
        found = Account.objects.select_for_update().filter(pk=account.pk, enabled=True).first()
        if found is not None:
            update_identity(found, identity)
    return found is not None
