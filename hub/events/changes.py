"""Notify streams and pages, in this and in other processes, of changes."""

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import close_old_connections, connections, transaction

from hub.models import current_version

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
_listeners: set[Callable[[], None]] = set()
_lookout: threading.Thread | None = None
_looking = threading.Lock()


def publish() -> None:
    """Notify the streams of this process of a change, once the transaction is committed.

    Those of other processes find the newer resource version within LOOK_SECONDS.
    """
    transaction.on_commit(_publish)


def _publish() -> None:
    for listener in list(_listeners):
        listener()


def listen(listener: Callable[[], None]) -> Callable[[], None]:
    """Call `listener` after each publication, from any thread; return a function that ends it."""
    global _lookout
    with _looking:
        _listeners.add(listener)
        if not settings.EMBEDDED and _lookout is None:
            _lookout = threading.Thread(target=_look_out, name="lookout", daemon=True)
            _lookout.start()
    return lambda: _listeners.discard(listener)


def _look_out() -> None:
    """Poll for changes by other processes while there are listeners, once for all of them."""
    global _lookout
    known = -1
    while True:
        try:
            newest = current_version()
            if newest != known >= 0:
                _publish()
            known = newest
        except Exception:  # streams poll now and then as well, and know what they missed
            log.warning("the newest version cannot be read", exc_info=True)
            time.sleep(1)
        close_old_connections()
        time.sleep(LOOK_SECONDS)
        with _looking:
            if not _listeners:
                _lookout = None
                connections.close_all()
                return
