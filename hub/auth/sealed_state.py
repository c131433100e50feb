"""The sealed state of a sign-in in a browser's session."""

import json
from typing import Any

from hub.base.crypto import seal, unseal


def seal_json(value: dict[str, Any]) -> str:
    """Return an object as sealed text."""
    return seal(json.dumps(value).encode()).hex()


def unseal_json(text: str) -> dict[str, Any]:
    """Return the object of a sealed text."""
    found: dict[str, Any] = json.loads(unseal(bytes.fromhex(text)))
    return found
