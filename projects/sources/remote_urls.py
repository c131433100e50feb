"""Parse the remote targets of a kustomization: folders of repositories, or files on servers.

Everything that kustomize would fetch is either recognized here or refused; the tool itself
fetches nothing.

Source: kustomize 5's documentation of remote targets, and its observed behaviour.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from hub.base.redaction import redact_text
from hub.engine.errors import ManifestError

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_USER = re.compile(r"([a-zA-Z][a-zA-Z0-9-]*)@")
_BY_SSH = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*@(?:[^/]*:|(?:www\.)?github\.com/)", re.IGNORECASE)
_FORCED = re.compile(r"git::", re.IGNORECASE)
_GITHUB = re.compile(r"(?:www\.)?github\.com[/:]", re.IGNORECASE)
_TEXTS = (".yaml", ".yml", ".json")
_SUBMODULES_OFF = ("0", "f", "false")
_MAX_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class GitFolder:
    """A folder of another repository; an empty `ref` is the default branch."""

    url: str
    path: str
    ref: str
    submodules: bool


@dataclass(frozen=True, slots=True)
class Remote:
    """The possible targets: kustomize tries a URL as a file first, then as a repository."""

    page: str = ""
    folder: GitFolder | None = None


def is_page(text: str) -> bool:
    """Return whether a text is the URL of a file."""
    return text.lower().startswith(("http://", "https://"))


def parse(text: str) -> Remote | None:
    """Parse a remote target; return None for a path in the same repository.

    Raises: ManifestError for other schemes, local files, and ambiguous URLs.
    """
    rest = _FORCED.sub("", text, count=1) if _FORCED.match(text) else text
    scheme = _SCHEME.match(rest)
    if scheme is None and _BY_SSH.match(rest) is None and _GITHUB.match(rest) is None:
        if rest != text or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+::?", rest):
            raise _refused(text, "is neither a path in the repository nor a supported URL")
        return None
    if scheme is not None and scheme.group(1).lower() not in ("http", "https", "ssh"):
        raise _refused(text, f"{scheme.group(1).lower()}: is not supported; use https:// or ssh://")
    if len(text) > _MAX_LENGTH or re.search(r"[\s\\\x00-\x1f\x7f*]", text):
        raise _refused(text, "is not a URL")
    if scheme is None or scheme.group(1).lower() == "ssh" or rest != text:
        return Remote(folder=_folder(rest, text))
    return _by_shape(rest)


def _by_shape(url: str) -> Remote:
    place = url.partition("?")[0]
    path = place.split("://", 1)[1].partition("/")[2]
    if place.lower().endswith(_TEXTS) and "//" not in path:
        return Remote(page=page_url(url))
    is_repository = "//" in path or "_git/" in path or re.search(r"\.git(?:/|$)", path)
    if is_repository or _GITHUB.match(place.split("://", 1)[1].rpartition("@")[2]):
        return Remote(folder=_folder(url, url))
    try:
        return Remote(page=page_url(url), folder=_folder(url, url))
    except ManifestError:
        return Remote(page=page_url(url))


def page_url(url: str) -> str:
    """Check the URL of a file.

    Raises: ManifestError if it has credentials, or is ambiguous.
    """
    if not is_page(url) or len(url) > _MAX_LENGTH or re.search(r"[\s\\\x00-\x1f\x7f*]", url):
        raise _refused(url, "is not the URL of a file; use https://")
    parts = _split(url, url)
    if "@" in parts[1]:
        raise _refused(url, "contains a user name; set credentials on a repository instead")
    _check_path(parts[2], url)
    return url


def _split(url: str, shown: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _refused(shown, "is not a URL") from error
    if not parts.hostname:
        raise _refused(shown, "has no host")
    return parts.scheme, parts.netloc, parts.path


def _check_path(path: str, shown: str) -> None:
    # Servers and clients resolve these to a path that the project may not permit.
    if any(unquote(unquote(part)) in (".", "..") for part in path.split("/")):
        raise _refused(shown, "has '.' or '..' in its path")
    if re.search(r"%(?:25)*(?:2f|5c|00|0a|0d)", path, re.IGNORECASE):
        raise _refused(shown, "has an encoded '/' in its path")


def _folder(rest: str, shown: str) -> GitFolder:
    place, _, query = rest.partition("?")
    base, path = _base(place, shown)
    repository, inner = _parts(path, shown)
    fields = parse_qs(query)
    ref = (fields.get("ref") or fields.get("version") or [""])[0]
    if ref.startswith("-") or re.search(r"[\s\x00-\x1f\x7f~^:?*\[\\]|\.\.", ref):
        raise _refused(shown, f"has an invalid revision: {ref[:60]!r}")
    _check_path(path.replace("//", "/"), shown)
    submodules = (fields.get("submodules") or ["true"])[0].lower() not in _SUBMODULES_OFF
    return GitFolder(base + repository, inner.strip("/"), ref, submodules)


def _base(place: str, shown: str) -> tuple[str, str]:
    """Split a URL into its base and the path after it."""
    scheme = _SCHEME.match(place)
    rest = place[scheme.end() :] if scheme else place
    user = _USER.match(rest)
    host = rest[user.end() :] if user else rest
    by_ssh = (scheme and scheme.group(1).lower() == "ssh") or (user and not scheme)
    github = _GITHUB.match(host)
    if github:
        return "git@github.com:" if by_ssh else "https://github.com/", host[github.end() :]
    if scheme:
        name, _, path = host.partition("/")
        prefix = f"{scheme.group(1).lower()}://"
        # The user of an https URL is dropped: credentials come from the project.
        base = f"{prefix}{user.group(0) if user and by_ssh else ''}{name}/"
        if "@" in name or not _split(base, shown)[1]:
            raise _refused(shown, "contains a password; set credentials on a repository instead")
        return base, path
    name, colon, path = host.partition(":")
    if not user or not colon or "/" in name or name.startswith("-") or not name:
        raise _refused(shown, "is not a repository URL; write https://… or git@host:path")
    return f"{user.group(0)}{name}:", path


def _parts(path: str, shown: str) -> tuple[str, str]:
    """Split a path into the repository's path on its server and the folder inside."""
    if "_git/" in path:
        head, _, rest = path.partition("_git/")
        name, _, inner = rest.partition("/")
        repository = f"{head}_git/{name}"
    elif "//" in path:
        repository, _, inner = path.partition("//")
    elif ".git" in path:
        repository, git, inner = path.partition(".git")
        repository += git
    else:
        names = path.split("/")
        repository, inner = "/".join(names[:2]), "/".join(names[2:])
        if len(names) < 2 or not names[0]:
            repository = ""
    if not repository.strip("/"):
        raise _refused(shown, "has no repository path")
    return repository, inner


def _refused(text: str, why: str) -> ManifestError:
    return ManifestError(f"{redact_text(text)[:200]!r} {why}")
