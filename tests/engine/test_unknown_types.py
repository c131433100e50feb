"""Maps of kinds whose schema is not known yet: ownership tells whether they are atomic."""

import pytest

from hub.engine.diff import CompareSettings, compare_locally
from hub.engine.field_sets import MANAGER

ATOMIC = {"f:spec": {"f:atom": {}}}
GRANULAR = {"f:spec": {"f:atom": {".": {}, "f:x": {}}}}


def no_jq(_expression, value):
    raise AssertionError(value)


def gizmo(atom, **metadata):
    return {
        "apiVersion": "example.org/v1",
        "kind": "Gizmo",
        "metadata": {"name": "g", **metadata},
        "spec": {"atom": atom},
    }


def owned(atom, fields):
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": fields}
    return gizmo(atom, managedFields=[entry])


def local(stated, live):
    return compare_locally(gizmo(stated), live, CompareSettings(), no_jq, None)


@pytest.mark.parametrize(
    ("stated", "live", "fields", "same", "sure"),
    [
        pytest.param({"x": "1"}, {"x": "1"}, ATOMIC, True, False, id="atomic, equal"),
        pytest.param(
            {"x": "1"}, {"x": "1", "evil": "2"}, ATOMIC, False, False, id="atomic, one was added"
        ),
        pytest.param({"x": "1"}, {"x": "2"}, ATOMIC, False, False, id="atomic, another value"),
        pytest.param({}, {"x": "1"}, ATOMIC, False, False, id="atomic, emptied in Git"),
        pytest.param(
            {"x": "1"},
            {"x": "1", "other": "2"},
            GRANULAR,
            True,
            False,
            id="granular, one was added",
        ),
        pytest.param({}, {"x": "1"}, GRANULAR, False, True, id="granular, one left Git"),
    ],
)
def test_what_a_map_is_compared_as(stated, live, fields, same, sure):
    found = local(stated, owned(live, fields))

    assert found.is_same is same
    if sure:
        assert any(doubt.is_sure for doubt in found.doubts)


@pytest.mark.parametrize(
    ("stated", "live"),
    [({"x": "1"}, {"x": "1", "evil": "2"}), ({}, {"x": "1"})],
    ids=["one was added", "emptied in Git"],
)
def test_what_the_server_takes_away_of_an_atomic_map_is_a_difference(stated, live):
    found = local(stated, owned(live, ATOMIC))
    answer = owned(stated, ATOMIC)

    assert not found.is_unchanged_by(answer)
    assert found.with_dry_run(answer).modified


def test_a_dry_run_may_not_take_away_what_others_added_to_a_granular_map():
    found = local({"x": "1"}, owned({"x": "1", "other": "2"}, GRANULAR))

    assert found.is_unchanged_by(owned({"x": "1"}, GRANULAR))
