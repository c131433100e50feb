"""How people sign in: django-allauth's seams, bound to this hub's accounts and sessions."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.idp.oidc.adapter import DefaultOIDCAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest

from hub.engine.errors import Unauthenticated
from hub.models import Account
from hub.session import check_login


class LocalBackend(BaseBackend):
    """Names and passwords of local accounts, with the limits of every sign-in."""

    def authenticate(
        self, request: HttpRequest | None, username: str = "", password: str = "", **credentials: Any
    ) -> Account | None:  # fmt: skip
        """Return the account, None for anything that is wrong."""
        del request, credentials
        if not username or not password:
            return None
        try:
            return check_login(username, password)
        except Unauthenticated:
            return None

    def get_user(self, user_id: int) -> Account | None:
        """Return an account that may be used."""
        return Account.objects.filter(pk=user_id, enabled=True).first()


def clean_groups(value: Any) -> list[str]:
    """Return the groups of a claim: a list of names, or one name; anything else is none."""
    values = value if isinstance(value, list) else [value]
    return [g for g in dict.fromkeys(v for v in values if isinstance(v, str)) if g.strip()]


class AccountAdapter(DefaultAccountAdapter):
    """Local accounts are made by administrators only."""


class SocialAdapter(DefaultSocialAccountAdapter):
    """Identity providers of this hub."""


class MFAAdapter(DefaultMFAAdapter):
    """Second factors of local accounts."""


class OIDCAdapter(DefaultOIDCAdapter):
    """The hub as the provider that its command line signs in by."""


__all__ = ["EmailAddress"]
