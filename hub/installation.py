"""The secrets of a whole installation, for a move or a backup: encrypted for who asks.

The caller sends a key, which is derived from a passphrase on the caller's machine, and gets what
only that key opens: neither the passphrase nor a secret in the clear leaves its side.
"""

import base64
import binascii
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from appsets.models import Secret
from clusters.models import Cluster
from hub.access.decisions import Caller, require
from hub.audit import forwarding, trail
from hub.auth import providers
from hub.base.crypto import UnreadableSecret
from hub.engine.errors import Invalid, Precondition
from hub.rest.views import View, actor, body_map
from projects.models import CredentialTemplate, Repository

FORMAT = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class SecretsExport(View):
    """`/flotilla/secrets-export`: all secrets, encrypted by the caller's key."""

    permission = ("settings", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Return the secrets, sealed by AES-256-GCM: `{key, binding}`, each 32 bytes in base64.

        The binding is authenticated with them: the digest of the export that they belong to. Who
        asks needs the right to change every object whose secret is among them.
        """
        caller = actor(request)
        require(caller, "settings", "update", "secrets")
        body = body_map(request)
        key, binding = _bytes_of(body, "key"), _bytes_of(body, "binding")
        # No transaction: the event of a refusal must stay.
        items = _readable(caller)
        sealed = _sealed(key, binding, items)
        trail.record(
            caller.name,
            "export-secrets",
            "installation",
            "secrets",
            digest=hashlib.sha256(sealed).hexdigest(),
            holds=Counter(item["kind"] for item in items),
        )
        return Response({"sealed": base64.b64encode(sealed).decode(), "count": len(items)})


class SecretsImport(View):
    """`/flotilla/secrets-import`: the begin of an import of exported secrets."""

    permission = ("settings", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Record that secrets are about to be imported: `{digest}`, of the sealed secrets.

        The secrets themselves are written object by object, with the rights and events of each.
        """
        caller = actor(request)
        require(caller, "settings", "update", "secrets")
        digest = body_map(request).get("digest")
        if not isinstance(digest, str) or not _DIGEST.match(digest):
            raise Invalid("digest is required: the SHA-256 of the sealed secrets, in hex")
        trail.record(caller.name, "import-secrets", "installation", "secrets", digest=digest)
        return Response({})


def _bytes_of(body: dict[str, Any], field: str) -> bytes:
    text = body.get(field)
    try:
        found = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != _KEY_BYTES:
        raise Invalid(f"{field} is required: {_KEY_BYTES} bytes in base64")
    return found


def _sealed(key: bytes, binding: bytes, items: list[dict[str, Any]]) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    plain = orjson.dumps({"format": FORMAT, "items": items})
    return nonce + AESGCM(key).encrypt(nonce, plain, binding)


def _readable(caller: Caller) -> list[dict[str, Any]]:
    try:
        return list(_secrets(caller))
    except UnreadableSecret as error:
        raise Precondition(str(error)) from error


def _secrets(caller: Caller) -> Iterator[dict[str, Any]]:
    """Yield every secret that an import cannot do without.

    Raises: AccessDenied when the caller may not change one of the objects that they belong to.
    """
    yield from _of_clusters(caller)
    yield from _of_repositories(caller)
    yield from _of_generators(caller)
    yield from _of_settings(caller)


def _of_clusters(caller: Caller) -> Iterator[dict[str, Any]]:
    for row in Cluster.objects.order_by("server"):
        if row.is_home:
            continue
        require(caller, "clusters", "update", row.rbac_object, row.project, row.where)
        yield {"kind": "cluster", "server": row.server, "config": row.config}


def _of_repositories(caller: Caller) -> Iterator[dict[str, Any]]:
    for row in Repository.objects.order_by("url", "project"):
        require(caller, "repositories", "update", row.rbac_object, row.project)
        data = {**row.options, **row.credentials}
        yield {"kind": "repository", "url": row.url, "project": row.project, "data": data}
    for template in CredentialTemplate.objects.order_by("url"):
        require(caller, "repositories", "update", template.url)
        data = {**template.options, **template.credentials}
        yield {"kind": "template", "url": template.url, "data": data}


def _of_generators(caller: Caller) -> Iterator[dict[str, Any]]:
    for row in Secret.objects.order_by("namespace", "name"):
        require(caller, "repositories", "update", row.rbac_object, row.project)
        yield {
            "kind": "generator",
            "namespace": row.namespace,
            "name": row.name,
            "project": row.project,
            "servers": row.servers,
            "data": row.data,
        }


def _of_settings(caller: Caller) -> Iterator[dict[str, Any]]:
    require(caller, "settings", "update", "sso")
    for provider in providers.all_providers():
        if provider.origin == "settings":
            yield {"kind": "provider", "id": provider.slug, "config": dict(provider.config)}
    require(caller, "audit", "update", "forward")
    webhook = forwarding.webhook()
    if webhook:
        yield {"kind": "webhook", **webhook}
