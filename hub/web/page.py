"""Base of every page: caller, layout, and responses to dialogs."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
)
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_POST

from hub.access.decisions import Caller, is_allowed, reach
from hub.audit import trail
from hub.auth.requests import note_origin, token_of
from hub.auth.verification import verify
from hub.base.redaction import redact_text
from hub.base.redirects import own_path, path_of
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
from hub.models import (
    setting,
)

_STATUS: dict[type[Exception], int] = {AccessDenied: 403, NotFound: 404, Conflict: 409}
Page = Callable[..., HttpResponse]


@dataclass(frozen=True, slots=True)
class Shown:
    """The caller, for the layout of a page."""

    caller: Caller

    @property
    def name(self) -> str:
        """The displayed name."""
        return self.caller.name

    @property
    def initials(self) -> str:
        """Two initials."""
        return self.caller.name[:2]

    @property
    def notices(self) -> list[dict[str, Any]]:
        """Notices for everybody, at the top of every page."""
        return shown_notices(timezone.now())

    @property
    def may(self) -> dict[str, bool]:
        """The entries of the navigation that the caller may open."""
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
    """Return the valid notices."""
    return [
        n for n in setting("notices", []) if isinstance(n, dict) and isinstance(n.get("text"), str)
    ]


def shown_notices(now: datetime) -> list[dict[str, Any]]:
    """Return the current notices, with `ends_at` where they expire."""
    found = []
    for notice in stored_notices():
        until = parse_datetime(str(notice.get("until") or ""))
        ends_at = until if until is None or until.tzinfo else until.replace(tzinfo=UTC)
        if ends_at is None or ends_at > now:
            found.append({**notice, "ends_at": ends_at})
    return found


def caller_of_page(request: HttpRequest) -> Caller | None:
    """Return the caller of a page, by the session cookie."""
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
    trail.who.set(caller.as_record())
    return caller


def signed_in(view: Page) -> Page:
    """Require an account to see a page; others are redirected to sign in.

    A refusal looks like a page that does not exist.
    """

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
    trail.record_error(error, caller.name, trail.Subject(verb, "page"))


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """Redirect to sign in and back; a request for a part of a page reloads the whole."""
    if "HX-Request" not in request.headers:
        back = own_path(request.get_full_path())
        return HttpResponseRedirect("/login?" + urlencode({"next": back}))
    back = path_of(request.headers.get("HX-Current-URL", ""))
    answer = HttpResponse(status=204)
    answer["HX-Redirect"] = "/login?" + urlencode({"next": back})
    return answer


def posted(view: Callable[..., str | dict[str, str]]) -> Page:
    """Handle a dialog's form: the view returns where to continue, or a message.

    Errors are shown in the dialog.
    """

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
    """Return an empty response, which replaces a closed part of a page."""
    return HttpResponse("")
