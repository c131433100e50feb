"""A cache for responses of servers, limited by size and age."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class TTLCache(Generic[Value]):
    """A thread-safe cache of the newest values.

    Units: `max_bytes` for all values together, as measured by the callers; `seconds` per value.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self._maximum, self._seconds = max_bytes, seconds
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[float, int, Value]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable) -> Value | None:
        """Return a value, None if it is missing or expired."""
        with self._lock:
            found = self._entries.get(key)
            if found is None or found[0] <= time.monotonic():
                return None
            return found[2]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Store a value, unless it exceeds the size of the cache."""
        now = time.monotonic()
        with self._lock:
            self._drop(key)
            if size > self._maximum:
                return
            self._entries[key] = (now + self._seconds, size, value)
            self._size += size
            # All values have the same lifetime, so the oldest expire first.
            for first, (until, _, _) in list(self._entries.items()):
                if self._size <= self._maximum and until > now:
                    break
                self._drop(first)

    def clear(self) -> None:
        """Remove all values."""
        with self._lock:
            self._entries.clear()
            self._size = 0

    def _drop(self, key: Hashable) -> None:
        _, size, _ = self._entries.pop(key, (0.0, 0, None))
        self._size -= size
