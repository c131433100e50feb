"""Schemas of values: nothing in one may name a file of this machine or a page of a server.

Helm's validator opens what `$ref` and `$schema` name, `file:` too, and quotes it in its errors.
"""

import re
from typing import Any

import orjson

from hub.engine.errors import ManifestError

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DRAFT = re.compile(
    r"https?://json-schema\.org/(?:schema|draft-0[467]/schema|draft/20(?:19-09|20-12)/schema)#?"
)


def closed(data: bytes, path: str) -> bytes:
    """Return a schema as it was read here, when all that it refers to is in it.

    Raises: ManifestError naming the reference that leads out.
    """
    try:
        document = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"{path} is not valid JSON") from error
    _check(document, path)
    return orjson.dumps(document)


def _check(node: Any, path: str) -> None:
    todo = [node]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            _check_object(value, path)
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def _check_object(value: dict[str, Any], path: str) -> None:
    for field in _REFERENCES:
        target = value.get(field)
        if isinstance(target, str) and not target.startswith("#") and not _DRAFT.fullmatch(target):
            raise ManifestError(
                f"{path}: {field}: {target[:200]} is not in the schema itself; copy it into its "
                "$defs, or set helm.skipSchemaValidation"
            )
    draft = value.get("$schema")
    if isinstance(draft, str) and not _DRAFT.fullmatch(draft):
        raise ManifestError(f"{path}: $schema: {draft[:200]} is no published draft of JSON Schema")
    for field in ("$id", "id"):
        name = value.get(field)
        if isinstance(name, str) and name.lower().startswith("file:"):
            raise ManifestError(f"{path}: {field}: {name[:200]} names a file of this machine")
