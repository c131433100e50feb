"""Errors that the user can fix."""

FAILED = 20
"""Exit code of everything that did not work, as Argo CD's."""


class Problem(Exception):
    """An error whose message is one sentence with the next step."""

    status: int = 0
    """The HTTP status that the hub answered, 0 for what is no answer."""
    code: int = FAILED
    """The exit code."""
