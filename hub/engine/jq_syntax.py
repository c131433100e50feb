r"""Parse a jq program to find the functions and variables that it uses.

A search for words is not enough: `env` is a function in `env.PATH`, a field in `.env`, a key in
`{env: 1}`, text in `"env"`, and a function again in `"\(env)"`. Other errors are left to jq.

Source: the grammar of jq 1.8, https://jqlang.org/manual/
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, NoReturn

from hub.engine.errors import RuleError

REFUSED = {
    "env",
    "input",
    "inputs",
    "debug",
    "stderr",
    "input_filename",
    "halt",
    "halt_error",
    "modulemeta",
    "get_search_list",
    "get_prog_origin",
    "get_jq_origin",
}
"""Functions that read or write anything other than the input value."""
REFUSED_VARIABLES = {"$ENV", "$__loc__", "$__prog_args", "$__prog_name"}
REFUSED_STATEMENTS = {"import", "include"}

_DEEPEST = 100
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<field>\.[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<binding>\$[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<format>@[A-Za-z0-9_]+)"
    r"|(?P<op>\?//|//=|[!=|+\-*/%<>]=|//|\.\.|[.\[\]{}()|,:;=+\-*/%$<>?])"
)
_TEXT = re.compile(r'(?:[^\\"]|\\[^(])+')
_CLOSED_BY = {"(": ")", "[": "]", "{": "}", r"\(": ")"}
_ENDS = {";", ")", "]", "}", "then", "elif", "else", "end"}
_MAYBE_NOT = {"//", "//=", "?", "?//", "and", "or", "catch"}
"""Operators whose right-hand side may not be evaluated."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Definition:
    """A function defined by the program, or a parameter of one."""


class _Scope(NamedTuple):
    functions: Mapping[tuple[str, int], _Definition]
    variables: frozenset[str]

    def with_function(self, name: str, arity: int, definition: _Definition) -> "_Scope":
        return self._replace(functions={**self.functions, (name, arity): definition})

    def with_variables(self, names: Collection[str]) -> "_Scope":
        return self._replace(variables=self.variables | set(names))


def require_allowed(expression: str) -> None:
    """Check that a jq program uses only allowed functions and variables.

    Raises: RuleError for access to the environment, files or other inputs, for a function that
        always calls itself, and for a syntax error.
    """
    problem = _problem(expression)
    if problem:
        raise RuleError(f"jqPathExpressions: {expression!r} {problem}")


class _Refused(Exception):
    """The program uses something that is not allowed."""


class _NoProgram(Exception):
    """The program has a syntax error."""


@lru_cache(maxsize=1024)
def _problem(expression: str) -> str:
    try:
        _Reader(list(_tokens(expression))).program()
    except _Refused as error:
        return str(error)
    except _NoProgram as error:
        return f"is not a valid jq path: {error}"
    return ""


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens of a program; a string yields its quotes and interpolations."""
    position, open_ = 0, list[_Token]()
    while position < len(text):
        if open_ and open_[-1].text == '"':
            token, position = _in_string(text, position)
        elif text[position] == "#":
            position = _comment_end(text, position)
            continue
        else:
            token, position = _in_code(text, position)
        if token.kind == "space":
            continue
        _nest(open_, token)
        yield token
    if open_:
        raise _NoProgram(f"{open_[-1].text} at column {open_[-1].at + 1} is not closed")


def _in_code(text: str, position: int) -> tuple[_Token, int]:
    if text[position] == '"':
        return _Token("open", '"', position), position + 1
    match = _TOKEN.match(text, position)
    if not match:
        raise _NoProgram(f"unexpected character at column {position + 1}")
    kind = str(match.lastgroup)
    found = match.group()
    if found in ("(", "[", "{"):
        kind = "open"
    elif found in (")", "]", "}"):
        kind = "close"
    return _Token(kind, found, position), match.end()


def _in_string(text: str, position: int) -> tuple[_Token, int]:
    if text[position] == '"':
        return _Token("close", '"', position), position + 1
    if text.startswith(r"\(", position):
        return _Token("open", r"\(", position), position + 2
    match = _TEXT.match(text, position)
    if not match:
        raise _NoProgram(f"the string at column {position + 1} is not closed")
    return _Token("space", "", position), match.end()


def _comment_end(text: str, position: int) -> int:
    """Return the end of a comment: its line, or a later one after an odd number of backslashes."""
    while True:
        position = text.find("\n", position)
        if position < 0:
            return len(text)
        line = text[:position].removesuffix("\r")
        if (len(line) - len(line.rstrip("\\"))) % 2 == 0:
            return position
        position += 1


def _nest(open_: list[_Token], token: _Token) -> None:
    if token.kind == "open":
        if len(open_) >= _DEEPEST:
            raise _NoProgram(f"brackets are nested deeper than {_DEEPEST} levels")
        open_.append(token)
    elif token.kind == "close":
        before = open_.pop() if open_ else None
        if before is None or _CLOSED_BY.get(before.text, '"') != token.text:
            raise _NoProgram(f"unexpected {token.text} at column {token.at + 1}")


class _Reader:
    """Parses a program once, from left to right, tracking the definitions in scope."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = [*tokens, _Token("end", "", -1)]
        self._next = 0
        self._depth = 0

    def program(self) -> None:
        """Parse the whole program."""
        self._query(_Scope({}, frozenset()), (), None)
        if self._tokens[self._next].kind != "end":
            self._unexpected(self._take())

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _is_next(self, *texts: str) -> bool:
        token = self._tokens[self._next]
        return token.text in texts and token.kind in ("op", "word", "open", "close")

    def _expect(self, text: str) -> None:
        if not self._is_next(text):
            self._unexpected(self._take())
        self._next += 1

    def _name(self, kind: str) -> str:
        token = self._take()
        if token.kind != kind:
            self._unexpected(token)
        return token.text

    def _unexpected(self, token: _Token) -> NoReturn:
        if token.kind == "end":
            raise _NoProgram("unexpected end")
        raise _NoProgram(f"unexpected {token.text} at column {token.at + 1}")

    def _query(self, scope: _Scope, stops: Collection[str], sure: _Definition | None) -> None:
        """Parse up to one of the stop words.

        `sure` is the function whose body certainly evaluates this part.
        """
        self._depth += 1
        if self._depth > _DEEPEST * 2:
            raise _NoProgram("it is nested too deeply")
        while not self._is_next(*stops) and self._tokens[self._next].kind != "end":
            if self._is_next(*_ENDS):
                self._unexpected(self._take())
            scope, sure = self._one(scope, sure)
        self._depth -= 1

    def _one(self, scope: _Scope, sure: _Definition | None) -> tuple[_Scope, _Definition | None]:
        token = self._take()
        match token.kind:
            case "word":
                return self._word(token, scope, sure)
            case "binding":
                self._variable(token.text, scope)
            case "open":
                return scope, self._group(token, scope, sure)
        return scope, None if token.text in _MAYBE_NOT else sure

    def _word(
        self, token: _Token, scope: _Scope, sure: _Definition | None
    ) -> tuple[_Scope, _Definition | None]:
        match token.text:
            case "def":
                return self._definition(scope), sure
            case "as":
                names = self._patterns(scope)
                self._expect("|")
                return scope.with_variables(names), sure
            case "reduce" | "foreach":
                self._loop(scope)
                return scope, None
            case "if":
                self._condition(scope, sure)
                return scope, None
            case "label" | "break":
                self._name("binding")
                return scope, sure
            case "try":
                return scope, sure
            case "and" | "or" | "catch":
                return scope, None
            case text if text in REFUSED_STATEMENTS:
                raise _Refused(f"uses {text}, which is not available here: remove it")
        self._call(token.text, scope, sure)
        return scope, None

    def _group(self, token: _Token, scope: _Scope, sure: _Definition | None) -> _Definition | None:
        if token.text == '"':
            self._string(scope, sure)
        elif token.text == "{":
            self._object(scope, sure)
        else:
            is_empty = self._is_next("]")
            self._query(scope, (_CLOSED_BY[token.text],), sure)
            self._next += 1
            return None if is_empty else sure
        return sure

    def _string(self, scope: _Scope, sure: _Definition | None) -> None:
        while (token := self._take()).kind == "open":
            self._query(scope, (")",), sure)
            self._next += 1
        if token.text != '"':
            self._unexpected(token)

    def _object(self, scope: _Scope, sure: _Definition | None) -> None:
        while not self._is_next("}"):
            self._key(scope, sure)
            if self._is_next(":"):
                self._next += 1
                self._query(scope, (",", "}"), sure)
            if not self._is_next("}"):
                self._expect(",")
        self._next += 1

    def _key(self, scope: _Scope, sure: _Definition | None) -> None:
        token = self._take()
        if token.kind == "format":
            token = self._take()
        if token.kind == "binding":
            self._variable(token.text, scope)
        elif token.text in ("(", '"') and token.kind == "open":
            self._group(token, scope, sure)
        elif token.kind not in ("word", "number"):
            self._unexpected(token)

    def _variable(self, name: str, scope: _Scope) -> None:
        if name in REFUSED_VARIABLES and (name not in scope.variables or name == "$__loc__"):
            raise _Refused(f"uses {name}, which is not available here: remove it")

    def _call(self, name: str, scope: _Scope, sure: _Definition | None) -> None:
        arity = 0
        if self._is_next("("):
            arity = self._arguments(scope)
        defined = scope.functions.get((name, arity))
        if defined is None and name in REFUSED:
            raise _Refused(f"uses the function {name}, which is not available here: remove it")
        if defined is not None and defined is sure:
            raise _Refused(f"has a function that always calls itself: {name}")

    def _arguments(self, scope: _Scope) -> int:
        count = 0
        while not self._is_next(")") or count == 0:
            self._next += 1
            self._query(scope, (";", ")"), None)
            count += 1
            if self._tokens[self._next].kind == "end":
                self._unexpected(self._take())
        self._next += 1
        return count

    def _definition(self, scope: _Scope) -> _Scope:
        name, parameters = self._name("word"), list[str]()
        if self._is_next("("):
            while not self._is_next(")"):
                self._next += 1
                token = self._take()
                if token.kind not in ("word", "binding"):
                    self._unexpected(token)
                parameters.append(token.text)
                if not self._is_next(";", ")"):
                    self._unexpected(self._take())
            self._next += 1
        self._expect(":")
        itself = _Definition()
        outside = scope.with_function(name, len(parameters), itself)
        inside = outside
        for parameter in parameters:
            inside = inside.with_function(parameter.lstrip("$"), 0, _Definition())
        inside = inside.with_variables([p for p in parameters if p.startswith("$")])
        self._query(inside, (";",), itself)
        self._expect(";")
        return outside

    def _loop(self, scope: _Scope) -> None:
        """Parse `reduce` or `foreach`; the initial value is outside the variables' scope."""
        self._query(scope, ("as",), None)
        self._expect("as")
        within = scope.with_variables(self._patterns(scope))
        self._expect("(")
        self._query(scope, (";", ")"), None)
        while not self._is_next(")"):
            self._expect(";")
            self._query(within, (";", ")"), None)
        self._next += 1

    def _condition(self, scope: _Scope, sure: _Definition | None) -> None:
        self._query(scope, ("then",), sure)
        self._expect("then")
        while True:
            self._query(scope, ("elif", "else", "end"), None)
            if not self._is_next("elif"):
                break
            self._next += 1
            self._query(scope, ("then",), None)
            self._expect("then")
        if self._is_next("else"):
            self._next += 1
            self._query(scope, ("end",), None)
        self._expect("end")

    def _patterns(self, scope: _Scope) -> set[str]:
        names = self._pattern(scope)
        while self._is_next("?//"):
            self._next += 1
            names |= self._pattern(scope)
        return names

    def _pattern(self, scope: _Scope) -> set[str]:
        token, names = self._take(), set[str]()
        if token.kind == "binding":
            return {token.text}
        if token.kind != "open" or token.text not in ("[", "{"):
            self._unexpected(token)
        end = _CLOSED_BY[token.text]
        while not self._is_next(end):
            if token.text == "{":
                names |= self._pattern_key(scope)
            else:
                names |= self._pattern(scope)
            if not self._is_next(end):
                self._expect(",")
        self._next += 1
        return names

    def _pattern_key(self, scope: _Scope) -> set[str]:
        names = set[str]()
        if self._tokens[self._next].kind == "binding":
            names.add(self._take().text)
        else:
            self._key(scope, None)
        if self._is_next(":"):
            self._next += 1
            names |= self._pattern(scope)
        return names
