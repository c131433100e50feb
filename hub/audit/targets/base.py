"""What a target of forwarded events is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = dict[str, str]
"""The stored fields of a target; a secret is sealed."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of target.

    A new one is a module in this package, and its entry in `hub.audit.targets.registry`.
    """

    name: str
    check: Callable[[Any, Mapping[str, str]], Config]
    """Takes what was sent and what is stored, returns what to store. Raises: Invalid."""
    shown: Callable[[Config], dict[str, Any]]
    """Returns the fields that a reader sees, without secrets."""
    send: Callable[[Config, list[dict[str, Any]]], None]
    """Sends events, in order. Raises: whatever prevents it; all of them are sent again later."""
