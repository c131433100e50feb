"""Explain why a subject may or may not do something, and list who may."""

from typing import Any

from hub.access import decisions
from hub.access.decisions import where_of
from hub.engine.rbac import Decision
from hub.models import (
    Account,
)


def explanation(decision: Decision, subjects: list[str]) -> dict[str, Any]:
    """Return a decision for people: the rule, its source, and the role that applied it."""
    rule = decision.rule
    return {
        "allowed": decision.allowed,
        "why": decision.why,
        "subjects": subjects,
        "rule": str(rule) if rule else "",
        "origin": rule.origin if rule else "",
        "role": rule.subject if rule else "",
    }


def who_can(enforcer: Any, resource: str, action: str, name: str) -> dict[str, Any]:
    """Return the enabled accounts and other subjects that may do something."""
    where = where_of(resource, name)
    allowed, denied = enforcer.who(resource, action, name, where)
    default = set(enforcer.roles_of(enforcer.default_role)) if enforcer.default_role else set()
    everybody = bool(default & allowed)

    def may(subjects: tuple[str, ...]) -> bool:
        named = set(subjects)
        return (everybody or bool(named & allowed)) and not (named & denied or default & denied)

    accounts = [
        {"account": a.name, "username": a.shown_name}
        for a in Account.objects.filter(enabled=True).order_by("name")
        if may(decisions.subjects_of(a))
    ]
    names = {a["account"] for a in accounts}
    return {
        "everybody": everybody and not default & denied,
        "accounts": accounts,
        "subjects": sorted(s for s in allowed - denied if s not in names),
        "deniedSubjects": sorted(denied),
    }
