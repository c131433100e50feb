"""Numbers and moments that people and servers write."""

from datetime import UTC, datetime

import pytest

from hub.engine.errors import Invalid
from hub.engine.parsing import parse_digits, parse_integer, require_integer, require_time


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("²", None),
        ("٣", None),
        ("1_0", None),
        (" 1", None),
        ("-1", None),
        ("", None),
        (5, None),
        (None, None),
    ],
)
def test_only_ascii_digits_are_a_number(text, number):
    assert parse_digits(text) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("-12", -12),
        ("+12", 12),
        (" 12 ", 12),
        (12, 12),
        (2**63 - 1, 2**63 - 1),
        (str(2**63 - 1), 2**63 - 1),
        (2**63, None),
        (str(2**63), None),
        (True, None),
        (1.5, None),
        ("-+1", None),
        ("+-1", None),
        ("--1", None),
        ("1e3", None),
        ([], None),
    ],
)
def test_a_whole_number_has_64_bits(value, number):
    assert parse_integer(value) == number


def test_a_number_out_of_its_range_is_refused_with_the_range():
    assert require_integer("7", "limit", 0, 10) == 7
    with pytest.raises(Invalid, match="limit must be a whole number from 0 to 10, not 11"):
        require_integer("11", "limit", 0, 10)
    with pytest.raises(Invalid, match=r"limit must be a whole number of 64 bits, not 'x{40}'"):
        require_integer("x" * 100, "limit")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-01-31T08:00:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00:00+02:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("2026-01-31T08:00:00 02:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("99999999999", datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        ("60", datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_utc(text, found):
    assert require_time(text, "since") == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "since must be a time such as"),
        ("2026-01-31T08:00:00", "since needs a time zone"),
        ("9999-12-31T23:59:59-11:00", "years from 1 to 9999"),
        ("0001-01-01T00:00:00+11:00", "years from 1 to 9999"),
        ("²", "since must be a time such as"),
        ("2026-01-31T08:00:00+99:99", "since must be a time such as"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_field(text, words):
    with pytest.raises(Invalid, match=words):
        require_time(text, "since")
