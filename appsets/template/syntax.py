"""Parse Go templates: text into tokens, tokens into a tree.

Source: https://pkg.go.dev/text/template and its text/template/parse.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from hub.engine.errors import RuleError

MAX_TEXT = 1_000_000
MAX_DEPTH = 100


class TemplateError(RuleError):
    """A template cannot be parsed or rendered."""


class Token(NamedTuple):
    """A token of an action."""

    kind: str
    text: str
    line: int
    spaced: bool
    """Whether white space precedes it: `a .b` is two words, `a.b` is one."""


@dataclass(frozen=True, slots=True)
class Command:
    """A function or value with its arguments, each an operand."""

    words: tuple["Operand", ...]
    line: int


@dataclass(frozen=True, slots=True)
class Operand:
    """A value: literal, field chain, variable, function name or a pipeline in parentheses."""

    kind: str
    """`value`, `dot`, `variable`, `function` or `pipe`."""
    value: Any = None
    fields: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each given the result of the one before; declared variables take the last."""

    commands: tuple[Command, ...]
    declared: tuple[str, ...] = ()
    assigns: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a template."""

    kind: str
    """`text`, `action`, `if`, `range`, `with`, `template`, `break` or `continue`."""
    text: str = ""
    pipe: Pipe | None = None
    body: tuple["Node", ...] = ()
    otherwise: tuple["Node", ...] = ()
    line: int = 0


@dataclass(slots=True)
class Template:
    """A parsed template, with the templates that it defines."""

    body: tuple[Node, ...] = ()
    defined: dict[str, tuple[Node, ...]] = field(default_factory=dict)


_ACTION = re.compile(
    (
        r"\{\{(-\s)?(\s*/\*.*?\*/\s*?|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|'(?:\\.|[^'\\])*'|"
        r"[^\"`'])*?)(\s-)?\}\}"
    ),
    re.DOTALL,
)
_WORD = re.compile(
    r"""(?P<space>\s+)|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<raw>`[^`]*`)|(?P<char>'(?:\\.|[^'\\])+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?))
    |(?P<field>\.[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)|(?P<variable>\$[\w\u0080-\uffff]*)|(?P<dot>\.)
    |(?P<name>[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)|(?P<declare>:=)|(?P<assign>=)|(?P<pipe>\|)|(?P<open>\()|(?P<close>\))|(?P<comma>,)""",
    re.VERBOSE,
)
_KEYWORDS = {
    "if",
    "else",
    "end",
    "range",
    "with",
    "define",
    "block",
    "template",
    "break",
    "continue",
}


def _pieces(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield ("text" | "action", content, line), with white space trimmed as the actions require."""
    position, trim, line = 0, False, 1
    while (opening := text.find("{{", position)) >= 0:
        plain = text[position:opening]
        # Matched at this position only: a search would try every "{{" up to the end of the text.
        found = _ACTION.match(text, opening)
        if found is None:
            raise TemplateError(f"line {line + plain.count(chr(10))}: unclosed action")
        start = line + plain.count("\n")
        if trim:
            plain = plain.lstrip()
        if found[1]:
            plain = plain.rstrip()
        if plain:
            yield "text", plain, line
        content = found[2].strip()
        if not content.startswith("/*"):
            yield "action", content, start
        trim, position = bool(found[3]), found.end()
        line = start + found[0].count("\n")
    rest = text[position:]
    rest = rest.lstrip() if trim else rest
    if rest:
        yield "text", rest, line


def _tokens(content: str, line: int) -> list[Token]:
    found, position, spaced = list[Token](), 0, True
    while position < len(content):
        match = _WORD.match(content, position)
        if match is None:
            raise TemplateError(
                f"line {line}: unexpected {content[position]!r} in {{{{{content}}}}}"
            )
        kind, position = str(match.lastgroup), match.end()
        if kind == "space":
            line, spaced = line + match[0].count("\n"), True
            continue
        found.append(Token(kind, match[0], line, spaced))
        spaced = False
    return found


@lru_cache(maxsize=4096)
def parse(text: str) -> Template:
    """Return a template.

    Raises: TemplateError with the line of the error.
    """
    if len(text) > MAX_TEXT:
        raise TemplateError(f"the template is longer than {MAX_TEXT} characters")
    parser = _Parser(list(_pieces(text)))
    body, ended = parser.nodes(0)
    if ended:
        raise TemplateError(f"line {parser.line}: unexpected {{{{{ended}}}}}")
    return Template(body, parser.defined)


class _Parser:
    def __init__(self, pieces: list[tuple[str, str, int]]) -> None:
        self._pieces, self._next, self.line = pieces, 0, 1
        self.defined: dict[str, tuple[Node, ...]] = {}

    def nodes(self, depth: int) -> tuple[tuple[Node, ...], str]:
        """Return nodes up to an `end` or `else` action, and that action."""
        if depth > MAX_DEPTH:
            raise TemplateError(f"line {self.line}: nested deeper than {MAX_DEPTH}")
        found: list[Node] = []
        while self._next < len(self._pieces):
            kind, content, self.line = self._pieces[self._next]
            self._next += 1
            if kind == "text":
                found.append(Node("text", text=content, line=self.line))
                continue
            word = content.split(None, 1)[0] if content else ""
            if word in ("end", "else"):
                return tuple(found), content
            node = self._action(word, content, depth)
            if node is not None:
                found.append(node)
        return tuple(found), ""

    def _action(self, word: str, content: str, depth: int) -> Node | None:
        line, rest = self.line, content[len(word) :].strip()
        if word in ("if", "with", "range"):
            return self._block(word, rest, line, depth)
        if word in ("break", "continue"):
            return Node(word, line=line)
        if word in ("define", "block"):
            return self._define(word, rest, line, depth)
        if word == "template":
            tokens = _tokens(rest, line)
            name = _name(tokens, line)
            pipe = _pipe(tokens[1:], line) if len(tokens) > 1 else None
            return Node("template", text=name, pipe=pipe, line=line)
        return Node("action", pipe=_pipe(_tokens(content, line), line), line=line)

    def _block(self, word: str, rest: str, line: int, depth: int) -> Node:
        pipe = _pipe(_tokens(rest, line), line, ranges=word == "range")
        body, ended = self.nodes(depth + 1)
        otherwise: tuple[Node, ...] = ()
        if ended.startswith("else"):
            more = ended[4:].strip()
            if more:
                inner = more.split(None, 1)[0]
                if inner not in ("if", "with") or (inner == "with" and word != "with"):
                    raise TemplateError(f"line {self.line}: unexpected {{{{{ended}}}}}")
                otherwise = (self._block(inner, more[len(inner) :].strip(), self.line, depth + 1),)
                return Node(word, pipe=pipe, body=body, otherwise=otherwise, line=line)
            otherwise, ended = self.nodes(depth + 1)
        if ended != "end":
            raise TemplateError(f"line {line}: {{{{{word}}}}} has no {{{{end}}}}")
        return Node(word, pipe=pipe, body=body, otherwise=otherwise, line=line)

    def _define(self, word: str, rest: str, line: int, depth: int) -> Node | None:
        tokens = _tokens(rest, line)
        name = _name(tokens, line)
        body, ended = self.nodes(depth + 1)
        if ended != "end":
            raise TemplateError(f"line {line}: {{{{{word}}}}} has no {{{{end}}}}")
        self.defined[name] = body
        if word == "define":
            return None
        return Node("template", text=name, pipe=_pipe(tokens[1:], line), line=line)


def _name(tokens: list[Token], line: int) -> str:
    if not tokens or tokens[0].kind not in ("string", "raw"):
        raise TemplateError(f"line {line}: the name of a template must be a quoted text")
    return str(_literal(tokens[0]))


def _pipe(tokens: list[Token], line: int, *, ranges: bool = False) -> Pipe:
    declared, assigns, start = _declared(tokens, line, ranges=ranges)
    commands, position, depth = [list[Token]()], start, 0
    for token in tokens[position:]:
        depth += {"open": 1, "close": -1}.get(token.kind, 0)
        if token.kind == "pipe" and depth == 0:
            commands.append([])
            continue
        commands[-1].append(token)
    if depth != 0:
        raise TemplateError(f"line {line}: unclosed parenthesis")
    return Pipe(tuple(_command(c, line) for c in commands), declared, assigns, line)


def _declared(tokens: list[Token], line: int, *, ranges: bool) -> tuple[tuple[str, ...], bool, int]:
    if not tokens:
        raise TemplateError(f"line {line}: missing value")
    kinds = [t.kind for t in tokens[:4]]
    if kinds[:2] in (["variable", "declare"], ["variable", "assign"]):
        return (tokens[0].text,), kinds[1] == "assign", 2
    two = kinds[:3] == ["variable", "comma", "variable"] and len(kinds) == 4
    if ranges and two and kinds[3] in ("declare", "assign"):
        return (tokens[0].text, tokens[2].text), kinds[3] == "assign", 4
    return (), False, 0


def _command(tokens: list[Token], line: int) -> Command:
    words: list[Operand] = []
    position = 0
    while position < len(tokens):
        operand, position = _operand(tokens, position)
        words.append(operand)
    if not words:
        raise TemplateError(f"line {line}: missing value for command")
    return Command(tuple(words), tokens[0].line)


def _operand(tokens: list[Token], position: int) -> tuple[Operand, int]:
    token = tokens[position]
    position += 1
    fields: list[str] = []
    if token.kind == "open":
        end, depth = position, 1
        while depth:
            depth += {"open": 1, "close": -1}.get(tokens[end].kind, 0)
            end += 1
        base = Operand("pipe", _pipe(tokens[position : end - 1], token.line), line=token.line)
        position = end
    elif token.kind in ("string", "raw", "char", "number"):
        return Operand("value", _literal(token), line=token.line), position
    elif token.kind == "field":
        base = Operand("dot", line=token.line)
        fields.append(token.text[1:])
    elif token.kind == "dot":
        base = Operand("dot", line=token.line)
    elif token.kind == "variable":
        base = Operand("variable", token.text, line=token.line)
    elif token.kind == "name":
        if token.text in _CONSTANTS:
            return Operand("value", _CONSTANTS[token.text], line=token.line), position
        if token.text in _KEYWORDS:
            raise TemplateError(f"line {token.line}: unexpected {token.text}")
        return Operand("function", token.text, line=token.line), position
    else:
        raise TemplateError(f"line {token.line}: unexpected {token.text!r}")
    while (
        position < len(tokens) and tokens[position].kind == "field" and not tokens[position].spaced
    ):
        fields.append(tokens[position].text[1:])
        position += 1
    return Operand(base.kind, base.value, tuple(fields), base.line), position


_CONSTANTS = {"true": True, "false": False, "nil": None}
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}


def _literal(token: Token) -> Any:
    text = token.text
    if token.kind == "raw":
        return text[1:-1]
    if token.kind == "string":
        return _unescaped(text[1:-1], token.line)
    if token.kind == "char":
        inner = _unescaped(text[1:-1], token.line)
        if len(inner) != 1:
            raise TemplateError(f"line {token.line}: {text} is not a valid character")
        return ord(inner)
    digits = text.replace("_", "")
    try:
        return (
            int(digits, 0)
            if not re.search(r"[.eE]", digits) or digits.lower().lstrip("+-").startswith("0x")
            else float(digits)
        )
    except ValueError as error:
        try:
            return int(digits, 8)
        except ValueError:
            raise TemplateError(f"line {token.line}: {text} is not a valid number") from error


def _unescaped(text: str, line: int) -> str:
    def one(found: re.Match[str]) -> str:
        code = found[1]
        if len(code) > 1:
            # More than one character are digits: hexadecimal after a letter, else octal.
            number = int(code[1:], 16) if code[0] in "xuU" else int(code, 8)
            if number > sys.maxunicode or 0xD800 <= number < 0xE000:
                raise TemplateError(f"line {line}: \\{code} is not a valid character")
            return chr(number)
        if code not in _ESCAPES:
            raise TemplateError(f"line {line}: unknown escape \\{code}")
        return _ESCAPES[code]

    return re.sub(
        r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)",
        one,
        text,
        flags=re.DOTALL,
    )
