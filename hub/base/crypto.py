"""Credentials at rest: AES-256-GCM, keys derived from the hub's secret keys, rotatable."""

import functools
import hashlib
import os
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import models

_NONCE_BYTES = 12


class UnreadableSecret(Exception):
    """None of the hub's keys decrypts a stored secret."""


@functools.lru_cache(maxsize=8)
def _cipher(key: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"flotilla at rest\0" + key.encode()).digest())


def seal(value: bytes) -> bytes:
    """Return the value encrypted with the newest key."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(settings.SECRET_KEY).encrypt(nonce, value, None)


def unseal(sealed: bytes) -> bytes:
    """Decrypt a value of `seal` with the newest key or an older one.

    Raises: UnreadableSecret when no key fits.
    """
    nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        try:
            return _cipher(key).decrypt(nonce, body, None)
        except InvalidTag:
            continue
    raise UnreadableSecret(
        "a stored secret cannot be read: start the hub with the HUB_SECRET_KEY it was stored with, "
        "or name that key in HUB_SECRET_KEY_FALLBACKS"
    )


class SealedJSONField(models.BinaryField):  # type: ignore[type-arg]
    """A JSON value that is encrypted in the database."""

    def __init__(self, *args: Any, of_any_kind: bool = False, **kwargs: Any) -> None:
        self.of_any_kind = of_any_kind
        kwargs.setdefault("default", dict)
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """Leave out the arguments that the constructor sets."""
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("editable", None)
        return name, path, args, kwargs

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Encrypt."""
        return super().get_db_prep_value(seal(orjson.dumps(value)), connection, prepared)

    def from_db_value(self, value: Any, _expression: object, _connection: object) -> Any:
        """Decrypt; anything but an object reads as empty where an object is required.

        One bad row must not break a list.
        """
        found = None if value is None else orjson.loads(unseal(bytes(value)))
        return found if self.of_any_kind or found is None or isinstance(found, dict) else {}

    def value_to_string(self, obj: Any) -> str:
        """Return the sealed form for serializers, never the plain one."""
        return seal(orjson.dumps(self.value_from_object(obj))).hex()
