"""Limit the work that `ignoreDifferences` rules cause: their authors also write the manifests."""

from hub.engine.errors import RuleError

MAX_STEPS = 50_000_000
"""Values that all rules of one comparison may process: a few seconds of processor time."""
MAX_PATHS = 100_000
"""The maximum number of paths of one resource that one pointer or jq path may select: each one uses
memory.
"""
_PATH_COST = 5
"""The cost of a selected path, in values processed."""


class Effort:
    """The work that is left for the rules of one comparison or sync."""

    __slots__ = ("_left",)

    def __init__(self, maximum: int = MAX_STEPS) -> None:
        """Allow at most this many steps."""
        self._left = maximum

    def spend(self, steps: int = 1) -> None:
        """Count processed values.

        Raises: RuleError if all rules together process too many.
        """
        self._left -= steps
        if self._left < 0:
            raise RuleError(
                "ignoreDifferences: the rules process too many values together: "
                "use fewer rules, or ignore the field that contains a large list"
            )

    def spend_paths(self, places: int, *, known: int = 0) -> None:
        """Count the paths that a pointer or jq path selects in one resource.

        Shapes: `known` is the number of paths that it has selected already.
        Raises: RuleError for too many.
        """
        if places + known > MAX_PATHS:
            raise RuleError(
                f"ignoreDifferences: a path selects more than {MAX_PATHS:,} fields "
                "of a resource: "
                "ignore the field that contains them"
            )
        self.spend(places * _PATH_COST)
