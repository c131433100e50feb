"""REST of accounts, their tokens and sessions, and of the caller's permissions."""

from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import decide, enforcer, hide, is_allowed, require, where_of
from hub.access.object_names import normal_object
from hub.auth import accounts, api_tokens, passwords, sessions, sign_in
from hub.engine.errors import AccessDenied, Invalid, Protected
from hub.engine.rbac import ACTIONS, RESOURCES
from hub.models import Account, ApiToken, LoginSession, setting
from hub.rest.lists import arranged
from hub.rest.views import View, actor, asked, body_map, must_agree, named_account, text_at


def get_account(request: Request, name: str, action: str = "get") -> Account:
    """Return an account if the caller may do `action` to it; absent and forbidden look the same."""
    caller = actor(request)
    found = Account.objects.filter(name=name).first()
    if found is None or not is_allowed(caller, "accounts", "get", name):
        raise hide(caller, "accounts", action, name)
    if action != "get":
        require(caller, "accounts", action, name)
    return found


class Accounts(View):
    """`/account`: the accounts that the caller may see; `/flotilla/accounts` also creates them."""

    permission = ("accounts", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List accounts."""
        caller = actor(request)
        rows = Account.objects.prefetch_related("tokens").order_by("name")
        shown = [a for a in rows if is_allowed(caller, "accounts", "get", a.name)]
        if request.path.endswith("/account"):
            shown = [a for a in shown if a.is_local]
        answer = {"items": [accounts.account_json(a) for a in shown]}
        return Response(arranged(request, answer, {"name": "name", "enabled": "enabled"}, ["name"]))


class CreateAccount(Accounts):
    """`/flotilla/accounts` (ours): list and create."""

    permission = ("accounts", "create")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create a local account: `{name, password, capabilities, enabled}`."""
        name = text_at(asked(request), "name")
        require(actor(request), "accounts", "create", name)
        body = body_map(request)
        if not name:
            raise Invalid("name is required")
        _refuse_known(request, name)
        made = accounts.save_account(
            name,
            actor(request).name,
            must_be_new=True,
            password=body.get("password"),
            enabled=body.get("enabled"),
            capabilities=body.get("capabilities"),
        )
        return Response(accounts.account_json(made))


def _refuse_known(request: Request, name: str) -> None:
    # A new account has the rights that policies give its name: as a group, or as an account that
    # had the name before.
    if enforcer().relevant((name,)):
        require(actor(request), "roles", "update", name)


class OneAccount(View):
    """`/account/{name}`: one account."""

    permission = ("accounts", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return an account."""
        return Response(accounts.account_json(get_account(request, name)))


class ChangeAccount(OneAccount):
    """`/flotilla/accounts/{name}` (ours): update, enable, disable, delete."""

    permission = ("accounts", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def patch(self, request: Request, name: str) -> Response:
        """Update `enabled` or `capabilities`, or set the `password` of another account."""
        get_account(request, name, "update")
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        unknown = set(body) - {"name", "enabled", "capabilities", "password"}
        if unknown:
            raise Invalid(
                f"{min(unknown)} cannot be changed; enabled, capabilities and password can"
            )
        # As in Argo CD, an account may always change its own password and tokens, but not its
        # rights.
        if {"enabled", "capabilities", "password"} & set(body) and not _administers(request, name):
            raise AccessDenied("permission denied")
        changed = accounts.save_account(
            name,
            actor(request).name,
            password=body.get("password"),
            enabled=body.get("enabled"),
            capabilities=body.get("capabilities"),
        )
        return Response(accounts.account_json(changed))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str) -> Response:
        """Delete an account; its sessions and tokens end at once."""
        get_account(request, name, "get")
        require(actor(request), "accounts", "delete", name)
        accounts.delete_account(name, actor(request).name)
        return Response({})


def _administers(request: Request, name: str) -> bool:
    """Return whether a rule lets the caller change an account; being the account is not enough."""
    return enforcer().decide(actor(request).subjects, "accounts", "update", name).allowed


class AccountTokens(View):
    """`/account/{name}/token`: create a token."""

    permission = ("accounts", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, name: str) -> Response:
        """Return a new token: `{id, expiresIn}`; it is shown only once."""
        account = get_account(request, name, "update")
        body = body_map(request)
        must_agree(name, body.get("name"), "name")
        token = api_tokens.create_token(
            actor(request).name,
            account=account,
            token_id=body.get("id"),
            seconds=body.get("expiresIn"),
            description=str(body.get("description") or ""),
        )
        return Response({"token": token})


class AccountToken(View):
    """`/account/{name}/token/{id}`: revoke a token."""

    permission = ("accounts", "update")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, name: str, token_id: str) -> Response:
        """Revoke a token; the next request with it is refused."""
        account = get_account(request, name, "update")
        rows = ApiToken.objects.filter(account=account, token_id=token_id)
        if not api_tokens.revoke_tokens(rows, actor(request).name):
            raise Invalid(f"account '{name}' has no token with id '{token_id}'")
        return Response({})


class Password(View):
    """`/account/password`: change a password."""

    permission = ("accounts", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Change a password; all sessions and tokens of the account end."""
        body = body_map(request)
        own = named_account(request)
        name = body.get("name") or own.name
        if not isinstance(name, str):
            raise Invalid("name must be text")
        account = get_account(request, name, "update")
        if own.is_local:
            given = body.get("currentPassword")
            if not isinstance(given, str) or not given:
                # Not a guess: no account has an empty password.
                raise Invalid(
                    "currentPassword is required: it is your own, also for another's account"
                )
            if not sign_in.confirm_password(own, given):
                raise Invalid("current password does not match")
        elif timezone.now() - api_tokens.moment(actor(request).issued_at) > sessions.FAILURE_WINDOW:
            raise Protected("SSO token is too old. Please use 'argocd relogin' to get a new token")
        if not account.is_local:
            raise Invalid(f"{name} signs in by {account.provider}: it has no password here")
        accounts.set_password(
            account, passwords.check_new_password(body.get("newPassword")), actor(request).name
        )
        return Response({})


class CanI(View):
    """`/account/can-i/{resource}/{action}/{subresource}`: whether the caller may."""

    permission = ("accounts", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, resource: str, action: str, name: str) -> Response:
        """Return yes or no."""
        if resource not in RESOURCES:
            raise Invalid(
                f"{resource} is not a valid resource. Valid resources are: {', '.join(RESOURCES)}"
            )
        if action not in ACTIONS:
            raise Invalid(
                f"{action} is not a valid action. Valid actions are: {', '.join(ACTIONS)}"
            )
        if action == "rollback" and setting("enforce_rollback", default=False) is not True:
            action = "sync"
        caller, named = actor(request), normal_object(resource, name)
        # The location of an object matters only for callers that may know the object.
        known = decide(caller, resource, "get", named).allowed
        where = where_of(resource, named) if known else None
        allowed = decide(caller, resource, action, named, where).allowed
        return Response({"value": "yes" if allowed else "no"})


class Sessions(View):
    """`/flotilla/sessions` (ours): current sessions and their addresses."""

    permission = ("accounts", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List your own sessions; with `account` those of another account, `*` for all."""
        wanted = request.query_params.get("account", "")
        rows = LoginSession.objects.filter(
            ended_at=None, expires_at__gt=timezone.now()
        ).select_related("account")
        if not wanted:
            rows = rows.filter(account=named_account(request))
        elif wanted != "*":
            rows = rows.filter(account=get_account(request, wanted))
        caller = actor(request)
        shown = [s for s in rows.order_by("-created_at") if _may_see(request, s)]
        return Response({"items": [session_json(s, caller.session_id) for s in shown]})


def _may_see(request: Request, row: LoginSession) -> bool:
    caller = actor(request)
    return row.account == caller.account or is_allowed(caller, "accounts", "get", row.account.name)


def session_json(row: LoginSession, own: str) -> dict[str, Any]:
    """Return a session's public fields."""
    return {
        "id": str(row.pk),
        "account": row.account.name,
        "username": row.account.shown_name,
        "method": row.method,
        "address": row.address,
        "userAgent": row.user_agent,
        "createdAt": row.created_at,
        "expiresAt": row.expires_at,
        "lastUsedAt": row.last_used_at,
        "current": str(row.pk) == own,
    }


class OneSession(View):
    """`/flotilla/sessions/{id}` (ours): end a session."""

    permission = ("accounts", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, session_id: str) -> Response:
        """End a session; its next request is refused."""
        caller = actor(request)
        row = (
            LoginSession.objects.select_related("account")
            .filter(pk=session_id, ended_at=None)
            .first()
        )
        if row is None or not _may_see(request, row):
            raise hide(caller, "accounts", "update", "")
        if row.account != caller.account:
            require(caller, "accounts", "update", row.account.name)
        sessions.end_sessions(LoginSession.objects.filter(pk=row.pk), caller.name)
        return Response({})


class ApiTokens(View):
    """`/flotilla/tokens` (ours): every token that the caller may see, with its last use."""

    permission = ("accounts", "signed-in")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List tokens of accounts and of project roles."""
        caller = actor(request)
        rows = (
            ApiToken.objects.filter(revoked_at=None)
            .select_related("account")
            .order_by("-issued_at")
        )
        shown = [
            {**api_tokens.token_json(t), "subject": t.subject, "createdBy": t.created_by}
            for t in rows
            if (t.account and is_allowed(caller, "accounts", "get", t.account.name))
            or (t.project and is_allowed(caller, "projects", "get", t.project))
        ]
        return Response({"items": shown})
