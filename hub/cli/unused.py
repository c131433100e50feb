"""Options of Argo CD's command that have nothing to do here: each is refused, or what it asks for is so anyway."""

import sys

from hub.cli.problem import Problem


def refuse(option: str, given: object, why: str) -> None:
    """Refuse an option that was given.

    Raises: Problem with one sentence.
    """
    if given:
        raise Problem(f"{option} is not served: {why}")


def note(option: str, given: object, why: str) -> None:
    """Say on standard error that an option that was given changes nothing, and why."""
    if given:
        sys.stderr.write(f"flotilla: {option} changes nothing: {why}\n")
