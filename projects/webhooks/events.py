"""The events of webhooks (pushes, pull requests, new images), and helpers to read payloads."""

from collections.abc import Mapping, Sequence
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


Event = Push | Pulls | Image | Nothing


def text(value: Any, *path: str) -> str:
    """Return a text inside a payload, empty if it is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def urls_of(value: Any, *names: str) -> tuple[str, ...]:
    """Return the texts of these fields that are not empty."""
    return tuple(u for u in (text(value, n) for n in names) if u)


def list_of(value: Any, *path: str) -> Sequence[Any]:
    """Return a list inside a payload, empty if it is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, list) else []


def image(host: str, repository: str, tag: str) -> Event:
    """Return a new image, or nothing if a part of its name is missing."""
    if not (host and repository and tag):
        return Nothing()
    return Image(f"{host}/{repository}".lower().strip("/"), tag)
