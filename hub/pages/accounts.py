"""Pages of accounts, sessions, roles, grants and notices, checked like the REST API."""

from typing import Any

from django.db.models import Count, Max, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from hub.access import decisions
from hub.access.decisions import Caller, decide, enforcer, is_allowed, reach, require, where_of
from hub.access.explain import who_can
from hub.access.object_names import normal_object
from hub.access.roles import save_role
from hub.engine.rbac import ACTIONS, RESOURCES, unknown_roles
from hub.models import Account, ApiToken, Grant, LoginSession, Role, current_version
from hub.web.page import Shown, posted, signed_in, stored_notices


@require_GET
@signed_in
def accounts(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the accounts that the caller may see, with their sessions."""
    if not reach(caller, "accounts", "update").allow:
        raise Http404
    words = request.GET.get("q", "").strip()[:200]
    query = Account.objects.order_by("name")
    for word in words.split():
        query = query.filter(
            Q(name__icontains=word) | Q(email__icontains=word) | Q(provider__icontains=word)
        )
    now, version = timezone.now(), current_version()
    query = query.annotate(
        open=Count(
            "sessions",
            filter=Q(sessions__ended_at=None, sessions__expires_at__gt=now),
            distinct=True,
        ),
        keys=Count("tokens", filter=Q(tokens__revoked_at=None), distinct=True),
        last=Max("sessions__last_used_at"),
    )
    rows = [a for a in query[:1000] if is_allowed(caller, "accounts", "get", a.name)]
    sessions = (
        LoginSession.objects.filter(ended_at=None, expires_at__gt=now)
        .select_related("account")
        .order_by("-created_at")[:500]
    )
    tokens = (
        ApiToken.objects.filter(revoked_at=None)
        .select_related("account")
        .order_by("-issued_at")[:500]
    )
    return render(
        request,
        "settings/accounts.html",
        {
            "section": "accounts",
            "caller": Shown(caller),
            "rows": rows[:200],
            "count": len(rows),
            "q": words,
            "current": caller.session_id,
            "version": version,
            "sessions": [
                s for s in sessions if is_allowed(caller, "accounts", "get", s.account.name)
            ],
            "tokens": [t for t in tokens if _sees(caller, t)],
            "may_create": bool(reach(caller, "accounts", "create").allow),
        },
    )


def _sees(caller: Caller, token: ApiToken) -> bool:
    if token.account is not None:
        return is_allowed(caller, "accounts", "get", token.account.name)
    return is_allowed(caller, "projects", "get", token.project)


@require_GET
@signed_in
def account_dialog(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the dialog to create or edit a local account."""
    name = request.GET.get("name", "")
    if not name:
        if not reach(caller, "accounts", "create").allow:
            raise Http404
        return render(request, "settings/account.html", {})
    require(caller, "accounts", "update", name)
    row = Account.objects.filter(name=name).first()
    if row is None:
        raise Http404
    return render(
        request,
        "settings/account.html",
        {"row": row, "may_delete": is_allowed(caller, "accounts", "delete", name)},
    )


@require_GET
@signed_in
def roles(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show global roles, policy documents and grants, and who may do something."""
    require(caller, "roles", "get", "*")
    version, policy = current_version(), enforcer().policy
    members: dict[str, list[str]] = {}
    for member, role in policy.links:
        members.setdefault(role, []).append(member)
    grants = Grant.objects.filter(revoked_at=None, ends_at__gt=timezone.now()).order_by("ends_at")
    documents = decisions.stored_documents()
    return render(
        request,
        "settings/roles.html",
        {
            "section": "roles",
            "caller": Shown(caller),
            "roles": [
                {"r": r, "members": members.get(r.name, [])} for r in Role.objects.order_by("name")
            ],
            "grants": grants,
            "documents": [(k, v) for k, v in sorted(documents.items()) if k.endswith(".csv")],
            "default": documents.get("policy.default", ""),
            "problems": [f"{p.origin}: {p.message}" for p in decisions.broken_rules()],
            "unknown": unknown_roles(policy),
            "resources": RESOURCES,
            "actions": ACTIONS,
            "may": is_allowed(caller, "roles", "update", "*"),
            "version": version,
            **_answered_question(request),
        },
    )


def _answered_question(request: HttpRequest) -> dict[str, Any]:
    ask = {
        n: request.GET.get(n, "").strip()[:300] for n in ("action", "resource", "object", "subject")
    }
    if not ask["action"] or ask["resource"] not in RESOURCES or not ask["object"]:
        return {"ask": ask}
    about = normal_object(ask["resource"], ask["object"])
    answer: dict[str, Any] = {
        "ask": ask,
        "who": who_can(enforcer(), ask["resource"], ask["action"], about),
    }
    if ask["subject"]:
        where = where_of(ask["resource"], about)
        account = Account.objects.filter(name=ask["subject"]).first()
        said = (
            decide(decisions.caller_of(account), ask["resource"], ask["action"], about, where)
            if account
            else enforcer().decide([ask["subject"]], ask["resource"], ask["action"], about, where)
        )
        answer |= {"said": said, "whom": ask["subject"]}
    return answer


@require_GET
@signed_in
def role_dialog(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the dialog of a global role: its rules and members."""
    require(caller, "roles", "update", "*")
    name = request.GET.get("name", "")
    row = Role.objects.filter(name=name).first()
    if name and row is None:
        raise Http404
    rules = (
        [
            (r["resource"], r["action"], r["object"], r["effect"], r.get("clusters") or "")
            for r in row.rules
        ]
        if row
        else [("applications", "get", "*/*", "allow", "")]
    )
    return render(
        request,
        "settings/role.html",
        {
            "row": row,
            "rules": rules,
            "resources": RESOURCES,
            "members": "\n".join(row.members) if row else "",
        },
    )


@posted
def change_role(request: HttpRequest, caller: Caller) -> str:
    """Create or replace a global role."""
    name = request.POST.get("name", "").strip()
    require(caller, "roles", "update", name)
    fields = ("effect", "action", "resource", "object", "clusters")
    columns = [[v.strip()[:500] for v in request.POST.getlist(f"policy.{f}")[:500]] for f in fields]
    rules = [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=False) if row[1]]
    members = [
        m.strip() for m in request.POST.get("members", "")[:50_000].splitlines() if m.strip()
    ]
    save_role(
        {
            "name": name,
            "description": request.POST.get("description", "").strip(),
            "rules": rules,
            "members": members,
        },
        caller.name,
    )
    return "/settings/roles"


@require_GET
@signed_in
def grant_dialog(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the dialog to grant a temporary right."""
    require(caller, "roles", "update", "grants")
    return render(request, "settings/grant.html", {"resources": RESOURCES})


@require_GET
@signed_in
def banner(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Return the notices at the top of every page."""
    return render(request, "parts/notices.html", {"caller": Shown(caller)})


@require_GET
@signed_in
def notices(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the page of notices."""
    require(caller, "settings", "get", "notices")
    return render(
        request,
        "settings/notices.html",
        {
            "section": "notices",
            "caller": Shown(caller),
            "items": stored_notices(),
            "may": is_allowed(caller, "settings", "update", "notices"),
        },
    )
