"""Forward sealed events, in order and at least once, to syslog (RFC 5424) and to a webhook."""

import contextlib
import hmac
import logging
import socket
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import transaction
from django.utils import timezone

from hub.audit import chain
from hub.base.crypto import seal, unseal
from hub.base.outbound import addresses, check_host, check_url, http
from hub.engine.errors import Invalid, RetryLater
from hub.engine.parsing import parse_digits
from hub.models import AuditLink, Setting, change_setting, setting

log = logging.getLogger(__name__)

_CONFIG, _STATE = "audit_forward", "audit_forward_state"
BATCH = 200
LONGEST_PAUSE = timedelta(minutes=5)
MOST_DATAGRAM = 60_000
CUT = 500
_SECONDS = 30.0


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
    state = setting(_STATE, {})
    change_setting(_CONFIG, config)
    # A new target receives events from now on; a changed one is tried at once.
    states = {t: {"through": state.get(t, {}).get("through", _head())} for t in config}
    change_setting(_STATE, states)


def _head() -> int:
    head = AuditLink.objects.order_by("-sequence").values_list("sequence", flat=True).first()
    return head or 0


def _syslog(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not isinstance(value.get("address"), str):
        raise Invalid("syslog.address is required: host:port")
    host, _, port = value["address"].rpartition(":")
    if not host or not parse_digits(port) or value.get("protocol", "tcp") not in ("tcp", "udp"):
        raise Invalid("syslog.address must be host:port and syslog.protocol tcp or udp")
    if not 0 < int(port) < 65536:
        raise Invalid("syslog.address must name a port of 1 to 65535")
    with contextlib.suppress(RetryLater):  # a name that does not resolve now may resolve later
        check_host(host.strip("[]"), "syslog.address")
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
    """Return the targets without secrets, with their progress, last error and next attempt."""
    config, state = setting(_CONFIG, {}), setting(_STATE, {})
    webhook = config.get("webhook")
    result: dict[str, Any] = {
        "syslog": config.get("syslog"),
        "webhook": {"url": webhook["url"], "signed": bool(webhook["secret"])} if webhook else None,
    }
    for name in config:
        own = state.get(name, {})
        found = {
            "sentThrough": own.get("through", 0),
            "error": own.get("error", ""),
            "nextTry": own.get("next", ""),
        }
        result[name] = {**result[name], **{k: v for k, v in found.items() if v != ""}}
    through = [state.get(name, {}).get("through", 0) for name in config]
    errors = [f"{n}: {state[n]['error']}" for n in config if state.get(n, {}).get("error")]
    return {**result, "sentThrough": min(through, default=0), "error": "; ".join(errors)}


def send(now: datetime | None = None) -> int:
    """Send each target the newly sealed events; return how many. Failures are retried later.

    A failing target does not delay the other one; its retries begin after 5 s and become less
    frequent.
    """
    now, config = now or timezone.now(), setting(_CONFIG, {})
    state, head = setting(_STATE, {}) if config else {}, _head()
    due = [name for name in config if _is_due(state.get(name, {}), head, now)]
    if not due:
        return 0
    with chain.only_one("forward") as mine:
        return sum(_send_all(name, config[name], now) for name in due) if mine else 0


def _is_due(own: dict[str, Any], head: int, now: datetime) -> bool:
    return bool(own.get("through", 0) < head and own.get("next", "") <= now.isoformat())


def _keep(name: str, own: dict[str, Any]) -> None:
    """Store the progress of a target, unless it was removed or changed meanwhile."""
    with transaction.atomic():
        row = Setting.objects.select_for_update().filter(name=_STATE).first()
        if row is not None and name in row.value:
            row.value = {**row.value, name: own}
            row.save()


def _send_all(name: str, target: dict[str, Any], now: datetime) -> int:
    own = setting(_STATE, {}).get(name, {})
    through, total, size = own.get("through", 0), 0, BATCH
    while through < (head := _head()):
        rows = list(chain.rows(through + 1, min(head, through + size)))
        try:
            _SENDERS[name](target, rows)
        except Exception as error:  # a failing target must stop neither the other one nor the trail
            if size > 1 and _is_too_much(error):
                size //= 2
                continue
            failures = own.get("failures", 0) + 1
            pause = min(LONGEST_PAUSE, timedelta(seconds=5 * 2 ** min(failures - 1, 10)))
            text = f"{type(error).__name__}: the target did not take events from {through + 1} on"
            _keep(
                name,
                {
                    "through": through,
                    "error": text,
                    "failures": failures,
                    "next": (now + pause).isoformat(),
                },
            )
            log.warning("audit forwarding to the %s: %s", name, text)
            return total
        through, total, own = rows[-1]["sequence"], total + len(rows), {}
        _keep(name, {"through": through})
    return total


def _is_too_much(error: Exception) -> bool:
    return isinstance(error, http.StatusError) and error.response.status_code == 413


def _post(target: dict[str, str], rows: list[dict[str, Any]]) -> None:
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


def _log(target: dict[str, str], rows: list[dict[str, Any]]) -> None:
    host, _, port = target["address"].rpartition(":")
    kind = socket.SOCK_DGRAM if target["protocol"] == "udp" else socket.SOCK_STREAM
    place = addresses(host.strip("[]"), "syslog.address")[0]
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    with socket.socket(family, kind) as connection:
        connection.settimeout(10)
        connection.connect((place, int(port)))
        for row in rows:
            connection.sendall(message(row, framed=target["protocol"] == "tcp"))


_SENDERS = {"webhook": _post, "syslog": _log}


def message(row: dict[str, Any], *, framed: bool) -> bytes:
    """Return an event as a syslog message, with an octet count on a stream (RFC 6587)."""
    event = row.get("event") or {}
    severity = 4 if event.get("outcome") == "refused" else 6
    head = f"<{13 * 8 + severity}>1 {event.get('at', '-')} - flotilla - audit - ".encode()
    text = head + orjson.dumps(row)
    if not framed and len(text) > MOST_DATAGRAM:
        # The largest datagram: long fields are left out, and the link still proves the whole event.
        short = {k: v for k, v in event.items() if len(orjson.dumps(v)) <= CUT}
        text = head + orjson.dumps({**row, "event": short, "cut": True})
    return f"{len(text)} ".encode() + text if framed else text
