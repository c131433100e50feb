"""Claim work by a conditional update, and keep the claim alive while the work lasts.

A worker that dies stops renewing; after the lease another one takes over. A claim is known by the moment that was
written: who was held up for longer than the lease neither prolongs nor ends the claim of the one who took over.
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
    """A row that is held; `written` are the moments of which one is in the database."""

    model: type[models.Model]
    pk: Any
    written: list[datetime]

    def write(self, until: datetime | None) -> bool:
        """Prolong or end the claim; return whether it was still this one's."""
        rows = self.model._default_manager.filter(pk=self.pk, claimed_until__in=self.written)
        return bool(rows.update(claimed_until=until))


_held: set[Claim] = set()
_lock = threading.Lock()
_wake = threading.Condition(_lock)
_thread: threading.Thread | None = None


@contextlib.contextmanager
def claim(model: type[models.Model], pk: Any, *, when: Q | None = None) -> Iterator[bool]:
    """Claim a row that nobody holds; yields whether that worked. The caller's last write ends the claim.

    Shapes: the model has a `claimed_until` column.
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
        with contextlib.suppress(Exception):  # the next round tries again, well within the lease
            close_old_connections()
            prolong(held)
        connections.close_all()


def prolong(held: Iterable[Claim]) -> None:
    """Keep claims for another lease; one that was given back while this waited for the database stays free."""
    until = timezone.now() + LEASE
    for one in held:
        # Known before it is written: who gives the claim back meanwhile finds either moment.
        one.written = [*one.written, until]
        if one.write(until):
            one.written = [until]
        elif one in _held:
            log.warning(
                "a claim was lost: the work took longer than its lease", extra={"row": one.pk}
            )
