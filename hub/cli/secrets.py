"""Secrets in arguments: read from standard input instead, and hidden from `ps`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hub.cli.problem import Problem

FLAGS = (
    "--password",
    "--current-password",
    "--new-password",
    "--bearer-token",
    "--auth-token",
    "--otp",
    "-H",
    "--header",
    "--proxy",
)
"""Flags whose values other users of this machine must not see."""
# Fields of /proc/self/stat, counted from the end: where the arguments begin and end.
_BEGIN, _END = 45, 46


def take_secrets(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with secrets given as `-` read from standard input; hide the others.

    Raises: Problem when standard input has no such line.
    """
    found: list[str] = []
    shown: list[str] = []
    flag = ""
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if flag:
            found.append(_line(flag) if argument == "-" else argument)
            shown.append(argument)
        elif separator and name in FLAGS:
            found.append(f"{name}={_line(name)}" if value == "-" else argument)
            shown.append(value)
        else:
            found.append(argument)
        flag = argument if not flag and argument in FLAGS else ""
    _hide([secret for secret in shown if len(secret) > 1])
    return found


def _line(flag: str) -> str:
    line = sys.stdin.readline()
    if not line.strip("\r\n"):
        raise Problem(f"{flag} -: standard input has no line with it")
    return line.rstrip("\r\n")


def _hide(secrets: Sequence[str]) -> None:
    """Overwrite secrets in the process's argument memory, on Linux."""
    if not secrets:
        return
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        begin, end = int(fields[_BEGIN]), int(fields[_END])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            words = memory.read(end - begin)
            for secret in secrets:
                raw = secret.encode(errors="surrogateescape")
                words = words.replace(raw, b"*" * len(raw))
            memory.seek(begin)
            memory.write(words)
    except (OSError, ValueError, IndexError):
        # Other systems do not allow this: use `-` or the prompts there.
        return
