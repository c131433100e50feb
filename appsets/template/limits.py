"""How long one look at a set may take: each template is bounded, ten thousand of them together are not."""

import contextlib
import threading
from collections.abc import Callable, Iterator

MOST_SECONDS = 30.0
"""Processor time: ten thousand ordinary applications take a few seconds."""
MOST_OUTPUT = 1_000_000
"""Characters that one template may write."""
MOST_WRITTEN = 100_000_000
"""Characters of all templates and names of parameters of one look: ten kilobytes for each of ten thousand applications."""
_mine = threading.local()


class OutOfTime(Exception):
    """A set takes longer, or writes more, than it may; nothing that it makes is complete."""


@contextlib.contextmanager
def bounded(seconds: float, work: Callable[[], float]) -> Iterator[None]:
    """Give what this thread does in the block so many seconds of `work`, its processor time."""
    until = work() + seconds
    _mine.is_over, _mine.left = (lambda: work() > until), MOST_WRITTEN
    try:
        yield
    finally:
        _mine.is_over = _mine.left = None


def count_written(text: str) -> str:
    """Return what a template has written, or the name of a parameter, counted with the others of this look.

    Raises: OutOfTime.
    """
    left = getattr(_mine, "left", None)
    if left is not None:
        _mine.left = left - len(text)
        if _mine.left < 0:
            raise OutOfTime(
                f"its templates and names of parameters are more than {MOST_WRITTEN:,} characters: make fewer or shorter ones"
            )
    return text


def require_time() -> None:
    """Return if there is time left; without a bound there always is.

    Raises: OutOfTime.
    """
    is_over = getattr(_mine, "is_over", None)
    if is_over is not None and is_over():
        raise OutOfTime(
            f"its generators and templates take more than {MOST_SECONDS:.0f} s: make fewer or simpler ones"
        )
