"""Syslog (RFC 5424), by TCP or UDP."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import orjson

from hub.audit.targets.base import Config, Target
from hub.base.outbound import addresses, check_host
from hub.engine.errors import Invalid, RetryLater
from hub.engine.parsing import parse_digits

MAX_DATAGRAM = 60_000
CUT = 500


def _check(value: Any, _stored: Mapping[str, str]) -> Config:
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


def send(target: Config, rows: list[dict[str, Any]]) -> None:
    """Send events, each as a message."""
    host, _, port = target["address"].rpartition(":")
    kind = socket.SOCK_DGRAM if target["protocol"] == "udp" else socket.SOCK_STREAM
    place = addresses(host.strip("[]"), "syslog.address")[0]
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    with socket.socket(family, kind) as connection:
        connection.settimeout(10)
        connection.connect((place, int(port)))
        for row in rows:
            connection.sendall(message(row, framed=target["protocol"] == "tcp"))


def message(row: dict[str, Any], *, framed: bool) -> bytes:
    """Return an event as a syslog message, with an octet count on a stream (RFC 6587)."""
    event = row.get("event") or {}
    severity = 4 if event.get("outcome") == "refused" else 6
    head = f"<{13 * 8 + severity}>1 {event.get('at', '-')} - flotilla - audit - ".encode()
    text = head + orjson.dumps(row)
    if not framed and len(text) > MAX_DATAGRAM:
        # The largest datagram: long fields are left out, and the link still proves the whole event.
        short = {k: v for k, v in event.items() if len(orjson.dumps(v)) <= CUT}
        text = head + orjson.dumps({**row, "event": short, "cut": True})
    return f"{len(text)} ".encode() + text if framed else text


SYSLOG = Target("syslog", _check, dict, send)
