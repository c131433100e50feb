"""Give the roles of the projects that exist to access decisions."""

from django.db import migrations


def forwards(apps, _editor):
    policy = apps.get_model("hub", "ProjectPolicy")
    for project in apps.get_model("projects", "Project").objects.all():
        roles = project.spec.get("roles") or []
        if roles:
            policy.objects.update_or_create(project=project.name, defaults={"roles": roles})


class Migration(migrations.Migration):
    dependencies = [("projects", "0001_initial"), ("hub", "0002_access")]
    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
