"""Threads of this process that run tasks: the embedded shape has no broker."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from django.db import connections

from hub.base.metrics import QUEUE_DEPTH, QUEUE_LAG, clock
from hub.base.thread_connections import end_of_task

log = logging.getLogger(__name__)

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
        """Let every thread finish its current task, and stop."""
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
        except Exception:  # the only place that keeps a worker alive
            log.exception("task %s%r failed", name, args)
        finally:
            with self._lock:
                self._running -= 1
            end_of_task()
