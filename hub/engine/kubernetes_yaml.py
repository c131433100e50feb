"""Parse YAML and JSON documents as Kubernetes does, with limits."""

import itertools
import json
import math
import re
from collections.abc import Iterable
from typing import Any

import yaml

from hub.engine.errors import ManifestError

MAX_DEPTH = 100
MAX_NODES = 2_000_000
MAX_VALUES = 1_000_000
"""The limit of values, including keys, in the texts of one render."""
MAX_ALIASED = 16 * 1024**2
"""The limit of characters that aliases in the texts of one render expand to."""
_FEW_VALUES = 20_000
ALIAS_GROWTH = 20
# YAML has more line breaks than the line feed.
_SIGNS = ("\n", "\r", "\x85", "\u2028", "\u2029", ",", ":", "[", "{", "- ", "? ")

_BOOL = {
    **dict.fromkeys(
        ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True
    ),
    **dict.fromkeys(
        ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False
    ),
}
_MAX_DIGITS = 300  # a float holds no more
_INT = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$")
_FLOAT = re.compile(
    r"^[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
)


class K8sLoader(yaml.CSafeLoader):
    """PyYAML's C loader with the type resolution of Kubernetes' YAML library.

    Whole numbers beyond 64 bits become floats.
    Source: sigs.k8s.io/yaml, observed: `y` is a boolean, dates and sexagesimals stay text,
    `0o14` is an integer, keys become text, whole floats become integers.
    """


K8sLoader.yaml_implicit_resolvers = {}
K8sLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(
        r"^(?:y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"
    ),
    list("yYnNtTfFoO"),
)
K8sLoader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
K8sLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
K8sLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
K8sLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _construct_bool(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> bool:
    return _BOOL[str(loader.construct_scalar(node))]


def _construct_int(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> int | float:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if len(text) > _MAX_DIGITS:
        raise ManifestError(f"line {node.start_mark.line + 1}: the number {text[:20]}… is too long")
    value = _int_of(text)
    return value if -(2**63) <= value < 2**64 else float(value)


def _int_of(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    if digits.startswith(("0b", "0x", "0o")):
        return sign * int(digits, 0)
    if len(digits) > 1 and digits.startswith("0"):
        return sign * int(digits, 10 if set(digits) & set("89") else 8)
    return sign * int(digits)


def _construct_float(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> float | int | str:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    if text.lstrip("+-") in {".inf", ".nan"}:
        raise ManifestError(f"{text} is not a valid JSON number")
    value = float(text)
    if value in (math.inf, -math.inf):
        # As go-yaml: a number that no float holds, such as the commit 12e4567, is text.
        return str(loader.construct_scalar(node))
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def _construct_map(loader: yaml.CSafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key is None or isinstance(key, dict | list):
            raise ManifestError(f"line {key_node.start_mark.line + 1}: a key must be text")
        result[_key_text(key)] = loader.construct_object(value_node, deep=True)
    return result


def _key_text(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _construct_text(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _construct_bytes(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> str:
    return bytes(loader.construct_yaml_binary(node)).decode()


def _refuse(_loader: yaml.CSafeLoader, node: yaml.Node) -> None:
    raise ManifestError(f"line {node.start_mark.line + 1}: JSON cannot represent {node.tag}")


K8sLoader.add_constructor("tag:yaml.org,2002:timestamp", _construct_text)
K8sLoader.add_constructor("tag:yaml.org,2002:binary", _construct_bytes)
for _tag in ("set", "omap", "pairs"):
    K8sLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refuse)
K8sLoader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
K8sLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
K8sLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)
K8sLoader.add_constructor("tag:yaml.org,2002:map", _construct_map)


class TooMany(ManifestError):
    """The texts of one render exceed a limit."""


def parse_yaml(text: str, volume: "Volume | None" = None) -> list[Any]:
    """Return the documents of a YAML text, without the empty ones.

    Shapes: `volume` counts all texts of one render.
    Raises: ManifestError with the line for a syntax error, unknown tags, aliases that expand to
        much more than the text, nesting deeper than 100 levels, or more than a million values.
    """
    documents = []
    volume = volume or Volume()
    volume.add(text)
    loader = _loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if "*" in text and "&" in text:
                volume.add_aliased(*_aliased(node))
            document = loader.construct_document(node)
            _check_levels(document)
            if document is not None:
                documents.append(document)
    except yaml.YAMLError as error:
        raise ManifestError(_yaml_message(error)) from error
    except (ValueError, KeyError) as error:
        # A tag that does not fit its value, such as `!!int x`.
        raise ManifestError("a value does not have the type of its tag") from error
    except RecursionError as error:
        raise ManifestError("the document contains itself or is nested too deeply") from error
    finally:
        loader.dispose()
    return documents


class Volume:
    """Counts the values of several texts."""

    def __init__(self, maximum: int = MAX_VALUES) -> None:
        """Start counting, up to `maximum`."""
        self._maximum, self._values, self._aliased = maximum, 0, 0

    def add(self, text: str) -> None:
        """Count the values of a text.

        Raises: TooMany.
        """
        self._add(_count_values(text, self._maximum))

    def add_aliased(self, values: int, characters: int) -> None:
        """Count what the aliases of a document expand to.

        Raises: TooMany.
        """
        self._add(values)
        self._aliased += characters
        if self._aliased > MAX_ALIASED:
            raise TooMany(
                f"aliases expand to more than {MAX_ALIASED // 1024**2} MiB of text: use fewer"
            )

    def _add(self, values: int) -> None:
        self._values += values
        if self._values > self._maximum:
            raise TooMany(
                f"the manifests have more than {self._maximum:,} values: "
                "split them into several applications"
            )


def _count_values(text: str, maximum: int) -> int:
    """Return an estimate of a text's values, exact if it may be large."""
    # Each value follows one of these signs, so their number is an upper bound.
    estimate = sum(text.count(sign) for sign in _SIGNS)
    if estimate <= _FEW_VALUES:
        return estimate
    found = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            found += isinstance(event, yaml.NodeEvent)
            if found > maximum:
                break
    except yaml.YAMLError:
        # The caller reports the error, if it is one: YAML does not accept all JSON.
        return estimate
    return found


def _loader(text: str) -> Any:
    _check_depth(text)
    try:
        return K8sLoader(text)
    except yaml.YAMLError as error:
        raise ManifestError(_yaml_message(error)) from error


def _check_depth(text: str) -> None:
    # libyaml recurses in C: a long run of "[" would crash the process instead of raising.
    if text.count("[") + text.count("{") + text.count("- -") < MAX_DEPTH:
        return
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise ManifestError(
                        f"line {_line(event.start_mark)}: nested deeper than {MAX_DEPTH} levels"
                    )
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError as error:
        raise ManifestError(_yaml_message(error)) from error


def _line(mark: Any) -> int:
    return int(mark.line) + 1 if mark else 0


def _yaml_message(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _aliased(node: yaml.Node) -> tuple[int, int]:
    """Return the number of values and characters that aliases add to a document.

    Raises: ManifestError if they expand too much or form a cycle.
    """
    sizes: dict[int, tuple[int, int]] = {}
    values, characters = _expanded_size(node, sizes, set())
    if values > ALIAS_GROWTH * len(sizes) + 10_000 or values > MAX_NODES:
        raise ManifestError("aliases expand the document beyond its limit")
    written = sum(size for own, size in sizes.values() if own == 1)
    return values - len(sizes), max(0, characters - written)


def _expanded_size(
    node: yaml.Node, sizes: dict[int, tuple[int, int]], path: set[int]
) -> tuple[int, int]:
    if id(node) in path:
        raise ManifestError("an alias refers to a document that contains it")
    if id(node) in sizes:
        return sizes[id(node)]
    path.add(id(node))
    values, characters = 1, len(node.value) if isinstance(node, yaml.ScalarNode) else 0
    for child in _children(node):
        inner = _expanded_size(child, sizes, path)
        values, characters = values + inner[0], characters + inner[1]
    path.discard(id(node))
    sizes[id(node)] = values, characters
    return values, characters


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return itertools.chain.from_iterable(node.value)
    return ()


def parse_json(text: str) -> Any:
    """Parse a JSON text.

    Raises: ManifestError with line and column; also for nesting deeper than 100 levels and for
        half of a surrogate pair.
    """
    try:
        value = json.loads(text, parse_int=_json_int)
    except json.JSONDecodeError as error:
        raise ManifestError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ManifestError(f"nested deeper than {MAX_DEPTH} levels") from error
    except (ValueError, OverflowError) as error:
        raise ManifestError("a number is too long") from error
    _check_levels(value)
    if "\\ud" in text.lower():
        _check_characters(value)
    return value


def _json_int(text: str) -> int | float:
    value = int(text)
    return value if -(2**63) <= value < 2**64 else float(value)


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ManifestError("the text has half of a surrogate pair") from error


def _check_levels(value: Any) -> None:
    layer, depth = [value], 0
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ManifestError(f"nested deeper than {MAX_DEPTH} levels")
        layer = [
            child for one in layer for child in (one.values() if isinstance(one, dict) else one)
        ]
