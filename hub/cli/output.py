"""Output of commands: tables, JSON, YAML, names."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hub.cli.problem import Problem
from hub.engine.printable import printable


def print_line(text: str = "") -> None:
    """Print lines, without terminal control characters."""
    sys.stdout.write(printable(text, "\n\t") + "\n")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in columns."""
    lines = [[printable(str("" if c is None else c)) for c in row] for row in [head, *rows]]
    widths = [max(len(row[n]) for row in lines) for n in range(len(head))]
    for row in lines:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print_line("  ".join(cells).rstrip())


def printed(data: object, output: str, *more: str) -> bool:
    """Print data as JSON or YAML; return whether that format was requested.

    Raises: Problem for another form than those, wide and `more`.
    """
    known = ("wide", "json", "yaml", *more)
    if output not in known:
        raise Problem(f"--output {output}: {', '.join(known)}")
    if output == "json":
        print_line(json.dumps(data, indent=2))
    elif output == "yaml":
        sys.stdout.write(as_yaml(data))
    return output in ("json", "yaml")


def as_yaml(data: object) -> str:
    """Return data as YAML."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True, width=2**20))


def facts(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print labels, padded to 20, with their values."""
    for label, value in pairs:
        print_line(f"{label + ':':<20}{value}".rstrip())


def stamp(seconds: Any) -> str:
    """Return the time of seconds since 1970 as text."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
