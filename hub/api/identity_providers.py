"""REST of single sign-on (ours): identity providers, and sessions of the command line."""

from typing import Any

from allauth.idp.oidc.models import Token
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import require
from hub.auth import oidc, provider_setup, providers
from hub.auth.cli_sign_in import CLI_CLIENT
from hub.auth.requests import note_origin
from hub.auth.sessions import begin_session
from hub.engine.errors import Invalid, Precondition, Unauthenticated
from hub.rest.views import View, actor, body_map, must_agree


class Providers(View):
    """`/flotilla/sso/providers`: the identity providers, without secrets."""

    permission = ("settings", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List the providers with the callback URL to register."""
        require(actor(request), "settings", "get", "sso")
        items = [
            {**p.as_json(), "callback": provider_setup.callback_url(request._request, p)}
            for p in providers.all_providers()
        ]
        return Response({"items": items})


class OneProvider(View):
    """`/flotilla/sso/providers/{id}`: write and remove a provider."""

    permission = ("settings", "update")

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, slug: str) -> Response:
        """Create or replace a provider: `{name, type, config, enabled}`.

        A secret that is left out stays as it is.
        """
        caller = actor(request)
        require(caller, "settings", "update", "sso")
        body = body_map(request)
        must_agree(slug, body.get("id"), "id")
        return Response(providers.save({**body, "id": slug}, caller.name).as_json())

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, slug: str) -> Response:
        """Remove a provider."""
        caller = actor(request)
        require(caller, "settings", "update", "sso")
        providers.delete(slug, caller.name)
        return Response({})


class TestProvider(View):
    """`/flotilla/sso/providers/{id}/test`: test a provider."""

    permission = ("settings", "update")

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, slug: str) -> Response:
        """Return a sentence when the provider responds correctly."""
        require(actor(request), "settings", "update", "sso")
        try:
            return Response({"message": provider_setup.check_provider(slug)})
        except oidc.SignInError as error:
            raise Precondition(str(error)) from error


class Exchange(View):
    """`/flotilla/session/exchange`: exchange an access token of the command line for a session."""

    permission = ("session", "public")
    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Return a session token for `{access_token}`, which can be used once."""
        note_origin(request._request)
        text = body_map(request).get("access_token")
        if not isinstance(text, str) or not text:
            raise Invalid("access_token is required")
        found = Token.objects.lookup(Token.Type.ACCESS_TOKEN, text)
        if found is None or found.client_id != CLI_CLIENT or found.user is None:
            raise Unauthenticated("the access token is not valid: sign in again")
        account = found.user
        is_first = Token.objects.filter(pk=found.pk).delete()[0]
        # Other tokens that came with it are not needed, and are deleted as well.
        Token.objects.filter(
            client_id=CLI_CLIENT, user=account, type=Token.Type.REFRESH_TOKEN
        ).delete()
        # A new password invalidates earlier approvals, as it ends sessions.
        is_old = found.created_at < account.password_changed_at
        if not is_first or is_old or not account.may_sign_in:
            raise Unauthenticated("the access token is not valid: sign in again")
        agent = request.headers.get("User-Agent", "")
        return Response({"token": begin_session(account, "cli", user_agent=agent)})
