"""The names in policies of accounts that come from identity providers.

The accounts and groups of one provider have plain names, as in Argo CD; those of every other one
begin with its id, so that a second provider cannot claim the rights of the first one's accounts.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.conf import settings

from hub.models import IdentityProvider

PLAIN = "plainNames"
"""The field of a provider's config that says whether its names are plain."""


class Naming(NamedTuple):
    """The providers by id: which one has plain names, and which have the id as a prefix."""

    plain: frozenset[str]
    prefixed: frozenset[str]

    def names(self, provider: str, claims: Iterable[Any]) -> list[str]:
        """Return the names that claims of a provider have in policies.

        Shapes: accounts without a provider are older than this feature and keep plain names.
        """
        texts = [c for c in claims if isinstance(c, str) and c]
        if provider and provider not in self.plain:
            return [f"{provider}:{text}" for text in texts]
        foreign = tuple(f"{other}:" for other in self.prefixed)
        return [text for text in texts if not text.startswith(foreign)]


def naming() -> Naming:
    """Return the current naming."""
    # Invalid entries are refused with a message where they are read.
    entries = [e for e in settings.SSO_PROVIDERS if isinstance(e, Mapping)]
    fixed = {str(e.get("id")): _is_plain(e.get("config"), n == 0) for n, e in enumerate(entries)}
    rows = dict(IdentityProvider.objects.values_list("slug", "config"))
    stored = {slug: _is_plain(c, len(rows) + len(fixed) == 1) for slug, c in rows.items()}
    found = stored | fixed
    plain = frozenset(slug for slug, is_plain in found.items() if is_plain)
    return Naming(plain, frozenset(found) - plain)


def _is_plain(config: Any, default: bool) -> bool:
    return bool(config.get(PLAIN, default)) if isinstance(config, Mapping) else default


def policy_subjects(
    account: Mapping[str, Any], scopes: Iterable[str], local: Iterable[str], how: Naming
) -> tuple[str, ...]:
    """Return the names under which policies can refer to an account of a provider.

    Claims of a provider can never equal the name of a local account, a role or a project's role.
    Shapes: an account as its access record has it; an email only where it is verified.
    """
    claims: list[Any] = [account.get("subject")]
    if "groups" in scopes:
        claims += account.get("groups") or []
    if "email" in scopes:
        claims.append(account.get("email"))
    names = how.names(str(account.get("provider") or ""), claims)
    taken = frozenset(local)
    fit = (n for n in names if n not in taken and not n.startswith(("role:", "proj:")))
    return tuple(dict.fromkeys(fit))


def record_of(account: Any) -> dict[str, Any]:
    """Return what access decisions use of an account, for the history of access."""
    return {
        "enabled": account.enabled,
        "capabilities": list(account.capabilities),
        "groups": list(account.groups),
        "issuer": account.issuer,
        "subject": account.subject,
        "provider": account.provider,
        "email": account.email if account.email_verified else "",
    }
