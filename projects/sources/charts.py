"""Fetch Helm charts from HTTP repositories and OCI registries, with size limits."""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson
from django.conf import settings

from hub.base.outbound import check_url, http, joined
from hub.base.outbound.bounds import TooMuch, parse
from hub.base.redaction import redact_text
from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from hub.engine.project_restrictions import has_dot_segments
from projects.sources import published_versions
from projects.sources.archives import unpack
from projects.sources.chart_index import Index, read_index
from projects.sources.credentials import (
    IDENTITY,
    OWN_TRANSPORT,
    TEMPLATE_URL,
    proxy_of,
    reader_name,
    tls_of,
)
from projects.sources.files import MemoryFiles
from projects.sources.ttl_cache import TTLCache
from projects.sources.versions import highest, is_constraint

SECONDS = 300.0
"""The timeout for one file: enough for the largest chart at 1 MB/s."""
_MAX_TAGS = 100_000
_MAX_PAGES = 200
_CHART_LAYERS = (
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    "application/tar+gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,500}")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+:-]{0,250}")
_MANIFEST = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)

_TOKEN = re.compile(r"[!-~]{0,16384}")
_ALIAS = re.compile(r"(?:@|alias:)(.+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Access:
    """Access to the chart repositories that a project may use."""

    credentials: Callable[[str], Mapping[str, Any]]
    permitted: Callable[[str], None]
    named: Callable[[str], str]
    """Returns the URL of a registered repository by name."""

    def chart(self, repository: str, name: str, version: str) -> MemoryFiles:
        """Return the files of a dependency; `repository` may be `@name` or `alias:name`."""
        url, found = self._opened(repository)
        resolved = resolve(url, name, version, found)
        return fetch(url, name, resolved, found)

    def reader(self, repository: str) -> str:
        """Return an opaque name for the URL, identity and transport used to read a repository."""
        url, found = self._opened(repository)
        parts = (url, reader_name(found), str(found.get(OWN_TRANSPORT) or ""))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _opened(self, repository: str) -> tuple[str, Mapping[str, Any]]:
        alias = _ALIAS.fullmatch(repository)
        url = self.named(alias[1]) if alias else repository
        self.permitted(url)
        return url, self.credentials(url)


def is_oci(url: str, credentials: Mapping[str, Any] | None = None) -> bool:
    """Return whether a URL is that of an OCI registry."""
    return url.startswith("oci://") or (
        "://" not in url and bool((credentials or {}).get("enableOCI"))
    )


@contextlib.contextmanager
def _client(url: str, credentials: Mapping[str, Any]) -> Iterator[http.Client]:
    proxy = proxy_of(_parts(url).hostname or "", credentials)
    check_url(url, "repoURL", proxied=bool(proxy))
    with http.client(verify=tls_of(credentials), proxy=proxy, seconds=SECONDS) as client:
        yield client


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise Invalid(f"repoURL: {redact_text(url)[:200]!r} is not a URL") from error


def _cause(error: http.HTTPError) -> str:
    """Return why a request failed, with details for certificate errors."""
    text = str(error)
    return (
        f"its certificate is not trusted ({text})"
        if "CERTIFICATE" in text
        else type(error).__name__
    )


def _authorization(credentials: Mapping[str, Any]) -> http.Auth | None:
    if credentials.get("username") or credentials.get("password"):
        return http.BasicAuth(
            str(credentials.get("username") or ""), str(credentials.get("password") or "")
        )
    return None


def _get(url: str, credentials: Mapping[str, Any], limit: int, *, server: str = "") -> bytes:
    """Return the content of a URL; credentials are for `server`, by default the URL's."""
    return _fetch(url, credentials, limit, server=server)[0]


def _fetch(
    url: str,
    credentials: Mapping[str, Any],
    limit: int,
    headers: Mapping[str, str] | None = None,
    *,
    server: str = "",
) -> tuple[bytes, str]:
    """Return the content of a URL and the URL of the next page, empty if there is none.

    Every redirect is checked. Credentials are sent only to `server`, by default the first host, and
    those of a template only to URLs inside the repository.
    """
    origin, current = _parts(server or url), url
    carried = credentials
    for _hop in range(6):
        same = urlsplit(current)[:2] == origin[:2] or credentials.get("passCredentials")
        shown = (
            carried if same else {k: v for k, v in carried.items() if not k.startswith("tlsClient")}
        )
        auth = _authorization(carried)
        try:
            with (
                _client(current, shown) as client,
                client.stream(
                    "GET",
                    current,
                    auth=auth if same else None,
                    headers=dict(headers or {}) if same else {},
                ) as answer,
            ):
                if answer.is_redirect:
                    current = joined(current, answer.headers.get("location", ""), redact_text(url))
                    carried = _for_file(current, server or url, credentials)
                    continue
                _check_status(answer, current)
                following = str(answer.links.get("next", {}).get("url") or "")
                body = _body(answer, limit, current)
                return body, joined(current, following, redact_text(url)) if following else ""
        except http.HTTPError as error:
            raise RetryLater(
                "RepositoryUnreachable",
                f"{redact_text(url)} does not respond: {_cause(error)}",
                timedelta(seconds=20),
            ) from error
    raise Stalled("TooManyRedirects", f"{redact_text(url)} redirects too many times")


def _check_status(answer: http.Response, url: str) -> None:
    shown = redact_text(url)
    if answer.status_code in (401, 403):
        raise RetryLater(
            "AuthenticationFailed",
            f"{shown}: the credentials are rejected ({answer.status_code})",
            timedelta(seconds=60),
        )
    if answer.status_code == 404:
        raise Stalled("NotFound", f"{shown}: not found")
    if answer.status_code >= 400:
        raise RetryLater(
            "RepositoryUnreachable",
            f"{shown} returned status {answer.status_code}",
            timedelta(seconds=20),
        )


def _body(answer: http.Response, limit: int, url: str) -> bytes:
    try:
        return http.body(answer, limit)
    except TooMuch as error:
        raise Stalled("TooLarge", f"{redact_text(url)}: {error}, the limit") from error


def fetch_file(url: str, credentials: Mapping[str, Any]) -> bytes:
    """Return a file from an HTTP server.

    Raises: Stalled if it does not exist or is too large, RetryLater if the server does not respond,
        Invalid for an address that the hub must not connect to.
    """
    return _get(url, credentials, settings.MAX_MANIFEST_BYTES)


_indexes: TTLCache[Index] = TTLCache(64 * 1024**2, 60)
_listed: TTLCache[list[str]] = TTLCache(16 * 1024**2, 60)
"""Tags by repository."""
_archives: TTLCache[bytes] = TTLCache(128 * 1024**2, 600)


def forget() -> None:
    """Clear all caches."""
    _indexes.clear()
    _listed.clear()
    _archives.clear()


def fetch_index(url: str, credentials: Mapping[str, Any], *, fresh: bool = False) -> Index:
    """Return a repository's index, cached for a minute.

    Raises: RetryLater, Stalled, ManifestError for an invalid index.
    """
    # Cached per credentials: another project's response must not be reused.
    place, own = published_versions.listing_key(url), (url, credentials_key(credentials))
    kept = None if fresh else _indexes.get((*own, published_versions.change_count(place)))
    if kept is not None:
        return kept
    data = _get(url.rstrip("/") + "/index.yaml", credentials, settings.MAX_INDEX_BYTES, server=url)
    found = read_index(data, redact_text(url))
    published_versions.record_versions(place, credentials, found.facts())
    _indexes.put((*own, published_versions.change_count(place)), found, found.size)
    return found


def versions(
    url: str, chart: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> list[str]:
    """Return the versions of a chart."""
    if is_oci(url, credentials):
        return _known_tags(url, chart, credentials, fresh=fresh)
    found = fetch_index(url, credentials, fresh=fresh).releases(chart)
    return [release.version for release in found]


def resolve(
    url: str, chart: str, target: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> str:
    """Return the version of a target revision: the highest that satisfies a constraint.

    Raises: Stalled if none does.
    """
    if target and not is_constraint(target):
        return target
    known = versions(url, chart, credentials, fresh=fresh)
    # As with Git, an existing version with this exact name wins.
    best = target if target in known else highest(target or "*", known)
    if best is None:
        raise Stalled(
            "RevisionNotFound",
            f"no version of chart '{chart}' in {redact_text(url)} satisfies '{target}'",
        )
    return best


def _archive(url: str, chart: str, version: str, credentials: Mapping[str, Any]) -> bytes:
    place = (url, chart, version, credentials_key(credentials))
    found = _archives.get(place)
    if found is None:
        found = _fetch_archive(url, chart, version, credentials)
        _archives.put(place, found, len(found))
    return found


def _fetch_archive(url: str, chart: str, version: str, credentials: Mapping[str, Any]) -> bytes:
    if is_oci(url, credentials):
        return _pull(url, chart, version, credentials)
    named = fetch_index(url, credentials).file_of(chart, version)
    place = joined(url.rstrip("/") + "/", named, redact_text(url))
    # The index may refer to any server, but credentials are only for the index's own.
    return _get(place, _for_file(place, url, credentials), settings.MAX_CHART_BYTES, server=url)


def _for_file(place: str, url: str, credentials: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the credentials for a file that an index or redirect points to.

    A template's credentials may grant access to more than the project permits, so they are only
    sent to URLs inside the repository.
    """
    is_inside = place.startswith(url.rstrip("/") + "/") and not has_dot_segments(place)
    if is_inside or TEMPLATE_URL not in credentials or credentials.get("passCredentials"):
        return credentials
    return {k: v for k, v in credentials.items() if k not in IDENTITY}


def fetch(url: str, chart: str, version: str, credentials: Mapping[str, Any]) -> MemoryFiles:
    """Return the files of a chart at an exact version, without its top folder.

    Raises: Stalled and RetryLater from the server, ManifestError for an invalid archive.
    """
    return unpack(_archive(url, chart, version, credentials), strip=True)


def credentials_key(credentials: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return credentials as a hashable cache key."""
    return tuple(sorted((k, v) for k, v in credentials.items() if isinstance(v, str | bool | int)))


def _registry(url: str, chart: str) -> tuple[str, str]:
    host, _, path = url.removeprefix("oci://").partition("/")
    name = "/".join(p for p in (path.strip("/"), chart) if p)
    if has_dot_segments(name) or not _PLACE.fullmatch(name):
        # The project permits a URL; the chart's name must not lead to another one.
        raise ManifestError(f"chart: {name[:200]!r} is not a valid repository path")
    return host, name


def _base(host: str, credentials: Mapping[str, Any]) -> str:
    return f"{'http' if credentials.get('insecureOCIForceHttp') else 'https'}://{host}/v2"


def _registry_get(
    host: str, path: str, credentials: Mapping[str, Any], limit: int, accept: str = "*/*"
) -> bytes:
    return _registry_page(_base(host, credentials) + path, credentials, limit, accept)[0]


def _registry_page(
    url: str, credentials: Mapping[str, Any], limit: int, accept: str = "*/*"
) -> tuple[bytes, str]:
    headers = {"Accept": accept}
    challenge = _challenge(url, credentials, headers)
    token = _token(challenge, credentials, plain=url.startswith("http://"))
    if not token:
        return _fetch(url, credentials, limit, headers)
    others = {k: v for k, v in credentials.items() if k not in ("username", "password")}
    return _fetch(url, others, limit, {**headers, "Authorization": f"Bearer {token}"})


def _challenge(url: str, credentials: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Return a registry's authentication challenge, empty if it requires none."""
    with _client(url, credentials) as client:
        try:
            with client.stream("GET", url, headers=dict(headers), auth=None) as answer:
                return (
                    answer.headers.get("www-authenticate", "") if answer.status_code == 401 else ""
                )
        except http.HTTPError as error:
            host = urlsplit(url).netloc
            raise RetryLater(
                "RepositoryUnreachable", f"registry {host} does not respond: {_cause(error)}"
            ) from error


def _json(data: bytes, place: str) -> dict[str, Any]:
    try:
        found = parse(data)
    except (TooMuch, orjson.JSONDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Stalled(
            "NotARegistry",
            f"{redact_text(place)} did not return a JSON object: is it an OCI registry?",
        )
    return found


def _token(challenge: str, credentials: Mapping[str, Any], *, plain: bool) -> str:
    if not challenge.lower().startswith("bearer "):
        return ""
    fields = dict(re.findall(r'\b(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not realm.startswith(("https://", "http://") if plain else "https://"):
        raise Stalled("NotARegistry", "the registry's token endpoint does not use https")
    query = "&".join(f"{k}={v}" for k, v in fields.items() if k in ("service", "scope"))
    place = joined("", f"{realm}?{query}", "realm")
    data = _json(_get(place, credentials, 1024**2), realm)
    token = data.get("token") or data.get("access_token") or ""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise Stalled("NotARegistry", f"{redact_text(realm)} returned an invalid token")
    return token


def _tags(url: str, chart: str, credentials: Mapping[str, Any]) -> list[str]:
    host, name = _registry(url, chart)
    base = _base(host, credentials)
    page, found = f"{base}/{name}/tags/list?n=1000", list[str]()
    until, room = time.monotonic() + SECONDS, settings.MAX_INDEX_BYTES
    for _ in range(_MAX_PAGES):
        data, following = _registry_page(page, credentials, room)
        room -= len(data)
        # Tags cannot contain "+", so Helm writes "_" instead.
        listed = _json(data, page).get("tags") or []
        if not isinstance(listed, list):
            raise Stalled("NotARegistry", f"registry {host} returned no list of tags for {name}")
        found += [tag.replace("_", "+") for tag in listed if isinstance(tag, str)]
        if len(found) > _MAX_TAGS:
            raise Stalled("TooLarge", f"registry {host} lists more than {_MAX_TAGS} tags of {name}")
        if not following:
            return found
        if time.monotonic() > until:
            raise RetryLater(
                "RepositoryUnreachable",
                f"registry {host} takes too long to list the tags of {name}",
                timedelta(minutes=5),
            )
        if urlsplit(following)[:2] != urlsplit(base)[:2]:
            raise Stalled(
                "NotARegistry",
                f"registry {host} continues its list of tags on another server",
            )
        page = following
    raise Stalled(
        "TooLarge",
        f"registry {host} lists the tags of {name} on more than {_MAX_PAGES} pages, the limit",
    )


def _known_tags(
    url: str, chart: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> list[str]:
    place, own = (
        published_versions.listing_key(url, chart),
        (url, chart, credentials_key(credentials)),
    )
    kept = None if fresh else _listed.get((*own, published_versions.change_count(place)))
    if kept is not None:
        return kept
    found = _tags(url, chart, credentials)
    published_versions.record_versions(place, credentials, found)
    _listed.put(
        (*own, published_versions.change_count(place)),
        found,
        sum(map(len, found)) + 100 * len(found),
    )
    return found


def tags(url: str, credentials: Mapping[str, Any]) -> list[str]:
    """Return the tags of an OCI artifact.

    Raises: Stalled or RetryLater with the registry's message.
    """
    return sorted(_known_tags(url, "", credentials, fresh=True))


def annotations(url: str, digest: str, credentials: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations in the manifest of an OCI artifact."""
    host, name = _registry(url, "")
    found = _manifest(host, name, digest, credentials)[0].get("annotations")
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)}


def oci_digest(
    url: str, chart: str, target: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> str:
    """Return the digest for a tag or constraint of an OCI artifact."""
    tag = resolve(url, chart, target, credentials, fresh=fresh)
    if tag.startswith("sha256:"):
        return tag
    host, name = _registry(url, chart)
    found = _manifest(host, name, tag, credentials)[1]
    published_versions.record_versions(
        f"{published_versions.listing_key(url, chart)}:{tag}", credentials, [found]
    )
    return found


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _proved(data: bytes, digest: str, place: str) -> bytes:
    if digest.startswith("sha256:") and digest != _digest(data):
        raise Stalled("DigestMismatch", f"{place}: the response does not match {digest}")
    return data


def _manifest(
    host: str, name: str, version: str, credentials: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the manifest for a tag or digest, and its digest."""
    if not _VERSION.fullmatch(version):
        raise Stalled(
            "RevisionNotFound", f"{version[:100]!r} is not a valid tag or digest of {name}"
        )
    path = f"/{name}/manifests/{version.replace('+', '_')}"
    place = f"{host}/{name}:{version}"
    data = _proved(_registry_get(host, path, credentials, 4 * 1024**2, _MANIFEST), version, place)
    return _json(data, place), _digest(data)


def _pull(url: str, chart: str, version: str, credentials: Mapping[str, Any]) -> bytes:
    host, name = _registry(url, chart)
    manifest, _ = _manifest(host, name, version, credentials)
    listed = manifest.get("layers")
    layers = [
        layer
        for layer in (listed if isinstance(listed, list) else [])
        if isinstance(layer, dict) and layer.get("mediaType") in _CHART_LAYERS
    ]
    if len(layers) != 1:
        raise ManifestError(
            f"{host}/{name}:{version} must have exactly one layer with manifests or a chart, "
            f"not {len(layers)}"
        )
    size, digest = layers[0].get("size"), str(layers[0].get("digest") or "")
    if isinstance(size, int) and size > settings.MAX_CHART_BYTES:
        raise Stalled("TooLarge", f"{host}/{name}:{version} is larger than the limit")
    if not _DIGEST.match(digest):
        raise ManifestError(f"{host}/{name}:{version}: {digest[:100]!r} is not a SHA-256 digest")
    data = _registry_get(host, f"/{name}/blobs/{digest}", credentials, settings.MAX_CHART_BYTES)
    return _proved(data, digest, f"{host}/{name}:{version}")


def fetch_artifact(url: str, digest: str, credentials: Mapping[str, Any]) -> MemoryFiles:
    """Return the files of an OCI artifact, for a chart without its top folder."""
    data = _pull(url, "", digest, credentials)
    files = unpack(data, strip=False)
    top = files.children("")
    if len(top) == 1 and files.entry(f"{top[0]}/Chart.yaml"):
        return unpack(data, strip=True)
    return files
