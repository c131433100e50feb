"""Identify the repository of a webhook event."""

import re
from urllib.parse import unquote

from hub.engine.project_restrictions import folded_url

_PORT = re.compile(r":\d*\Z")
_AZURE = re.compile(r"v3/([^/]+)/([^/]+)/([^/]+)")


def repository_identity(url: str) -> str:
    """Reduce a repository URL to `host/path`, which is equal for all its clone and web URLs.

    It ignores scheme, user, port, `.git`, case, and a host prefix `ssh.` or `altssh.`. Use it only
    for events, which are hints: `permits_source` checks permission on the whole URL.
    Source: as Argo CD 3.6, and Azure DevOps, whose SSH URLs have other paths.
    """
    text = folded_url(url.partition("#")[0].partition("?")[0])
    authority, _, path = (
        text.partition("://")[2].partition("/") if "://" in text else text.partition("/")
    )
    host = _PORT.sub("", authority.rpartition("@")[2]).rstrip(".")
    path = re.sub("/+", "/", unquote(path)).strip("/").removesuffix(".git")
    azure = _AZURE.fullmatch(path)
    if azure and host in ("ssh.dev.azure.com", "vs-ssh.visualstudio.com"):
        return f"dev.azure.com/{azure[1]}/{azure[2]}/_git/{azure[3]}"
    return f"{re.sub(r'^(?:alt)?ssh[.]', '', host)}/{path}"
