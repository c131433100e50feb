"""SAML 2.0 as a client: the settings of python3-saml, and the checks that it leaves out.

Source: SAML 2.0 Core, Bindings and Profiles (Web Browser SSO, 4.1.4.3; Single Logout, 4.4).
"""

import time
from collections.abc import Mapping
from typing import Any

from django.core.cache import cache
from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants

from hub.auth import oidc
from hub.auth.oidc import Identity, SignInError
from hub.auth.providers import Provider, pem_of

MAX_BYTES = 512 * 1024
"""The maximum size of a provider's message in a browser's request."""
_DRIFT_SECONDS = 300 + 60
"""The tolerance for an assertion's times: more than python3-saml's own."""
_NAMES = OneLogin_Saml2_Constants.NSMAP


def settings_of(provider: Provider) -> dict[str, Any]:
    """Return the settings of a provider as allauth passes them to python3-saml."""
    config = provider.config
    mapping = {
        "uid": config.get("subjectAttribute"),
        "email": config.get("emailAttribute"),
        "first_name": config.get("nameAttribute"),
    }
    idp = {
        "entity_id": config["entityID"],
        "sso_url": config["ssoURL"],
        "x509cert": pem_of(config["certificate"]),
    }
    if config.get("sloURL"):
        idp["slo_url"] = config["sloURL"]
    own = {"x509cert": config.get("spCertificate"), "private_key": config.get("privateKey")}
    return {
        "idp": idp,
        "sp": {"entity_id": config["spEntityID"]} if config.get("spEntityID") else {},
        "attribute_mapping": {k: v for k, v in mapping.items() if v},
        "advanced": {
            "strict": True,
            "want_assertion_signed": True,
            "reject_idp_initiated_sso": not config.get("allowIdPInitiated", False),
            "reject_deprecated_algorithm": True,
            "want_attribute_statement": False,
            "allow_single_label_domains": True,
            "want_assertion_encrypted": bool(config.get("wantEncrypted")),
            **{k: v for k, v in own.items() if v},
        },
    }


def identity_of(
    provider: Provider, subject: str, fields: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Identity:
    """Return the identity in an assertion.

    Shapes: `fields` as the mapping of attributes found them, `attributes` as they came.
    Raises: SignInError without a usable subject.
    """
    groups = attributes.get(provider.config.get("groupsAttribute") or "groups") or []
    return oidc.identity(
        provider,
        subject,
        email=fields.get("email"),
        verified=True,
        name=fields.get("first_name"),
        groups=groups,
    )


def check_proof(provider: Provider, auth: Any) -> None:
    """Check that an accepted answer is for this hub and this request, valid now, and used once."""
    root = etree.fromstring(auth.get_last_response_xml().encode(), _parser())
    found = root.findall("saml:Assertion", _NAMES)
    # The library ensures that there is exactly one assertion, covered by its own signature.
    if len(found) != 1 or found[0].get("ID") != auth.get_last_assertion_id():
        raise SignInError(f"{provider.slug}: the answer has no single assertion")
    here = _url_of(auth)
    _check_audience(provider, found[0])
    _check_confirmation(provider, found[0], here, root.get("InResponseTo"))
    if root.get("Destination") not in (None, here):
        raise SignInError(f"{provider.slug}: the answer was issued for {root.get('Destination')!r}")
    _use_up(provider, "assertion", str(found[0].get("ID")), _end_of(auth))


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)


def _url_of(auth: Any) -> str:
    return str(auth.get_settings().get_sp_data()["assertionConsumerService"]["url"])


def _check_audience(provider: Provider, assertion: Any) -> None:
    # The library checks that an audience is this hub, but not that there is one.
    if not assertion.findall("saml:Conditions/saml:AudienceRestriction/saml:Audience", _NAMES):
        raise SignInError(f"{provider.slug}: the assertion names no audience")


def _check_confirmation(provider: Provider, assertion: Any, here: str, answers: str | None) -> None:
    """Check that a bearer confirmation is for this URL, expires, and names the request."""
    path = "saml:Subject/saml:SubjectConfirmation"
    for confirmation in assertion.findall(path, _NAMES):
        data = confirmation.find("saml:SubjectConfirmationData", _NAMES)
        if data is None or confirmation.get("Method") != OneLogin_Saml2_Constants.CM_BEARER:
            continue
        # The envelope is not signed: the assertion must name the same request.
        if (
            data.get("Recipient") == here
            and data.get("NotOnOrAfter")
            and data.get("InResponseTo") == answers
        ):
            return
    raise SignInError(
        f"{provider.slug}: the assertion is not confirmed for this hub, this sign-in and a time"
    )


def _end_of(auth: Any) -> float:
    return float(auth.get_last_assertion_not_on_or_after() or time.time())


def _use_up(provider: Provider, what: str, number: str, ends_at: float) -> None:
    """Store the id of a message in the database, for as long as it could be replayed."""
    keep = max(ends_at - time.time(), 0) + _DRIFT_SECONDS
    if not cache.add(f"saml {what} {provider.issuer} {number}", 1, timeout=keep):
        raise SignInError(f"{provider.slug}: the {what} was used before")


def use_up_logout(provider: Provider, number: str) -> None:
    """Store the id of a logout message, which ends sessions only once.

    Raises: SignInError for one that was used before.
    """
    _use_up(provider, "logout message", number, time.time() + 86_400)
