"""Which database connections a thread keeps between two pieces of work.

SQLite's file is opened in a millisecond of computing, as much as five statements cost: a thread that goes on keeps it
open. The threads of requests end with their request and use Django's own rules, by which it is closed.
"""

from collections.abc import Iterable

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


def end_of_task() -> None:
    """Close what is broken, and connections to a server that are older than the settings allow."""
    for connection in _opened():
        if connection.vendor == "sqlite":
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


def end_of_call() -> None:
    """As `end_of_task`, for a thread that may wait for long: it holds no connection to a server meanwhile."""
    end_of_task()
    for connection in _opened():
        if connection.vendor != "sqlite":
            connection.close()


def _opened() -> Iterable[BaseDatabaseWrapper]:
    return connections.all(initialized_only=True)
