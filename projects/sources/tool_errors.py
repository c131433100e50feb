"""What tools say, without what they quote of the files that they read."""

import re

_QUOTED = re.compile(r"(cannot unmarshal (?:!!)?\w+ )`[^`]*`")
_CONTENTS = re.compile(r"(?:: node contents:|: value: \{)[\s\S]*")


def without_file_contents(text: str) -> str:
    """Return an error of a tool without the contents of files in it."""
    return _CONTENTS.sub("", _QUOTED.sub(r"\1…", text)).rstrip()
