"""ASGI entry point: HTTP by Django, live pages by Channels, `hub.http` in front of both."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.db import connections
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")

_http = get_asgi_application()
# Each request has its own thread, which ends with it. A database connection that outlived the
# request would be orphaned, and a flood of requests would use up the database server's connections.
connections.settings["default"]["CONN_MAX_AGE"] = 0

# Models can only be imported after the application is set up.
from hub.http.request_limits import Intake, SameOrigin  # noqa: E402
from projects.api.webhooks import max_event_bytes  # noqa: E402
from projects.live_pages.consumers import Live  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": Intake(_http, max_event_bytes),
        "websocket": SameOrigin(URLRouter([path("live", Live.as_asgi())])),
    }
)
