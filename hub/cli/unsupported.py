"""Argo CD's options without a function here: each is refused, or its effect is the default."""

import sys

from hub.cli.problem import Problem


def refuse(option: str, given: object, why: str) -> None:
    """Refuse a given option.

    Raises: Problem with one sentence.
    """
    if given:
        raise Problem(f"{option} is not served: {why}")


def note(option: str, given: object, why: str) -> None:
    """Print to standard error why a given option changes nothing."""
    if given:
        sys.stderr.write(f"flotilla: {option} changes nothing: {why}\n")
