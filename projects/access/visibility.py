"""Select the applications that a caller may see or act on, as one condition of a query.

The RBAC policy is translated to SQL: an application is selected if a rule allows it and no rule
denies it.
"""

from collections.abc import Iterable, Sequence

from django.conf import settings
from django.db.models import Case, CharField, F, Q, Value, When
from django.db.models.functions import Concat

from clusters.models import Cluster
from hub.access.decisions import Caller, decide_by, enforcer, reach
from hub.base.query_conditions import is_expression
from hub.engine.cluster_scopes import Scope
from hub.engine.rbac_rules import ObjectSet
from projects.models import Application, ApplicationQuerySet

# Larger policies are decided for each application in Python: longer statements are too deep for
# SQLite, and more regular expressions are too slow for PostgreSQL.
_MAX_SETS = 100
_MAX_GLOBS = 5000
_MAX_EXPRESSIONS, _MAX_EXPRESSION_CHARS = 50, 4096

_OBJECT = Case(
    When(namespace=Value(settings.NAMESPACE), then=Concat(F("project"), Value("/"), F("name"))),
    default=Concat(F("project"), Value("/"), F("namespace"), Value("/"), F("name")),
    output_field=CharField(),
)


def visible(
    caller: Caller,
    query: ApplicationQuerySet | None = None,
    *,
    resource: str = "applications",
    action: str = "get",
) -> ApplicationQuerySet:
    """Return the applications of a query on which a caller may perform an action."""
    query = Application.objects.all() if query is None else query
    found = reach(caller, resource, action)
    if not found.allow or (caller.account is not None and not caller.account.enabled):
        return query.none()
    # User-defined regular expressions differ between Python and databases.
    if enforcer().mode == "regex" or not _fits_a_statement((*found.allowed, *found.denied)):
        return _checked_one_by_one(caller, query, resource, action)
    places = _Places()
    allowed, denied = _any(found.allowed, places), _any(found.denied, places)
    if any(s.names or s.globs for s in (*found.allowed, *found.denied)):
        query = query.alias(policy_object=_OBJECT)
    if allowed is not None:
        query = query.filter(allowed)
    if found.deny:
        query = query.none() if denied is None else query.exclude(denied)
    return query


def _fits_a_statement(sets: Sequence[ObjectSet]) -> bool:
    globs = [glob for one in sets for glob in one.globs]
    if len(sets) > _MAX_SETS or len(globs) > _MAX_GLOBS:
        return False
    expressions = [glob for glob in globs if is_expression(glob)]
    if len(expressions) > _MAX_EXPRESSIONS:
        return False
    return sum(map(len, expressions)) <= _MAX_EXPRESSION_CHARS


def _checked_one_by_one(
    caller: Caller, query: ApplicationQuerySet, resource: str, action: str
) -> ApplicationQuerySet:
    rows = query.select_related("cluster").only(
        "pk",
        "project",
        "namespace",
        "name",
        "cluster__name",
        "cluster__server",
        "cluster__labels",
    )
    kept = [
        row.pk
        for row in rows
        if decide_by(caller.rights, resource, action, row.rbac_object, row.where).allowed
    ]
    return query.filter(pk__one_of=kept)


class _Places:
    """The clusters, loaded when the first rule needs them."""

    def __init__(self) -> None:
        self._rows: list[Cluster] | None = None

    def covered(self, where: Scope) -> list[int]:
        if self._rows is None:
            self._rows = list(Cluster.objects.only("pk", "name", "server", "labels"))
        return [c.pk for c in self._rows if where.covers(c.where)]


def _any(sets: Iterable[ObjectSet], places: _Places) -> Q | None:
    """Return the condition that an object is in one of the sets, None if one has all."""
    result = Q(pk__in=[])
    for one in sets:
        if one.everything and one.where is None and not one.project:
            return None
        condition = Q() if one.everything else _objects(one)
        if one.project:
            condition &= Q(project=one.project)
        if one.where is not None:
            condition &= Q(cluster__pk__one_of=places.covered(one.where))
        result |= condition
    return result


def _objects(one: ObjectSet) -> Q:
    found = Q(pk__in=[])
    if one.projects:
        found |= Q(project__one_of=one.projects)
    if one.names:
        found |= Q(policy_object__one_of=one.names)
    if one.globs:
        found |= Q(policy_object__any_glob=one.globs)
    return found
