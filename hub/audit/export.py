"""Export the audit trail: JSON Lines that the verifier checks, CSV, or a signed bundle."""

import csv
import hashlib
import io
import unicodedata
import zipfile
from collections.abc import Iterator
from typing import Any

import orjson
from django.db.models import Q, QuerySet
from django.utils import timezone

from hub.audit import chain
from hub.engine.audit_chain import canonical, key_id
from hub.models import (
    AuditCheckpoint,
    AuditEvent,
    AuditLink,
)


def span(chosen: QuerySet[AuditEvent]) -> tuple[int, int]:
    """Return the first and last sequence in the chain of the chosen events, (1, 0) for none."""
    links = AuditLink.objects.filter(event_id__in=chosen.order_by().values("pk"))
    first = links.order_by("sequence").values_list("sequence", flat=True).first()
    last = links.order_by("-sequence").values_list("sequence", flat=True).first()
    return (first, last) if first and last else (1, 0)


def lines(chosen: QuerySet[AuditEvent], filters: dict[str, Any]) -> Iterator[bytes]:
    """Return an export: a header, a line per link of the chosen span, and the checkpoints."""
    first, last = span(chosen)
    before = AuditLink.objects.filter(sequence=first - 1).first()
    keys = {key_id(k): chain.pem(k) for k in chain.public_keys()}
    head = {
        "flotilla": "audit export",
        "version": 1,
        "exportedAt": chain.stamp(timezone.now()),
        "filters": filters,
        "first": first,
        "last": last,
        "anchor": {"sequence": first - 1, "hash": before.hash} if before else None,
        "expiredThrough": chain.expired_before(),
        "keys": keys,
    }
    yield orjson.dumps(head) + b"\n"
    pks = Q(pk__in=chosen.order_by().values("pk"))
    for row in chain.rows(first, last, pks):
        yield orjson.dumps(row) + b"\n"
    after = AuditCheckpoint.objects.filter(sequence__gte=last).order_by("sequence").first()
    if after is not None and after.sequence > last:
        # Include the links up to the next checkpoint, so that a signature covers the last chosen
        # row.
        for row in chain.rows(last + 1, after.sequence, Q(pk__in=[])):
            yield orjson.dumps(row) + b"\n"
    end = after.sequence if after else last
    for checkpoint in AuditCheckpoint.objects.filter(sequence__range=(first, end)).order_by(
        "sequence"
    ):
        yield orjson.dumps({"checkpoint": chain.checkpoint_json(checkpoint)}) + b"\n"


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


def csv_lines(chosen: QuerySet[AuditEvent]) -> Iterator[str]:
    """Return events as a table, in parts."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*_COLUMNS, "revisions", "who", "change", "detail"])
    for event in chosen.order_by("pk").iterator(chunk_size=2000):
        row = chain.event_json(event)
        cells = [cell(row[c]) for c in _COLUMNS] + [cell(" ".join(map(str, row["revisions"])))]
        writer.writerow(
            [*cells, *(cell(orjson.dumps(row[c]).decode()) for c in ("who", "change", "detail"))]
        )
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def cell(value: Any) -> str:
    """Return a value that is safe in a spreadsheet."""
    text = "" if value is None else str(value)
    # A spreadsheet evaluates text that begins like a formula, also after spaces and in full-width
    # characters.
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])
    is_formula = first in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n")
    return f"'{text}" if is_formula else text


def bundle(chosen: QuerySet[AuditEvent], filters: dict[str, Any]) -> bytes:
    """Return a zip: the export, a manifest of digests, and the manifest's signature."""
    events = b"".join(lines(chosen, filters))
    table = "".join(csv_lines(chosen)).encode()
    key = chain.signing_key()
    files = {
        "events.jsonl": events,
        "events.csv": table,
        "public-key.pem": chain.public_pem().encode(),
    }
    manifest = canonical(
        {
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "filters": filters,
            "createdAt": chain.stamp(timezone.now()),
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
