"""Links to commits on the websites of Git hosts; pure functions."""

import re
from urllib.parse import quote

_SCP = re.compile(r"^(?:ssh://)?[\w.-]+@([\w.-]+)(?::\d+)?[:/](.+?)(?:\.git)?/?\Z")
_HTTP = re.compile(r"^https?://(?:[^@/]+@)?([\w.-]+(?::\d+)?)/(.+?)(?:\.git)?/?\Z")


def commit_url(repository: str, commit: str) -> str:
    """Return the URL of a commit's page, empty if the host or the commit is unknown."""
    found = _HTTP.match(repository) or _SCP.match(repository)
    if found is None or not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        return ""
    host, path = found[1].lower(), quote(found[2])
    if "dev.azure.com" in host or host.endswith("visualstudio.com"):
        if host.startswith("ssh."):
            return ""
        return f"https://{host}/{path}/commit/{commit}"
    if "bitbucket.org" in host:
        return f"https://{host}/{path}/commits/{commit}"
    if "gitlab" in host:
        return f"https://{host}/{path}/-/commit/{commit}"
    if any(name in host for name in ("github", "gitea", "codeberg", "forgejo")):
        return f"https://{host}/{path}/commit/{commit}"
    return ""
