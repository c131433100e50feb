"""Pages for sign-in and for the caller's own account, with the same checks as the REST API."""

from typing import Any

from allauth.account.views import LoginView
from django.contrib.auth import logout as end_browser_session
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from hub.access.decisions import Caller, decide
from hub.access.object_names import normal_object
from hub.auth import providers
from hub.auth.accounts import set_password
from hub.auth.api_tokens import revoke_tokens
from hub.auth.sessions import end_sessions
from hub.auth.sign_in import confirm_password, has_second_factor
from hub.base.request_heads import COOKIE
from hub.engine.errors import (
    Invalid,
)
from hub.engine.rbac import RESOURCES
from hub.models import (
    LoginSession,
    current_version,
)
from hub.web.page import Shown, caller_of_page, signed_in


class Login(LoginView):
    """`/login`: sign in with a provider, a local account or a passkey."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the providers."""
        return {**super().get_context_data(**kwargs), "providers": providers.enabled_providers()}


@require_http_methods(["GET", "POST"])
def logout(request: HttpRequest) -> HttpResponse:
    """End the session, in the hub and in the browser."""
    if request.method == "GET":
        return render(request, "account/logout.html")
    caller = caller_of_page(request)
    if caller is not None and caller.session_id:
        end_sessions(LoginSession.objects.filter(pk=caller.session_id), caller.name, "logout")
    end_browser_session(request)
    answer = HttpResponseRedirect("/login")
    answer.delete_cookie(COOKIE, path="/", samesite="Lax")
    return answer


@signed_in
def account(request: HttpRequest, caller: Caller, message: str = "") -> HttpResponse:
    """Show the caller's own rights, sessions, password and tokens."""
    version, own = current_version(), caller.account
    if own is None:
        raise Http404
    ask = {n: request.GET.get(n, "") for n in ("resource", "action", "object")}
    answer = None
    if ask["resource"] in RESOURCES and ask["action"] and ask["object"]:
        found = decide(
            caller, ask["resource"], ask["action"], normal_object(ask["resource"], ask["object"])
        )
        answer = {"allowed": found.allowed, "why": found.why}
    sessions = own.sessions.filter(ended_at=None, expires_at__gt=timezone.now()).order_by(
        "-created_at"
    )
    return render(
        request,
        "account/home.html",
        {
            "section": "account",
            "caller": Shown(caller),
            "account": own,
            "subjects": caller.subjects,
            "sessions": sessions,
            "current": caller.session_id,
            "tokens": own.tokens.filter(revoked_at=None).order_by("-issued_at"),
            "ask": ask,
            "answer": answer,
            "resources": RESOURCES,
            "has_factor": has_second_factor(own),
            "message": message,
            "version": version,
        },
        status=400 if message else 200,
    )


@require_POST
@signed_in
def end_session(request: HttpRequest, caller: Caller, session_id: str) -> HttpResponse:
    """End one of the caller's own sessions."""
    del request
    end_sessions(LoginSession.objects.filter(pk=session_id, account=caller.account), caller.name)
    return HttpResponseRedirect("/account")


@require_POST
@signed_in
def revoke_token(request: HttpRequest, caller: Caller, number: int) -> HttpResponse:
    """Revoke one of the caller's own tokens."""
    del request
    if caller.account is not None:
        revoke_tokens(caller.account.tokens.filter(pk=number), caller.name)
    return HttpResponseRedirect("/account")


@require_POST
@signed_in
def password(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Change the caller's own password, which ends all sessions."""
    own = caller.account
    if own is None or not own.is_local:
        raise Http404
    if not confirm_password(own, request.POST.get("current", "")):
        return HttpResponse(account(request, message="The current password is wrong."))
    try:
        set_password(own, request.POST.get("new", ""), caller.name)
    except Invalid as error:
        return HttpResponse(account(request, message=str(error)))
    return HttpResponseRedirect("/login")
