"""Senders of webhooks: how they are recognized and authenticated, and how their events are read."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from django.conf import settings

from hub.engine.errors import Invalid
from projects.webhooks.events import Event

Headers = Mapping[str, str]
Body = Mapping[str, Any]


class Forged(Invalid):
    """The signature or secret is wrong."""

    def __init__(self) -> None:
        super().__init__("Webhook processing failed: the signature does not match")


class Proof(Protocol):
    """How a sender proves its identity. Without a secret in the settings, any event is accepted.

    An event only triggers a poll, and an unsigned one waits until the hub is idle.
    """

    def check_headers(self, headers: Headers) -> bool:
        """Authenticate before the body is read; return whether there is a secret.

        Raises: Forged.
        """
        ...

    def check_body(self, headers: Headers, data: bytes) -> None:
        """Authenticate the body.

        Raises: Forged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """An HMAC-SHA256 signature of the body."""

    setting: str
    header: str
    prefix: str = ""

    def check_headers(self, headers: Headers) -> bool:
        """Require a signature of the right length; the body must still be checked."""
        signature = headers.get(self.header, "").removeprefix(self.prefix)
        if getattr(settings, self.setting) and len(signature) != hashlib.sha256().digest_size * 2:
            raise Forged
        return bool(getattr(settings, self.setting))

    def check_body(self, headers: Headers, data: bytes) -> None:
        """Compare the signature with that of the body."""
        secret = getattr(settings, self.setting)
        digest = hmac.new(secret.encode(), data, hashlib.sha256).hexdigest() if secret else ""
        must_equal(f"{self.prefix}{digest}" if secret else "", headers.get(self.header, ""))


@dataclass(frozen=True, slots=True)
class Token:
    """A secret in a header."""

    setting: str
    header: str

    def check_headers(self, headers: Headers) -> bool:
        """Compare the secrets."""
        return must_equal(getattr(settings, self.setting), headers.get(self.header, ""))

    def check_body(self, headers: Headers, data: bytes) -> None:
        """Do nothing: the header proves enough."""


@dataclass(frozen=True, slots=True)
class Password:
    """A name and a password: HTTP basic authentication."""

    name_setting: str
    password_setting: str

    def check_headers(self, headers: Headers) -> bool:
        """Compare name and password."""
        name = getattr(settings, self.name_setting)
        password = getattr(settings, self.password_setting)
        pair = base64.b64encode(f"{name}:{password}".encode()).decode()
        wanted = f"Basic {pair}" if name or password else ""
        return must_equal(wanted, headers.get("Authorization", ""))

    def check_body(self, headers: Headers, data: bytes) -> None:
        """Do nothing: the header proves enough."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A host that is recognized by the headers of its webhooks."""

    name: str
    is_sender: Callable[[Headers], bool]
    proof: Proof
    read: Callable[[Headers, Body], Iterator[Event]]
    """Yields the events of a body; none if it is unknown."""
    forged_status: int = 400
    """The HTTP status of the response to a wrong signature."""


@dataclass(frozen=True, slots=True)
class ImageRegistry:
    """A registry, recognized by the body, since registries set no header. A secret is required."""

    name: str
    is_sender: Callable[[Body], bool]
    setting: str
    read: Callable[[Body], Iterator[Event]]
    """Yields the events of a body; none if it is unknown."""


def must_equal(wanted: str, given: str) -> bool:
    """Return whether there is a secret to compare with.

    Raises: Forged if the value is wrong.
    """
    if wanted and not is_equal(wanted, given):
        raise Forged
    return bool(wanted)


def is_equal(wanted: str, given: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(wanted.encode(), given.encode())
