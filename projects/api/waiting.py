"""Wait for a refresh that a caller asked for."""

import time

from hub.engine.errors import RetryLater
from projects.models import Application
from projects.refresh import refresh
from projects.specs import application_named

LIMIT_SECONDS = 60


def wait_for_refresh(application: Application) -> Application:
    """Return the application after the refresh that was asked for; does the work itself if no worker has begun.

    Raises: RetryLater when it takes longer than a minute.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    refresh(application.pk)
    while time.monotonic() < deadline:
        current = application_named(application.namespace, application.name)
        if not current.refresh_kind:
            return current
        time.sleep(0.1)
        refresh(application.pk)
    raise RetryLater("DeadlineExceeded", "application refresh deadline exceeded")
