"""Claim work by a conditional update, and keep the claim alive while the work lasts.

A worker that dies stops renewing; after the lease another one takes over.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.db import close_old_connections, connections, models
from django.db.models import Q
from django.utils import timezone

LEASE = timedelta(seconds=20)
RENEW_SECONDS = 7.0

_held: dict[tuple[type[models.Model], Any], int] = {}
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
    key = (model, pk)
    _hold(key)
    try:
        yield True
    finally:
        with _lock:
            _held.pop(key, None)
        model._default_manager.filter(pk=pk).update(claimed_until=None)


def _hold(key: tuple[type[models.Model], Any]) -> None:
    global _thread
    with _lock:
        _held[key] = 1
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


def prolong(held: Sequence[tuple[type[models.Model], Any]]) -> None:
    """Keep claims for another lease; one that was given back while this waited for the database stays free."""
    until = timezone.now() + LEASE
    for model in {m for m, _ in held}:
        pks = [pk for m, pk in held if m is model]
        claimed = model._default_manager.filter(pk__in=pks, claimed_until__isnull=False)
        claimed.update(claimed_until=until)
