"""Name the group in roles that were written for the group of their name.

A role that nobody has, and whose name does not begin with `role:`, was given to the group of an
identity provider that has its name. From now on a role is given to its members only.
"""

from django.db import migrations


def forwards(apps, _editor):
    for role in apps.get_model("hub", "Role").objects.all():
        if not role.members and not role.name.startswith("role:"):
            role.members = [role.name]
            role.save(update_fields=["members"])


class Migration(migrations.Migration):
    dependencies = [("hub", "0006_notices_version")]
    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
