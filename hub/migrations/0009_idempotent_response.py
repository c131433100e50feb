from django.db import migrations


class Migration(migrations.Migration):
    """Rename the model only: its table keeps the name, so the previous release goes on."""

    dependencies = [
        ("hub", "0008_pending_changes"),
    ]

    operations = [
        migrations.AlterModelTable(name="keptanswer", table="hub_keptanswer"),
        migrations.RenameModel(old_name="KeptAnswer", new_name="IdempotentResponse"),
    ]
