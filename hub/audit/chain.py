"""Chain, sign, check, export and retain the audit trail.

Every transaction writes its own events without waiting for others. One sealer, the process with the
lease, appends committed events to the chain a moment later, so the chain never forks and never
blocks a write.
"""

import contextlib
import fcntl
import functools
import hashlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from django.utils import timezone

from hub.audit import trail
from hub.engine.audit_chain import (
    GENESIS,
    Verdict,
    digest_of,
    key_id,
    link_hash,
    sign,
    verify,
)
from hub.models import (
    AuditCheckpoint,
    AuditEvent,
    AuditGate,
    AuditLink,
    setting,
)

log = logging.getLogger(__name__)

BATCH = 2000
LATE_EVENTS = 20_000
CHECKPOINT_EVERY = 500
CHECKPOINT_AFTER = timedelta(minutes=5)
# PostgreSQL's advisory locks.
_LOCKS = {"seal": 0x466C6F74, "forward": 0x466C6F75}
RETENTION = {"sign-in": 400, "refusal": 400, "change": 0, "access": 0}
"""Retention of each class of events in days; 0 is for ever.

The setting `audit_retention` changes it.
"""


def stamp(at: datetime) -> str:
    """Return a time in the format of events."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event_json(event: AuditEvent) -> dict[str, Any]:
    """Return an event as JSON for digests, pages and exports."""
    return {
        "id": str(event.uid),
        "at": stamp(event.at),
        "actor": event.actor,
        "who": event.who,
        "address": event.address,
        "verb": event.verb,
        "kind": event.kind,
        "object": event.object,
        "project": event.project,
        "cluster": event.cluster,
        "outcome": event.outcome,
        "reason": event.reason,
        "ticket": event.ticket,
        "operation": event.operation,
        "revisions": event.revisions,
        "change": event.change,
        "detail": event.detail,
        "class": event.retention,
    }


@functools.lru_cache(maxsize=2)
def _load_key(path: str, _modified: float) -> Ed25519PrivateKey:
    key = load_pem_private_key(Path(path).read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} must hold an Ed25519 private key in PEM form")
    return key


def signing_key() -> Ed25519PrivateKey:
    """Return the key that signs checkpoints; it is never in the database.

    HUB_AUDIT_KEY_FILE names its file; without one it is derived from HUB_SECRET_KEY.
    """
    if settings.AUDIT_KEY_FILE:
        path = Path(settings.AUDIT_KEY_FILE)
        return _load_key(str(path), path.stat().st_mtime)
    return _derived(settings.SECRET_KEY)


def _derived(secret: str) -> Ed25519PrivateKey:
    seed = hashlib.sha256(b"flotilla audit key\0" + secret.encode()).digest()
    return Ed25519PrivateKey.from_private_bytes(seed)


def public_keys() -> list[Ed25519PublicKey]:
    """Return the keys whose signatures are valid: today's and those of former secret keys."""
    former = [_derived(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    return [key.public_key() for key in (signing_key(), *former)]


def pem(public: Ed25519PublicKey) -> str:
    """Return a public key as text."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_pem() -> str:
    """Return the public half of the signing key."""
    return pem(signing_key().public_key())


def _unsealed(*, whole: bool) -> QuerySet[AuditEvent]:
    rows = AuditEvent.objects.filter(~Exists(AuditLink.objects.filter(event_id=OuterRef("pk"))))
    if not whole:
        # Transactions commit out of order, but within this time; the hourly run checks everything.
        newest = AuditLink.objects.aggregate(newest=Max("event_id"))["newest"] or 0
        rows = rows.filter(pk__gt=newest - LATE_EVENTS)
    return rows.order_by("pk")


def has_unsealed() -> bool:
    """Return whether events are not in the chain yet."""
    return _unsealed(whole=False).exists()


def seal(*, whole: bool = False) -> int:
    """Append committed events to the chain; return how many. Only one process does it at a time."""
    total = 0
    while (done := _seal_batch(whole=whole)) > 0:
        total += done
    if total:
        checkpoint()
    return total


def _seal_batch(*, whole: bool) -> int:
    with only_one("seal") as mine:
        if not mine:
            return 0
        with transaction.atomic():
            last = AuditLink.objects.order_by("-sequence").first()
            events = list(_unsealed(whole=whole)[:BATCH])
            sequence, previous = (last.sequence, last.hash) if last else (0, GENESIS)
            links = []
            for event in events:
                sequence += 1
                digest = digest_of(event_json(event))
                previous = link_hash(previous, sequence, digest)
                links.append(
                    AuditLink(sequence=sequence, event_id=event.pk, digest=digest, hash=previous)
                )
            AuditLink.objects.bulk_create(links)
    return len(links)


@contextlib.contextmanager
def only_one(work: str) -> Iterator[bool]:
    """Return whether this process holds the lock of a task: `seal` or `forward`."""
    lock = _LOCKS[work]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [lock])
            (mine,) = cursor.fetchone()
            try:
                yield bool(mine)
            finally:
                if mine:
                    cursor.execute("SELECT pg_advisory_unlock(%s)", [lock])
        return
    # SQLite serves one machine: a file lock is enough, and IMMEDIATE transactions protect the rest.
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    with (Path(settings.DATA_DIR) / f"audit-{work}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def checkpoint(*, force: bool = False) -> AuditCheckpoint | None:
    """Sign the newest link, if enough has happened since the last signature."""
    head = AuditLink.objects.order_by("-sequence").first()
    last = AuditCheckpoint.objects.order_by("-sequence").first()
    if head is None or (last and last.sequence >= head.sequence):
        return last
    now = timezone.now()
    if (
        not force
        and last
        and head.sequence - last.sequence < CHECKPOINT_EVERY
        and now - last.at < CHECKPOINT_AFTER
    ):
        return last
    key = signing_key()
    return AuditCheckpoint.objects.get_or_create(
        sequence=head.sequence,
        defaults={
            "hash": head.hash,
            "at": now,
            "key_id": key_id(key.public_key()),
            "signature": sign(key, head.sequence, head.hash, stamp(now)),
        },
    )[0]


def checkpoint_json(row: AuditCheckpoint) -> dict[str, Any]:
    """Return a checkpoint in the format of exports."""
    return {
        "sequence": row.sequence,
        "hash": row.hash,
        "at": stamp(row.at),
        "keyId": row.key_id,
        "signature": row.signature,
    }


def rows(first: int, last: int, chosen: Q | None = None) -> Iterator[dict[str, Any]]:
    """Yield the links in order; with their events, if these are selected."""
    for start in range(first, last + 1, BATCH):
        end = min(last, start + BATCH - 1)
        links = list(AuditLink.objects.filter(sequence__range=(start, end)).order_by("sequence"))
        query = AuditEvent.objects.filter(pk__in=[link.event_id for link in links])
        events = {e.pk: e for e in (query.filter(chosen) if chosen is not None else query)}
        present = set(events) if chosen is None else set(query.values_list("pk", flat=True))
        for link in links:
            row: dict[str, Any] = {
                "sequence": link.sequence,
                "digest": link.digest,
                "hash": link.hash,
            }
            if link.event_id in events:
                row["event"] = event_json(events[link.event_id])
            elif link.event_id not in present:
                row["expired"] = True
            yield row


def check() -> Verdict:
    """Check the whole trail of this hub; gaps that retention does not explain are reported."""
    head = AuditLink.objects.order_by("-sequence").first()
    return verify(
        _explained(head.sequence if head else 0),
        [checkpoint_json(c) for c in AuditCheckpoint.objects.order_by("sequence")],
        public_keys(),
    )


def _explained(last: int) -> Iterator[dict[str, Any]]:
    """Return the rows; an event that is gone without a record of retention counts as altered."""
    removed = expired_before()
    for row in rows(1, last):
        if row.get("expired") and row["sequence"] > removed:
            yield {**row, "event": {"missing": "no event of retention explains that it is missing"}}
        else:
            yield row


def expired_before() -> int:
    """Return the last sequence that retention has removed, according to its own events."""
    found = (
        AuditEvent.objects.filter(verb="expire", kind="audit", actor="hub").order_by("-pk").first()
    )
    return int(found.detail.get("through") or 0) if found else 0


def retain(now: datetime) -> int:
    """Remove events whose retention period is over.

    Their links stay, so that the chain can be checked.
    """
    days = {**RETENTION, **setting("audit_retention", {})}
    old = Q(pk__in=[])
    for name, kept in days.items():
        if kept:
            old |= Q(retention=name, at__lt=now - timedelta(days=kept))
    sealed = Exists(AuditLink.objects.filter(event_id=OuterRef("pk")))
    chosen = AuditEvent.objects.filter(old).filter(sealed).exclude(verb="expire", kind="audit")
    pks = list(chosen.order_by("pk").values_list("pk", flat=True)[:10_000])
    if not pks:
        return 0
    through = (
        AuditLink.objects.filter(event_id__in=pks)
        .order_by("-sequence")
        .values_list("sequence", flat=True)[0]
    )
    with transaction.atomic():
        AuditGate.objects.create()
        AuditEvent.objects.filter(pk__in=pks).delete()
        trail.record(
            "hub",
            "expire",
            "audit",
            "events",
            events=len(pks),
            through=max(through, expired_before()),
            days=days,
        )
        AuditGate.objects.all().delete()
    return len(pks)
