"""Refreshes that a request asks for: their kind, and waiting for them."""

import time
from typing import Any

from hub.access.decisions import Caller, is_allowed
from hub.base.concurrency import Rates
from hub.engine.errors import RetryLater
from projects.models import Application
from projects.objects.specs import application_named
from projects.refreshing.refresh import refresh

LIMIT_SECONDS = 60
# A hard refresh renders again, which is charged to the application's project.
HARD_REFRESHES = (20, 1 / 30)
_HARD = Rates(*HARD_REFRESHES)


def refresh_kind(caller: Caller, application: Application, asked: Any) -> str:
    """Return the kind of a refresh, `hard` or `normal`.

    A caller who may not sync the application has a limited number of hard refreshes.
    Raises: RetryLater if there were too many.
    """
    if asked != "hard":
        return "normal"
    may_sync = is_allowed(
        caller, "applications", "sync", application.rbac_object, application.where
    )
    person = caller.account.pk if caller.account else 0
    if not may_sync and not _HARD.take(person, time.monotonic()):
        raise RetryLater(
            "TooManyHardRefreshes",
            "a hard refresh without the right to sync is limited to one every 30 s: "
            "try again later, or use refresh=normal",
        )
    return "hard"


def wait_for_refresh(application: Application) -> Application:
    """Return the application after its refresh, which runs here if no worker has begun it.

    Raises: RetryLater if it takes longer than a minute.
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
