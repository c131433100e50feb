"""Parse numbers and times from untrusted text.

`str.isdigit` accepts "²" and "٣", `int` accepts underscores, blanks and other scripts, and neither
has a limit. Every number or time in a request, a header or a manifest is parsed here.
"""

from datetime import UTC, datetime

from hub.engine.errors import Invalid

MAX_DIGITS = 18
"""Numbers of up to this many digits fit in 64 bits and in every database column."""
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
_LATEST = datetime(9999, 12, 29, tzinfo=UTC)


def parse_digits(text: object, maximum: int = MAX_DIGITS) -> int | None:
    """Parse up to `maximum` ASCII digits; return None for any other value."""
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > maximum:
        return None
    return int(text)


def parse_integer(value: object) -> int | None:
    """Parse an integer of up to 64 bits, or a text of one; return None for any other value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    text = value.strip() if isinstance(value, str) else ""
    number = parse_digits(text.removeprefix("-").removeprefix("+"), MAX_DIGITS + 1)
    if number is None or number >= 2**63 or text[:2] in ("-+", "+-"):
        return None
    return -number if text.startswith("-") else number


def require_integer(
    value: object, field: str, least: int = -(2**63) + 1, maximum: int = 2**63 - 1
) -> int:
    """Parse an integer parameter.

    Raises: Invalid naming the field and the valid range.
    """
    found = parse_integer(value)
    if found is None:
        raise Invalid(f"{field} must be a whole number of 64 bits, not {str(value)[:40]!r}")
    if not least <= found <= maximum:
        raise Invalid(f"{field} must be a whole number from {least} to {maximum}, not {found}")
    return found


def require_time(text: str, field: str) -> datetime:
    """Parse a time parameter in RFC 3339 format, or in seconds since 1970, to UTC.

    Units: seconds, if it is a number.
    Raises: Invalid naming the field.
    """
    seconds = parse_digits(text, 11)
    try:
        # An unescaped "+" in a URL arrives as a blank.
        found = (
            datetime.fromisoformat(text.replace(" ", "+"))
            if seconds is None
            else datetime.fromtimestamp(seconds, UTC)
        )
    except (ValueError, OverflowError) as error:
        raise Invalid(_no_moment(text, field)) from error
    if found.tzinfo is None:
        raise Invalid(f"{field} needs a time zone, such as the Z in 2026-01-31T08:00:00Z")
    return time_in_range(found, field)


def time_in_range(found: datetime, field: str) -> datetime:
    """Convert a time to UTC.

    Raises: Invalid for a time outside the years that every time zone can represent.
    """
    if not _EARLIEST.replace(tzinfo=found.tzinfo) <= found <= _LATEST.replace(tzinfo=found.tzinfo):
        raise Invalid(f"{field} must be in the years from 1 to 9999")
    return found.astimezone(UTC)


def _no_moment(text: str, field: str) -> str:
    return f"{field} must be a time such as 2026-01-31T08:00:00Z, not {text[:40]!r}"
