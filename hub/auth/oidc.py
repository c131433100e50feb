"""OpenID Connect as a client: discovery, verified tokens, groups.

Source: OpenID Connect Core 1.0, Discovery 1.0, RFC 7636; Argo CD's `oidc.config` for the names.
"""

import hmac
import json
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import jwt
from django.conf import settings

from hub.auth.providers import Provider
from hub.base.outbound import check_url, http
from hub.base.outbound.bounds import TooMuch, parse
from hub.base.redirects import origin_of
from hub.engine.errors import EngineError, Invalid, RetryLater

log = logging.getLogger(__name__)

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
MAX_BYTES = 1024 * 1024
MAX_KEYS = 100
MAX_CACHED = 200
"""The maximum number of cached documents of providers."""
MAX_VALUES = 50_000
"""The maximum number of values in one response: three bytes on the wire become sixty in memory."""
_SECONDS = 20.0
MAX_CHARACTERS = 500
"""The maximum length of a subject or of a group's name."""
_CACHE_SECONDS = 300
_cache: dict[tuple[str, str], tuple[float, Any]] = {}


class SignInError(Exception):
    """A sign-in by a provider failed. The reason is for the log and the trail, not for the page."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An account according to a provider."""

    issuer: str
    subject: str
    email: str = ""
    email_verified: bool = False
    name: str = ""
    groups: tuple[str, ...] = ()


def identity(
    provider: Provider, subject: str, *, email: Any, verified: bool, name: Any, groups: Any
) -> Identity:
    """Return a provider's identity in the form that the hub stores.

    Values that are malformed or cannot be stored are dropped: invisible or bidirectional
    characters, invalid email addresses.
    Raises: SignInError without a usable subject.
    """
    if not subject.strip() or len(subject) > MAX_CHARACTERS or not subject.isprintable():
        raise SignInError(f"{provider.slug}: the answer has no usable subject")
    address = email if isinstance(email, str) and is_address(email) else ""
    shown = "".join(c for c in name if c.isprintable()) if isinstance(name, str) else ""
    names = tuple(clean_groups(groups))
    return Identity(
        provider.issuer, subject, address, bool(address) and verified, shown[:300], names
    )


def is_address(text: str) -> bool:
    """Return whether a text is an acceptable email address, which pages may show as a name."""
    local, at, domain = text.partition("@")
    plain = text.isprintable() and not any(c.isspace() for c in text)
    return bool(local and at and domain) and "@" not in domain and plain and len(text) <= 320


def _client(provider: Provider) -> http.Client:
    authority = provider.config.get("rootCA") or None
    context = (
        ssl.create_default_context(cadata=authority) if authority else ssl.create_default_context()
    )
    return http.client(verify=context, timeout=10, seconds=_SECONDS)


def call(provider: Provider, method: str, url: str, **options: Any) -> Any:
    """Return a provider's JSON response: at most 1 MiB, no redirects, only allowed addresses.

    Raises: SignInError describing any other response.
    """
    if not isinstance(url, str):
        raise SignInError(f"{provider.slug}: an endpoint of the metadata is no URL")
    try:
        check_url(
            url, "the provider's URL", ("https", "http") if settings.ALLOW_LOOPBACK else ("https",)
        )
        with _client(provider) as client, client.stream(method, url, **options) as answer:
            body = http.body(answer, MAX_BYTES)
            if answer.status_code != http.OK:
                raise SignInError(
                    f"{provider.slug}: {url} answers {answer.status_code}{_reason(body)}"
                )
        found = parse(body, values=MAX_VALUES)
    except TooMuch as error:
        raise SignInError(
            f"{provider.slug}: the answer of {url} is too large or too slow: {error}"
        ) from error
    except (http.HTTPError, EngineError, RetryLater, Invalid, ValueError, OSError) as error:
        raise SignInError(
            f"{provider.slug}: {url} cannot be used: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, dict):
        raise SignInError(f"{provider.slug}: {url} answers no JSON object")
    return found


def _reason(body: bytes) -> str:
    # Only the code of RFC 6749 is repeated from an error: descriptions may hold the request's
    # secrets.
    try:
        code = parse(body).get("error", "")
    except (TooMuch, ValueError, AttributeError):
        return ""
    return f" ({code})" if isinstance(code, str) and code.isascii() and len(code) < 60 else ""


def _cached(provider: Provider, url: str, *, fresh: bool = False) -> Any:
    key, now = (provider.slug + str(provider.config.get("rootCA", "")), url), time.monotonic()
    found = _cache.get(key)
    if found and not fresh and now - found[0] < _CACHE_SECONDS:
        return found[1]
    value = call(provider, "GET", url)
    # A provider chooses these URLs: drop old ones, so that new ones do not fill the memory.
    for old in [k for k, (at, _) in list(_cache.items()) if now - at >= _CACHE_SECONDS]:
        _cache.pop(old, None)
    if len(_cache) < MAX_CACHED or key in _cache:
        _cache[key] = (now, value)
    return value


def discover(provider: Provider, *, fresh: bool = False) -> dict[str, Any]:
    """Return the provider's metadata.

    Raises: SignInError when the issuer differs or an endpoint is missing.
    """
    issuer = provider.issuer
    found: dict[str, Any] = _cached(
        provider, issuer.rstrip("/") + "/.well-known/openid-configuration", fresh=fresh
    )
    if str(found.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
        raise SignInError(
            f"{provider.slug}: the metadata is of issuer {found.get('issuer')!r}, not {issuer!r}"
        )
    for field in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not isinstance(found.get(field), str):
            raise SignInError(f"{provider.slug}: the metadata has no {field}")
    scheme, place = origin_of(found["authorization_endpoint"])
    if scheme not in ("https", "http") or not place:
        raise SignInError(f"{provider.slug}: authorization_endpoint of the metadata is no URL")
    return found


def check_answer(provider: Provider, query: Mapping[str, list[str]]) -> None:
    """Check that the response in a browser's request comes from this provider.

    Raises: SignInError when it names another issuer, or none where the provider always does.
    Source: RFC 9207 (mix-up of providers).
    """
    if twice := [n for n in ("code", "state", "iss", "error") if len(query.get(n) or []) > 1]:
        raise SignInError(f"{provider.slug}: the answer has {twice[0]} more than once")
    metadata = discover(provider)
    named = (query.get("iss") or [""])[0]
    if not named and metadata.get("authorization_response_iss_parameter_supported") is not True:
        return
    if named != metadata["issuer"]:
        raise SignInError(f"{provider.slug}: the answer is of issuer {named[:200]!r}")


def auth_params(provider: Provider, nonce: str) -> dict[str, str]:
    """Return the parameters of the authorization request besides client, scope and state."""
    config, params = provider.config, {"nonce": nonce}
    if config.get("requestedIDTokenClaims"):
        params["claims"] = json.dumps({"id_token": config["requestedIDTokenClaims"]})
    for field, name in (("domainHint", "domain_hint"), ("prompt", "prompt")):
        if config.get(field):
            params[name] = config[field]
    return params


def scopes(provider: Provider) -> list[str]:
    """Return the scopes to request, always with openid."""
    wanted = provider.config.get("requestedScopes") or ["openid", "profile", "email", "groups"]
    return list(dict.fromkeys(["openid", *wanted]))


def fetch_tokens(provider: Provider, data: Mapping[str, str]) -> dict[str, Any]:
    """Return the token endpoint's response to a code or a refresh token.

    Raises: SignInError when it refuses.
    """
    metadata, config = discover(provider), provider.config
    methods = metadata.get("token_endpoint_auth_methods_supported")
    methods = methods if isinstance(methods, list) and methods else ["client_secret_basic"]
    secret, client_id = config.get("clientSecret") or "", config["clientID"]
    form = {**data, "client_id": client_id}
    auth = None
    if secret and "client_secret_basic" in methods:
        auth = http.BasicAuth(client_id, secret)
    elif secret:
        form["client_secret"] = secret
    found: dict[str, Any] = call(provider, "POST", metadata["token_endpoint"], data=form, auth=auth)
    return found


def _key(provider: Provider, metadata: Mapping[str, Any], token: str) -> tuple[Any, str]:
    header = jwt.get_unverified_header(token)
    algorithm = str(header.get("alg"))
    if algorithm not in ALGORITHMS:
        raise SignInError(
            f"{provider.slug}: the ID token is signed by {algorithm!r}, which is not accepted"
        )
    for fresh in (False, True):
        keys = _cached(provider, metadata["jwks_uri"], fresh=fresh).get("keys") or []
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise SignInError(f"{provider.slug}: the keys must be a list of at most {MAX_KEYS}")
        fitting = [
            k
            for k in keys
            if isinstance(k, dict)
            and k.get("use", "sig") == "sig"
            and header.get("kid") in (None, k.get("kid"))
        ]
        for entry in fitting:
            try:
                key = jwt.PyJWK.from_dict(entry, algorithm=None if entry.get("alg") else algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
                continue  # a key of another type cannot verify this token
            if key.algorithm_name == algorithm:
                return key.key, algorithm
    raise SignInError(f"{provider.slug}: no key of the provider fits the ID token")


def verify_id_token(provider: Provider, token: str, *, nonce: str | None) -> dict[str, Any]:
    """Return the claims of a valid ID token: signature, issuer, audience, times, nonce.

    Shapes: `nonce` is None for a refreshed token, which has none.
    Raises: SignInError saying what is wrong.
    """
    metadata, config = discover(provider), provider.config
    audiences = config.get("allowedAudiences") or [config["clientID"]]
    try:
        key, algorithm = _key(provider, metadata, token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audiences,
            issuer=metadata["issuer"],
            leeway=config.get("clockSkewSeconds", 60),
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
    except jwt.PyJWTError as error:
        raise SignInError(f"{provider.slug}: the ID token is not accepted: {error}") from error
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") not in (config["clientID"], *audiences):
        raise SignInError(f"{provider.slug}: the ID token was issued for another client (azp)")
    if nonce is not None and not hmac.compare_digest(
        str(claims.get("nonce", "")).encode(), nonce.encode()
    ):
        raise SignInError(f"{provider.slug}: the ID token does not answer this sign-in (nonce)")
    if not isinstance(claims["sub"], str):
        raise SignInError(f"{provider.slug}: the ID token has no usable subject")
    return claims


def userinfo(provider: Provider, access_token: str, subject: str) -> dict[str, Any]:
    """Return the claims of the userinfo endpoint.

    Raises: SignInError when they belong to another subject.
    """
    config = provider.config
    url = discover(provider).get("userinfo_endpoint") or ""
    if config.get("userInfoPath"):
        url = urljoin(
            (config.get("userInfoBaseURL") or provider.issuer).rstrip("/") + "/",
            config["userInfoPath"].lstrip("/"),
        )
    if not url:
        raise SignInError(f"{provider.slug}: the provider has no userinfo endpoint")
    found: dict[str, Any] = call(
        provider, "GET", url, headers={"Authorization": f"Bearer {access_token}"}
    )
    if found.get("sub") != subject:
        raise SignInError(f"{provider.slug}: userinfo answers for another subject")
    return found


def clean_groups(value: Any) -> list[str]:
    """Return the groups of a claim: a list of names, or one name; anything else is ignored."""
    values = value if isinstance(value, list) else [value]
    names = dict.fromkeys(v for v in values if isinstance(v, str))
    return [g for g in names if g.strip() and g.isprintable() and len(g) <= MAX_CHARACTERS]


def groups_of(provider: Provider, claims: Mapping[str, Any], access_token: str) -> list[str]:
    """Return the groups of the ID token, of userinfo if configured, or of the groups endpoint.

    Raises: SignInError when the provider sends a link instead and no `groupsOverageURL` is set.
    """
    claim = provider.config.get("groupsClaim") or "groups"
    if provider.config.get("enableUserInfoGroups"):
        return clean_groups(userinfo(provider, access_token, str(claims["sub"])).get(claim))
    pointed = claims.get("_claim_names")
    if claim not in claims and (
        claims.get("hasgroups") or (isinstance(pointed, dict) and claim in pointed)
    ):
        return _overage(provider, access_token)
    return clean_groups(claims.get(claim))


def _overage(provider: Provider, access_token: str) -> list[str]:
    url = provider.config.get("groupsOverageURL")
    if not url:
        raise SignInError(
            f"{provider.slug}: the provider sends a link instead of so many groups: "
            "set groupsOverageURL, "
            "such as https://graph.microsoft.com/v1.0/me/getMemberObjects"
        )
    found, groups = url, list[str]()
    for page in range(50):
        options: dict[str, Any] = {"json": {"securityEnabledOnly": False}} if page == 0 else {}
        answer = call(
            provider,
            "POST" if page == 0 else "GET",
            found,
            headers={"Authorization": f"Bearer {access_token}"},
            **options,
        )
        groups += clean_groups(answer.get("value"))
        found = answer.get("@odata.nextLink") or ""
        # The access token goes only to the configured server.
        if not isinstance(found, str) or not found or origin_of(found) != origin_of(url):
            break
    return list(dict.fromkeys(groups))


def identity_of(
    provider: Provider, tokens: Mapping[str, Any], *, nonce: str | None, subject: str = ""
) -> Identity:
    """Return the identity that a provider's tokens prove; with `subject` it must be that one.

    Raises: SignInError when the tokens are not valid.
    """
    if not isinstance(tokens.get("id_token"), str):
        raise SignInError(f"{provider.slug}: the answer has no ID token")
    claims = verify_id_token(provider, tokens["id_token"], nonce=nonce)
    if subject and claims["sub"] != subject:
        raise SignInError(f"{provider.slug}: the refreshed token is of another subject")
    access = str(tokens.get("access_token") or "")
    return identity(
        provider,
        claims["sub"],
        email=claims.get("email"),
        verified=claims.get("email_verified") is True,
        name=claims.get("name"),
        groups=groups_of(provider, claims, access),
    )
