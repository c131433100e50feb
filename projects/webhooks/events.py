"""Parse webhook payloads: pushes, changed pull requests, and new images.

Shapes: bodies as sent by GitHub, GitLab, Gitea, Gogs, Bitbucket (Cloud and Server) and Azure
    DevOps, and by the registries of GitHub, Harbor, Azure and the distribution project.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Push(NamedTuple):
    """A branch or tag that moved."""

    urls: tuple[str, ...]
    ref: str = ""
    commit: str = ""


class Pulls(NamedTuple):
    """A repository, as `owner/repo`, with changed pull requests."""

    place: str


class Image(NamedTuple):
    """An OCI repository, as `host/path` in lower case, with a new tag."""

    place: str
    tag: str


class Nothing(NamedTuple):
    """An event that needs no action, such as a ping or a comment."""


MAX_URLS = 20
"""Clone URLs read per repository."""
Event = Push | Pulls | Image | Nothing
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


def text(value: Any, *path: str) -> str:
    """Return a text inside a payload, empty if it is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def _urls(value: Any, *names: str) -> tuple[str, ...]:
    return tuple(u for u in (text(value, n) for n in names) if u)


def _list(value: Any, *path: str) -> Sequence[Any]:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, list) else []


def github(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a GitHub, Gitea or Gogs payload, which share these shapes."""
    repository = body.get("repository")
    if event == "push":
        urls = _urls(repository, "html_url", "clone_url", "ssh_url", "git_url", "svn_url")
        yield Push(urls, text(body, "ref"), text(body, "after"))
    elif event.startswith("pull_request"):
        place = text(repository, "full_name")
        yield Pulls(place) if text(body, "action") in _GITHUB_ACTIONS and place else Nothing()
    elif event in ("ping", "create", "delete"):
        yield Nothing()


def gitlab(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a GitLab webhook or system hook."""
    kind, project = text(body, "object_kind") or text(body, "event_name"), body.get("project")
    if kind in ("push", "tag_push"):
        urls = _urls(project, "web_url", "git_http_url", "git_ssh_url", "http_url", "ssh_url")
        yield Push(urls, text(body, "ref"), text(body, "after") or text(body, "checkout_sha"))
    elif kind == "merge_request":
        place = text(project, "path_with_namespace")
        yield Pulls(place) if place else Nothing()
    elif event:
        yield Nothing()


def bitbucket(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a Bitbucket Cloud payload; one push may move several branches."""
    repository = body.get("repository")
    name, page = text(repository, "full_name"), text(repository, "links", "html", "href")
    if event == "repo:push":
        hosted = (f"https://bitbucket.org/{name}", f"git@bitbucket.org:{name}") if name else ()
        urls = tuple(u for u in (page, *hosted) if u)
        for change in _list(body, "push", "changes"):
            kind = "tags" if text(change, "new", "type") == "tag" else "heads"
            branch = text(change, "new", "name")
            ref = f"refs/{kind}/{branch}" if branch else ""
            yield Push(urls, ref, text(change, "new", "target", "hash"))
    elif event.startswith("pullrequest:"):
        yield Pulls(name) if name and "comment" not in event else Nothing()
    elif event:
        yield Nothing()


def bitbucket_server(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a Bitbucket Server payload."""
    if event == "repo:refs_changed":
        repository = body.get("repository")
        clones = [text(link, "href") for link in _list(repository, "links", "clone")[:MAX_URLS]]
        urls = tuple(u for u in (*clones, *_urls(repository, "html_url")) if u)
        for change in _list(body, "changes"):
            ref = text(change, "refId") or text(change, "ref", "id")
            yield Push(urls, ref, text(change, "toHash"))
    elif event.startswith("pr:"):
        pull = body.get("pullRequest")
        target = pull.get("toRef") if isinstance(pull, Mapping) else None
        repository = target.get("repository") if isinstance(target, Mapping) else None
        project, slug = text(repository, "project", "key"), text(repository, "slug")
        is_change = project and slug and "comment" not in event
        yield Pulls(f"{project}/{slug}") if is_change else Nothing()
    elif event:
        yield Nothing()


def azure(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of an Azure DevOps payload."""
    kind, resource = text(body, "eventType"), body.get("resource")
    repository = resource.get("repository") if isinstance(resource, Mapping) else None
    if kind == "git.push":
        urls = _urls(repository, "remoteUrl", "sshUrl", "webUrl")
        for update in _list(resource, "refUpdates"):
            yield Push(urls, text(update, "name"), text(update, "newObjectId"))
    elif kind.startswith("git.pullrequest."):
        project, name = text(repository, "project", "name"), text(repository, "name")
        yield Pulls(f"{project}/{name}") if project and name else Nothing()
    elif kind:
        yield Nothing()


def _image(host: str, repository: str, tag: str) -> Event:
    if not (host and repository and tag):
        return Nothing()
    return Image(f"{host}/{repository}".lower().strip("/"), tag)


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
    yield _image(host, name, tag) if is_container and is_new else Nothing()


def harbor(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a Harbor payload, in its own format or as a CloudEvent."""
    data = body.get("event_data") or body.get("data")
    if text(body, "type") not in ("PUSH_ARTIFACT", "harbor.artifact.pushed"):
        yield Nothing()
        return
    for resource in _list(data, "resources"):
        host = text(resource, "resource_url").removeprefix("https://").partition("/")[0]
        yield _image(host, text(data, "repository", "repo_full_name"), text(resource, "tag"))


def registry(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a payload of the distribution registry or of Azure's."""
    for event in _list(body, "events") or [body]:
        host, name = text(event, "request", "host"), text(event, "target", "repository")
        is_push = text(event, "action") in ("push", "chart_push")
        yield _image(host, name, text(event, "target", "tag")) if is_push else Nothing()
