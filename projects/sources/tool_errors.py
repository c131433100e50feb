"""Remove file contents from the error messages of tools."""

import re

_QUOTED = re.compile(r"(cannot unmarshal (?:!!)?\w+ )`[^`]*`")
_CONTENTS = re.compile(r"(?:: node contents:|: value: \{)[\s\S]*")


def without_file_contents(text: str) -> str:
    """Return a tool's error message without quoted file contents."""
    return _CONTENTS.sub("", _QUOTED.sub(r"\1…", text)).rstrip()
