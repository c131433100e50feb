"""Requests that are sent twice and done once: the header `Idempotency-Key`, beyond Argo CD.

The first answer is kept for a day under the caller and the key, and is given again to a repetition.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from hub.access import Caller
from hub.engine.errors import Conflict, Invalid
from hub.models import KeptAnswer

KEPT_FOR = timedelta(days=1)
MAX_KEY = 255
MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Again:
    """What a request was answered the first time."""

    status: int
    body: bytes


def begin(caller: Caller, key: str, method: str, path: str, body: bytes) -> KeptAnswer | Again:
    """Claim a key for a request, or return what it was answered before.

    Raises: Invalid when the key was used for another request; Conflict while the first one runs.
    """
    if len(key) > MAX_KEY or not key.isprintable() or not key.isascii():
        raise Invalid(f"Idempotency-Key must be at most {MAX_KEY} printable characters")
    owner = _owner(caller)
    digest = hashlib.sha256(b"\0".join([method.encode(), path.encode(), body])).hexdigest()
    KeptAnswer.objects.filter(owner=owner, key=key, at__lt=timezone.now() - KEPT_FOR).delete()
    try:
        with transaction.atomic():
            return KeptAnswer.objects.create(owner=owner, key=key, digest=digest)
    except IntegrityError:
        found = KeptAnswer.objects.filter(owner=owner, key=key).first()
    if found is None:
        raise Conflict("a request with this Idempotency-Key has just failed; send it again")
    if found.digest != digest:
        raise Invalid("this Idempotency-Key was used for another request: take a new key for each change")  # fmt: skip
    if found.status is None:
        raise Conflict(
            f"a request with this Idempotency-Key has run since {found.at:%Y-%m-%dT%H:%M:%SZ} and has no answer yet; "
            "look whether its change was made, and send another change with a new key"
        )
    return Again(found.status, str(found.answer["body"]).encode())


def finish(row: KeptAnswer, status: int, body: bytes) -> None:
    """Keep the answer of a request that changed something; a refused one may be sent again under the same key."""
    if status >= 400 or len(body) > MAX_ANSWER_BYTES:
        row.delete()
        return
    row.status, row.answer = status, {"body": body.decode()}
    row.save(update_fields=["status", "answer"])


def forget_old() -> None:
    """Remove answers that are older than a day."""
    KeptAnswer.objects.filter(at__lt=timezone.now() - KEPT_FOR).delete()


def _owner(caller: Caller) -> str:
    if caller.account is not None:
        return f"account {caller.account.pk}"
    return f"token {caller.project}/{caller.name}/{caller.token_id}"
