"""Whether an earlier change took effect, determined from the live resource."""

import pytest

from hub.engine.change_outcome import fingerprint, outcome_of, without_noise
from hub.engine.field_sets import MANAGER


def thing(version="7", uid="u", own="t1", deleted=False, others=None, **fields):
    theirs = [{"manager": "hand", "operation": "Update", "fieldsV1": others}] if others else []
    metadata = {
        "name": "a",
        "uid": uid,
        "resourceVersion": version,
        "managedFields": [{"manager": MANAGER, "operation": "Update", "time": own}] * bool(own)
        + theirs,
        **({"deletionTimestamp": "2026-03-01T00:00:00Z"} if deleted else {}),
    }
    return {"kind": "ConfigMap", "metadata": metadata, **fields}


BEFORE = thing(data={"a": "1"}, items=[{"name": "x", "n": 1}])
MERGE = {"metadata": {"uid": "u"}, "data": {"a": "2", "b": None}}
JSON = [
    {"op": "test", "path": "/metadata/uid", "value": "u"},
    {"op": "replace", "path": "/data/a", "value": "2"},
    {"op": "remove", "path": "/data/b"},
]
STRATEGIC = {"items": [{"name": "x", "n": 2}]}

CASES = {
    "nothing happened": ("patch", MERGE, BEFORE, "failed"),
    "the object has what was asked for": (
        "patch",
        MERGE,
        thing("8", own="t2", data={"a": "2"}),
        "allowed",
    ),
    "a JSON patch is in the object": (
        "patch",
        JSON,
        thing("8", own="t2", data={"a": "2"}),
        "allowed",
    ),
    "somebody else made the same change": (
        "patch",
        MERGE,
        thing("8", others={"f:data": {"f:a": {}}}, data={"a": "2"}),
        "unknown",
    ),
    "what it removes is gone": ("patch", {"data": {"b": None}}, thing("8", data={}), "allowed"),
    "text of a Secret": (
        "patch",
        {"stringData": {"p": "x"}},
        thing("8", own="t2", data={"p": "eA=="}) | {"kind": "Secret"},
        "allowed",
    ),
    "what a JSON patch removes is there": (
        "patch",
        JSON,
        thing("8", data={"a": "2", "b": ""}),
        "failed",
    ),
    "an element of a list": (
        "patch",
        STRATEGIC,
        thing("8", own="t2", items=[{"name": "x", "n": 2, "z": 1}]),
        "allowed",
    ),
    "others changed other fields": (
        "patch",
        MERGE,
        thing("8", others={"f:data": {"f:c": {}}}, data={"a": "1", "c": "1"}),
        "failed",
    ),
    "others changed the same field": (
        "patch",
        MERGE,
        thing("8", others={"f:data": {"f:a": {}}}, data={"a": "3"}),
        "unknown",
    ),
    "others changed the field of a JSON patch": (
        "patch",
        JSON,
        thing("8", others={"f:data": {"f:a": {}}}, data={"a": "3"}),
        "unknown",
    ),
    "others changed an element of the same list": (
        "patch",
        STRATEGIC,
        thing("8", others={"f:items": {'k:{"name":"x"}': {"f:n": {}}}}, items=[{"name": "x"}]),
        "unknown",
    ),
    "made, and then changed by others": (
        "patch",
        MERGE,
        thing("9", own="t2", data={"a": "3"}),
        "allowed",
    ),
    "another object has the name": (
        "patch",
        MERGE,
        thing("8", uid="v", data={"a": "2"}),
        "unknown",
    ),
    "the object is gone": ("patch", MERGE, None, "unknown"),
    "a deletion that was made": ("delete", None, None, "allowed"),
    "a deletion that goes on": ("delete", None, thing("8", deleted=True), "allowed"),
    "a deletion, and a new one of the name": ("delete", None, thing("8", uid="v"), "allowed"),
    "a deletion that was not made": ("delete", None, BEFORE, "failed"),
    "a creation that was made": ("create", None, thing("8"), "allowed"),
    "a creation that was not made": ("create", None, None, "failed"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_live_object_says_what_became_of_a_change(case):
    how, patch, current, outcome = CASES[case]
    before = BEFORE if how != "create" else {}

    found = outcome_of({"how": how, "patch": patch, "fingerprint": fingerprint(before)}, current)

    assert found.outcome == outcome
    assert found.why


@pytest.mark.parametrize(
    "step",
    [
        {"op": "move", "from": "/data/a", "path": "/data/b"},
        {"op": "add", "path": "/items/5", "value": 1},
        {"op": "add", "path": "/kind/x", "value": 1},
    ],
    ids=["a move", "beyond a list", "within a text"],
)
def test_what_a_step_does_not_show_counts_as_not_held(step):
    plan = {"how": "patch", "patch": [step], "fingerprint": fingerprint(BEFORE)}

    assert outcome_of(plan, thing("8", items=[1])).outcome == "failed"


def test_the_last_element_of_a_list_is_what_was_added():
    step = {"op": "add", "path": "/items/-", "value": 2}
    plan = {"how": "patch", "patch": [step], "fingerprint": fingerprint(BEFORE)}

    assert outcome_of(plan, thing("8", own="t2", items=[1, 2])).outcome == "allowed"


def test_a_field_of_what_is_no_object_is_not_held():
    plan = {"how": "patch", "patch": {"data": {"a": 1}}, "fingerprint": fingerprint(BEFORE)}

    assert outcome_of(plan, thing("8", data="text")).outcome == "failed"


def test_what_servers_count_is_no_difference():
    assert without_noise({**BEFORE, "status": {"n": 1}})["metadata"] == {"name": "a", "uid": "u"}
    assert "status" not in without_noise({"status": 1})
