r"""User-defined globs, matched in linear time.

Shapes: `*` matches any text, `?` one character, `[a-z]` and `[!a-z]` a character of a set, `{a,b}`
one of several globs (may be nested), `\\` escapes the next character. With a separator, `*` and `?`
do not match "/", but `**` does. A "[" or "{" that is never closed matches itself.
Source: as Argo CD 3.6, https://pkg.go.dev/github.com/gobwas/glob.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from hub.engine.errors import RuleError
from hub.engine.regex import PatternError, compiled_glob, readable

MAX_CHARACTERS = 1024
MAX_WILDCARDS = 256
MAX_DEPTH = 5
MAX_PATTERNS = 2000

Fits = Callable[[str], bool]
_SPECIAL = frozenset("*?[]{}\\")


class GlobError(RuleError):
    """An invalid glob."""


class Token(NamedTuple):
    """A part of a glob."""

    kind: str
    """`text`, `star`, `deep` (`**`), `one` (`?`), `set` or `choice`."""
    text: str = ""
    negated: bool = False
    ranges: tuple[tuple[str, str], ...] = ()
    choices: tuple[tuple["Token", ...], ...] = ()


class _Reader:
    """Parses one glob in linear time."""

    def __init__(self, pattern: str, *, braces: bool) -> None:
        self.pattern, self.braces = pattern, braces
        self.position, self.wildcards = 0, 0
        self.closing = _closing_braces(pattern) if braces else {}

    def sequence(self, end: int, depth: int) -> tuple[Token, ...]:
        tokens, text = list[Token](), list[str]()
        while self.position < end:
            token = self._token(end, depth)
            if token.kind == "text":
                text.append(token.text)
                continue
            if text:
                tokens.append(Token("text", "".join(text)))
                text = []
            # Two stars in a row match the same as one.
            if not (tokens and token.kind == tokens[-1].kind and token.kind in ("star", "deep")):
                tokens.append(token)
        return (*tokens, Token("text", "".join(text))) if text else tuple(tokens)

    def _token(self, end: int, depth: int) -> Token:
        start = self.position
        character = self.pattern[start]
        self.position += 1
        if character == "\\" and self.position < end:
            self.position += 1
            return Token("text", self.pattern[start + 1])
        if character in "*?[":
            return self._wildcard(character, end)
        if character == "{" and self.closing.get(start, end) < end:
            return self._choice(self.closing[start], depth)
        return Token("text", character)

    def _wildcard(self, character: str, end: int) -> Token:
        start = self.position
        closing = self.pattern.find("]", start, end) if character == "[" else -1
        if character == "[" and closing <= start:
            return Token("text", "[")
        self.wildcards += 1
        if self.wildcards > MAX_WILDCARDS:
            raise GlobError(f"the pattern has more than {MAX_WILDCARDS} wildcards")
        if character == "[":
            self.position = closing + 1
            return _set(self.pattern[start:closing])
        if character == "*" and self.pattern[start : start + 1] == "*" and start < end:
            self.position += 1
            return Token("deep")
        return Token("star" if character == "*" else "one")

    def _choice(self, closing: int, depth: int) -> Token:
        if depth >= MAX_DEPTH:
            raise GlobError(f"the pattern has braces nested deeper than {MAX_DEPTH}")
        start = self.position
        ends = [*_commas(self.pattern, start, closing, self.closing), closing]
        choices = []
        for end in ends:
            choices.append(self.sequence(end, depth + 1))
            self.position = end + 1
        return Token("choice", choices=tuple(choices))


def _closing_braces(pattern: str) -> dict[int, int]:
    """Return the position of the closing brace of each "{", escaped ones excluded."""
    found, open_, position = dict[int, int](), list[int](), 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
        elif character == "{":
            open_.append(position)
        elif character == "}" and open_:
            found[open_.pop()] = position
        position += 1
    return found


def _commas(pattern: str, start: int, end: int, closing: dict[int, int]) -> list[int]:
    found, position = [], start
    while position < end:
        if pattern[position] == "\\":
            position += 1
        elif pattern[position] == "{":
            position = closing.get(position, position)
        elif pattern[position] == ",":
            found.append(position)
        position += 1
    return found


def _set(content: str) -> Token:
    negated = content[0] in "!^"
    characters = content[negated:].replace("\\", "")
    if not characters:
        raise GlobError(f"[{content}] is an empty character set")
    ranges, position = list[tuple[str, str]](), 0
    while position < len(characters):
        low = high = characters[position]
        if characters[position + 1 : position + 2] == "-" and position + 2 < len(characters):
            high = characters[position + 2]
            position += 2
        if high < low:
            raise GlobError(f"[{content}] has the range {low}-{high}: write {high}-{low}")
        ranges.append((low, high))
        position += 1
    return Token("set", negated=negated, ranges=tuple(ranges))


def parse(pattern: str, *, braces: bool = True) -> tuple[Token, ...]:
    """Parse a glob into tokens.

    Raises: GlobError saying what is wrong with it.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise GlobError(f"the pattern is longer than {MAX_CHARACTERS} characters")
    return _Reader(pattern, braces=braces).sequence(len(pattern), 0)


def _escaped(text: str) -> str:
    return "".join(c if c.isalnum() or not c.isascii() else f"\\{c}" for c in text)


def _expression(tokens: Iterable[Token], *, separator: bool) -> str:
    star, one = ("[^/]*", "[^/]") if separator else (".*", ".")
    parts = []
    for token in tokens:
        if token.kind == "text":
            parts.append(_escaped(token.text))
        elif token.kind == "set":
            inner = "".join(
                _escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}"
                for low, high in token.ranges
            )
            parts.append(f"[{'^' if token.negated else ''}{inner}]")
        elif token.kind == "choice":
            words = (_expression(choice, separator=separator) for choice in token.choices)
            parts.append(f"(?:{'|'.join(words)})")
        else:
            parts.append({"star": star, "deep": ".*", "one": one}[token.kind])
    return "".join(parts)


def expression(pattern: str, *, separator: bool = False) -> str:
    """Return the equivalent regular expression, in the syntax RE2 and PostgreSQL share.

    Raises: GlobError.
    """
    return _expression(parse(pattern), separator=separator)


@functools.lru_cache(maxsize=8192)
def _cached(pattern: str, separator: bool, braces: bool) -> Fits | GlobError:
    try:
        tokens = parse(pattern, braces=braces)
        return _by_text(tokens, separator=separator) or _by_expression(
            _expression(tokens, separator=separator)
        )
    except GlobError as error:
        return error


def is_plain(pattern: str) -> bool:
    """Return whether a glob has no special characters."""
    return _SPECIAL.isdisjoint(pattern)


def compiled(pattern: str, *, separator: bool = False, braces: bool = True) -> Fits:
    """Return a function that reports whether a glob matches a whole text.

    Raises: GlobError saying what is wrong with the glob.
    """
    if is_plain(pattern) and len(pattern) <= MAX_CHARACTERS:
        # Not cached: thousands of plain names would evict the expensive patterns.
        return lambda text: text == pattern
    found = _cached(pattern, separator, braces)
    if isinstance(found, GlobError):
        # A new exception each time: a raised one keeps the frames of its traceback alive.
        raise GlobError(str(found))
    return found


def _by_expression(text: str) -> Fits:
    try:
        _searcher(text)
    except PatternError as error:
        raise GlobError("the pattern is too large, or is not Unicode text") from error

    def fits(value: str) -> bool:
        # Looked up at each use, since fewer (large) expressions than patterns are cached.
        return _searcher(text)(value)

    return fits


@functools.lru_cache(maxsize=512)
def _searcher(text: str) -> Fits:
    fullmatch = compiled_glob(text).fullmatch
    return lambda value: fullmatch(readable(value)) is not None


def _by_text(tokens: Sequence[Token], *, separator: bool) -> Fits | None:
    """Return a matcher that needs no regular expression, None if the glob is too complex."""
    kinds = {token.kind for token in tokens}
    if not kinds <= {"text", "star", "deep"}:
        return None
    if kinds <= {"text"}:
        text = tokens[0].text if tokens else ""
        return lambda value: value == text
    if separator and "star" in kinds:
        return _one_star(tokens)
    return _segments(tokens)


def _one_star(tokens: Sequence[Token]) -> Fits | None:
    stars = [n for n, token in enumerate(tokens) if token.kind != "text"]
    if len(stars) != 1:
        return None
    head = tokens[0].text if stars[0] == 1 else ""
    tail = tokens[-1].text if stars[0] != len(tokens) - 1 else ""
    shortest = len(head) + len(tail)

    def fits(value: str) -> bool:
        return (
            len(value) >= shortest
            and value.startswith(head)
            and value.endswith(tail)
            and value.find("/", len(head), len(value) - len(tail)) < 0
        )

    return fits


def _segments(tokens: Sequence[Token]) -> Fits:
    """Return a matcher for literal parts separated by stars, found from left to right."""
    head = tokens[0].text if tokens[0].kind == "text" else ""
    tail = tokens[-1].text if tokens[-1].kind == "text" else ""
    inner = [t.text for t in tokens[bool(head) : len(tokens) - bool(tail)] if t.kind == "text"]
    shortest = len(head) + len(tail)
    if not inner and not tail:
        return (lambda value: value.startswith(head)) if head else (lambda _: True)

    def fits(value: str) -> bool:
        end = len(value) - len(tail)
        if len(value) < shortest or not value.startswith(head) or not value.endswith(tail):
            return False
        position = len(head)
        for text in inner:
            position = value.find(text, position, end)
            if position < 0:
                return False
            position += len(text)
        return True

    return fits


def matches(pattern: str, text: str, *, separator: bool = False, braces: bool = True) -> bool:
    """Return whether a glob matches a whole text; an invalid glob matches nothing.

    Use it for what a match permits, and `denies` for what a match forbids.
    """
    found = _cached(pattern, separator, braces)
    return not isinstance(found, GlobError) and found(text)


def denies(pattern: str, text: str, *, separator: bool = False) -> bool:
    """Return whether the glob of a deny rule matches; an invalid glob denies everything."""
    found = _cached(pattern, separator, True)
    return isinstance(found, GlobError) or found(text)


def fits_path(pattern: str, path: str) -> bool:
    """Return whether a glob matches a path, segment by segment; an invalid glob never does.

    Shapes: a segment `**` is any number of segments, including none; elsewhere `*` and `?` do not
        match "/".
    Source: https://pkg.go.dev/github.com/bmatcuk/doublestar/v4, which Argo CD 3.6 uses for the Git
        file generator with its new globbing.
    """
    found = _path_patterns(pattern)
    segments = path.split("/")
    if isinstance(found, GlobError):
        return False
    return any(_fits_segments(wanted, segments) for wanted in found)


def check_path(pattern: str) -> None:
    """Check a glob of paths.

    Raises: GlobError saying what is wrong with it.
    """
    found = _path_patterns(pattern)
    if isinstance(found, GlobError):
        raise GlobError(str(found))


def path_steps(pattern: str, path: str) -> int:
    """Return an upper bound of the steps to match a path: segments of both multiplied."""
    found = _path_patterns(pattern)
    if isinstance(found, GlobError):
        return 0
    return sum(map(len, found)) * (path.count("/") + 1)


@functools.lru_cache(maxsize=2048)
def _path_patterns(pattern: str) -> tuple[tuple[Fits | None, ...], ...] | GlobError:
    """Return the segments of a path glob, None for `**`; several patterns if it has braces."""

    def segment(text: str) -> Fits | None:
        return None if text == "**" else compiled(text, separator=True, braces=False)

    try:
        return tuple(tuple(map(segment, one.split("/"))) for one in _without_braces(pattern))
    except GlobError as error:
        return error


def _without_braces(pattern: str) -> list[str]:
    """Expand `{a,b}` into separate patterns."""
    if len(pattern) > MAX_CHARACTERS:
        raise GlobError(f"the pattern is longer than {MAX_CHARACTERS} characters")
    done, todo = list[str](), [pattern]
    while todo:
        one = todo.pop()
        closing = _closing_braces(one)
        if not closing:
            done.append(one)
        else:
            start = min(closing)
            end = closing[start]
            bounds = [start, *_commas(one, start + 1, end, closing), end]
            choices = (one[a + 1 : b] for a, b in itertools.pairwise(bounds))
            todo += [one[:start] + choice + one[end + 1 :] for choice in choices]
        if len(done) + len(todo) > MAX_WILDCARDS:
            raise GlobError(f"the braces expand to more than {MAX_WILDCARDS} patterns")
    return done


def _fits_segments(wanted: Sequence[Fits | None], segments: Sequence[str]) -> bool:
    if None not in wanted:
        return len(wanted) == len(segments) and all(
            fits(segment) for fits, segment in zip(wanted, segments, strict=True) if fits
        )
    # reached[n] is true when the pattern segments so far match the first n path segments.
    reached = [True] + [False] * len(segments)
    for fits in wanted:
        if fits is None:
            first = reached.index(True)
            reached = [n >= first for n in range(len(reached))]
        else:
            reached = [False, *(r and fits(s) for r, s in zip(reached, segments, strict=False))]
            if True not in reached:
                return False
    return reached[-1]


def check(pattern: Any, field: str) -> None:
    """Check a glob.

    Raises: GlobError naming the field.
    """
    if not isinstance(pattern, str):
        raise GlobError(f"{field} must be text")
    try:
        compiled(pattern)
    except GlobError as error:
        raise GlobError(f"{field}: {pattern[:100]!r} is not a valid pattern: {error}") from error


def check_all(patterns: Any, field: str) -> None:
    """Check a list of globs, ignoring a leading "!".

    Raises: GlobError naming the field and the number of the entry.
    """
    if patterns is None:
        return
    if not isinstance(patterns, list):
        raise GlobError(f"{field} must be a list")
    check_count(patterns, field)
    for number, pattern in enumerate(patterns):
        check(
            pattern.removeprefix("!") if isinstance(pattern, str) else pattern, f"{field}[{number}]"
        )


def check_count(entries: Sequence[Any], field: str) -> None:
    """Check the length of a list of rules.

    Raises: GlobError naming the field.
    """
    if len(entries) > MAX_PATTERNS:
        raise GlobError(f"{field} has {len(entries)} entries: at most {MAX_PATTERNS} are allowed")


class Union:
    """A set of globs, matched together in about constant time for common forms."""

    __slots__ = ("_exact", "_heads", "_others", "_tails")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Group globs by form; invalid ones match nothing."""
        self._exact, heads, tails, others = set[str](), list[str](), list[str](), list[str]()
        for pattern in dict.fromkeys(patterns):
            if is_plain(pattern) and len(pattern) <= MAX_CHARACTERS:
                self._exact.add(pattern)
                continue
            if isinstance(_cached(pattern, False, True), GlobError):
                continue
            tokens = parse(pattern)
            kinds = [token.kind for token in tokens]
            if kinds in ([], ["text"]):
                self._exact.add(tokens[0].text if tokens else "")
            elif kinds in (["star"], ["deep"]):
                heads.append("")
            elif kinds in (["text", "star"], ["text", "deep"]):
                heads.append(tokens[0].text)
            elif kinds in (["star", "text"], ["deep", "text"]):
                tails.append(tokens[1].text)
            else:
                others.append(pattern)
        self._heads, self._tails = tuple(heads), tuple(tails)
        self._others = _any_of(others)

    def __call__(self, text: str) -> bool:
        """Return whether any glob matches the whole text."""
        return (
            text in self._exact
            or text.startswith(self._heads)
            or text.endswith(self._tails)
            or (self._others is not None and self._others(text))
        )


_FEW = 8


def _any_of(patterns: Sequence[str]) -> Fits | None:
    if not patterns:
        return None
    each = [compiled(pattern) for pattern in patterns]
    if len(each) > _FEW:
        try:
            return _by_expression("|".join(f"(?:{expression(p)})" for p in patterns))
        except GlobError:
            pass  # The combined expression is too large.
    return lambda text: any(fits(text) for fits in each)
