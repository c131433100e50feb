import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0015_move_operation_failure"),
    ]

    operations = [
        migrations.AlterField(
            model_name="application",
            name="compared_at",
            field=models.DateTimeField(
                help_text="When a comparison last ended, even if it failed.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="application",
            name="edited_version",
            field=models.BigIntegerField(
                default=0, help_text="The resource version of the last change of spec or metadata."
            ),
        ),
        migrations.AlterField(
            model_name="application",
            name="inputs",
            field=models.JSONField(
                default=list,
                help_text="[origin, path, hash] of the files that the manifests were rendered from.",
            ),
        ),
        migrations.AlterField(
            model_name="application",
            name="owner",
            field=models.CharField(
                blank=True,
                db_index=True,
                help_text="The ApplicationSet, in the same namespace, that created it.",
                max_length=253,
            ),
        ),
        migrations.AlterField(
            model_name="application",
            name="refresh_at",
            field=models.DateTimeField(
                db_index=True,
                default=django.utils.timezone.now,
                help_text="When the next refresh is due; empty if only an event triggers it.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="application",
            name="refresh_kind",
            field=models.CharField(
                blank=True, help_text="The requested refresh: normal or hard.", max_length=8
            ),
        ),
        migrations.AlterField(
            model_name="application",
            name="refresh_requested_at",
            field=models.DateTimeField(
                help_text="When it was requested: an earlier refresh does not answer it.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="gitremote",
            name="moved",
            field=models.JSONField(
                default=list,
                help_text="Refs that moved and whose applications are not yet due.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="gitremote",
            name="moved_at",
            field=models.DateTimeField(
                db_index=True,
                help_text="When they moved; empty once all readers are due.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="gitremote",
            name="readers",
            field=models.JSONField(
                default=dict,
                help_text="Name of credentials → when the server last accepted or rejected them.",
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="manifests_digest",
            field=models.CharField(
                blank=True, help_text="Digest of the applied manifests.", max_length=64
            ),
        ),
        migrations.AlterField(
            model_name="operation",
            name="started_by",
            field=models.JSONField(
                help_text="The person whose rights the operation has; empty for automated syncs.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="published",
            name="digest",
            field=models.CharField(
                help_text="Digest of all versions, or the one that a tag names.", max_length=64
            ),
        ),
        migrations.AlterField(
            model_name="published",
            name="moved_at",
            field=models.DateTimeField(
                db_index=True, help_text="Empty once all readers are due.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="published",
            name="moves",
            field=models.PositiveIntegerField(default=0, help_text="How often the digest changed."),
        ),
        migrations.AlterField(
            model_name="renderedmanifests",
            name="inputs",
            field=models.JSONField(
                default=list,
                help_text="[origin, path, hash] of every file that was read, or was missing.",
            ),
        ),
        migrations.AlterField(
            model_name="renderfailure",
            name="retry_at",
            field=models.DateTimeField(
                help_text="Empty if only a new revision can fix it.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="repository",
            name="options",
            field=models.JSONField(
                default=dict, help_text="Options that are not secret: insecure, enableOCI, proxy."
            ),
        ),
        migrations.AlterField(
            model_name="statuschange",
            name="revision",
            field=models.CharField(
                blank=True, help_text="The revision at that time.", max_length=200
            ),
        ),
    ]
