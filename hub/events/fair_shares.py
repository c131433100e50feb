"""Share the workers of a process: a project leaves two of them to others, and a cluster one.

Servers of a project (Git, charts, generators) and API servers may answer so slowly that each task
holds its worker for minutes. A task whose owner has its share waits here, and is queued again when
another task of that owner ends; the sweep finds it after a restart.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from hub.events.queue import wake
from hub.events.task_names import TaskName

Task = tuple[TaskName, Any]
_CLUSTER = "cluster "


def owners_of(project: str, cluster: int | None = None) -> list[str]:
    """Return the owners of a task: its project, and the cluster that it is about."""
    return [f"project {project}", *([f"{_CLUSTER}{cluster}"] if cluster else [])]


class FairShares:
    """Counts the running tasks of each owner.

    A cluster has more workers than a project: one project must not use up the share of a cluster
    that others have applications in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers = 0
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, dict[Task, None]] = {}

    def use(self, workers: int) -> None:
        """Set the number of workers of this process, 0 for no limit."""
        with self._lock:
            self._workers = workers
            self._waiting.clear()

    @contextlib.contextmanager
    def turn(self, name: TaskName, pk: Any, owners: Sequence[str]) -> Iterator[bool]:
        """Yield whether a task may run now; one that may not is queued again later."""
        if not self._take((name, pk), owners):
            yield False
            return
        try:
            yield True
        finally:
            for task in self._give_back(owners):
                wake(*task)

    def _take(self, task: Task, owners: Sequence[str]) -> bool:
        with self._lock:
            full = next((o for o in owners if self._is_full(o)), None)
            if full is not None:
                self._waiting.setdefault(full, {})[task] = None
                return False
            self._running.update(owners)
            return True

    def _is_full(self, owner: str) -> bool:
        if not self._workers:
            return False
        spare = 2 if not owner.startswith(_CLUSTER) else 1 if self._workers > 2 else 0
        return self._running[owner] >= max(1, self._workers - spare)

    def _give_back(self, owners: Sequence[str]) -> list[Task]:
        """Return a waiting task of each owner."""
        found = []
        with self._lock:
            for owner in owners:
                self._running[owner] -= 1
                if self._running[owner] <= 0:
                    del self._running[owner]
                waiting = self._waiting.get(owner)
                if waiting:
                    found.append(next(iter(waiting)))
                    del waiting[found[-1]]
                    if not waiting:
                        del self._waiting[owner]
        return found


shares = FairShares()
