"""Patterns of Lua scripts: the same answers as Lua's own, and none that never comes back."""

import time

import lupa.lua51
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hub.engine import lua
from hub.engine.errors import RuleError
from hub.engine.lua_strings import CODE

_ASK = """
local s, p, name, by = ...
local function packed(...) return select("#", ...), ... end
local function asked()
  if name == "gmatch" then
    local found = {}
    for a, b in string.gmatch(s, p) do found[#found + 1] = tostring(a) .. "|" .. tostring(b) end
    return table.concat(found, ";")
  end
  if name == "gsub" then return string.gsub(s, p, by) end
  return string[name](s, p)
end
return pcall(asked)
"""
OWN, OURS = (lupa.lua51.LuaRuntime(unpack_returned_tuples=True) for _ in range(2))
OURS.execute(CODE.replace("few = 1000, 1000, 10000, 1000", "few = 1000, 1000, 10000, -1"))
ASK_OWN, ASK_OURS = OWN.compile(_ASK), OURS.compile(_ASK)


@given(
    st.text("ab1 .-", max_size=6),
    st.text("ab1.%^$*+-?()[]dw", max_size=6),
    st.sampled_from(["find", "match", "gmatch", "gsub"]),
    st.sampled_from(["x", "<%0>", "%1"]),
)
@settings(max_examples=1500, deadline=None)
def test_patterns_answer_as_in_lua(text, pattern, name, by):
    own, ours = ASK_OWN(text, pattern, name, by), ASK_OURS(text, pattern, name, by)
    assume(own[0] is True)
    assert ours == own


ENDLESS = {
    "find": 'return ("a"):rep(1e5):find(("a*"):rep(50) .. "b")',
    "match": 'return ("a"):rep(200):match(("a-"):rep(50) .. "b")',
    "gsub": 'return ("a"):rep(500):gsub(("a?"):rep(100) .. ("a"):rep(100) .. "b", "x")',
    "sort": "local t = {} for i = 1, 9000 do t[i] = i end while true do table.sort(t) end",
    "joining": 'local s = ("x"):rep(4e6) while true do local t = s .. "a" end',
}


@pytest.mark.parametrize("name", ENDLESS)
def test_no_script_runs_for_ever(name, monkeypatch):
    monkeypatch.setattr(lua, "SECONDS", 0.1)
    begun = time.monotonic()

    with pytest.raises(RuleError, match="ran too long"):
        lua.run(ENDLESS[name], {})

    assert time.monotonic() - begun < 20


def test_usual_patterns_work():
    code = """
    local words = {}
    for word in (" a=1, b=22 " .. string.rep(" ", 2000)):gmatch("%w+=(%d+)") do words[#words + 1] = word end
    return { words = table.concat(words, ","), major = string.match("v1.28.3", "^v(%d+)%.(%d+)") }
    """
    assert lua.run(code, {}) == {"words": "1,22", "major": "1"}
