"""Text of others on one line of a log or of a terminal: nothing in it begins a line or moves a cursor."""


def printable(text: str, keep: str = "") -> str:
    """Return a text whose characters that do not print are escaped as in Python, those of `keep` left out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
