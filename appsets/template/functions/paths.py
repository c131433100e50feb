"""The functions of sprig for paths and URLs."""

import posixpath
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from appsets.template.functions.values import as_text, require_kind


def _url_parse(text: Any) -> dict[str, str]:
    parts = urlsplit(as_text(text))
    user = parts.netloc.rpartition("@")[0]
    return {
        "scheme": parts.scheme,
        "host": parts.netloc.rpartition("@")[2],
        "hostname": parts.hostname or "",
        "path": parts.path,
        "query": parts.query,
        "opaque": "",
        "fragment": parts.fragment,
        "userinfo": user,
    }


def _url_join(parts: Any) -> str:
    found = require_kind(parts, dict, "dictionary")
    user = found.get("userinfo")
    host = f"{user}@{found.get('host', '')}" if user else found.get("host", "")
    return str(
        urlunsplit(
            (
                found.get("scheme", ""),
                host,
                found.get("path", ""),
                found.get("query", ""),
                found.get("fragment", ""),
            )
        )
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "base": lambda p: (
        posixpath.basename(as_text(p).rstrip("/")) or ("/" if as_text(p).startswith("/") else ".")
    ),
    "dir": lambda p: posixpath.normpath(posixpath.dirname(as_text(p)) or "."),
    "clean": lambda p: posixpath.normpath(as_text(p) or "."),
    "ext": lambda p: (re.search(r"\.[^./]*$", as_text(p)) or [""])[0],
    "isAbs": lambda p: as_text(p).startswith("/"),
    "urlParse": _url_parse,
    "urlJoin": _url_join,
}
