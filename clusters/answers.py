"""Lists and watches of a cluster as they come: pages that have an end, events of a size, errors by their meaning."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings

from clusters.kinds import Kind
from hub.base.outbound import check_url, streams
from hub.base.outbound.bounds import Lines, TooMuch, parse
from hub.engine.errors import Invalid, RetryLater, Stalled

PAGE = 500
EMPTY_PAGES = 3
"""So many pages without an object say that the list has no end."""
LONGEST_TOKEN = 16 * 1024


class Relist(Exception):
    """The watch cannot go on from where it was."""


class NotServed(Exception):
    """The kind cannot be listed: it is gone, or forbidden to this account."""


class Pages:
    """Goes through the pages of one list, which has an end whatever the server says."""

    def __init__(self, cluster: str) -> None:
        self._cluster, self._limit, self._token = cluster, PAGE, ""
        self._begun = self._empty = 0
        self.total = 0
        self.version = ""

    def query(self) -> dict[str, str] | None:
        """Return what to ask for next, None after the last page."""
        if self._begun and not self._token:
            return None
        more = {"continue": self._token} if self._token else {}
        return {"limit": str(self._limit), **more}

    def shrink(self, error: TooMuch) -> None:
        """Ask for less at once: some clusters keep large objects."""
        if self._limit == 1:
            raise Stalled(
                "TooLarge",
                f"cluster {self._cluster}: one object of a list: {error}, the limit "
                "(HUB_CLUSTER_ANSWER_BYTES)",
            ) from error
        self._limit = max(1, self._limit // 4)

    def took(self, page: dict[str, Any]) -> list[Any]:
        """Return the objects of a page."""
        items, metadata = page.get("items") or [], page.get("metadata") or {}
        if not isinstance(items, list) or not isinstance(metadata, dict):
            raise RetryLater("BadAnswer", f"cluster {self._cluster}: a list is no Kubernetes list")
        token = str(metadata.get("continue") or "")
        self._begun, self._empty = 1, 0 if items else self._empty + 1
        if token and (
            token == self._token or self._empty >= EMPTY_PAGES or len(token) > LONGEST_TOKEN
        ):
            raise RetryLater("BadAnswer", f"cluster {self._cluster}: a list has no end")
        self._token, self.version = token, version_of(page)
        self.total += len(items)
        return items


@contextlib.asynccontextmanager
async def accepted(request: Any, kind: Kind) -> AsyncIterator[Any]:
    """Give the answer to a list or a watch that the server takes."""
    async with request as answer:
        if answer.status == 410:
            raise Relist
        if answer.status == 401:
            raise RetryLater("Unauthorized", "the cluster no longer takes the hub's credentials")
        if answer.status in (403, 404, 405):
            raise NotServed(f"{kind.kind}.{kind.group} answers {answer.status}")
        if answer.status >= 300:
            raise streams.ClientError(f"HTTP status {answer.status}")
        yield answer


def parsed(data: bytes, cluster: str) -> dict[str, Any]:
    """Return the JSON object that a cluster sent.

    Raises: RetryLater when it is none, TooMuch when it is larger than the hub takes.
    """
    try:
        found = parse(data)
    except ValueError as error:
        raise RetryLater(
            "BadAnswer", f"cluster {cluster}: what it sends is no JSON in UTF-8"
        ) from error
    if not isinstance(found, dict):
        raise RetryLater("BadAnswer", f"cluster {cluster}: what it sends is no JSON object")
    return found


def version_of(item: Any) -> str:
    """Return the version of an object or a list, empty when it has none that can be kept."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    found = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else ""


async def event_lines(answer: Any) -> AsyncIterator[bytes]:
    """Yield the events of a watch as they come.

    Raises: TooMuch for one that is too long.
    """
    # StreamReader.readline has a limit that a big ConfigMap exceeds.
    lines = Lines(settings.CLUSTER_OBJECT_BYTES)
    async for piece in streams.pieces(answer, None):
        for line in lines.feed(piece):
            if line.strip():
                yield line


def check_server(url: str) -> None:
    """Return if the hub may connect to an API server.

    Raises: RetryLater saying why not.
    """
    try:
        check_url(url, "server")
    except Invalid as error:
        raise RetryLater("AddressRefused", str(error)) from error
