"""The list endpoint of applications: filters, order, pages and counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import CharField, DateTimeField, F, Q, Value, prefetch_related_objects
from django.db.models.functions import Coalesce
from rest_framework.request import Request

from hub.access.decisions import Caller
from hub.base.query_conditions import PairOf
from hub.engine.errors import Invalid
from hub.engine.project_restrictions import folded_url
from hub.rest.lists import Key, Order, after, facets_of, limit_of, order_of, token_of
from hub.rest.views import actor, selector
from projects.access.listing import TITLES, Chosen, Listing, chosen
from projects.access.visibility import visible
from projects.models import Application, ApplicationQuerySet, Revision
from projects.objects.manifests import application_json

_HEAVY = {
    "resources": "status.resources",
    "summary": "status.summary",
    "conditions": "status.conditions",
    "compared_to": "status.sync.comparedTo",
    "inputs": "-",
    "spec": "spec",
    "labels": "metadata.labels",
    "annotations": "metadata.annotations",
    "finalizers": "metadata.finalizers",
    "source_types": "status.sourceType",
}


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
# Empty columns sort as an empty string, or as never.
_ORDERS: dict[str, Any] = {
    "name": F("name"),
    "namespace": Coalesce("dest_namespace", Value("")),
    "project": F("project"),
    "cluster": Coalesce("cluster__name", Value(""), output_field=CharField()),
    "health": F("health_status"),
    "sync": F("sync_status"),
    "created": F("created_at"),
    "synced": Coalesce("operation__started_at", Value(_NEVER, output_field=DateTimeField())),
}
_FILTERS = ("health", "sync", "cluster", "operation", "freshness", "auto", "set")
_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a list."""

    items: list[dict[str, Any]]
    more: dict[str, Any]
    """The `metadata` about the pages after it."""
    facets: dict[str, dict[str, int]] | None


def _wanted_columns(fields: str) -> set[str]:
    """Return the large columns that the response does not need."""
    if not fields or fields.startswith("-"):
        return {"inputs"}
    paths = [
        p.removeprefix("items.").removeprefix("result.application.") for p in fields.split(",")
    ]
    return {
        column
        for column, path in _HEAVY.items()
        if not any(p == "items" or path.startswith(p) or p.startswith(path) for p in paths)
    }


def _wants(fields: str, path: str) -> bool:
    if not fields or fields.startswith("-"):
        return True
    return any(
        path.startswith(p.removeprefix("items."))
        or p.removeprefix("items.").startswith(path)
        or p == "items"
        for p in fields.split(",")
    )


def _wants_age(fields: str) -> bool:
    return _wants(fields, "status.flotilla") or _wants(fields, "status.reconciledAt")


def listed(request: Request, fields: str = "") -> Found:
    """Return the applications that the query of a request selects, as JSON.

    Raises: Invalid naming the parameter.
    """
    order, limit = order_of(request, list(_ORDERS)), limit_of(request)
    wanted = facets_of(request, TITLES)
    known = after(request, order, 3)
    filtered = _filtered(request)
    query = filtered.alias(sort_value=_ORDERS[order.word]).order_by(*_sorted_by(order))
    if known:
        query = query.filter(_after(known, order))
    rows, cut = _fetched(request, query, fields, limit)
    more = {}
    if cut:
        more = {"continue": token_of(order, _key(rows[-1], order))}
    facets = _facets(request, filtered, wanted) if wanted else None
    if fields and not fields.startswith("-") and _is_narrow(fields):
        return Found([_narrow(row) for row in rows], more, facets)
    history = _history(actor(request), rows) if _wants(fields, "status.history") else {}
    if _wants_age(fields) and len(rows) > 1:
        prefetch_related_objects(rows, "remotes")
    return Found([application_json(r, history=history.get(r.pk, [])) for r in rows], more, facets)


def _filtered(request: Request) -> ApplicationQuerySet:
    """Return the applications that the filters select, except labels and repositories."""
    params = request.query_params
    query = Listing(actor(request), _chosen(request)).query()
    projects = params.getlist("project") or params.getlist("projects")
    if projects:
        query = query.filter(project__one_of=projects)
    if params.get("name"):
        query = query.filter(name=params["name"])
    if params.getlist("names"):
        query = query.filter(_called(params.getlist("names")))
    if params.get("appNamespace"):
        query = query.filter(namespace=params["appNamespace"])
    return query


def _called(names: Sequence[str]) -> Q:
    """Return the condition for applications of these names; `namespace/name` is one application."""
    pairs = [
        (namespace, name) for namespace, slash, name in (n.partition("/") for n in names) if slash
    ]
    anywhere = [n for n in names if "/" not in n]
    return Q(name__one_of=anywhere) | Q(PairOf("namespace", "name", pairs))


def _chosen(request: Request) -> Chosen:
    params = request.query_params.copy()
    for name in set(params) - {*_FILTERS, "q"}:
        params.pop(name)
    return chosen(params)


def _sorted_by(order: Order) -> list[str]:
    sign = "-" if order.descending else ""
    return list(
        dict.fromkeys(
            [
                f"{sign}{'name' if order.word == 'name' else 'sort_value'}",
                f"{sign}name",
                f"{sign}namespace",
            ]
        )
    )


def _after(key: Key, order: Order) -> Q:
    """Return the condition that a row comes after the last one of a page."""
    word = "lt" if order.descending else "gt"
    value: Any = _moment(key[0]) if order.word in ("created", "synced") else str(key[0])
    after_name = Q(**{f"name__{word}": key[1]}) | Q(
        **{"name": key[1], f"namespace__{word}": key[2]}
    )
    if order.word == "name":
        return after_name
    return Q(**{f"sort_value__{word}": value}) | (Q(sort_value=value) & after_name)


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(int(value) / 1_000_000, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise Invalid("continue must be what the page before had in metadata.continue") from error


def _key(row: Application, order: Order) -> Key:
    value: Any = {
        "name": row.name,
        "namespace": row.dest_namespace or "",
        "project": row.project,
        "cluster": row.cluster.name if row.cluster else "",
        "health": row.health_status,
        "sync": row.sync_status,
    }.get(order.word)
    if order.word in ("created", "synced"):
        moment = (
            row.created_at
            if order.word == "created"
            else (row.operation.started_at if row.operation else _NEVER)
        )
        value = round(moment.timestamp() * 1_000_000)
    return value, row.name, row.namespace


def _fetched(
    request: Request, query: ApplicationQuerySet, fields: str, limit: int
) -> tuple[list[Application], bool]:
    """Return the rows of a page, and whether more follow."""
    params = request.query_params
    query = query.defer(*_wanted_columns(fields))
    if _wants(fields, "status.operationState") or _wants(fields, "operation"):
        query = query.select_related("operation")
    if _wants_age(fields):
        query = query.select_related("cluster")
    # Labels and repositories are filtered in Python; without them the database can stop early.
    is_plain = not params.get("selector") and not params.get("repo")
    rows = list(query[: limit + 1] if limit and is_plain else query)
    if not is_plain:
        rows = _fitting(request, rows)
    return (rows[:limit], len(rows) > limit) if limit else (rows, False)


def _fitting(request: Request, rows: Sequence[Application]) -> list[Application]:
    """Return the rows with the requested labels and repositories."""
    fits, url = selector(request.query_params.get("selector", "")), request.query_params.get("repo")
    wanted = folded_url(url) if url else ""
    return [
        row
        for row in rows
        if fits(row.labels)
        and (
            not wanted or any(folded_url(str(s.get("repoURL", ""))) == wanted for s in row.sources)
        )
    ]


def _facets(
    request: Request, query: ApplicationQuerySet, wanted: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the number of selected applications on all pages, by value."""
    params = request.query_params
    bases = [query]
    if params.get("selector") or params.get("repo"):
        pks = [row.pk for row in _fitting(request, list(query.only("pk", "labels", "spec")))]
        bases = [
            Application.objects.filter(pk__in=pks[start : start + _CHUNK])
            for start in range(0, len(pks), _CHUNK)
        ]
    result: dict[str, dict[str, int]] = {name: {} for name in wanted}
    for base in bases:
        listing = Listing(actor(request), chosen(params.__class__()), base)
        for name in wanted:
            for value, count in listing.facet_counts(name).items():
                result[name][value] = result[name].get(value, 0) + count
    return {name: {v: n for v, n in counts.items() if n} for name, counts in result.items()}


def _history(caller: Caller, rows: Sequence[Application]) -> dict[int, list[Revision]]:
    found: dict[int, list[Revision]] = {}
    few = len(rows) < 500
    revisions = (
        Revision.objects.filter(application_id__in=[r.pk for r in rows])
        if few
        else Revision.objects.filter(application__in=visible(caller))
    )
    for revision in revisions:
        found.setdefault(revision.application_id, []).append(revision)
    return found


_NARROW = {
    "items.metadata.name",
    "items.metadata.namespace",
    "items.metadata.resourceVersion",
    "items.status.sync.status",
    "items.status.sync.revision",
    "items.status.sync",
    "items.status.health",
    "items.status.health.status",
    "metadata.resourceVersion",
}


def _is_narrow(fields: str) -> bool:
    return set(fields.split(",")) <= _NARROW - {"items.status.sync"}


def _narrow(row: Application) -> dict[str, Any]:
    sync: dict[str, Any] = {"status": row.sync_status}
    if row.revisions:
        sync["revision"] = row.revisions[0]
    return {
        "metadata": {
            "name": row.name,
            "namespace": row.namespace,
            "resourceVersion": str(row.resource_version),
        },
        "status": {"sync": sync, "health": {"status": row.health_status}},
    }
