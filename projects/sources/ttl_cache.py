"""A cache for responses of servers, limited by size and age."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class TTLCache(Generic[Value]):
    """A thread-safe cache of the newest values.

    Units: `most_bytes` for all values, as measured by the callers; `seconds` for each value.
    """

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._most, self._seconds = most_bytes, seconds
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[float, int, Value]] = OrderedDict()
        self._held = 0

    def get(self, key: Hashable) -> Value | None:
        """Return a value, None if it is missing or expired."""
        with self._lock:
            found = self._found.get(key)
            if found is None or found[0] <= time.monotonic():
                return None
            return found[2]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Store a value, unless it exceeds the size of the cache."""
        now = time.monotonic()
        with self._lock:
            self._drop(key)
            if size > self._most:
                return
            self._found[key] = (now + self._seconds, size, value)
            self._held += size
            # All values have the same lifetime, so the first ones expire first.
            for first, (until, _, _) in list(self._found.items()):
                if self._held <= self._most and until > now:
                    break
                self._drop(first)

    def clear(self) -> None:
        """Remove all values."""
        with self._lock:
            self._found.clear()
            self._held = 0

    def _drop(self, key: Hashable) -> None:
        _, size, _ = self._found.pop(key, (0.0, 0, None))
        self._held -= size
