"""The page of all applications."""

from typing import Any

from django.db.models import prefetch_related_objects
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from hub.access.decisions import Caller, is_allowed
from hub.models import SavedView, current_version
from hub.web.page import Shown, signed_in
from projects.access.listing import PAGE, SORTS, Chosen, Listing, chosen
from projects.access.visibility import visible
from projects.live_pages.application_rows import row_of
from projects.models import Favourite
from projects.pages.summary import charts, states

_PAGE = "applications"


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the applications that match the URL's filters."""
    wanted = chosen(request.GET)
    listing = Listing(caller, wanted)
    version = current_version()
    is_summary = wanted.view == "summary"
    applications = [] if is_summary else listing.rows()
    prefetch_related_objects(applications, "remotes")
    first = (wanted.page - 1) * PAGE
    facets = list(listing.facets())
    stale = next(
        (o.count for f in facets if f.name == "freshness" for o in f.values if o.value == "stale"),
        0,
    )
    shown = states(listing, stale)
    count = shown["count"]
    return render(
        request,
        "applications/index.html",
        {
            "section": "applications",
            "caller": Shown(caller),
            "wanted": wanted,
            "rows": [row_of(a) for a in applications],
            "facets": facets,
            "tokens": list(_tokens(request, wanted)),
            **shown,
            **(charts(listing) if is_summary else {}),
            "total": listing.total(),
            "version": version,
            "sorts": SORTS.items(),
            "sort_word": SORTS[wanted.sort],
            "first": first + 1,
            "last": first + len(applications),
            "previous": wanted.page - 1 if wanted.page > 1 else 0,
            "next": wanted.page + 1 if first + len(applications) < count else 0,
            "favourites": set(
                Favourite.objects.filter(account=caller.account).values_list(
                    "application_id", flat=True
                )
            ),
            "views": _views(caller, request),
            "query": request.GET.urlencode(),
            "may_create": is_allowed(caller, "applications", "create", "*/*"),
        },
    )


def _tokens(request: HttpRequest, wanted: Chosen) -> Any:
    """Yield each active filter with the URL without it."""
    for name, values in wanted.facets.items():
        yield (
            f"{name}: {', '.join(values[:3])}"
            + (f" +{len(values) - 3}" if len(values) > 3 else ""),
            _without(request, name),
        )
    for label in wanted.labels:
        yield f"label: {label}", _without(request, "label", label)
    if wanted.words:
        yield f"“{wanted.words}”", _without(request, "q")
    if wanted.favourites:
        yield "favourites", _without(request, "favourites")


def _without(request: HttpRequest, name: str, value: str = "") -> str:
    query = request.GET.copy()
    kept = [v for v in query.getlist(name) if value and v != value]
    query.pop("page", None)
    query.setlist(name, kept)
    return f"?{query.urlencode()}"


def _views(caller: Caller, request: HttpRequest) -> list[dict[str, Any]]:
    own = SavedView.objects.filter(page=_PAGE, owner=caller.account).order_by("name")
    shared = (
        SavedView.objects.filter(page=_PAGE, is_shared=True)
        .exclude(owner=caller.account)
        .order_by("name")
    )
    present = dict(request.GET.lists())
    return [
        {
            "name": v.name,
            "query": v.query,
            "mine": v.owner_id == getattr(caller.account, "pk", 0),
            "current": v.query == present,
            "pk": v.pk,
        }
        for v in (*own, *shared)
    ]


@require_POST
@signed_in
def save_view(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Store the current filters as a named view, for oneself or for all."""
    query, name = request.POST.get("query", "")[:2000], request.POST.get("name", "").strip()[:100]
    if name and caller.account is not None:
        values = {k: v for k, v in QueryDict(query).lists() if k != "page"}
        SavedView.objects.update_or_create(
            owner=caller.account,
            page=_PAGE,
            name=name,
            defaults={"query": values, "is_shared": "shared" in request.POST},
        )
    return HttpResponseRedirect(f"/applications?{query}")


@require_POST
@signed_in
def remove_view(_request: HttpRequest, caller: Caller, number: int) -> HttpResponse:
    """Delete one of the caller's views."""
    SavedView.objects.filter(pk=number, owner=caller.account, page=_PAGE).delete()
    return HttpResponseRedirect("/applications")


@require_POST
@signed_in
def favourite(request: HttpRequest, caller: Caller, number: int) -> HttpResponse:
    """Add or remove a favourite, and return its button."""
    found = visible(caller).filter(pk=number).first()
    if found is None or caller.account is None:
        return HttpResponse(status=404)
    own = Favourite.objects.filter(account=caller.account, application=found)
    is_on = not own.exists()
    if is_on:
        Favourite.objects.get_or_create(account=caller.account, application=found)
    else:
        own.delete()
    return render(request, "applications/star.html", {"application": found, "on": is_on})
