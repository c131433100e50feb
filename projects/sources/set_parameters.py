"""Parse parameters in the syntax of Helm's --set, --set-string and --set-file.

The worker loads this file by path, so it imports only the standard library.
Source: as observed in Helm 3 and 4: `a.b[1].c=v`, `a={x,y}`, a backslash escapes a character.
"""

import re
from collections.abc import Callable
from typing import Any

_MAX_LEVELS = 30
_MAX_INDEX = 65_536
_WHOLE = re.compile(r"[+-]?[0-9]+")
_WORDS = {"true": True, "false": False, "null": None}


class SetError(ValueError):
    """An invalid parameter."""


class Int64(int):
    """An integer parameter: Helm keeps it an integer, while numbers in value files are floats."""


class _End(Exception):
    """The end of the text."""


def put(values: dict[str, Any], text: str, convert: Callable[[str], Any]) -> None:
    """Set a parameter in values, in place; existing lists and maps are merged.

    Shapes: `text` is `name=value`; `convert` converts the value, or each element of a `{list}`.
    Raises: SetError with the problem.
    """
    line = _Line(text, convert)
    try:
        while True:
            line.key(values, 0)
    except _End:
        return


def typed(text: str) -> Any:
    """Convert a text as --set does: to a boolean, null or integer, else leave it unchanged.

    Source: as Helm: `1e3`, `1.5`, `0123` and integers beyond 64 bits stay text.
    """
    folded = text.casefold()
    if folded in _WORDS:
        return _WORDS[folded]
    if text == "0":
        return Int64(0)
    if text.startswith("0") or not _WHOLE.fullmatch(text) or len(text) > _MAX_LEVELS:
        return text
    number = int(text)
    return Int64(number) if -(2**63) <= number < 2**63 else text


class _Line:
    """Parses one parameter."""

    def __init__(self, text: str, convert: Callable[[str], Any]) -> None:
        self._text, self._convert, self._at = text, convert, 0

    def _read(self) -> str:
        if self._at >= len(self._text):
            raise _End
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, stops: str) -> tuple[str, str]:
        """Read up to a stop character; return the text and the character, empty at the end."""
        found: list[str] = []
        while self._at < len(self._text):
            character = self._read()
            if character in stops:
                return "".join(found), character
            if character == "\\":
                if self._at >= len(self._text):
                    break
                character = self._read()
            found.append(character)
        return "".join(found), ""

    def key(self, data: dict[str, Any], level: int) -> None:
        """Parse a name and its value into a map."""
        name, last = self._until("=[,.")
        if last == "=":
            self._assign(data, name)
        elif last == "[":
            self._in_list(data, name, level)
        elif last == ".":
            self._in_map(data, name, level + 1)
        elif not name and not last:
            raise _End
        else:
            raise SetError(f'key "{name}" has no value')

    def _assign(self, data: dict[str, Any], name: str) -> None:
        if self._at >= len(self._text):
            _set(data, name, "")
            raise _End
        _set(data, name, self._value())

    def _in_list(self, data: dict[str, Any], name: str, level: int) -> None:
        index = self._index()
        found = data.get(name, [])
        if not isinstance(found, list):
            raise SetError(f'"{name}" is not a list')
        # As in Helm, a new list is set even if the text ends before an element.
        _set(data, name, found)
        self._item(found, index, level)

    def _in_map(self, data: dict[str, Any], name: str, level: int) -> None:
        if level > _MAX_LEVELS:
            raise SetError(f"the name has more than {_MAX_LEVELS} levels")
        inner = data.get(name, {})
        if not isinstance(inner, dict):
            raise SetError(f'"{name}" is not a map')
        try:
            self.key(inner, level)
            if not inner:
                raise SetError(f'key map "{name}" has no value')
        finally:
            if inner:
                _set(data, name, inner)

    def _index(self) -> int:
        text, last = self._until("]")
        if not last or not _WHOLE.fullmatch(text):
            raise SetError(f"error parsing index: {text[:40]!r} is not a whole number")
        index = int(text[:_MAX_LEVELS])
        if not 0 <= index <= _MAX_INDEX:
            raise SetError(f"index {text[:40]} must be from 0 to {_MAX_INDEX}")
        return index

    def _item(self, found: list[Any], index: int, level: int) -> None:
        """Parse the value of a list element."""
        rest, last = self._until("[.=")
        if rest:
            raise SetError(f"unexpected data at end of array index: {rest[:40]!r}")
        old = found[index] if index < len(found) else None
        if last == "=":
            value = self._value() if self._at < len(self._text) else ""
        elif last == "[":
            inner_index, value = self._index(), [] if old is None else old
            if not isinstance(value, list):
                raise SetError(f"element {index} is not a list")
            self._item(value, inner_index, level)
        elif last == ".":
            value = old if isinstance(old, dict) else {}
            if index < len(found):
                found[index] = value
            # As in Helm, a new element is not added if the text ends with its empty value.
            self.key(value, level)
        else:
            raise _End
        found.extend([None] * (index + 1 - len(found)))
        found[index] = value

    def _value(self) -> Any:
        if self._text[self._at] != "{":
            return self._convert(self._until(",")[0])
        self._at += 1
        found: list[Any] = []
        while True:
            element, last = self._until(",}")
            if not last:
                raise SetError("list must terminate with '}'")
            found.append(self._convert(element))
            if last == "}":
                self._at += self._text[self._at : self._at + 1] == ","
                return found


def _set(data: dict[str, Any], name: str, value: Any) -> None:
    if name:
        data[name] = value
