"""What sign-in remembers for a while is in the database: every process knows it, also without
Redis.
"""

from datetime import timedelta

import pytest
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.utils import timezone

from hub.auth.cache import Cache, forget_old
from hub.models import CacheEntry

pytestmark = pytest.mark.django_db


def test_it_is_the_cache_of_the_hub():
    assert isinstance(caches["default"], Cache)


def test_it_does_what_a_cache_does():
    """The same steps against Django's own in memory."""
    own, other = Cache("", {}), LocMemCache("steps", {})
    other.clear()
    long = "saml.metadata.https://idp.example/" + "x" * 200
    steps = [
        ("get", "a", "none"),
        ("add", "a", [1.5]),
        ("add", "a", [2]),
        ("get", "a"),
        ("set", "a", {"b": True}),
        ("get", "a"),
        ("set", "gone", 1, 0),
        ("get", "gone", "none"),
        ("add", "gone", 2),
        ("get", "gone"),
        ("add", "past", 1, -5),
        ("get", "past"),
        ("touch", "a", 60),
        ("touch", "none"),
        ("touch", "past"),
        ("has_key", "a"),
        ("delete", "a"),
        ("delete", "a"),
        ("get", "a"),
        ("set", long, "text", None),
        ("get", long),
        ("set", "n", 1),
        ("incr", "n"),
        ("get", "n"),
        ("set_many", {"x": 1, "y": 2}),
        ("get_many", ["x", "y", "z"]),
        ("delete_many", ["x"]),
        ("get_many", ["x", "y"]),
        ("get_or_set", "y", 5),
        ("get_or_set", "z", 6),
        ("clear",),
        ("get", "y"),
    ]
    for name, *args in steps:
        assert getattr(own, name)(*args) == getattr(other, name)(*args), (name, args)


def test_what_expired_is_removed():
    cache.set("old", 1, 60)
    cache.set("new", 2, 600)
    cache.set("forever", 3, None)
    CacheEntry.objects.filter(value=1).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert cache.get("old") is None
    forget_old()
    assert sorted(CacheEntry.objects.values_list("value", flat=True)) == [2, 3]


def test_values_are_no_programs():
    """Nothing that is read back can run: only JSON is kept."""
    with pytest.raises(TypeError):
        cache.set("a", timezone)
    assert "timezone" not in str(list(CacheEntry.objects.values()))


def test_keys_of_any_length_are_told_apart():
    one, other = (
        "https://idp.example/" + "x" * 9000 + "1",
        "https://idp.example/" + "x" * 9000 + "2",
    )
    cache.set(one, 1)
    assert cache.get(one) == 1 and cache.get(other) is None
