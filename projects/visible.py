"""Which applications a caller may see or act on, as one condition of a query.

The compiled policy becomes SQL: an application is in when a rule that allows fits and none that denies.
"""

from typing import Any

from django.conf import settings
from django.db.models import Case, CharField, F, Lookup, Q, Value, When
from django.db.models.functions import Concat

from clusters.models import Cluster
from hub.access import Caller, decide, enforcer, reach
from hub.engine.globs import expression, matches, parse
from hub.engine.rbac import Rule
from projects.models import Application, ApplicationQuerySet

_WILD = frozenset("*?[]{}\\")


@CharField.register_lookup
class Glob(Lookup):
    """`column__glob="team-*"`: globs as `hub.engine.globs` reads them, where `*` crosses "/"; cases differ."""

    lookup_name = "glob"

    def get_prep_lookup(self) -> Any:
        """Take the pattern as it is."""
        return self.rhs

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Write what the database answers in linear time: never a backtracking expression."""
        left, left_params = self.process_lhs(compiler, connection)
        pattern = _simple(self.rhs, *(_GLOB if connection.vendor == "sqlite" else _LIKE))
        if connection.vendor == "sqlite":
            if pattern is not None:
                return f"{left} GLOB %s", (*left_params, pattern)
            # SQLite's REGEXP is Python's `re`: it is given the matcher in its place.
            connection.ensure_connection()
            connection.connection.create_function("flotilla_glob", 2, _fits, deterministic=True)
            return f"flotilla_glob(%s, {left})", (self.rhs, *left_params)
        if pattern is not None:
            return f"{left} LIKE %s", (*left_params, pattern)
        return f"{left} ~ %s", (*left_params, f"^(?:{expression(self.rhs)})$")


# How any text, one character and a literal character are written. Both search in steps of
# pattern times text at most.
_GLOB: tuple[str, str, dict[str, str]] = ("*", "?", {c: f"[{c}]" for c in "*?["})
_LIKE: tuple[str, str, dict[str, str]] = ("%", "_", {c: f"\\{c}" for c in "\\%_"})


def _simple(glob: str, many: str, one: str, escapes: dict[str, str]) -> str | None:
    """Return a glob in a database's own words, None for one with sets or choices."""
    parts = []
    for token in parse(glob):
        if token.kind == "text":
            parts += [escapes.get(c, c) for c in token.text]
        elif token.kind in ("set", "choice"):
            return None
        else:
            parts.append(one if token.kind == "one" else many)
    return "".join(parts)


def _fits(pattern: str, text: str | None) -> bool:
    return text is not None and matches(pattern, text)


_OBJECT = Case(
    When(namespace=Value(settings.NAMESPACE), then=Concat(F("project"), Value("/"), F("name"))),
    default=Concat(F("project"), Value("/"), F("namespace"), Value("/"), F("name")),
    output_field=CharField(),
)


def visible(
    caller: Caller, query: ApplicationQuerySet | None = None, *, resource: str = "applications", action: str = "get"
) -> ApplicationQuerySet:  # fmt: skip
    """Return the applications of a query that a caller may do an action to."""
    query = Application.objects.all() if query is None else query
    found = reach(caller, resource, action)
    if not found.allow or (caller.account is not None and not caller.account.enabled):
        return query.none()
    if enforcer().mode == "regex":
        return _checked_one_by_one(caller, query, resource, action)
    places = _Places()
    allowed = _any(found.allow, places)
    denied = _any(found.deny, places)
    needs_object = any(not _is_simple(r.object) for r in (*found.allow, *found.deny))
    if needs_object:
        query = query.alias(policy_object=_OBJECT)
    if allowed is not None:
        query = query.filter(allowed)
    if found.deny:
        query = query.none() if denied is None else query.exclude(denied)
    return query


def _checked_one_by_one(
    caller: Caller, query: ApplicationQuerySet, resource: str, action: str
) -> ApplicationQuerySet:
    # Regular expressions of people mean different things to Python and to a database.
    rows = query.select_related("cluster").only("pk", "project", "namespace", "name", "cluster__name", "cluster__server", "cluster__labels")  # fmt: skip
    kept = [
        row.pk
        for row in rows
        if decide(caller, resource, action, row.rbac_object, row.where).allowed
    ]
    return query.filter(pk__in=kept)


class _Places:
    """The clusters, read when the first rule asks for some of them."""

    def __init__(self) -> None:
        self._rows: list[Cluster] | None = None

    def covered(self, rule: Rule) -> list[int]:
        if self._rows is None:
            self._rows = list(Cluster.objects.only("pk", "name", "server", "labels"))
        return [c.pk for c in self._rows if rule.where and rule.where.covers(c.where)]


def _any(rules: tuple[Rule, ...], places: _Places) -> Q | None:
    """Return the condition that one of the rules fits; None when one fits everything."""
    result, projects = Q(pk__in=[]), set[str]()
    for rule in dict.fromkeys((r.object, r.where, r.project) for r in rules):
        text, where, project = rule
        if text in ("*", "*/*", "**") and where is None and not project:
            return None
        if where is None and text.endswith("/*") and _is_plain(text[:-2]) and "/" not in text[:-2] and project in ("", text[:-2]):  # fmt: skip
            projects.add(text[:-2])
            continue
        condition = _object(text)
        if project:
            condition &= Q(project=project)
        if where is not None:
            scoped = next(r for r in rules if (r.object, r.where, r.project) == rule)
            condition &= Q(cluster_id__in=places.covered(scoped))
        result |= condition
    return result | Q(project__in=projects) if projects else result


def _is_simple(text: str) -> bool:
    return text in ("*", "*/*", "**") or bool(
        text.endswith("/*") and _is_plain(text[:-2]) and "/" not in text[:-2]
    )


def _object(text: str) -> Q:
    if text in ("*", "*/*", "**"):
        return Q()
    if _is_simple(text):
        return Q(project=text[:-2])
    if _is_plain(text):
        return Q(policy_object=text)
    return Q(policy_object__glob=text)


def _is_plain(text: str) -> bool:
    return not _WILD & set(text)
