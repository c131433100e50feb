"""What Lua scripts do to the hub: functions replaced, single calls that take long, answers without
end.
"""

import time

import pytest

from clusters import live
from hub.engine import lua
from hub.engine.errors import RuleError
from hub.engine.health import assess
from hub.engine.lua import health_script

SLOW = {
    "its own find": (
        "string.find = function() end while true do pcall(function() while true do end end) end"
    ),
    "its own type": (
        "string.find = nil string.byte = nil while true do pcall(function() while true do end end) "
        "end"
    ),
    "a plain search": 'local s = ("a"):rep(4e6) return s:find(("a"):rep(2e6) .. "b", 1, true)',
    "a search without magic": 'local s = ("a"):rep(4e6) return s:find(("a"):rep(2e6) .. "b")',
    "a match without magic": 'local s = ("a"):rep(4e6) return s:match(("a"):rep(2e6) .. "b")',
    "many long calls": 'local s = ("a"):rep(4e6) while true do s:upper() s:reverse() s:lower() end',
    "tables moved": (
        "local t = {} for i = 1, 300000 do t[i] = 1 end while true do table.insert(t, 1, 1) "
        "table.remove(t, 1) end"
    ),
    "joined": (
        'local t = {} for i = 1, 300000 do t[i] = "x" end while true do table.concat(t, ",") end'
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_no_call_of_a_script_takes_long(name, monkeypatch):
    assert lua.SECONDS <= 2
    monkeypatch.setattr(lua, "SECONDS", 0.1)
    begun = time.process_time()

    with pytest.raises(RuleError, match=r"ran too long|memory"):
        lua.run(SLOW[name], {})

    assert time.process_time() - begun < 15


def test_a_text_of_nothing_is_repeated_at_once():
    begun = time.process_time()

    assert lua.run('return ("" ):rep(2e9) .. "x"', {}) == "x"
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "code",
    [
        "local t = {} t.t = t return t",
        "local t = {} for i = 1, 30 do t = {t, t} end return t",
        "local t = {} for i = 1, 300 do t = {t} end return t",
        "local t = {} for i = 1, 250000 do t[i] = 1 end return t",
        'local s = ("x"):rep(5e6) return {s, s}',
        "return {[{}] = 1}",
        "return {[true] = 1}",
        "return {f = tostring}",
        "return tostring",
        "return 0/0",
        "return {a = 1/0}",
        'return "\\255\\254"',
        'return {["\\255"] = 1}',
    ],
    ids=str,
)
def test_what_a_script_returns_is_bounded(code):
    with pytest.raises(RuleError, match="script: "):
        lua.run(code, {})


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63) - 1, 10**300])
def test_large_numbers_of_a_resource_are_numbers(number):
    assert lua.run("return obj.n", {"n": number}) == float(number)


def test_a_number_that_no_script_can_have_ends_its_own_health_only(monkeypatch):
    script = {"example.org/Thing": health_script('return {status = "Healthy"}')}
    monkeypatch.setattr(live, "health_scripts", lambda: script)
    manifest = {
        "apiVersion": "example.org/v1",
        "kind": "Thing",
        "metadata": {"name": "x"},
        "spec": {"n": 10**400},
    }
    row = live.LiveResource(cluster_id=1)

    live._assess(row, manifest)

    assert row.health == "Unknown"
    assert assess({**manifest, "spec": {"n": 2**63}}, script).status == "Healthy"


def test_usual_scripts_work():
    code = """
    local words = {}
    for word in string.gmatch("a b c", "%a") do table.insert(words, word:upper()) end
    table.sort(words, function(a, b) return a > b end)
    return { status = "Healthy", message = string.format("%s %d", table.concat(words, ","), #words), at = ("abc"):find("c", 1, true),
             list = {1, 2, {a = "b"}}, empty = {}, lit = ("a-b"):match("a"), when = type(os.time()) }
    """
    assert lua.run(code, {}) == {
        "status": "Healthy",
        "message": "C,B,A 3",
        "at": 3,
        "list": [1, 2, {"a": "b"}],
        "empty": {},
        "lit": "a",
        "when": "number",
    }


@pytest.mark.parametrize("init", [1, 2, 5, -3, 0, 99])
@pytest.mark.parametrize("text", ["ab", "b", "", "abab", "ba"])
def test_plain_searches_answer_as_in_lua(init, text):
    code = "local a, b = (obj.s):find(obj.p, obj.i, true) return { a = a, b = b }"
    small = "local find = string.find " + code
    found = lua.run(small, {"s": "ab" * 3000, "p": text * 700 if text else "", "i": init})
    words, wanted = "ab" * 3000, text * 700 if text else ""
    start = init - 1 if init > 0 else max(len(words) + init, 0) if init < 0 else 0
    place = words.find(wanted, start)
    assert found == ({"a": place + 1, "b": place + len(wanted)} if place >= 0 else {})
