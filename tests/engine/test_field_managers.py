"""`managedFieldsManagers`: exactly what a manager owns is taken from the cluster, at every
depth.
"""

import json

import pytest

from hub.engine.diff import CompareSettings, compare
from hub.engine.field_managers import manager_fields, take_fields
from hub.engine.ignore_rules import ignore_rules
from hub.engine.preserve_ignored import preserve_ignored

RULES = ignore_rules([{"group": "*", "kind": "*", "managedFieldsManagers": ["tuner", "hpa"]}], "x")


def key(**values):
    return "k:" + json.dumps(values, separators=(",", ":"))


def entry(fields, manager="tuner", operation="Update", **more):
    return {
        "manager": manager,
        "operation": operation,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **more,
    }


def live_of(spec, *entries, version="example.com/v1"):
    return {
        "apiVersion": version,
        "kind": "Thing",
        "metadata": {"name": "t", "managedFields": list(entries)},
        "spec": spec,
    }


def thing(spec):
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": spec,
    }


CPU = {"f:containers": {key(name="a"): {"f:resources": {"f:requests": {"f:cpu": {}}}}}}
SIDECAR = {"f:containers": {key(name="s"): {".": {}, "f:name": {}, "f:image": {}}}}
PORT = {"f:ports": {key(containerPort=53, protocol="UDP"): {"f:name": {}}}}


def container(name, image="1", **more):
    return {"name": name, "image": image, **more}


def cpu(value, **more):
    return {"resources": {"requests": {"cpu": value, **more}}}


TABLE = [
    (
        "another container's image and a new variable",
        CPU,
        {
            "containers": [
                container("a", env=[{"name": "N", "value": "1"}], **cpu("1")),
                container("b", "2"),
            ]
        },
        {"containers": [container("a", **cpu("5")), container("b", "1")]},
        {
            "containers": [
                container("a", env=[{"name": "N", "value": "1"}], **cpu("5")),
                container("b", "2"),
            ]
        },
    ),
    (
        "the other request",
        CPU,
        {"containers": [container("a", **cpu("1", memory="2"))]},
        {"containers": [container("a", **cpu("5", memory="1"))]},
        {"containers": [container("a", **cpu("5", memory="2"))]},
    ),
    (
        "a new order",
        CPU,
        {"containers": [container("b"), container("a", **cpu("1"))]},
        {"containers": [container("a", **cpu("5")), container("b")]},
        {"containers": [container("b"), container("a", **cpu("5"))]},
    ),
    (
        "a container more",
        CPU,
        {"containers": [container("c"), container("a", **cpu("1"))]},
        {"containers": [container("a", **cpu("5"))]},
        {"containers": [container("c"), container("a", **cpu("5"))]},
    ),
    (
        "the container left Git",
        CPU,
        {"containers": [container("b")]},
        {"containers": [container("a", **cpu("5")), container("b")]},
        {"containers": [container("b")]},
    ),
    (
        "Git does not state the field",
        CPU,
        {"containers": [container("a")]},
        {"containers": [container("a", **cpu("5", memory="1"))]},
        {"containers": [container("a", **cpu("5"))]},
    ),
    (
        "Git has another shape",
        CPU,
        {"containers": [container("a", resources=None)]},
        {"containers": [container("a", **cpu("5"))]},
        {"containers": [container("a", resources=None)]},
    ),
    (
        "the cluster has no such field",
        CPU,
        {"containers": [container("a", **cpu("1"))]},
        {"containers": [container("a")]},
        {"containers": [container("a", **cpu("1"))]},
    ),
    (
        "an element that the manager owns itself",
        SIDECAR,
        {"containers": [container("a", "2")]},
        {"containers": [container("s", tty=True), container("a")]},
        {"containers": [container("s"), container("a", "2")]},
    ),
    (
        "an owned element that Git has too",
        SIDECAR,
        {"containers": [container("s", "2", tty=False)]},
        {"containers": [container("s", "1", tty=True)]},
        {"containers": [container("s", "1", tty=False)]},
    ),
    (
        "two keys, one of them a default",
        PORT,
        {
            "ports": [
                {"containerPort": 53, "name": "x"},
                {"containerPort": 53, "protocol": "UDP", "name": "y"},
            ]
        },
        {
            "ports": [
                {"containerPort": 53, "protocol": "TCP", "name": "t"},
                {"containerPort": 53, "protocol": "UDP", "name": "u"},
            ]
        },
        {
            "ports": [
                {"containerPort": 53, "name": "x"},
                {"containerPort": 53, "protocol": "UDP", "name": "u"},
            ]
        },
    ),
    (
        "a key that Git leaves to the default",
        {"f:ports": {key(containerPort=53, protocol="TCP"): {"f:name": {}}}},
        {"ports": [{"containerPort": 53, "name": "x"}]},
        {"ports": [{"containerPort": 53, "protocol": "TCP", "name": "t"}]},
        {"ports": [{"containerPort": 53, "name": "t"}]},
    ),
    (
        "members of a set",
        {"f:groups": {'v:"b"': {}, 'v:"gone"': {}}},
        {"groups": ["c", "a"]},
        {"groups": ["a", "b"]},
        {"groups": ["c", "a", "b"]},
    ),
    (
        "a member that Git has too",
        {"f:groups": {'v:"b"': {}}},
        {"groups": ["b", "a"]},
        {"groups": ["a", "b"]},
        {"groups": ["b", "a"]},
    ),
    (
        "numbers in a set",
        {"f:codes": {"v:2": {}}},
        {"codes": [1]},
        {"codes": [1, 2]},
        {"codes": [1, 2]},
    ),
    (
        "a whole atomic list",
        {"f:args": {}},
        {"args": ["x"], "n": 2},
        {"args": ["y", "z"], "n": 1},
        {"args": ["y", "z"], "n": 2},
    ),
    (
        "a whole atomic map",
        {"f:selector": {}},
        {"selector": {"a": 1}},
        {"selector": {"b": 2}},
        {"selector": {"b": 2}},
    ),
    (
        "a map with its fields",
        {"f:labels": {".": {}, "f:a": {}}},
        {"labels": {"a": 1, "b": 2}},
        {"labels": {"a": 3, "b": 4}},
        {"labels": {"a": 3, "b": 2}},
    ),
    (
        "an empty map is owned, not what Git puts in",
        {"f:resources": {}},
        {"resources": {"cpu": 1}},
        {"resources": {}},
        {"resources": {"cpu": 1}},
    ),
    (
        "an empty list is owned, not what Git puts in",
        {"f:containers": {}},
        {"containers": [container("a")]},
        {"containers": []},
        {"containers": [container("a")]},
    ),
    ("a false value", {"f:paused": {}}, {"paused": True}, {"paused": False}, {"paused": False}),
    ("an empty text", {"f:class": {}}, {"class": "x"}, {"class": ""}, {"class": ""}),
    (
        "lists in lists",
        {"f:containers": {key(name="a"): {"f:env": {key(name="N"): {"f:value": {}}}}}},
        {
            "containers": [
                {"name": "a", "env": [{"name": "M", "value": "1"}, {"name": "N", "value": "1"}]},
                {"name": "b", "env": [{"name": "N", "value": "1"}]},
            ]
        },
        {
            "containers": [
                {"name": "b", "env": [{"name": "N", "value": "9"}]},
                {"name": "a", "env": [{"name": "N", "value": "9"}]},
            ]
        },
        {
            "containers": [
                {"name": "a", "env": [{"name": "M", "value": "1"}, {"name": "N", "value": "9"}]},
                {"name": "b", "env": [{"name": "N", "value": "1"}]},
            ]
        },
    ),
    (
        "odd steps",
        {"f:a": {"i:0": {}, "k:nope": {}, "v:{": {}, "x": {}}, "nope": {}},
        {"a": [1]},
        {"a": [2]},
        {"a": [1]},
    ),
]


@pytest.mark.parametrize(
    ("fields", "desired", "live", "expected"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_only_what_a_manager_owns_is_taken(fields, desired, live, expected):
    current = live_of(live, entry({"f:spec": fields}))

    assert preserve_ignored(thing(desired), current, RULES, None)["spec"] == expected


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            [entry({"f:spec": {"f:a": {}}}), entry({"f:spec": {"f:b": {}}}, "hpa")],
            {"a": 9, "b": 9, "c": 1},
        ),
        ([entry({"f:spec": {"f:a": {}}}, operation="Apply")], {"a": 9, "b": 1, "c": 1}),
        ([entry({"f:spec": {"f:a": {}}}, "hpa", subresource="scale")], {"a": 9, "b": 1, "c": 1}),
        (
            [entry({"f:spec": {"f:a": {}}}), entry({"f:spec": {"f:b": {}}}, operation="Apply")],
            {"a": 9, "b": 9, "c": 1},
        ),
        (
            [
                entry({"f:spec": {"f:a": {}}}, apiVersion="example.com/v1"),
                entry({"f:spec": {"f:b": {}}}, apiVersion="example.com/v1alpha1"),
            ],
            {"a": 9, "b": 1, "c": 1},
        ),
        ([entry({"f:spec": {"f:a": {}}}, "somebody")], {"a": 1, "b": 1, "c": 1}),
        (
            [None, {"manager": "tuner"}, entry("x"), entry({"f:spec": "x"}, 5)],
            {"a": 1, "b": 1, "c": 1},
        ),
    ],
    ids=[
        "several managers",
        "apply",
        "scale",
        "update and apply",
        "another version",
        "another manager",
        "odd entries",
    ],
)
def test_whose_fields_are_taken(entries, expected):
    current = live_of({"a": 9, "b": 9, "c": 9}, *entries)

    assert (
        preserve_ignored(thing({"a": 1, "b": 1, "c": 1}), current, RULES, None)["spec"] == expected
    )


def test_a_map_of_which_others_own_the_fields_is_not_taken_whole():
    mine, others = (
        {"f:spec": {"f:m": {}, "f:l": {}}},
        {"f:spec": {"f:m": {"f:x": {}}, "f:l": {key(name="a"): {"f:v": {}}}}},
    )
    live = live_of({"m": {"x": 9}, "l": [{"name": "a", "v": 9}]}, entry(mine), entry(others, "git"))
    desired = thing({"m": {"x": 1}, "l": [{"name": "a", "v": 1}, {"name": "b", "v": 1}]})

    assert manager_fields(live, ["tuner"]) == {"f:spec": {"f:m": {".": {}}, "f:l": {".": {}}}}
    assert take_fields(desired, live, manager_fields(live, ["tuner"])) == desired


@pytest.mark.parametrize(
    ("spec", "modified"),
    [
        ({"containers": [container("a", **cpu("1")), container("b")]}, False),
        ({"containers": [container("a", **cpu("1")), container("b", "2")]}, True),
        (
            {
                "containers": [
                    container("a", env=[{"name": "N", "value": "1"}], **cpu("1")),
                    container("b"),
                ]
            },
            True,
        ),
        ({"containers": [container("a", "2", **cpu("1")), container("b")]}, True),
    ],
    ids=["the request alone", "the other container's image", "a new variable", "its image"],
)
def test_only_what_a_manager_owns_is_ignored(spec, modified):
    body = {"containers": [container("a", **cpu("5")), container("b")]}

    def pods(spec):
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "d"},
            "spec": {"template": {"spec": spec}},
        }

    live = pods(body)
    live["metadata"] = {
        "name": "d",
        "managedFields": [entry({"f:spec": {"f:template": {"f:spec": CPU}}}, apiVersion="apps/v1")],
    }

    assert compare(pods(spec), live, CompareSettings(rules=RULES), None).modified is modified
