"""What one look at an application asks for again and again, such as settings and credentials, is read once."""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_known: ContextVar[dict[Hashable, Any] | None] = ContextVar("read_once", default=None)


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Keep what `once` reads until the end of this block, in this thread; a block inside another begins anew.

    It is for what takes one decision in a moment: what changes meanwhile is seen by the next look.
    """
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def once(name: Hashable, read: Callable[[], _Value]) -> _Value:
    """Return what `read` returns, or returned earlier in this look; what it raises is not kept.

    The value is shared by all who ask for it, so nobody changes it.
    """
    known = _known.get()
    if known is None:
        return read()
    if name not in known:
        known[name] = read()
    value: _Value = known[name]
    return value
