"""How people sign in: django-allauth's seams, bound to this hub's accounts, providers and sessions."""

import logging
import secrets
from typing import Any
from urllib.parse import urlencode

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Client, OAuth2Error
from allauth.socialaccount.providers.oauth2.views import (
    OAuth2Adapter,
    OAuth2CallbackView,
    OAuth2LoginView,
)
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from django.contrib.auth import logout as end_browser_session
from django.contrib.auth.backends import BaseBackend
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware

from hub import audit, guessing, oidc, saml
from hub.access import caller_of
from hub.crypto import seal, unseal
from hub.engine.errors import NotFound, Unauthenticated
from hub.models import Account, access_changed
from hub.naming import record_of
from hub.oidc import Identity, SignInError
from hub.providers import Provider, all_providers, provider_named
from hub.redirects import is_own_path, own_path
from hub.rest import note_origin, set_token_cookie, token_of
from hub.session import begin_session, check_login, verify

log = logging.getLogger(__name__)

HUB_SESSION = "hub_session"
BEGAN_WITH = "hub_began_with"
STRANGER_SECONDS = 900
"""How long the browser session of somebody who is not signed in is kept: anybody can begin any number of them."""
UNUSABLE = "!"


class LocalBackend(BaseBackend):
    """Names and passwords of local accounts, with the limits of every sign-in."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str = "",
        password: str = "",
        **credentials: Any,
    ) -> Account | None:
        """Return the account, None for anything that is wrong."""
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
    """Local accounts are made by administrators; a sign-in by the browser begins a session of the hub."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Say no."""
        del request
        return False

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Let `hub.guessing` decide: allauth would close a name, or an address, to everybody."""
        del request, credentials
        self._login_failed_rl_usage = None

    def is_safe_url(self, url: str | None) -> bool:
        """Return whether a page of this hub may send somebody on to a URL: only to itself."""
        return is_own_path(url)

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Keep quiet: pages say what happened themselves."""

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """Send nothing: the trail has it."""

    def pre_login(self, request: HttpRequest, user: Account, **kwargs: Any) -> Any:
        """Remember which password, or which word of a provider, this sign-in began with."""
        request.session[BEGAN_WITH] = str(user.token_generation)
        return super().pre_login(request, user, **kwargs)

    def login(self, request: HttpRequest, user: Account) -> None:
        """Sign in who is still who began: a second factor may come a quarter of an hour after the password."""
        began_with = request.session.pop(BEGAN_WITH, "")
        require_unchanged(request, user, began_with)
        super().login(request, user)

    def post_login(self, request: HttpRequest, user: Account, **kwargs: Any) -> HttpResponse:
        """Begin the session whose token REST and streams read too."""
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
            refresh=_unsealed(refresh) if refresh else None,
        )
        request.session[HUB_SESSION] = token
        request.session.set_expiry(None)
        set_token_cookie(response, token)
        return response


def require_unchanged(request: HttpRequest, user: Account, began_with: str) -> None:
    """Return if an account may still sign in as it could when the sign-in began.

    Raises: ImmediateHttpResponse, to the page to sign in, when its password changed or it was disabled meanwhile.
    """
    account = Account.objects.filter(pk=user.pk).first()
    if account and account.may_sign_in and str(account.token_generation) == began_with:
        return
    note_origin(request)
    reason = "the password or the account changed during the sign-in"
    audit.record_refusal(user.shown_name, "login", "session", user.name, reason=reason)
    request.session.flush()
    raise ImmediateHttpResponse(redirect("account_login"))


def _used_second_factor(request: HttpRequest) -> bool:
    from allauth.account.authentication import get_authentication_records

    return any(r.get("method") == "mfa" for r in get_authentication_records(request))


def _sealed(value: dict[str, Any]) -> str:
    import json

    return seal(json.dumps(value).encode()).hex()


def _unsealed(text: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(unseal(bytes.fromhex(text)))
    return found


class HubOIDCProvider(OpenIDConnectProvider):
    """A provider of this hub: always PKCE, always a nonce, parameters only from its settings."""

    pkce_enabled_default = True

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        """Take nothing from the request."""
        del request, action
        return {}

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        """Take nothing from the request."""
        del request
        return self.get_scope()

    def get_scope(self) -> list[str]:
        """Return the scopes of the settings."""
        return oidc.scopes(provider_named(self.app.provider_id))

    def redirect(
        self,
        request: HttpRequest,
        process: str,
        next_url: Any = None,
        data: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Send the browser to the provider."""
        nonce = secrets.token_urlsafe(32)
        params = oidc.auth_params(provider_named(self.app.provider_id), nonce)
        kwargs["auth_params"] = params
        try:
            return super().redirect(
                request, process, next_url=next_url, data=data, nonce=nonce, **kwargs
            )
        except SignInError as error:
            return refuse(request, self.app.provider_id, error)

    def get_oauth2_adapter(self, request: HttpRequest) -> "HubOIDCAdapter":
        """Return the adapter that proves tokens."""
        return HubOIDCAdapter(request, self.app.provider_id)


class _Client(OAuth2Client):
    """Exchanges the code with the provider's own certificates and limits."""

    provider: Provider

    def get_access_token(
        self, code: str, pkce_code_verifier: str | None = None, extra_data: Any = None
    ) -> dict[str, Any]:
        """Return the tokens for a code."""
        del extra_data
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback_url,
            "code_verifier": pkce_code_verifier or "",
        }
        found = oidc.fetch_tokens(self.provider, form)
        return {**found, "access_token": found.get("access_token") or ""}


class HubOIDCAdapter(OAuth2Adapter):
    """One sign-in by OpenID Connect."""

    client_class = _Client
    supports_state = True

    def __init__(self, request: HttpRequest, slug: str) -> None:
        self.provider_id = slug
        self.settings = provider_named(slug)
        self.state: dict[str, Any] = {}
        super().__init__(request)

    @property
    def authorize_url(self) -> str:
        """Where the browser goes."""
        return str(oidc.discover(self.settings)["authorization_endpoint"])

    @property
    def access_token_url(self) -> str:
        """Where the code goes."""
        return str(oidc.discover(self.settings)["token_endpoint"])

    def get_client(self, request: HttpRequest, app: SocialApp) -> _Client:
        """Return what exchanges the code."""
        client: _Client = super().get_client(request, app)
        client.provider = self.settings
        return client

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        """Return the URL to register at the provider."""
        del app
        return absolute(request, reverse("sso_callback", args=[self.provider_id]))

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: Any, **kwargs: Any
    ) -> SocialLogin:
        """Return who it is, proved."""
        del app, token
        tokens = kwargs["response"]
        identity = oidc.identity_of(self.settings, tokens, nonce=str(self.state.get("nonce") or ""))
        request.session["hub_method"] = f"sso:{self.settings.slug}"
        if tokens.get("refresh_token"):
            request.session["hub_refresh"] = _sealed(
                {"provider": self.settings.slug, "refresh_token": tokens["refresh_token"]}
            )
        return social_login(self.get_provider(), identity)


@sync_and_async_middleware
def live_session(get_response: Any) -> Any:
    """Have pages know who is signed in by the hub's own session: it ends everywhere at once."""
    import asyncio

    from asgiref.sync import sync_to_async

    def bind(request: HttpRequest) -> None:
        if request.path.startswith(("/api/", "/static/", "/healthz", "/readyz", "/metrics")):
            return
        note_origin(request)
        try:
            token = token_of(request)
            caller = verify(token) if token else None
            # A machine's token opens no pages, or it could make itself a session that outlives it.
            account = caller.account if caller is not None and caller.session_id else None
        except Unauthenticated:
            account = None
        if request.user.is_authenticated and (account is None or request.user.pk != account.pk):
            end_browser_session(request)
        if account is not None and not request.user.is_authenticated:
            request.user = account
        if account is not None:
            audit.who.set(caller_of(account).as_record())
            if request.path.startswith("/account/2fa/") and not account.is_local:
                # Their provider asks for second factors.
                raise Http404

    if asyncio.iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponse:
            await sync_to_async(bind)(request)
            answer: HttpResponse = await get_response(request)
            _shorten(request)
            return answer

        return asynchronous

    def middleware(request: HttpRequest) -> HttpResponse:
        bind(request)
        answer: HttpResponse = get_response(request)
        _shorten(request)
        return answer

    return middleware


def _shorten(request: HttpRequest) -> None:
    """Keep the browser session of a stranger only as long as a sign-in takes."""
    session = request.session
    if session.modified and not session.is_empty() and not request.user.is_authenticated:
        session.set_expiry(STRANGER_SECONDS)


def absolute(request: HttpRequest, path: str) -> str:
    """Return the URL of a page as browsers see it."""
    from django.conf import settings

    return (
        settings.EXTERNAL_URL.rstrip("/") + path
        if settings.EXTERNAL_URL
        else request.build_absolute_uri(path)
    )


def social_login(provider: Any, identity: Identity) -> SocialLogin:
    """Return a sign-in of an identity, for allauth's flow."""
    login = SocialLogin(
        account=SocialAccount(provider=provider.sub_id, uid=identity.subject[:191]),
        provider=provider,
    )
    login.hub_identity = identity
    return login


def account_for(identity: Identity, slug: str) -> Account:
    """Return the account of an identity, made at the first sign-in and refreshed at each.

    It is found by issuer and subject only: names and emails of a provider can change hands.
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
    import hashlib

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
        # Two first sign-ins at once: the other one made it.
        return Account.objects.get(issuer=identity.issuer, subject=identity.subject)
    audit.record(
        name,
        "create",
        "account",
        name,
        after={"issuer": identity.issuer, "subject": identity.subject, "provider": slug},
    )
    return account


def update_identity(account: Account, identity: Identity) -> None:
    """Write what a provider says now; a change of groups goes into the history of access."""
    before = (list(account.groups), account.email, account.email_verified)
    account.email, account.email_verified = identity.email, identity.email_verified
    account.display_name, account.groups = identity.name, list(identity.groups)
    account.groups_at = timezone.now()
    # Nothing else: an account that was disabled since it was read must not be enabled again.
    account.save(update_fields=["email", "email_verified", "display_name", "groups", "groups_at"])
    after = (list(account.groups), account.email, account.email_verified)
    if before != after or not account.last_login:
        access_changed("account", account.name, record_of(account))
    if before[0] != after[0]:
        audit.record(
            account.shown_name,
            "update-groups",
            "account",
            account.name,
            before={"groups": before[0]},
            after={"groups": after[0]},
        )


class SocialAdapter(DefaultSocialAccountAdapter):
    """The hub's own providers and accounts behind allauth's flow."""

    def list_apps(
        self, request: HttpRequest, provider: Any = None, client_id: Any = None
    ) -> list[SocialApp]:
        """Return the enabled providers as allauth's apps."""
        del request
        apps = [_app(p) for p in all_providers() if p.enabled]
        return [
            a
            for a in apps
            if provider in (None, a.provider, a.provider_id) and client_id in (None, a.client_id)
        ]

    def get_provider(self, request: HttpRequest, provider: Any, client_id: Any = None) -> Any:
        """Return a provider by its id."""
        return self.get_app(request, provider, client_id).get_provider(request)

    def get_requests_session(self) -> Any:
        """Refuse: the hub asks providers by its own client, which knows where it may connect."""
        raise ImproperlyConfigured("sign-in by this provider would connect past hub.outbound")

    def generate_state_param(self, state: dict[str, Any]) -> str:
        """Return what nobody guesses: 256 bits."""
        del state
        return secrets.token_urlsafe(32)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Say no: accounts are made from proved identities only."""
        del request, sociallogin
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Sign in the account of the identity; connecting accounts is not offered."""
        identity = getattr(sociallogin, "hub_identity", None)
        if identity is None or sociallogin.state.get("process") != "login":
            raise ImmediateHttpResponse(
                refuse(request, sociallogin.account.provider, SignInError("no identity"))
            )
        sociallogin.user = account_for(identity, sociallogin.account.provider)

    def on_authentication_error(self, request: HttpRequest, provider: Any, **kwargs: Any) -> None:
        """Record why a sign-in failed; the page says only that it did."""
        problem = kwargs.get("exception")
        state = (kwargs.get("extra_context") or {}).get("saml_last_error_reason")
        slug = getattr(getattr(provider, "app", None), "provider_id", "") or "sso"
        raise ImmediateHttpResponse(
            refuse(
                request,
                slug,
                SignInError(
                    str(
                        problem
                        or state
                        or "the answer does not belong to a sign-in of this browser"
                    )
                ),
            )
        )


def saml_app(provider: Provider) -> SocialApp:
    """Return a SAML provider as allauth's app."""
    return _app(provider)


def _app(provider: Provider) -> SocialApp:
    kind = "openid_connect" if provider.protocol == "oidc" else "saml"
    client = provider.config.get("clientID", "") if provider.protocol == "oidc" else provider.slug
    app = SocialApp(provider=kind, provider_id=provider.slug, name=provider.name, client_id=client)
    app.settings = saml.settings_of(provider) if kind == "saml" else {"server_url": provider.issuer}
    # allauth would look its own class up; these know the hub's settings.
    app.get_provider = lambda request: (
        HubOIDCProvider if kind == "openid_connect" else HubSAMLProvider
    )(request, app=app)
    return app


class HubSAMLProvider(SAMLProvider):
    """A SAML 2.0 provider of this hub."""

    def sociallogin_from_response(self, request: HttpRequest, response: Any) -> SocialLogin:
        """Return who an assertion that python3-saml proved is about.

        Raises: SignInError for what the library lets pass and this hub does not.
        """
        provider = provider_named(self.app.provider_id)
        saml.check_proof(provider, response)
        found, uid = self._extract(response), str(self.extract_uid(response) or "")
        identity = saml.identity_of(provider, uid, found, response.get_attributes())
        request.session["hub_method"] = f"sso:{provider.slug}"
        return social_login(self, identity)

    @property
    def sub_id(self) -> str:
        """The provider's id."""
        return str(self.app.provider_id)


def refuse(request: HttpRequest, slug: str, error: Exception) -> HttpResponse:
    """Return the page of a sign-in that failed: the reason is in the trail and the log, not on the page."""
    note_origin(request)
    log.warning("sign-in by %s failed: %s", slug, error)
    if guessing.may_record_refusal(timezone.now()):
        audit.record_refusal(f"sso:{slug}"[:150], "login", "session", slug, reason=str(error)[:500])
    return render(request, "account/sso_failed.html", {"provider": slug}, status=403)


class _Login(OAuth2LoginView):
    pass


class _Callback(OAuth2CallbackView):
    adapter: HubOIDCAdapter

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, response = super()._get_state(request, provider)
        self.adapter.state = state or {}
        if state is not None:
            # Before the code goes anywhere: it may be of another provider.
            oidc.check_answer(self.adapter.settings, dict(request.GET.lists()))
        return state, response


def sso_login(request: HttpRequest, slug: str) -> HttpResponse:
    """Begin a sign-in by a provider."""
    try:
        if provider_named(slug).protocol == "saml":
            url = reverse("saml_login", kwargs={"organization_slug": slug})
            wish = {"next": own_path(request.GET.get("next", ""))}
            return HttpResponseRedirect(f"{url}?{urlencode(wish)}")
        view = _Login.adapter_view(HubOIDCAdapter(request, slug))
    except NotFound as error:
        raise Http404 from error
    try:
        answer: HttpResponse = view(request)
    except SignInError as error:
        return refuse(request, slug, error)
    return answer


def sso_callback(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the provider's answer."""
    try:
        view = _Callback.adapter_view(HubOIDCAdapter(request, slug))
    except NotFound as error:
        raise Http404 from error
    try:
        answer: HttpResponse = view(request)
    except (SignInError, OAuth2Error) as error:
        return refuse(request, slug, error)
    return answer


class MFAAdapter(DefaultMFAAdapter):
    """Second factors of local accounts; their secrets are sealed."""

    def encrypt(self, text: str) -> str:
        """Seal a secret."""
        return seal(text.encode()).hex()

    def decrypt(self, encrypted_text: str) -> str:
        """Open a secret."""
        return unseal(bytes.fromhex(encrypted_text)).decode()
