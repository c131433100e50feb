"""Connect Git to a server: checked addresses, credentials, TLS, SSH and limits.

The hub resolves names, checks the addresses and passes them on, since Git and ssh would resolve
names again.
"""

import base64
import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hub.base.outbound import addresses, check_host, check_url, http, joined
from hub.base.redaction import redact_text
from hub.engine.errors import Invalid, RetryLater, Stalled
from projects.sources.credentials import IDENTITY, proxy_of, tls_of
from projects.sources.git_urls import PORTS, parse

_REFS = "/info/refs?service=git-upload-pack"
_HOPS = 5
_MEMORY_KIB = 4 * 1024**2
"""The address space of a Git process; packs may be larger, since they are mapped in windows."""
_LIMITED = 'ulimit -f "$1" && ulimit -v "$2" && shift 2 && exec "$@"'
_SSH = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    # Ignore all configuration and keys of the hub's user.
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "GlobalKnownHostsFile": "/dev/null",
    "KnownHostsCommand": "none",
    "VerifyHostKeyDNS": "no",
    "UpdateHostKeys": "no",
    "CanonicalizeHostname": "no",
    "ProxyCommand": "none",
    "ProxyJump": "none",
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "PermitLocalCommand": "no",
}


@dataclass(frozen=True, slots=True)
class Transport:
    """How to connect to the server of a repository."""

    scheme: str
    host: str = ""
    port: int = 0
    places: tuple[str, ...] = ()
    """The checked addresses, empty if a proxy resolves the name."""
    proxy: str = ""
    user: str = ""
    """The ssh user, empty for the default."""


def transport_for(url: str, credentials: Mapping[str, Any]) -> Transport:
    """Return how to connect to a repository.

    Raises: Invalid for a refused address, RetryLater if the name cannot be resolved.
    """
    found = parse(url)
    scheme, host, port = found.scheme, found.host, found.port
    if scheme == "file":
        return Transport("file")
    proxy = proxy_of(host, credentials) if scheme in ("http", "https") else ""
    if proxy:
        check_host(host, "repoURL", proxied=True)
        return Transport(scheme, host, port, proxy=_with_port(proxy))
    return Transport(scheme, host, port, tuple(addresses(host, "repoURL")), user=found.user)


def _with_port(proxy: str) -> str:
    """Return a proxy URL with an explicit port, since programs differ in the default."""
    parts = urlsplit(proxy)
    if parts.port:
        return proxy
    place = parts.netloc.removesuffix(":")
    return parts._replace(netloc=f"{place}:{PORTS.get(parts.scheme, 1080)}").geturl()


def with_limits(argv: list[str], file_bytes: int) -> list[str]:
    """Wrap a command so that it cannot write a file larger than `file_bytes`.

    The limits apply only to the started process, not to the hub.
    """
    blocks = max(1, file_bytes // 512)
    return ["sh", "-c", _LIMITED, "sh", str(blocks), str(_MEMORY_KIB), *argv]


@contextlib.contextmanager
def environment(
    way: Transport, credentials: Mapping[str, Any], place: str = ""
) -> Iterator[dict[str, str]]:
    """Yield the environment of a Git process, with credentials in a temporary folder.

    With ssh, it connects to `place`, one of the addresses.
    """
    with tempfile.TemporaryDirectory(prefix="git-") as text:
        home = Path(text)
        config = {
            "gc.auto": "0",
            "credential.helper": "",
            "protocol.version": "2",
            "core.hooksPath": "/dev/null",
            "core.fsmonitor": "false",
            "core.attributesFile": "/dev/null",
            "maintenance.auto": "false",
            "submodule.recurse": "false",
            # Do not fetch bundles from URLs that the server advertises.
            "transfer.bundleURI": "false",
            "fetch.writeCommitGraph": "false",
            "pack.threads": "1",
            "core.packedGitWindowSize": "64m",
            "core.packedGitLimit": "512m",
            # The hub checks redirects before Git follows them.
            "http.followRedirects": "false",
        }
        env = {
            "HOME": text,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": way.scheme,
            "GIT_NO_REPLACE_OBJECTS": "1",
            "LC_ALL": "C",
            "PATH": os.environ.get("PATH", ""),
        }
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if os.environ.get(name):
                env[name] = os.environ[name]
        if way.scheme in ("http", "https"):
            _write_config(home / ".gitconfig", _http_config(way, credentials, home))
            if credentials.get("caData"):
                # Set as a variable, which overrides the system's configuration.
                authorities = _private(home / "authorities", str(credentials["caData"]))
                env["GIT_SSL_CAINFO"] = str(authorities)
        elif way.scheme == "ssh":
            env["GIT_SSH_VARIANT"] = "ssh"
            env["GIT_SSH_COMMAND"] = _ssh_command(way, credentials, home, place)
        env["GIT_CONFIG_COUNT"] = str(len(config))
        for number, (name, value) in enumerate(config.items()):
            env[f"GIT_CONFIG_KEY_{number}"], env[f"GIT_CONFIG_VALUE_{number}"] = name, value
        yield env


def _write_config(path: Path, config: Mapping[str, str]) -> None:
    """Write git settings, including credentials, to a private file.

    Credentials must not appear in arguments, in a stored URL, or in the environment, which every
    helper of git inherits.
    Raises: Stalled for a value with line breaks or control characters.
    """
    lines = []
    for name, value in config.items():
        if any(ord(c) < 32 or ord(c) == 127 for c in value):
            raise Stalled(
                "InvalidCredentials", "credentials must be one line without control characters"
            )
        section, _, key = name.partition(".")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{section}]\n\t{key} = "{escaped}"')
    _private(path, "\n".join(lines))


def _http_config(way: Transport, credentials: Mapping[str, Any], home: Path) -> dict[str, str]:
    config = {"http.curloptResolve": _pin(way)}
    if credentials.get("bearerToken"):
        config["http.extraHeader"] = f"Authorization: Bearer {credentials['bearerToken']}"
    elif credentials.get("password") or credentials.get("username"):
        pair = f"{credentials.get('username') or 'git'}:{credentials.get('password', '')}".encode()
        config["http.extraHeader"] = "Authorization: Basic " + base64.b64encode(pair).decode()
    if credentials.get("insecure"):
        config["http.sslVerify"] = "false"
    if way.proxy:
        config["http.proxy"] = way.proxy
    for field, option in (
        ("tlsClientCertData", "http.sslCert"),
        ("tlsClientCertKey", "http.sslKey"),
    ):
        if credentials.get(field):
            config[option] = str(_private(home / field, str(credentials[field])))
    return config


def _pin(way: Transport) -> str:
    """Return the addresses for libcurl to connect to: the proxy's if there is one."""
    host, port, places = way.host, way.port, way.places
    if way.proxy:
        parts = urlsplit(way.proxy)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 1080)
        places = tuple(addresses(host, "proxy"))
    shown = ",".join(f"[{place}]" if ":" in place else place for place in places)
    return f"{f'[{host}]' if ':' in host else host}:{port}:{shown}"


def _private(path: Path, content: str) -> Path:
    with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(content if content.endswith("\n") else content + "\n")
    return path


def _ssh_command(way: Transport, credentials: Mapping[str, Any], home: Path, place: str) -> str:
    # Connect to the checked address, but expect the host key of the name. ssh uses the first value
    # of an option, so these override whatever Git derives from the URL.
    host = way.host.lower()
    alias = host if way.port == PORTS["ssh"] else f"[{host}]:{way.port}"
    options = {**_SSH, "HostName": place, "Port": str(way.port), "HostKeyAlias": alias}
    if way.user:
        options["User"] = way.user
    if credentials.get("insecureIgnoreHostKey") or credentials.get("insecure"):
        options |= {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"}
    else:
        known = _private(home / "known_hosts", str(credentials.get("knownHosts") or ""))
        options |= {"StrictHostKeyChecking": "yes", "UserKnownHostsFile": str(known)}
    key = credentials.get("sshPrivateKey")
    options["IdentityFile"] = str(_private(home / "key", str(key))) if key else "none"
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return shlex.join(["ssh", "-F", "none", *words])


def resolve_move(url: str, credentials: Mapping[str, Any]) -> str:
    """Follow the redirects of a repository; return its final URL.

    Every hop is checked, and credentials are only sent to the original server.
    Raises: Invalid and RetryLater for an address that the hub must not connect to, Stalled if the
        target is not a repository.
    """
    here, asked = url, url.rstrip("/") + _REFS
    for _ in range(_HOPS):
        same = urlsplit(asked)[:2] == urlsplit(url)[:2]
        own = credentials if same else {k: v for k, v in credentials.items() if k not in IDENTITY}
        target = _location(asked, own)
        if not target:
            return here
        asked = joined(asked, target, f"repoURL: {redact_text(url)}")
        check_url(asked, f"repoURL: {redact_text(url)} redirects to a refused address")
        if urlsplit(url).scheme == "https" and urlsplit(asked).scheme != "https":
            raise Invalid(f"repoURL: {redact_text(url)} redirects from https to http")
        if not asked.endswith(_REFS):
            raise Stalled(
                "RepositoryMoved", f"{redact_text(url)} redirects to a URL that is not a repository"
            )
        here = asked.removesuffix(_REFS)
    raise Stalled("TooManyRedirects", f"{redact_text(url)} redirects too many times")


def _location(url: str, credentials: Mapping[str, Any]) -> str:
    way = transport_for(url.removesuffix(_REFS), credentials)
    user = str(credentials.get("username") or "git")
    password = str(credentials.get("password") or "")
    auth = http.BasicAuth(user, password) if password else None
    headers = {"User-Agent": "git/flotilla"}
    if credentials.get("bearerToken"):
        headers["Authorization"] = f"Bearer {credentials['bearerToken']}"
    try:
        with (
            http.client(verify=tls_of(credentials), proxy=way.proxy, seconds=20) as client,
            client.stream("GET", url, auth=auth, headers=headers) as answer,
        ):
            return str(answer.headers.get("location", "")) if answer.is_redirect else ""
    except http.HTTPError as error:
        raise RetryLater(
            "RepositoryUnreachable", f"{redact_text(url.removesuffix(_REFS))} does not respond"
        ) from error


_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})")
OLDEST = (2, 37)
"""The first version of Git with http.curloptResolve, which sets a server's address."""


def require_version(said: str) -> None:
    """Check that Git is recent enough to connect only to given addresses.

    Raises: Stalled.
    """
    found = _VERSION.search(said)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        raise Stalled(
            "ToolMissing",
            f"the hub requires git {OLDEST[0]}.{OLDEST[1]} or newer; found {said[:40]}",
        )
