"""REST of roles and policies (ours): documents, roles, temporary grants, explanations."""

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access import decisions
from hub.access.decisions import decide, grant_json, require, role_json, where_of
from hub.access.explain import explanation, who_can
from hub.access.grants import give
from hub.access.object_names import normal_object
from hub.access.roles import from_csv, role_named, save_role, to_csv
from hub.audit import trail
from hub.engine.errors import Invalid, NotFound
from hub.engine.rbac import RESOURCES, unknown_roles
from hub.models import (
    Account,
    Grant,
    Role,
    access_changed,
    change_setting,
    setting,
)
from hub.rest.views import View, actor, body_map, must_agree


class PolicyDocuments(View):
    """`/flotilla/rbac`: the policy documents, as Argo CD's argocd-rbac-cm."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the documents, and the invalid lines in them."""
        require(actor(request), "roles", "get", "policy")
        value = decisions.stored_documents()
        problems = [f"{p.origin}: {p.message}" for p in decisions.broken_rules()]
        return Response(
            {
                "data": value,
                "problems": problems,
                "unknownRoles": unknown_roles(decisions.enforcer().policy),
            }
        )

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Replace the documents.

        Shapes: `{data: {policy.csv, policy.default, scopes, policy.matchMode}}`.
        """
        caller = actor(request)
        require(caller, "roles", "update", "policy")
        value = body_map(request).get("data")
        problems = decisions.check_documents(value)
        decisions.check_patterns(value)
        before = setting(decisions.SETTING, {})
        with transaction.atomic():
            change_setting(decisions.SETTING, value)
            access_changed("policy", "rbac", value)
            trail.record(caller.name, "update", "rbac", "policy", before=before, after=value)
        return Response({"data": value, "problems": problems})


class Roles(View):
    """`/flotilla/roles`: roles that are stored as objects."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List roles."""
        require(actor(request), "roles", "get", "*")
        return Response({"items": [role_json(r) for r in Role.objects.order_by("name")]})


class OneRole(View):
    """`/flotilla/roles/{name}`: read, write and delete a role."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return a role."""
        require(actor(request), "roles", "get", name)
        return Response(role_json(role_named(name)))

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
        """Delete a role; its members lose the rights with their next request."""
        caller = actor(request)
        require(caller, "roles", "update", name)
        role = role_named(name)
        with transaction.atomic():
            before = role_json(role)
            role.delete()
            access_changed("role", name, None)
            trail.record(caller.name, "delete", "role", name, before=before)
        return Response({})


class RolesCSV(View):
    """`/flotilla/roles-csv`: export and import all roles as policy lines."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the roles as lines; descriptions are comments that an import reads."""
        require(actor(request), "roles", "get", "*")
        return Response({"csv": to_csv([role_json(r) for r in Role.objects.order_by("name")])})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Create roles from policy lines: `{csv}`; roles that the text does not name stay."""
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


class Grants(View):
    """`/flotilla/grants`: temporary rights."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List the current grants; with `all=true` also expired ones."""
        require(actor(request), "roles", "get", "*")
        rows = Grant.objects.order_by("-pk")
        if request.query_params.get("all") != "true":
            rows = rows.filter(revoked_at=None, ends_at__gt=timezone.now())
        return Response({"items": [grant_json(g) for g in rows[:1000]]})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create a grant.

        Shapes: `{subject, resource, action, object, clusters, duration | until, reason, ticket}`.
        """
        caller = actor(request)
        body = body_map(request)
        require(caller, "roles", "update", "grants")
        return Response(grant_json(give(body, caller.name)))


class OneGrant(View):
    """`/flotilla/grants/{id}`: end a grant early."""

    permission = ("roles", "update")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, number: int) -> Response:
        """Revoke a grant."""
        caller = actor(request)
        require(caller, "roles", "update", "grants")
        grant = Grant.objects.filter(pk=number, revoked_at=None, ends_at__gt=timezone.now()).first()
        if grant is None:
            raise NotFound(f"there is no active grant {number}")
        with transaction.atomic():
            grant.revoked_at, grant.is_closed = timezone.now(), True
            grant.save(update_fields=["revoked_at", "is_closed"])
            access_changed("grant", str(grant.pk), grant_json(grant))
            trail.record(caller.name, "revoke-grant", "grant", str(grant), grant=grant.pk)
        return Response({})


class Explain(View):
    """`/flotilla/explain`: the rule that allows or denies an action."""

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
            caller = decisions.caller_of(found)
            decision = decide(caller, resource, action, name, where)
            subjects = list(caller.subjects)
        elif subject:
            subjects = [subject, *request.query_params.getlist("group")]
            decision = decisions.enforcer().decide(subjects, resource, action, name, where)
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


class WhoCan(View):
    """`/flotilla/who-can`: the accounts, groups and roles that may do something."""

    permission = ("roles", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return who may do `action` to `object` of `resource`."""
        require(actor(request), "roles", "get", "*")
        resource, action, name = question(request)
        return Response(who_can(decisions.enforcer(), resource, action, name))
