"""Conditions on a column about many values: each list is one parameter of the statement.

One parameter per value, or a chain of OR, makes a statement too long for the database: SQLite takes
32,766 parameters (some builds more) and expressions 1,000 deep.
"""

import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import BooleanField, CharField, F, Field, Func, Lookup

from hub.engine.globs import Union, expression, parse

_LISTED = "SELECT value FROM json_each(%s)"
_PAIRS = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(%s)"
_ARRAYS = "SELECT * FROM unnest(%s::text[], %s::text[])"
# How LIKE writes any text, one character and a literal character.
_LIKE = {c: f"\\{c}" for c in "\\%_"}


class _Many(Lookup):
    """A condition whose right side is a list of values, passed to the database as one parameter."""

    def get_prep_lookup(self) -> Any:
        """Store the values unchanged."""
        return tuple(self.rhs)


@Field.register_lookup
class OneOf(_Many):
    """`column__one_of=values`: equal to any of them, however many there are."""

    lookup_name = "one_of"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Use an array on PostgreSQL, and a JSON list on SQLite."""
        left, params = self.process_lhs(compiler, connection)
        if connection.vendor == "sqlite":
            listed = json.dumps(self.rhs)
            return f"{left} IN ({_LISTED})", (*params, listed)
        return f"{left} = ANY(%s)", (*params, list(self.rhs))


@CharField.register_lookup
class AnyGlob(_Many):
    """`column__any_glob=globs`: any of them matches, as `hub.engine.globs` does; case-sensitive."""

    lookup_name = "any_glob"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Use only what the database evaluates in linear time: never a backtracking expression."""
        left, params = self.process_lhs(compiler, connection)
        if connection.vendor == "sqlite":
            # SQLite's REGEXP is Python's `re`, which backtracks: register the engine's matcher
            # instead.
            connection.ensure_connection()
            connection.connection.create_function("flotilla_any_glob", 2, _fits, deterministic=True)
            return f"flotilla_any_glob(%s, {left})", (json.dumps(self.rhs), *params)
        tests = list(_tests_of_postgresql(self.rhs))
        sql = " OR ".join(f"{left} {test}" for test, _ in tests)
        return f"({sql})", tuple(p for _, value in tests for p in (*params, value))


class PairOf(Func):
    """`filter(PairOf("namespace", "name", pairs))`: two columns together equal one of the pairs."""

    output_field = BooleanField()

    def __init__(self, first: str, second: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Store each pair once."""
        self.pairs = sorted(set(pairs))
        super().__init__(F(first), F(second))

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> Any:  # type: ignore[override]
        """Use two arrays on PostgreSQL, and a JSON list on SQLite."""
        (first, more), (second, maximum) = map(compiler.compile, self.source_expressions)
        if connection.vendor == "sqlite":
            return f"(({first}, {second}) IN ({_PAIRS}))", (*more, *maximum, json.dumps(self.pairs))
        arrays = [pair[0] for pair in self.pairs], [pair[1] for pair in self.pairs]
        return f"(({first}, {second}) IN ({_ARRAYS}))", (*more, *maximum, *arrays)


def _tests_of_postgresql(globs: Iterable[str]) -> Iterator[tuple[str, Any]]:
    likes, expressions = list[str](), list[str]()
    for glob in globs:
        like = _like(glob)
        if like is None:
            expressions.append(f"(?:{expression(glob)})")
        else:
            likes.append(like)
    if likes:
        yield "LIKE ANY(%s)", likes
    if expressions:
        yield "~ %s", f"^(?:{'|'.join(expressions)})$"


def _like(glob: str) -> str | None:
    """Return a glob as a LIKE pattern, None for one with sets or choices."""
    parts = []
    for token in parse(glob):
        if token.kind == "text":
            parts += [_LIKE.get(c, c) for c in token.text]
        elif token.kind in ("set", "choice"):
            return None
        else:
            parts.append("_" if token.kind == "one" else "%")
    return "".join(parts)


def is_expression(glob: str) -> bool:
    """Return whether PostgreSQL needs a regular expression for a glob."""
    return _like(glob) is None


def _fits(globs: str, text: str | None) -> bool:
    return text is not None and _union(globs)(text)


@functools.lru_cache(maxsize=256)
def _union(globs: str) -> Union:
    return Union(json.loads(globs))
