"""What is read of a cluster's OpenAPI: types, lists, defaults; and what a server may send that is
none.
"""

import pytest
from support.openapi import DOCUMENT, QUANTITY, REF, SCHEMAS, TEXT, array, ref, resource, struct

from hub.engine.schema import (
    ABSENT,
    OBJECT,
    UNTYPED,
    is_small_document,
    small_document,
    type_of,
)


def document(**schemas):
    return {"components": {"schemas": schemas}}


def kind(**spec):
    return document(K=resource("g", "v1", "K", spec=struct(**spec)))


def spec_of(source, name="a"):
    found = type_of(small_document(source), "g", "v1", "K")
    return found.field("spec").field(name)


@pytest.mark.parametrize(
    ("schema", "shape"),
    [
        (TEXT, "string"),
        ({"type": "integer", "format": "int64"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "string", "format": "byte"}, "byte"),
        ({"type": "string", "format": "date-time"}, "string"),
        (QUANTITY, "quantity"),
        (ref("io.k8s.apimachinery.pkg.util.intstr.IntOrString"), "int-or-string"),
        ({"x-kubernetes-int-or-string": True}, "int-or-string"),
        ({"format": "int-or-string", "oneOf": []}, "int-or-string"),
        ({}, "any"),
        ({"type": ["string"]}, "any"),
        ({"type": "nonsense"}, "any"),
        ("no schema", "any"),
        ({"$ref": "elsewhere"}, "any"),
        ({"$ref": REF + "Missing"}, "any"),
        ({"allOf": [3]}, "any"),
        ({"type": "object"}, "map"),
        ({"additionalProperties": TEXT}, "map"),
        (array(TEXT), "list"),
    ],
)
def test_shapes(schema, shape):
    assert spec_of(kind(a=schema)).shape == shape


@pytest.mark.parametrize(
    ("schema", "keys", "is_set"),
    [
        (array(TEXT), (), False),
        (array(TEXT, "set"), (), True),
        (array(struct(x=TEXT), "map", ["x"]), ("x",), False),
        (array(struct(x=TEXT), "map", []), (), False),
        (array(struct(x=TEXT), "map", [1]), (), False),
        (
            {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": "x"},
            (),
            False,
        ),
        (array(TEXT, "new kind"), (), False),
        ({**array(TEXT, None), "x-kubernetes-patch-strategy": 5}, (), False),
        (
            {
                **array(TEXT, None),
                "x-kubernetes-patch-strategy": "merge,retainKeys",
                "x-kubernetes-patch-merge-key": "x",
            },
            ("x",),
            False,
        ),
        (
            {
                **array(TEXT),
                "x-kubernetes-patch-strategy": "merge",
                "x-kubernetes-patch-merge-key": "x",
            },
            (),
            False,
        ),
    ],
)
def test_lists(schema, keys, is_set):
    found = spec_of(kind(a=schema))
    assert (found.keys, found.is_set) == (keys, is_set)


def test_maps():
    atomic = {**struct(x=TEXT), "x-kubernetes-map-type": "atomic"}
    source = kind(
        a=atomic,
        b=ref("Atomic"),
        c={**ref("Plain", default={}), "x-kubernetes-map-type": "atomic"},
        d=struct(x=TEXT),
    )
    source["components"]["schemas"] |= {"Atomic": atomic, "Plain": struct(x=TEXT)}

    assert [spec_of(source, name).is_atomic for name in "abcd"] == [True, True, True, False]
    assert spec_of(source, "c").default == {}
    assert spec_of(source, "d").field("unknown") is UNTYPED
    assert spec_of(kind(a={"type": "object", "x-kubernetes-embedded-resource": True})).is_open
    assert not spec_of(source, "d").is_open


def test_defaults():
    found = type_of(DOCUMENT, "example.com", "v1", "Widget").field("spec")

    assert found.field("size").is_default(3)
    assert not found.field("size").is_default(True)
    assert not found.field("on").is_default(False)
    assert found.field("on").default is ABSENT
    mode = found.field("refs").element.field("mode")
    assert mode.is_default({"kind": "plain", "level": 7})
    assert mode.is_default({"kind": "plain"})
    assert not mode.is_default({"level": 7})
    assert found.field("parts").key_of({"id": ["a"]}) == ("['a']", "home")


@pytest.mark.parametrize(
    "source",
    [
        None,
        [],
        {},
        {"components": 3},
        {"components": {"schemas": []}},
    ],
)
def test_what_is_no_document(source):
    assert small_document(source) is None
    assert type_of(small_document(source), "g", "v1", "K") is None


def _deep(levels):
    schema = TEXT
    for _ in range(levels):
        schema = struct(a=schema)
    return schema


@pytest.mark.parametrize(
    "source",
    [
        kind(a=_deep(100)),
        kind(**{f"f{n}": TEXT for n in range(200_001)}),
        kind(a=ref("x" * 600)),
    ],
    ids=["deep", "many", "a long name"],
)
def test_too_much_is_no_schema(source):
    assert small_document(source) is None


def test_malformed_parts_are_left_out():
    odd = resource("g", "v1", "Odd", spec=TEXT)
    source = document(
        K=resource("g", "v1", "K", spec=struct(a=TEXT)),
        A=3,
        B={"properties": 4},
        C={**odd, "x-kubernetes-group-version-kind": 5},
        D={**odd, "x-kubernetes-group-version-kind": [3, {"group": 1}, {}]},
        E=struct(x=TEXT),
        F=resource("g", "v1", "Bare"),
    )

    assert spec_of(source).shape == "string"
    assert type_of(small_document(source), "g", "v1", "Odd") is None
    assert type_of(small_document(source), "g", "v1", "Bare") is None


def test_types_that_name_themselves_in_circles():
    source = document(K=resource("g", "v1", "K", spec=ref("A")), A=ref("B"), B=ref("A"))
    found = type_of(small_document(source), "g", "v1", "K")

    assert found.field("spec").shape == "any"
    props = type_of(DOCUMENT, "apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    inner = props.field("spec").field("versions").element.field("schema")
    for _ in range(100):
        inner = inner.field("properties").element
    assert inner.field("minimum").shape == "number"


def test_what_was_kept_is_looked_at():
    assert is_small_document(DOCUMENT)
    assert not is_small_document({"types": []})
    assert not is_small_document(SCHEMAS)
    assert OBJECT.field("metadata").field("ownerReferences").keys == ("uid",)
