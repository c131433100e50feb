"""GitLab."""

from collections.abc import Iterator, Mapping
from typing import Any

from projects.webhooks.base import Sender, Token
from projects.webhooks.events import Event, Nothing, Pulls, Push, text, urls_of


def gitlab(event: str, body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a GitLab webhook or system hook."""
    kind, project = text(body, "object_kind") or text(body, "event_name"), body.get("project")
    if kind in ("push", "tag_push"):
        urls = urls_of(project, "web_url", "git_http_url", "git_ssh_url", "http_url", "ssh_url")
        yield Push(urls, text(body, "ref"), text(body, "after") or text(body, "checkout_sha"))
    elif kind == "merge_request":
        place = text(project, "path_with_namespace")
        yield Pulls(place) if place else Nothing()
    elif event:
        yield Nothing()


GITLAB = Sender(
    "gitlab",
    lambda headers: bool(headers.get("X-Gitlab-Event")),
    Token("WEBHOOK_GITLAB_SECRET", "X-Gitlab-Token"),
    lambda headers, body: gitlab(headers["X-Gitlab-Event"], body),
)
