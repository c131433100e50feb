"""RespectIgnoreDifferences: what is sent has Git's lists and the cluster's ignored fields, each at
its element.
"""

from functools import lru_cache

import jq
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from hub.engine.errors import RuleError
from hub.engine.ignore_rules import (
    ignore_rules,
    ignored_places,
    plain_path,
    without,
    without_ignored,
)
from hub.engine.preserve_ignored import preserve_ignored
from hub.engine.schema import Type

compiled = lru_cache(jq.compile)


def paths(expression, value):
    try:
        return compiled(f"[path({expression}\n)]").input_value(value).first()
    except ValueError:
        return []


def delete(expression, value):
    try:
        return compiled(f"del({expression}\n)").input_value(value).first()
    except ValueError:
        return value


def rules(*expressions):
    pointers = [e for e in expressions if e.startswith("/")]
    return ignore_rules(
        [
            {
                "group": "*",
                "kind": "*",
                "jsonPointers": pointers,
                "jqPathExpressions": [e for e in expressions if e not in pointers],
            }
        ],
        "x",
    )


def thing(spec, fields=None):
    owned = (
        [{"manager": "x", "operation": "Update", "fieldsV1": {"f:spec": fields}}] if fields else []
    )
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "t", "managedFields": owned} if owned else {"name": "t"},
        "spec": spec,
    }


def box(name, image, **more):
    return {"name": name, "image": image, **more}


A, B, C = box("a", "old"), box("b", "old"), box("c", "new")
A2, B2 = box("a", "new", port=2), box("b", "new", port=2)
IMAGE = ".spec.boxes[].image"
CHOSEN = '.spec.boxes[] | select(.name == "a") | .image'
DEEP = ".spec.boxes[].env[]?.value"
HOSTS = ".spec.rules[].host"
KEYED = {
    "f:boxes": {'k:{"name":"a"}': {".": {}, "f:image": {}, "f:env": {'k:{"key":"K"}': {".": {}}}}}
}
PORTS = {"f:ports": {'k:{"number":1,"protocol":"TCP"}': {}}}

TABLE = [
    (
        "an element more",
        [IMAGE],
        {"boxes": [A2, C, B2]},
        {"boxes": [A, B]},
        {"boxes": [{**A2, "image": "old"}, C, {**B2, "image": "old"}]},
    ),
    (
        "an element less",
        [IMAGE],
        {"boxes": [B2]},
        {"boxes": [A, B]},
        {"boxes": [{**B2, "image": "old"}]},
    ),
    (
        "another order",
        [IMAGE],
        {"boxes": [B2, A2]},
        {"boxes": [A, box("b", "older")]},
        {"boxes": [{**B2, "image": "older"}, {**A2, "image": "old"}]},
    ),
    (
        "another element of the same number",
        [IMAGE],
        {"boxes": [C, A2]},
        {"boxes": [A, B]},
        {"boxes": [C, {**A2, "image": "old"}]},
    ),
    ("no element", [IMAGE], {"boxes": []}, {"boxes": [A]}, {"boxes": []}),
    ("the first elements", [IMAGE], {"boxes": [A2]}, {"boxes": []}, {"boxes": [A2]}),
    ("the list left Git", [IMAGE], {"n": 1}, {"boxes": [A], "n": 2}, {"n": 1}),
    ("the list is new", [IMAGE], {"boxes": [A2]}, {"n": 2}, {"boxes": [A2]}),
    (
        "select",
        [CHOSEN],
        {"boxes": [B2, A2]},
        {"boxes": [A, B]},
        {"boxes": [B2, {**A2, "image": "old"}]},
    ),
    (
        "absent in the cluster",
        [IMAGE],
        {"boxes": [A2, B2]},
        {"boxes": [{"name": "a"}, B]},
        {"boxes": [{"name": "a", "port": 2}, {**B2, "image": "old"}]},
    ),
    (
        "absent in Git",
        [IMAGE],
        {"boxes": [{"name": "a", "port": 2}]},
        {"boxes": [A]},
        {"boxes": [{**A2, "image": "old"}]},
    ),
    (
        "a pointer with an index, reordered",
        ["/spec/boxes/0/image"],
        {"boxes": [B2, A2]},
        {"boxes": [A, B]},
        {"boxes": [{**B2, "image": "old"}, {**A2, "image": "old"}]},
    ),
    (
        "a pointer with an index, one before it",
        ["/spec/boxes/1/image"],
        {"boxes": [C, A2, B2]},
        {"boxes": [A, B]},
        {"boxes": [C, {**A2, "image": "old"}, {**B2, "image": "old"}]},
    ),
    (
        "a pointer from the end",
        ["/spec/boxes/-1/image"],
        {"boxes": [A2, B2]},
        {"boxes": [A, B]},
        {"boxes": [A2, {**B2, "image": "old"}]},
    ),
    (
        "an index from the end",
        [".spec.boxes[-1].image"],
        {"boxes": [A2, B2]},
        {"boxes": [A, B]},
        {"boxes": [A2, {**B2, "image": "old"}]},
    ),
    (
        "a slice",
        [".spec.boxes[1:][].image"],
        {"boxes": [A2, B2]},
        {"boxes": [A, B]},
        {"boxes": [A2, {**B2, "image": "old"}]},
    ),
    (
        "a whole element",
        ['.spec.boxes[] | select(.name == "s")'],
        {"boxes": [A2, C]},
        {"boxes": [A, box("s", "x"), B]},
        {"boxes": [A2, box("s", "x"), C]},
    ),
    (
        "a whole element that Git has too",
        ['.spec.boxes[] | select(.name == "s")'],
        {"boxes": [box("s", "y"), A2]},
        {"boxes": [A, box("s", "x")]},
        {"boxes": [box("s", "x"), A2]},
    ),
    (
        "a whole element that the cluster has not",
        ['.spec.boxes[] | select(.name == "s")'],
        {"boxes": [A2, box("s", "y")]},
        {"boxes": [A]},
        {"boxes": [A2]},
    ),
    (
        "a whole element of a list that Git has not",
        ['.spec.boxes[]? | select(.name == "s")'],
        {"n": 1},
        {"boxes": [A, box("s", "x")]},
        {"n": 1, "boxes": [box("s", "x")]},
    ),
    (
        "a whole list",
        [".spec.boxes"],
        {"boxes": [C], "n": 1},
        {"boxes": [A, B], "n": 2},
        {"boxes": [A, B], "n": 1},
    ),
    ("a whole list by pointer", ["/spec/boxes"], {"boxes": [C]}, {}, {}),
    ("all elements", [".spec.boxes[]"], {"boxes": [C]}, {"boxes": [A, B]}, {"boxes": [A, B]}),
    (
        "lists in lists",
        [DEEP],
        {
            "boxes": [
                box("c", "1", env=[{"key": "K", "value": "n"}]),
                box("a", "1", env=[{"key": "L", "value": "n"}, {"key": "K", "value": "n"}]),
            ]
        },
        {"boxes": [box("a", "1", env=[{"key": "K", "value": "o"}]), box("b", "1")]},
        {
            "boxes": [
                box("c", "1", env=[{"key": "K", "value": "n"}]),
                box("a", "1", env=[{"key": "L", "value": "n"}, {"key": "K", "value": "o"}]),
            ]
        },
    ),
    (
        "an atomic list, one more",
        [HOSTS],
        {"rules": [{"host": "n", "p": 1}, {"host": "m", "p": 2}, {"host": "k", "p": 3}]},
        {"rules": [{"host": "o", "p": 1, "filled": True}, {"host": "q", "p": 3}]},
        {"rules": [{"host": "o", "p": 1}, {"host": "m", "p": 2}, {"host": "q", "p": 3}]},
    ),
    (
        "an atomic list, reordered",
        [HOSTS],
        {"rules": [{"host": "n", "p": 2}, {"host": "m", "p": 1}]},
        {"rules": [{"host": "o", "p": 1}, {"host": "q", "p": 2}]},
        {"rules": [{"host": "q", "p": 2}, {"host": "o", "p": 1}]},
    ),
    (
        "an atomic list of the same length, changed",
        [HOSTS],
        {"rules": [{"host": "n", "p": 9}]},
        {"rules": [{"host": "o", "p": 1}]},
        {"rules": [{"host": "o", "p": 9}]},
    ),
    (
        "an atomic list of another length, changed",
        [HOSTS],
        {"rules": [{"host": "n", "p": 9}]},
        {"rules": [{"host": "o", "p": 1}, {"host": "q", "p": 2}]},
        {"rules": [{"host": "n", "p": 9}]},
    ),
    (
        "one of some values",
        ["/spec/args/0"],
        {"args": ["n", "b", "c"]},
        {"args": ["o", "b"]},
        {"args": ["o", "b", "c"]},
    ),
    (
        "the name itself",
        [".spec.boxes[].name"],
        {"boxes": [box("x", "1"), box("y", "2")]},
        {"boxes": [box("a", "2"), box("b", "1")]},
        {"boxes": [box("b", "1"), box("a", "2")]},
    ),
    (
        "pointers one after the other",
        ["/spec/args/0", "/spec/args/0"],
        {"args": ["n", "m", "c"]},
        {"args": ["o", "p", "b"]},
        {"args": ["o", "p", "c"]},
    ),
    (
        "a map's field",
        ["/spec/m/x"],
        {"m": {"x": 1, "y": 1}},
        {"m": {"x": 2, "y": 2}},
        {"m": {"x": 2, "y": 1}},
    ),
    (
        "a map's field that Git has not",
        ["/spec/m/x"],
        {"m": {"y": 1}},
        {"m": {"x": 2, "y": 2, "z": 2}},
        {"m": {"x": 2, "y": 1}},
    ),
    (
        "a field of a map that Git has not",
        ["/spec/m/x"],
        {"n": 1},
        {"m": {"x": 2, "y": 2}},
        {"n": 1, "m": {"x": 2}},
    ),
    (
        "a field of a map that the cluster has not",
        ["/spec/m/x"],
        {"m": {"x": 1, "y": 1}},
        {},
        {"m": {"y": 1}},
    ),
    ("the only field of a map that the cluster has not", ["/spec/m/x"], {"m": {"x": 1}}, {}, {}),
    (
        "a member of a map that is new",
        [".spec.m[].image"],
        {"m": {"a": {"image": 1}, "b": {"image": 1, "p": 1}}},
        {"m": {"a": {"image": 2}}},
        {"m": {"a": {"image": 2}, "b": {"image": 1, "p": 1}}},
    ),
    (
        "false and nothing",
        ["/spec/a", "/spec/b", "/spec/c"],
        {"a": True, "b": "x", "c": 1},
        {"a": False, "b": "", "c": 0},
        {"a": False, "b": "", "c": 0},
    ),
    ("another shape", [IMAGE], {"boxes": {"a": 1}}, {"boxes": [A]}, {"boxes": {"a": 1}}),
    (
        "escapes",
        ["/spec/m/a~1b", "/spec/m/c~0d", "/spec/m/~01"],
        {"m": {"a/b": 1, "c~d": 1, "~1": 1, "e": 1}},
        {"m": {"a/b": 2, "c~d": 2, "~1": 2, "e": 2}},
        {"m": {"a/b": 2, "c~d": 2, "~1": 2, "e": 1}},
    ),
    (
        "a key of digits",
        ["/spec/m/007", "/spec/m/0"],
        {"m": {"007": 1, "0": 1, "7": 1}},
        {"m": {"007": 2, "0": 2, "7": 2}},
        {"m": {"007": 2, "0": 2, "7": 1}},
    ),
]


@pytest.mark.parametrize(
    ("expressions", "desired", "live", "expected"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_what_is_sent(expressions, desired, live, expected):
    assert (
        preserve_ignored(thing(desired), thing(live), rules(*expressions), paths)["spec"]
        == expected
    )


LIST = {"t": "list", "v": {"t": "map", "p": 1}}
SPEC = {
    "t": "map",
    "f": {
        "boxes": {**LIST, "k": ["id"]},
        "ports": {
            "t": "list",
            "k": ["number", "protocol"],
            "v": {"t": "map", "f": {"protocol": {"t": "string", "d": "TCP"}}},
        },
        "groups": {"t": "list", "v": "string", "s": 1},
    },
}
TYPE = Type({"t": "map", "f": {"spec": SPEC}}, {})


@pytest.mark.parametrize(
    ("fields", "type_"),
    [(None, TYPE), ({"f:boxes": {'k:{"id":1}': {}}, **PORTS, "f:groups": {'v:"a"': {}}}, None)],
    ids=["schema", "field sets"],
)
@pytest.mark.parametrize(
    ("expressions", "desired", "live", "expected"),
    [
        (
            [".spec.boxes[].v"],
            {"boxes": [{"id": 3, "v": "n"}, {"id": 2, "name": "x", "v": "n"}]},
            {"boxes": [{"id": 1, "name": "x", "v": "o"}, {"id": 2, "name": "y", "v": "p"}]},
            {"boxes": [{"id": 3, "v": "n"}, {"id": 2, "name": "x", "v": "p"}]},
        ),
        (
            [".spec.ports[].v"],
            {"ports": [{"number": 1, "protocol": "UDP", "v": "n"}, {"number": 1, "v": "n"}]},
            {"ports": [{"number": 1, "protocol": "TCP", "v": "o"}]},
            {"ports": [{"number": 1, "protocol": "UDP", "v": "n"}, {"number": 1, "v": "o"}]},
        ),
        (
            ['.spec.groups[] | select(startswith("x"))'],
            {"groups": ["c", "x2", "a"]},
            {"groups": ["a", "x1", "b"]},
            {"groups": ["c", "a", "x1"]},
        ),
    ],
    ids=["key", "two keys, one of them a default", "set"],
)
def test_keys_come_from_the_schema_or_from_field_sets(
    fields, type_, expressions, desired, live, expected
):
    more = {"type_": type_} if type_ else {}

    sent = preserve_ignored(thing(desired), thing(live, fields), rules(*expressions), paths, **more)

    assert sent["spec"] == expected


def test_keys_of_lists_in_lists_come_from_field_sets():
    env = [{"key": "L", "name": "x", "value": "n"}, {"key": "K", "name": "y", "value": "n"}]
    live = {"boxes": [box("b", "1"), box("a", "1", env=[{"key": "K", "name": "x", "value": "o"}])]}

    sent = preserve_ignored(
        thing({"boxes": [box("a", "1", env=env)]}), thing(live, KEYED), rules(DEEP), paths
    )

    assert [e["value"] for e in sent["spec"]["boxes"][0]["env"]] == ["n", "o"]


def test_the_status_is_never_sent_and_a_path_for_all_is_refused():
    live = {**thing({"a": 2}), "status": {"a": 2}}

    assert "status" not in preserve_ignored(
        thing({"a": 1}), live, rules("/status", "/spec/a"), paths
    )
    with pytest.raises(RuleError, match="selects the whole resource"):
        preserve_ignored(thing({"a": 1}), live, rules("., .spec"), paths)


DOCUMENTS = [
    {"c": [{"env": [{"v": 1}, {"v": 2}]}, {"env": [{"v": 3}]}]},
    {"c": [{"env": [{"v": 1}]}, {}]},
    {"c": [{"env": None}]},
    {"c": None},
    {},
    {"c": {"env": {"x": {"v": 1}}}},
    {"c": [1, {"env": []}]},
    {"c": "text"},
    {"c": [[{"env": 1}]], "0": 5},
    {"c": [{"env": {"v": 1}}]},
]
PLAIN = [
    ".c",
    ".c[]",
    ".c[].env[].v",
    ".c[].env[].v?",
    ".c[].env[]?",
    ".c[].env",
    ".c[].env?",
    ".c[0]",
    ".c[0].env[1]",
    ".c[7].env",
    ".c[7].env[]",
    ".c.env",
    ".c.env?",
    ".[]",
    ".[0]",
    ".c[0]?",
    '.["c"][0]["env"]',
    ".d.e.f",
    ".c.[0].[]",
    '.["c"]?',
    ".c[][]",
    ".c[][].v",
]


@pytest.mark.parametrize("expression", PLAIN)
def test_plain_paths_select_as_jq_does(expression):
    assert plain_path(expression) is not None
    for document in DOCUMENTS:
        found = without_ignored(document, rules(expression), None)
        assert found == delete(expression, document), document


scalars = st.sampled_from([1, "a", None, False])
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)
expressions = st.lists(
    st.sampled_from(
        [
            ".a",
            ".a[]?",
            ".a[0]?",
            ".b[1:]?",
            ".b[-1]?",
            ".a[]?.b?",
            ".. | .c?",
            "/a/0",
            "/a/0/b",
            "/b/-1",
            "/a/-",
            "/b/9",
            "/c",
            ".a[:2]? | .[0]?",
            ".b[1:]?[0]",
            ".c[1:][1:]?",
            "(.a, .b)[0]?",
            ".. | arrays | first(.[])",
        ]
    ),
    min_size=1,
    max_size=4,
)


@seed(16)
@settings(max_examples=150, deadline=None)
@given(document=st.dictionaries(st.sampled_from("abc"), documents, max_size=3), chosen=expressions)
def test_the_places_are_what_a_comparison_leaves_out(document, chosen):
    found = rules(*chosen)

    assert without(document, ignored_places(document, found, paths)) == without_ignored(
        document, found, delete
    )


names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=5)


@seed(16)
@settings(max_examples=80, deadline=None)
@given(here=names, there=names)
def test_a_list_has_the_elements_and_the_order_of_git(here, there):
    desired = {"boxes": [{"name": n, "image": f"git-{n}", "port": 1} for n in here]}
    live = {"boxes": [{"name": n, "image": f"live-{n}", "port": 2} for n in there]}

    sent = preserve_ignored(thing(desired), thing(live), rules(IMAGE), paths)["spec"]["boxes"]

    assert sent == [
        {"name": n, "image": f"{'live' if n in there else 'git'}-{n}", "port": 1} for n in here
    ]
