"""The functions of sprig for JSON, base64, base32 and checksums."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

from appsets.template.functions.values import as_text, plain_value
from appsets.template.syntax import TemplateError


def _json(value: Any, **options: Any) -> str:
    return json.dumps(
        plain_value(value), separators=(",", ":"), ensure_ascii=False, sort_keys=True, **options
    )


def _from_json(text: Any) -> Any:
    try:
        return json.loads(as_text(text))
    except ValueError as error:
        raise TemplateError(str(error)) from error


def _b32(text: Any) -> str:
    return base64.b32encode(as_text(text).encode()).decode()


def _decoded(function: Callable[[bytes], bytes], text: Any) -> str:
    try:
        return function(as_text(text).encode()).decode(errors="replace")
    except ValueError as error:
        return str(error)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "toJson": _json,
    "mustToJson": _json,
    "toRawJson": _json,
    "toPrettyJson": lambda v: json.dumps(
        plain_value(v), indent=2, sort_keys=True, ensure_ascii=False
    ),
    "fromJson": _from_json,
    "mustFromJson": _from_json,
    "b64enc": lambda s: base64.b64encode(as_text(s).encode()).decode(),
    "b64dec": lambda s: _decoded(base64.b64decode, s),
    "b32enc": _b32,
    "b32dec": lambda s: _decoded(base64.b32decode, s),
    "sha1sum": lambda s: hashlib.sha1(as_text(s).encode(), usedforsecurity=False).hexdigest(),
    "sha256sum": lambda s: hashlib.sha256(as_text(s).encode()).hexdigest(),
    "sha512sum": lambda s: hashlib.sha512(as_text(s).encode()).hexdigest(),
    "adler32sum": lambda s: str(zlib.adler32(as_text(s).encode())),
}
