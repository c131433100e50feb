"""Errors, grouped by what happens next: a user must act, or the work is retried."""

from datetime import timedelta

MESSAGE_LIMIT = 1000


class EngineError(Exception):
    """Invalid input to the engine; callers turn it into `Stalled`."""


class ManifestError(EngineError):
    """An invalid manifest or set of manifests."""


class RuleError(EngineError):
    """An invalid rule of a user: ignoreDifferences, script, window or option."""


class Stalled(Exception):
    """A user must act: nothing is retried until the spec or the revision changes."""

    def __init__(self, reason: str, message: str) -> None:
        """Store a CamelCase reason and a message for the operator."""
        super().__init__(message[:MESSAGE_LIMIT])
        self.reason = reason
        self.message = message[:MESSAGE_LIMIT]


class RetryLater(Exception):
    """A transient failure: the work is retried after `delay`."""

    def __init__(self, reason: str, message: str, delay: timedelta = timedelta(seconds=10)) -> None:
        """Store a CamelCase reason, a message for the operator and the delay."""
        super().__init__(message[:MESSAGE_LIMIT])
        self.reason = reason
        self.message = message[:MESSAGE_LIMIT]
        self.delay = delay


class RefusedByRule(Exception):
    """A configured rule refuses the request, which the audit trail records."""

    recorded = False
    """Whether the audit trail has the refusal already."""


class AccessDenied(RefusedByRule):
    """The caller lacks permission, or may not know whether the object exists."""

    def __init__(self, message: str = "permission denied", *, recorded: bool = False) -> None:
        """Store the message, and whether the audit trail has the refusal already."""
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
"""Exceptions raised when reading an object whose fields have unexpected types.

A misbehaving API server may send such objects."""


class NotFound(Exception):
    """The object does not exist, and the caller may know that."""


class Conflict(Exception):
    """The request conflicts with the stored state or a running operation."""


class Outdated(Conflict):
    """The object was changed since the caller read it; it must be read again."""


class Invalid(Exception):
    """The request is invalid; the message names the field and the next step."""


class Unauthenticated(Exception):
    """The caller is not signed in, or the credentials are invalid."""


class Expired(Exception):
    """The continuation token or version has expired; the caller must start over."""


class Precondition(Exception):
    """The object's state does not allow the request."""


class Protected(RefusedByRule, Precondition):
    """A protection refuses the request: a sync window, the deletion guard, a required reason."""


class NotPermitted(RefusedByRule, Invalid):
    """The project does not permit the request."""


class Forbidden(RefusedByRule, Stalled):
    """A rule does not permit an operation or deletion; see `Stalled`."""


class Unimplemented(Exception):
    """The feature is disabled or not implemented."""
