"""REST API of many applications at once (Flotilla only): each has its own result."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import Caller
from hub.audit import trail
from hub.base.redaction import redact_text
from hub.engine.errors import Invalid, NotFound
from hub.rest.framework import code_of
from hub.rest.views import View, actor, body_map, qualified_name, selector
from projects.access.own_kinds import require_cascade
from projects.access.visibility import visible
from projects.api.applications import permitted
from projects.api.operations import begin_sync, check_windows
from projects.api.refreshes import refresh_kind
from projects.models import Application
from projects.objects import applications
from projects.objects.specs import application_named
from projects.refreshing.refresh import request_refresh

MAX_APPLICATIONS = 1000
_RIGHTS = {"sync": "sync", "refresh": "get", "delete": "delete"}


class Batch(View):
    """`/flotilla/applications/batch`: sync, refresh or delete many applications."""

    permission = ("applications", "signed-in")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Run `action` on `applications` (names, or namespace/name) or on those of `selector`.

        `options` are those of the single action. The answer has `items` of `{name, namespace, ok,
        code, message}`.
        """
        body = body_map(request)
        action, options = body.get("action"), body.get("options") or {}
        if not isinstance(action, str) or action not in _RIGHTS:
            raise Invalid(f"action must be one of {', '.join(_RIGHTS)}")
        if not isinstance(options, dict):
            raise Invalid(
                "options must be an object, as the body or query of the action for one application"
            )
        caller = actor(request)
        names = _chosen(caller, body)
        return Response({"items": [_done(caller, action, name, options) for name in names]})


def _chosen(caller: Caller, body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (namespace, name) of each application that a body selects.

    Raises: Invalid naming the field.
    """
    listed, labels = body.get("applications"), body.get("selector")
    if (listed is None) == (labels is None):
        raise Invalid("give applications, a list of names, or selector, labels such as team=a")
    if labels is not None:
        if not isinstance(labels, str) or not labels.strip():
            raise Invalid("selector must be text such as team=a")
        fits = selector(labels)
        rows = visible(caller).order_by("name", "namespace").only("namespace", "name", "labels")
        names = [(r.namespace, r.name) for r in rows if fits(r.labels)]
    else:
        if not isinstance(listed, list) or not all(isinstance(n, str) and n for n in listed):
            raise Invalid("applications must be a list of names")
        names = [qualified_name(n, "applications") for n in dict.fromkeys(listed)]
    if len(names) > MAX_APPLICATIONS:
        raise Invalid(
            f"{len(names)} applications are more than the {MAX_APPLICATIONS} of one request"
        )
    return names


def _done(
    caller: Caller, action: str, name: tuple[str, str], options: dict[str, Any]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"namespace": name[0], "name": name[1]}
    try:
        _do(caller, action, name, options)
    except Exception as error:
        codes = code_of(error)
        if codes is None:
            raise
        trail.record_error(
            error, caller.name, trail.Subject(action, "applications", "/".join(name))
        )
        return {**entry, "ok": False, "code": codes[0], "message": redact_text(str(error))}
    return {**entry, "ok": True}


def _do(caller: Caller, action: str, name: tuple[str, str], options: dict[str, Any]) -> None:
    found: Application | None
    try:
        found = application_named(*name)
    except NotFound:
        found = None
    row = permitted(caller, found, "/".join(name), _RIGHTS[action])
    if action == "refresh":
        request_refresh(row, refresh_kind(caller, row, options.get("refresh")))
    elif action == "sync":
        check_windows(row)
        begin_sync(caller, row, options)
    else:
        cascade = options.get("cascade", True) is not False
        if cascade:
            require_cascade(caller, row)
        applications.request_deletion(
            row,
            caller.name,
            cascade=cascade,
            propagation=str(options.get("propagationPolicy") or ""),
            confirmed=options.get("confirm") is True,
        )
