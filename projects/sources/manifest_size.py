"""The size and digest of manifests."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
from django.conf import settings

from hub.engine.errors import Stalled
from hub.engine.resource import Manifest


def size_of(manifests: Sequence[Manifest]) -> int:
    """Return the size of manifests as JSON, in bytes."""
    return sum(len(orjson.dumps(manifest)) for manifest in manifests)


def digest_of(value: Any) -> str:
    """Return the digest of a JSON value, independent of the order of its fields."""
    return hashlib.sha256(
        orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=list)
    ).hexdigest()


class ManifestBudget:
    """The size limit for the manifests of all sources: the same as for one source."""

    def __init__(self) -> None:
        """Start with the full limit."""
        self._left = self._maximum = int(settings.MAX_MANIFEST_BYTES) * 4

    def spend(self, size: int) -> None:
        """Count the manifests of a source.

        Raises: Stalled if the limit is exceeded.
        """
        self._left -= size
        if self._left < 0:
            raise Stalled(
                "InvalidManifest",
                "the rendered manifests of all sources are larger than "
                f"{self._maximum // 1024**2} MiB together: split them into several applications",
            )
