"""The hash chain of the audit trail: build and verify it without a database.

Each link is `sha256(previous hash, sequence, digest of the event)`, and a checkpoint signs a link.
The public key alone is enough to detect a row that was altered, removed or moved.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

GENESIS = "0" * 64


def canonical(value: Any) -> bytes:
    """Serialize a JSON value canonically."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(event: Mapping[str, Any]) -> str:
    """Return the digest of an event."""
    return hashlib.sha256(b"flotilla event\0" + canonical(event)).hexdigest()


def link_hash(previous: str, sequence: int, digest: str) -> str:
    """Return the hash of the link that follows `previous`."""
    return hashlib.sha256(f"flotilla link\0{previous}\0{sequence}\0{digest}".encode()).hexdigest()


def _statement(sequence: int, hash_: str, at: str) -> bytes:
    return f"flotilla checkpoint\0{sequence}\0{hash_}\0{at}".encode()


def key_id(public: Ed25519PublicKey) -> str:
    """Return the id of a public key: the first 16 characters of its digest."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def sign(key: Ed25519PrivateKey, sequence: int, hash_: str, at: str) -> str:
    """Return the signature of a checkpoint."""
    return b64encode(key.sign(_statement(sequence, hash_, at))).decode()


def is_signed(public: Ed25519PublicKey, checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has a valid signature of this key."""
    try:
        public.verify(
            b64decode(str(checkpoint["signature"])),
            _statement(int(checkpoint["sequence"]), str(checkpoint["hash"]), str(checkpoint["at"])),
        )
    except (InvalidSignature, KeyError, ValueError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of verifying a trail."""

    checked: int = 0
    first: int = 0
    last: int = 0
    head: str = GENESIS
    checkpoints: int = 0
    last_signed: int = 0
    """The last sequence covered by a valid signature; later rows are protected by hashes only."""
    expired: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Whether the verification found no problem."""
        return not self.problems


@dataclass(slots=True)
class _Check:
    keys: Sequence[Ed25519PublicKey]
    hashes: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    checked: int = 0
    first: int = 0
    expired: int = 0
    expected: int = 0
    previous: str = GENESIS


def verify(
    rows: Iterable[Mapping[str, Any]],
    checkpoints: Iterable[Mapping[str, Any]],
    keys: Sequence[Ed25519PublicKey],
    *,
    anchor: tuple[int, str] = (0, GENESIS),
    maximum: int = 20,
) -> Verdict:
    """Verify rows in the given order; the first problem names the first bad row.

    Shapes: a row is `{sequence, digest, hash, event}`; `event` is missing where only the chain
        was exported, and `expired: true` where retention removed it. `anchor` is the
        (sequence, hash) before the first row.
    """
    state = _Check(keys, expected=anchor[0] + 1, previous=anchor[1])
    state.hashes[anchor[0]] = anchor[1]
    for row in rows:
        _check_row(state, row)
        if len(state.problems) >= maximum:
            break
    signed, count = 0, 0
    for checkpoint in checkpoints:
        count += 1
        signed = max(signed, _check_signature(state, checkpoint))
    return Verdict(
        state.checked,
        state.first,
        state.expected - 1,
        state.previous,
        count,
        signed,
        state.expired,
        tuple(state.problems[:maximum]),
    )


def _check_row(state: _Check, row: Mapping[str, Any]) -> None:
    try:
        sequence, digest, hash_ = int(row["sequence"]), str(row["digest"]), str(row["hash"])
    except (KeyError, TypeError, ValueError):
        state.problems.append(
            f"row after {state.expected - 1}: sequence, digest or hash is missing"
        )
        return
    state.first = state.first or sequence
    if sequence != state.expected:
        if sequence < state.expected:
            state.problems.append(
                f"row {sequence}: duplicate or out of order, after row {state.expected - 1}"
            )
            return
        missing = (
            f"{state.expected}"
            if sequence == state.expected + 1
            else f"{state.expected} to {sequence - 1}"
        )
        state.problems.append(f"row {state.expected}: missing ({missing})")
        # The previous hash is unknown: continue from this row's own hash.
        state.previous = ""
    event = row.get("event")
    if event is not None:
        if digest_of(event) != digest:
            state.problems.append(
                f"row {sequence}: the event was altered: it does not match the digest in the chain"
            )
    elif row.get("expired"):
        state.expired += 1
    if state.previous and link_hash(state.previous, sequence, digest) != hash_:
        state.problems.append(
            f"row {sequence}: the hash does not follow from row {sequence - 1}: "
            "altered or reordered"
        )
    state.checked += 1
    state.hashes[sequence] = hash_
    state.previous, state.expected = hash_, sequence + 1


def _check_signature(state: _Check, checkpoint: Mapping[str, Any]) -> int:
    try:
        sequence, hash_ = int(checkpoint["sequence"]), str(checkpoint["hash"])
    except (KeyError, TypeError, ValueError):
        state.problems.append("a checkpoint has no sequence or no hash")
        return 0
    if state.keys and not any(is_signed(key, checkpoint) for key in state.keys):
        state.problems.append(f"checkpoint {sequence}: not signed by the given key")
        return 0
    known = state.hashes.get(sequence)
    if known is None:
        if sequence >= state.expected:
            state.problems.append(
                f"row {state.expected}: missing: a signed checkpoint covers rows up to {sequence}"
            )
        return 0
    if known != hash_:
        state.problems.append(f"row {sequence}: the hash differs from the signed checkpoint")
        return 0
    return sequence if state.keys else 0
