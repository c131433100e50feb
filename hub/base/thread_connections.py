"""Decide which database connections a thread keeps open between two pieces of work.

Opening SQLite's file takes a millisecond of CPU, as much as five statements, so a long-lived thread
keeps it open. The threads of requests end with their request and follow Django's own rules, which
close it.
"""

from collections.abc import Iterable

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


def end_of_task() -> None:
    """Close broken connections, and server connections older than the settings allow."""
    for connection in _opened():
        if connection.vendor == "sqlite":
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


def end_of_call() -> None:
    """Like `end_of_task`, for a thread that may wait long: it keeps no connection to a server."""
    end_of_task()
    for connection in _opened():
        if connection.vendor != "sqlite":
            connection.close()


def _opened() -> Iterable[BaseDatabaseWrapper]:
    return connections.all(initialized_only=True)
