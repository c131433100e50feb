"""Notify streams and pages, in this and in other processes, of changes."""

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import close_old_connections, connections, transaction

from hub.models import current_version

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
_listeners: set[Callable[[], None]] = set()
_poller: threading.Thread | None = None
_lock = threading.Lock()


def publish() -> None:
    """Notify the streams of this process of a change, once the transaction is committed.

    Those of other processes find the newer resource version within POLL_SECONDS.
    """
    transaction.on_commit(_publish)


def _publish() -> None:
    for listener in list(_listeners):
        listener()


def listen(listener: Callable[[], None]) -> Callable[[], None]:
    """Call `listener` after each publication, from any thread; return a function that ends it."""
    global _poller
    with _lock:
        _listeners.add(listener)
        if not settings.EMBEDDED and _poller is None:
            _poller = threading.Thread(target=_poll, name="lookout", daemon=True)
            _poller.start()
    return lambda: _listeners.discard(listener)


def _poll() -> None:
    """Poll for changes by other processes while there are listeners, once for all of them."""
    global _poller
    known = -1
    while True:
        try:
            newest = current_version()
            if newest != known >= 0:
                _publish()
            known = newest
        except Exception:  # streams also poll, and know what they missed
            log.warning("the newest version cannot be read", exc_info=True)
            time.sleep(1)
        close_old_connections()
        time.sleep(POLL_SECONDS)
        with _lock:
            if not _listeners:
                _poller = None
                connections.close_all()
                return
