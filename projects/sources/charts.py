"""Helm charts from repositories over HTTP and from OCI registries, within limits of size."""

import contextlib
import functools
import io
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from django.conf import settings

from hub.engine.documents import parse_yaml
from hub.engine.errors import ManifestError, RetryLater, Stalled
from hub.outbound import check_url
from hub.redaction import redact_text
from projects.sources.files import MemoryFiles
from projects.sources.versions import highest, is_constraint

_TIMEOUT = httpx.Timeout(30, connect=5)
_INDEX_SECONDS = 60
_CHART_LAYERS = (
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip",
    "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
)  # fmt: skip
_MANIFEST = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class Access:
    """Finds the credentials of a repository by its URL, and whether the project permits it."""

    credentials: Callable[[str], Mapping[str, Any]]
    permitted: Callable[[str], None]

    def chart(self, repository: str, name: str, version: str) -> MemoryFiles:
        """Return the files of a chart that another chart depends on."""
        self.permitted(repository)
        found = self.credentials(repository)
        resolved = resolve(repository, name, version, found)
        return fetch(repository, name, resolved, found)


def is_oci(url: str, credentials: Mapping[str, Any] | None = None) -> bool:
    """Return whether charts of a URL come from an OCI registry."""
    return url.startswith("oci://") or (
        "://" not in url and bool((credentials or {}).get("enableOCI"))
    )


@contextlib.contextmanager
def _client(credentials: Mapping[str, Any]) -> Iterator[httpx.Client]:
    import ssl

    verify: Any = ssl.create_default_context()
    if credentials.get("insecure"):
        verify = False
    elif credentials.get("caData"):
        verify = ssl.create_default_context(cadata=str(credentials["caData"]))
    with httpx.Client(
        verify=verify, timeout=_TIMEOUT, follow_redirects=False, trust_env=False
    ) as client:
        yield client


def _cause(error: httpx.HTTPError) -> str:
    """Return why a server does not answer: the kind of error, and what is wrong with its certificate."""
    text = str(error)
    return f"its certificate is not trusted ({text})" if "CERTIFICATE" in text else type(error).__name__  # fmt: skip


def _authorization(credentials: Mapping[str, Any]) -> httpx.Auth | None:
    if credentials.get("username") or credentials.get("password"):
        return httpx.BasicAuth(
            str(credentials.get("username") or ""), str(credentials.get("password") or "")
        )
    return None


def _get(
    url: str, credentials: Mapping[str, Any], limit: int, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return what a URL gives, redirects followed with every hop checked; credentials only to the first host."""
    origin, current = urlsplit(url), url
    auth = _authorization(credentials)
    with _client(credentials) as client:
        for _hop in range(6):
            check_url(current, "repoURL")
            same = urlsplit(current)[:2] == origin[:2] or credentials.get("passCredentials")
            try:
                with client.stream(
                    "GET",
                    current,
                    auth=auth if same else None,
                    headers=dict(headers or {}) if same else {},
                ) as answer:
                    if answer.is_redirect:
                        current = urljoin(current, answer.headers.get("location", ""))
                        continue
                    _check_status(answer, current)
                    return _body(answer, limit, current)
            except httpx.HTTPError as error:
                raise RetryLater(
                    "RepositoryUnreachable",
                    f"{redact_text(url)} does not answer: {_cause(error)}",
                    timedelta(seconds=20),
                ) from error
    raise Stalled("TooManyRedirects", f"{redact_text(url)} redirects too often")


def _check_status(answer: httpx.Response, url: str) -> None:
    shown = redact_text(url)
    if answer.status_code in (401, 403):
        raise RetryLater(
            "AuthenticationFailed",
            f"{shown}: the credentials are refused ({answer.status_code})",
            timedelta(seconds=60),
        )
    if answer.status_code == 404:
        raise Stalled("NotFound", f"{shown}: not found")
    if answer.status_code >= 400:
        raise RetryLater(
            "RepositoryUnreachable", f"{shown} answers {answer.status_code}", timedelta(seconds=20)
        )


def _body(answer: httpx.Response, limit: int, url: str) -> bytes:
    parts, total = [], 0
    for part in answer.iter_bytes():
        total += len(part)
        if total > limit:
            raise Stalled(
                "TooLarge", f"{redact_text(url)} is larger than {limit // 1024} KiB, the limit"
            )
        parts.append(part)
    return b"".join(parts)


def fetch_text(url: str) -> str:
    """Return a values file that a URL names."""
    try:
        return _get(url, {}, settings.MAX_MANIFEST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{redact_text(url)} is not UTF-8 text") from error


_indexes: dict[str, tuple[float, dict[str, Any]]] = {}
_indexes_lock = threading.Lock()


def index(
    url: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of a repository's index: chart name → versions; kept for a minute.

    Raises: RetryLater, Stalled, ManifestError when it cannot be read.
    """
    with _indexes_lock:
        kept = _indexes.get(url)
    if kept and not fresh and time.monotonic() - kept[0] < _INDEX_SECONDS:
        return kept[1]
    data = _get(url.rstrip("/") + "/index.yaml", credentials, settings.MAX_INDEX_BYTES)
    try:
        documents = parse_yaml(data.decode())
    except (ManifestError, UnicodeDecodeError) as error:
        raise ManifestError(f"the index of {redact_text(url)} cannot be read: {error}") from error
    entries = documents[0].get("entries") if documents and isinstance(documents[0], dict) else None
    if not isinstance(entries, dict):
        raise ManifestError(f"{redact_text(url)} is no Helm repository: its index has no entries")
    with _indexes_lock:
        _indexes[url] = (time.monotonic(), entries)
    return entries


def versions(
    url: str, chart: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> list[str]:
    """Return the versions of a chart."""
    if is_oci(url, credentials):
        return _tags(url, chart, credentials)
    listed = index(url, credentials, fresh=fresh).get(chart)
    if not listed or not all(isinstance(entry, dict) for entry in listed):
        raise Stalled("ChartNotFound", f"chart '{chart}' not found in {redact_text(url)}")
    return [str(entry.get("version") or "") for entry in listed]


def resolve(
    url: str, chart: str, target: str, credentials: Mapping[str, Any], *, fresh: bool = False
) -> str:
    """Return the exact version that a target revision names: the highest that satisfies a constraint.

    Raises: Stalled when none does.
    """
    if target and not is_constraint(target):
        return target
    best = highest(target or "*", versions(url, chart, credentials, fresh=fresh))
    if best is None:
        raise Stalled(
            "RevisionNotFound",
            f"no version of chart '{chart}' in {redact_text(url)} satisfies '{target}'",
        )
    return best


@functools.lru_cache(maxsize=16)
def _archive(url: str, chart: str, version: str, frozen: tuple[tuple[str, Any], ...]) -> bytes:
    credentials = dict(frozen)
    if is_oci(url, credentials):
        return _pull(url, chart, version, credentials)
    listed = index(url, credentials).get(chart) or []
    entry = next((e for e in listed if str(e.get("version")) == version), None) or next(
        (e for e in listed if str(e.get("version")).lstrip("v") == version.lstrip("v")), None
    )
    if entry is None:
        raise Stalled(
            "RevisionNotFound",
            f"chart '{chart}' of version '{version}' not found in {redact_text(url)}",
        )
    urls = entry.get("urls") or []
    if not urls:
        raise ManifestError(f"the index of {redact_text(url)} names no file for {chart} {version}")
    return _get(urljoin(url.rstrip("/") + "/", str(urls[0])), credentials, settings.MAX_CHART_BYTES)


def fetch(url: str, chart: str, version: str, credentials: Mapping[str, Any]) -> MemoryFiles:
    """Return the files of a chart at an exact version, the chart's own folder stripped.

    Raises: Stalled and RetryLater from the server, ManifestError for an archive that cannot be used.
    """
    frozen = tuple(
        sorted((k, v) for k, v in credentials.items() if isinstance(v, str | bool | int))
    )
    return unpack(_archive(url, chart, version, frozen), strip=True)


def unpack(data: bytes, *, strip: bool) -> MemoryFiles:
    """Return the files of a tar archive, within the limits: no links, no paths that lead out, a bounded size."""
    content: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                total += member.size
                if total > settings.MAX_CHART_BYTES or len(content) > 20_000:
                    raise ManifestError(
                        f"the archive unpacks to more than {settings.MAX_CHART_BYTES // 1024**2} MiB, the limit"
                    )
                name = _member_name(member.name, strip=strip)
                file = archive.extractfile(member)
                if name and file:
                    content[name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ManifestError(f"the archive cannot be read: {error}") from error
    return MemoryFiles(content)


def _member_name(name: str, *, strip: bool) -> str:
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise ManifestError(f"the archive holds {name!r}, a path that leads out of it")
    return "/".join(parts[1:] if strip else parts)


def _registry(url: str, chart: str) -> tuple[str, str]:
    host, _, path = url.removeprefix("oci://").partition("/")
    return host, "/".join(p for p in (path.strip("/"), chart) if p)


def _base(host: str, credentials: Mapping[str, Any]) -> str:
    return f"{'http' if credentials.get('insecureOCIForceHttp') else 'https'}://{host}/v2"


def _registry_get(
    host: str, path: str, credentials: Mapping[str, Any], limit: int, accept: str = "*/*"
) -> bytes:
    url = _base(host, credentials) + path
    check_url(url, "repoURL")
    headers = {"Accept": accept}
    with _client(credentials) as client:
        try:
            answer = client.get(url, headers=headers, auth=None)
        except httpx.HTTPError as error:
            raise RetryLater(
                "RepositoryUnreachable", f"registry {host} does not answer: {_cause(error)}"
            ) from error
    if answer.status_code == 401:
        token = _token(answer.headers.get("www-authenticate", ""), credentials)
        if token:
            return _get(
                url,
                {k: v for k, v in credentials.items() if k not in ("username", "password")},
                limit,
                {**headers, "Authorization": f"Bearer {token}"},
            )
    return _get(url, credentials, limit, headers)


def _token(challenge: str, credentials: Mapping[str, Any]) -> str:
    if not challenge.lower().startswith("bearer "):
        return ""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    check_url(realm, "repoURL")
    query = "&".join(f"{k}={v}" for k, v in fields.items() if k in ("service", "scope"))
    import orjson

    data = orjson.loads(_get(f"{realm}?{query}", credentials, 1024**2))
    return str(data.get("token") or data.get("access_token") or "")


def _tags(url: str, chart: str, credentials: Mapping[str, Any]) -> list[str]:
    import orjson

    host, name = _registry(url, chart)
    data = orjson.loads(
        _registry_get(host, f"/{name}/tags/list?n=1000", credentials, settings.MAX_INDEX_BYTES)
    )
    # A tag cannot hold "+", so Helm writes "_" for it.
    return [str(tag).replace("_", "+") for tag in data.get("tags") or []]


def tags(url: str, credentials: Mapping[str, Any]) -> list[str]:
    """Return the tags of an OCI artifact.

    Raises: Stalled or RetryLater with what the registry says.
    """
    return sorted(_tags(url, "", credentials))


def annotations(url: str, digest: str, credentials: Mapping[str, Any]) -> dict[str, str]:
    """Return what an OCI artifact says of itself: its manifest's annotations."""
    import orjson

    host, name = _registry(url, "")
    manifest = orjson.loads(_registry_get(host, f"/{name}/manifests/{digest}", credentials, 4 * 1024**2, _MANIFEST))  # fmt: skip
    found = manifest.get("annotations")
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def oci_digest(url: str, chart: str, target: str, credentials: Mapping[str, Any]) -> str:
    """Return the digest that a tag or constraint of an OCI artifact names."""
    import hashlib

    tag = resolve(url, chart, target, credentials)
    if tag.startswith("sha256:"):
        return tag
    host, name = _registry(url, chart)
    data = _registry_get(
        host, f"/{name}/manifests/{tag.replace('+', '_')}", credentials, 4 * 1024**2, _MANIFEST
    )
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _pull(url: str, chart: str, version: str, credentials: Mapping[str, Any]) -> bytes:
    import orjson

    host, name = _registry(url, chart)
    manifest = orjson.loads(
        _registry_get(
            host,
            f"/{name}/manifests/{version.replace('+', '_')}",
            credentials,
            4 * 1024**2,
            _MANIFEST,
        )
    )
    layers = [
        layer for layer in manifest.get("layers") or [] if layer.get("mediaType") in _CHART_LAYERS
    ]
    if len(layers) != 1:
        raise ManifestError(
            f"{host}/{name}:{version} must have exactly one layer with manifests or a chart, it has {len(layers)}"
        )
    if int(layers[0].get("size") or 0) > settings.MAX_CHART_BYTES:
        raise Stalled("TooLarge", f"{host}/{name}:{version} is larger than the limit")
    return _registry_get(
        host, f"/{name}/blobs/{layers[0]['digest']}", credentials, settings.MAX_CHART_BYTES
    )


def fetch_artifact(url: str, digest: str, credentials: Mapping[str, Any]) -> MemoryFiles:
    """Return the files of an OCI artifact; a chart layer is unpacked one level."""
    data = _pull(url, "", digest, credentials)
    files = unpack(data, strip=False)
    top = files.children("")
    if len(top) == 1 and files.entry(f"{top[0]}/Chart.yaml"):
        return unpack(data, strip=True)
    return files
