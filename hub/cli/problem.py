"""What the user can mend."""

FAILED = 20
"""Exit code of everything that did not work, as Argo CD's."""


class Problem(Exception):
    """The message is one sentence with the next step."""

    status: int = 0
    """The HTTP status that the hub answered, 0 for what is no answer."""
    code: int = FAILED
    """The exit code."""
