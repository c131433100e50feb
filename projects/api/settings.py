"""REST API of the settings that administrators change at run time (Flotilla only)."""

from collections.abc import Callable
from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.live import forget_scripts
from hub.access.decisions import require
from hub.audit import trail
from hub.engine.errors import Invalid, NotFound
from hub.events.changes import publish
from hub.models import change_setting, setting
from hub.rest.views import View, actor, payload
from projects.models import Application
from projects.refreshing.triggers import mark_refresh_due
from projects.setting_checks import CHECKS

_NO_REFRESH = ("notices", "anonymous", "password_pattern")
"""Settings that do not affect comparisons."""


class SettingView(View):
    """`/flotilla/settings/{name}`: one setting."""

    permission = ("settings", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        """Return the value."""
        require(actor(request), "settings", "get", name)
        return Response({"name": name, "value": setting(name, _known(name)[1])})

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, name: str) -> Response:
        """Replace the value: `{value}`; every application is refreshed."""
        account = actor(request)
        require(account, "settings", "update", name)
        check, _default = _known(name)
        body = payload(request)
        if not isinstance(body, dict) or "value" not in body:
            raise Invalid("value is required")
        check(body["value"])
        before = setting(name, _default)
        with transaction.atomic():
            change_setting(name, body["value"])
            trail.record(
                account.name, "update", "setting", name, before=before, after=body["value"]
            )
            if name not in _NO_REFRESH:
                mark_refresh_due(Application.objects.values_list("pk", flat=True))
            publish()
        forget_scripts()
        return Response({"name": name, "value": body["value"]})


def _known(name: str) -> tuple[Callable[[Any], None], Any]:
    if name not in CHECKS:
        raise NotFound(f"there is no setting {name!r}; there are {', '.join(CHECKS)}")
    return CHECKS[name]
