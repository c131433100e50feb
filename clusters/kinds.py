"""The kinds that a cluster serves, from its discovery, checked for use in paths and columns."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from hub.engine.resource import is_segment

_PATH_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")


class Cause(NamedTuple):
    """A field that the API server rejected."""

    field: str
    reason: str
    """The reason, such as FieldValueInvalid."""
    message: str
    """The message, without the value of the field when that is long."""


class Refused(Exception):
    """The API server responded with an error status."""

    def __init__(
        self, status: int, reason: str, message: str, causes: Sequence[Cause] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes


def path_segment(text: str) -> str:
    """Return one segment of a URL path, encoded.

    Names may contain colons, as those of RBAC do; a slash or `..` would lead to another path.
    Raises: Refused, as an API server would.
    """
    if not is_segment(text):
        raise Refused(
            422,
            "Invalid",
            f"{text[:80]!r} is not a valid name: it must be one part of a path, without / and %",
        )
    return quote(text, safe=":")


def path_of(*parts: str) -> str:
    """Return a URL path from segments, each encoded.

    Raises: Refused for an invalid name.
    """
    return "/" + "/".join(map(path_segment, parts))


class Kind(NamedTuple):
    """A kind that a cluster serves."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...]

    @property
    def api_version(self) -> str:
        """Group and version as in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the URL path of the collection, or of one resource.

        Raises: Refused for an invalid name.
        """
        root = ("apis", self.group, self.version) if self.group else ("api", self.version)
        inside = ("namespaces", namespace) if namespace and self.namespaced else ()
        return path_of(*root, *inside, self.plural, *((name,) if name else ()))

    def resource_path(self, namespace: str, name: str) -> str:
        """Return the URL path of one resource.

        Raises: Refused for an invalid name; an empty one would mean the whole collection.
        """
        return f"{self.path(namespace)}/{path_segment(name)}"


def is_sound(kind: Kind) -> bool:
    """Return whether a kind can be part of a path and be stored: both come from the server."""
    texts: list[Any] = [kind.version, kind.kind, kind.plural, *([kind.group] if kind.group else [])]
    verbs: list[Any] = [*kind.verbs]
    return (
        all(isinstance(text, str) and _PATH_NAME.match(text) for text in texts)
        and all(isinstance(verb, str) for verb in verbs)
        and len(kind.version) <= 64
    )


def aggregated(items: list[dict[str, Any]], silent: set[str]) -> Iterator[Kind]:
    """Yield the kinds of an aggregated discovery; unavailable groups are added to `silent`."""
    for item in items:
        group = (item.get("metadata") or {}).get("name", "")
        for version in item.get("versions") or []:
            if version.get("freshness") == "Stale":
                silent.add(group)
                continue
            for resource in version.get("resources") or []:
                response = resource.get("responseKind") or {}
                yield Kind(
                    group,
                    version["version"],
                    response.get("kind", ""),
                    resource["resource"],
                    resource.get("scope") == "Namespaced",
                    tuple(resource.get("verbs") or ()),
                )


def listed_kinds(group: str, version: str, resources: list[dict[str, Any]]) -> Iterator[Kind]:
    """Yield the kinds of one group and version."""
    for resource in resources:
        if "/" not in resource["name"]:
            yield Kind(
                group,
                version,
                resource["kind"],
                resource["name"],
                bool(resource.get("namespaced")),
                tuple(resource.get("verbs") or ()),
            )
