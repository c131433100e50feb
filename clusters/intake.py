"""Validate what a cluster sends before it is stored, and limit how fast it is read."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from hub.engine.resource import Manifest, is_segment

NAME = 253
_UID = 64
_VERSION = 64
_TIME = 32
_OWNERS = 500
_BURST_SECONDS = 4


class Pace:
    """Limit the events per second of a cluster, with a burst. Waiting slows the connection."""

    def __init__(self, rate: float) -> None:
        self._rate, self._left, self._at = rate, rate * _BURST_SECONDS, time.monotonic()

    async def wait(self, size: int) -> None:
        """Return when an event may be handled. A large one counts as several.

        Units: `size` in bytes.
        """
        now = time.monotonic()
        maximum = self._rate * _BURST_SECONDS
        self._left = min(maximum, self._left + (now - self._at) * self._rate) - (1 + size / 4096)
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / self._rate)


def complaint(item: Any) -> str:
    """Return why an object cannot be stored, empty when it can.

    A genuine API server never sends such an object.
    """
    if not isinstance(item, dict):
        return "an object is not a JSON object"
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        return "an object has no metadata"
    return next(_complaints(metadata), "")


def _complaints(metadata: Manifest) -> Iterator[str]:
    if not is_name(metadata.get("name")):
        yield "an object has an invalid name"
    if metadata.get("namespace") and not is_name(metadata["namespace"]):
        yield "an object has an invalid namespace"
    for field, maximum in (
        ("uid", _UID),
        ("resourceVersion", _VERSION),
        ("creationTimestamp", _TIME),
    ):
        value = metadata.get(field)
        if value is not None and not _is_text(value, maximum):
            yield f"an object has a metadata.{field} that is not a short string"
    if not _is_text(metadata.get("deletionTimestamp") or "", _TIME):
        yield "an object has a metadata.deletionTimestamp that is not a short string"
    finalizers = metadata.get("finalizers") or []
    if not isinstance(finalizers, list) or not all(isinstance(f, str) for f in finalizers):
        yield "an object has metadata.finalizers that are not a list of strings"
    for field in ("labels", "annotations"):
        value = metadata.get(field)
        if value is not None and not _is_text_map(value):
            yield f"an object has metadata.{field} that are not strings"
    for field in ("ownerReferences", "managedFields"):
        value = metadata.get(field)
        if value is not None and not _is_list_of_maps(value):
            yield f"an object has metadata.{field} that are not a list of objects"
    owners = metadata.get("ownerReferences") or []
    if len(owners) > _OWNERS or not all(_is_owner(owner) for owner in owners):
        yield "an object has metadata.ownerReferences that are invalid"


def is_name(value: Any) -> bool:
    """Return whether a value is a valid name of an object."""
    return isinstance(value, str) and len(value) <= NAME and is_segment(value)


def _is_text(value: Any, maximum: int) -> bool:
    return isinstance(value, str) and len(value) <= maximum and "\0" not in value


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _is_list_of_maps(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_owner(owner: Manifest) -> bool:
    fields = (("apiVersion", NAME * 2), ("kind", NAME), ("name", NAME), ("uid", _UID))
    return all(_is_text(owner.get(field, ""), maximum) for field, maximum in fields)
