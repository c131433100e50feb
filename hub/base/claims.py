"""Claim rows by a conditional update, and renew the claim while the work lasts.

A worker that dies stops renewing, and after the lease another worker may claim the row. A claim
is identified by the time that it wrote: a worker that was stalled for longer than the lease can
neither renew nor release the claim of its successor.
"""

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import close_old_connections, connections, models
from django.db.models import Q
from django.utils import timezone

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
RENEW_SECONDS = 7.0


@dataclass(eq=False)
class Claim:
    """A claimed row; `written` are the lease times of which one is in the database."""

    model: type[models.Model]
    pk: Any
    written: list[datetime]

    def write(self, until: datetime | None) -> bool:
        """Renew or release the claim; return False if another worker has it by now."""
        rows = self.model._default_manager.filter(pk=self.pk, claimed_until__in=self.written)
        return bool(rows.update(claimed_until=until))


_held: set[Claim] = set()
_lock = threading.Lock()
_wake = threading.Condition(_lock)
_thread: threading.Thread | None = None


@contextlib.contextmanager
def claim(model: type[models.Model], pk: Any, *, when: Q | None = None) -> Iterator[bool]:
    """Claim a row that is free and matches `when`; yields whether it was claimed.

    The claim ends with the block. Shapes: the model has a `claimed_until` column.
    """
    now = timezone.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    query = model._default_manager.filter(Q(pk=pk) & free & (when or Q()))
    if not query.update(claimed_until=now + LEASE):
        yield False
        return
    held = Claim(model, pk, [now + LEASE])
    _hold(held)
    try:
        yield True
    finally:
        with _lock:
            _held.discard(held)
        held.write(None)


def _hold(held: Claim) -> None:
    global _thread
    with _lock:
        _held.add(held)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_renew, name="leases", daemon=True)
            _thread.start()
        else:
            _wake.notify()


def _renew() -> None:
    while True:
        with _lock:
            while not _held:
                if not _wake.wait(timeout=60) and not _held:
                    return
        threading.Event().wait(RENEW_SECONDS)
        with _lock:
            held = list(_held)
        with contextlib.suppress(Exception):  # the next round retries, well within the lease
            close_old_connections()
            prolong(held)
        connections.close_all()


def prolong(held: Iterable[Claim]) -> None:
    """Renew claims for another lease; a claim that is released in the meantime stays free."""
    until = timezone.now() + LEASE
    for one in held:
        # Added before the write, so that a release at the same time matches either lease time.
        one.written = [*one.written, until]
        if one.write(until):
            one.written = [until]
        elif one in _held:
            log.warning(
                "a claim was lost: the work took longer than its lease", extra={"row": one.pk}
            )
