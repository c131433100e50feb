"""Base of the REST surface: views, query parameters, selectors, field masks."""

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.access import noted_decisions
from hub.access.decisions import Caller, hide, require_any
from hub.base.redirects import origin_of
from hub.engine.cluster_scopes import split_selector
from hub.engine.errors import AccessDenied, Invalid, Unauthenticated
from hub.engine.parsing import require_integer
from hub.models import Account
from hub.rest import idempotency
from hub.rest.framework import JSONRenderer, read_body


class _AnsweredBefore(Exception):
    """A repeated request, with the first response."""

    def __init__(self, found: idempotency.RepeatedRequest) -> None:
        super().__init__()
        self.found = found


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}


class View(APIView):
    """A view of the REST surface."""

    _claim: idempotency.Claim | None = None
    _allowed: dict[str, list[Any]]
    _watched: contextlib.ExitStack

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Read chunked bodies as well: REST framework treats a body without a length as missing."""
        found = super().initialize_request(request, *args, **kwargs)
        if not request.META.get("CONTENT_LENGTH"):
            found._stream = request  # type: ignore[assignment]
        return found

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse writes with a content type that a form could send (CSRF)."""
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            kind = (request.content_type or "").partition(";")[0].strip()
            if kind != "application/json":
                raise exceptions.UnsupportedMediaType(kind)
            _check_origin(request)
        super().initial(request, *args, **kwargs)
        self._require_any(request)
        self._begin_once(request)

    def _begin_once(self, request: Request) -> None:
        """Answer a repeated request, or prepare to claim the key at the first change."""
        key, caller = request.headers.get("Idempotency-Key", ""), request.user
        if (
            not key
            or request.method == "GET"
            or not isinstance(caller, Caller)
            or caller.is_anonymous
        ):
            return
        path = request.get_full_path()
        found = idempotency.begin(caller, key, request.method or "", path, _whole_body(request))
        if isinstance(found, idempotency.RepeatedRequest):
            if not idempotency.still_allowed(caller, found.allowed):
                resource = getattr(self, "permission", ("", ""))[0]
                raise hide(
                    caller,
                    resource,
                    _VERBS.get(request.method or "", ""),
                    "/".join(map(str, self.kwargs.values())),
                )
            raise _AnsweredBefore(found)
        self._claim, self._allowed = found, noted_decisions.watch()
        idempotency.hold(found)
        self._watched = contextlib.ExitStack()
        self._watched.enter_context(connection.execute_wrapper(found))

    def _require_any(self, request: Request) -> None:
        """Refuse a write without any right to the route's resource, before the body is read."""
        resource, kind = getattr(self, "permission", ("", "public"))
        verb = _VERBS.get(request.method or "")
        if verb is None or resource == "accounts" or kind in ("public", "signed-in"):
            # Policies do not list what accounts may do to themselves.
            return
        names = [str(v) for v in self.kwargs.values()]
        require_any(actor(request), resource, verb, "/".join(names))

    def handle_exception(self, exc: Exception) -> Response:
        """Return the first response to a repeated request."""
        if isinstance(exc, _AnsweredBefore):
            answer = Response(exc.found.body, status=exc.found.status)
            answer["Idempotent-Replayed"] = "true"
            return answer
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Store the response for repetitions of the request."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        claim, self._claim = self._claim, None
        if claim is not None:
            self._watched.close()
            idempotency.hold(None)
            noted_decisions.end()
            data = getattr(answer, "data", None)
            claim.finish(
                answer.status_code, JSONRenderer().render(data), list(self._allowed.values())
            )
        return answer

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        """Report that the caller is not signed in, or lacks permission."""
        del code
        if request.user is None:
            raise Unauthenticated("no session information")
        raise AccessDenied(message or "permission denied")


def _whole_body(request: Request) -> bytes:
    """Return the bytes of a body, and store them for the parser."""
    sent = request._request
    if not hasattr(sent, "_body"):
        sent._body = read_body(sent, {"request": request})
        sent._stream = io.BytesIO(sent._body)
    return sent._body


def _check_origin(request: Request) -> None:
    """Refuse a write from a page of another site, including siblings in the domain."""
    origin = request.headers.get("Origin", "")
    if not origin or (origin == "null" and not request.COOKIES):
        return
    if origin_of(origin)[1] != request.get_host().lower():
        raise AccessDenied("the request comes from a page of another site")


def actor(request: Request) -> Caller:
    """Return the authenticated caller of a request."""
    caller = request.user
    if not isinstance(caller, Caller):
        raise Unauthenticated("no session information")
    return caller


def named_account(request: Request) -> Account:
    """Return the account of a request.

    Raises: AccessDenied for an anonymous caller or a project's token.
    """
    account = actor(request).account
    if account is None:
        raise AccessDenied("only an account can do this, not a project's token")
    return account


def body_map(request: Request, what: str = "the body") -> dict[str, Any]:
    """Return the body if it is an object.

    Raises: Invalid otherwise.
    """
    data = request.data
    if not isinstance(data, dict):
        raise Invalid(f"{what} must be a JSON object, not {type(data).__name__}")
    return data


def asked(request: Request) -> dict[str, Any]:
    """Return the body for an access decision: an empty object if it is not an object.

    The decision comes first; `body_map` reports an invalid body afterwards.
    """
    return request.data if isinstance(request.data, dict) else {}


def namespace_of(request: Request, *names: str, also: Sequence[str] = ()) -> str:
    """Return the namespace of a request's object, by default the hub's own.

    Shapes: `names` are the names of the parameter and of the body's field; `also` is
        the value elsewhere in the body.
    Raises: Invalid when it is given twice and differs.
    """
    given = [v for n in names for v in request.query_params.getlist(n)] + list(also)
    if request.method in ("POST", "PUT", "PATCH"):
        given += [text_at(asked(request), n) for n in names]
    return agreed_namespace(given, names[0])


def agreed_namespace(given: Sequence[str], field: str) -> str:
    """Return the only namespace in a request, by default the hub's own.

    Raises: Invalid when there are two.
    """
    found = sorted({v for v in given if v})
    if len(found) > 1:
        words = " and as ".join(map(repr, found))
        raise Invalid(f"{field} is given as {words}: name one namespace")
    return found[0] if found else settings.NAMESPACE


def placed(body: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return a body whose object is in the namespace that the request names."""
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("namespace"):
        return body
    return {**body, "metadata": {**metadata, "namespace": namespace}}


def qualified_name(text: str, field: str) -> tuple[str, str]:
    """Return (namespace, name) of `name` or `namespace/name`.

    Raises: Invalid for anything else.
    """
    namespace, slash, name = text.partition("/")
    if not slash:
        return settings.NAMESPACE, text
    if not namespace or not name or "/" in name:
        raise Invalid(f"{field}: {text!r} must be a name or namespace/name")
    return namespace, name


def text_at(body: Mapping[str, Any], *path: str) -> str:
    """Return a text field of a body for an access decision, empty if there is none."""
    value: Any = body
    for field in path:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def payload(request: Request) -> Any:
    """Return the body as any JSON value."""
    return request.data


def inner_map(body: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return a field of a body if it is an object, else an empty object."""
    value = body.get(field)
    return value if isinstance(value, dict) else {}


def flag(request: Request, name: str, *, default: bool = False) -> bool:
    """Return a query parameter that is true or false.

    Raises: Invalid naming the parameter.
    """
    value = request.query_params.get(name)
    if value is None or value == "":
        return default
    if value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise Invalid(f"{name} must be true or false, not {value!r}")


def number(request: Request, name: str, default: int = 0) -> int:
    """Return a query parameter that is a whole number.

    Raises: Invalid naming the parameter.
    """
    value = request.query_params.get(name)
    if value is None or value == "":
        return default
    return require_integer(value, name)


def must_agree(path: str, body: Any, field: str) -> None:
    """Raise Invalid when an identifier is given twice and differs."""
    if body not in (None, "", path):
        raise Invalid(f"{field} in the body is {body!r}, but the path says {path!r}")


def project_fields(data: Any, fields: str) -> Any:
    """Return only the dotted paths that `fields` names, or all but those after a leading minus.

    Source: as Argo CD's `fields` parameter.
    """
    if not fields:
        return data
    if fields.startswith("-"):
        return _without(data, [p.split(".") for p in fields[1:].split(",") if p])
    return _only(data, _path_tree(p.split(".") for p in fields.split(",") if p))


def _path_tree(paths: Iterable[list[str]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for step in path[:-1]:
            inner = node.get(step)
            if inner is None and step in node:
                break
            node = node.setdefault(step, {})
        else:
            node[path[-1]] = None
    return tree


def _only(data: Any, tree: dict[str, Any] | None) -> Any:
    if tree is None:
        return data
    if isinstance(data, list):
        return [_only(item, tree) for item in data]
    if isinstance(data, dict):
        return {k: _only(data[k], inner) for k, inner in tree.items() if k in data}
    return data


def _without(data: Any, paths: list[list[str]]) -> Any:
    if isinstance(data, list):
        return [_without(item, paths) for item in data]
    if not isinstance(data, dict):
        return data
    gone = {p[0] for p in paths if len(p) == 1}
    result = {}
    for key, value in data.items():
        if key in gone:
            continue
        inner = [p[1:] for p in paths if len(p) > 1 and p[0] == key]
        result[key] = _without(value, inner) if inner else value
    return result


LONGEST_SELECTOR = 4096
_REQUIREMENT = re.compile(
    r"^([^\s!=(),]+)(?:\s*(=|==|!=)\s*([^\s,()]*)|\s+(in|notin)\s*\(([^)]*)\))?\Z"
)


def selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    """Return a function that tests labels against a Kubernetes label selector.

    Raises: Invalid quoting the part that cannot be read.
    """
    if len(text) > LONGEST_SELECTOR:
        raise Invalid(f"selector is longer than {LONGEST_SELECTOR} characters")
    tests = [_requirement(part) for part in split_selector(text)]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(part: str) -> Callable[[Mapping[str, str]], bool]:
    if part.strip().startswith("!"):
        absent = part.strip()[1:].strip()
        return lambda labels: absent not in labels
    match = _REQUIREMENT.match(part.strip())
    if not match:
        raise Invalid(
            f"selector: {part.strip()!r} cannot be read; "
            "write key=value, key!=value or key in (a,b)"
        )
    key, operator, value, word, values = match.groups()
    if word:
        allowed = {v.strip() for v in values.split(",")}
        if word == "in":
            return lambda labels: labels.get(key) in allowed
        return lambda labels: labels.get(key) not in allowed
    if operator is None:
        return lambda labels: key in labels
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value
