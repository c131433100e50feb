"""Pages of sign-in, account, audit trail and identity providers, through the same checks as REST."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import yaml
from allauth.account.views import LoginView
from django.contrib.auth import logout as end_browser_session
from django.db.models import Q
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from hub import audit, oidc, providers, review, trail
from hub.access import Caller, decide, is_allowed, reach, require
from hub.accounts import normal_object
from hub.documents import load_yaml
from hub.engine.errors import (
    AccessDenied,
    Conflict,
    EngineError,
    Invalid,
    NotFound,
    Precondition,
    RetryLater,
    Stalled,
    Unauthenticated,
)
from hub.engine.parsing import parse_digits
from hub.engine.rbac import RESOURCES
from hub.heads import COOKIE
from hub.models import (
    AuditCheckpoint,
    AuditEvent,
    LoginSession,
    SavedView,
    current_version,
    setting,
)
from hub.redaction import redact_text
from hub.redirects import own_path, path_of
from hub.rest import note_origin, token_of
from hub.session import (
    confirm_password,
    end_sessions,
    has_second_factor,
    revoke_tokens,
    set_password,
    verify,
)
from hub.signin import HUB_SESSION, absolute

MOST_NEWER = 99
FILTERS = ("actor", "project", "cluster", "kind", "object", "verb", "outcome", "from", "to")
_STATUS: dict[type[Exception], int] = {AccessDenied: 403, NotFound: 404, Conflict: 409}
Page = Callable[..., HttpResponse]


@dataclass(frozen=True, slots=True)
class Shown:
    """The caller as the frame of a page shows it."""

    caller: Caller

    @property
    def name(self) -> str:
        """The name."""
        return self.caller.name

    @property
    def initials(self) -> str:
        """Two letters."""
        return self.caller.name[:2]

    @property
    def notices(self) -> list[dict[str, Any]]:
        """What everybody is told, above every page."""
        return shown_notices(timezone.now())

    @property
    def may(self) -> dict[str, bool]:
        """What the navigation offers."""
        return {
            "sets": bool(reach(self.caller, "applicationsets", "get").allow),
            "clusters": bool(reach(self.caller, "clusters", "get").allow),
            "projects": bool(reach(self.caller, "projects", "get").allow),
            "repositories": bool(reach(self.caller, "repositories", "get").allow),
            "accounts": bool(reach(self.caller, "accounts", "update").allow),
            "roles": is_allowed(self.caller, "roles", "get", "*"),
            "audit": is_allowed(self.caller, "audit", "get", "events"),
            "settings": is_allowed(self.caller, "settings", "get", "sso"),
        }


def stored_notices() -> list[dict[str, Any]]:
    """Return the notices that can be read."""
    return [
        n for n in setting("notices", []) if isinstance(n, dict) and isinstance(n.get("text"), str)
    ]


def shown_notices(now: datetime) -> list[dict[str, Any]]:
    """Return the notices that are not over, with `ends_at` where they will be."""
    found = []
    for notice in stored_notices():
        until = parse_datetime(str(notice.get("until") or ""))
        ends_at = until if until is None or until.tzinfo else until.replace(tzinfo=UTC)
        if ends_at is None or ends_at > now:
            found.append({**notice, "ends_at": ends_at})
    return found


def caller_of_page(request: HttpRequest) -> Caller | None:
    """Return who looks at a page, by the session cookie."""
    note_origin(request)
    token = token_of(request)
    if not token:
        return None
    try:
        caller = verify(token)
    except Unauthenticated:
        return None
    if not caller.session_id:
        return None
    audit.who.set(caller.as_record())
    return caller


def signed_in(view: Page) -> Page:
    """Let only accounts see a page; others are sent to sign in, and refusals look like nothing is there."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        caller = caller_of_page(request)
        if caller is None or caller.account is None:
            return _to_sign_in(request)
        try:
            return view(request, caller, *args, **kwargs)
        except (AccessDenied, NotFound) as error:
            _note_refusal(error, caller, view)
            raise Http404 from error

    return wrapped


def _note_refusal(error: Exception, caller: Caller, view: Callable[..., Any]) -> None:
    verb = getattr(view, "__name__", "").replace("_", "-")
    audit.record_error(error, caller.name, audit.Subject(verb, "page"))


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """Send a page to sign in and back; what only asked for a part of itself goes as a whole."""
    if "HX-Request" not in request.headers:
        back = own_path(request.get_full_path())
        return HttpResponseRedirect("/login?" + urlencode({"next": back}))
    back = path_of(request.headers.get("HX-Current-URL", ""))
    answer = HttpResponse(status=204)
    answer["HX-Redirect"] = "/login?" + urlencode({"next": back})
    return answer


def posted(view: Callable[..., str | dict[str, str]]) -> Page:
    """Take what a dialog sends: the view returns where to go on, or what to say; what is wrong is said in the dialog."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        caller = caller_of_page(request)
        if caller is None or caller.account is None:
            return JsonResponse({"message": "Sign in again: the session has ended."}, status=401)
        try:
            answer = view(request, caller, *args, **kwargs)
            return JsonResponse({"go": answer} if isinstance(answer, str) else answer)
        except (
            AccessDenied,
            NotFound,
            Invalid,
            Precondition,
            Conflict,
            EngineError,
            Stalled,
            RetryLater,
        ) as error:
            _note_refusal(error, caller, view)
            status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), 400)
            return JsonResponse({"message": redact_text(str(error))}, status=status)

    return require_POST(wrapped)


def nothing(_request: HttpRequest) -> HttpResponse:
    """Answer with nothing: what a page closes is replaced by this."""
    return HttpResponse("")


class Login(LoginView):
    """`/login`: a button for each provider, a local account, a passkey."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the providers."""
        return {**super().get_context_data(**kwargs), "providers": providers.enabled_providers()}


@require_http_methods(["GET", "POST"])
def logout(request: HttpRequest) -> HttpResponse:
    """End the session, here and for its token."""
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
    """Show the own rights, sessions, password and tokens."""
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
    """End one of the own sessions."""
    del request
    end_sessions(LoginSession.objects.filter(pk=session_id, account=caller.account), caller.name)
    return HttpResponseRedirect("/account")


@require_POST
@signed_in
def revoke_token(request: HttpRequest, caller: Caller, number: int) -> HttpResponse:
    """Revoke one of the own tokens."""
    del request
    if caller.account is not None:
        revoke_tokens(caller.account.tokens.filter(pk=number), caller.name)
    return HttpResponseRedirect("/account")


@require_POST
@signed_in
def password(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Change the own password; everybody signs in anew."""
    own = caller.account
    if own is None or not own.is_local:
        raise Http404
    if not confirm_password(own, request.POST.get("current", "")):
        return HttpResponse(account(request, message="The current password is not right."))
    try:
        set_password(own, request.POST.get("new", ""), caller.name)
    except Invalid as error:
        return HttpResponse(account(request, message=str(error)))
    return HttpResponseRedirect("/login")


@signed_in
def trail_page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the trail with its filters."""
    require(caller, "audit", "get", "events")
    params, error = request.GET, ""
    try:
        rows = review.search(params).order_by("-pk")
        if (before := parse_digits(params.get("before", ""))) is not None:
            rows = rows.filter(pk__lt=before)
        events = list(rows[:101])
    except Invalid as problem:
        events, error = [], str(problem)
    places = review.sequences(events)
    kept = QueryDict(mutable=True)
    for name, values in params.lists():
        if name != "before":
            kept.setlist(name, [v for v in values if v])
    query = kept.urlencode()
    older = (
        urlencode({"before": events[99].pk}) + (f"&{query}" if query else "")
        if len(events) > 100
        else ""
    )
    views = SavedView.objects.filter(page="audit").filter(
        Q(owner=caller.account) | Q(is_shared=True)
    )
    unknown = review.unknown_among(events)
    return render(
        request,
        "audit/list.html",
        {
            "section": "audit",
            "caller": Shown(caller),
            "events": [
                review.shown(e, places.get(e.pk), is_open=e.pk in unknown) for e in events[:100]
            ],
            "error": error,
            "fields": [{"name": f, "value": params.get(f, "")} for f in FILTERS],
            "filtered": any(params.get(f) for f in FILTERS),
            "params": {"q": params.get("q", "")},
            "query": query,
            "older": older,
            "proof": setting("audit_verification", {}),
            "newest": (events[0].pk if events else 0)
            if not (error or params.get("before"))
            else None,
            "views": [{"name": v.name, "query": urlencode(v.query, doseq=True)} for v in views],
            "may_export": is_allowed(caller, "audit", "export", "events"),
        },
    )


@require_GET
@signed_in
def newer_events(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Say how many events that fit the filters came after those that a page shows."""
    require(caller, "audit", "get", "events")
    after = parse_digits(request.GET.get("after", ""))
    if after is None:
        raise Http404
    try:
        rows = review.search(request.GET).filter(pk__gt=after)
    except Invalid as problem:
        raise Http404 from problem
    kept = request.GET.copy()
    kept.pop("after", None)
    count = len(rows.values_list("pk", flat=True)[: MOST_NEWER + 1])
    return render(
        request,
        "audit/newer.html",
        {
            "count": min(count, MOST_NEWER),
            "more": count > MOST_NEWER,
            "after": after,
            "query": kept.urlencode(),
        },
    )


@signed_in
def event_page(request: HttpRequest, caller: Caller, uid: str) -> HttpResponse:
    """Show one event whole."""
    require(caller, "audit", "get", "events")
    found = AuditEvent.objects.filter(uid=uid).first()
    if found is None:
        raise Http404
    is_open = bool(review.unknown_among([found]))
    event = review.shown(found, review.sequences([found]).get(found.pk), is_open=is_open)
    facts = [
        (n, event[n])
        for n in (
            "at",
            "actor",
            "address",
            "verb",
            "kind",
            "object",
            "project",
            "cluster",
            "outcome",
            "result",
            "reason",
            "ticket",
            "operation",
        )
        if event.get(n) not in ("", None)
    ]
    facts += [(n, ", ".join(v) if isinstance(v, list) else v) for n, v in event["who"].items()]
    raw = orjson.dumps(event, option=orjson.OPT_INDENT_2).decode()
    return render(
        request,
        "audit/event.html",
        {"section": "audit", "caller": Shown(caller), "event": event, "facts": facts, "raw": raw},
    )


@signed_in
def verification_page(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show what the last check of the chain found, and what signs it."""
    require(caller, "audit", "get", "verification")
    checkpoints = list(AuditCheckpoint.objects.order_by("-sequence")[:50])
    return render(
        request,
        "audit/verification.html",
        {
            "section": "audit",
            "caller": Shown(caller),
            "proof": setting("audit_verification", {}),
            "checkpoints": checkpoints,
            "total": AuditCheckpoint.objects.count(),
            "events": AuditEvent.objects.count(),
            "pem": trail.public_pem(),
            "retention": {**trail.RETENTION, **setting("audit_retention", {})},
        },
    )


@require_POST
@signed_in
def verify_trail(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Check the chain now."""
    del request
    require(caller, "audit", "get", "verification")
    trail.seal()
    review.verification(caller.name)
    return HttpResponseRedirect("/audit/verification")


@require_POST
@signed_in
def save_view(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Keep the present filters."""
    require(caller, "audit", "get", "events")
    query, name = request.POST.get("query", "")[:2000], request.POST.get("name", "")[:100].strip()
    if name and caller.account is not None:
        values = {k: v for k, v in QueryDict(query).lists() if k != "before"}
        SavedView.objects.update_or_create(
            owner=caller.account, page="audit", name=name, defaults={"query": values}
        )
    return HttpResponseRedirect(f"/audit?{query}" if query else "/audit")


@require_http_methods(["GET", "POST"])
@signed_in
def sso_settings(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show and change the identity providers."""
    require(caller, "settings", "get", "sso")
    form, error, done = _form(request.GET.get("edit", "")), "", ""
    if request.method == "POST":
        require(caller, "settings", "update", "sso")
        try:
            done = _change(request, caller)
        except (Invalid, EngineError, oidc.SignInError) as problem:
            error, form = (
                str(problem),
                {**form, **request.POST.dict(), "enabled": "enabled" in request.POST},
            )
    shown = [
        {
            **p.as_json(),
            "facts": [
                (k, v)
                for k, v in p.as_json()["config"].items()
                if k not in ("rootCA", "certificate")
            ],
            "callback": callback_url(request, p),
        }
        for p in providers.all_providers()
    ]
    return render(
        request,
        "settings/sso.html",
        {
            "section": "sso",
            "caller": Shown(caller),
            "providers": shown,
            "form": form,
            "error": error,
            "done": done,
        },
        status=400 if error else 200,
    )


def callback_url(request: HttpRequest, provider: providers.Provider) -> str:
    """Return the URL to register at a provider."""
    if provider.protocol == "saml":
        return absolute(request, reverse("saml_acs", args=[provider.slug]))
    return absolute(request, reverse("sso_callback", args=[provider.slug]))


def _form(slug: str) -> dict[str, Any]:
    found = next(
        (p for p in providers.all_providers() if p.slug == slug and p.origin == "settings"), None
    )
    if found is None:
        return {
            "id": "",
            "name": "",
            "type": "oidc",
            "config": "issuer: https://\nclientID: \nclientSecret: \n",
            "enabled": True,
        }
    shown = found.as_json()
    text = yaml.safe_dump(shown["config"], sort_keys=False)
    return {
        "id": found.slug,
        "name": found.name,
        "type": found.protocol,
        "config": text,
        "enabled": found.enabled,
    }


def _change(request: HttpRequest, caller: Caller) -> str:
    if request.POST.get("delete"):
        providers.delete(request.POST["delete"], caller.name)
        return f"{request.POST['delete']} was removed."
    if request.POST.get("test"):
        return check_provider(request.POST["test"])
    config = load_yaml(request.POST.get("config", ""), "Settings")
    config = (
        {k: v for k, v in config.items() if v not in (None, "")}
        if isinstance(config, dict)
        else config
    )
    saved = providers.save(
        {
            "id": request.POST.get("id"),
            "name": request.POST.get("name"),
            "type": request.POST.get("type"),
            "config": config,
            "enabled": "enabled" in request.POST,
        },
        caller.name,
    )
    return f"{saved.name} was saved."


def check_provider(slug: str) -> str:
    """Return a sentence when a provider answers as it must.

    Raises: SignInError saying what is wrong; NotFound.
    """
    found = next((p for p in providers.all_providers() if p.slug == slug), None)
    if found is None:
        raise NotFound(f"there is no identity provider {slug!r}")
    if found.protocol == "saml":
        return f"{found.name}: its certificate can be read; only a sign-in shows more."
    metadata = oidc.discover(found, fresh=True)
    return f"{found.name} answers as {metadata['issuer']}."


__all__ = ["HUB_SESSION"]
