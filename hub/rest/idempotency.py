"""Idempotent requests by the header `Idempotency-Key`, beyond Argo CD.

The first response is stored for a day under the caller and the key. A repetition returns it while
everything that the first request was allowed is still allowed. The key is claimed with the first
change that a request makes, after its access decision: a refused request writes nothing.
"""

import contextvars
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from hub.access import noted_decisions
from hub.access.decisions import Caller, is_allowed, reach, where_of
from hub.engine.cluster_scopes import Where
from hub.engine.errors import Conflict, Invalid
from hub.models import IdempotentResponse

RETENTION = timedelta(days=1)
MAX_KEY = 255
MAX_ANSWER_BYTES = 1024 * 1024
_CHANGES = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class RepeatedRequest:
    """The response to the first request, and what it was allowed to do."""

    status: int
    body: bytes
    allowed: list[Any]


class Claim:
    """A key that a request claims once it changes something."""

    def __init__(self, owner: str, key: str, digest: str) -> None:
        self._owner, self._key, self._digest = owner, key, digest
        self._is_claimed = False

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        """Claim the key before the first write, as a wrapper of Django's `execute`."""
        if not self._is_claimed and _is_change(sql, params):
            self.make()
        return execute(sql, params, many, context)

    def make(self) -> None:
        """Claim the key, unless it is claimed already.

        Raises: Conflict when another request with the same key has claimed it.
        """
        if self._is_claimed:
            return
        self._is_claimed = True
        old = timezone.now() - RETENTION
        IdempotentResponse.objects.filter(owner=self._owner, key=self._key, at__lt=old).delete()
        try:
            with transaction.atomic():
                IdempotentResponse.objects.create(
                    owner=self._owner, key=self._key, digest=self._digest
                )
        except IntegrityError as error:
            raise Conflict(
                "a request with this Idempotency-Key is running: repeat this one for its result"
            ) from error

    def finish(self, status: int, body: bytes, allowed: list[Any]) -> None:
        """Store the response; a refused request may be sent again with the same key."""
        rows = IdempotentResponse.objects.filter(
            owner=self._owner, key=self._key, digest=self._digest
        )
        if status >= 400 or len(body) > MAX_ANSWER_BYTES:
            if self._is_claimed:
                rows.filter(status=None).delete()
            return
        IdempotentResponse.objects.update_or_create(
            owner=self._owner,
            key=self._key,
            defaults={
                "digest": self._digest,
                "status": status,
                "answer": {"body": body.decode(), "allowed": allowed},
            },
        )


_claim: contextvars.ContextVar[Claim | None] = contextvars.ContextVar("claim", default=None)


def hold(claim: Claim | None) -> None:
    """Remember the claim of the current request."""
    _claim.set(claim)


def before_change() -> None:
    """Claim the key of the current request, before it changes something outside the database."""
    claim = _claim.get()
    if claim is not None:
        claim.make()


def begin(caller: Caller, key: str, method: str, path: str, body: bytes) -> Claim | RepeatedRequest:
    """Return the response to an earlier request, or a claim of the key; nothing is written.

    Raises: Invalid when the key was used for another request; Conflict while the first one runs.
    """
    if len(key) > MAX_KEY or not key.isprintable() or not key.isascii():
        raise Invalid(f"Idempotency-Key must be at most {MAX_KEY} printable characters")
    owner = _owner(caller)
    digest = hashlib.sha256(b"\0".join([method.encode(), path.encode(), body])).hexdigest()
    since = timezone.now() - RETENTION
    found = IdempotentResponse.objects.filter(owner=owner, key=key, at__gte=since).first()
    if found is None:
        return Claim(owner, key, digest)
    if found.digest != digest:
        raise Invalid(
            "this Idempotency-Key was used for another request: take a new key for each change"
        )
    if found.status is None or "allowed" not in found.answer:
        raise Conflict(
            f"a request with this Idempotency-Key has run since "
            f"{found.at:%Y-%m-%dT%H:%M:%SZ} and has no answer yet; "
            "check whether its change was made, and send another change with a new key"
        )
    return RepeatedRequest(
        found.status, str(found.answer["body"]).encode(), found.answer["allowed"]
    )


def still_allowed(caller: Caller, allowed: Iterable[Any]) -> bool:
    """Return whether everything that a request was allowed is still allowed.

    Shapes: `allowed` as `hub.access.noted_decisions` recorded it.
    """
    return all(_is_still(caller, *decision) for decision in allowed)


def _is_still(caller: Caller, resource: str, action: str, about: Any, more: Any) -> bool:
    if isinstance(about, str):
        # The current cluster of the object, if it exists.
        where = (where_of(resource, about) or Where(*more)) if more else None
        return is_allowed(caller, resource, action, about, where)
    allow, deny = noted_decisions.marks(reach(caller, resource, action))
    return caller.rights.enabled and set(about) <= set(allow) and set(deny) <= set(more)


def forget_old() -> None:
    """Remove responses that are older than a day."""
    IdempotentResponse.objects.filter(at__lt=timezone.now() - RETENTION).delete()


def _is_change(sql: str, params: Any) -> bool:
    if not sql.lstrip().startswith(_CHANGES):
        return False
    # A refusal leaves its audit event, and no other change.
    return not ("hub_auditevent" in sql and "refused" in (params or ()))


def _owner(caller: Caller) -> str:
    if caller.account is not None:
        return f"account {caller.account.pk}"
    return f"token {caller.project}/{caller.name}/{caller.token_id}"
