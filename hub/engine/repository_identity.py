"""Which repository the event of a Git host is about."""

import re
from urllib.parse import unquote

from hub.engine.project_restrictions import folded_url

_PORT = re.compile(r":\d*\Z")
_AZURE = re.compile(r"v3/([^/]+)/([^/]+)/([^/]+)")


def repository_identity(url: str) -> str:
    """Return what the URLs of one repository have in common, however it is cloned or shown: `host/path`.

    For events alone, which are hints: scheme, user, port, `.git`, case, and the hosts `ssh.` and `altssh.` beside
    that of the pages do not count. What a project permits is decided by `permits_source`, on the whole URL.
    Source: as Argo CD 3.6; the paths of Azure DevOps, which are others for ssh, too.
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
