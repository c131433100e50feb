"""Parse YAML from pages, and serialize JSON for responses."""

import json
from typing import Any

import orjson

from hub.engine.errors import Invalid, ManifestError
from hub.engine.kubernetes_yaml import parse_yaml


def load_yaml(text: str, field: str) -> Any:
    """Return the one document of a text.

    Raises: Invalid naming the field.
    """
    try:
        documents = parse_yaml(text)
    except ManifestError as error:
        raise Invalid(f"{field}: {error}") from error
    if len(documents) != 1:
        raise Invalid(f"{field} must be one YAML document")
    return documents[0]


def to_json(value: Any) -> bytes:
    """Return a value as JSON, including integers beyond 64 bits.

    PostgreSQL returns large floats as such integers.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_UTC_Z, default=str)
    except TypeError:
        return json.dumps(value, default=str, ensure_ascii=False).encode()
