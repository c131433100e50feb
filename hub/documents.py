"""YAML that people type into pages."""

from typing import Any

from hub.engine.documents import parse_yaml
from hub.engine.errors import Invalid, ManifestError


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
