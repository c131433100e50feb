"""Errors say what happens next: a person must act, or try again later."""

from datetime import timedelta

MESSAGE_LIMIT = 1000


class EngineError(Exception):
    """Bad input that the engine cannot work with; becomes `Stalled` outside."""


class ManifestError(EngineError):
    """A manifest, or a set of them, that cannot be used as it stands."""


class RuleError(EngineError):
    """A rule written by a person (ignoreDifferences, script, window, option) that cannot be used."""


class Stalled(Exception):
    """A person must act: nothing is retried until the spec or the revision changes."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep a CamelCase reason and a sentence for the operator."""
        super().__init__(message[:MESSAGE_LIMIT])
        self.reason = reason
        self.message = message[:MESSAGE_LIMIT]


class RetryLater(Exception):
    """Transient: the same work is tried again after `delay`."""

    def __init__(self, reason: str, message: str, delay: timedelta = timedelta(seconds=10)) -> None:
        """Keep a CamelCase reason, a sentence for the operator and the delay."""
        super().__init__(message[:MESSAGE_LIMIT])
        self.reason = reason
        self.message = message[:MESSAGE_LIMIT]
        self.delay = delay


class RefusedByRule(Exception):
    """A rule that a person set refuses what was asked: the trail keeps it. See `AccessDenied` and below."""

    recorded = False
    """Whether the trail has the refusal already."""


class AccessDenied(RefusedByRule):
    """The caller may not do this, or may not know whether it exists."""

    def __init__(self, message: str = "permission denied", *, recorded: bool = False) -> None:
        """Keep the sentence, and whether the trail has the refusal already."""
        super().__init__(message)
        self.recorded = recorded


MALFORMED_OBJECT = (
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
    OverflowError,
)
"""What reading an object raises whose fields have shapes that its kind does not have: who lies sends such."""


class NotFound(Exception):
    """The caller may see the place, and nothing is there."""


class Conflict(Exception):
    """The request contradicts what is stored or running."""


class Outdated(Conflict):
    """The request builds on what somebody else has changed since: read it again."""


class Invalid(Exception):
    """The request is wrong; the message names the field and the next step."""


class Unauthenticated(Exception):
    """Nobody is signed in, or the credentials are wrong."""


class Expired(Exception):
    """What a request goes on from is no longer known: begin anew."""


class Precondition(Exception):
    """The object is not in a state that allows the request."""


class Protected(RefusedByRule, Precondition):
    """A rule forbids what is asked as it is asked: a window, the deletion guard, a reason that is required."""


class NotPermitted(RefusedByRule, Invalid):
    """What is asked for is outside of what the project permits."""


class Forbidden(RefusedByRule, Stalled):
    """What an operation or a deletion would do is outside of what a rule permits; see `Stalled`."""


class Unimplemented(Exception):
    """What the path is for is switched off here, or not made."""
