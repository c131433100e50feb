"""jq paths in a process of its own: a program may loop for ever while it holds the interpreter's lock."""

import functools
import re
from typing import Any

import orjson

from hub.engine.errors import RuleError, Stalled
from projects.sources.process import Pool, WorkerError, shares

TIMEOUT_SECONDS = 1.0
_FORBIDDEN = re.compile(
    r"\$ENV|\benv\b|\binputs?\b|\binput_filename\b|\bimport\b|\binclude\b|\bdef\b|\bdebug\b|\$__loc__"
)

_worker = Pool(shares, lambda: 512 * 1024**2)


def check_path(expression: str) -> str:
    """Return a jq path that may be used.

    Raises: RuleError for anything that reads the environment or other inputs.
    """
    if _FORBIDDEN.search(expression):
        raise RuleError(f"jqPathExpressions: {expression!r} uses a function that is not available")
    return expression


def delete_path(expression: str, value: Any) -> Any:
    """Return the value without what a jq path selects; the value itself when the path does not apply to it.

    Raises: RuleError when it takes longer than a second or is not allowed.
    """
    check_path(expression)
    return orjson.loads(_answered("jq", expression, orjson.dumps(value), orjson.dumps(value)))


def paths_of(expression: str, value: Any) -> list[list[str | int]]:
    """Return the paths that a jq path selects in a value, none when it does not apply to it.

    Raises: RuleError as `delete_path`.
    """
    check_path(expression)
    found: list[list[str | int]] = orjson.loads(_answered("jq_paths", expression, orjson.dumps(value), b"[]"))  # fmt: skip
    return found


@functools.lru_cache(maxsize=4096)
def _answered(operation: str, expression: str, data: bytes, otherwise: bytes) -> bytes:
    try:
        return orjson.dumps(
            _worker.call(
                {"op": operation, "path": expression, "value": orjson.loads(data)},
                timeout=TIMEOUT_SECONDS + 1,
                owner="",
            )
        )
    except WorkerError as error:
        if "compile" in str(error) or "syntax" in str(error):
            raise RuleError(
                f"jqPathExpressions: {expression!r} is no valid jq path: {error}"
            ) from error
        return otherwise
    except Stalled as error:
        raise RuleError(
            f"jqPathExpressions: {expression!r} took longer than {TIMEOUT_SECONDS:.0f} s"
        ) from error
