"""API tokens of accounts and of project roles."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.audit import trail
from hub.auth.signed_tokens import sign_token
from hub.engine.errors import Invalid, Precondition, Protected
from hub.engine.parsing import require_integer
from hub.models import (
    Account,
    ApiToken,
)


def token_json(row: ApiToken) -> dict[str, Any]:
    """Return a token's public fields."""
    result = {
        "id": row.token_id,
        "issuedAt": int(row.issued_at.timestamp()),
        "expiresAt": int(row.expires_at.timestamp()) if row.expires_at else 0,
        "lastUsedAt": int(row.last_used_at.timestamp()) if row.last_used_at else 0,
        "description": row.description,
    }
    return {k: v for k, v in result.items() if v not in ("", 0)} | {"id": row.token_id}


def create_token(
    actor: str,
    *,
    account: Account | None = None,
    project: str = "",
    role: str = "",
    token_id: Any = "",
    seconds: Any = 0,
    description: str = "",
) -> str:
    """Create a token of an account or of a project role.

    Units: `seconds` until it expires, 0 for never.
    Raises: Invalid naming the field; Precondition for an id that is taken; Protected.
    """
    seconds = require_integer(seconds or 0, "expiresIn")
    if not 0 <= seconds <= 10 * 366 * 86_400:
        raise Invalid("expiresIn must be between 0 (never) and ten years in seconds")
    token_id = token_id or str(uuid.uuid4())
    if not isinstance(token_id, str) or not re.fullmatch(r"[\w.:@-]{1,64}", token_id):
        raise Invalid("id must be at most 64 letters, digits, '.', ':', '@', '_' and '-'")
    if account is not None and "apiKey" not in account.capabilities:
        raise Protected(f"account '{account.name}' does not have apiKey capability")
    now = timezone.now().replace(microsecond=0)
    ends = now + timedelta(seconds=seconds) if seconds else None
    subject = f"{account.name}:apiKey" if account else f"proj:{project}:{role}"
    existing = ApiToken.objects.filter(
        account=account, project=project, role=role, token_id=token_id
    )
    if existing.exists():
        raise Precondition(
            f"{'account' if account else f'role {role}'} already has token with id '{token_id}'"
        )
    with transaction.atomic():
        ApiToken.objects.create(
            account=account,
            project=project,
            role=role,
            token_id=token_id,
            issued_at=now,
            expires_at=ends,
            description=description[:300],
            created_by=actor,
        )
        trail.record(
            actor,
            "create-token",
            "account" if account else "project",
            account.name if account else project,
            project,
            token=token_id,
            role=role,
            expires=ends.isoformat() if ends else "never",
        )
    return sign_token(subject, token_id, now, ends)


def revoke_tokens(rows: Any, actor: str) -> int:
    """Revoke tokens; each is an event, and its id cannot be used again."""
    with transaction.atomic():
        found = list(rows.filter(revoked_at=None).select_related("account"))
        for row in found:
            ApiToken.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
            trail.record(
                actor,
                "delete-token",
                "account" if row.account else "project",
                row.account.name if row.account else row.project,
                row.project,
                token=row.token_id,
                role=row.role,
            )
    return len(found)


def moment(seconds: int) -> datetime:
    """Return the time of a number of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
