"""Limit the work that `ignoreDifferences` rules cause: their authors also write the manifests."""

from hub.engine.errors import RuleError

MOST_STEPS = 50_000_000
"""Values that all rules of one comparison may process: a few seconds of processor time."""
MOST_PLACES = 100_000
"""Places of one resource that one pointer or path may select: each one uses memory."""
_PLACE = 5
"""The cost of a selected place, in values processed."""


class Effort:
    """The work that is left for the rules of one comparison or sync."""

    __slots__ = ("_left",)

    def __init__(self, most: int = MOST_STEPS) -> None:
        """Allow at most this many steps."""
        self._left = most

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

    def spend_places(self, places: int, *, known: int = 0) -> None:
        """Count the places that a pointer or path selects in one resource, before they are stored.

        Shapes: `known` is the number of places that it has selected already.
        Raises: RuleError for too many.
        """
        if places + known > MOST_PLACES:
            raise RuleError(
                f"ignoreDifferences: a path selects more than {MOST_PLACES:,} fields "
                "of a resource: "
                "ignore the field that contains them"
            )
        self.spend(places * _PLACE)
