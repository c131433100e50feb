"""Bounds of one reconciliation of a set, for all of its templates together."""

import contextlib
import threading
from collections.abc import Callable, Iterator

MAX_SECONDS = 30.0
"""Seconds of processor time: ten thousand ordinary applications take a few."""
MAX_OUTPUT = 1_000_000
"""The longest output of one template, in characters."""
MAX_WRITTEN = 100_000_000
"""Characters of all outputs and parameter names: 10 kB for each of 10,000 applications."""
_mine = threading.local()


class OutOfTime(Exception):
    """A set exceeds its time or its output; nothing that it generated is complete."""


@contextlib.contextmanager
def bounded(seconds: float, work: Callable[[], float]) -> Iterator[None]:
    """Bound the processor time of this thread in the block."""
    until = work() + seconds
    _mine.is_over, _mine.left = (lambda: work() > until), MAX_WRITTEN
    try:
        yield
    finally:
        _mine.is_over = _mine.left = None


def count_written(text: str) -> str:
    """Count the output of a template, or the name of a parameter, and return it.

    Raises: OutOfTime.
    """
    left = getattr(_mine, "left", None)
    if left is not None:
        _mine.left = left - len(text)
        if _mine.left < 0:
            raise OutOfTime(
                f"its templates and names of parameters are more than {MAX_WRITTEN:,} characters: "
                "make fewer or shorter ones"
            )
    return text


def require_time() -> None:
    """Check the remaining time, if it is bounded.

    Raises: OutOfTime.
    """
    is_over = getattr(_mine, "is_over", None)
    if is_over is not None and is_over():
        raise OutOfTime(
            f"its generators and templates take more than {MAX_SECONDS:.0f} s: "
            "make fewer or simpler ones"
        )
