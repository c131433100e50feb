"""REST API of known SSH host keys and TLS certificates, which are public."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import Caller, is_allowed, require
from hub.audit import trail
from hub.engine.errors import Invalid
from hub.engine.globs import matches
from hub.models import change_setting, locked_setting, setting
from hub.rest.lists import arranged
from hub.rest.views import View, actor, body_map, flag
from projects.refreshing.triggers import hosts_changed
from projects.sources.credentials import TLS

SSH = "ssh_known_hosts"
_COLUMNS = {"server": "serverName", "type": "certType", "subtype": "certSubType"}


def host_lines() -> list[str]:
    """Return the known SSH hosts as lines of a known_hosts file."""
    return [x for x in str(setting(SSH, "")).splitlines() if x.strip()]


def host_json(line: str) -> dict[str, str]:
    """Return a known SSH host with its fingerprint."""
    host, kind, key = ([*line.split(), "", "", ""])[:3]
    digest = hashlib.sha256(base64.b64decode(key + "==")).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    return {"serverName": host, "certType": "ssh", "certSubType": kind, "certInfo": fingerprint}


def authorities_json(host: str, pem: str) -> list[dict[str, str]]:
    """Return the key type and subject of each certificate of a host."""
    return [
        {
            "serverName": host,
            "certType": "https",
            "certSubType": _kind(c),
            "certInfo": c.subject.rfc4514_string(),
        }
        for c in x509.load_pem_x509_certificates(pem.encode())
    ]


def _kind(certificate: x509.Certificate) -> str:
    kinds: list[tuple[type, str]] = [
        (rsa.RSAPublicKey, "rsa"),
        (ec.EllipticCurvePublicKey, "ecdsa"),
        (ed25519.Ed25519PublicKey, "ed25519"),
        (dsa.DSAPublicKey, "dsa"),
    ]
    key: object = certificate.public_key()
    return next((name for kind, name in kinds if isinstance(key, kind)), "unknown")


def known_certificates(caller: Caller) -> list[dict[str, str]]:
    """Return the known keys and certificates that the caller may see."""
    shown = [host_json(line) for line in host_lines()]
    for host, pem in sorted(dict(setting(TLS, {})).items()):
        shown += authorities_json(host, pem)
    return [c for c in shown if is_allowed(caller, "certificates", "get", c["serverName"])]


def _key(shown: Mapping[str, str]) -> tuple[str, str, str]:
    return shown["serverName"], shown["certSubType"], shown["certInfo"]


def _chosen(request: Request, items: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    params, found = request.query_params, list(items)
    for field, name in {
        "serverName": "hostNamePattern",
        "certType": "certType",
        "certSubType": "certSubType",
    }.items():
        if params.get(name, "*") not in ("", "*"):
            found = [c for c in found if matches(params[name], c[field])]
    return found


class Certificates(View):
    """`/certificates`: known host keys and certificates."""

    permission = ("certificates", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List SSH keys with their fingerprints and certificates with their subjects."""
        answer = {"items": _chosen(request, known_certificates(actor(request))), "metadata": {}}
        return Response(
            arranged(request, answer, _COLUMNS, ["serverName", "certSubType", "certInfo"])
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Add SSH keys or PEM certificates.

        `{items: [{serverName, certType, certSubType, certData}]}`; `certType` is ssh or https,
        and `certData` is in base64.
        """
        require(actor(request), "certificates", "create", "*")
        items = body_map(request).get("items")
        if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
            raise Invalid("items must be a list of certificates")
        added = add_certificates(actor(request), items, upsert=flag(request, "upsert"))
        return Response({"items": added})

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request) -> Response:
        """Remove the entries that the filters select, and return them."""
        caller = actor(request)
        require(caller, "certificates", "delete", "*")
        if not request.query_params.get("hostNamePattern"):
            raise Invalid("hostNamePattern is required; * is every host")
        gone = _chosen(request, known_certificates(caller))
        keys = {_key(c) for c in gone if c["certType"] == "ssh"}
        hosts = {c["serverName"] for c in gone if c["certType"] == "https"}
        with transaction.atomic():
            locked_setting(SSH, "")
            pems = dict(locked_setting(TLS, {}))
            kept = [x for x in host_lines() if _key(host_json(x)) not in keys]
            change_setting(SSH, "\n".join(kept))
            change_setting(TLS, {h: pem for h, pem in pems.items() if h not in hosts})
            for name in sorted({c["serverName"] for c in gone}):
                trail.record(caller.name, "delete", "certificate", name)
            hosts_changed({c["serverName"] for c in gone})
        return Response({"items": gone})


class KnownHosts(View):
    """`/flotilla/known-hosts` (Flotilla only): the same as files."""

    permission = ("certificates", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the known_hosts lines, and the PEM certificates of each host."""
        caller = actor(request)
        lines = [
            x
            for x in host_lines()
            if is_allowed(caller, "certificates", "get", x.partition(" ")[0])
        ]
        pems = {
            h: p
            for h, p in sorted(dict(setting(TLS, {})).items())
            if is_allowed(caller, "certificates", "get", h)
        }
        return Response({"lines": lines, "certificates": pems})


def add_certificates(
    caller: Caller, items: Sequence[Mapping[str, Any]], *, upsert: bool = False
) -> list[dict[str, str]]:
    """Add known keys and certificates of hosts, and return them.

    Raises: Invalid naming the field, or if a host has another one and `upsert` is not given;
        AccessDenied.
    """
    require(caller, "certificates", "create", "*")
    if upsert:
        require(caller, "certificates", "update", "*")
    with transaction.atomic():
        locked_setting(SSH, "")
        lines, pems, added = host_lines(), dict(locked_setting(TLS, {})), []
        for number, item in enumerate(items):
            where = f"items[{number}]"
            if item.get("certType") == "ssh":
                line = _ssh_line(item, where)
                lines = _with_line(lines, line, upsert=upsert)
                added.append(host_json(line))
            elif item.get("certType") == "https":
                host, pem = _pem(item, where)
                if pems.get(host, pem) != pem and not upsert:
                    raise Invalid(
                        f"{where}: {host} is known by another certificate; use upsert to replace it"
                    )
                pems[host] = pem
                added += authorities_json(host, pem)
            else:
                raise Invalid(f"{where}.certType must be ssh or https")
        change_setting(SSH, "\n".join(dict.fromkeys(lines)))
        change_setting(TLS, pems)
        names = sorted({c["serverName"] for c in added})
        trail.record(caller.name, "create", "certificate", ", ".join(names)[:500])
        hosts_changed(names)
    return added


def _with_line(lines: list[str], line: str, *, upsert: bool) -> list[str]:
    host, kind, _key = line.split()
    same = [x for x in lines if x.split()[:2] == [host, kind]]
    if same and same != [line] and not upsert:
        raise Invalid(
            f"Key for '{host}' (subtype: '{kind}') already exist and upsert was not specified."
        )
    return [*(x for x in lines if x not in same), line]


def _ssh_line(item: Mapping[str, Any], where: str) -> str:
    data = str(item.get("certData") or "")
    try:
        key = (
            data
            if data.startswith("AAAA")
            else base64.b64decode(data + "==").decode(errors="replace")
        )
        base64.b64decode(key + "==")
    except ValueError as error:
        raise Invalid(f"{where}.certData must be a public key, or one in base64") from error
    host, kind = str(item.get("serverName") or ""), str(item.get("certSubType") or "")
    if not host or not kind or not key or any(c.isspace() for c in host + kind + key):
        raise Invalid(
            f"{where}: serverName, certSubType and certData are required, without white space"
        )
    return f"{host} {kind} {key}"


def _pem(item: Mapping[str, Any], where: str) -> tuple[str, str]:
    host = str(item.get("serverName") or "").lower()
    if not host or any(c.isspace() or c in "/*" for c in host):
        raise Invalid(f"{where}.serverName must be a host, without scheme and path")
    data = str(item.get("certData") or "")
    try:
        text = data if "-----BEGIN" in data else base64.b64decode(data).decode()
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise Invalid(f"{where}.certData must be PEM certificates, or those in base64") from error
    if "PRIVATE KEY" in text:
        raise Invalid(f"{where}.certData holds a private key: give certificates only")
    from cryptography.hazmat.primitives.serialization import Encoding

    return host, "".join(c.public_bytes(Encoding.PEM).decode() for c in found)
