"""REST of the audit trail (ours): search, export, verification, saved views and reports."""

import orjson
from django.db import transaction
from django.db.models import Q
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access import history
from hub.access.decisions import require
from hub.api.access import question
from hub.audit import chain, forwarding, trail
from hub.audit.export import bundle, csv_lines, lines
from hub.audit.reports import changes, verification
from hub.audit.search import MAX_EVENTS, moment, search, sequences, shown, unknown_among
from hub.engine.errors import Invalid, NotFound
from hub.models import (
    AuditEvent,
    SavedView,
    change_setting,
    locked_setting,
    setting,
)
from hub.rest.views import View, actor, body_map, named_account, number


class Events(View):
    """`/flotilla/audit`: search the trail, newest first."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return events, filtered by parameters and `q`, in pages by `limit` and `before`."""
        require(actor(request), "audit", "get", "events")
        limit = min(max(1, number(request, "limit", 100)), MAX_EVENTS)
        rows = search(request.query_params).order_by("-pk")
        before = number(request, "before")
        if before:
            rows = rows.filter(pk__lt=before)
        events = list(rows[: limit + 1])
        places = sequences(events)
        unknown = unknown_among(events)
        items = [shown(e, places.get(e.pk), is_open=e.pk in unknown) for e in events[:limit]]
        more = {"before": events[limit - 1].pk} if len(events) > limit else {}
        return Response({"items": items, "metadata": more})


class OneEvent(View):
    """`/flotilla/audit/{id}`: one event in full."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, uid: str) -> Response:
        """Return an event."""
        require(actor(request), "audit", "get", "events")
        event = AuditEvent.objects.filter(uid=uid).first()
        if event is None:
            raise NotFound(f"there is no event {uid}")
        is_open = bool(unknown_among([event]))
        return Response(shown(event, sequences([event]).get(event.pk), is_open=is_open))


class Export(View):
    """`/flotilla/audit/export`: JSON Lines that the verifier checks, CSV, or a signed bundle."""

    permission = ("audit", "export")

    @extend_schema(responses=OpenApiTypes.STR)
    def get(self, request: Request) -> HttpResponseBase:
        """Export the filtered events; `format` is jsonl, csv or bundle.

        The export itself is recorded as an event.
        """
        caller = actor(request)
        require(caller, "audit", "export", "events")
        form = request.query_params.get("format", "jsonl")
        if form not in ("jsonl", "csv", "bundle"):
            raise Invalid(f"format must be jsonl, csv or bundle, not {form!r}")
        chosen = search(request.query_params)
        chain.seal()
        chain.checkpoint(force=True)
        filters = {
            k: request.query_params.getlist(k)
            for k in request.query_params
            if k not in ("format", "reason", "ticket")
        }
        answer: HttpResponseBase
        if form == "csv":
            answer = StreamingHttpResponse(csv_lines(chosen), content_type="text/csv")
        elif form == "bundle":
            answer = StreamingHttpResponse(
                [bundle(chosen, filters)], content_type="application/zip"
            )
        else:
            answer = StreamingHttpResponse(lines(chosen, filters), content_type="application/jsonl")
        with transaction.atomic():
            trail.record(caller.name, "export", "audit", "events", format=form, filters=filters)
        suffix = {"bundle": "zip"}.get(form, form)
        answer["Content-Disposition"] = f'attachment; filename="audit.{suffix}"'
        return answer


class Verification(View):
    """`/flotilla/audit/verification`: verify the chain, and read the last result."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the last result with its date."""
        require(actor(request), "audit", "get", "verification")
        return Response(setting("audit_verification", {"checkedAt": None}))

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Verify the whole trail."""
        caller = actor(request)
        require(caller, "audit", "get", "verification")
        chain.seal()
        return Response(verification(caller.name))


class Retention(View):
    """`/flotilla/audit/retention`: how long events of each class are kept.

    Units: days; 0 is for ever.
    """

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the days by class."""
        require(actor(request), "audit", "get", "retention")
        return Response({**chain.RETENTION, **setting("audit_retention", {})})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Update the days of classes."""
        caller = actor(request)
        require(caller, "audit", "update", "retention")
        body = body_map(request)
        for name, days in body.items():
            if name not in chain.RETENTION:
                classes = ", ".join(chain.RETENTION)
                raise Invalid(f"{name!r} is not a class; the classes are {classes}")
            if (
                not isinstance(days, int)
                or isinstance(days, bool)
                or not (days == 0 or 30 <= days <= 36_500)
            ):
                raise Invalid(f"{name} must be 0, for ever, or 30 to 36500 days")
        with transaction.atomic():
            before = locked_setting("audit_retention", {})
            change_setting("audit_retention", {**before, **body})
            trail.record(
                caller.name, "update", "audit", "retention", before=before, after={**before, **body}
            )
        return Response({**chain.RETENTION, **before, **body})


class Views(View):
    """`/flotilla/audit/views`: saved searches, own and shared."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List your own views and those that others share."""
        require(actor(request), "audit", "get", "events")
        own = named_account(request)
        found = (
            SavedView.objects.filter(page="audit")
            .filter(Q(owner=own) | Q(is_shared=True))
            .select_related("owner")
            .order_by("name")
        )
        return Response(
            {
                "items": [
                    {
                        "name": v.name,
                        "query": v.query,
                        "shared": v.is_shared,
                        "owner": v.owner.shown_name,
                        "mine": v.owner_id == own.pk,
                    }
                    for v in found
                ]
            }
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Save a search: `{name, query, shared}`."""
        require(actor(request), "audit", "get", "events")
        body = body_map(request)
        name, query = body.get("name"), body.get("query")
        if not isinstance(name, str) or not 0 < len(name) <= 100 or not isinstance(query, dict):
            raise Invalid("name, of at most 100 characters, and query, an object, are required")
        if len(orjson.dumps(query)) > 4000:
            raise Invalid("query must be at most 4000 bytes")
        view, _new = SavedView.objects.update_or_create(
            owner=named_account(request),
            page="audit",
            name=name,
            defaults={"query": query, "is_shared": bool(body.get("shared"))},
        )
        return Response({"name": view.name, "query": view.query, "shared": view.is_shared})

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request) -> Response:
        """Delete your own view called `name`."""
        require(actor(request), "audit", "get", "events")
        gone, _ = SavedView.objects.filter(
            owner=named_account(request), page="audit", name=request.query_params.get("name", "")
        ).delete()
        if not gone:
            raise NotFound("there is no own view of this name")
        return Response({})


class Forward(View):
    """`/flotilla/audit/forward`: the targets of sealed events: syslog, a webhook, or both."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the targets, without the webhook's secret, and their progress."""
        require(actor(request), "audit", "get", "forward")
        return Response(forwarding.shown())

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Replace the targets: `{syslog: {address, protocol}, webhook: {url, secret}}`."""
        caller = actor(request)
        require(caller, "audit", "update", "forward")
        before = forwarding.shown()
        forwarding.configure(body_map(request))
        trail.record(
            caller.name, "update", "audit", "forward", before=before, after=forwarding.shown()
        )
        return Response(forwarding.shown())


class ChangesReport(View):
    """`/flotilla/audit/reports/changes`: all changes in a scope between two times."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the changes, grouped by object; `from` is required."""
        require(actor(request), "audit", "get", "reports")
        return Response(changes(request.query_params))


class AccessReport(View):
    """`/flotilla/audit/reports/access`: who could do something at a past time."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return who could do `action` to `object` of `resource` at the time `at`.

        It applies the policies and groups of that time.
        """
        require(actor(request), "audit", "get", "reports")
        at = moment(request.query_params.get("at", ""), "at")
        if at is None:
            raise Invalid("at is required: the time that the report is about")
        resource, action, name = question(request)
        cluster = request.query_params.get("cluster", "")
        return Response(history.who_could(resource, action, name, at, cluster))
