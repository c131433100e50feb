"""Cache settings and credentials for the length of one piece of work, such as a comparison."""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_known: ContextVar[dict[Hashable, Any] | None] = ContextVar("read_once", default=None)


@contextlib.contextmanager
def cached_reads() -> Iterator[None]:
    """Cache what `once` reads until the end of this block, in this thread.

    Use it for short pieces of work: they do not see changes that are made before their end. A
    nested block starts with an empty cache.
    """
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def once(name: Hashable, read: Callable[[], _Value]) -> _Value:
    """Return the result of `read`, or the cached one of this block; exceptions are not cached.

    All callers share the value, so it must not be changed.
    """
    known = _known.get()
    if known is None:
        return read()
    if name not in known:
        known[name] = read()
    value: _Value = known[name]
    return value
