"""What every part of the hub stands on: accounts, the trail, the number that orders changes."""

import secrets
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import connection, models, transaction
from django.utils import timezone


class AccountManager(BaseUserManager["Account"]):
    """Creates accounts."""

    def get_by_natural_key(self, username: str | None) -> "Account":
        """Return the account of a name."""
        return self.get(name=username)


class Account(AbstractBaseUser):
    """Somebody who can sign in, or a machine with a token."""

    name = models.CharField(max_length=150, unique=True, help_text="Name to sign in with.")
    enabled = models.BooleanField(
        default=True, help_text="A disabled account cannot sign in; its tokens die at once."
    )
    capabilities = models.JSONField(default=list, help_text="Any of login and apiKey.")
    password_changed_at = models.DateTimeField(default=timezone.now)
    token_generation = models.UUIDField(
        default=uuid.uuid4, help_text="Changes when all sessions must end."
    )

    USERNAME_FIELD = "name"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[AccountManager] = AccountManager()

    @property
    def is_active(self) -> bool:  # type: ignore[override]
        """Whether the account may be used."""
        return self.enabled

    def __str__(self) -> str:
        return self.name


class RevokedToken(models.Model):
    """A session that was ended before its time."""

    jti = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.jti


class LoginFailure(models.Model):
    """Failed sign-ins of one name, so that guessing is stopped, also across restarts."""

    name = models.CharField(max_length=150, unique=True)
    count = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"


class AuditEvent(models.Model):
    """One change or refusal: who did what to which object, from where, and how it ended."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(
        max_length=150, help_text="Account, or the part of the hub that acted."
    )
    address = models.CharField(max_length=64, blank=True)
    verb = models.CharField(max_length=64, db_index=True)
    kind = models.CharField(max_length=64)
    object = models.CharField(max_length=600, db_index=True)
    project = models.CharField(max_length=150, blank=True)
    outcome = models.CharField(max_length=16, default="allowed")
    detail = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.kind} {self.object}"


class Counter(models.Model):
    """The one increasing number of this hub, from which resource versions come."""

    name = models.CharField(max_length=32, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class Tombstone(models.Model):
    """An object that is gone, kept so that streams can say so."""

    resource_version = models.BigIntegerField(db_index=True)
    kind = models.CharField(max_length=64)
    namespace = models.CharField(max_length=253, blank=True)
    name = models.CharField(max_length=253)
    project = models.CharField(max_length=253, blank=True)
    manifest = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Setting(models.Model):
    """A setting that administrators change while the hub runs."""

    name = models.CharField(max_length=150, primary_key=True)
    value = models.JSONField()

    def __str__(self) -> str:
        return self.name


def next_version() -> int:
    """Return the next resource version.

    The row stays locked until the transaction ends, so that versions become visible in their
    order: a stream that has seen one never misses a smaller one.
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
    """Return the newest resource version that was given."""
    return Counter.objects.filter(name="resource").values_list("value", flat=True).first() or 0


def setting(name: str, default: Any) -> Any:
    """Return a setting that administrators can change."""
    value = Setting.objects.filter(name=name).values_list("value", flat=True).first()
    return default if value is None else value


def settings_of(names: Iterable[str]) -> dict[str, Any]:
    """Return several settings at once, without those that are not set."""
    return dict(Setting.objects.filter(name__in=list(names)).values_list("name", "value"))


def new_password() -> str:
    """Return a random password of 24 characters."""
    return secrets.token_urlsafe(18)
