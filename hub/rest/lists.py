"""Lists of the REST surface, beyond Argo CD: order, pages, and counts of values."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from rest_framework.request import Request

from hub.engine.errors import Invalid
from hub.rest.views import number

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """The column and direction of a sorted list."""

    word: str
    descending: bool

    @property
    def text(self) -> str:
        """As in the parameter `sort`."""
        return f"{'-' if self.descending else ''}{self.word}"


def order_of(request: Request, words: Sequence[str]) -> Order:
    """Return the order that a request asks for, by default the first of the words.

    Raises: Invalid naming the words.
    """
    text = request.query_params.get("sort", "")
    word = text.removeprefix("-")
    if text and word not in words:
        raise Invalid(
            f"sort must be one of {', '.join(words)}, with - before it for the greatest first"
        )
    return Order(word or words[0], text.startswith("-"))


def facets_of(request: Request, words: Iterable[str]) -> list[str]:
    """Return the columns whose values a request wants counted: `facets=health,sync`.

    Raises: Invalid naming the words.
    """
    known = list(words)
    found = [f for text in request.query_params.getlist("facets") for f in text.split(",") if f]
    for name in found:
        if name not in known:
            raise Invalid(f"facets must be some of {', '.join(known)}, not {name!r}")
    return list(dict.fromkeys(found))


def limit_of(request: Request) -> int:
    """Return the largest number of items on a page, 0 for all.

    Raises: Invalid naming the parameter.
    """
    limit = number(request, "limit")
    if limit < 0:
        raise Invalid("limit must be a whole number from 0")
    return limit


def token_of(order: Order, key: Key) -> str:
    """Return the value of `continue` for the page after the item of a key."""
    return base64.urlsafe_b64encode(orjson.dumps([order.text, *key])).decode().rstrip("=")


def after(request: Request, order: Order, size: int) -> Key | None:
    """Return the key of the previous page's last item, None for the first page.

    Shapes: a key is the value of the order and the identity, `size` together.
    Raises: Invalid when the token belongs to another list or order.
    """
    token = request.query_params.get("continue", "")
    if not token:
        return None
    try:
        sort, *key = orjson.loads(base64.urlsafe_b64decode(token.encode() + b"=="))
    except (ValueError, TypeError) as error:
        raise Invalid("continue must be what the page before had in metadata.continue") from error
    if (
        len(key) != size
        or not all(isinstance(k, str) for k in key[1:])
        or not isinstance(key[0], str | int)
    ):
        raise Invalid("continue must be what the page before had in metadata.continue")
    if sort != order.text:
        raise Invalid("continue belongs to another order: keep sort as it was on the page before")
    return tuple(key)


def _value(item: Any, path: str) -> Any:
    for step in path.split("."):
        item = item.get(step) if isinstance(item, Mapping) else None
    return item


def _text(item: Any, path: str) -> str:
    value = _value(item, path)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def arranged(
    request: Request, answer: dict[str, Any], columns: Mapping[str, str], identity: Sequence[str]
) -> dict[str, Any]:
    """Return `items` sorted, paged and counted by `sort`, `limit`, `continue` and `facets`.

    Without these parameters nothing changes.

    Shapes: `columns` are words with dotted paths into an item; `identity` are paths that together
        identify an item.
    Raises: Invalid naming the parameter.
    """
    order, limit = order_of(request, list(columns)), limit_of(request)
    known = after(request, order, 1 + len(identity))
    wanted = facets_of(request, columns)
    items, metadata = answer["items"], dict(answer.get("metadata") or {})
    counts = {name: _counted(items, columns[name]) for name in wanted}

    def key(item: Any) -> Key:
        return (_text(item, columns[order.word]), *(_text(item, path) for path in identity))

    if request.query_params.get("sort") or limit or known:
        items = sorted(items, key=key, reverse=order.descending)
    if known:
        known = (str(known[0]), *known[1:])
        items = [i for i in items if (key(i) < known if order.descending else key(i) > known)]
    if limit and len(items) > limit:
        metadata.update(
            {
                "continue": token_of(order, key(items[limit - 1])),
                "remainingItemCount": len(items) - limit,
            }
        )
        items = items[:limit]
    facets = {"facets": counts} if wanted else {}
    return {**answer, "metadata": metadata, "items": items, **facets}


def _counted(items: Iterable[Any], path: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in items:
        value = _text(item, path)
        found[value] = found.get(value, 0) + 1
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))
