"""Select the credentials of a repository: its own, or those of the best matching template."""

import hashlib
import hmac
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from django.conf import settings

from clusters.connection_config import load_certificate
from hub.base.outbound import check_url
from hub.base.read_once import once
from hub.engine.errors import Stalled
from hub.engine.project_restrictions import folded_url, normal_url
from hub.models import setting
from projects.models import CredentialTemplate, Repository

IDENTITY = (
    "username",
    "password",
    "bearerToken",
    "sshPrivateKey",
    "tlsClientCertData",
    "tlsClientCertKey",
    "githubAppPrivateKey",
    "githubAppID",
    "githubAppInstallationID",
    "gcpServiceAccountKey",
)
"""The fields of credentials that identify the caller."""
TRANSPORT_OPTIONS = (
    "proxy",
    "noProxy",
    "insecure",
    "insecureIgnoreHostKey",
    "insecureOCIForceHttp",
    "passCredentials",
    "githubAppEnterpriseBaseUrl",
)
"""The options that determine how credentials are sent, and who could read them."""
_UNPROVED = ("proxy", "insecure", "insecureIgnoreHostKey")
"""The options with which the hub cannot be sure of the server's identity."""
OWN_TRANSPORT = "ownWay"
"""The field that identifies the project whose own transport options are used; set by the hub."""
TEMPLATE_URL = "lentBy"
"""The field with the URL of the template that provides the credentials; set by the hub."""
TLS = "tls_certificates"
"""The setting with the trusted certificates in PEM format, by host."""


def repository_of(url: str, project: str = "") -> Repository | None:
    """Return the registered repository of a URL, preferring the project's own.

    An exact match is preferred, then one that differs in case, as in Argo CD.
    """
    wanted, folded = normal_url(url), folded_url(url)
    # Load only URLs first: decrypting the credentials of every row would dominate the cost.
    rows = Repository.objects.filter(project__in={project, ""})
    found = [
        (p == project and bool(project), normal_url(u) == wanted, pk)
        for pk, u, p in rows.values_list("pk", "url", "project")
        if folded_url(u) == folded
    ]
    return Repository.objects.filter(pk=max(found)[-1]).first() if found else None


def url_of_name(name: str, project: str = "") -> str:
    """Return the URL of a chart repository by its name, preferring the project's own.

    Raises: Stalled if there is none.
    """
    rows = Repository.objects.filter(name=name, project__in={project, ""}).exclude(kind="git")
    found = sorted(rows.values_list("project", "pk", "url"), key=lambda r: (r[0] != project, r[1]))
    if not found:
        raise Stalled(
            "RepositoryNotFound",
            f"no chart repository is registered with the name {name[:100]!r}; "
            "register it with `flotilla repo add URL --type helm --name NAME`",
        )
    return found[0][2]


def credentials_for(url: str, project: str = "") -> dict[str, Any]:
    """Return the credentials and options for a URL, with known SSH hosts and certificates.

    Source: as Argo CD 3.6: the exact repository, else the template with the longest prefix; a
        repository without credentials inherits the template's.
    """
    result: dict[str, Any] = {"knownHosts": setting("ssh_known_hosts", "")}
    authority = authority_of(url)
    if authority:
        result["caData"] = authority
    return result | configured_for(url, project)


def configured_for(url: str, project: str = "") -> dict[str, Any]:
    """Return the configured credentials and options, without known hosts and certificates."""
    return dict(once(("credentials", url, project), lambda: _configured_for(url, project)))


def _configured_for(url: str, project: str) -> dict[str, Any]:
    repository = repository_of(url, project)
    result: dict[str, Any] = {}
    own = dict(repository.credentials) if repository else {}
    if not own:
        template = template_of(url)
        if template:
            result |= {**template.options, **template.credentials, TEMPLATE_URL: template.url}
    if repository:
        # A project's repository must not send the hub's credentials through its own proxy.
        is_lent = bool(repository.project) and has_identity(result)
        options = without_transport_options(repository.options) if is_lent else repository.options
        result |= {**options, **own}
        if repository.project and any(options.get(field) for field in _UNPROVED):
            name = repository.project.encode()
            result[OWN_TRANSPORT] = hashlib.sha256(name).hexdigest()[:16]
    return result


def has_own_credentials(url: str, project: str) -> bool:
    """Return whether the repository has credentials of its own, not only a template's."""
    repository = repository_of(url, project)
    return repository is not None and bool(repository.credentials)


def has_identity(credentials: Mapping[str, Any]) -> bool:
    """Return whether credentials identify the caller, so that they must be protected."""
    return any(credentials.get(field) for field in IDENTITY)


def without_transport_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without transport options and identity fields."""
    return {
        name: value for name, value in options.items() if name not in TRANSPORT_OPTIONS + IDENTITY
    }


def authority_of(url: str) -> str:
    """Return the trusted certificates for a server, empty to use the system's."""
    if url.startswith("ssh://") or ("@" in url and "://" not in url):
        return ""
    try:
        parts = urlsplit(url if "://" in url else f"oci://{url}")
    except ValueError:
        return ""
    known = dict(setting(TLS, {}))
    return str(
        known.get(parts.netloc.rpartition("@")[2].lower()) or known.get(parts.hostname or "") or ""
    )


def proxy_of(host: str, credentials: Mapping[str, Any]) -> str:
    """Return the proxy for a host, empty if there is none.

    Raises: Invalid for a proxy that the hub must not connect to.
    """
    proxy = str(credentials.get("proxy") or "")
    for entry in str(credentials.get("noProxy") or "").lower().split(","):
        name = entry.strip()
        if name and (name == "*" or f".{host.lower()}".endswith("." + name.lstrip("*."))):
            return ""
    if proxy:
        check_url(proxy, "proxy")
    return proxy


def tls_of(credentials: Mapping[str, Any]) -> ssl.SSLContext:
    """Return the TLS context for a request with these credentials.

    Raises: Stalled for an invalid client certificate.
    """
    context = ssl.create_default_context(cadata=str(credentials.get("caData") or "") or None)
    if credentials.get("insecure"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = (str(credentials.get(f"tlsClientCert{f}") or "") for f in ("Data", "Key"))
    if certificate or key:
        try:
            load_certificate(context, certificate, key)
        except ssl.SSLError as error:
            raise Stalled(
                "InvalidCredentials",
                "tlsClientCertData and tlsClientCertKey must be a certificate and its key "
                "in PEM format",
            ) from error
    return context


def template_of(url: str) -> CredentialTemplate | None:
    """Return the credential template with the longest matching prefix on the same server."""
    wanted = folded_url(url)
    rows = CredentialTemplate.objects.values_list("pk", "url")
    fitting = [(len(u), pk) for pk, u in rows if _begins(wanted, folded_url(u))]
    return CredentialTemplate.objects.filter(pk=max(fitting)[1]).first() if fitting else None


def _begins(wanted: str, prefix: str) -> bool:
    """Return whether a URL starts with a prefix and has the same server.

    `https://git.example` does not match `https://git.example.thief` or `https://git.example@thief`.
    """
    return wanted.startswith(prefix) and _server(wanted) == _server(prefix)


def _server(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if separator else url.partition("/")[0]


def reader_name(credentials: Mapping[str, Any]) -> str:
    """Return an opaque name for credentials."""
    own = {k: credentials[k] for k in IDENTITY if credentials.get(k)}
    text = orjson.dumps(own, option=orjson.OPT_SORT_KEYS, default=str)
    return hmac.digest(settings.SECRET_KEY.encode(), b"git reader" + text, "sha256").hex()[:32]
