"""ASGI entry point: HTTP by Django, live pages by Channels."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

_http = get_asgi_application()

from projects.consumers import Live  # noqa: E402 - models load after the application is set up

application = ProtocolTypeRouter({
    "http": _http,
    "websocket": AllowedHostsOriginValidator(URLRouter([path("live", Live.as_asgi())])),
})  # fmt: skip
