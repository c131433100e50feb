from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0009_readers"),
    ]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="started_by",
            field=models.JSONField(
                help_text="Whose rights a started operation has; empty where nobody did.", null=True
            ),
        ),
    ]
