"""Lua's string patterns reimplemented in Lua, so that the instruction limit applies to them.

Lua's own `find`, `match`, `gmatch` and `gsub` backtrack inside one C call, which the limit cannot
interrupt: `("a"):rep(1e5):find(("a*"):rep(50) .. "b")` never returns.
Source: https://www.lua.org/manual/5.1/manual.html#5.4.1.
"""

CODE = r"""
local raw_find, raw_sub, raw_byte, raw_rep = string.find, string.sub, string.byte, string.rep
local raw_sort, raw_error, raw_concat = table.sort, error, table.concat
local math_max, math_floor = math.max, math.floor
local most_pattern, most_text, most_sorted, few = 1000, 1000, 10000, 1000
local items = {}

-- Whether a character matches one item of a pattern, such as a, . or [a-z].
local function fits(char, item)
  if char == "" then return false end
  if item == "." then return true end
  if #item == 1 then return char == item end
  local known = items[item]
  if not known then known = {} items[item] = known end
  local found = known[char]
  if found == nil then found = raw_find(char, "^" .. item) ~= nil known[char] = found end
  return found
end

local function item_end(p, i)
  local char = raw_sub(p, i, i)
  if char == "%" then
    if i == #p then raw_error("malformed pattern (ends with '%')", 0) end
    return i + 2
  end
  if char ~= "[" then return i + 1 end
  i = i + 1
  if raw_sub(p, i, i) == "^" then i = i + 1 end
  repeat
    if i > #p then raw_error("malformed pattern (missing ']')", 0) end
    i = i + (raw_sub(p, i, i) == "%" and 2 or 1)
  until raw_sub(p, i, i) == "]"
  return i + 1
end

local step

local function balanced(m, at, i)
  local open, close = raw_sub(m.p, i, i), raw_sub(m.p, i + 1, i + 1)
  if close == "" then raw_error("unbalanced pattern", 0) end
  if raw_sub(m.s, at, at) ~= open then return nil end
  local depth = 1
  for j = at + 1, #m.s do
    local char = raw_sub(m.s, j, j)
    if char == close then
      depth = depth - 1
      if depth == 0 then return j + 1 end
    elseif char == open then
      depth = depth + 1
    end
  end
end

local function opened(m, at, i, length)
  local level = m.level
  if level >= 32 then raw_error("too many captures", 0) end
  m.from[level + 1], m.len[level + 1], m.level = at, length, level + 1
  local found = step(m, at, i)
  if not found then m.level = level end
  return found
end

local function closed(m, at, i)
  local level = m.level
  while level > 0 and m.len[level] ~= "open" do level = level - 1 end
  if level == 0 then raw_error("invalid pattern capture", 0) end
  m.len[level] = at - m.from[level]
  local found = step(m, at, i)
  if not found then m.len[level] = "open" end
  return found
end

local function repeated(m, at, item, after, least)
  local count = 0
  while fits(raw_sub(m.s, at + count, at + count), item) do count = count + 1 end
  while count >= least do
    local found = step(m, at + count, after)
    if found then return found end
    count = count - 1
  end
end

local function shortest(m, at, item, after)
  while true do
    local found = step(m, at, after)
    if found then return found end
    if not fits(raw_sub(m.s, at, at), item) then return nil end
    at = at + 1
  end
end

local function special(m, at, i)
  local char = raw_sub(m.p, i + 1, i + 1)
  if char == "b" then
    local found = balanced(m, at, i + 2)
    return true, found and step(m, found, i + 4)
  elseif char == "f" then
    if raw_sub(m.p, i + 2, i + 2) ~= "[" then raw_error("missing '[' after '%f' in pattern", 0) end
    local after = item_end(m.p, i + 2)
    local item = raw_sub(m.p, i + 2, after - 1)
    local before, here = raw_sub(m.s, at - 1, at - 1), raw_sub(m.s, at, at)
    if at == 1 or before == "" then before = "\0" end
    if here == "" then here = "\0" end
    if fits(before, item) or not fits(here, item) then return true, nil end
    return true, step(m, at, after)
  elseif raw_find(char, "^%d") then
    local number = raw_byte(char) - 48
    local length = number > 0 and number <= m.level and m.len[number]
    if not length or length == "open" then raw_error("invalid capture index", 0) end
    -- A position has no text to compare with, so that Lua never matches it.
    if length == "place" then return true, nil end
    local text = raw_sub(m.s, m.from[number], m.from[number] + length - 1)
    if raw_sub(m.s, at, at + length - 1) ~= text then return true, nil end
    return true, step(m, at + length, i + 2)
  end
  return false
end

-- Return the position after a match that starts at `at`, for the pattern from `i`.
function step(m, at, i)
  while i <= #m.p do
    local char = raw_sub(m.p, i, i)
    if char == "(" then
      if raw_sub(m.p, i + 1, i + 1) == ")" then return opened(m, at, i + 2, "place") end
      return opened(m, at, i + 1, "open")
    elseif char == ")" then
      return closed(m, at, i + 1)
    elseif char == "$" and i == #m.p then
      return at == #m.s + 1 and at or nil
    elseif char == "%" then
      local is_special, found = special(m, at, i)
      if is_special then return found end
    end
    local after = item_end(m.p, i)
    local item, how = raw_sub(m.p, i, after - 1), raw_sub(m.p, after, after)
    if how == "*" then return repeated(m, at, item, after + 1, 0) end
    if how == "+" then return repeated(m, at, item, after + 1, 1) end
    if how == "-" then return shortest(m, at, item, after + 1) end
    local is_fit = fits(raw_sub(m.s, at, at), item)
    if how == "?" then
      local found = is_fit and step(m, at + 1, after + 1)
      if found then return found end
      i = after + 1
    elseif is_fit then
      at, i = at + 1, after
    else
      return nil
    end
  end
  return at
end

local function capture(m, number, from, to)
  if number > m.level then
    if number == 1 then return raw_sub(m.s, from, to - 1) end
    raw_error("invalid capture index", 0)
  end
  local length = m.len[number]
  if length == "open" then raw_error("unfinished capture", 0) end
  if length == "place" then return m.from[number] end
  return raw_sub(m.s, m.from[number], m.from[number] + length - 1)
end

local function captures(m, from, to, is_whole)
  local found = {}
  local count = (m.level == 0 and is_whole) and 1 or m.level
  for number = 1, count do found[number] = capture(m, number, from, to) end
  return unpack(found, 1, count)
end

local function text_of(value, number, name)
  local kind = type(value)
  if kind == "number" then return tostring(value) end
  if kind ~= "string" then
    local expected = " (string expected, got " .. kind .. ")"
    raw_error("bad argument #" .. number .. " to '" .. name .. "'" .. expected, 3)
  end
  return value
end

local function new_match(s, p)
  if #p > most_pattern then
    raw_error("a pattern of more than " .. most_pattern .. " characters", 0)
  end
  return { s = s, p = p, level = 0, from = {}, len = {} }
end

-- Return the start of the first match at or after `init`, and the position after its end.
local function search(m, init)
  local is_anchored = raw_sub(m.p, 1, 1) == "^"
  for at = init, #m.s + 1 do
    m.level = 0
    local found = step(m, at, is_anchored and 2 or 1)
    if found then return at, found end
    if is_anchored then return nil end
  end
end

-- Lua's own functions are fast enough for a short text and a pattern with at most one repetition.
local function is_cheap(s, p)
  if #s > most_text or #p > few then return false end
  local _, first = raw_find(p, "[%*%+%-%?]")
  return not first or (not raw_find(p, "[%*%+%-%?]", first + 1) and not raw_find(p, "%%[b%d]"))
end

local function start_of(init, s)
  init = init or 1
  if init < 0 then init = #s + init + 1 end
  return init < 1 and 1 or init
end

-- Lua's own search is quadratic: large searches run in pieces, so that the limits apply.
local most_steps = 4000000
local function plain_find(s, p, init)
  init = start_of(init, s)
  if #p == 0 or #s * #p <= most_steps then return raw_find(s, p, init, true) end
  local places = math_max(math_floor(most_steps / #p), 1)
  for at = init, #s - #p + 1, places do
    local from = raw_find(raw_sub(s, at, at + places + #p - 2), p, 1, true)
    if from then return at + from - 1, at + from + #p - 2 end
  end
end

local originals = { find = string.find, match = string.match }

local function searched(name, s, p, init, plain)
  s, p = text_of(s, 1, name), text_of(p, 2, name)
  local is_plain = not raw_find(p, "[%^%$%*%+%?%.%(%[%%%-]")
  if name == "find" and (plain or is_plain) then return plain_find(s, p, init) end
  if is_plain then
    local from, to = plain_find(s, p, init)
    return from and raw_sub(s, from, to)
  end
  if is_cheap(s, p) then return originals[name](s, p, init) end
  init = start_of(init, s)
  if init > #s + 1 then init = #s + 1 end
  local m = new_match(s, p)
  local from, to = search(m, init)
  if not from then return nil end
  if name == "match" then return captures(m, from, to, true) end
  return from, to - 1, captures(m, from, to, false)
end

function string.find(s, p, init, plain) return searched("find", s, p, init, plain) end
function string.match(s, p, init) return searched("match", s, p, init) end

function string.gmatch(s, p)
  s, p = text_of(s, 1, "gmatch"), text_of(p, 2, "gmatch")
  local at = 1
  return function()
    for from = at, #s + 1 do
      local m = new_match(s, p)
      local to = step(m, from, 1)
      if to then
        at = to == from and to + 1 or to
        return captures(m, from, to, true)
      end
    end
    at = #s + 2
  end
end
string.gfind = string.gmatch

local function replaced(m, from, to, by)
  local kind = type(by)
  local whole = raw_sub(m.s, from, to - 1)
  local value
  if kind == "function" then
    value = by(captures(m, from, to, true))
  elseif kind == "table" then
    value = by[capture(m, 1, from, to)]
  else
    local parts, i = {}, 1
    by = tostring(by)
    while i <= #by do
      local char = raw_sub(by, i, i)
      if char == "%" then
        i = i + 1
        char = raw_sub(by, i, i)
        if char == "0" then
          char = whole
        elseif raw_find(char, "^%d") then
          char = tostring(capture(m, raw_byte(char) - 48, from, to))
        end
      end
      parts[#parts + 1] = char
      i = i + 1
    end
    return raw_concat(parts)
  end
  if not value then return whole end
  if type(value) ~= "string" and type(value) ~= "number" then
    raw_error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return tostring(value)
end

function string.gsub(s, p, by, most)
  s, p = text_of(s, 1, "gsub"), text_of(p, 2, "gsub")
  local kind = type(by)
  if kind ~= "string" and kind ~= "number" and kind ~= "table" and kind ~= "function" then
    raw_error("bad argument #3 to 'gsub' (string/function/table expected)", 2)
  end
  local is_anchored = raw_sub(p, 1, 1) == "^"
  local parts, at, count = {}, 1, 0
  while count < (most or #s + 1) do
    local m = new_match(s, p)
    local to = step(m, at, is_anchored and 2 or 1)
    if to then
      count = count + 1
      parts[#parts + 1] = replaced(m, at, to, by)
    end
    if to and to > at then
      at = to
    elseif at <= #s then
      parts[#parts + 1] = raw_sub(s, at, at)
      at = at + 1
    else
      break
    end
    if is_anchored then break end
  end
  parts[#parts + 1] = raw_sub(s, at)
  return raw_concat(parts), count
end

function string.rep(s, n)
  s = text_of(s, 1, "rep")
  -- Lua's own loops n times even for an empty string.
  if s == "" then return "" end
  return raw_rep(s, n)
end

function table.sort(list, before)
  if #list > most_sorted then
    raw_error("a table of more than " .. most_sorted .. " values cannot be sorted", 0)
  end
  return raw_sort(list, before)
end
"""
