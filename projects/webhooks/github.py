"""GitHub, GitHub Packages, Gitea and Gogs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from projects.webhooks.base import Headers, Sender, Signature
from projects.webhooks.events import Event, Nothing, Pulls, Push, image, text, urls_of

_GITHUB_ACTIONS = (
    "opened",
    "closed",
    "reopened",
    "synchronize",
    "synchronized",
    "labeled",
    "unlabeled",
    "label_updated",
    "label_cleared",
    "edited",
)


def github(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a GitHub, Gitea or Gogs payload, which have the same format."""
    repository = body.get("repository")
    if event == "push":
        urls = urls_of(repository, "html_url", "clone_url", "ssh_url", "git_url", "svn_url")
        yield Push(urls, text(body, "ref"), text(body, "after"))
    elif event.startswith("pull_request"):
        place = text(repository, "full_name")
        yield Pulls(place) if text(body, "action") in _GITHUB_ACTIONS and place else Nothing()
    elif event in ("ping", "create", "delete"):
        yield Nothing()


def github_package(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a GitHub Packages payload about containers and charts."""
    package = body.get("package") or body.get("registry_package")
    version = package.get("package_version") if isinstance(package, Mapping) else None
    host = text(version, "package_url").removeprefix("https://").partition("/")[0] or "ghcr.io"
    owner = text(package, "namespace") or text(package, "owner", "login")
    tag = text(version, "container_metadata", "tag", "name")
    is_container = text(package, "package_type").upper() == "CONTAINER"
    is_new = text(body, "action") in ("published", "updated")
    name = f"{owner}/{text(package, 'name')}" if owner else ""
    yield image(host, name, tag) if is_container and is_new else Nothing()


def _has(header: str) -> Callable[[Headers], bool]:
    return lambda headers: bool(headers.get(header))


GITHUB = Sender(
    "github",
    _has("X-GitHub-Event"),
    Signature("WEBHOOK_GITHUB_SECRET", "X-Hub-Signature-256", "sha256="),
    lambda headers, body: github(headers["X-GitHub-Event"], body),
)
GITHUB_PACKAGES = Sender(
    "ghcr",
    lambda headers: headers.get("X-GitHub-Event") in ("package", "registry_package"),
    Signature("WEBHOOK_GITHUB_SECRET", "X-Hub-Signature-256", "sha256="),
    lambda _headers, body: github_package(body),
    # GitHub's registry expects 401 for a wrong signature.
    forged_status=401,
)
GITEA = Sender(
    "gitea",
    _has("X-Gitea-Event"),
    Signature("WEBHOOK_GITEA_SECRET", "X-Gitea-Signature"),
    lambda headers, body: github(headers["X-Gitea-Event"], body),
)
GOGS = Sender(
    "gogs",
    _has("X-Gogs-Event"),
    Signature("WEBHOOK_GITEA_SECRET", "X-Gogs-Signature"),
    lambda headers, body: github(headers["X-Gogs-Event"], body),
)
