"""What the user can mend."""


class Problem(Exception):
    """The message is one sentence with the next step."""
