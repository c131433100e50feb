"""Projects, repositories, applications and operations."""

import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone

from clusters.models import Cluster, unpack
from hub.base.crypto import SealedJSONField
from hub.base.json_columns import DocumentField, has, is_object, is_text
from hub.base.query_conditions import PairOf
from hub.engine.autosync import is_automated
from hub.engine.cluster_scopes import Where
from hub.engine.resource import Manifest
from hub.models import Account, Lockable, next_version

FINALIZER = "resources-finalizer.argocd.argoproj.io"
DEFAULT_PROJECT: dict[str, Any] = {
    "sourceRepos": ["*"],
    "destinations": [{"server": "*", "namespace": "*"}],
    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
}


class Project(Lockable):
    """The limits of applications: sources, destinations and kinds."""

    name = models.CharField(max_length=253, unique=True)
    uid = models.UUIDField(default=uuid.uuid4)
    spec = DocumentField(default=dict)
    labels = DocumentField(default=dict)
    annotations = DocumentField(default=dict)
    finalizers = DocumentField(default=list, entries=is_text)
    created_at = models.DateTimeField(default=timezone.now)
    generation = models.PositiveIntegerField(default=1)
    resource_version = models.BigIntegerField(default=0, db_index=True)

    def __str__(self) -> str:
        return self.name


class Repository(Lockable):
    """A source of manifests or charts, with the credentials to read it."""

    url = models.CharField(max_length=1000)
    kind = models.CharField(max_length=8, default="git", help_text="git, helm or oci.")
    name = models.CharField(max_length=253, blank=True)
    project = models.CharField(max_length=253, blank=True)
    credentials = SealedJSONField()
    options = DocumentField(
        default=dict, help_text="Options that are not secret: insecure, enableOCI, proxy."
    )
    created_at = models.DateTimeField(default=timezone.now)
    connection = models.CharField(max_length=16, default="Unknown")
    message = models.TextField(blank=True)
    attempted_at = models.DateTimeField(null=True)
    resource_version = models.BigIntegerField(default=0, db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["url", "project"], name="repository_once")
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def rbac_object(self) -> str:
        """Its name in RBAC rules: the URL, prefixed by its project if it belongs to one."""
        return f"{self.project}/{self.url}" if self.project else self.url


class CredentialTemplate(models.Model):
    """Credentials for every repository whose URL starts with a prefix."""

    url = models.CharField(max_length=1000, unique=True)
    kind = models.CharField(max_length=8, default="git")
    credentials = SealedJSONField()
    options = DocumentField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.url


class GitRemote(models.Model):
    """The refs of a git repository, polled once per interval for all applications."""

    url = models.CharField(max_length=1000, unique=True)
    refs = DocumentField(default=dict, help_text="Full ref name → commit.")
    head = models.CharField(max_length=300, blank=True, help_text="The ref that HEAD points to.")
    checked_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(default=timezone.now, db_index=True)
    claimed_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    readers = DocumentField(
        default=dict,
        help_text="Name of credentials → when the server last accepted or rejected them.",
    )
    moved = DocumentField(
        default=list,
        null=True,
        help_text="Moved refs whose applications have not been refreshed yet.",
    )
    moved_at = models.DateTimeField(
        null=True, db_index=True, help_text="When they moved; empty once all readers are due."
    )

    def __str__(self) -> str:
        return self.url


class Published(models.Model):
    """The versions that a chart repository or registry last listed, for one set of credentials."""

    place = models.CharField(max_length=1000, help_text="URL of an index, or host/path[:tag].")
    reader = models.CharField(max_length=32, help_text="Name of the credentials.")
    digest = models.CharField(
        max_length=64, help_text="Digest of all versions, or the one that a tag names."
    )
    moves = models.PositiveIntegerField(default=0, help_text="How often the digest changed.")
    moved_at = models.DateTimeField(
        null=True, db_index=True, help_text="Empty once all readers are due."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["place", "reader"], name="published_once")
        ]

    def __str__(self) -> str:
        return self.place


class RenderedManifests(models.Model):
    """Cached rendered manifests, found by their inputs and shared by all applications."""

    source_key = models.CharField(
        max_length=64, db_index=True, help_text="Digest of parameters, tool and policies."
    )
    inputs = DocumentField(
        default=list, help_text="[origin, path, hash] of every file that was read, or was missing."
    )
    manifests = models.BinaryField(help_text="Normalized manifests, compressed.")
    tool = models.CharField(max_length=16)
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.tool} {self.digest[:12]}"

    def load(self) -> list[Manifest]:
        """Return the manifests."""
        return list(unpack(self.manifests))


class RenderFailure(models.Model):
    """A failed render, which is not retried at once."""

    key = models.CharField(max_length=64, unique=True, help_text="Digest of source and revision.")
    reason = models.CharField(max_length=64)
    message = models.TextField()
    attempts = models.PositiveIntegerField(default=1)
    retry_at = models.DateTimeField(
        null=True, help_text="When to retry; empty if only a new revision can fix it."
    )
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.message[:80]


ERRORS = ("InvalidSpecError", "ComparisonError", "UnknownError")
"""Conditions of a comparison that failed."""
DELAYED = "RenderingDelayedWarning"
"""The condition that the project has to wait for a renderer; the status stays."""


class ApplicationQuerySet(models.QuerySet["Application"]):
    """Queries of applications."""

    def due(self) -> "ApplicationQuerySet":
        """Return the applications that are due for a refresh and not claimed."""
        now = timezone.now()
        return self.filter(refresh_at__lte=now).filter(
            Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
        )

    def locked(self) -> "ApplicationQuerySet":
        """Lock these rows until the end of the transaction.

        All transactions lock in one order to avoid deadlocks: applications by key, then operations,
        then the counter of resource versions.
        """
        # SQLite has a single writer and no row locks.
        if connection.features.has_select_for_update:
            list(self.select_for_update().order_by("pk").values_list("pk"))
        return self

    def bump(self, **changes: Any) -> int:
        """Update rows with a new resource version; return their number."""
        with transaction.atomic():
            self.locked()
            return self.update(resource_version=next_version(), **changes)


class Application(models.Model):
    """One or several sources, deployed to a destination."""

    namespace = models.CharField(max_length=253, default="argocd")
    name = models.CharField(max_length=253)
    uid = models.UUIDField(default=uuid.uuid4)
    project = models.CharField(max_length=253, db_index=True)
    spec = DocumentField(default=dict)
    labels = DocumentField(default=dict)
    annotations = DocumentField(default=dict)
    finalizers = DocumentField(default=list, entries=is_text)
    created_at = models.DateTimeField(default=timezone.now)
    generation = models.PositiveIntegerField(default=1)
    resource_version = models.BigIntegerField(default=0, db_index=True)
    edited_version = models.BigIntegerField(
        default=0, help_text="The resource version of the last change of spec or metadata."
    )
    deletion_requested_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=150, blank=True)
    owner = models.CharField(
        max_length=253,
        blank=True,
        db_index=True,
        help_text="The ApplicationSet, in the same namespace, that created it.",
    )
    owner_uid = models.UUIDField(null=True)

    cluster = models.ForeignKey(
        Cluster, null=True, on_delete=models.SET_NULL, related_name="applications"
    )
    dest_namespace = models.CharField(max_length=253, blank=True)
    remotes = models.ManyToManyField(GitRemote, related_name="applications")

    sync_status = models.CharField(max_length=16, default="Unknown", db_index=True)
    health_status = models.CharField(max_length=16, default="Unknown", db_index=True)
    health_message = models.TextField(blank=True)
    health_changed_at = models.DateTimeField(null=True)
    out_of_sync_since = models.DateTimeField(null=True)
    revisions = DocumentField(
        default=list, entries=is_text, help_text="One resolved revision for each source."
    )
    compared_to = DocumentField(
        default=dict, help_text="Sources, destination and rules of the last comparison."
    )
    source_types = DocumentField(default=list)
    conditions = DocumentField(default=list, entries=has("type", "message"))
    resources = DocumentField(
        default=list,
        entries=is_object,
        help_text="Status of each resource, as in status.resources.",
    )
    summary = DocumentField(default=dict)
    compared_at = models.DateTimeField(
        null=True, help_text="When a comparison last ended, even if it failed."
    )
    reconciled_at = models.DateTimeField(
        null=True, help_text="When the status was last known to be true."
    )
    inputs = DocumentField(
        default=list,
        help_text="[origin, path, hash] of the files that the manifests were rendered from.",
    )
    comparison_digest = models.CharField(max_length=64, blank=True)

    refresh_at = models.DateTimeField(
        default=timezone.now,
        null=True,
        db_index=True,
        help_text="When the next refresh is due; empty if only an event triggers it.",
    )
    refresh_kind = models.CharField(
        max_length=8, blank=True, help_text="The requested refresh: normal or hard."
    )
    refresh_requested_at = models.DateTimeField(
        null=True, help_text="When it was requested; refreshes that began earlier do not count."
    )
    claimed_until = models.DateTimeField(null=True)
    operation = models.ForeignKey(
        "Operation", null=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = ApplicationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "name"], name="application_once")
        ]

    def __str__(self) -> str:
        return self.qualified_name

    @property
    def qualified_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def rbac_object(self) -> str:
        """Its name in RBAC rules: `project/name`, or `project/namespace/name`."""
        if self.namespace == settings.NAMESPACE:
            return f"{self.project}/{self.name}"
        return f"{self.project}/{self.namespace}/{self.name}"

    @classmethod
    def where_of(cls, resource: str, name: str) -> Where | None:
        """Return the cluster of an application, by its name in RBAC rules."""
        parts = name.split("/")
        if resource not in ("applications", "logs", "exec") or len(parts) not in (2, 3):
            return None
        namespace = parts[1] if len(parts) == 3 else settings.NAMESPACE
        found = (
            cls.objects.select_related("cluster")
            .filter(project=parts[0], namespace=namespace, name=parts[-1])
            .first()
        )
        return found.where if found else None

    @property
    def where(self) -> Where | None:
        """The cluster that it is deployed to, for RBAC rules."""
        return self.cluster.where if self.cluster is not None else None

    @property
    def instance(self) -> str:
        """The name in the tracking mark of its resources."""
        is_own = self.namespace == settings.NAMESPACE
        return self.name if is_own else f"{self.namespace}_{self.name}"

    @property
    def sources(self) -> list[dict[str, Any]]:
        """All sources, of `spec.sources` or `spec.source`."""
        several, one = self.spec.get("sources"), self.spec.get("source")
        found = several if isinstance(several, list) and several else [one] if one else []
        return [source for source in found if isinstance(source, dict)]

    @property
    def is_multi_source(self) -> bool:
        """Whether the spec uses `sources`."""
        return bool(self.spec.get("sources"))

    @property
    def sync_policy(self) -> dict[str, Any]:
        """The syncPolicy block."""
        found = self.spec.get("syncPolicy")
        return dict(found) if isinstance(found, dict) else {}

    @property
    def is_automated(self) -> bool:
        """Whether automated sync is on."""
        return is_automated(self.sync_policy)

    @property
    def cascades(self) -> bool:
        """Whether a deletion also deletes its resources."""
        return any(f.startswith(FINALIZER) for f in self.finalizers)


def instance_filter(instances: Iterable[str]) -> Q:
    """Return the condition that an application has one of many instance names."""
    pairs = []
    for instance in instances:
        namespace, separator, name = instance.partition("_")
        pairs.append((namespace, name) if separator else (settings.NAMESPACE, instance))
    return Q(PairOf("namespace", "name", pairs))


class ManagedResource(models.Model):
    """A resource that an application compares, so that its changes trigger a refresh."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="managed")
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=700)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["cluster", "key"], name="managed_key")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["application", "key"], name="managed_once")
        ]

    def __str__(self) -> str:
        return self.key


class Operation(models.Model):
    """One run of a sync or rollback: a state machine that any worker can continue."""

    application = models.ForeignKey(
        Application, on_delete=models.CASCADE, related_name="operations"
    )
    request = DocumentField(
        default=dict, help_text="As Argo CD's operation: sync, initiatedBy, info, retry."
    )
    phase = models.CharField(max_length=16, default="Running", db_index=True)
    message = models.TextField(blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    retries = models.PositiveIntegerField(default=0)
    revisions = DocumentField(
        default=list, entries=is_text, help_text="The exact revisions that are applied."
    )
    sources = DocumentField(default=list)
    steps = DocumentField(default=list, help_text="The plan, with the state of each step.")
    is_planned = models.BooleanField(default=False)
    manifests_digest = models.CharField(
        max_length=64, blank=True, help_text="Digest of the applied manifests."
    )
    due_at = models.DateTimeField(default=timezone.now, db_index=True)
    claimed_until = models.DateTimeField(null=True)
    failure = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="Why the sync failed, while its SyncFail hooks run.",
    )
    heal_attempts = models.PositiveIntegerField(default=0)
    is_rollback = models.BooleanField(default=False)
    started_by = models.JSONField(
        null=True, help_text="The person whose rights the operation has; empty for automated syncs."
    )
    reason = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["application"],
                condition=Q(phase__in=["Running", "Terminating"]),
                name="one_running_operation",
            )
        ]

    def __str__(self) -> str:
        return f"operation {self.pk} of {self.application_id}"

    @property
    def sync(self) -> dict[str, Any]:
        """The `sync` block of the request."""
        return dict(self.request.get("sync") or {})

    @property
    def is_automated(self) -> bool:
        """Whether it is an automated sync."""
        return bool((self.request.get("initiatedBy") or {}).get("automated"))


class Revision(models.Model):
    """One entry of an application's history: what was deployed when, by whom."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="history")
    number = models.PositiveIntegerField()
    revisions = DocumentField(default=list, entries=is_text)
    sources = DocumentField(default=list)
    is_multi_source = models.BooleanField(default=False)
    deployed_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    initiated_by = DocumentField(default=dict)

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["application", "number"], name="revision_once")
        ]

    def __str__(self) -> str:
        return f"{self.application_id} #{self.number}"


class ApplicationEvent(models.Model):
    """An event of an application, in the form of Kubernetes events."""

    application_uid = models.UUIDField(db_index=True)
    namespace = models.CharField(max_length=253)
    name = models.CharField(max_length=253)
    kind = models.CharField(max_length=16, default="Normal")
    reason = models.CharField(max_length=64)
    message = models.TextField()
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.reason}: {self.message[:60]}"


class StatusChange(models.Model):
    """A change of an application's sync status or health, for charts and timelines."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="changes")
    at = models.DateTimeField(default=timezone.now, db_index=True)
    health_before = models.CharField(max_length=16)
    health = models.CharField(max_length=16)
    sync_before = models.CharField(max_length=16)
    sync = models.CharField(max_length=16)
    revision = models.CharField(max_length=200, blank=True, help_text="The revision at that time.")
    message = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["application", "at"], name="status_change_at")]

    def __str__(self) -> str:
        return f"{self.application_id}: {self.sync}, {self.health}"


class Favourite(models.Model):
    """An application that an account marked as a favourite."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    application = models.ForeignKey(
        Application, on_delete=models.CASCADE, related_name="favourites"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "application"], name="favourite_once")
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.application_id}"
