"""Queue tasks for workers. The database is the truth; a task is only a hint.

In the embedded shape, tasks go to a thread pool of this process, which costs nothing while idle; in
production they are Celery messages. The periodic sweep makes up for a lost one.
"""

import logging
import threading
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import transaction

from hub.base.metrics import clock
from hub.events.task_names import TaskName
from hub.events.worker_pool import Pool

log = logging.getLogger(__name__)
BROKER_PAUSE_SECONDS = 15.0


_pool: Pool | None = None


def use_pool(pool: Pool | None) -> None:
    """Send tasks to threads of this process instead of the broker."""
    global _pool
    _pool = pool


def pool_state() -> dict[str, int] | None:
    """Return the numbers of threads and tasks of this process's pool, None with a broker."""
    return _pool.state() if _pool is not None else None


def wake(name: TaskName, *args: Any, priority: int = 5, delay: float = 0) -> None:
    """Queue a task for a worker, once the transaction is committed.

    Units: `delay` in seconds; a smaller `priority` runs first.
    """
    transaction.on_commit(lambda: _send(str(name), args, priority, delay))


def _send(name: str, args: tuple[Any, ...], priority: int, delay: float) -> None:
    if _pool is not None:
        if delay > 0:
            timer = threading.Timer(delay, _pool.put, (name, args, priority))
            timer.daemon = True
            timer.start()
        else:
            _pool.put(name, args, priority)
        return
    if settings.EMBEDDED or clock() < _broker_unavailable_until:
        return
    _send_to_broker(name, args, priority, delay)


_broker_unavailable_until = 0.0


def _send_to_broker(name: str, args: tuple[Any, ...], priority: int, delay: float) -> None:
    global _broker_unavailable_until
    try:
        current_app.send_task(
            name, args, priority=priority, countdown=delay or None, expires=600 + delay
        )
    except Exception as error:  # the broker is only a hint: without it the sweep does the work
        # Requests must not wait for a broker that was unavailable a moment ago.
        _broker_unavailable_until = clock() + BROKER_PAUSE_SECONDS
        log.warning("the broker did not take %s, the sweep will find it: %s", name, error)
