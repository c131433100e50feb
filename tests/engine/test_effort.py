"""What rules, lists and field managers of one resource cost: it grows with the text, and has an
end.
"""

import time

import pytest

from hub.engine.diff import CompareSettings, compare_locally
from hub.engine.effort import MAX_PATHS, Effort
from hub.engine.errors import RuleError
from hub.engine.ignore_rules import ignore_rules, ignored_places, without, without_ignored
from hub.engine.list_elements import Elements
from hub.engine.preserve_ignored import preserve_ignored
from hub.engine.schema import Type

FEW = 4_000_000
SLICES = ".a[range(1000):]"


def thing(**fields):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "t"}, **fields}


def slices(_expression, _value):
    """Return what jq gives for `SLICES`: few bytes, of which each stands for nearly the whole
    list.
    """
    return [["a", {"start": number, "end": None}] for number in range(1000)]


def rules(*expressions):
    pointers = [e for e in expressions if e.startswith("/")]
    paths = [e for e in expressions if e not in pointers]
    return ignore_rules(
        [{"kind": "ConfigMap", "jsonPointers": pointers, "jqPathExpressions": paths}], "x"
    )


@pytest.fixture
def soon():
    """Fail what takes minutes where it should take a moment."""
    began = time.thread_time()
    yield
    assert time.thread_time() - began < 15


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("expressions", "length"),
    [
        pytest.param([SLICES], 20_000, id="slices that overlap"),
        pytest.param(["/a/0"] * 1900, 100_000, id="pointers into a long list"),
        pytest.param([".a[]"], 3 * MAX_PATHS, id="a path of all elements"),
        pytest.param([".a[].b[]?"] * 100, 300_000, id="paths to what is not there"),
    ],
)
def test_what_rules_go_through_has_an_end(expressions, length):
    desired, live = thing(a=[0] * length), thing(data={})
    with pytest.raises(RuleError, match="ignoreDifferences"):
        preserve_ignored(desired, live, rules(*expressions), slices, effort=Effort(FEW))


@pytest.mark.usefixtures("soon")
def test_a_comparison_processes_a_limited_number_of_values():
    settings = CompareSettings(rules=rules(*["/a/0"] * 1900), effort=Effort(FEW))
    with pytest.raises(RuleError, match="ignoreDifferences"):
        compare_locally(thing(a=[0] * 100_000), thing(data={}), settings, None)


@pytest.mark.usefixtures("soon")
def test_rules_one_after_the_other_take_no_square():
    document, found = thing(a=list(range(60_000))), rules("/b", ".a[:30000]", ".a[]")

    def first(_expression, _value):
        return [["a", {"start": None, "end": 30_000}]]

    places = ignored_places(document, found, first)
    assert without(document, places) == thing(a=[])


def test_ordinary_rules_are_far_from_the_end():
    boxes = [{"name": f"b{n}", "image": "x", "env": [{"name": "k"}] * 10} for n in range(1000)]
    many = rules(*["/data/x", ".boxes[].image", ".boxes[].env[].value"] * 30)
    effort = Effort()
    assert without_ignored(thing(boxes=boxes), many, None, effort)["boxes"][999]["name"] == "b999"
    assert effort._left > 0.9 * Effort()._left


KEYED = {
    "t": "map",
    "p": 1,
    "f": {"list": {"t": "list", "k": ["name"], "v": {"t": "map", "p": 1, "f": {"name": "string"}}}},
}


def _owned(manager, operation, count, more):
    fields = {f'k:{{"name":"n{n}"}}': {".": {}, "f:name": {}, **more} for n in range(count)}
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:list": fields}}


@pytest.mark.usefixtures("soon")
def test_a_field_that_git_drops_from_thousands_of_elements_takes_no_square():
    count = 10_000
    live = thing(list=[{"name": f"n{n}", "v": 1} for n in range(count)])
    live["metadata"] = {
        "name": "t",
        "managedFields": [
            _owned("argocd-controller", "Apply", count, {"f:v": {}}),
            _owned("somebody", "Update", count, {}),
        ],
    }
    desired = thing(list=[{"name": f"n{n}"} for n in range(count)])
    look = compare_locally(desired, live, CompareSettings(), None, Type(KEYED, {}))
    assert len(look.doubts) == count


@pytest.mark.usefixtures("soon")
def test_elements_that_leave_out_a_key_are_found_without_a_search():
    count = 40_000
    found = Elements([{"port": n} for n in range(count)])
    assert [found.find({"port": n, "protocol": "TCP"}) for n in range(count)] == list(range(count))
    same = Elements([{"port": 1} for _ in range(count)])
    assert {same.find({"port": 1, "protocol": f"{n}"}) for n in range(count)} == {None}


@pytest.mark.usefixtures("soon")
def test_long_lists_that_have_nothing_in_common_are_paired_without_a_search():
    count = 150_000
    desired = thing(a=[{"x": n, "y": 1} for n in range(count)])
    live = thing(a=[{"x": -n - 1, "y": 2} for n in range(count)])
    sent = preserve_ignored(desired, live, rules(".a[0].y"), None)
    assert sent["a"][0] == {"x": 0, "y": 2}
