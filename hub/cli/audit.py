"""Read, export and verify the audit trail; verification needs no hub."""

import hashlib
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hub.cli.client import Client, table
from hub.cli.problem import Problem
from hub.engine.audit_chain import GENESIS, Verdict, key_id, verify

MAX_BYTES = 2**31
_UNREADABLE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of a zip archive that is damaged, encrypted or in an unknown format."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of verifying a file."""

    verdict: Verdict
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The result as a sentence."""
        found = self.verdict
        if not found.checked:
            return "The export holds no rows."
        signed = (
            f"signed up to row {found.last_signed}"
            if found.last_signed
            else "not covered by a signature"
        )
        return f"Intact: {found.checked} rows from {found.first} to {found.last}, {signed}."


def verify_file(path: str, key_path: str) -> Checked:
    """Verify an export.

    Raises: Problem when the file or the key cannot be read.
    """
    keys, notes = [_key(Path(key_path))] if key_path else [], list[str]()
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error}") from error
    if data[:2] == b"PK":
        data, problems, own = _unpacked(path, data, keys)
        keys = keys or own
        if problems:
            return Checked(Verdict(problems=tuple(problems)), tuple(notes))
    head = _head(data)
    if not keys:
        keys = [_public(pem, path) for pem in (head.get("keys") or {}).values()]
        names = ", ".join(key_id(k) for k in keys)
        notes.append(
            f"Checked with the keys that the export itself names ({names}): "
            "compare them with the hub's, or give --key."
        )
    return Checked(_check(data, keys), tuple(notes))


def _check(data: bytes, keys: list[Ed25519PublicKey]) -> Verdict:
    """Return the result of verifying the lines of an export."""
    head, rows, checkpoints, broken = _read(data)
    anchor, first = head.get("anchor"), int(head.get("first") or 1)
    start = (int(anchor["sequence"]), str(anchor["hash"])) if anchor else (first - 1, GENESIS)
    found = verify(_explained(rows, head), checkpoints, keys, anchor=start)
    problems = [*broken, *found.problems]
    last = int(head.get("last") or 0)
    if not problems and found.last < last:
        problems.append(f"row {found.last + 1}: missing: the export says that it goes to {last}")
    return replace(found, problems=tuple(problems))


def _head(data: bytes) -> dict[str, Any]:
    return _read(data)[0]


def _explained(rows: list[dict[str, Any]], head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the rows; one counts as altered if its event is missing without explanation.

    It applies to an export of everything.
    """
    through, whole = int(head.get("expiredThrough") or 0), not head.get("filters")
    last = int(head.get("last") or 0)
    for row in rows:
        hidden = "event" not in row and row.get("sequence", 0) <= last
        unexplained = hidden and (row.get("sequence", 0) > through if row.get("expired") else whole)
        yield {**row, "event": {"missing": True}} if unexplained else row


def _read(
    data: bytes,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    head: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    checkpoints: list[dict[str, Any]] = []
    broken: list[str] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            place = f"row {int(rows[-1].get('sequence') or 0) + 1}" if rows else "the head"
            broken.append(f"{place}: line {number} cannot be read: altered")
            continue
        if number == 1 and "flotilla" in entry:
            head = entry
        elif "checkpoint" in entry:
            checkpoints.append(entry["checkpoint"])
        else:
            rows.append(entry)
    if not head:
        raise Problem("this is not an audit export of a hub: the first line is not its header")
    return head, rows, checkpoints, broken


def _key(path: Path) -> Ed25519PublicKey:
    try:
        return _public(path.read_text(), str(path))
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error}") from error


def _public(pem: Any, where: str) -> Ed25519PublicKey:
    try:
        found = load_pem_public_key(str(pem).encode())
    except ValueError as error:
        raise Problem(f"{where} holds no public key in PEM form") from error
    if not isinstance(found, Ed25519PublicKey):
        raise Problem(f"{where} holds a public key of another kind than Ed25519")
    return found


def _unpacked(
    path: str, data: bytes, keys: list[Ed25519PublicKey]
) -> tuple[bytes, list[str], list[Ed25519PublicKey]]:
    """Return the events of a bundle, the errors in its files, and its own key."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(i.file_size for i in archive.infolist()) > MAX_BYTES:
                raise Problem(f"{path} unpacks to more than 2 GiB")
            files = {name: archive.read(name) for name in archive.namelist()}
        manifest, signature = (
            files.pop("manifest.json"),
            bytes.fromhex(files.pop("manifest.sig").decode()),
        )
        own = [_public(files["public-key.pem"].decode(), path)]
        digests = dict(json.loads(manifest)["files"])
        events = files["events.jsonl"]
    except _UNREADABLE as error:
        raise Problem(f"{path} is not a bundle of an audit export") from error
    problems = []
    for key in (keys or own)[:1]:
        try:
            key.verify(signature, manifest)
        except InvalidSignature:
            problems.append("manifest.json: not signed by the given key")
    for name, content in files.items():
        # The events themselves are checked row by row, so that the report names the bad row.
        if name != "events.jsonl" and digests.get(name) != hashlib.sha256(content).hexdigest():
            problems.append(f"{name}: it was altered: it does not have the digest of the manifest")
    if digests.get("events.jsonl") != hashlib.sha256(events).hexdigest():
        problems += _check(events, keys or own).problems or [
            "events.jsonl: it was altered: it does not have the digest of the manifest"
        ]
    return events, problems, own


def _query(filters: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in filters:
        name, separator, value = text.partition("=")
        if not separator:
            raise Problem(f"--filter {text!r} must be NAME=VALUE, such as project=pay")
        pairs.append((name, value))
    return pairs


def verify_online() -> str:
    """Have the hub verify its own trail, and return the result as a sentence.

    Raises: Problem naming what is altered.
    """
    found = Client.from_disk().post("/api/v1/flotilla/audit/verification", {})
    if not found["intact"]:
        problem = Problem(f"the trail is not as it was written: {'; '.join(found['problems'])}")
        problem.code = 1
        raise problem
    signed = (
        f"signed up to row {found['lastSigned']}"
        if found.get("lastSigned")
        else "not covered by a signature"
    )
    return (
        f"Intact by the hub's own check: {found['rows']} rows up to {found['last']}, {signed}. "
        "An export with flotilla audit verify FILE --key proves it without the hub."
    )


def list_events(words: str, filters: list[str], limit: int, output: str) -> None:
    """Print events."""
    if output not in ("wide", "json"):
        raise Problem(f"--output must be wide or json, not {output!r}")
    query = urlencode([*_query(filters), ("limit", str(limit)), *([("q", words)] if words else [])])
    items = Client.from_disk().get(f"/api/v1/flotilla/audit?{query}")["items"]
    if output == "json":
        sys.stdout.write(json.dumps(items, indent=2) + "\n")
        return
    rows = [
        [
            i["at"][:19] + "Z",
            i["actor"],
            i["verb"],
            i["kind"],
            i["object"],
            i.get("result") or i["outcome"],
            i["ticket"] or i["reason"],
        ]
        for i in items
    ]
    table(["TIME", "ACTOR", "VERB", "KIND", "OBJECT", "OUTCOME", "WHY"], rows)


def export(file: str, filters: list[str], form: str) -> str:
    """Write an export to a file; return a sentence."""
    if form not in ("jsonl", "csv", "bundle"):
        raise Problem(f"--format must be jsonl, csv or bundle, not {form!r}")
    query = urlencode([*_query(filters), ("format", form)])
    size = Client.from_disk().download(f"/api/v1/flotilla/audit/export?{query}", Path(file))
    return f"{size} bytes written to {file}"
