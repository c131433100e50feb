"""A webhook: events by POST as lines of JSON, signed if there is a secret."""

import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from hub.audit.targets.base import Config, Target
from hub.base.crypto import seal, unseal
from hub.base.outbound import check_url, http
from hub.engine.errors import Invalid

_SECONDS = 30.0


def _check(value: Any, stored: Mapping[str, str]) -> Config:
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise Invalid("webhook.url is required")
    check_url(value["url"], "webhook.url")
    secret = value.get("secret") or ""
    if not isinstance(secret, str):
        raise Invalid("webhook.secret must be text")
    # Without a secret, the stored one is kept.
    kept = stored.get("secret", "")
    return {"url": value["url"], "secret": seal(secret.encode()).hex() if secret else kept}


def _shown(config: Config) -> dict[str, Any]:
    return {"url": config["url"], "signed": bool(config["secret"])}


def revealed(config: Config) -> dict[str, str]:
    """Return the URL, and the secret in the clear.

    Raises: UnreadableSecret.
    """
    secret = unseal(bytes.fromhex(config["secret"])).decode() if config["secret"] else ""
    return {"url": config["url"], "secret": secret}


def send(target: Config, rows: list[dict[str, Any]]) -> None:
    """Send events in one request."""
    check_url(target["url"], "webhook.url")
    body = b"\n".join(orjson.dumps(row) for row in rows)
    headers = {"Content-Type": "application/x-ndjson"}
    if target["secret"]:
        secret = unseal(bytes.fromhex(target["secret"]))
        headers["X-Flotilla-Signature"] = "sha256=" + hmac.digest(secret, body, "sha256").hex()
    with (
        http.client(timeout=10, seconds=_SECONDS) as client,
        client.stream("POST", target["url"], content=body, headers=headers) as answer,
    ):
        answer.raise_for_status()  # only the status is read


WEBHOOK = Target("webhook", _check, _shown, send)
