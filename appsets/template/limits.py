"""How long one look at a set may take: each template is bounded, ten thousand of them together are not."""

import contextlib
import threading
from collections.abc import Callable, Iterator

MOST_SECONDS = 30.0
"""Processor time: ten thousand ordinary applications take a few seconds."""
_mine = threading.local()


class OutOfTime(Exception):
    """A set takes longer than it may; nothing that it makes is complete."""


@contextlib.contextmanager
def bounded(seconds: float, work: Callable[[], float]) -> Iterator[None]:
    """Give what this thread does in the block so many seconds of `work`, its processor time."""
    until = work() + seconds
    _mine.is_over = lambda: work() > until
    try:
        yield
    finally:
        _mine.is_over = None


def require_time() -> None:
    """Return if there is time left; without a bound there always is.

    Raises: OutOfTime.
    """
    is_over = getattr(_mine, "is_over", None)
    if is_over is not None and is_over():
        raise OutOfTime(
            f"its generators and templates take more than {MOST_SECONDS:.0f} s: make fewer or simpler ones"
        )
