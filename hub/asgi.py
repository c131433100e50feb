"""ASGI entry point: HTTP by Django, live pages by Channels; `hub.intake` stands before Django."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

_http = get_asgi_application()

# Models load after the application is set up.
from hub.intake import Intake, SameOrigin  # noqa: E402
from projects.api.webhooks import most_event_bytes  # noqa: E402
from projects.consumers import Live  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": Intake(_http, most_event_bytes),
        "websocket": SameOrigin(URLRouter([path("live", Live.as_asgi())])),
    }
)
