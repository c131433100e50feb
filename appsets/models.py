"""Application sets."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class ApplicationSet(models.Model):
    """One template and generators, from which many applications come."""

    namespace = models.CharField(max_length=253, default="argocd")
    name = models.CharField(max_length=253)
    uid = models.UUIDField(default=uuid.uuid4)
    project = models.CharField(max_length=253, db_index=True, help_text="Of the template.")
    spec = models.JSONField(default=dict)
    labels = models.JSONField(default=dict)
    annotations = models.JSONField(default=dict)
    finalizers = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    generation = models.PositiveIntegerField(default=1)
    resource_version = models.BigIntegerField(default=0, db_index=True)
    conditions = models.JSONField(default=list)
    awaits = models.JSONField(
        default=list, help_text="Names of applications whose deletion waits for a confirmation."
    )
    approved = models.JSONField(default=list, help_text="Names whose deletion was confirmed.")
    due_at = models.DateTimeField(default=timezone.now, db_index=True)
    claimed_until = models.DateTimeField(null=True)
    reconciled_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="applicationset_once")
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def rbac_object(self) -> str:
        """What policies call it: `project/name`, its namespace between when that is another than the hub's."""
        if self.namespace == settings.NAMESPACE:
            return f"{self.project}/{self.name}"
        return f"{self.project}/{self.namespace}/{self.name}"
