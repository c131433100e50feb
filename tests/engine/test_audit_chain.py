"""The chain of the audit trail: any change, gap or exchange is found and named."""

import json
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub.engine.audit_chain import (
    GENESIS,
    Verdict,
    canonical,
    digest_of,
    key_id,
    link_hash,
    sign,
    verify,
)


def test_random_tampering_is_always_found():
    key = Ed25519PrivateKey.generate()
    rows, previous = [], GENESIS
    for n in range(1, 20):
        event = {"n": n, "text": f"e{n}"}
        previous = link_hash(previous, n, digest_of(event))
        rows.append({"sequence": n, "digest": digest_of(event), "hash": previous, "event": event})
    checkpoint = {
        "sequence": 19,
        "hash": previous,
        "at": "t",
        "signature": sign(key, 19, previous, "t"),
    }
    keys = [key.public_key()]
    assert verify(rows, [checkpoint], keys).is_intact
    choose = random.Random(7)
    for _ in range(200):
        changed = [json.loads(json.dumps(r)) for r in rows]
        kind, place = (
            choose.choice(["event", "drop", "swap", "digest", "repeat"]),
            choose.randrange(18),
        )
        if kind == "event":
            changed[place]["event"]["text"] += "x"
        elif kind == "drop":
            del changed[place]
        elif kind == "swap":
            changed[place], changed[place + 1] = changed[place + 1], changed[place]
        elif kind == "repeat":
            changed.insert(place, changed[place])
        else:
            changed[place]["digest"] = "0" * 64
        found = verify(changed, [checkpoint], keys)
        assert not found.is_intact
        first = int(found.problems[0].split()[1].rstrip(":"))
        assert first in (place + 1, place + 2), (kind, place, found.problems[0])
    assert verify([{"x": 1}], [{"y": 1}], keys).problems
    assert not verify(rows, [{**checkpoint, "signature": "zz"}], keys).is_intact


def chain_of(count):
    rows, previous = [], GENESIS
    for n in range(1, count + 1):
        event = {"n": n}
        previous = link_hash(previous, n, digest_of(event))
        rows.append({"sequence": n, "digest": digest_of(event), "hash": previous, "event": event})
    return rows, previous


def test_a_part_of_a_chain_hangs_on_its_anchor():
    rows, _head = chain_of(9)
    part = rows[4:]
    assert verify(part, [], [], anchor=(4, rows[3]["hash"])).is_intact
    assert "does not follow" in verify(part, [], [], anchor=(4, "x" * 64)).problems[0]
    assert verify(rows, [], []).last_signed == 0
    assert verify([], [], []) == Verdict()


def test_expired_and_hidden_events_keep_the_chain():
    rows, _head = chain_of(5)
    bare = [{k: v for k, v in r.items() if k != "event"} for r in rows]
    found = verify([{**bare[0], "expired": True}, *bare[1:]], [], [])
    assert (found.is_intact, found.expired, found.checked) == (True, 1, 5)


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ({}, "no sequence or no hash"),
        ({"sequence": 5, "hash": "x"}, "not signed by the given key"),
        ({"sequence": 9}, "no sequence or no hash"),
    ],
)
def test_checkpoints_that_cannot_be(checkpoint, words):
    rows, _head = chain_of(5)
    key = Ed25519PrivateKey.generate()
    assert words in verify(rows, [checkpoint], [key.public_key()]).problems[0]


def test_a_checkpoint_knows_what_is_missing_at_the_end():
    rows, head = chain_of(5)
    key = Ed25519PrivateKey.generate()
    mark = {"sequence": 5, "hash": head, "at": "t", "signature": sign(key, 5, head, "t")}
    assert "row 5: missing" in verify(rows[:4], [mark], [key.public_key()]).problems[0]
    wrong = {**mark, "hash": rows[0]["hash"], "signature": sign(key, 5, rows[0]["hash"], "t")}
    assert "signed" in verify(rows, [wrong], [key.public_key()]).problems[0]
    early = {"sequence": 2, "hash": "h", "at": "t", "signature": sign(key, 2, "h", "t")}
    assert (
        verify(rows[3:], [early], [key.public_key()], anchor=(3, rows[2]["hash"])).last_signed == 0
    )
    assert (
        verify(
            rows, [mark], [Ed25519PrivateKey.generate().public_key(), key.public_key()]
        ).last_signed
        == 5
    )
    assert len(key_id(key.public_key())) == 16
    assert canonical({"b": "ü", "a": [1]}) == '{"a":[1],"b":"ü"}'.encode()


def test_problems_are_counted_only_so_far():
    rows, _head = chain_of(60)
    changed = [{**r, "event": {"n": 0}} for r in rows]
    assert len(verify(changed, [], []).problems) == 20
    assert "2 to 4" in verify([rows[0], rows[4]], [], []).problems[0]
