"""The identity providers: from the environment, and as administrators configure them."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from hub.access.policy_names import PLAIN, naming
from hub.audit import trail
from hub.auth.accounts import end_grants
from hub.auth.sessions import end_sessions
from hub.base.outbound import check_url
from hub.base.redirects import origin_of
from hub.engine.errors import Invalid, NotFound, Precondition
from hub.models import Account, IdentityProvider, LoginSession, access_changed

_SLUG = re.compile(r"^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?\Z")
_SECRETS = ("clientSecret", "privateKey")
# Names that would make a provider's accounts look like roles or tokens of project roles.
_TAKEN = ("role", "proj")
_OIDC: dict[str, type | tuple[type, ...]] = {
    "issuer": str,
    "clientID": str,
    "clientSecret": str,
    "requestedScopes": list,
    "requestedIDTokenClaims": dict,
    "rootCA": str,
    "enableUserInfoGroups": bool,
    "userInfoBaseURL": str,
    "userInfoPath": str,
    "allowedAudiences": list,
    "groupsClaim": str,
    "groupsOverageURL": str,
    "clockSkewSeconds": int,
    "refreshMinutes": int,
    "domainHint": str,
    "logoutURL": str,
    "prompt": str,
    PLAIN: bool,
}
_SAML: dict[str, type | tuple[type, ...]] = {
    "entityID": str,
    "ssoURL": str,
    "sloURL": str,
    "certificate": str,
    "subjectAttribute": str,
    "emailAttribute": str,
    "nameAttribute": str,
    "groupsAttribute": str,
    "spEntityID": str,
    "allowIdPInitiated": bool,
    "spCertificate": str,
    "privateKey": str,
    "wantEncrypted": bool,
    PLAIN: bool,
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One identity provider."""

    slug: str
    name: str
    protocol: str
    config: Mapping[str, Any]
    enabled: bool = True
    origin: str = "settings"
    """`environment` or `settings`; providers from the environment cannot be changed here."""

    @property
    def issuer(self) -> str:
        """Identifies the provider's accounts together with their subject."""
        return str(self.config.get("issuer" if self.protocol == "oidc" else "entityID"))

    def as_json(self) -> dict[str, Any]:
        """Return the public fields, without secrets."""
        shown = {k: v for k, v in self.config.items() if k not in _SECRETS}
        return {
            "id": self.slug,
            "name": self.name,
            "type": self.protocol,
            "enabled": self.enabled,
            "origin": self.origin,
            "config": shown,
            "hasSecret": any(self.config.get(k) for k in _SECRETS),
        }


def all_providers() -> list[Provider]:
    """Return every provider, without stored ones that clash with one of the environment.

    Two clash by name, or when one could assert the other's accounts.
    """
    fixed = {
        p.slug: p for p in (from_json(e, origin="environment") for e in settings.SSO_PROVIDERS)
    }
    stored = [
        Provider(p.slug, p.name, p.protocol, p.config, p.is_enabled)
        for p in IdentityProvider.objects.order_by("name")
        if p.slug not in fixed
    ]
    return [*fixed.values(), *(p for p in stored if not any(_clash(p, f) for f in fixed.values()))]


def _clash(one: Provider, other: Provider) -> bool:
    """Return whether one of two providers could assert the other's accounts."""
    same = one.issuer.rstrip("/") == other.issuer.rstrip("/")
    return same and "saml" in (one.protocol, other.protocol)


def enabled_providers() -> list[Provider]:
    """Return the providers that have a button."""
    return [p for p in all_providers() if p.enabled]


def provider_named(slug: str) -> Provider:
    """Return an enabled provider.

    Raises: NotFound.
    """
    for provider in all_providers():
        if provider.slug == slug and provider.enabled:
            return provider
    raise NotFound(f"there is no identity provider {slug!r}")


def from_json(entry: Any, *, origin: str = "settings", before: Provider | None = None) -> Provider:
    """Return a provider from JSON: `{id, name, type, config, enabled}`.

    A secret that is left out stays as it is.
    Raises: Invalid naming the field.
    """
    if not isinstance(entry, dict):
        raise Invalid("an identity provider must be an object with id, name, type and config")
    slug, protocol, config = entry.get("id"), entry.get("type", "oidc"), entry.get("config")
    if not isinstance(slug, str) or not _SLUG.match(slug):
        raise Invalid("id must be at most 60 of a-z, 0-9 and -: it is part of the provider's URLs")
    if slug in _TAKEN:
        raise Invalid(f"id must not be {slug}: policies use that word for roles")
    if protocol not in ("oidc", "saml"):
        raise Invalid(f"type must be oidc or saml, not {protocol!r}")
    if not isinstance(config, dict):
        raise Invalid("config must be an object")
    if before is not None:
        kept = {k: before.config[k] for k in (*_SECRETS, PLAIN) if k in before.config}
        config = {**kept, **config}
    _check(config, _OIDC if protocol == "oidc" else _SAML)
    (_check_oidc if protocol == "oidc" else _check_saml)(config)
    name, enabled = entry.get("name") or slug, entry.get("enabled", True)
    if not isinstance(name, str) or len(name) > 100 or not isinstance(enabled, bool):
        raise Invalid("name must be text of at most 100 characters and enabled true or false")
    return Provider(slug, name, protocol, config, enabled, origin)


def _check(config: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for field, value in config.items():
        if field not in known:
            raise Invalid(f"config: {field!r} is unknown; there are {', '.join(known)}")
        if not isinstance(value, known[field]) or (known[field] is int and isinstance(value, bool)):
            raise Invalid(f"config.{field} must be of type {known[field].__name__}")


def _check_oidc(config: Mapping[str, Any]) -> None:
    for field in ("issuer", "clientID"):
        if not config.get(field):
            raise Invalid(f"config.{field} is required")
    schemes = ("https", "http") if settings.ALLOW_LOOPBACK else ("https",)
    for field in ("issuer", "userInfoBaseURL", "groupsOverageURL", "logoutURL"):
        if config.get(field):
            check_url(config[field], f"config.{field}", schemes)
    for field in ("requestedScopes", "allowedAudiences"):
        if not all(isinstance(word, str) and word for word in config.get(field) or []):
            raise Invalid(f"config.{field} must be a list of texts")
    if not 0 <= config.get("clockSkewSeconds", 60) <= 300:
        raise Invalid("config.clockSkewSeconds must be 0 to 300")
    if config.get("refreshMinutes", 15) < 1:
        raise Invalid("config.refreshMinutes must be at least 1")
    if config.get("rootCA"):
        try:
            ssl.create_default_context(cadata=config["rootCA"])
        except (ssl.SSLError, ValueError) as error:
            raise Invalid("config.rootCA must hold certificates in PEM form") from error


def _check_saml(config: Mapping[str, Any]) -> None:
    for field in ("entityID", "ssoURL", "certificate"):
        if not config.get(field):
            raise Invalid(f"config.{field} is required")
    for field in ("ssoURL", "sloURL"):
        if config.get(field):
            _check_browser_url(config[field], f"config.{field}")
    for field in ("certificate", "spCertificate"):
        if config.get(field):
            pem_of(config[field], f"config.{field}")


def _check_browser_url(url: str, field: str) -> None:
    # Only browsers connect to it, so an address inside the network is fine.
    schemes = ("https", "http") if settings.ALLOW_LOOPBACK else ("https",)
    scheme, place = origin_of(url)
    if scheme not in schemes or not place or "@" in place:
        raise Invalid(
            f"{field} must be a URL that starts with {' or '.join(s + '://' for s in schemes)}"
        )


def pem_of(text: str, field: str = "certificate") -> str:
    """Return a certificate in PEM form, from PEM or from base64 alone.

    Raises: Invalid naming the field.
    """
    body = "".join(line for line in text.strip().splitlines() if "-----" not in line)
    body = "".join(body.split())
    lines = "\n".join(body[n : n + 64] for n in range(0, len(body), 64))
    pem = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
    try:
        x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise Invalid(f"{field} must be a certificate in PEM form") from error
    return pem


def save(entry: Any, who: str) -> Provider:
    """Store a provider; its sessions end when it is disabled or its issuer changes.

    Raises: Invalid naming the field; Precondition for one from the environment.
    """
    slug = entry.get("id") if isinstance(entry, dict) else None
    row = IdentityProvider.objects.filter(slug=slug).first() if isinstance(slug, str) else None
    before = Provider(row.slug, row.name, row.protocol, row.config, row.is_enabled) if row else None
    provider = from_json(entry, before=before)
    _refuse_fixed(provider.slug)
    _check_issuer(provider)
    with transaction.atomic():
        _settle_names(provider.slug)
        plain = provider.config.get(PLAIN, not _others(provider.slug))
        row = row or IdentityProvider(slug=provider.slug)
        row.name, row.protocol = provider.name, provider.protocol
        row.config = {**provider.config, PLAIN: plain}
        row.is_enabled, row.updated_at = provider.enabled, timezone.now()
        row.save()
        trail.record(
            who,
            "update" if before else "create",
            "sso-provider",
            provider.slug,
            before=_recorded(before),
            after=_recorded(provider),
        )
        _names_changed()
        if not provider.enabled or (before and before.issuer != provider.issuer):
            end_sessions(LoginSession.objects.filter(account__provider=provider.slug), who)
            end_grants(Account.objects.filter(provider=provider.slug))
    return provider


def _others(slug: str) -> list[Provider]:
    return [p for p in all_providers() if p.slug != slug]


def _check_issuer(provider: Provider) -> None:
    # One provider decides which answers are accepted for an issuer: two of OpenID Connect read the
    # same keys from the issuer itself, but a SAML certificate is only what an administrator has
    # set.
    for other in _others(provider.slug):
        if _clash(provider, other):
            field = "issuer" if provider.protocol == "oidc" else "entityID"
            raise Invalid(
                f"config.{field} is already used by provider {other.slug}: "
                "this one could take over its accounts"
            )


def _settle_names(slug: str) -> None:
    """Store which provider has plain names, before another provider is added or removed."""
    how = naming()
    for row in IdentityProvider.objects.select_for_update().exclude(slug=slug):
        if PLAIN not in row.config:
            row.config = {**row.config, PLAIN: row.slug in how.plain}
            row.save(update_fields=["config"])


def _names_changed() -> None:
    how = naming()
    access_changed("sso", "naming", {k: sorted(v) for k, v in how._asdict().items()})


def _recorded(provider: Provider | None) -> dict[str, Any] | None:
    return {**provider.as_json(), "config": dict(provider.config)} if provider else None


def _refuse_fixed(slug: str) -> None:
    if any(p.slug == slug and p.origin == "environment" for p in all_providers()):
        raise Precondition(
            f"provider {slug} is set by the environment (HUB_SSO_PROVIDERS): change it there"
        )


def delete(slug: str, who: str) -> None:
    """Delete a provider; the sessions that it began end.

    Raises: NotFound; Precondition for one from the environment.
    """
    _refuse_fixed(slug)
    row = IdentityProvider.objects.filter(slug=slug).first()
    if row is None:
        raise NotFound(f"there is no identity provider {slug!r}")
    with transaction.atomic():
        _settle_names(slug)
        row.delete()
        trail.record(who, "delete", "sso-provider", slug)
        _names_changed()
        end_sessions(LoginSession.objects.filter(account__provider=slug), who)
        end_grants(Account.objects.filter(provider=slug))
