"""Evaluate jq paths in separate processes, as a program may loop forever and hold the GIL.

The cost of an expression is limited per call, per comparison, and over time: one that takes too
long is rejected for a while, for all resources.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from django.conf import settings

from hub.base.metrics import clock
from hub.engine.errors import RuleError, Stalled
from hub.engine.jq_syntax import require_allowed
from hub.engine.retry import Backoff
from projects.sources.process import Pool, WorkerError
from projects.sources.render_queue import Limits, RenderQueue

TIMEOUT_SECONDS = 1.0
TOTAL_SECONDS = 10.0
"""The limit of all expressions of one comparison together."""
MEMORY_BYTES = 512 * 1024**2
MAX_CHARACTERS = 4096
_CACHE_BYTES = 32 * 1024**2
_MAX_CACHED_BYTES = 1024**2
_MAX_PATHS_BYTES = 4 * 1024**2
_MAX_DEPTH = 200
_MAX_STRIKES = 10_000
_BACKOFF = Backoff(timedelta(minutes=2), 4, timedelta(hours=6))
_LATER = "it is not retried for a while: simplify it"


def check_path(expression: str) -> str:
    """Return a jq path that is allowed; it is not run.

    Raises: RuleError if it reads the environment, files or other inputs, or is not valid.
    """
    if len(expression) > MAX_CHARACTERS:
        text = f"an expression has more than {MAX_CHARACTERS} characters"
        raise RuleError(f"jqPathExpressions: {text}")
    require_allowed(expression)
    return expression


def check_expression(expression: str) -> None:
    """Check that a jq path compiles; it is not run.

    Raises: RuleError with jq's message.
    """
    Jq("", "").compile(expression)


@dataclass(frozen=True, slots=True)
class _Strike:
    count: int
    until: float
    message: str


class _Strikes:
    """Expressions that took too long, and until when they are rejected."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str], _Strike] = OrderedDict()

    def add(self, key: tuple[str, str], message: str) -> None:
        with self._lock:
            before = self._found.pop(key, None)
            count = before.count + 1 if before else 1
            wait = _BACKOFF.delay(count - 1).total_seconds()
            self._found[key] = _Strike(count, self._now() + wait, message)
            while len(self._found) > _MAX_STRIKES:
                self._found.popitem(last=False)

    def require(self, key: tuple[str, str]) -> None:
        found = self._found.get(key)
        if found and found.until > self._now():
            raise RuleError(found.message)

    def clear(self) -> None:
        with self._lock:
            self._found.clear()


class _Answers:
    """A cache of answers by digest of the request, limited in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._size = max_bytes, 0
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def keep(self, key: bytes, answer: bytes) -> None:
        if len(answer) > _MAX_CACHED_BYTES:
            return
        with self._lock:
            self._size += len(answer) - len(self._cache.pop(key, b""))
            self._cache[key] = answer
            while self._size > self._max_bytes:
                self._size -= len(self._cache.popitem(last=False)[1])


def _limits() -> Limits:
    return Limits(max(2, settings.RENDERERS // 2), settings.RENDER_BUDGET.total_seconds(), 600.0)


_pool = Pool(RenderQueue(_limits), lambda: MEMORY_BYTES)
_strikes = _Strikes(clock)
_answers = _Answers(_CACHE_BYTES)


class Jq:
    """The jq expressions of one comparison of an application or set."""

    def __init__(self, owner: str, subject: str) -> None:
        """Set the project that is charged, and the name of what is compared."""
        self._owner = owner
        self._all = (owner, f"#{subject}")
        self._spent = 0.0

    def delete(self, expression: str, value: Any) -> Any:
        """Return a value without what a jq path selects; unchanged if the path does not apply.

        Raises: RuleError if it takes too long, selects everything or is not allowed; RetryLater
            if the project has to wait for a worker.
        """
        data = orjson.dumps(value)
        # The worker escapes non-ASCII characters, which makes them up to three times as long.
        found = self._answered("jq", expression, data, data, limit=len(data) * 4 + 65_536)
        if not isinstance(found, dict):
            raise RuleError(f"jqPathExpressions: {expression!r} selects the whole resource")
        return found

    def paths(self, expression: str, value: Any) -> list[list[str | int]]:
        """Return the paths that a jq path selects in a value, none if it does not apply.

        Raises: as `delete`.
        """
        data = orjson.dumps(value)
        found = self._answered("jq_paths", expression, data, b"[]", limit=_MAX_PATHS_BYTES)
        if not isinstance(found, list) or not all(isinstance(path, list) for path in found):
            raise RuleError(f"jqPathExpressions: {expression!r} is not a path")
        return found

    def compile(self, expression: str) -> None:
        """Check that a jq path compiles.

        Raises: RuleError.
        """
        self._answered("jq_compile", expression, b"null", b"null", limit=65_536)

    def _answered(
        self, operation: str, expression: str, data: bytes, otherwise: bytes, *, limit: int
    ) -> Any:
        check_path(expression)
        question = orjson.dumps([operation, expression, hashlib.sha256(data).hexdigest()])
        kept = _answers.get(question)
        if kept is None:
            _strikes.require((self._owner, expression))
            _strikes.require(self._all)
            kept = self._request(operation, expression, data, otherwise, limit)
            _answers.keep(question, kept)
        return _loaded(kept, expression)

    def _request(
        self, operation: str, expression: str, data: bytes, otherwise: bytes, limit: int
    ) -> bytes:
        request = {"op": operation, "path": expression, "value": orjson.loads(data)}
        began = clock()
        try:
            return orjson.dumps(
                _pool.call(request, timeout=TIMEOUT_SECONDS, owner=self._owner, limit=limit)
            )
        except WorkerError as error:
            if "compile" in str(error) or "syntax" in str(error):
                text = f"{expression!r} is not a valid jq path: {error}"
                raise RuleError(f"jqPathExpressions: {text}") from error
            return otherwise
        except (Stalled, TypeError) as error:
            problem = f"took longer than {TIMEOUT_SECONDS:.0f} s"
            if isinstance(error, TypeError) or error.reason != "Timeout":
                problem = "needs too much memory, or gives too large or too deep a result"
            message = f"jqPathExpressions: {expression!r} {problem}; {_LATER}"
            _strikes.add((self._owner, expression), message)
            raise RuleError(message) from error
        finally:
            self._spend(clock() - began)

    def _spend(self, seconds: float) -> None:
        self._spent += seconds
        if self._spent > TOTAL_SECONDS:
            self._spent = 0.0
            problem = f"all expressions together took longer than {TOTAL_SECONDS:.0f} s"
            _strikes.add(self._all, f"jqPathExpressions: {problem}; {_LATER}")


def _loaded(answer: bytes, expression: str) -> Any:
    found = orjson.loads(answer)
    layer, depth = [found], 0
    while layer:
        depth += 1
        if depth > _MAX_DEPTH:
            raise RuleError(f"jqPathExpressions: {expression!r} gives too deep a result")
        layer = [
            child
            for one in layer
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return found
