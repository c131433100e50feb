"""Clusters, the kinds they serve, and the live resources in them."""

import zlib
from collections.abc import Iterable
from typing import Any, ClassVar

import orjson
from django.db import models
from django.utils import timezone

from hub.base.crypto import SealedJSONField
from hub.base.json_columns import DocumentField
from hub.engine.cluster_scopes import Where
from hub.engine.resource import Manifest, ResourceKey
from hub.engine.status import Assessment, Health
from hub.engine.tree import Node
from hub.models import Lockable

HOME_SERVER = "https://kubernetes.default.svc"
HOME_NAME = "in-cluster"


def _is_kind(entry: Any) -> bool:
    return (
        isinstance(entry, list) and len(entry) == 5 and all(isinstance(e, str) for e in entry[:4])
    )


class Cluster(Lockable):
    """A destination of applications."""

    server = models.CharField(max_length=500, unique=True, help_text="URL of the API server.")
    name = models.CharField(max_length=253, db_index=True, help_text="The display name.")
    config = SealedJSONField(help_text="Credentials and TLS settings, as Argo CD's cluster config.")
    labels = DocumentField(default=dict, blank=True)
    annotations = DocumentField(default=dict, blank=True)
    namespaces = DocumentField(
        default=list, blank=True, help_text="The watched namespaces; empty for all."
    )
    cluster_resources = models.BooleanField(
        default=False, help_text="Whether to watch cluster-scoped kinds too, with namespaces."
    )
    project = models.CharField(max_length=253, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    resource_version = models.BigIntegerField(default=0, db_index=True)
    generation = models.PositiveIntegerField(
        default=1, help_text="Grows when credentials or scope change."
    )

    connection = models.CharField(
        max_length=16, default="Unknown", help_text="Successful, Failed or Unknown."
    )
    message = models.TextField(blank=True)
    attempted_at = models.DateTimeField(null=True)
    server_version = models.CharField(max_length=64, blank=True)
    api_kinds = DocumentField(
        default=list,
        entries=_is_kind,
        blank=True,
        help_text="The kinds that the cluster serves, as of the last discovery.",
    )
    """Every version of every kind that the cluster serves."""
    resource_count = models.PositiveIntegerField(default=0)
    last_event_at = models.DateTimeField(null=True)
    synced_at = models.DateTimeField(null=True, help_text="When the live store was last complete.")
    is_synced = models.BooleanField(default=False, help_text="Whether the live store is complete.")

    lease_holder = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name

    @property
    def kinds(self) -> set[tuple[str, str]]:
        """Group and kind of everything that the cluster serves, each once."""
        return {(group, kind) for group, _version, kind, *_ in self.api_kinds}

    @classmethod
    def where_of(cls, resource: str, name: str) -> Where | None:
        """Return a cluster as rules match it, by its name in policies."""
        if resource != "clusters":
            return None
        found = cls.objects.filter(server=name).first()
        if found is None and "/" in name:
            project, _, server = name.partition("/")
            found = cls.objects.filter(server=server, project=project).first()
        return found.where if found else None

    @property
    def where(self) -> Where:
        """The fields that rules with a scope match."""
        return Where(self.server, self.name, self.labels)

    @property
    def rbac_object(self) -> str:
        """Its name in policies: the server, prefixed with the project when it belongs to one."""
        return f"{self.project}/{self.server}" if self.project else self.server

    @property
    def is_home(self) -> bool:
        """Whether it is the hub's own cluster."""
        return self.server == HOME_SERVER


_NODE = (
    *("group", "kind", "namespace", "name", "version", "uid", "resource_version", "created_at"),
    *("owners", "health", "health_message", "shown", "owner_uid", "instance", "is_self"),
)


def _node(row: Iterable[Any]) -> Node:
    group, kind, namespace, name, version, uid, resource_version, created_at, owners, *rest = row
    health, message, shown, *marks = rest
    assessment = Assessment(Health(health), message) if health else None
    key = ResourceKey(group, kind, namespace, name)
    owners = tuple(owners)
    return Node(key, version, uid, resource_version, created_at, owners, assessment, shown, *marks)


class LiveQuerySet(models.QuerySet["LiveResource"]):
    """Queries on many live resources."""

    def of_instance(self, instance: str) -> "LiveQuerySet":
        """Return the managed resources of an application instance."""
        return self.filter(instance=instance)

    def with_keys(self, keys: list[str]) -> "LiveQuerySet":
        """Return the resources with these keys."""
        return self.filter(key__in=keys)

    def nodes(self) -> list[Node]:
        """Return the resources as nodes of the tree, without creating models."""
        return [_node(row) for row in self.values_list(*_NODE)]


class LiveResource(models.Model):
    """A resource that a watch saw, with its manifest only if an application manages it."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="live")
    key = models.CharField(max_length=700, help_text="group/Kind/namespace/name.")
    group = models.CharField(max_length=253, blank=True)
    version = models.CharField(max_length=64)
    kind = models.CharField(max_length=253)
    namespace = models.CharField(max_length=253, blank=True)
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=64)
    resource_version = models.CharField(max_length=64)
    created_at = models.CharField(max_length=32, blank=True)
    owners = DocumentField(default=list)
    owner_uid = models.CharField(max_length=64, blank=True)
    instance = models.CharField(
        max_length=600, blank=True, help_text="The application instance that manages it."
    )
    is_self = models.BooleanField(default=False)
    deleting = models.BooleanField(default=False)
    health = models.CharField(max_length=16, blank=True)
    health_message = models.TextField(blank=True)
    shown = DocumentField(default=dict)
    digest = models.CharField(
        max_length=64, blank=True, help_text="The digest of the fields that comparisons use."
    )
    body = models.BinaryField(
        null=True, help_text="The whole resource, compressed, if it is managed."
    )

    objects: ClassVar[models.Manager["LiveResource"]] = LiveQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "key"], name="live_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["cluster", "instance"], name="live_instance"),
            models.Index(fields=["cluster", "owner_uid"], name="live_owner"),
            models.Index(fields=["cluster", "group", "kind"], name="live_kind"),
            models.Index(fields=["cluster", "namespace"], name="live_namespace"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def resource_key(self) -> ResourceKey:
        """The resource key in the engine's form."""
        return ResourceKey(self.group, self.kind, self.namespace, self.name)

    @property
    def manifest(self) -> Manifest | None:
        """The full manifest, None when only metadata is stored."""
        return unpack(self.body) if self.body is not None else None

    @property
    def assessment(self) -> Assessment | None:
        """The health that was assessed when it was stored."""
        return Assessment(Health(self.health), self.health_message) if self.health else None

    def node(self) -> Node:
        """Return the resource as a node of the tree."""
        return _node(getattr(self, field) for field in _NODE)


class LiveChange(models.Model):
    """A change of live resources whose applications have not been refreshed yet.

    It is written in the transaction of the change, so it is never lost.
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    instances = DocumentField(default=list)
    keys = DocumentField(default=list)
    seen = DocumentField(
        default=list,
        null=True,
        help_text="Keys whose applications show the change but need no comparison.",
    )

    def __str__(self) -> str:
        return f"{len(self.keys)} resources of {self.cluster_id}"


class SchemaDocument(models.Model):
    """An API server's OpenAPI document of one group and version, in the engine's compact form.

    It is fetched once for all processes.
    """

    key = models.CharField(
        max_length=300,
        primary_key=True,
        help_text="The digest of the document, or its cluster and path.",
    )
    digest = models.CharField(
        max_length=200, help_text="The hash of this version, as the server publishes it."
    )
    body = models.BinaryField()
    used_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.key


class DryRun(models.Model):
    """An API server's response to a dry run, valid while manifest and live resource stay."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="+")
    resource = models.CharField(max_length=700, help_text="group/Kind/namespace/name.")
    asked = models.CharField(
        max_length=64,
        help_text="Digest of the manifest as sent, the options and the impersonated user.",
    )
    place = models.CharField(
        max_length=66,
        help_text="Digest of the live values in doubt, or of the whole live resource.",
    )
    verdict = models.CharField(max_length=16, help_text="same, different or refused.")
    message = models.TextField(
        blank=True, help_text="The error message of the server, if it refused."
    )
    body = models.BinaryField(
        null=True, help_text="The resource that the server returned, compressed; never a Secret."
    )
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster", "resource", "asked", "place"], name="dry_run_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.resource}: {self.verdict}"


def pack(value: Any) -> bytes:
    """Return a JSON value, compressed."""
    return zlib.compress(orjson.dumps(value), 1)


def unpack(data: bytes | memoryview) -> Any:
    """Return the value of `pack`."""
    return orjson.loads(zlib.decompress(bytes(data)))
