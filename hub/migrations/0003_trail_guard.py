"""Let the database itself refuse to change or remove what the trail holds."""

from django.db import migrations

from hub.audit.append_only import install, remove


def forwards(_apps, editor):
    install(editor.connection)


def backwards(_apps, editor):
    remove(editor.connection)


class Migration(migrations.Migration):
    dependencies = [("hub", "0002_access")]
    operations = [migrations.RunPython(forwards, backwards)]
