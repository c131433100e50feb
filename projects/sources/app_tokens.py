"""Short-lived tokens for Git over HTTPS, from a GitHub App or a Google service account."""

import hashlib
import re
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import orjson
from django.utils import timezone

from hub.base.outbound import check_url, http
from hub.base.outbound.bounds import TooMuch, parse
from hub.base.redaction import redact_text
from hub.engine.errors import RetryLater, Stalled
from projects.sources.credentials import authority_of, proxy_of, tls_of

GITHUB = "https://api.github.com"
GOOGLE_SCOPE = "https://www.googleapis.com/auth/source.read_only"
CACHE_PERIOD = timedelta(minutes=50)
TOKEN_UNAVAILABLE = "TokenUnavailable"
"""The error reason if the token endpoint is unreachable; unrelated to the repository itself."""
_ASSERTION = timedelta(minutes=9)
_SECONDS = 30.0
_MAX_BYTES = 1024 * 1024
_tokens: dict[str, tuple[datetime, str]] = {}
_making: dict[str, threading.Lock] = {}
_lock = threading.Lock()


def forget() -> None:
    """Drop all cached tokens."""
    _tokens.clear()


def with_token(url: str, credentials: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return app credentials as a user and password for Git; others are returned unchanged.

    Raises: Stalled for an invalid key, RetryLater with the server's message.
    Source: as Argo CD 3.6: the repository's own key, or that of its credential template.
    """
    if not url.startswith(("https://", "http://")):
        return credentials
    if credentials.get("githubAppPrivateKey"):
        return {
            **credentials,
            "username": "x-access-token",
            "password": _cached(_github, url, credentials),
        }
    if credentials.get("gcpServiceAccountKey"):
        account = _google_account(credentials)
        return {
            **credentials,
            "username": account["client_email"],
            "password": _cached(_google, url, credentials),
        }
    return credentials


def signed(claims: Mapping[str, Any], key: str) -> str:
    """Return claims with their times, signed with an RSA key in PEM format.

    Raises: ValueError if the key is invalid.
    """
    now = timezone.now()
    whole = {"iat": now - timedelta(seconds=60), "exp": now + _ASSERTION, **claims}
    try:
        return jwt.encode(whole, key, algorithm="RS256")
    except (TypeError, jwt.PyJWTError) as error:
        raise ValueError(str(error)) from error


def _cached(make: Any, url: str, credentials: Mapping[str, Any]) -> str:
    own = {k: v for k, v in credentials.items() if k.startswith(("githubApp", "gcp"))}
    # Without an installation id, the installation is found by the repository's owner.
    owner = "" if own.get("githubAppInstallationID") or make is _google else url.rpartition("/")[0]
    place = hashlib.sha256(orjson.dumps([owner, own], option=orjson.OPT_SORT_KEYS)).hexdigest()
    with _lock:
        making = _making.setdefault(place, threading.Lock())
    with making:
        now = timezone.now()
        until, token = _tokens.get(place, (now, ""))
        if until > now:
            return token
        token = str(make(url, credentials))
        _tokens[place] = (now + CACHE_PERIOD, token)
    return token


def _github(url: str, credentials: Mapping[str, Any]) -> str:
    base = str(credentials.get("githubAppEnterpriseBaseUrl") or GITHUB).rstrip("/")
    app = str(credentials.get("githubAppID") or "")
    if not app:
        raise Stalled("InvalidCredentials", "githubAppID is missing: set the id of the GitHub App")
    try:
        assertion = signed({"iss": app}, str(credentials["githubAppPrivateKey"]))
    except ValueError as error:
        message = "githubAppPrivateKey is not an RSA key in PEM format"
        raise Stalled("InvalidCredentials", message) from error
    headers = {"Authorization": f"Bearer {assertion}", "Accept": "application/vnd.github+json"}
    installation = credentials.get("githubAppInstallationID")
    if not installation:
        owner, name = _repository(url)
        found = _request(
            "GET", f"{base}/repos/{owner}/{name}/installation", credentials, headers=headers
        )
        installation = found.get("id")
    answer = _request(
        "POST",
        f"{base}/app/installations/{installation}/access_tokens",
        credentials,
        headers=headers,
    )
    return _text(answer, "token", base)


def _repository(url: str) -> tuple[str, str]:
    parts = [p for p in urlsplit(url).path.removesuffix(".git").split("/") if p]
    if len(parts) < 2:
        raise Stalled(
            "InvalidCredentials",
            "githubAppInstallationID is missing, and the URL has no owner and repository "
            "to find it by",
        )
    return quote(parts[-2], safe=""), quote(parts[-1], safe="")


def _google_account(credentials: Mapping[str, Any]) -> dict[str, str]:
    try:
        found = orjson.loads(str(credentials["gcpServiceAccountKey"]))
    except orjson.JSONDecodeError:
        found = None
    fields = ("client_email", "private_key", "token_uri")
    if not isinstance(found, dict) or not all(isinstance(found.get(f), str) for f in fields):
        raise Stalled(
            "InvalidCredentials",
            "gcpServiceAccountKey is not a service account key in JSON format "
            f"with {', '.join(fields)}",
        )
    return {f: str(found[f]) for f in fields}


def _google(url: str, credentials: Mapping[str, Any]) -> str:
    del url
    account = _google_account(credentials)
    claims = {"iss": account["client_email"], "scope": GOOGLE_SCOPE, "aud": account["token_uri"]}
    try:
        assertion = signed(claims, account["private_key"])
    except ValueError as error:
        raise Stalled(
            "InvalidCredentials",
            "gcpServiceAccountKey: private_key is not an RSA key in PEM format",
        ) from error
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    return _text(
        _request("POST", account["token_uri"], credentials, data=form),
        "access_token",
        account["token_uri"],
    )


def _request(method: str, url: str, credentials: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    host = urlsplit(url).hostname or ""
    proxy = proxy_of(host, credentials)
    check_url(url, "the token endpoint", proxied=bool(proxy))
    verify = tls_of({"insecure": credentials.get("insecure"), "caData": authority_of(url)})
    try:
        with (
            http.client(verify=verify, proxy=proxy, timeout=20, seconds=_SECONDS) as client,
            client.stream(method, url, **more) as answer,
        ):
            data = http.body(answer, _MAX_BYTES)
    except (http.HTTPError, TooMuch) as error:
        raise RetryLater(
            TOKEN_UNAVAILABLE,
            f"the token endpoint {host} does not respond: {type(error).__name__}",
            timedelta(seconds=20),
        ) from error
    try:
        found = parse(data)
    except (TooMuch, ValueError):
        found = None
    said = found if isinstance(found, dict) else {}
    if answer.status_code >= 400:
        words = re.sub(r"\s+", " ", str(said.get("message") or said.get("error_description") or ""))
        raise RetryLater(
            "AuthenticationFailed",
            f"{host} issued no token ({answer.status_code}): "
            f"{redact_text(words)[:200] or 'no reason given'}",
            timedelta(seconds=60),
        )
    return said


def _text(answer: Mapping[str, Any], field: str, url: str) -> str:
    found = answer.get(field)
    if not isinstance(found, str) or not found or any(c.isspace() for c in found):
        raise RetryLater(
            "AuthenticationFailed",
            f"{urlsplit(url).hostname} issued no token: the response has no {field}",
            timedelta(seconds=60),
        )
    return found
