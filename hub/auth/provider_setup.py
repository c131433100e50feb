"""Help with setting up an identity provider: its callback URL, and a connection test."""

from django.http import (
    HttpRequest,
)
from django.urls import reverse

from hub.auth import oidc, providers
from hub.base.external_url import absolute
from hub.engine.errors import (
    NotFound,
)


def callback_url(request: HttpRequest, provider: providers.Provider) -> str:
    """Return the URL to register at a provider."""
    if provider.protocol == "saml":
        return absolute(request, reverse("saml_acs", args=[provider.slug]))
    return absolute(request, reverse("sso_callback", args=[provider.slug]))


def check_provider(slug: str) -> str:
    """Return a sentence when a provider responds correctly.

    Raises: SignInError saying what is wrong; NotFound.
    """
    found = next((p for p in providers.all_providers() if p.slug == slug), None)
    if found is None:
        raise NotFound(f"there is no identity provider {slug!r}")
    if found.protocol == "saml":
        return f"{found.name}: its certificate can be read; only a sign-in shows more."
    metadata = oidc.discover(found, fresh=True)
    return f"{found.name} answers as {metadata['issuer']}."
