"""Send sealed events on, in order and at least once: to syslog (RFC 5424) or a webhook."""

import hmac
import logging
import socket
from typing import Any

import httpx
import orjson

from hub import trail
from hub.crypto import seal, unseal
from hub.engine.errors import Invalid
from hub.models import AuditLink, change_setting, setting
from hub.outbound import check_url

log = logging.getLogger(__name__)

_CONFIG, _CURSOR = "audit_forward", "audit_forward_cursor"
BATCH = 200


def configure(wanted: dict[str, Any]) -> None:
    """Store the targets; a webhook without a secret keeps the one it has.

    Raises: Invalid naming the field.
    """
    config: dict[str, Any] = {}
    unknown = set(wanted) - {"syslog", "webhook"}
    if unknown:
        raise Invalid(f"{min(unknown)!r} is no target; there are syslog and webhook")
    if wanted.get("syslog"):
        config["syslog"] = _syslog(wanted["syslog"])
    if wanted.get("webhook"):
        config["webhook"] = _webhook(wanted["webhook"])
    change_setting(_CONFIG, config)
    if setting(_CURSOR, None) is None:
        head = AuditLink.objects.order_by("-sequence").values_list("sequence", flat=True).first()
        change_setting(_CURSOR, head or 0)


def _syslog(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not isinstance(value.get("address"), str):
        raise Invalid("syslog.address is required: host:port")
    host, _, port = value["address"].rpartition(":")
    if not host or not port.isdigit() or value.get("protocol", "tcp") not in ("tcp", "udp"):
        raise Invalid("syslog.address must be host:port and syslog.protocol tcp or udp")
    return {"address": value["address"], "protocol": value.get("protocol", "tcp")}


def _webhook(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise Invalid("webhook.url is required")
    check_url(value["url"], "webhook.url")
    secret = value.get("secret") or ""
    if not isinstance(secret, str):
        raise Invalid("webhook.secret must be text")
    kept = (setting(_CONFIG, {}).get("webhook") or {}).get("secret", "")
    return {"url": value["url"], "secret": seal(secret.encode()).hex() if secret else kept}


def shown() -> dict[str, Any]:
    """Return the targets without secrets, how far they are, and the last error."""
    config = setting(_CONFIG, {})
    webhook = config.get("webhook")
    return {
        "syslog": config.get("syslog"), "webhook": {"url": webhook["url"], "signed": bool(webhook["secret"])} if webhook else None,
        "sentThrough": setting(_CURSOR, 0) or 0, "error": setting("audit_forward_error", ""),
    }  # fmt: skip


def send() -> int:
    """Send what was sealed since the last time; return how many events. What fails is sent again later."""
    config = setting(_CONFIG, {})
    if not config:
        return 0
    with trail.only_one("forward") as mine:
        return _send_all(config) if mine else 0


def _send_all(config: dict[str, Any]) -> int:
    total = 0
    while True:
        cursor = int(setting(_CURSOR, 0) or 0)
        head = (
            AuditLink.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
        )
        if head <= cursor:
            return total
        rows = list(trail.rows(cursor + 1, min(head, cursor + BATCH)))
        try:
            _send(config, rows)
        except (OSError, httpx.HTTPError) as error:
            text = f"{type(error).__name__}: the target did not take events from {cursor + 1} on"
            change_setting("audit_forward_error", text)
            log.warning("audit forwarding: %s", text)
            return total
        change_setting(_CURSOR, rows[-1]["sequence"])
        if setting("audit_forward_error", ""):
            change_setting("audit_forward_error", "")
        total += len(rows)


def _send(config: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    if config.get("webhook"):
        _post(config["webhook"], rows)
    if config.get("syslog"):
        _log(config["syslog"], rows)


def _post(target: dict[str, str], rows: list[dict[str, Any]]) -> None:
    check_url(target["url"], "webhook.url")
    body = b"\n".join(orjson.dumps(row) for row in rows)
    headers = {"Content-Type": "application/x-ndjson"}
    if target["secret"]:
        secret = unseal(bytes.fromhex(target["secret"]))
        headers["X-Flotilla-Signature"] = "sha256=" + hmac.digest(secret, body, "sha256").hex()
    httpx.post(target["url"], content=body, headers=headers, timeout=10, follow_redirects=False).raise_for_status()  # fmt: skip


def _log(target: dict[str, str], rows: list[dict[str, Any]]) -> None:
    host, _, port = target["address"].rpartition(":")
    kind = socket.SOCK_DGRAM if target["protocol"] == "udp" else socket.SOCK_STREAM
    family, _, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=kind)[0]
    with socket.socket(family, kind) as connection:
        connection.settimeout(10)
        connection.connect(where)
        for row in rows:
            connection.sendall(message(row, framed=target["protocol"] == "tcp"))


def message(row: dict[str, Any], *, framed: bool) -> bytes:
    """Return an event as a syslog message, with its length before it on a stream (RFC 6587)."""
    event = row.get("event") or {}
    severity = 4 if event.get("outcome") == "refused" else 6
    text = f"<{13 * 8 + severity}>1 {event.get('at', '-')} - flotilla - audit - ".encode() + orjson.dumps(row)  # fmt: skip
    return f"{len(text)} ".encode() + text if framed else text
