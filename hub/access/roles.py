"""Roles as objects: save them, and read and write them as policy lines."""

import csv
import io
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.access.decisions import checked_rule, role_json
from hub.audit import trail
from hub.engine.errors import Invalid, NotFound
from hub.engine.rbac import parse
from hub.models import (
    Role,
    access_changed,
)


def role_named(name: str) -> Role:
    """Return a role.

    Raises: NotFound.
    """
    found = Role.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f"there is no role {name!r}")
    return found


def save_role(wanted: dict[str, Any], who: str) -> Role:
    """Create or replace a role.

    Raises: Invalid naming the field.
    """
    name, rules, members = wanted["name"], wanted.get("rules") or [], wanted.get("members") or []
    if not isinstance(name, str) or not name or len(name) > 200 or any(c in name for c in ',"\r\n'):
        raise Invalid("name must be at most 200 characters without commas and quotes")
    if name in ("role:admin", "role:readonly", "role:auditor") or name.startswith("proj:"):
        raise Invalid(f"{name} is built in or belongs to a project: give the role another name")
    if not isinstance(rules, list) or not isinstance(members, list):
        raise Invalid("rules and members must be lists")
    for number, member in enumerate(members):
        if not isinstance(member, str) or not member.strip() or any(c in member for c in "\r\n\t"):
            raise Invalid(f"members[{number}] must be the name of an account, a group or a role")
    description = wanted.get("description") or ""
    if not isinstance(description, str) or len(description) > 1000:
        raise Invalid("description must be at most 1000 characters")
    checked = [checked_rule(rule, f"rules[{n}]") for n, rule in enumerate(rules)]
    with transaction.atomic():
        role = Role.objects.select_for_update().filter(name=name).first()
        before = role_json(role) if role else None
        role = role or Role(name=name)
        role.rules, role.members = checked, list(dict.fromkeys(m.strip() for m in members))
        role.description, role.updated_at = description, timezone.now()
        role.save()
        access_changed("role", name, role_json(role))
        trail.record(
            who,
            "update" if before else "create",
            "role",
            name,
            before=before,
            after=role_json(role),
        )
    return role


_DESCRIPTION = "# description"


def to_csv(roles: list[dict[str, Any]]) -> str:
    """Return roles as equivalent policy lines."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for role in roles:
        writer.writerow([_DESCRIPTION, role["name"], role["description"]])
        for rule in role["rules"]:
            words = [role["name"], rule["resource"], rule["action"], rule["object"], rule["effect"]]
            writer.writerow(["p", *words, *([rule["clusters"]] if rule.get("clusters") else [])])
        for member in role["members"]:
            writer.writerow(["g", member, role["name"]])
    return out.getvalue()


def from_csv(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the roles in policy lines, and a message for each invalid line."""
    roles: dict[str, dict[str, Any]] = {}

    def role(name: str) -> dict[str, Any]:
        return roles.setdefault(name, {"name": name, "description": "", "rules": [], "members": []})

    for row in csv.reader(io.StringIO(text)):
        if len(row) == 3 and row[0] == _DESCRIPTION:
            role(row[1])["description"] = row[2]
    described = set(roles)
    policy = parse("\n".join("" if r.startswith("#") else r for r in text.splitlines()), "csv")
    for rule in policy.rules:
        scope = rule.where.text if rule.where else ""
        role(rule.subject)["rules"].append(
            {
                "resource": rule.resource,
                "action": rule.action,
                "object": rule.object,
                "effect": rule.effect,
                "clusters": scope,
            }
        )
    for member, name in policy.links:
        role(name)["members"].append(member)
    for name in {rule.subject for rule in policy.rules} - described:
        if not name.startswith("role:") and not roles[name]["members"]:
            # A policy line about a group itself: the group is the subject that has the right.
            roles[name]["members"].append(name)
    return list(roles.values()), [f"{p.origin}: {p.message}" for p in policy.problems]
