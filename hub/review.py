"""REST of the audit trail (ours): search, export, check, saved views and the reports that auditors ask for."""

import csv
import hashlib
import io
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.models import CharField, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub import audit, history, trail
from hub.access import require
from hub.api import View, actor, body_map, named_account, number
from hub.engine.audit_chain import canonical, key_id
from hub.engine.errors import Invalid, NotFound
from hub.engine.parsing import time_in_range
from hub.models import (
    AuditCheckpoint,
    AuditEvent,
    AuditLink,
    PendingChange,
    SavedView,
    change_setting,
    locked_setting,
    setting,
)

FIELDS = ("actor", "project", "cluster", "object", "verb", "kind", "outcome", "ticket", "address")
MOST = 1000
UNKNOWN = "outcome unknown"
"""What is shown of a change that was begun and of which nobody knows yet whether it was made."""


def moment(text: str, field: str, *, end: bool = False) -> datetime | None:
    """Return a time or a day of a query, None for none; `end` takes a day to its end.

    Raises: Invalid naming the parameter.
    """
    if not text:
        return None
    try:
        found = parse_datetime(text.replace(" ", "+"))
        day = parse_date(text) if found is None else None
    except ValueError as error:
        raise Invalid(f"{field}: {text[:40]!r} is no time") from error
    if day is not None:
        first = time_in_range(datetime(day.year, day.month, day.day, tzinfo=UTC), field)
        return first + timedelta(days=1 if end else 0)
    if found is None:
        raise Invalid(
            f"{field} must be a day or a time such as 2026-03-01 or 2026-03-01T12:00:00Z, not {text[:40]!r}"
        )
    return time_in_range(timezone.make_aware(found) if timezone.is_naive(found) else found, field)


def condition(params: Any) -> Q:
    """Return the condition that the filters of a query are.

    Raises: Invalid naming the parameter.
    """
    result = Q()
    for field in FIELDS:
        values = [v for v in params.getlist(field) if v]
        if len(values) > 100:
            raise Invalid(f"{field}: at most a hundred values, write team-* for many")
        if values:
            one = Q()
            for value in values:
                if (field, value) == ("outcome", "unknown"):
                    one |= Q(pk__in=PendingChange.objects.values("event"))
                one |= (
                    Q(**{f"{field}__startswith": value[:-1]})
                    if value.endswith("*")
                    else Q(**{field: value})
                )
            result &= one
    start, end = (
        moment(params.get("from", ""), "from"),
        moment(params.get("to", ""), "to", end=True),
    )
    if start:
        result &= Q(at__gte=start)
    if end:
        result &= Q(at__lt=end)
    return result


def search(params: Any) -> QuerySet[AuditEvent]:
    """Return the events that filters and words of a query choose; every word must occur somewhere."""
    rows = AuditEvent.objects.filter(condition(params))
    words = params.get("q", "").split()
    if not words:
        return rows
    if len(words) > 10:
        raise Invalid("q: at most ten words")
    kind = TextField() if connection.vendor == "postgresql" else CharField()
    rows = rows.alias(
        text_who=Cast("who", kind),
        text_detail=Cast("detail", kind),
        text_change=Cast("change", kind),
    )
    for word in words:
        hit = Q()
        for column in (
            "actor",
            "object",
            "verb",
            "kind",
            "project",
            "cluster",
            "reason",
            "ticket",
            "text_who",
            "text_detail",
            "text_change",
        ):
            hit |= Q(**{f"{column}__icontains": word})
        rows = rows.filter(hit)
    return rows


def unknown_among(events: Sequence[AuditEvent]) -> set[int]:
    """Return which events are intents of changes whose outcome is not known yet."""
    intents = [e.pk for e in events if e.outcome == "intent"]
    if not intents:
        return set()
    return set(PendingChange.objects.filter(event__in=intents).values_list("event", flat=True))


def shown(event: AuditEvent, sequence: int | None, *, is_open: bool = False) -> dict[str, Any]:
    """Return an event for a person, with its place in the chain once it has one.

    Shapes: `result` says of an intent that `is_open` that the outcome is unknown; it is no part of the chain.
    """
    found = {**trail.event_json(event), "number": event.pk, "sequence": sequence}
    return {**found, "result": UNKNOWN} if event.outcome == "intent" and is_open else found


def sequences(events: list[AuditEvent]) -> dict[int, int]:
    """Return the places of events in the chain."""
    found = AuditLink.objects.filter(event_id__in=[e.pk for e in events])
    return dict(found.values_list("event_id", "sequence"))


class Events(View):
    """`/flotilla/audit`: search the trail, newest first."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return events; `limit` and `before` page, filters and `q` choose."""
        require(actor(request), "audit", "get", "events")
        limit = min(max(1, number(request, "limit", 100)), MOST)
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
    """`/flotilla/audit/{id}`: one event whole."""

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
        """Export what the filters choose; `format` is jsonl, csv or bundle. Being exported is itself an event."""
        caller = actor(request)
        require(caller, "audit", "export", "events")
        form = request.query_params.get("format", "jsonl")
        if form not in ("jsonl", "csv", "bundle"):
            raise Invalid(f"format must be jsonl, csv or bundle, not {form!r}")
        chosen = search(request.query_params)
        trail.seal()
        trail.checkpoint(force=True)
        filters = {
            k: request.query_params.getlist(k)
            for k in request.query_params
            if k not in ("format", "reason", "ticket")
        }
        answer: HttpResponseBase
        if form == "csv":
            answer = StreamingHttpResponse(_csv(chosen), content_type="text/csv")
        elif form == "bundle":
            answer = StreamingHttpResponse(
                [bundle(chosen, filters)], content_type="application/zip"
            )
        else:
            answer = StreamingHttpResponse(lines(chosen, filters), content_type="application/jsonl")
        with transaction.atomic():
            audit.record(caller.name, "export", "audit", "events", format=form, filters=filters)
        suffix = {"bundle": "zip"}.get(form, form)
        answer["Content-Disposition"] = f'attachment; filename="audit.{suffix}"'
        return answer


def span(chosen: QuerySet[AuditEvent]) -> tuple[int, int]:
    """Return the first and last place in the chain of the events that are chosen, (1, 0) for none."""
    links = AuditLink.objects.filter(event_id__in=chosen.order_by().values("pk"))
    first = links.order_by("sequence").values_list("sequence", flat=True).first()
    last = links.order_by("-sequence").values_list("sequence", flat=True).first()
    return (first, last) if first and last else (1, 0)


def lines(chosen: QuerySet[AuditEvent], filters: dict[str, Any]) -> Iterator[bytes]:
    """Return an export: a head, a line per link from the first to the last chosen event, and the checkpoints."""
    first, last = span(chosen)
    before = AuditLink.objects.filter(sequence=first - 1).first()
    keys = {key_id(k): trail.pem(k) for k in trail.public_keys()}
    head = {
        "flotilla": "audit export",
        "version": 1,
        "exportedAt": trail.stamp(timezone.now()),
        "filters": filters,
        "first": first,
        "last": last,
        "anchor": {"sequence": first - 1, "hash": before.hash} if before else None,
        "expiredThrough": trail.expired_before(),
        "keys": keys,
    }
    yield orjson.dumps(head) + b"\n"
    pks = Q(pk__in=chosen.order_by().values("pk"))
    for row in trail.rows(first, last, pks):
        yield orjson.dumps(row) + b"\n"
    after = AuditCheckpoint.objects.filter(sequence__gte=last).order_by("sequence").first()
    if after is not None and after.sequence > last:
        # The links up to the next signature, so that the last chosen row is covered by one.
        for row in trail.rows(last + 1, after.sequence, Q(pk__in=[])):
            yield orjson.dumps(row) + b"\n"
    end = after.sequence if after else last
    for checkpoint in AuditCheckpoint.objects.filter(sequence__range=(first, end)).order_by(
        "sequence"
    ):
        yield orjson.dumps({"checkpoint": trail.checkpoint_json(checkpoint)}) + b"\n"


_COLUMNS = (
    "at",
    "actor",
    "verb",
    "kind",
    "object",
    "project",
    "cluster",
    "outcome",
    "reason",
    "ticket",
    "address",
    "operation",
    "id",
)


def _csv(chosen: QuerySet[AuditEvent]) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*_COLUMNS, "revisions", "who", "change", "detail"])
    for event in chosen.order_by("pk").iterator(chunk_size=2000):
        row = trail.event_json(event)
        cells = [cell(row[c]) for c in _COLUMNS] + [cell(" ".join(map(str, row["revisions"])))]
        writer.writerow(
            [*cells, *(cell(orjson.dumps(row[c]).decode()) for c in ("who", "change", "detail"))]
        )
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def cell(value: Any) -> str:
    """Return a value as a table of values may hold it."""
    text = "" if value is None else str(value)
    # A spreadsheet would run what begins like a formula, also after spaces, and in wide letters.
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])
    is_formula = first in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n")
    return f"'{text}" if is_formula else text


def bundle(chosen: QuerySet[AuditEvent], filters: dict[str, Any]) -> bytes:
    """Return a zip: the export, a manifest of digests, and the manifest's signature."""
    events = b"".join(lines(chosen, filters))
    table = "".join(_csv(chosen)).encode()
    key = trail.signing_key()
    files = {
        "events.jsonl": events,
        "events.csv": table,
        "public-key.pem": trail.public_pem().encode(),
    }
    manifest = canonical(
        {
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "filters": filters,
            "createdAt": trail.stamp(timezone.now()),
            "keyId": key_id(key.public_key()),
        }
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", manifest)
        archive.writestr("manifest.sig", key.sign(manifest).hex())
    return out.getvalue()


class Verification(View):
    """`/flotilla/audit/verification`: check the chain now, and see the last result."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the last result with its date."""
        require(actor(request), "audit", "get", "verification")
        return Response(setting("audit_verification", {"checkedAt": None}))

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Check the whole trail."""
        caller = actor(request)
        require(caller, "audit", "get", "verification")
        trail.seal()
        return Response(verification(caller.name))


def verification(who: str) -> dict[str, Any]:
    """Check the trail, keep the result, and record that it was done."""
    found = trail.check()
    result = {
        "checkedAt": trail.stamp(timezone.now()),
        "intact": found.is_intact,
        "rows": found.checked,
        "head": found.head,
        "last": found.last,
        "lastSigned": found.last_signed,
        "checkpoints": found.checkpoints,
        "expired": found.expired,
        "problems": list(found.problems),
        "publicKey": trail.public_pem(),
    }
    with transaction.atomic():
        change_setting("audit_verification", result)
        audit.record(
            who,
            "verify",
            "audit",
            "chain",
            intact=str(found.is_intact),
            rows=found.checked,
            problems=list(found.problems)[:3],
        )
    return result


class Retention(View):
    """`/flotilla/audit/retention`: how long events of each class are kept, in days; 0 is for ever."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the days by class."""
        require(actor(request), "audit", "get", "retention")
        return Response({**trail.RETENTION, **setting("audit_retention", {})})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Change days of classes."""
        caller = actor(request)
        require(caller, "audit", "update", "retention")
        body = body_map(request)
        for name, days in body.items():
            if name not in trail.RETENTION:
                raise Invalid(f"{name!r} is no class; there are {', '.join(trail.RETENTION)}")
            if (
                not isinstance(days, int)
                or isinstance(days, bool)
                or not (days == 0 or 30 <= days <= 36_500)
            ):
                raise Invalid(f"{name} must be 0, for ever, or 30 to 36500 days")
        with transaction.atomic():
            before = locked_setting("audit_retention", {})
            change_setting("audit_retention", {**before, **body})
            audit.record(
                caller.name, "update", "audit", "retention", before=before, after={**before, **body}
            )
        return Response({**trail.RETENTION, **before, **body})


class Views(View):
    """`/flotilla/audit/views`: saved searches, own and shared."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List the own views and those that others share."""
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
        """Delete the own view called `name`."""
        require(actor(request), "audit", "get", "events")
        gone, _ = SavedView.objects.filter(
            owner=named_account(request), page="audit", name=request.query_params.get("name", "")
        ).delete()
        if not gone:
            raise NotFound("there is no own view of this name")
        return Response({})


class Forward(View):
    """`/flotilla/audit/forward`: where sealed events are sent on to: syslog, a webhook, or both."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the targets, without the webhook's secret, and how far they are."""
        from hub import forward

        require(actor(request), "audit", "get", "forward")
        return Response(forward.shown())

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Replace the targets: `{syslog: {address, protocol}, webhook: {url, secret}}`."""
        from hub import forward

        caller = actor(request)
        require(caller, "audit", "update", "forward")
        before = forward.shown()
        forward.configure(body_map(request))
        audit.record(
            caller.name, "update", "audit", "forward", before=before, after=forward.shown()
        )
        return Response(forward.shown())


class ChangesReport(View):
    """`/flotilla/audit/reports/changes`: everything that changed in a scope between two times."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the changes that were done, grouped by object; `from` is required."""
        require(actor(request), "audit", "get", "reports")
        return Response(changes(request.query_params))


def changes(params: Any) -> dict[str, Any]:
    """Return the changes that were done, grouped by object.

    Raises: Invalid without `from`, or for a filter that cannot be read.
    """
    if not params.get("from"):
        raise Invalid("from is required: where the report begins")
    rows = list(
        search(params)
        .exclude(outcome="refused")
        .exclude(retention="sign-in")
        .order_by("pk")[: MOST * 10 + 1]
    )
    objects: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in rows[: MOST * 10]:
        objects.setdefault((event.kind, event.object), []).append(
            {
                "at": trail.stamp(event.at),
                "actor": event.actor,
                "verb": event.verb,
                "change": event.change,
                "reason": event.reason,
                "ticket": event.ticket,
                "operation": event.operation,
                "revisions": event.revisions,
                "id": str(event.uid),
            }
        )
    items = [{"kind": k, "object": o, "changes": c} for (k, o), c in sorted(objects.items())]
    return {
        "from": params["from"],
        "to": params.get("to", ""),
        "truncated": len(rows) > MOST * 10,
        "items": items,
    }


class AccessReport(View):
    """`/flotilla/audit/reports/access`: who could do something at a time."""

    permission = ("audit", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return who could do `action` to `object` of `resource` at `at`, by the policies and groups of then."""
        require(actor(request), "audit", "get", "reports")
        from hub.roles import question

        at = moment(request.query_params.get("at", ""), "at")
        if at is None:
            raise Invalid("at is required: the time that the report is about")
        resource, action, name = question(request)
        cluster = request.query_params.get("cluster", "")
        return Response(history.who_could(resource, action, name, at, cluster))
