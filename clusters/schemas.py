"""The types of a cluster's kinds, from its OpenAPI v3 documents.

Each document is read once, and shared by all clusters that serve the same one.
"""

import hashlib
import logging
import re
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
from django.conf import settings
from django.utils import timezone

from clusters.kinds import Refused
from clusters.kube import Connection, connect
from clusters.live import DEFINITION
from clusters.models import Cluster, LiveResource, SchemaDocument, pack, unpack
from hub.base.outbound.bounds import TooMuch, parse
from hub.engine.errors import RetryLater, Stalled
from hub.engine.resource import ResourceKey, is_builtin
from hub.engine.schema import Type, is_small_document, small_document, type_of

log = logging.getLogger(__name__)

INDEX_SECONDS = 600.0
"""Lifetime of a cluster's index of documents. A changed definition ends it at once."""
SILENT_SECONDS = 60.0
"""Retry interval for a cluster that publishes no index or document."""
SETTLING_SECONDS = 30.0
"""How long after a change of a definition its new document may be published."""
RETENTION_DAYS = 30
_MAX_DOCUMENTS = 5000
_MAX_PATHS = 5000
_LOCK_SECONDS = 5.0
_SMALL_BYTES = 4 * 1024 * 1024
_HASH = re.compile(r"[?&]hash=([A-Za-z0-9]{8,190})\Z")
_WRONG = (Refused, RetryLater, Stalled, TooMuch, ValueError)

Kinds = Iterable[tuple[str, str, str]]
"""Group, version and kind of each."""


@dataclass
class _Document:
    small: dict[str, Any] | None
    size: int
    types: dict[tuple[str, str, str], Type | None] = field(default_factory=dict)

    def type(self, group: str, version: str, kind: str) -> Type | None:
        name = (group, version, kind)
        if name not in self.types:
            self.types[name] = type_of(self.small, *name)
        return self.types[name]


class _Documents:
    """The documents in this process's memory; the least recently used are dropped first."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, _Document] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def get(self, key: str) -> _Document | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, key: str, document: _Document) -> None:
        with self._lock:
            old = self._found.pop(key, None)
            self._size += document.size - (old.size if old else 0)
            self._found[key] = document
            while self._size > settings.SCHEMA_BYTES and len(self._found) > 1:
                self._size -= self._found.popitem(last=False)[1].size

    def clear(self) -> None:
        with self._lock:
            self._found.clear()
            self._size = 0


_documents = _Documents()


class _Index:
    """The list of one cluster's documents."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hashes: dict[str, str] = {}
        self.marks: dict[str, str] = {}
        """The digest of each definition when the index was read, by name."""
        self.changed_at: dict[str, float] = {}
        self.read_at = 0.0
        self.failed_at: dict[str, float] = {}
        self.moved: set[str] = set()
        """Documents that had another digest than the index said; asked once more."""

    def is_due(self, marks: dict[str, str]) -> bool:
        """Return whether the index must be read again for kinds with these definition digests."""
        now = time.monotonic()
        for name, mark in marks.items():
            if self.marks.get(name) != mark:
                # Also for a definition that is newer than the index.
                if self.read_at:
                    self.changed_at[name] = now
                self.marks[name] = mark
                return True
        age = now - self.read_at
        # The last reading of the index must follow the publication of the change.
        settled_at = max((self.changed_at.get(n, -1e9) for n in marks), default=-1e9)
        is_settling = self.read_at < settled_at + SETTLING_SECONDS
        return not self.read_at or age > INDEX_SECONDS or (is_settling and age > 1)


_MOVED = 301
"""An API server's answer for a document whose digest is no longer the one of the index."""
_indexes: dict[tuple[int, int], _Index] = {}
_indexes_lock = threading.Lock()


def types_of(cluster: Cluster, kinds: Kinds) -> dict[tuple[str, str, str], Type]:
    """Return the types of those kinds for which the cluster has a usable schema."""
    wanted = set(kinds)
    if not wanted:
        return {}
    try:
        connection = connect(cluster)
    except Stalled:
        return {}
    index = _index(cluster)
    if not index.lock.acquire(timeout=_LOCK_SECONDS):
        # A slow server delays only one comparison: the others run without the schema.
        return {}
    try:
        marks = _marks(cluster, connection, wanted)
        _read_index(index, connection, marks)
        found = _found(cluster, connection, index, wanted)
        if not index.read_at:
            # A document changed after the index was read.
            _read_index(index, connection, marks)
            found = _found(cluster, connection, index, wanted)
        return found
    finally:
        index.lock.release()


def _found(
    cluster: Cluster, connection: Connection, index: _Index, wanted: set[tuple[str, str, str]]
) -> dict[tuple[str, str, str], Type]:
    found = {}
    for name in wanted:
        document = _document(cluster, connection, index, name[0], name[1])
        type_ = document.type(*name) if document else None
        if type_ is not None:
            found[name] = type_
    return found


def _index(cluster: Cluster) -> _Index:
    name = (cluster.pk, cluster.generation)
    with _indexes_lock:
        for old in [n for n in _indexes if n[0] == cluster.pk and n != name]:
            del _indexes[old]
        return _indexes.setdefault(name, _Index())


def _marks(cluster: Cluster, connection: Connection, kinds: Kinds) -> dict[str, str]:
    """Return the digests of the definitions of kinds, as the watch saw them."""
    names = []
    for group, version, kind in kinds:
        served = None if is_builtin(group) else connection.known_kind(group, kind, version)
        if served is not None:
            names.append(f"{served.plural}.{group}")
    if not names:
        return {}
    keys = [ResourceKey(*DEFINITION, "", name).text for name in names]
    rows = LiveResource.objects.filter(cluster=cluster, key__in=keys)
    return {
        name: f"{uid} {digest}" for name, uid, digest in rows.values_list("name", "uid", "digest")
    }


def _read_index(index: _Index, connection: Connection, marks: dict[str, str]) -> None:
    if not index.is_due(marks):
        return
    index.read_at = time.monotonic()
    try:
        answer = parse(connection.read("/openapi/v3"))
    except _WRONG as error:
        log.info("no schemas: %s", error, extra={"cluster": connection.name})
        index.read_at -= INDEX_SECONDS - SILENT_SECONDS
        return
    paths = answer.get("paths") if isinstance(answer, dict) else None
    found = dict(_hashes(paths)) if isinstance(paths, dict) and len(paths) <= _MAX_PATHS else {}
    index.hashes = found


def _hashes(paths: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for path, entry in paths.items():
        url = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        if isinstance(url, str):
            match = _HASH.search(url)
            yield path, match.group(1) if match else ""


def _document(
    cluster: Cluster, connection: Connection, index: _Index, group: str, version: str
) -> _Document | None:
    root = f"apis/{group}/{version}" if group else f"api/{version}"
    digest = index.hashes.get(root)
    if digest is None:
        return None
    own = f"{cluster.pk}.{cluster.generation}/{root}"[:300]
    # Without a digest the document may change at any time: it is valid as long as the index.
    mark = digest or f"at {index.read_at}"
    for key in (digest, f"{own} {mark}"):
        found = _documents.get(key) if key else None
        if found is not None:
            return found
    if time.monotonic() - index.failed_at.get(root, -1e9) < SILENT_SECONDS:
        return None
    return _cached(digest, own, mark) or _fetched(connection, index, root, digest, own)


def _cached(digest: str, own: str, mark: str) -> _Document | None:
    """Return a document that another process fetched."""
    if not digest:
        return None
    rows = SchemaDocument.objects.filter(key__in=[digest, own], digest=digest)
    # The cluster's own document takes precedence, whatever digest the server states.
    for row in sorted(rows, key=lambda found: found.key != own):
        try:
            small = unpack(row.body)
        except (ValueError, zlib.error):
            continue
        if not is_small_document(small):
            continue
        if timezone.now() - row.used_at > timedelta(days=1):
            SchemaDocument.objects.filter(pk=row.pk).update(used_at=timezone.now())
        return _in_memory(digest if row.key == digest else f"{own} {mark}", small)
    return None


def _in_memory(key: str, small: dict[str, Any] | None) -> _Document:
    document = _Document(small, len(orjson.dumps(small)))
    _documents.put(key, document)
    return document


def _fetched(
    connection: Connection, index: _Index, root: str, digest: str, own: str
) -> _Document | None:
    try:
        data = connection.read(f"/openapi/v3/{root}", {"hash": digest} if digest else None)
        small = small_document(parse(data))
    except _WRONG as error:
        if getattr(error, "status", None) == _MOVED and root not in index.moved:
            index.moved.add(root)
            index.read_at = 0.0
            return None
        log.info("no schema of %s: %s", root, error, extra={"cluster": connection.name})
        small = None
    index.moved.discard(root)
    if small is None or len(orjson.dumps(small)) > _SMALL_BYTES:
        index.failed_at[root] = time.monotonic()
        return None
    # A document that matches its digest is the same wherever it comes from; any other is valid for
    # this cluster only.
    is_proven = bool(digest) and hashlib.sha512(data).hexdigest() == digest.lower()
    if digest:
        _store(digest if is_proven else own, digest, small)
    return _in_memory(digest if is_proven else f"{own} {digest or f'at {index.read_at}'}", small)


def _store(key: str, digest: str, small: dict[str, Any]) -> None:
    values = {"digest": digest, "body": pack(small), "used_at": timezone.now()}
    SchemaDocument.objects.update_or_create(key=key, defaults=values)
    old = SchemaDocument.objects.order_by("-used_at").values_list("pk", flat=True)[_MAX_DOCUMENTS:]
    stale = list(old[:100])
    if stale:
        SchemaDocument.objects.filter(pk__in=stale).delete()


def forget() -> None:
    """Clear the cache: everything is read again."""
    _documents.clear()
    with _indexes_lock:
        _indexes.clear()


def forget_old() -> None:
    """Delete documents that no process has used for a month."""
    since = timezone.now() - timedelta(days=RETENTION_DAYS)
    SchemaDocument.objects.filter(used_at__lt=since).delete()
