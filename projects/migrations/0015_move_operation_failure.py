"""Move the failure of running operations out of their request."""

from typing import Any

from django.db import migrations


def forwards(apps: Any, _schema_editor: Any) -> None:
    """Store `request["failing"]` in the column."""
    operations = apps.get_model("projects", "Operation").objects
    for row in operations.filter(phase__in=["Running", "Terminating"]).iterator():
        if "failing" in row.request:
            row.failure = str(row.request.pop("failing"))
            row.save(update_fields=["failure", "request"])


class Migration(migrations.Migration):
    # An operation that the previous release fails meanwhile is failed once more by this one.
    dependencies = [
        ("projects", "0014_operation_failure"),
    ]

    operations = [
        migrations.RunPython(forwards, migrations.RunPython.noop),
    ]
