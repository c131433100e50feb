"""REST API of the OpenPGP keys that commits may be signed with."""

from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import hide, is_allowed, reach, require
from hub.audit import trail
from hub.engine.errors import Invalid
from hub.engine.source_integrity import key_name
from hub.models import change_setting, locked_setting
from hub.rest.lists import arranged
from hub.rest.views import View, actor, body_map
from projects.models import Application
from projects.refreshing.triggers import mark_refresh_due
from projects.sources.signatures import SETTING, Key, known_keys, read_keys


def key_json(key: Key, *, whole: bool = False) -> dict[str, Any]:
    """Return a key in Argo CD's format."""
    found = {
        "keyID": key.key_id,
        "fingerprint": key.fingerprint,
        "owner": key.owner,
        "trust": "unknown",
    }
    return {**found, **({"keyData": key.armored} if whole else {})}


class Keys(View):
    """`/gpgkeys`: list, add and remove keys."""

    permission = ("gpgkeys", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List the keys."""
        caller, wanted = actor(request), key_name(request.query_params.get("keyID"))
        shown = [
            read_keys(text)[0]
            for name, text in sorted(known_keys().items())
            if wanted in ("", name) and is_allowed(caller, "gpgkeys", "get", name)
        ]
        answer = {"items": [key_json(k) for k in shown], "metadata": {}}
        return Response(arranged(request, answer, {"id": "keyID", "owner": "owner"}, ["keyID"]))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Add the keys of `{keydata}`; known keys are skipped."""
        caller = actor(request)
        if not reach(caller, "gpgkeys", "create").allow:
            raise hide(caller, "gpgkeys", "create", "")
        text = body_map(request).get("keydata")
        if not isinstance(text, str) or len(text) > 1_000_000:
            raise Invalid("keydata is required: a public key in ASCII form")
        found = read_keys(text)
        for key in found:
            require(caller, "gpgkeys", "create", key.key_id)
        with transaction.atomic():
            known = locked_setting(SETTING, {})
            fresh = [k for k in found if k.key_id not in known]
            change_setting(SETTING, {**known, **{k.key_id: k.armored for k in fresh}})
            for key in fresh:
                trail.record(caller.name, "create", "gpgkey", key.key_id, owner=key.owner)
            mark_refresh_due(Application.objects.values_list("pk", flat=True))
        return Response(
            {
                "created": {"items": [key_json(k) for k in fresh]},
                "skipped": [k.key_id for k in found if k not in fresh],
            }
        )

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request) -> Response:
        """Remove the key `keyID`: commits signed with it are no longer accepted."""
        caller, name = actor(request), key_name(request.query_params.get("keyID"))
        known = known_keys()
        if name not in known or not is_allowed(caller, "gpgkeys", "get", name):
            raise hide(caller, "gpgkeys", "delete", name)
        require(caller, "gpgkeys", "delete", name)
        with transaction.atomic():
            kept = {k: v for k, v in locked_setting(SETTING, {}).items() if k != name}
            change_setting(SETTING, kept)
            trail.record(caller.name, "delete", "gpgkey", name)
            mark_refresh_due(Application.objects.values_list("pk", flat=True))
        return Response({})


class OneKey(View):
    """`/gpgkeys/{keyID}`: one key with its data."""

    permission = ("gpgkeys", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, key_id: str) -> Response:
        """Return a key."""
        caller, name = actor(request), key_name(key_id)
        text = known_keys().get(name)
        if text is None or not is_allowed(caller, "gpgkeys", "get", name):
            raise hide(caller, "gpgkeys", "get", name)
        return Response(key_json(read_keys(text)[0], whole=True))
