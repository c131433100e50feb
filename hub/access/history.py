"""The history of access: policies, roles, groups and grants at a past time."""

from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from hub.access.policy_names import Naming, naming, policy_subjects
from hub.access.policy_sources import Sources, grant_rule, sources_from
from hub.engine.cluster_scopes import Where
from hub.models import AccessRecord


def state_at(at: datetime) -> dict[str, dict[str, Any]]:
    """Return every input of access decisions at a past time, by kind and name."""
    found: dict[str, dict[str, Any]] = {}
    rows = AccessRecord.objects.filter(at__lte=at).order_by("pk")
    for kind, name, value in rows.values_list("kind", "name", "value").iterator():
        entries = found.setdefault(kind, {})
        if value is None:
            entries.pop(name, None)
        else:
            entries[name] = value
    return found


def sources_at(at: datetime) -> Sources:
    """Return the inputs of decisions at a past time."""
    state = state_at(at)
    grants = [grant_rule(g) for g in state.get("grant", {}).values() if _lasted(g, at)]
    return sources_from(
        state.get("policy", {}).get("rbac") or {},
        list(state.get("role", {}).values()),
        state.get("project", {}),
        grants,
    )


def _lasted(grant: dict[str, Any], at: datetime) -> bool:
    starts, ends, revoked = (
        parse_datetime(grant.get(f) or "") for f in ("startsAt", "endsAt", "revokedAt")
    )
    return bool(starts and ends and starts <= at < ends and not (revoked and revoked <= at))


def who_could(
    resource: str, action: str, name: str, at: datetime, cluster: str = ""
) -> dict[str, Any]:
    """Return the accounts and other subjects that could do something at a past time.

    Shapes: `cluster` is the name or server of the cluster that the object was on, for rules with a
        scope.
    """
    state, sources = state_at(at), sources_at(at)
    enforcer = sources.enforcer()
    where = next(
        (
            Where(server, c.get("name", ""), c.get("labels") or {})
            for server, c in state.get("cluster", {}).items()
            if cluster and cluster in (server, c.get("name"))
        ),
        None,
    )
    accounts = {"admin": {"enabled": True}, **state.get("account", {})}
    local = {n for n, a in accounts.items() if not a.get("issuer")}
    how, found = _naming_at(state), []
    for account, value in sorted(accounts.items()):
        if not value.get("enabled", True):
            continue
        subjects = _subjects(account, value, sources.scopes, local, how)
        decision = enforcer.decide(subjects, resource, action, name, where)
        if decision.allowed and decision.rule:
            found.append(
                {
                    "account": account,
                    "groups": value.get("groups") or [],
                    "rule": str(decision.rule),
                    "origin": decision.rule.origin,
                }
            )
    allowed, denied = enforcer.who(resource, action, name, where)
    named = {f["account"] for f in found}
    return {
        "at": at.isoformat(),
        "resource": resource,
        "action": action,
        "object": name,
        "accounts": found,
        "subjects": sorted(s for s in allowed - denied if s not in named),
        "deniedSubjects": sorted(denied),
    }


def _subjects(
    name: str, account: dict[str, Any], scopes: tuple[str, ...], local: set[str], how: Naming
) -> tuple[str, ...]:
    if not account.get("issuer"):
        return (name,)
    return policy_subjects(account, scopes, local, how)


def _naming_at(state: dict[str, dict[str, Any]]) -> Naming:
    recorded = state.get("sso", {}).get("naming")
    if recorded is None:
        # The providers have not changed since their history is recorded.
        return naming()
    return Naming(frozenset(recorded["plain"]), frozenset(recorded["prefixed"]))
