"""Secrets of an export, encrypted by a passphrase.

The key is derived here by scrypt. The hub encrypts with it: the passphrase never leaves this
machine, and the secrets leave the hub only in a form that the key opens (AES-256-GCM). They are
bound to the rest of the export: who edits the file, to send a token to another server for example,
makes the secrets unreadable.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.cli.client import Client, path
from hub.cli.installation import own_objects
from hub.cli.installation.report import OMITTED, SECRET_TYPE, Document
from hub.cli.problem import Problem

TYPE = "sealed"
_NAME = "flotilla-sealed"
_VERSION = "1"
_SALT_BYTES, _NONCE_BYTES = 16, 12
# Version 1: 128 MiB and about half a second for each guess.
_SCRYPT: dict[str, Any] = {"n": 2**17, "r": 8, "p": 1, "maxmem": 2**28, "dklen": 64}
_DAMAGED = "the secrets of the export are damaged: take another copy of the file"


@dataclass(frozen=True, slots=True)
class _Key:
    secret: bytes
    check: bytes
    """Tells a wrong passphrase from a changed file."""


def _derived(passphrase: str, salt: bytes) -> _Key:
    found = hashlib.scrypt(passphrase.encode(), salt=salt, **_SCRYPT)
    return _Key(found[:32], found[32:])


def _binding(documents: Sequence[Document]) -> bytes:
    text = json.dumps(documents, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).digest()


def seal(hub: Client, documents: Sequence[Document], passphrase: str) -> Document:
    """Return the object that holds the hub's secrets, encrypted.

    Shapes: `documents` as they are read from the export's file.
    Raises: Problem with the hub's refusal.
    """
    salt = os.urandom(_SALT_BYTES)
    key = _derived(passphrase, salt)
    body = {"key": _text(key.secret), "binding": _text(_binding(documents))}
    answer = hub.post(path("flotilla", "secrets-export"), body)
    data = {"version": _VERSION, "salt": _text(salt), "check": _text(key.check)}
    metadata = {"name": _NAME, "namespace": "argocd", "labels": {SECRET_TYPE: TYPE}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {**data, "sealed": answer["sealed"]},
    }


def parted(documents: Sequence[Document]) -> tuple[list[Document], Document | None]:
    """Return the plain objects of an export, and the one that holds its secrets.

    Raises: Problem when it has several.
    """
    sealed = [d for d in documents if _is_sealed(d)]
    if len(sealed) > 1:
        raise Problem(f"the export has {len(sealed)} objects of sealed secrets: import one file")
    return [d for d in documents if not _is_sealed(d)], next(iter(sealed), None)


def _is_sealed(document: Mapping[str, Any]) -> bool:
    metadata = document.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    return isinstance(labels, Mapping) and labels.get(SECRET_TYPE) == TYPE


def opened(
    plain: Sequence[Document], sealed: Mapping[str, Any], passphrase: str
) -> list[dict[str, Any]]:
    """Return the secrets of an export.

    Raises: Problem when the passphrase is wrong, or the file was changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = sealed.get("stringData")
    if not isinstance(data, Mapping):
        raise Problem(_DAMAGED)
    if data.get("version") != _VERSION:
        raise Problem(
            f"the secrets of the export have version {data.get('version')!r}, and this command "
            f"reads {_VERSION}: import with the flotilla that wrote it"
        )
    key = _derived(passphrase, _bytes(data, "salt"))
    if not hmac.compare_digest(key.check, _bytes(data, "check")):
        raise Problem("the passphrase is not the one of this export: nothing was imported")
    text = _bytes(data, "sealed")
    nonce, body = text[:_NONCE_BYTES], text[_NONCE_BYTES:]
    try:
        found = json.loads(AESGCM(key.secret).decrypt(nonce, body, _binding(plain)))
    except (InvalidTag, ValueError) as error:
        raise Problem(
            "the export was changed after it was written: nothing was imported. "
            "Import the file as it was, or with --without-secrets"
        ) from error
    return list(found["items"])


def digest(sealed: Mapping[str, Any]) -> str:
    """Return the digest of sealed secrets, as the hub recorded it when it wrote them."""
    return hashlib.sha256(_bytes(sealed["stringData"], "sealed")).hexdigest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(data: Mapping[str, Any], field: str) -> bytes:
    try:
        found = base64.b64decode(str(data[field]), validate=True)
    except (KeyError, binascii.Error, ValueError) as error:
        raise Problem(_DAMAGED) from error
    return found


def filled(documents: Sequence[Document], items: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Return the objects of an export with their secrets."""
    by_name = {_identity(item): item for item in items}
    return [_filled(document, by_name) for document in documents]


def _identity(item: Mapping[str, Any]) -> tuple[str, ...]:
    fields = ("server", "url", "project", "namespace", "name", "id")
    kind = str(item["kind"])
    # A generator is named by its namespace and name; its project is one of its values.
    used = [f for f in fields if not (kind == "generator" and f == "project")]
    return (kind, *(str(item.get(f) or "") for f in used))


def _filled(document: Document, items: Mapping[tuple[str, ...], Mapping[str, Any]]) -> Document:
    metadata = document.get("metadata") or {}
    if document.get("kind") == "ConfigMap" and metadata.get("name") == own_objects.NAME:
        return own_objects.with_secrets(document, list(items.values()))
    if OMITTED not in (metadata.get("annotations") or {}):
        return document
    data = document.get("stringData") or {}
    kind = str((metadata.get("labels") or {}).get(SECRET_TYPE) or "")
    found = items.get(_identity(_named(kind, metadata, data)))
    if found is None:
        return document
    annotations = {k: v for k, v in metadata["annotations"].items() if k != OMITTED}
    if kind == own_objects.GENERATOR_SECRET:
        return own_objects.secret_with_values(document, found)
    return {
        **document,
        "metadata": {**metadata, "annotations": annotations},
        "stringData": _values(data, found),
    }


def _named(kind: str, metadata: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "cluster":
        return {"kind": kind, "server": data.get("server")}
    if kind == "repository":
        return {"kind": kind, "url": data.get("url"), "project": data.get("project")}
    if kind == "repo-creds":
        return {"kind": "template", "url": data.get("url")}
    return {"kind": kind, "namespace": metadata.get("namespace"), "name": metadata.get("name")}


def _values(data: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    if found["kind"] == "cluster":
        return {**data, "config": json.dumps(found["config"])}
    values = {
        k: "true" if v is True else v if isinstance(v, str) else json.dumps(v)
        for k, v in found["data"].items()
    }
    return {**data, **values}
