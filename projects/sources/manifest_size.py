"""Manifests by their size and their digest."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
from django.conf import settings

from hub.engine.errors import Stalled
from hub.engine.resource import Manifest


def size_of(manifests: Sequence[Manifest]) -> int:
    """Return how many bytes manifests are as JSON."""
    return sum(len(orjson.dumps(manifest)) for manifest in manifests)


def digest_of(value: Any) -> str:
    """Return a digest of a JSON value, the same whatever the order of its fields."""
    return hashlib.sha256(
        orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=list)
    ).hexdigest()


class ManifestBudget:
    """What the manifests of all sources of an application may take together: as much as those of one."""

    def __init__(self) -> None:
        """Begin with all of it."""
        self._left = self._most = int(settings.MAX_MANIFEST_BYTES) * 4

    def spend(self, size: int) -> None:
        """Count the manifests of a source.

        Raises: Stalled when they are too many.
        """
        self._left -= size
        if self._left < 0:
            raise Stalled(
                "InvalidManifest",
                f"the rendered manifests of all sources are larger than {self._most // 1024**2} MiB together: "
                "split them into more applications",
            )
