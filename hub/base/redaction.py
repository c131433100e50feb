"""Remove credentials from text before it reaches a person, a log or the database."""

import re

# Starts at the slashes: a scheme of any length before them would be tried at every letter of a long
# text. Goes to the last @ of the host: some passwords hold one that is not escaped.
_URL_CREDENTIALS = re.compile(r"(://)[^/\s]+@")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")


def redact_text(text: str) -> str:
    """Return the text with user information of URLs and authorization headers replaced."""
    return _BEARER.sub(r"\1 ******", _URL_CREDENTIALS.sub(r"\1******@", text))


def redact_url(url: str) -> str:
    """Return one URL without its user information, even if a slash in a password breaks it."""
    scheme, slashes, rest = url.partition("://")
    _user, at, place = rest.rpartition("@")
    return f"{scheme}://******@{place}" if slashes and at else url
