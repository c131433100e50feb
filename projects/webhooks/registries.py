"""Harbor, and the distribution registry, whose format Azure's registry also uses."""

from collections.abc import Iterator, Mapping
from typing import Any

from projects.webhooks.base import ImageRegistry
from projects.webhooks.events import Event, Nothing, image, list_of, text


def harbor(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a Harbor payload, in its own format or as a CloudEvent."""
    data = body.get("event_data") or body.get("data")
    if text(body, "type") not in ("PUSH_ARTIFACT", "harbor.artifact.pushed"):
        yield Nothing()
        return
    for resource in list_of(data, "resources"):
        host = text(resource, "resource_url").removeprefix("https://").partition("/")[0]
        yield image(host, text(data, "repository", "repo_full_name"), text(resource, "tag"))


def registry(body: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a payload of the distribution registry or of Azure's."""
    for event in list_of(body, "events") or [body]:
        host, name = text(event, "request", "host"), text(event, "target", "repository")
        is_push = text(event, "action") in ("push", "chart_push")
        yield image(host, name, text(event, "target", "tag")) if is_push else Nothing()


HARBOR = ImageRegistry(
    "harbor",
    lambda body: (
        isinstance(body.get("event_data"), dict) or str(body.get("type", "")).startswith("harbor.")
    ),
    "WEBHOOK_HARBOR_SECRET",
    harbor,
)
REGISTRY = ImageRegistry(
    "registry",
    lambda body: isinstance(body.get("events"), list) or isinstance(body.get("target"), dict),
    "WEBHOOK_REGISTRY_SECRET",
    registry,
)
