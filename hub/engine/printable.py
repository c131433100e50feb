"""Make untrusted text safe to print on one line of a log or terminal."""


def printable(text: str, keep: str = "") -> str:
    """Escape non-printable characters as Python does, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
