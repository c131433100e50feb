"""Numbers of things in sentences."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 application` or `2,000 applications`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
