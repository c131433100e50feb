"""Wake workers and streams. The database is the truth; what passes here is only a hint.

In the embedded shape hints go to a pool of threads in this process, which costs nothing while idle;
in production they are Celery messages, and a look at the newest version. A lost hint is found by the sweep.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import close_old_connections, connections, transaction

from hub.metrics import QUEUE_DEPTH, QUEUE_LAG, clock
from hub.models import current_version

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
BROKER_PAUSE_SECONDS = 15.0

Task = tuple[str, tuple[Any, ...]]


class Pool:
    """Threads of this process that run tasks by name; the same task waits only once."""

    def __init__(self, find: Callable[[str], Callable[..., Any]], size: int) -> None:
        self._find = find
        self._queues: queue.PriorityQueue[tuple[int, int, float, Task | None]] = (
            queue.PriorityQueue()
        )
        self._waiting: set[Task] = set()
        self._lock = threading.Lock()
        self._number = self._running = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{n}", daemon=True)
            for n in range(size)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, name: str, args: tuple[Any, ...], priority: int) -> None:
        """Queue a task unless the same one waits already."""
        task = (name, args)
        with self._lock:
            if task in self._waiting:
                return
            self._waiting.add(task)
            self._number += 1
            number = self._number
        QUEUE_DEPTH.set(len(self._waiting))
        self._queues.put((priority, number, clock(), task))

    def stop(self, timeout: float) -> None:
        """Let every thread finish what it does, and end."""
        for _ in self._threads:
            self._queues.put((-1, 0, 0.0, None))
        for thread in self._threads:
            thread.join(timeout / max(1, len(self._threads)))

    def state(self) -> dict[str, int]:
        """Return how many threads there are, how many tasks wait and how many run."""
        return {
            "threads": len(self._threads),
            "waiting": len(self._waiting),
            "running": self._running,
        }

    def _work(self) -> None:
        while True:
            _priority, _number, put_at, task = self._queues.get()
            if task is None:
                connections.close_all()
                return
            with self._lock:
                self._waiting.discard(task)
            QUEUE_DEPTH.set(len(self._waiting))
            QUEUE_LAG.observe(clock() - put_at)
            self._run(task)

    def _run(self, task: Task) -> None:
        name, args = task
        with self._lock:
            self._running += 1
        try:
            self._find(name)(*args)
        except Exception:  # the one place that keeps a worker alive
            log.exception("task %s%r failed", name, args)
        finally:
            with self._lock:
                self._running -= 1
            close_old_connections()


_pool: Pool | None = None
_listeners: set[Callable[[], None]] = set()
_lookout: threading.Thread | None = None
_looking = threading.Lock()


def use_pool(pool: Pool | None) -> None:
    """Send hints to threads of this process instead of the broker."""
    global _pool
    _pool = pool


def pool_state() -> dict[str, int] | None:
    """Return threads, waiting and running tasks of the pool of this process, None where a broker has them."""
    return _pool.state() if _pool is not None else None


def wake(name: str, *args: Any, priority: int = 5, delay: float = 0) -> None:
    """Ask a worker to run a task soon, once the transaction is committed.

    Units: `delay` in seconds; a smaller `priority` runs first.
    """
    transaction.on_commit(lambda: _send(name, args, priority, delay))


def _send(name: str, args: tuple[Any, ...], priority: int, delay: float) -> None:
    if _pool is not None:
        if delay > 0:
            timer = threading.Timer(delay, _pool.put, (name, args, priority))
            timer.daemon = True
            timer.start()
        else:
            _pool.put(name, args, priority)
        return
    if settings.EMBEDDED or clock() < _broker_away_until:
        return
    _ask_broker(name, args, priority, delay)


_broker_away_until = 0.0


def _ask_broker(name: str, args: tuple[Any, ...], priority: int, delay: float) -> None:
    global _broker_away_until
    try:
        current_app.send_task(
            name, args, priority=priority, countdown=delay or None, expires=600 + delay
        )
    except Exception as error:  # the broker is a hint: without it the sweep does the work
        # Nobody who saves something waits for a broker that was not there a moment ago.
        _broker_away_until = clock() + BROKER_PAUSE_SECONDS
        log.warning("the broker did not take %s, the sweep will find it: %s", name, error)


def publish() -> None:
    """Tell the streams of this process, once the transaction is committed, that something has changed.

    Those of other processes see within LOOK_SECONDS that the newest resource version is another.
    """
    transaction.on_commit(_publish)


def _publish() -> None:
    for listener in list(_listeners):
        listener()


def listen(listener: Callable[[], None]) -> Callable[[], None]:
    """Call `listener` after each publication, from any thread; return what ends it."""
    global _lookout
    with _looking:
        _listeners.add(listener)
        if not settings.EMBEDDED and _lookout is None:
            _lookout = threading.Thread(target=_look_out, name="lookout", daemon=True)
            _lookout.start()
    return lambda: _listeners.discard(listener)


def _look_out() -> None:
    """Publish what other processes wrote, while anybody listens: one look for all streams of this process."""
    global _lookout
    known = -1
    while True:
        try:
            newest = current_version()
            if newest != known >= 0:
                _publish()
            known = newest
        except Exception:  # streams look for themselves now and then, and know what they missed
            log.warning("the newest version cannot be read", exc_info=True)
            time.sleep(1)
        close_old_connections()
        time.sleep(LOOK_SECONDS)
        with _looking:
            if not _listeners:
                _lookout = None
                connections.close_all()
                return
