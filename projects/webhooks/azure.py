"""Azure DevOps."""

from collections.abc import Iterator, Mapping
from typing import Any

from projects.webhooks.base import Password, Sender
from projects.webhooks.events import Event, Nothing, Pulls, Push, list_of, text, urls_of


def azure(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of an Azure DevOps payload."""
    kind, resource = text(body, "eventType"), body.get("resource")
    repository = resource.get("repository") if isinstance(resource, Mapping) else None
    if kind == "git.push":
        urls = urls_of(repository, "remoteUrl", "sshUrl", "webUrl")
        for update in list_of(resource, "refUpdates"):
            yield Push(urls, text(update, "name"), text(update, "newObjectId"))
    elif kind.startswith("git.pullrequest."):
        project, name = text(repository, "project", "name"), text(repository, "name")
        yield Pulls(f"{project}/{name}") if project and name else Nothing()
    elif kind:
        yield Nothing()


AZURE = Sender(
    "azure",
    lambda headers: bool(headers.get("X-Vss-Activityid")),
    Password("WEBHOOK_AZURE_USERNAME", "WEBHOOK_AZURE_PASSWORD"),
    lambda _headers, body: azure(body),
)
