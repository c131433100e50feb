"""The configuration of REST framework: authentication, JSON, errors in grpc-gateway's shape."""

import logging
import threading
from collections.abc import Mapping
from typing import Any

import orjson
from django.core.exceptions import RequestDataTooBig
from django.db import DataError, Error, InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import ANONYMOUS, Caller
from hub.audit import trail
from hub.auth.requests import note_origin, token_of
from hub.auth.verification import verify
from hub.base.redaction import redact_text
from hub.base.request_heads import error_body
from hub.base.yaml_json import to_json
from hub.engine.errors import (
    AccessDenied,
    Conflict,
    EngineError,
    Expired,
    Invalid,
    NotFound,
    Outdated,
    Precondition,
    RetryLater,
    Stalled,
    Unauthenticated,
    Unimplemented,
)
from hub.engine.strict_json import read_json
from hub.http.body_sizes import max_bytes, too_large
from hub.models import setting

log = logging.getLogger(__name__)

MAX_MESSAGE = 10_000
# Large bodies are parsed two at a time: each needs about 25 times its size in memory, and holds the
# interpreter lock.
_SMALL = 256 * 1024
_READING = threading.BoundedSemaphore(2)

# gRPC code and HTTP status, as grpc-gateway pairs them.
_CODES: dict[type[Exception], tuple[int, int]] = {
    Unauthenticated: (16, 401),
    AccessDenied: (7, 403),
    NotFound: (5, 404),
    Outdated: (10, 409),
    Conflict: (6, 409),
    Expired: (11, 410),
    Precondition: (9, 400),
    Invalid: (3, 400),
    EngineError: (3, 400),
    Stalled: (3, 400),
    RetryLater: (14, 503),
    OperationalError: (14, 503),
    InterfaceError: (14, 503),
    DataError: (3, 400),
    RequestDataTooBig: (8, 413),
    Http404: (5, 404),
    Unimplemented: (12, 501),
}
# The database's own message goes to the log only.
_UNAVAILABLE = "the database is busy or does not answer: try again"
_OF_DATABASE = {
    OperationalError: _UNAVAILABLE,
    InterfaceError: _UNAVAILABLE,
    DataError: "a text or number of the request is too long to be kept: shorten it",
}
_BY_STATUS = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 406: 3, 415: 3, 429: 8}


class TokenAuthentication(BaseAuthentication):
    """Accepts the hub's own tokens."""

    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        """Return the caller of a request; without a token it is anonymous."""
        note_origin(request._request)
        token = token_of(request)
        if not token:
            return (ANONYMOUS, ANONYMOUS) if setting("anonymous", default=False) is True else None
        caller = verify(token)
        trail.who.set(caller.as_record())
        return caller, caller

    def authenticate_header(self, _request: Request) -> str:
        """Return the scheme, so that the response is 401."""
        return "Bearer"


class SignedIn(BasePermission):
    """Requires a session."""

    def has_permission(self, request: Request, _view: Any) -> bool:
        """Return whether the caller is signed in."""
        if request.user is None:
            raise Unauthenticated("no session information")
        return True


class JSONParser(BaseParser):
    """Reads a JSON body of any shape; an empty body is an empty object."""

    media_type = "application/json"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the value of the body."""
        del media_type
        body = read_body(stream, parser_context)
        if not body.strip():
            return {}
        if len(body) <= _SMALL:
            return read_json(body)
        with _READING:
            return read_json(body)


def read_body(stream: Any, context: Mapping[str, Any] | None) -> bytes:
    """Return the bytes of a request's body, up to the sender's limit.

    `hub.http.request_limits` refuses longer ones before they are received; this check holds where
    that is not in front, and covers lengths that are unknown there.
    Raises: RequestDataTooBig.
    """
    request = (context or {}).get("request")
    signed_in = request is None or request.user is not None
    maximum = max_bytes(request.path if request is not None else "", signed_in=signed_in)
    body: bytes = stream.read(maximum + 1)
    if len(body) > maximum:
        raise RequestDataTooBig(too_large(maximum, signed_in=signed_in))
    return body


class JSONRenderer(BaseRenderer):
    """Writes JSON; bytes stay as they are."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        """Return the bytes of a response."""
        del accepted_media_type, renderer_context
        if isinstance(data, bytes):
            return data
        return b"{}" if data is None else to_json(data)


class AlwaysJSON(BaseContentNegotiation):
    """Responds with JSON whatever a client accepts: streams read the header themselves."""

    def select_parser(self, _request: Request, parsers: Any) -> Any:
        """Return the JSON parser."""
        return parsers[0]

    def select_renderer(self, _request: Request, renderers: Any, _suffix: str | None = None) -> Any:
        """Return the JSON renderer."""
        return renderers[0], renderers[0].media_type


def code_of(error: Exception) -> tuple[int, int] | None:
    """Return the gRPC code and HTTP status of a known error, None for a bug."""
    for kind, codes in _CODES.items():
        if isinstance(error, kind):
            return codes
    return None


def _message(error: Exception) -> str:
    # Many messages quote the request: a response must not be as long as a body.
    return redact_text(str(error)[:MAX_MESSAGE] or type(error).__name__)


_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


def _note_refusal(error: Exception, context: Any) -> None:
    """Record the refusal in the audit trail."""
    request, view = context.get("request"), context.get("view")
    # An unknown caller was not refused by a rule.
    caller = getattr(request, "_user", None)
    if not isinstance(caller, Caller):
        return
    resource, action = getattr(view, "permission", ("", ""))
    named = action if action not in ("get", "public", "signed-in", "") else ""
    name = "/".join(str(v) for v in (context.get("kwargs") or {}).values())
    subject = trail.Subject(named or _VERBS.get(request.method or "", ""), resource, name)
    trail.record_error(error, caller.name, subject)


def answer_error(error: Exception, context: Any) -> Response:
    """Turn an exception into a response; unknown ones are logged and shown as internal."""
    codes = code_of(error)
    _note_refusal(error, context)
    if isinstance(error, Error):
        log.warning(
            "the database refused what %s wanted",
            type(context.get("view")).__name__,
            exc_info=error,
        )
        if codes is not None:
            return Response(
                error_body(codes[0], _OF_DATABASE.get(type(error), "the database refuses it")),
                status=codes[1],
            )
    if codes is not None:
        return Response(error_body(codes[0], _message(error)), status=codes[1])
    if isinstance(error, exceptions.UnsupportedMediaType):
        return Response(error_body(3, "Invalid content type: send application/json"), status=415)
    if isinstance(error, exceptions.APIException):
        message = (
            str(error.detail)
            if isinstance(error.detail, str)
            else orjson.dumps(error.detail, default=str).decode()
        )
        return Response(
            error_body(_BY_STATUS.get(error.status_code, 2), message), status=error.status_code
        )
    log.error("internal error in %s", type(context.get("view")).__name__, exc_info=error)
    return Response(error_body(13, "internal error"), status=500)
