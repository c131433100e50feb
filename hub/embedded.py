"""The embedded shape: web, workers, timer and watcher in one process."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from celery import current_app
from django.conf import settings
from django.db import close_old_connections

from clusters.watching.watcher import Watcher
from hub.events.fair_shares import shares
from hub.events.queue import use_pool, wake
from hub.events.task_names import TaskName
from hub.events.worker_pool import Pool
from hub.http.head_timeout import Connection

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
CLEAN_SECONDS = 3600.0
# The browser sends only short messages and headers here: limit both, so that a client cannot make
# the hub read megabytes. httptools is faster, but has no limit on headers.
LIMITS: dict[str, Any] = {
    "ws": "websockets-sansio",
    "ws_max_size": 65_536,
    "http": Connection,
    "h11_max_incomplete_event_size": 65_536,
}


def find_task(name: str) -> Callable[..., Any]:
    """Return the function of a task by its name."""
    found: Callable[..., Any] = current_app.tasks[name].run
    return found


class Timer(threading.Thread):
    """Queues the periodic sweeps, as Celery beat does in production."""

    def __init__(self) -> None:
        super().__init__(name="timer", daemon=True)
        self._ended = threading.Event()

    def run(self) -> None:
        """Run until stopped."""
        cleaned = time.monotonic()
        while not self._ended.wait(SWEEP_SECONDS):
            try:
                wake(TaskName.PROJECTS_SWEEP, priority=7)
                wake(TaskName.APPSETS_SWEEP, priority=7)
                if time.monotonic() - cleaned > CLEAN_SECONDS:
                    wake(TaskName.PROJECTS_CLEAN_UP, priority=9)
                    cleaned = time.monotonic()
            except Exception:  # the timer must survive a database outage
                log.warning("a sweep failed; the next one tries again", exc_info=True)
            close_old_connections()

    def stop(self) -> None:
        """End."""
        self._ended.set()


class Embedded:
    """All parts of the embedded shape, started and stopped together."""

    def __init__(self, host: str, port: int) -> None:
        current_app.loader.import_default_modules()
        self.watcher = Watcher()
        self.pool = Pool(find_task, settings.WORKER_THREADS)
        self.timer = Timer()
        config = uvicorn.Config(
            "hub.asgi:application",
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
            **LIMITS,
            server_header=False,
            date_header=True,
            proxy_headers=False,
        )
        self.server = uvicorn.Server(config)
        self._watcher_thread = threading.Thread(
            target=self.watcher.run, name="watcher", daemon=True
        )

    def start(self) -> None:
        """Start workers, timer and watcher; `serve` runs the web server."""
        use_pool(self.pool)
        shares.use(settings.WORKER_THREADS)
        self.pool.start()
        self.timer.start()
        self._watcher_thread.start()
        wake(TaskName.PROJECTS_SWEEP)
        wake(TaskName.APPSETS_SWEEP)

    def on_ready(self, call: Callable[[], None]) -> None:
        """Call a function once the web server accepts connections."""

        def wait() -> None:
            while not self.server.started and not self.server.should_exit:
                time.sleep(0.05)
            if self.server.started:
                call()

        threading.Thread(target=wait, name="ready", daemon=True).start()

    def serve(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self.server.run()

    def stop(self) -> None:
        """Stop within ten seconds; unfinished work resumes at the next start."""
        self.timer.stop()
        self.watcher.stop()
        self.pool.stop(timeout=4)
        self._watcher_thread.join(3)
        use_pool(None)
        shares.use(0)
