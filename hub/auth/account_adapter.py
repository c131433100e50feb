"""Sign-in of local accounts: django-allauth's adapters for this hub's accounts and sessions."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from hub.audit import trail
from hub.auth.requests import note_origin, set_token_cookie
from hub.auth.sealed_state import unseal_json
from hub.auth.sessions import begin_session
from hub.auth.sign_in import check_login
from hub.base.crypto import seal, unseal
from hub.base.redirects import is_own_path
from hub.engine.errors import Unauthenticated
from hub.models import Account

HUB_SESSION = "hub_session"
BEGAN_WITH = "hub_began_with"


class LocalBackend(BaseBackend):
    """Names and passwords of local accounts, with the rate limits of every sign-in."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str = "",
        password: str = "",
        **credentials: Any,
    ) -> Account | None:
        """Return the account, or None if the name, the password or the account is invalid."""
        del credentials
        if request is not None:
            note_origin(request)
        if not username or not password:
            return None
        try:
            return check_login(username, password)
        except Unauthenticated:
            return None

    def get_user(self, user_id: int) -> Account | None:
        """Return an account that may be used."""
        return Account.objects.filter(pk=user_id, enabled=True).first()


class AccountAdapter(DefaultAccountAdapter):
    """Ties allauth's sign-in in the browser to the accounts and sessions of the hub.

    Only administrators create local accounts.
    """

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False: only administrators create accounts."""
        del request
        return False

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Leave rate limits to `hub.auth.throttling`: allauth would lock a name for everybody."""
        del request, credentials
        self._login_failed_rl_usage = None

    def is_safe_url(self, url: str | None) -> bool:
        """Return whether a page of this hub may redirect to a URL: only to the hub itself."""
        return is_own_path(url)

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: pages show their own messages."""

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the audit trail has the event."""

    def pre_login(self, request: HttpRequest, user: Account, **kwargs: Any) -> Any:
        """Remember the password, or the provider's answer, with which this sign-in began."""
        request.session[BEGAN_WITH] = str(user.token_generation)
        return super().pre_login(request, user, **kwargs)

    def login(self, request: HttpRequest, user: Account) -> None:
        """Sign in an account that has not changed since the sign-in began.

        The second factor may follow up to 15 minutes after the password.
        """
        began_with = request.session.pop(BEGAN_WITH, "")
        require_unchanged(request, user, began_with)
        super().login(request, user)

    def post_login(self, request: HttpRequest, user: Account, **kwargs: Any) -> HttpResponse:
        """Begin the session whose token REST and streams read as well."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        note_origin(request)
        method = request.session.pop("hub_method", "password")
        if user.is_local and _used_second_factor(request):
            method = "password, second factor" if method == "password" else method
        refresh = request.session.pop("hub_refresh", None)
        token = begin_session(
            user,
            method,
            user_agent=request.headers.get("User-Agent", ""),
            refresh=unseal_json(refresh) if refresh else None,
        )
        request.session[HUB_SESSION] = token
        request.session.set_expiry(None)
        set_token_cookie(response, token)
        return response


def require_unchanged(request: HttpRequest, user: Account, began_with: str) -> None:
    """Check that an account may still sign in.

    Raises: ImmediateHttpResponse, to the sign-in page, when the account was disabled, or its
    password changed, since the sign-in began.
    """
    account = Account.objects.filter(pk=user.pk).first()
    if account and account.may_sign_in and str(account.token_generation) == began_with:
        return
    note_origin(request)
    reason = "the password or the account changed during the sign-in"
    trail.record_refusal(user.shown_name, "login", "session", user.name, reason=reason)
    request.session.flush()
    raise ImmediateHttpResponse(redirect("account_login"))


def _used_second_factor(request: HttpRequest) -> bool:
    from allauth.account.authentication import get_authentication_records

    return any(r.get("method") == "mfa" for r in get_authentication_records(request))


class MFAAdapter(DefaultMFAAdapter):
    """Second factors of local accounts; their secrets are sealed."""

    def encrypt(self, text: str) -> str:
        """Encrypt a secret."""
        return seal(text.encode()).hex()

    def decrypt(self, encrypted_text: str) -> str:
        """Decrypt a secret."""
        return unseal(bytes.fromhex(encrypted_text)).decode()
