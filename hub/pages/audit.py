"""Pages of the audit trail, with the same checks as the REST API."""

from urllib.parse import urlencode

import orjson
from django.db.models import Q
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    QueryDict,
)
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from hub.access.decisions import Caller, is_allowed, require
from hub.audit import chain, reports, search
from hub.engine.errors import (
    Invalid,
)
from hub.engine.parsing import parse_digits
from hub.models import (
    AuditCheckpoint,
    AuditEvent,
    SavedView,
    setting,
)
from hub.web.page import Shown, signed_in

MAX_NEWER = 99
FILTERS = ("actor", "project", "cluster", "kind", "object", "verb", "outcome", "from", "to")


@signed_in
def trail_page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the trail with its filters."""
    require(caller, "audit", "get", "events")
    params, error = request.GET, ""
    try:
        rows = search.search(params).order_by("-pk")
        if (before := parse_digits(params.get("before", ""))) is not None:
            rows = rows.filter(pk__lt=before)
        events = list(rows[:101])
    except Invalid as problem:
        events, error = [], str(problem)
    places = search.sequences(events)
    kept = QueryDict(mutable=True)
    for name, values in params.lists():
        if name != "before":
            kept.setlist(name, [v for v in values if v])
    query = kept.urlencode()
    older = (
        urlencode({"before": events[99].pk}) + (f"&{query}" if query else "")
        if len(events) > 100
        else ""
    )
    views = SavedView.objects.filter(page="audit").filter(
        Q(owner=caller.account) | Q(is_shared=True)
    )
    unknown = search.unknown_among(events)
    return render(
        request,
        "audit/list.html",
        {
            "section": "audit",
            "caller": Shown(caller),
            "events": [
                search.shown(e, places.get(e.pk), is_open=e.pk in unknown) for e in events[:100]
            ],
            "error": error,
            "fields": [{"name": f, "value": params.get(f, "")} for f in FILTERS],
            "filtered": any(params.get(f) for f in FILTERS),
            "params": {"q": params.get("q", "")},
            "query": query,
            "older": older,
            "proof": setting("audit_verification", {}),
            "newest": (events[0].pk if events else 0)
            if not (error or params.get("before"))
            else None,
            "views": [{"name": v.name, "query": urlencode(v.query, doseq=True)} for v in views],
            "may_export": is_allowed(caller, "audit", "export", "events"),
        },
    )


@require_GET
@signed_in
def newer_events(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Report the number of events that match the filters and are newer than the page."""
    require(caller, "audit", "get", "events")
    after = parse_digits(request.GET.get("after", ""))
    if after is None:
        raise Http404
    try:
        rows = search.search(request.GET).filter(pk__gt=after)
    except Invalid as problem:
        raise Http404 from problem
    kept = request.GET.copy()
    kept.pop("after", None)
    count = len(rows.values_list("pk", flat=True)[: MAX_NEWER + 1])
    return render(
        request,
        "audit/newer.html",
        {
            "count": min(count, MAX_NEWER),
            "more": count > MAX_NEWER,
            "after": after,
            "query": kept.urlencode(),
        },
    )


@signed_in
def event_page(request: HttpRequest, caller: Caller, uid: str) -> HttpResponse:
    """Show one event in full."""
    require(caller, "audit", "get", "events")
    found = AuditEvent.objects.filter(uid=uid).first()
    if found is None:
        raise Http404
    is_open = bool(search.unknown_among([found]))
    event = search.shown(found, search.sequences([found]).get(found.pk), is_open=is_open)
    facts = [
        (n, event[n])
        for n in (
            "at",
            "actor",
            "address",
            "verb",
            "kind",
            "object",
            "project",
            "cluster",
            "outcome",
            "result",
            "reason",
            "ticket",
            "operation",
        )
        if event.get(n) not in ("", None)
    ]
    facts += list(event["who"].items())
    raw = orjson.dumps(event, option=orjson.OPT_INDENT_2).decode()
    return render(
        request,
        "audit/event.html",
        {"section": "audit", "caller": Shown(caller), "event": event, "facts": facts, "raw": raw},
    )


@signed_in
def verification_page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the last verification of the hash chain, and the keys that sign it."""
    require(caller, "audit", "get", "verification")
    checkpoints = list(AuditCheckpoint.objects.order_by("-sequence")[:50])
    return render(
        request,
        "audit/verification.html",
        {
            "section": "audit",
            "caller": Shown(caller),
            "proof": setting("audit_verification", {}),
            "checkpoints": checkpoints,
            "total": AuditCheckpoint.objects.count(),
            "events": AuditEvent.objects.count(),
            "pem": chain.public_pem(),
            "retention": {**chain.RETENTION, **setting("audit_retention", {})},
        },
    )


@require_POST
@signed_in
def verify_trail(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Verify the hash chain now."""
    del request
    require(caller, "audit", "get", "verification")
    chain.seal()
    reports.verification(caller.name)
    return HttpResponseRedirect("/audit/verification")


@require_POST
@signed_in
def save_view(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Save the current filters as a view."""
    require(caller, "audit", "get", "events")
    query, name = request.POST.get("query", "")[:2000], request.POST.get("name", "")[:100].strip()
    if name and caller.account is not None:
        values = {k: v for k, v in QueryDict(query).lists() if k != "before"}
        SavedView.objects.update_or_create(
            owner=caller.account, page="audit", name=name, defaults={"query": values}
        )
    return HttpResponseRedirect(f"/audit?{query}" if query else "/audit")
