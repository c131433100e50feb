"""Run scripts written in Lua 5.1, confined and limited.

Lua 5.1 without a just-in-time compiler: with one, an endless loop never reaches the instruction
hook. `pcall` re-raises the limit error, since a script could otherwise swallow it for ever.
"""

import functools
from collections.abc import Mapping
from typing import Any

import lupa.lua51

from hub.engine import luastrings
from hub.engine.errors import RuleError
from hub.engine.resource import Manifest
from hub.engine.status import Assessment, Health

MEMORY_BYTES = 32 * 1024 * 1024
INSTRUCTIONS = 5_000_000
SECONDS = 2
LIMIT_TEXT = "the script ran too long"

_SETUP = """
local limit_text, instructions, seconds = ...
local clock = os.clock
local hook, raw_pcall, raw_error = debug.sethook, pcall, error
local function guard(ok, ...)
  if not ok and type(...) == "string" and string.find(..., limit_text, 1, true) then raw_error(limit_text, 0) end
  return ok, ...
end
local env = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, select = select,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
  pcall = function(f, ...) return guard(raw_pcall(f, ...)) end,
  math = math, table = table, string = string,
  os = { time = os.time, date = os.date, clock = os.clock },
}
string.dump = nil
local function run(code, obj, params)
  local chunk, message = loadstring(code, "script")
  if not chunk then return false, message end
  if string.byte(code, 1) == 27 then return false, "byte code is not allowed" end
  local scope = setmetatable({ obj = obj, actionParams = params }, { __index = env })
  scope._G = scope
  setfenv(chunk, scope)
  -- One instruction may copy megabytes, so the processor's time counts too.
  local left, started = instructions / 100, clock()
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
    """Return what a script returns, as Python values; `obj` is the resource it looks at.

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
        runtime.execute(luastrings.CODE)
        function = runtime.execute(_SETUP, LIMIT_TEXT, INSTRUCTIONS, SECONDS)
        ok, result = function(code, _to_lua(runtime, obj), _to_lua(runtime, dict(params or {})))
        if not ok:
            raise RuleError(f"script: {result}")
        return _to_python(result)
    except lupa.lua51.LuaMemoryError as error:
        raise RuleError("script: it used too much memory") from error
    except lupa.lua51.LuaError as error:
        raise RuleError(f"script: {error}") from error


def check(code: str) -> str:
    """Return what is wrong with the syntax of a script, empty when nothing is; it is not run."""
    try:
        lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False, max_memory=MEMORY_BYTES).compile(code)  # fmt: skip
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
    return value


def _to_python(value: Any) -> Any:
    if lupa.lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys and keys == list(range(1, len(keys) + 1)):
        return [_to_python(value[key]) for key in keys]
    return {str(key): _to_python(value[key]) for key in keys}


@functools.lru_cache(maxsize=512)
def health_script(code: str) -> Any:
    """Return a function that assesses a resource by a script.

    Source: as Argo CD: the script returns `{status, message}`; nothing means no health.
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
