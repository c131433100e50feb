"""Numbers and moments out of texts that people and servers write. Values in, values out.

`str.isdigit` is true for "²" and "٣", `int` takes underscores, blanks and other alphabets, and neither has an end:
everything that reads a number or a moment out of a request, a header or a manifest reads it here.
"""

from datetime import UTC, datetime

from hub.engine.errors import Invalid

MOST_DIGITS = 18
"""Every number of so many digits fits in 64 bits, and in every column of the database."""
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
_LATEST = datetime(9999, 12, 29, tzinfo=UTC)


def parse_digits(text: object, most: int = MOST_DIGITS) -> int | None:
    """Return the number that a text of ASCII digits is, None for every other value and for more than `most` digits."""
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > most:
        return None
    return int(text)


def parse_integer(value: object) -> int | None:
    """Return the whole number that a value is or writes in ASCII digits, None for every other, as beyond 64 bits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    text = value.strip() if isinstance(value, str) else ""
    number = parse_digits(text.removeprefix("-").removeprefix("+"), MOST_DIGITS + 1)
    if number is None or number >= 2**63 or text[:2] in ("-+", "+-"):
        return None
    return -number if text.startswith("-") else number


def require_integer(
    value: object, field: str, least: int = -(2**63) + 1, most: int = 2**63 - 1
) -> int:
    """Return the whole number that a parameter is.

    Raises: Invalid naming the field and what may stand in it.
    """
    found = parse_integer(value)
    if found is None:
        raise Invalid(f"{field} must be a whole number of 64 bits, not {str(value)[:40]!r}")
    if not least <= found <= most:
        raise Invalid(f"{field} must be a whole number from {least} to {most}, not {found}")
    return found


def require_time(text: str, field: str) -> datetime:
    """Return the moment that a parameter is, in UTC: RFC 3339, or seconds since 1970.

    Units: whole seconds, for a number.
    Raises: Invalid naming the field.
    """
    seconds = parse_digits(text, 11)
    try:
        # A plus that nobody escaped arrives as a blank.
        found = (
            datetime.fromisoformat(text.replace(" ", "+"))
            if seconds is None
            else datetime.fromtimestamp(seconds, UTC)
        )
    except (ValueError, OverflowError) as error:
        raise Invalid(_no_moment(text, field)) from error
    if found.tzinfo is None:
        raise Invalid(f"{field} needs a zone, such as the Z of 2026-01-31T08:00:00Z")
    return time_in_range(found, field)


def time_in_range(found: datetime, field: str) -> datetime:
    """Return a moment in UTC.

    Raises: Invalid where no zone of the world has a date for it, so that it cannot be shown or compared.
    """
    if not _EARLIEST.replace(tzinfo=found.tzinfo) <= found <= _LATEST.replace(tzinfo=found.tzinfo):
        raise Invalid(f"{field} must be in the years from 1 to 9999")
    return found.astimezone(UTC)


def _no_moment(text: str, field: str) -> str:
    return f"{field} must be a time such as 2026-01-31T08:00:00Z, not {text[:40]!r}"
