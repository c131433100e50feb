"""REST of roles and policies (ours): documents, roles as objects, grants for a time, and their explanation."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub import access, audit
from hub.access import checked_rule, decide, grant_json, require, role_json, where_of
from hub.accounts import normal_object
from hub.api import View, actor, body_map, must_agree
from hub.engine.errors import Invalid, NotFound
from hub.engine.parsing import require_time
from hub.engine.rbac import RESOURCES, Decision, parse, unknown_roles
from hub.engine.retry import parse_duration
from hub.models import (
    Account,
    Grant,
    Role,
    access_changed,
    change_setting,
    setting,
)

LONGEST_GRANT = timedelta(days=30)


class PolicyDocuments(View):
    """`/flotilla/rbac`: the policy documents, as Argo CD's argocd-rbac-cm."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the documents, and the lines in them that cannot be used."""
        require(actor(request), "roles", "get", "policy")
        value = access.stored_documents()
        problems = [f"{p.origin}: {p.message}" for p in access.broken_rules()]
        return Response(
            {
                "data": value,
                "problems": problems,
                "unknownRoles": unknown_roles(access.enforcer().policy),
            }
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Replace the documents: `{data: {policy.csv, policy.default, scopes, policy.matchMode}}`."""
        caller = actor(request)
        require(caller, "roles", "update", "policy")
        value = body_map(request).get("data")
        problems = access.check_documents(value)
        access.check_patterns(value)
        before = setting(access.SETTING, {})
        with transaction.atomic():
            change_setting(access.SETTING, value)
            access_changed("policy", "rbac", value)
            audit.record(caller.name, "update", "rbac", "policy", before=before, after=value)
        return Response({"data": value, "problems": problems})


class Roles(View):
    """`/flotilla/roles`: roles kept as objects."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List roles."""
        require(actor(request), "roles", "get", "*")
        return Response({"items": [role_json(r) for r in Role.objects.order_by("name")]})


class OneRole(View):
    """`/flotilla/roles/{name}`: read, write, delete a role."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return a role."""
        require(actor(request), "roles", "get", name)
        return Response(role_json(_role(name)))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, name: str) -> Response:
        """Create or replace a role: `{description, rules, members}`."""
        caller = actor(request)
        require(caller, "roles", "update", name)
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        return Response(role_json(save_role({**body, "name": name}, caller.name)))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete a role; the next request of who had it obeys."""
        caller = actor(request)
        require(caller, "roles", "update", name)
        role = _role(name)
        with transaction.atomic():
            before = role_json(role)
            role.delete()
            access_changed("role", name, None)
            audit.record(caller.name, "delete", "role", name, before=before)
        return Response({})


def _role(name: str) -> Role:
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
        audit.record(
            who,
            "update" if before else "create",
            "role",
            name,
            before=before,
            after=role_json(role),
        )
    return role


class RolesCSV(View):
    """`/flotilla/roles-csv`: all roles as policy lines, and back."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the roles as lines; descriptions are comments that an import reads."""
        require(actor(request), "roles", "get", "*")
        return Response({"csv": to_csv([role_json(r) for r in Role.objects.order_by("name")])})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Make roles of lines: `{csv}`; roles that the text does not name stay."""
        caller = actor(request)
        require(caller, "roles", "update", "*")
        text = body_map(request).get("csv")
        if not isinstance(text, str):
            raise Invalid("csv is required: policy lines")
        wanted, problems = from_csv(text)
        if problems:
            raise Invalid("; ".join(problems))
        with transaction.atomic():
            saved = [save_role(role, caller.name) for role in wanted]
        return Response({"items": [role_json(r) for r in saved]})


_DESCRIPTION = "# description"


def to_csv(roles: list[dict[str, Any]]) -> str:
    """Return policy lines that are equal to roles."""
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
    """Return the roles that lines describe, and a sentence per line that cannot be used."""
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
            # A line about a group itself, as policies have them: the group is who has these rights.
            roles[name]["members"].append(name)
    return list(roles.values()), [f"{p.origin}: {p.message}" for p in policy.problems]


class Grants(View):
    """`/flotilla/grants`: rights for a time."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List the grants that last; with `all=true` also those that ended."""
        require(actor(request), "roles", "get", "*")
        rows = Grant.objects.order_by("-pk")
        if request.query_params.get("all") != "true":
            rows = rows.filter(revoked_at=None, ends_at__gt=timezone.now())
        return Response({"items": [grant_json(g) for g in rows[:1000]]})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Grant: `{subject, resource, action, object, clusters, duration | until, reason, ticket}`."""
        caller = actor(request)
        body = body_map(request)
        require(caller, "roles", "update", "grants")
        return Response(grant_json(give(body, caller.name)))


def give(body: dict[str, Any], who: str) -> Grant:
    """Give a right for a time.

    Raises: Invalid naming the field.
    """
    for field in ("subject", "reason"):
        if not isinstance(body.get(field), str) or not body[field].strip():
            raise Invalid(f"{field} is required")
    rule = checked_rule(
        {k: body.get(k) or "" for k in ("resource", "action", "object", "clusters")}, "grant"
    )
    now = timezone.now()
    starts = _moment(body.get("from"), "from") or now
    ends = _moment(body.get("until"), "until") or starts + parse_duration(
        body.get("duration") or "", "duration"
    )
    if not now < ends <= starts + LONGEST_GRANT:
        raise Invalid(
            "a grant must end in the future and last at most 30 days; give duration or until"
        )
    with transaction.atomic():
        grant = Grant.objects.create(
            subject=body["subject"].strip(),
            resource=rule["resource"],
            action=rule["action"],
            object=rule["object"],
            clusters=rule["clusters"],
            starts_at=starts,
            ends_at=ends,
            reason=body["reason"].strip()[:1000],
            ticket=str(body.get("ticket") or "")[:200],
            granted_by=who,
        )
        access_changed("grant", str(grant.pk), grant_json(grant))
        audit.record(
            who,
            "grant",
            "grant",
            f"{grant.subject} {grant.resource} {grant.action} {grant.object}",
            after=grant_json(grant),
        )
    return grant


def _moment(value: Any, field: str) -> datetime | None:
    if value in (None, ""):
        return None
    return require_time(str(value), field)


class OneGrant(View):
    """`/flotilla/grants/{id}`: end a grant before its time."""

    permission = ("roles", "update")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, number: int) -> Response:
        """Revoke a grant."""
        caller = actor(request)
        require(caller, "roles", "update", "grants")
        grant = Grant.objects.filter(pk=number, revoked_at=None, ends_at__gt=timezone.now()).first()
        if grant is None:
            raise NotFound(f"there is no grant {number} that lasts")
        with transaction.atomic():
            grant.revoked_at, grant.is_closed = timezone.now(), True
            grant.save(update_fields=["revoked_at", "is_closed"])
            access_changed("grant", str(grant.pk), grant_json(grant))
            audit.record(caller.name, "revoke-grant", "grant", str(grant), grant=grant.pk)
        return Response({})


def close_grants() -> int:
    """Write the event of every grant that has ended by itself."""
    closed = 0
    for grant in Grant.objects.filter(
        is_closed=False, revoked_at=None, ends_at__lte=timezone.now()
    ):
        with transaction.atomic():
            if Grant.objects.filter(pk=grant.pk, is_closed=False).update(is_closed=True):
                audit.record(
                    "hub",
                    "grant-ended",
                    "grant",
                    f"{grant.subject} {grant.resource} {grant.action} {grant.object}",
                    grant=grant.pk,
                )
                closed += 1
    return closed


class Explain(View):
    """`/flotilla/explain`: which rule allows or refuses something to somebody."""

    permission = ("accounts", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Explain `resource`, `action`, `object` for the caller, or for `account` or `subject`."""
        caller = actor(request)
        resource, action, name = question(request)
        where = where_of(resource, name) if decide(caller, resource, "get", name).allowed else None
        account, subject = (
            request.query_params.get("account", ""),
            request.query_params.get("subject", ""),
        )
        if account or subject:
            require(caller, "roles", "get", "*")
            where = where_of(resource, name)
        if account:
            known = Q(name=account) | Q(email=account, email_verified=True)
            found = Account.objects.filter(known).order_by("issuer").first()
            if found is None:
                raise NotFound(f"there is no account {account!r}")
            caller = access.caller_of(found)
            decision = decide(caller, resource, action, name, where)
            subjects = list(caller.subjects)
        elif subject:
            subjects = [subject, *request.query_params.getlist("group")]
            decision = access.enforcer().decide(subjects, resource, action, name, where)
        else:
            subjects = list(caller.subjects)
            decision = decide(caller, resource, action, name, where)
        return Response(explanation(decision, subjects))


def question(request: Request) -> tuple[str, str, str]:
    """Return the resource, action and object that a request asks about.

    Raises: Invalid naming the parameter.
    """
    resource, action, name = (
        request.query_params.get(n, "") for n in ("resource", "action", "object")
    )
    if resource not in RESOURCES:
        raise Invalid(f"resource must be one of {', '.join(RESOURCES)}, not {resource!r}")
    if not action or not name:
        raise Invalid("action and object are required")
    return resource, action, normal_object(resource, name)


def explanation(decision: Decision, subjects: list[str]) -> dict[str, Any]:
    """Return a decision for people: the rule, where it stands, and by which role it came."""
    rule = decision.rule
    return {
        "allowed": decision.allowed,
        "why": decision.why,
        "subjects": subjects,
        "rule": str(rule) if rule else "",
        "origin": rule.origin if rule else "",
        "role": rule.subject if rule else "",
    }


class WhoCan(View):
    """`/flotilla/who-can`: the accounts, groups and roles that may do something."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return who may do `action` to `object` of `resource`."""
        require(actor(request), "roles", "get", "*")
        resource, action, name = question(request)
        return Response(who_can(access.enforcer(), resource, action, name))


def who_can(enforcer: Any, resource: str, action: str, name: str) -> dict[str, Any]:
    """Return the enabled accounts and the other subjects that may."""
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
        if may(access.subjects_of(a))
    ]
    names = {a["account"] for a in accounts}
    return {
        "everybody": everybody and not default & denied,
        "accounts": accounts,
        "subjects": sorted(s for s in allowed - denied if s not in names),
        "deniedSubjects": sorted(denied),
    }
