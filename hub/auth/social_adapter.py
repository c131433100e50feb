"""The identity providers of this hub, for django-allauth."""

import secrets
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from hub.auth import saml
from hub.auth.identities import account_for, social_login
from hub.auth.oidc import SignInError
from hub.auth.oidc_sign_in import HubOIDCProvider
from hub.auth.providers import Provider, all_providers, provider_named
from hub.auth.refusals import refuse


class SocialAdapter(DefaultSocialAccountAdapter):
    """Provides the hub's own providers and accounts to allauth's flow."""

    def list_apps(
        self, request: HttpRequest, provider: Any = None, client_id: Any = None
    ) -> list[SocialApp]:
        """Return the enabled providers as allauth's apps."""
        del request
        apps = [app_of(p) for p in all_providers() if p.enabled]
        return [
            a
            for a in apps
            if provider in (None, a.provider, a.provider_id) and client_id in (None, a.client_id)
        ]

    def get_provider(self, request: HttpRequest, provider: Any, client_id: Any = None) -> Any:
        """Return a provider by its id."""
        return self.get_app(request, provider, client_id).get_provider(request)

    def get_requests_session(self) -> Any:
        """Refuse: the hub connects to providers by its own client, which checks addresses."""
        raise ImproperlyConfigured("sign-in by this provider would connect past hub.base.outbound")

    def generate_state_param(self, state: dict[str, Any]) -> str:
        """Return 256 random bits."""
        del state
        return secrets.token_urlsafe(32)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Return False: accounts are created from verified identities only."""
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


def app_of(provider: Provider) -> SocialApp:
    """Return a provider as allauth's app."""
    kind = "openid_connect" if provider.protocol == "oidc" else "saml"
    client = provider.config.get("clientID", "") if provider.protocol == "oidc" else provider.slug
    app = SocialApp(provider=kind, provider_id=provider.slug, name=provider.name, client_id=client)
    app.settings = saml.settings_of(provider) if kind == "saml" else {"server_url": provider.issuer}
    # allauth would use its own class; these know the hub's settings.
    app.get_provider = lambda request: (
        HubOIDCProvider if kind == "openid_connect" else HubSAMLProvider
    )(request, app=app)
    return app


class HubSAMLProvider(SAMLProvider):
    """A SAML 2.0 provider of this hub."""

    def sociallogin_from_response(self, request: HttpRequest, response: Any) -> SocialLogin:
        """Return the identity in an assertion that python3-saml verified.

        Raises: SignInError for assertions that the library accepts and this hub does not.
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
