"""Bitbucket Cloud and Bitbucket Server."""

from collections.abc import Iterator, Mapping
from typing import Any

from projects.webhooks.base import Sender, Signature, Token
from projects.webhooks.events import Event, Nothing, Pulls, Push, list_of, text, urls_of

MAX_URLS = 20
"""The maximum number of clone URLs read per repository."""


def bitbucket(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a Bitbucket Cloud payload; one push may move several branches."""
    repository = body.get("repository")
    name, page = text(repository, "full_name"), text(repository, "links", "html", "href")
    if event == "repo:push":
        hosted = (f"https://bitbucket.org/{name}", f"git@bitbucket.org:{name}") if name else ()
        urls = tuple(u for u in (page, *hosted) if u)
        for change in list_of(body, "push", "changes"):
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
        clones = [text(link, "href") for link in list_of(repository, "links", "clone")[:MAX_URLS]]
        urls = tuple(u for u in (*clones, *urls_of(repository, "html_url")) if u)
        for change in list_of(body, "changes"):
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


BITBUCKET = Sender(
    "bitbucket",
    lambda headers: bool(headers.get("X-Hook-UUID")),
    Token("WEBHOOK_BITBUCKET_UUID", "X-Hook-UUID"),
    lambda headers, body: bitbucket(headers.get("X-Event-Key", ""), body),
)
BITBUCKET_SERVER = Sender(
    "bitbucket-server",
    lambda headers: bool(headers.get("X-Event-Key")),
    Signature("WEBHOOK_BITBUCKET_SERVER_SECRET", "X-Hub-Signature", "sha256="),
    lambda headers, body: bitbucket_server(headers["X-Event-Key"], body),
)
