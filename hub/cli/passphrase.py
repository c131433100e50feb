"""The passphrase of an encrypted export: from a file, the environment or a prompt."""

import os
import sys
from pathlib import Path

import typer

from hub.cli.problem import Problem

VARIABLE = "FLOTILLA_EXPORT_PASSPHRASE"
SHORTEST = 12
"""Characters: who has the file can guess for as long as they like."""


def new(file: str) -> str:
    """Return the passphrase for an export; a prompt asks twice.

    Raises: Problem when there is none, or it is too short.
    """
    found = _given(file) or _asked("Passphrase of the export", twice=True)
    if len(found) < SHORTEST:
        raise Problem(f"the passphrase has {len(found)} characters: take at least {SHORTEST}")
    return found


def known(file: str) -> str:
    """Return the passphrase of an export that is imported.

    Raises: Problem when there is none.
    """
    return _given(file) or _asked("Passphrase of the export", twice=False)


def _given(file: str) -> str:
    if not file:
        return os.environ.get(VARIABLE, "")
    try:
        text = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"--passphrase-file {file} cannot be read: {error}") from error
    if not text:
        raise Problem(f"--passphrase-file {file} is empty")
    return text


def _asked(question: str, *, twice: bool) -> str:
    if not sys.stdin.isatty():
        raise Problem(f"a passphrase is needed: give --passphrase-file, or set {VARIABLE}")
    return str(typer.prompt(question, hide_input=True, confirmation_prompt=twice, err=True))
