"""Triggers that keep the trail append-only, on SQLite and on PostgreSQL alike.

Retention opens a gate, a row in `hub_auditgate`, inside its own transaction and closes it again.
"""

from typing import Any

_TABLES = ("hub_auditevent", "hub_auditlink", "hub_auditcheckpoint")
_MESSAGE = "the audit trail is append-only"


def install(connection: Any) -> None:
    """Create the triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "CREATE OR REPLACE FUNCTION hub_refuse_change() RETURNS trigger "
                "LANGUAGE plpgsql AS $$ "
                "BEGIN IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM hub_auditgate) "
                "THEN RETURN OLD; END IF; "
                f"RAISE EXCEPTION '{_MESSAGE}'; END $$"
            )
            for table in _TABLES:
                cursor.execute(
                    f"CREATE TRIGGER {table}_guard BEFORE UPDATE OR DELETE ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION hub_refuse_change()"
                )
                cursor.execute(
                    f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION hub_refuse_change()"
                )
            return
        for table in _TABLES:
            cursor.execute(
                f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
            )
            cursor.execute(
                f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
                "WHEN NOT EXISTS (SELECT 1 FROM hub_auditgate) "
                f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
            )


def remove(connection: Any) -> None:
    """Drop the triggers."""
    with connection.cursor() as cursor:
        for table in _TABLES:
            if connection.vendor == "postgresql":
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_guard ON {table}")
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_whole ON {table}")
            else:
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_update")
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_delete")
