"""Make values schemas self-contained, so that validation opens no files or URLs.

Helm's validator opens the targets of `$ref` and `$schema`, including local files, and quotes them
in errors.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urldefrag, urljoin

import orjson

from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import MAX_DEPTH
from projects.sources.remote_urls import is_page

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DRAFT = re.compile(
    r"https?://json-schema\.org/(?:schema|draft-0[467]/schema|draft/20(?:19-09|20-12)/schema)#?"
)
_PLACE = "definitions"
_MAX_SCHEMAS = 30
_MAX_BYTES = 4 * 1024**2
_MAX_VALUES = 500_000
"""The limit on values in all schemas of a chart, since each costs time here and in validation."""


class SchemaBudget:
    """The remaining budget of values for the schemas of a chart and its dependencies."""

    def __init__(self) -> None:
        """Start with the full limit."""
        self._left = _MAX_VALUES

    def spend(self, data: bytes, path: str) -> None:
        """Count the values of a schema, estimated from the characters that can precede a value.

        Raises: ManifestError.
        """
        self._left -= data.count(b",") + data.count(b"[") + data.count(b"{")
        if self._left < 0:
            raise ManifestError(
                f"{path}: the schemas of the chart have more than {_MAX_VALUES:,} values"
            )


def inline_references(
    data: bytes, path: str, page: Callable[[str], bytes], room: SchemaBudget
) -> bytes:
    """Inline the remote schemas that a schema refers to; `page` fetches one.

    Raises: ManifestError naming an unsupported reference; what `page` raises.
    """
    schema = _Schema(path)
    document = schema.rewritten(_parsed(data, path, room), "", "#")
    found: dict[str, Any] = {}
    while schema.todo:
        url, name = schema.todo.popitem()
        found[name] = schema.rewritten(_parsed(page(url), url, room), url, f"#/{_PLACE}/{name}")
    if found and isinstance(document, dict):
        own = document.get(_PLACE)
        document[_PLACE] = {**(own if isinstance(own, dict) else {}), **found}
    return orjson.dumps(document)


def _parsed(data: bytes, path: str, room: SchemaBudget) -> Any:
    if len(data) > _MAX_BYTES:
        raise ManifestError(f"{path}: a schema is larger than {_MAX_BYTES // 1024**2} MiB")
    room.spend(data, path)
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"{path} is not valid JSON") from error


class _Schema:
    def __init__(self, path: str) -> None:
        self._path = path
        self._names: dict[str, str] = {}
        self.todo: dict[str, str] = {}

    def rewritten(self, node: Any, url: str, place: str, depth: int = 0) -> Any:
        """Rewrite the references of a schema (from `url`, or the chart's own) for its new place."""
        if depth > MAX_DEPTH:
            raise ManifestError(f"{self._path} is nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, list):
            return [self.rewritten(entry, url, place, depth + 1) for entry in node]
        if not isinstance(node, dict):
            return node
        result = {k: self.rewritten(v, url, place, depth + 1) for k, v in node.items()}
        for field in _REFERENCES:
            if isinstance(node.get(field), str):
                result[field] = self._reference(field, node[field], url, place)
        return self._without_base(result, url)

    def _reference(self, field: str, text: str, url: str, place: str) -> str:
        if _DRAFT.fullmatch(text):
            return text
        target, fragment = urldefrag(urljoin(url, text) if url else text)
        if not text.startswith("#") and not is_page(target):
            raise ManifestError(
                f"{self._path}: {field}: {text[:200]} is not in the schema itself; "
                f"copy it into its "
                f"{_PLACE}, or set helm.skipSchemaValidation"
            )
        root = place if text.startswith("#") or target == url else self._root(target)
        if root == "#":
            return f"#{fragment}"
        if fragment and not fragment.startswith("/"):
            raise ManifestError(f"{self._path}: {field}: {text[:200]} is not a path in its schema")
        return root + fragment

    def _root(self, url: str) -> str:
        if url not in self._names:
            if len(self._names) >= _MAX_SCHEMAS:
                raise ManifestError(
                    f"{self._path} refers to more than {_MAX_SCHEMAS} other schemas"
                )
            self._names[url] = self.todo[url] = f"hub-{len(self._names)}"
        return f"#/{_PLACE}/{self._names[url]}"

    def _without_base(self, node: dict[str, Any], url: str) -> dict[str, Any]:
        draft = node.get("$schema")
        if isinstance(draft, str) and not _DRAFT.fullmatch(draft):
            raise ManifestError(
                f"{self._path}: $schema: {draft[:200]} is not a published draft of JSON Schema"
            )
        for field in ("$id", "id"):
            name = node.get(field)
            if isinstance(name, str) and name.lower().startswith("file:"):
                raise ManifestError(f"{self._path}: {field}: {name[:200]} refers to a local file")
        # The base URI of an inlined schema would change the meaning of its references.
        dropped = {f for f in ("$id", "id", "$schema") if url and isinstance(node.get(f), str)}
        return {k: v for k, v in node.items() if k not in dropped}
