"""Read the lists and watches of a cluster, with limits on pages and events."""

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
"""Consecutive empty pages after which a list is taken to have no end."""
LONGEST_TOKEN = 16 * 1024


class Relist(Exception):
    """The watch cannot be resumed: the kind must be listed again."""


class NotServed(Exception):
    """The kind cannot be listed: it does not exist any more, or the credentials may not list it."""


class Pages:
    """Iterates over the pages of one list, with a bound against servers that never end it."""

    def __init__(self, cluster: str) -> None:
        self._cluster, self._limit, self._token = cluster, PAGE, ""
        self._begun = self._empty = 0
        self.total = 0
        self.version = ""

    def query(self) -> dict[str, str] | None:
        """Return the query of the next page, None after the last one."""
        if self._begun and not self._token:
            return None
        more = {"continue": self._token} if self._token else {}
        return {"limit": str(self._limit), **more}

    def shrink(self, error: TooMuch) -> None:
        """Use smaller pages: some clusters store large objects.

        Raises: Stalled when a single object is too large.
        """
        if self._limit == 1:
            raise Stalled(
                "TooLarge",
                f"cluster {self._cluster}: one object of a list: {error}, the limit "
                "(HUB_CLUSTER_ANSWER_BYTES)",
            ) from error
        self._limit = max(1, self._limit // 4)

    def took(self, page: dict[str, Any]) -> list[Any]:
        """Return the objects of a page.

        Raises: RetryLater for a malformed page or a list without an end.
        """
        items, metadata = page.get("items") or [], page.get("metadata") or {}
        if not isinstance(items, list) or not isinstance(metadata, dict):
            raise RetryLater("BadAnswer", f"cluster {self._cluster}: a list is malformed")
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
    """Yield the response of a list or watch.

    Raises: Relist, RetryLater, NotServed or ClientError by its status.
    """
    async with request as answer:
        if answer.status == 410:
            raise Relist
        require_authorized(answer.status)
        if answer.status in (403, 404, 405):
            raise NotServed(f"{kind.kind}.{kind.group} answers {answer.status}")
        if answer.status >= 300:
            raise streams.ClientError(f"HTTP status {answer.status}")
        yield answer


def require_authorized(status: int) -> None:
    """Raise RetryLater when the API server rejects the hub's credentials."""
    if status == 401:
        raise RetryLater("Unauthorized", "the cluster rejects the hub's credentials")


def parsed(data: bytes, cluster: str) -> dict[str, Any]:
    """Return the JSON object that a cluster sent.

    Raises: RetryLater when it is malformed, TooMuch when it is larger than the limit.
    """
    try:
        found = parse(data)
    except ValueError as error:
        raise RetryLater(
            "BadAnswer", f"cluster {cluster}: it sent something that is not JSON in UTF-8"
        ) from error
    if not isinstance(found, dict):
        raise RetryLater(
            "BadAnswer", f"cluster {cluster}: it sent something that is not a JSON object"
        )
    return found


def version_of(item: Any) -> str:
    """Return the resource version of an object or a list, empty without a usable one."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    found = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else ""


async def event_lines(answer: Any) -> AsyncIterator[bytes]:
    """Yield the lines of a watch, one event each.

    Raises: TooMuch for a line that is too long.
    """
    # A large ConfigMap exceeds the limit of StreamReader.readline.
    lines = Lines(settings.CLUSTER_OBJECT_BYTES)
    async for piece in streams.pieces(answer, None):
        for line in lines.feed(piece):
            if line.strip():
                yield line


def check_server(url: str) -> None:
    """Check that the hub may connect to an API server.

    Raises: RetryLater with the reason when it may not.
    """
    try:
        check_url(url, "server")
    except Invalid as error:
        raise RetryLater("AddressRefused", str(error)) from error
