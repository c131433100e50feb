"""Empty the database between tests that write for real.

Django's `flush` writes to every table, and afterwards creates content types and permissions again:
most of the time of a small test. Here only tables with rows are written to, and what flush would
create again stays.
"""

from functools import cache

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.test import TransactionTestCase

_KEPT = {ContentType._meta.db_table, Permission._meta.db_table}


@cache
def _statement(alias):
    connection = connections[alias]
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    quote = connection.ops.quote_name
    return " UNION ALL ".join(
        f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {quote(table)})"
        for table in sorted(set(tables) - _KEPT)
    )


def empty(alias="default"):
    """Delete all rows; foreign keys are checked at the end of the transaction, so the order is
    free.
    """
    connection = connections[alias]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.execute(_statement(alias))
        for (table,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")


def use_instead_of_flush():
    """Have every transactional test of this process end by `empty`."""

    def teardown(self):
        for alias in self._databases_names(include_mirrors=False):
            empty(alias)

    TransactionTestCase._fixture_teardown = teardown
