"""JSON columns that read as an object or a list, whatever the table holds."""

import logging
from collections.abc import Callable
from typing import Any

from django.db import models

log = logging.getLogger(__name__)


def has(*names: str) -> Callable[[Any], bool]:
    """Return whether an entry is an object with the given text fields."""
    return lambda entry: (
        isinstance(entry, dict) and all(isinstance(entry.get(n), str) for n in names)
    )


def is_text(entry: Any) -> bool:
    """Return whether an entry is text."""
    return isinstance(entry, str)


def is_object(entry: Any) -> bool:
    """Return whether an entry is an object."""
    return isinstance(entry, dict)


class DocumentField(models.JSONField):
    """A JSON column whose values are of the kind of its default: an object or a list.

    A row that holds anything else reads as empty and is logged, so that one bad row breaks neither
    the start nor a list or page; `manage.py doctor` reports it.
    """

    def __init__(
        self, *args: Any, entries: Callable[[Any], bool] | None = None, **kwargs: Any
    ) -> None:
        """Store an optional check for the entries of a list; entries that fail it are left out."""
        self.entries = entries
        super().__init__(*args, **kwargs)
        self.kind: type = dict if self.default is dict else list

    def deconstruct(self) -> Any:
        """Appear as a JSON column in migrations: the database sees no difference."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Return what is stored, or the empty value of the column."""
        found = super().from_db_value(value, expression, connection)
        # The usual row first: lists of thousands of rows call this for each column.
        if type(found) is self.kind and (not found or self.entries is None):
            return found
        if value is None or not isinstance(getattr(expression, "target", None), DocumentField):
            # None of a joined row that does not exist, or any type from a path into the column.
            return found
        if isinstance(found, self.kind):
            if self.entries is None or not isinstance(found, list):
                return found
            return [entry for entry in found if self.entries(entry)]
        log.warning(
            "a row of %s holds no %s in %s",
            self.model._meta.db_table,
            self.kind.__name__,
            self.name,
        )
        return self.kind()
