"""Errors that the user can fix."""

FAILED = 20
"""The exit code for errors, as in Argo CD."""


class Problem(Exception):
    """An error whose message is one sentence with the next step."""

    status: int = 0
    """The HTTP status of the hub's response, 0 without a response."""
    code: int = FAILED
    """The exit code."""
