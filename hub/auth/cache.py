"""Django's cache, kept in the database.

Sign-in keeps limits and used one-time codes here: they hold in every process, also without Redis.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db.models import Q, QuerySet
from django.utils import timezone

from hub.models import CacheEntry


class Cache(BaseCache):
    """Values are JSON, so that write access to the database cannot run code."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> bool:
        """Store a value unless there is one; return whether it was stored."""
        name, new = self._name(key, version), {"value": value, "expires_at": self._end(timeout)}
        _row, is_new = CacheEntry.objects.get_or_create(name=name, defaults=new)
        if is_new:
            return True
        old = CacheEntry.objects.filter(name=name, expires_at__lte=timezone.now())
        return bool(old.update(**new))

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        """Return a value."""
        found = self._living(key, version).values_list("value", flat=True)
        return next(iter(found), default)

    def set(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        """Store a value."""
        CacheEntry.objects.update_or_create(
            name=self._name(key, version),
            defaults={"value": value, "expires_at": self._end(timeout)},
        )

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Store a value for longer; return whether there is one."""
        return bool(self._living(key, version).update(expires_at=self._end(timeout)))

    def delete(self, key: str, version: Any = None) -> bool:
        """Delete a value; return whether there was one."""
        return bool(CacheEntry.objects.filter(name=self._name(key, version)).delete()[0])

    def clear(self) -> None:
        """Delete all values."""
        CacheEntry.objects.all().delete()

    def _living(self, key: str, version: Any) -> QuerySet[CacheEntry]:
        lives = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        return CacheEntry.objects.filter(lives, name=self._name(key, version))

    def _name(self, key: str, version: Any) -> str:
        # Hashed: keys may have any length, and reading the table must not reveal whose they are.
        return hashlib.sha256(self.make_key(key, version).encode()).hexdigest()

    def _end(self, timeout: Any) -> datetime | None:
        at = self.get_backend_timeout(timeout)
        return None if at is None else datetime.fromtimestamp(at, UTC)


def forget_old() -> None:
    """Delete expired values."""
    CacheEntry.objects.filter(expires_at__lte=timezone.now()).delete()
