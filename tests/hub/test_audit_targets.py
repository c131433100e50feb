"""The registry is the only place that lists the kinds of targets of forwarded events."""

import pytest

from hub.audit import chain, forwarding, trail
from hub.audit.targets.base import Target
from hub.audit.targets.registry import TARGETS
from hub.engine.errors import Invalid

SENT = []


def _check(value, stored):
    if not isinstance(value, dict) or not value.get("topic"):
        raise Invalid("queue.topic is required")
    return {"topic": value["topic"], "key": value.get("key") or stored.get("key", "")}


QUEUE = Target(
    "queue",
    _check,
    lambda config: {"topic": config["topic"]},
    lambda config, rows: SENT.extend((config["topic"], row["event"]["verb"]) for row in rows),
)


@pytest.fixture
def with_queue(monkeypatch):
    monkeypatch.setitem(TARGETS, QUEUE.name, QUEUE)
    SENT.clear()


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_its_name_and_refuses_what_is_no_target(name):
    assert TARGETS[name].name == name
    with pytest.raises(Invalid, match=rf"{name}\.\w+ is required"):
        TARGETS[name].check("text", {})


def test_an_entry_of_the_registry_is_a_whole_target(with_queue, db):
    """Nothing else names the kinds: checking, showing and sending follow from the entry."""
    with pytest.raises(Invalid, match=r"queue\.topic is required"):
        forwarding.configure({"queue": {"key": "CANARY"}})
    forwarding.configure({"queue": {"topic": "audit", "key": "CANARY"}})
    trail.record("alice", "sync", "applications", "default/shop")
    chain.seal()

    assert forwarding.send() == 1

    assert SENT == [("audit", "sync")]
    shown = forwarding.shown()
    assert shown["queue"]["topic"] == "audit" and shown["queue"]["sentThrough"] == 1
    assert shown["syslog"] is None and "CANARY" not in str(shown)


def test_a_secret_that_is_not_sent_again_is_kept(with_queue, db):
    forwarding.configure({"queue": {"topic": "audit", "key": "CANARY"}})
    forwarding.configure({"queue": {"topic": "other"}})
    trail.record("alice", "sync", "applications", "default/shop")
    chain.seal()

    assert forwarding.send() == 1 and SENT == [("other", "sync")]


def test_a_target_that_is_not_in_the_registry_is_refused():
    with pytest.raises(
        Invalid, match="'queue' is not a target; the targets are syslog and webhook"
    ):
        forwarding.configure({"queue": {"topic": "audit"}})
