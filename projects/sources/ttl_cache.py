"""What servers said a short while ago: weighed, and gone when it is old."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class TTLCache(Generic[Value]):
    """The newest values by key, as many as there is room for; safe between threads.

    Units: `most_bytes` of all values together, as their callers weigh them; `seconds` that each is kept.
    """

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._most, self._seconds = most_bytes, seconds
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[float, int, Value]] = OrderedDict()
        self._held = 0

    def get(self, key: Hashable) -> Value | None:
        """Return a value that is not too old, None when there is none."""
        with self._lock:
            found = self._found.get(key)
            if found is None or found[0] <= time.monotonic():
                return None
            return found[2]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value; one that is larger than all the room is not kept."""
        now = time.monotonic()
        with self._lock:
            self._drop(key)
            if size > self._most:
                return
            self._found[key] = (now + self._seconds, size, value)
            self._held += size
            # All are kept equally long, so that the oldest are the first.
            for first, (until, _, _) in list(self._found.items()):
                if self._held <= self._most and until > now:
                    break
                self._drop(first)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._found.clear()
            self._held = 0

    def _drop(self, key: Hashable) -> None:
        _, size, _ = self._found.pop(key, (0.0, 0, None))
        self._held -= size
