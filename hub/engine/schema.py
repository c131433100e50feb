"""Types from a cluster's OpenAPI v3 schema: lists with keys, atomic maps, defaults.

A document is first reduced to what comparisons need, since the originals are megabytes. Types are
then built one by one on demand, since they may be recursive.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from hub.engine.quantity import same_quantity

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "absent", "__slots__": ()})()
"""Represents a missing field, as opposed to null."""

MAP, LIST, ANY = "map", "list", "any"
QUANTITY, INT_OR_STRING, BYTES = "quantity", "int-or-string", "byte"
TEXT, WHOLE, NUMBER, TRUTH = "string", "integer", "number", "boolean"

Small = dict[str, Any] | str
"""A type in the reduced form: a word, `#` and the name of another type, or an object.

Shapes: `{t, f: fields, v: values or elements, k: keys, s: is a set, a: is atomic, p: preserves
unknown fields, n: is nullable, d: default}`.
"""
_FORM = 2
"""Of the reduced form: a stored document of another form is reduced anew."""

_MAX_NODES = 200_000
_DEEPEST = 80
_MAX_KEYS = 16
_LONGEST_NAME = 512
_QUANTITY_NAME = ".api.resource.Quantity"
_INT_OR_STRING_NAME = ".util.intstr.IntOrString"
_PREFIX = "#/components/schemas/"
_WORDS = {"string": TEXT, "integer": WHOLE, "number": NUMBER, "boolean": TRUTH}


class _UnsupportedSchema(Exception):
    """The document has a form that API servers do not generate."""


def small_document(document: Any) -> dict[str, Any] | None:
    """Reduce the OpenAPI v3 document of a group and version; return None if it is invalid.

    Shapes: `{"types": {name: Small}, "kinds": {"group/version/Kind": name}, "form": number}`.
    Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3, and the
        `x-kubernetes-*` extensions of
        https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
    """
    components = document.get("components") if isinstance(document, dict) else None
    schemas = components.get("schemas") if isinstance(components, dict) else None
    if not isinstance(schemas, dict):
        return None
    kinds = dict(_kinds(schemas))
    try:
        types = _Reduction(schemas).all_of(kinds.values())
    except _UnsupportedSchema:
        return None
    return {"types": types, "kinds": kinds, "form": _FORM}


def _kinds(schemas: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, schema in schemas.items():
        if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
            continue
        marks = schema.get("x-kubernetes-group-version-kind")
        if not isinstance(marks, list) or "metadata" not in schema["properties"]:
            continue
        for mark in marks:
            words = (
                [mark.get(w) for w in ("group", "version", "kind")]
                if isinstance(mark, dict)
                else []
            )
            texts = [word for word in words if isinstance(word, str)]
            if len(texts) == 3:
                yield "/".join(texts), str(name)


class _Reduction:
    """Reduces the types of a document, starting from its kinds."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas, self._types = schemas, dict[str, Small]()
        self._waiting: list[str] = []
        self._nodes = 0

    def all_of(self, names: Any) -> dict[str, Small]:
        """Return the types with these names and all types that they reference."""
        self._waiting = sorted(set(names))
        while self._waiting:
            name = self._waiting.pop()
            if name not in self._types:
                self._types[name] = ANY
                self._types[name] = self._type(self._schemas.get(name), _DEEPEST)
        return self._types

    def _type(self, schema: Any, depth: int) -> Small:
        self._nodes += 1
        if depth == 0 or self._nodes > _MAX_NODES:
            raise _UnsupportedSchema
        if not isinstance(schema, dict):
            return ANY
        named = self._named(schema)
        found = self._shaped(schema, depth) if named is None else named
        if schema.get("nullable") is True:
            found = {**(found if isinstance(found, dict) else {"t": found}), "n": 1}
        return _with_default(found, schema)

    def _named(self, schema: dict[str, Any]) -> Small | None:
        reference = schema.get("$ref")
        several = schema.get("allOf")
        if reference is None and isinstance(several, list) and len(several) == 1:
            reference = several[0].get("$ref") if isinstance(several[0], dict) else None
        if not isinstance(reference, str) or not reference.startswith(_PREFIX):
            return None
        name = reference[len(_PREFIX) :].replace("~1", "/").replace("~0", "~")
        if len(name) > _LONGEST_NAME:
            raise _UnsupportedSchema
        if name.endswith(_QUANTITY_NAME):
            return QUANTITY
        if name.endswith(_INT_OR_STRING_NAME):
            return INT_OR_STRING
        self._waiting.append(name)
        # A reference may declare the map as atomic.
        return {"t": f"#{name}", "a": 1} if _is_atomic_map(schema) else f"#{name}"

    def _shaped(self, schema: dict[str, Any], depth: int) -> Small:
        kind = schema.get("type")
        if (
            schema.get("x-kubernetes-int-or-string") is True
            or schema.get("format") == INT_OR_STRING
        ):
            return INT_OR_STRING
        if kind == "array":
            return self._list(schema, depth)
        if kind == "object" or "properties" in schema or "additionalProperties" in schema:
            return self._map(schema, depth)
        if kind == "string" and schema.get("format") == BYTES:
            return BYTES
        return _WORDS.get(kind, ANY) if isinstance(kind, str) else ANY

    def _list(self, schema: dict[str, Any], depth: int) -> Small:
        found: dict[str, Any] = {"t": LIST, "v": self._type(schema.get("items"), depth - 1)}
        keys = schema.get("x-kubernetes-list-map-keys")
        match schema.get("x-kubernetes-list-type"):
            case "map" if isinstance(keys, list) and _are_keys(keys):
                found["k"] = list(keys)
            case "set":
                found["s"] = 1
            case None:
                found |= _older(schema)
        return found

    def _map(self, schema: dict[str, Any], depth: int) -> Small:
        fields, values = schema.get("properties"), schema.get("additionalProperties")
        found: dict[str, Any] = {"t": MAP}
        if isinstance(fields, dict) and fields:
            found["f"] = {str(n): self._type(s, depth - 1) for n, s in fields.items()}
        if isinstance(values, dict):
            found["v"] = self._type(values, depth - 1)
        if _is_atomic_map(schema):
            found["a"] = 1
        if schema.get("x-kubernetes-preserve-unknown-fields") is True or len(found) == 1:
            found["p"] = 1
        if schema.get("x-kubernetes-embedded-resource") is True:
            found["p"] = 1
        return found


def _is_atomic_map(schema: dict[str, Any]) -> bool:
    return bool(schema.get("x-kubernetes-map-type") == "atomic")


def _are_keys(keys: list[Any]) -> bool:
    return 0 < len(keys) <= _MAX_KEYS and all(isinstance(k, str) for k in keys)


def _older(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the list type from the patch strategy that older servers publish instead."""
    strategy, key = (
        schema.get("x-kubernetes-patch-strategy"),
        schema.get("x-kubernetes-patch-merge-key"),
    )
    if not isinstance(strategy, str) or "merge" not in strategy.split(","):
        return {}
    return {"k": [key]} if isinstance(key, str) and key else {"s": 1}


def _with_default(found: Small, schema: dict[str, Any]) -> Small:
    default = schema.get("default", ABSENT)
    if default is ABSENT:
        return found
    return {**found, "d": default} if isinstance(found, dict) else {"t": found, "d": default}


class Type:
    """The type of a value in a manifest."""

    __slots__ = (
        "_document",
        "_fields",
        "_known",
        "_values",
        "_words",
        "default",
        "is_atomic",
        "is_nullable",
        "is_open",
        "is_set",
        "keys",
        "shape",
    )

    def __init__(self, small: Small, document: Mapping[str, Small]) -> None:
        """Build a type from its reduced form and the types of its document."""
        words: dict[str, Any] = small if isinstance(small, dict) else {"t": small}
        self.default: Any = words.get("d", ABSENT)
        """The server's default for an omitted field, `ABSENT` if the schema has none."""
        atomic, word = bool(words.get("a")), words.get("t", ANY)
        for _ in range(8):
            if not word.startswith("#"):
                break
            named = document.get(word[1:], ANY)
            words = named if isinstance(named, dict) else {"t": named}
            atomic, word = atomic or bool(words.get("a")), words.get("t", ANY)
        self.shape: str = word if not word.startswith("#") else ANY
        """`map`, `list`, `any`, or the word for a scalar."""
        self.is_atomic: bool = atomic
        """Whether a map is replaced as a whole."""
        self.is_nullable: bool = isinstance(small, dict) and bool(small.get("n"))
        """Whether null is a value of its own, as the schema of a custom kind may say."""
        self.is_set: bool = bool(words.get("s"))
        """Whether a list is merged as a set of values."""
        self.keys: tuple[str, ...] = tuple(words.get("k", ()))
        """The fields that identify list elements, empty for a set or an atomic list."""
        self.is_open: bool = self.shape == ANY or bool(words.get("p"))
        """Whether unknown fields are preserved."""
        self._document, self._words = document, words
        self._fields: Mapping[str, Small] = words.get("f") or {}
        self._known: dict[str, Type] = {}
        self._values: Type | None = None

    @property
    def is_keyed_by_author(self) -> bool:
        """Whether it is a map without fixed fields, such as labels."""
        return self.shape == MAP and not self._fields and "v" in self._words

    @property
    def element(self) -> "Type":
        """The type of a list's elements, or of the values of a map without fixed fields."""
        if self._values is None:
            small = self._words.get("v")
            self._values = UNTYPED if small is None else Type(small, self._document)
        return self._values

    def field(self, name: str) -> "Type":
        """Return the type of a field of a map, `UNTYPED` if the schema does not define it."""
        found = self._known.get(name)
        if found is None:
            small = self._fields.get(name)
            if small is None:
                return self.element
            found = self._known[name] = Type(small, self._document)
        return found

    def has_field(self, name: str) -> bool:
        """Return whether the schema defines a field of a map, or what its values are."""
        return name in self._fields or "v" in self._words

    def is_key(self, name: str) -> bool:
        """Return whether a name is a key that the author chose, as of a label, and not a field.

        Servers add no keys. A default of map values, as some documents have it, is for null.
        """
        return self.shape == MAP and name not in self._fields and "v" in self._words

    def key_of(self, element: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values that identify a list element, with defaults filled in."""
        found = []
        for key in self.keys:
            value = element.get(key)
            if value is None:
                default = self.element.field(key).default
                value = None if default is ABSENT else default
            found.append(_hashable(value))
        return tuple(found)

    def is_default(self, value: Any) -> bool:
        """Return whether a value equals the server's default."""
        if self.default is ABSENT:
            return False
        if isinstance(value, dict) and isinstance(self.default, dict):
            return self.default.keys() <= value.keys() and all(
                (name in self.default and self.field(name).same(self.default[name], inner))
                or (not self.is_key(name) and self.field(name).is_default(inner))
                for name, inner in value.items()
            )
        return self.same(self.default, value)

    def same(self, wanted: Any, live: Any) -> bool:
        """Return whether two values are equal to the server, such as quantities or base64."""
        if wanted == live:
            return isinstance(wanted, bool) == isinstance(live, bool)
        if self.shape == QUANTITY:
            return same_quantity(wanted, live)
        return self.shape == BYTES and _same_bytes(wanted, live)


def _hashable(value: Any) -> Any:
    # No schema allows an object as a key, but a manifest may have one.
    return repr(value) if isinstance(value, dict | list) else value


def _same_bytes(one: Any, other: Any) -> bool:
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    try:
        return base64.b64decode(one) == base64.b64decode(other)
    except (binascii.Error, ValueError):
        return False


def type_of(document: Mapping[str, Any] | None, group: str, version: str, kind: str) -> Type | None:
    """Return the type of a kind from a reduced document, None if it is not defined there."""
    if document is None:
        return None
    name = document["kinds"].get(f"{group}/{version}/{kind}")
    small = document["types"].get(name) if name else None
    # A CustomResourceDefinition without a schema defines no fields, which is useless here.
    if not isinstance(small, dict) or not small.get("f", {}).keys() - {
        "apiVersion",
        "kind",
        "metadata",
    }:
        return None
    return Type(small, document["types"])


def is_small_document(value: Any) -> bool:
    """Return whether a stored value is a reduced document."""
    return (
        isinstance(value, dict)
        and value.get("form") == _FORM
        and all(isinstance(value.get(f), dict) for f in ("types", "kinds"))
    )


UNTYPED = Type(ANY, {})
"""The type of unknown values: maps are merged by field, lists are atomic."""

_OWNER: Small = {"t": LIST, "v": ANY, "k": ["uid"]}
_OBJECT: dict[str, Small] = {
    "object": {"t": MAP, "p": 1, "f": {"metadata": "#metadata"}},
    "metadata": {
        "t": MAP,
        "p": 1,
        "f": {"finalizers": {"t": LIST, "v": TEXT, "s": 1}, "ownerReferences": _OWNER},
    },
}
OBJECT = Type("#object", _OBJECT)
"""The type of resources of unknown kinds: only metadata is defined."""
