"""What others wrote stands on one line of a log and of a terminal, and moves no cursor there."""

import logging
import sys

import pytest

from hub.base.logs import TextFormatter
from hub.cli import output

FORGED = "admin\n12:00:00 INFO    the trail is intact\x1b[2J\x1b[1A\r\x9b2K\u202e\x07"


def record(message, **fields):
    found = logging.LogRecord(
        "hub", logging.WARNING, "", 1, "sign-in of %s failed", (message,), None
    )
    found.__dict__.update(fields)
    return found


def raise_it():
    raise ValueError(FORGED)


def test_a_line_of_the_log_stays_one_line():
    line = TextFormatter().format(record("ü " + FORGED, repository=FORGED))
    assert line.isprintable() and "ü" in line and "\\x1b[2J" in line


def test_a_traceback_keeps_its_lines_and_nothing_else():
    found = record("x")
    try:
        raise_it()
    except ValueError:
        found.exc_info = sys.exc_info()
    lines = TextFormatter().format(found).split("\n")
    assert all(line.isprintable() for line in lines) and len(lines) > 3


@pytest.mark.parametrize(
    "write",
    [
        lambda: output.table(["A", "B"], [[FORGED, "é"], ["b", None]]),
        lambda: output.print_line(FORGED),
    ],
    ids=["table", "line"],
)
def test_the_command_line_moves_no_cursor(capsys, write):
    write()
    text = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_table_has_a_line_for_each_row(capsys):
    output.table(["ACTOR"], [[FORGED], ["b"]])
    assert len(capsys.readouterr().out.splitlines()) == 3
