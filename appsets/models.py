"""Application sets."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from hub.base.crypto import SealedJSONField
from hub.base.json_columns import DocumentField
from hub.models import Lockable


class ApplicationSet(Lockable):
    """A template and generators, from which applications are generated."""

    namespace = models.CharField(max_length=253, default="argocd")
    name = models.CharField(max_length=253)
    uid = models.UUIDField(default=uuid.uuid4)
    project = models.CharField(
        max_length=253, db_index=True, help_text="The project of the template."
    )
    spec = DocumentField(default=dict)
    labels = DocumentField(default=dict)
    annotations = DocumentField(default=dict)
    finalizers = DocumentField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    generation = models.PositiveIntegerField(default=1)
    resource_version = models.BigIntegerField(default=0, db_index=True)
    conditions = DocumentField(default=list)
    awaits = DocumentField(
        default=list, help_text="Names of applications whose deletion waits for a confirmation."
    )
    approved = DocumentField(default=list, help_text="Names whose deletion was confirmed.")
    due_at = models.DateTimeField(default=timezone.now, db_index=True)
    claimed_until = models.DateTimeField(null=True)
    reconciled_at = models.DateTimeField(null=True)
    refresh_at = models.DateTimeField(
        default=timezone.now, help_text="Older answers of hosts are requested again."
    )
    deletion_requested_at = models.DateTimeField(null=True)
    application_status = DocumentField(
        default=list,
        help_text="Progress of each application, as in status.applicationStatus.",
    )
    rollout = DocumentField(default=dict, help_text="Requests of users for the rollout.")
    rollout_state = DocumentField(
        default=dict,
        help_text="The targets, when steps were completed, and what the rollout waits for.",
    )
    rollout_due_at = models.DateTimeField(null=True, db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="applicationset_once")
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def rbac_object(self) -> str:
        """The RBAC object: `project/name`, with a namespace other than the hub's in between."""
        if self.namespace == settings.NAMESPACE:
            return f"{self.project}/{self.name}"
        return f"{self.project}/{self.namespace}/{self.name}"


class Secret(models.Model):
    """Credentials of generators, sent only to the servers that they name."""

    namespace = models.CharField(max_length=253, default="argocd")
    name = models.CharField(max_length=253)
    project = models.CharField(
        max_length=253, blank=True, help_text="The project whose sets may use it; empty for all."
    )
    servers = DocumentField(
        default=list,
        help_text="The servers that it may be sent to, such as https://api.github.com.",
    )
    data = SealedJSONField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="secret_once")
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def rbac_object(self) -> str:
        """The RBAC object, of the resource `repositories`."""
        return f"{self.project}/{self.name}" if self.project else self.name


class ConfigMap(models.Model):
    """Configuration of generators: plugins, cluster decision resources, certificates."""

    namespace = models.CharField(max_length=253, default="argocd")
    name = models.CharField(max_length=253)
    data = DocumentField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="configmap_once")
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class HostAnswer(models.Model):
    """The last answer of a server to a request, for conditional requests."""

    key = models.CharField(max_length=64, unique=True, help_text="Digest of URL and identity.")
    etag = models.CharField(max_length=500)
    body = models.BinaryField()
    headers = DocumentField(default=dict)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.key


class HostBudget(models.Model):
    """The remaining requests to a server, counted for all sets together."""

    server = models.CharField(max_length=300, unique=True)
    tokens = models.FloatField(default=0)
    filled_at = models.DateTimeField(default=timezone.now)
    blocked_until = models.DateTimeField(
        null=True, help_text="No requests before this time, as the server asked."
    )

    def __str__(self) -> str:
        return self.server


class GeneratorAnswer(models.Model):
    """The last good answer of a host to a generator."""

    key = models.CharField(max_length=64, unique=True, help_text="Digest of generator and project.")
    params = DocumentField(default=list)
    at = models.DateTimeField(default=timezone.now, db_index=True)
    error = models.TextField(blank=True, help_text="Why the last request failed.")
    failed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.key


class SetEvent(models.Model):
    """An event of a set, as Kubernetes events record it."""

    uid = models.UUIDField(db_index=True)
    kind = models.CharField(max_length=16, default="Normal")
    reason = models.CharField(max_length=64)
    message = models.TextField()
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.reason}: {self.message[:60]}"
