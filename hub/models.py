"""Tables of the app `hub`: accounts, the audit trail, resource versions, settings."""

import logging
import secrets
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import connection, models, transaction
from django.utils import timezone

from hub.base.crypto import SealedJSONField
from hub.base.json_columns import DocumentField
from hub.base.read_once import once

log = logging.getLogger(__name__)


class AccountManager(BaseUserManager["Account"]):
    """Creates accounts."""

    def get_by_natural_key(self, username: str | None) -> "Account":
        """Return the account with a name."""
        return self.get(name=username)


class Account(AbstractBaseUser):
    """A person who can sign in, or a machine with a token."""

    name = models.CharField(max_length=150, unique=True, help_text="Name to sign in with.")
    enabled = models.BooleanField(
        default=True, help_text="A disabled account cannot sign in, and its tokens are invalid."
    )
    capabilities = DocumentField(default=list, help_text="Any of login and apiKey.")
    password_changed_at = models.DateTimeField(default=timezone.now)
    token_generation = models.UUIDField(
        default=uuid.uuid4, help_text="Changes when all sessions must end."
    )
    created_at = models.DateTimeField(default=timezone.now)
    issuer = models.CharField(
        max_length=500, blank=True, help_text="Identity provider; empty for a local account."
    )
    subject = models.CharField(
        max_length=500,
        blank=True,
        help_text="The id of the account at the provider, which never changes.",
    )
    provider = models.CharField(max_length=200, blank=True)
    email = models.EmailField(max_length=320, blank=True)
    email_verified = models.BooleanField(default=False)
    display_name = models.CharField(max_length=300, blank=True)
    groups = DocumentField(
        default=list, help_text="The groups in the last response of the provider."
    )
    groups_at = models.DateTimeField(null=True)

    USERNAME_FIELD = "name"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[AccountManager] = AccountManager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["issuer", "subject"], condition=~models.Q(issuer=""), name="identity_once"
            )
        ]

    @property
    def is_active(self) -> bool:  # type: ignore[override]
        """Whether the account may be used."""
        return self.enabled

    @property
    def may_sign_in(self) -> bool:
        """Whether the account may have sessions."""
        return self.enabled and (not self.is_local or "login" in self.capabilities)

    @property
    def is_local(self) -> bool:
        """Whether it signs in with a password of this hub."""
        return not self.issuer

    @property
    def shown_name(self) -> str:
        """The name for people: the verified email of an account from single sign-on."""
        if self.is_local:
            return self.name
        return self.email if self.email and self.email_verified else self.subject

    def __str__(self) -> str:
        return self.name


class LoginSession(models.Model):
    """A session of a signed-in account: the client holds only its id."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="sessions")
    method = models.CharField(max_length=64, default="password")
    address = models.CharField(max_length=64, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    last_used_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    refresh = SealedJSONField(
        help_text="The refresh token of the provider, to refresh groups; sealed."
    )

    def __str__(self) -> str:
        return f"{self.account_id} by {self.method}"


class ApiToken(models.Model):
    """A token for machines, of an account or of a project role."""

    token_id = models.CharField(max_length=64)
    account = models.ForeignKey(Account, null=True, on_delete=models.CASCADE, related_name="tokens")
    project = models.CharField(max_length=253, blank=True)
    role = models.CharField(max_length=253, blank=True)
    description = models.CharField(max_length=300, blank=True)
    created_by = models.CharField(max_length=400, blank=True)
    issued_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "token_id"],
                condition=models.Q(project=""),
                name="account_token_once",
            ),
            models.UniqueConstraint(
                fields=["project", "role", "token_id"],
                condition=~models.Q(project=""),
                name="role_token_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.token_id} of {self.subject}"

    @property
    def subject(self) -> str:
        """The token's subject in RBAC."""
        if self.account is None:
            return f"proj:{self.project}:{self.role}"
        return self.account.name


class Role(models.Model):
    """A set of rules and its members: equivalent to policy lines, kept as an object."""

    name = models.CharField(max_length=200, unique=True)
    description = models.CharField(max_length=1000, blank=True)
    rules = DocumentField(
        default=list, help_text="A list of {resource, action, object, effect, clusters}."
    )
    members = DocumentField(default=list, help_text="Accounts, groups and other roles.")
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class ProjectPolicy(models.Model):
    """The roles of a project, as access decisions read them."""

    project = models.CharField(max_length=253, unique=True)
    roles = DocumentField(default=list)

    def __str__(self) -> str:
        return self.project


class Grant(models.Model):
    """A temporary right, with its reason; it expires by itself."""

    subject = models.CharField(max_length=500)
    resource = models.CharField(max_length=64)
    action = models.CharField(max_length=300)
    object = models.CharField(max_length=600)
    clusters = models.CharField(max_length=500, blank=True)
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(db_index=True)
    reason = models.CharField(max_length=1000)
    ticket = models.CharField(max_length=200, blank=True)
    granted_by = models.CharField(max_length=400)
    revoked_at = models.DateTimeField(null=True)
    is_closed = models.BooleanField(
        default=False, help_text="Whether the trail has the event of its end."
    )

    def __str__(self) -> str:
        return f"{self.subject} {self.action} {self.resource} {self.object} until {self.ends_at}"


class AccessRecord(models.Model):
    """An input of access decisions since a point in time, to explain past decisions."""

    kind = models.CharField(
        max_length=16, help_text="policy, role, project, account, grant or cluster."
    )
    name = models.CharField(max_length=600)
    value = models.JSONField(null=True, help_text="Null when it was deleted.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["kind", "name", "at"], name="access_record_at")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} at {self.at}"


class IdentityProvider(models.Model):
    """An identity provider for sign-in."""

    slug = models.SlugField(
        max_length=60, unique=True, help_text="The id, which is part of its URLs."
    )
    name = models.CharField(
        max_length=100, help_text="The label of the button on the sign-in page."
    )
    protocol = models.CharField(max_length=8, default="oidc", help_text="oidc or saml.")
    config = SealedJSONField(help_text="Client, secret, claims and certificates; sealed.")
    is_enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class LoginFailure(models.Model):
    """Failed sign-ins of one name or address, to limit guessing, also across restarts."""

    name = models.CharField(max_length=200, unique=True)
    count = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"


class AuditEvent(models.Model):
    """One change or refusal: actor, action, object, origin and result."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    uid = models.UUIDField(default=uuid.uuid4)
    actor = models.CharField(
        max_length=400, db_index=True, help_text="The account, or the part of the hub, that acted."
    )
    who = DocumentField(
        default=dict, help_text="Account, issuer, subject, groups, token, session of the actor."
    )
    address = models.CharField(max_length=64, blank=True)
    verb = models.CharField(max_length=64, db_index=True)
    kind = models.CharField(max_length=64)
    object = models.CharField(max_length=600, db_index=True)
    project = models.CharField(max_length=253, blank=True, db_index=True)
    cluster = models.CharField(max_length=253, blank=True)
    outcome = models.CharField(max_length=16, default="allowed")
    reason = models.TextField(blank=True)
    ticket = models.CharField(max_length=200, blank=True)
    operation = models.BigIntegerField(null=True)
    revisions = DocumentField(default=list)
    change = DocumentField(
        default=dict, help_text="Digest before and after, and the masked difference."
    )
    detail = DocumentField(default=dict)
    retention = models.CharField(max_length=16, default="change", help_text="The retention class.")

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.kind} {self.object}"


class AuditLink(models.Model):
    """One link of the chain: the digest of an event and of the link before it."""

    sequence = models.BigIntegerField(primary_key=True)
    event_id = models.BigIntegerField(unique=True)
    digest = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"#{self.sequence}"


class AuditCheckpoint(models.Model):
    """A signed link: nothing before it can change without the key."""

    sequence = models.BigIntegerField(unique=True)
    hash = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now)
    key_id = models.CharField(max_length=64)
    signature = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"checkpoint #{self.sequence}"


class PendingChange(models.Model):
    """A change of a live resource whose intent is in the trail, but not its outcome yet."""

    event = models.BigIntegerField(unique=True, help_text="The event of the intent.")
    uid = models.UUIDField(help_text="The UUID of that event.")
    cluster = models.BigIntegerField()
    application = models.BigIntegerField()
    plan = SealedJSONField(
        help_text="The change and the previous state; sealed, as they may hold a secret."
    )
    due_at = models.DateTimeField(
        db_index=True,
        help_text="When the live resource is read, unless the outcome is known by then.",
    )
    attempts = models.PositiveIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"intent {self.uid}"


class AuditGate(models.Model):
    """A row that lets retention remove events within one transaction; otherwise triggers refuse."""

    opened_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.opened_at)


class SavedView(models.Model):
    """A saved search of the audit trail."""

    owner = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="views")
    page = models.CharField(max_length=32, default="audit")
    name = models.CharField(max_length=100)
    query = DocumentField(default=dict)
    is_shared = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "page", "name"], name="view_once")
        ]

    def __str__(self) -> str:
        return self.name


class IdempotentResponse(models.Model):
    """The response to a request with an idempotency key, for repetitions."""

    owner = models.CharField(max_length=700)
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="The digest of method, path and body.")
    status = models.PositiveSmallIntegerField(null=True, help_text="Empty while it runs.")
    answer = SealedJSONField(
        of_any_kind=True, help_text="The body; sealed, as it may hold a token."
    )
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        db_table = "hub_keptanswer"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_once")
        ]

    def __str__(self) -> str:
        return self.key


class CacheEntry(models.Model):
    """A value of `hub.auth.cache`."""

    name = models.CharField(max_length=64, primary_key=True, help_text="The digest of its key.")
    value = models.JSONField(null=True)
    expires_at = models.DateTimeField(null=True, db_index=True)

    def __str__(self) -> str:
        return self.name


class Counter(models.Model):
    """The counter of this hub for resource versions."""

    name = models.CharField(max_length=32, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class Tombstone(models.Model):
    """A deleted object, kept so that streams can report it."""

    resource_version = models.BigIntegerField(db_index=True)
    kind = models.CharField(max_length=64)
    namespace = models.CharField(max_length=253, blank=True)
    name = models.CharField(max_length=253)
    project = models.CharField(max_length=253, blank=True)
    row = models.BigIntegerField(null=True)
    """The primary key of the deleted row, by which pages know it."""
    manifest = DocumentField(default=dict)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


OLDEST = "oldest_version"
"""The setting with the oldest version since which every deletion is recorded."""


def forget_tombstones(before: datetime) -> None:
    """Remove tombstones, and store the oldest version from which streams can resume."""
    old = Tombstone.objects.filter(at__lt=before)
    newest = old.aggregate(newest=models.Max("resource_version"))["newest"]
    if newest is not None:
        change_setting(OLDEST, newest)
        old.filter(resource_version__lte=newest).delete()


NOTICES = "notices"
"""The setting with the notices that are shown on every page."""


class Setting(models.Model):
    """A setting that administrators change at run time."""

    name = models.CharField(max_length=150, primary_key=True)
    value = models.JSONField()
    resource_version = models.BigIntegerField(
        default=0, help_text="The resource version of the notices, which are pushed to open pages."
    )

    def __str__(self) -> str:
        return self.name


class Lockable(models.Model):
    """A row that is locked before the counter of resource versions is."""

    class Meta:
        abstract = True

    def lock(self) -> bool:
        """Lock the row until the transaction ends, and return whether it exists.

        A row that is new or deleted is not locked. The counter comes last in every transaction: any
        other order could deadlock.
        """
        rows = type(self)._default_manager.select_for_update().filter(pk=self.pk)
        return bool(list(rows.values_list("pk")))


def next_version() -> int:
    """Return the next resource version; the rows to write must be locked already.

    The counter stays locked until the transaction ends, so that versions become visible in order: a
    stream that has seen one never misses a smaller one.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE hub_counter SET value = value + 1 WHERE name = 'resource' RETURNING value"
        )
        row = cursor.fetchone()
        if row is None:
            Counter.objects.get_or_create(name="resource")
            cursor.execute(
                "UPDATE hub_counter SET value = value + 1 WHERE name = 'resource' RETURNING value"
            )
            row = cursor.fetchone()
        return int(row[0])


def current_version() -> int:
    """Return the newest resource version."""
    return Counter.objects.filter(name="resource").values_list("value", flat=True).first() or 0


def setting(name: str, default: Any = None) -> Any:
    """Return a setting that administrators can change.

    A value of another type than its default counts as not set, and is logged.
    """
    rows = Setting.objects.filter(name=name).values_list("value", flat=True)
    value = once(("setting", name), rows.first)
    if value is None or default is None or isinstance(value, _kinds(default)):
        return default if value is None else value
    log.warning("the setting %s has a value of the wrong kind: write it again", name)
    return default


def _kinds(default: Any) -> tuple[type, ...]:
    return (int, float) if type(default) in (int, float) else (type(default),)


def locked_setting(name: str, default: Any) -> Any:
    """Return a setting to update a part of it, locked until the transaction ends."""
    Setting.objects.get_or_create(name=name, defaults={"value": default})
    list(Setting.objects.select_for_update().filter(name=name))
    return setting(name, default)


def settings_of(names: Iterable[str]) -> dict[str, Any]:
    """Return several settings at once, without those that are not set."""
    return dict(Setting.objects.filter(name__in=list(names)).values_list("name", "value"))


def change_setting(name: str, value: Any) -> None:
    """Store a setting; open pages show new notices at once."""
    if name != NOTICES:
        Setting.objects.update_or_create(name=name, defaults={"value": value})
        return
    with transaction.atomic():
        list(Setting.objects.select_for_update().filter(name=name))
        version = next_version()
        Setting.objects.update_or_create(
            name=name, defaults={"value": value, "resource_version": version}
        )


def access_changed(kind: str, name: str, value: Any) -> None:
    """Record an input of access decisions, and invalidate every process's compiled policies."""
    AccessRecord.objects.create(kind=kind, name=name, value=value)
    change_setting("access_version", str(uuid.uuid4()))


def new_password() -> str:
    """Return a random password of 24 characters."""
    return secrets.token_urlsafe(18)
