"""Sign-in by OpenID Connect: django-allauth's flow with this hub's checks."""

import secrets
from typing import Any
from urllib.parse import urlencode

from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Client, OAuth2Error
from allauth.socialaccount.providers.oauth2.views import (
    OAuth2Adapter,
    OAuth2CallbackView,
    OAuth2LoginView,
)
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from hub.auth import oidc
from hub.auth.identities import social_login
from hub.auth.oidc import SignInError
from hub.auth.providers import Provider, provider_named
from hub.auth.refusals import refuse
from hub.auth.sealed_state import seal_json
from hub.base.external_url import absolute
from hub.base.redirects import own_path
from hub.engine.errors import NotFound


class HubOIDCProvider(OpenIDConnectProvider):
    """A provider of this hub: always PKCE, always a nonce, parameters only from its settings."""

    pkce_enabled_default = True

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        """Ignore the request."""
        del request, action
        return {}

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        """Ignore the request."""
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
        """Return the adapter that verifies tokens."""
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
        """The provider's authorization endpoint."""
        return str(oidc.discover(self.settings)["authorization_endpoint"])

    @property
    def access_token_url(self) -> str:
        """The provider's token endpoint."""
        return str(oidc.discover(self.settings)["token_endpoint"])

    def get_client(self, request: HttpRequest, app: SocialApp) -> _Client:
        """Return the client that exchanges the code."""
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
        """Return the verified identity as a login."""
        del app, token
        tokens = kwargs["response"]
        identity = oidc.identity_of(self.settings, tokens, nonce=str(self.state.get("nonce") or ""))
        request.session["hub_method"] = f"sso:{self.settings.slug}"
        if tokens.get("refresh_token"):
            request.session["hub_refresh"] = seal_json(
                {"provider": self.settings.slug, "refresh_token": tokens["refresh_token"]}
            )
        return social_login(self.get_provider(), identity)


class _Login(OAuth2LoginView):
    pass


class _Callback(OAuth2CallbackView):
    adapter: HubOIDCAdapter

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, response = super()._get_state(request, provider)
        self.adapter.state = state or {}
        if state is not None:
            # Before the code is sent anywhere: it may come from another provider.
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
    """Handle the provider's answer."""
    try:
        view = _Callback.adapter_view(HubOIDCAdapter(request, slug))
    except NotFound as error:
        raise Http404 from error
    try:
        answer: HttpResponse = view(request)
    except (SignInError, OAuth2Error) as error:
        return refuse(request, slug, error)
    return answer
