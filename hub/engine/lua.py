"""Run user-defined Lua 5.1 scripts in a sandbox, with limits.

It uses Lua without a just-in-time compiler: with one, an endless loop never reaches the instruction
hook. `pcall` re-raises the limit error, since a script could otherwise catch it forever.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import lupa.lua51

from hub.engine import lua_strings
from hub.engine.errors import RuleError
from hub.engine.resource import Manifest
from hub.engine.status import Assessment, Health

MEMORY_BYTES = 32 * 1024 * 1024
INSTRUCTIONS = 5_000_000
SECONDS = 2
MAX_VALUES, MAX_DEPTH, MAX_CHARACTERS = 200_000, 100, 8 * 1024 * 1024
LIMIT_TEXT = "the script ran too long"

_SETUP = """
local limit_text, instructions, seconds = ...
local clock = os.clock
-- Keep references to all functions used here: the script may replace those in the tables.
local hook, raw_pcall, raw_error = debug.sethook, pcall, error
local raw_type, raw_find, raw_byte, raw_load = type, string.find, string.byte, loadstring
local raw_setmetatable, raw_setfenv = setmetatable, setfenv
local started
local function guard(ok, ...)
  local is_limit = not ok and raw_type(...) == "string" and raw_find(..., limit_text, 1, true)
  if is_limit then raw_error(limit_text, 0) end
  return ok, ...
end
-- The hook counts only Lua instructions, but one C call may take as long as thousands of them.
local function timed(library)
  local found = {}
  for name, call in pairs(library) do
    found[name] = raw_type(call) ~= "function" and call or function(...)
      if clock() - started > seconds then raw_error(limit_text, 0) end
      return call(...)
    end
  end
  return found
end
string.dump = nil
local texts = timed(string)
getmetatable("").__index = texts
local env = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, select = select,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
  pcall = function(f, ...) return guard(raw_pcall(f, ...)) end,
  math = math, table = timed(table), string = texts,
  os = timed({ time = os.time, date = os.date, clock = os.clock }),
}
local function run(code, obj, params)
  if raw_byte(code, 1) == 27 then return false, "byte code is not allowed" end
  local chunk, message = raw_load(code, "script")
  if not chunk then return false, message end
  local scope = raw_setmetatable({ obj = obj, actionParams = params }, { __index = env })
  scope._G = scope
  raw_setfenv(chunk, scope)
  -- One instruction may copy megabytes, so CPU time is limited as well.
  local left = instructions / 100
  started = clock()
  hook(function()
    left = left - 1
    if left < 0 or clock() - started > seconds then raw_error(limit_text, 0) end
  end, "", 100)
  local ok, result = raw_pcall(chunk)
  hook()
  return ok, result
end
return run
"""


def run(code: str, obj: Manifest, params: Mapping[str, Any] | None = None) -> Any:
    """Run a script and return its result as Python values; `obj` is the resource.

    Raises: RuleError for syntax errors, script errors, and limits of time and memory.
    """
    runtime = lupa.lua51.LuaRuntime(
        unpack_returned_tuples=True,
        register_eval=False,
        register_builtins=False,
        attribute_filter=_refuse,
        max_memory=MEMORY_BYTES,
    )
    try:
        runtime.execute(lua_strings.CODE)
        function = runtime.execute(_SETUP, LIMIT_TEXT, INSTRUCTIONS, SECONDS)
        ok, result = function(code, _to_lua(runtime, obj), _to_lua(runtime, dict(params or {})))
        if not ok:
            raise RuleError(f"script: {result}")
        return _Answer().read(result)
    except lupa.lua51.LuaMemoryError as error:
        raise RuleError("script: it uses too much memory") from error
    except lupa.lua51.LuaError as error:
        raise RuleError(f"script: {error}") from error
    except UnicodeError as error:
        raise RuleError("script: it reads or returns text that is not Unicode") from error


def check(code: str) -> str:
    """Return the syntax error of a script, empty if there is none; the script is not run."""
    try:
        lupa.lua51.LuaRuntime(
            register_eval=False, register_builtins=False, max_memory=MEMORY_BYTES
        ).compile(code)
    except lupa.lua51.LuaError as error:
        return str(error)
    return ""


def _refuse(_obj: object, _name: object, _setting: bool) -> str:
    raise AttributeError("not available to scripts")


def _to_lua(runtime: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return runtime.table_from({k: _to_lua(runtime, v) for k, v in value.items()})
    if isinstance(value, list):
        return runtime.table_from([_to_lua(runtime, v) for v in value])
    # Lua has only floating-point numbers; lupa converts integers of up to 64 bits.
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        try:
            return float(value)
        except OverflowError as error:
            raise RuleError("script: the resource has a number that is too large") from error
    return value


class _Answer:
    """Converts the result of a script, with limits: a table may contain itself."""

    def __init__(self) -> None:
        self._values, self._characters = MAX_VALUES, MAX_CHARACTERS

    def read(self, value: Any, depth: int = 0) -> Any:
        self._values -= 1
        if depth > MAX_DEPTH or self._values < 0:
            raise RuleError(
                f"script: it returns more than {MAX_VALUES} values or {MAX_DEPTH} levels: "
                "return only what changes"
            )
        kind = lupa.lua51.lua_type(value)
        if kind == "table":
            return self._table(value, depth)
        if kind is not None or isinstance(value, bytes):
            raise RuleError(
                f"script: it returns a {kind or 'binary string'}, which a resource cannot hold"
            )
        if isinstance(value, str):
            self._spend(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise RuleError(f"script: it returns {value}, which a resource cannot hold")
        return value

    def _spend(self, text: str) -> None:
        self._characters -= len(text)
        if self._characters < 0:
            raise RuleError(f"script: it returns more than {MAX_CHARACTERS} characters of text")

    def _table(self, value: Any, depth: int) -> Any:
        items = {}
        for key, child in value.items():
            if not isinstance(key, str | int | float) or isinstance(key, bool):
                raise RuleError(
                    "script: it returns a table with keys that are neither strings nor numbers"
                )
            self._spend(str(key))
            items[key] = self.read(child, depth + 1)
        if items and list(items) == list(range(1, len(items) + 1)):
            return list(items.values())
        return {str(key): child for key, child in items.items()}


@functools.lru_cache(maxsize=512)
def health_script(code: str) -> Any:
    """Return a health check that runs a script.

    Source: as Argo CD; the script returns `{status, message}`, or nothing for no health.
    """

    def assess(manifest: Manifest) -> Assessment | None:
        result = run(code, manifest)
        if result is None:
            return None
        try:
            return Assessment(Health(result["status"]), str(result.get("message") or ""))
        except (ValueError, KeyError, TypeError):
            return Assessment(Health.UNKNOWN, "Lua returned an invalid health status")

    return assess
