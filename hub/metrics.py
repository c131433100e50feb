"""Prometheus metrics of the hub, by the names that Argo CD's dashboards know where they fit."""

import threading
import time
from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.conf import settings
from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app, start_http_server

clock = time.monotonic


def serve(port: int) -> None:
    """Answer the metrics of a process that has no web server of its own; port 0 does not.

    They name projects and clusters: to whom sends HUB_METRICS_TOKEN, and without one to this machine only.
    """
    if not port:
        return
    if not settings.METRICS_TOKEN:
        start_http_server(port, addr="127.0.0.1")
        return
    server = make_server("", port, guarded(settings.METRICS_TOKEN), handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def guarded(token: str) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return the WSGI application of the metrics, for who sends the token."""
    inner = make_wsgi_app()

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        given = environ.get("HTTP_AUTHORIZATION", "").encode()
        if not compare_digest(given, f"Bearer {token}".encode()):
            start("401 Unauthorized", [("Content-Type", "text/plain")])
            return [b"the bearer token of HUB_METRICS_TOKEN is needed"]
        return inner(environ, start)  # type: ignore[no-any-return]

    return app


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        """Write no line for each scrape."""


REFRESH = Histogram("argocd_app_reconcile", "Seconds that a refresh took.", ["dest_server"],
                    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60))  # fmt: skip
SET_RECONCILE = Histogram("argocd_appset_reconcile", "Seconds that a look at an application set took.", ["namespace", "name"],
                          buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60))  # fmt: skip
HOST_REQUESTS = Counter("flotilla_host_requests_total", "Requests of generators to hosts.", ["server", "code"])  # fmt: skip
SYNC = Counter(
    "argocd_app_sync_total", "Operations that ended.", ["project", "phase", "dest_server"]
)
QUEUE_DEPTH = Gauge("flotilla_queue_depth", "Tasks that wait in this process.")
QUEUE_LAG = Histogram("flotilla_queue_lag_seconds", "Seconds that a task waited.",
                      buckets=(0.005, 0.05, 0.25, 1, 5, 30, 120))  # fmt: skip
WATCH_EVENTS = Counter("argocd_cluster_events_total", "Watch events received.", ["server"])
WATCH_LAG = Histogram("flotilla_watch_lag_seconds", "Seconds from an event to its row.",
                      buckets=(0.05, 0.1, 0.25, 0.5, 1, 5, 30))  # fmt: skip
KUBE_REQUESTS = Counter(
    "argocd_app_k8s_request_total", "Requests to clusters.", ["server", "verb", "response_code"]
)
RENDER_CACHE = Counter("flotilla_render_cache_total", "Look-ups of rendered manifests.", ["result"])
RENDERS = Counter("flotilla_renders_total", "Manifests rendered.", ["tool"])
RENDERERS_BUSY = Gauge("flotilla_renderers_busy", "Renders and jq paths that run in this process.")
RENDER_WAIT = Histogram("flotilla_render_wait_seconds", "Seconds that a render waited for its turn.",
                        buckets=(0.005, 0.05, 0.25, 1, 5, 30))  # fmt: skip
RENDER_REFUSED = Counter("flotilla_render_refused_total", "Renders put off to be fair to others.", ["reason"])  # fmt: skip
RENDERER_LAYERS = Gauge("flotilla_renderer_layer", "1 when a layer shuts renderers in.", ["layer"])
GIT_REQUESTS = Counter("argocd_git_request_total", "Requests to Git servers.", ["request_type"])
GIT_FAILURES = Counter(
    "argocd_git_fetch_fail_total", "Failed requests to Git servers.", ["request_type"]
)
CLUSTER_STATUS = Gauge(
    "argocd_cluster_connection_status", "1 when the cluster answers.", ["server"]
)
