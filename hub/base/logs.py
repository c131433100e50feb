"""Structured logs: one line per event, with application and operation ids if there are any."""

import logging
from datetime import UTC, datetime

import orjson

from hub.base.redaction import redact_text
from hub.engine.printable import printable

_FIELDS = ("application", "operation", "cluster", "repository", "duration", "revision")


class JSONFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without the credentials in its URLs."""
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact_text(record.getMessage()),
            **{name: getattr(record, name) for name in _FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            event["traceback"] = redact_text(self.formatException(record.exc_info))
        return orjson.dumps(event, default=str).decode()


class TextFormatter(logging.Formatter):
    """The same as plain text: time, level, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with every character escaped that would start another line.

        A traceback keeps its own line ends.
        """
        found = (f"{n}={getattr(record, n)}" for n in _FIELDS if hasattr(record, n))
        fields = " ".join(printable(field) for field in found)
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        message = printable(redact_text(record.getMessage()))
        line = f"{at} {record.levelname:<7} {message} {fields}".rstrip()
        if record.exc_info:
            line += "\n" + printable(redact_text(self.formatException(record.exc_info)), "\n")
        return line
