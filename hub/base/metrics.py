"""Prometheus metrics of the hub, named as Argo CD's dashboards expect where they match."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.conf import settings
from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app, start_http_server
from prometheus_client.exposition import ThreadingWSGIServer

clock = time.monotonic
MAX_SCRAPES = 16
SCRAPE_SECONDS = 10.0


def serve(port: int) -> None:
    """Serve the metrics of a process that has no web server of its own; port 0 disables them.

    They name projects and clusters, so they need HUB_METRICS_TOKEN, or a request from this machine
    when no token is set.
    """
    if not port:
        return
    if not settings.METRICS_TOKEN:
        start_http_server(port, addr="127.0.0.1")
        return
    server = listening(port, settings.METRICS_TOKEN)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def listening(port: int, token: str) -> WSGIServer:
    """Return the metrics server for clients with the token; slow clients do not block others."""
    return make_server("", port, guarded(token), server_class=_Server, handler_class=_Quiet)


def guarded(token: str) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return the WSGI application of the metrics, for clients with the token."""
    inner = make_wsgi_app()

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        given = environ.get("HTTP_AUTHORIZATION", "").encode()
        if not compare_digest(given, f"Bearer {token}".encode()):
            start("401 Unauthorized", [("Content-Type", "text/plain")])
            return [b"the bearer token of HUB_METRICS_TOKEN is needed"]
        return inner(environ, start)  # type: ignore[no-any-return]

    return app


class _Server(ThreadingWSGIServer):
    """Handles a limited number of connections at once, and closes further ones."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._places = threading.BoundedSemaphore(MAX_SCRAPES)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(timeout=SCRAPE_SECONDS / 10):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        late = threading.Timer(SCRAPE_SECONDS, _hang_up, [request])
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing: a client that disconnects is not an error of the hub."""


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
        """Write no line for each scrape."""


REFRESH = Histogram(
    "argocd_app_reconcile",
    "Seconds that a refresh took.",
    ["dest_server"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60),
)
SET_RECONCILE = Histogram(
    "argocd_appset_reconcile",
    "Duration of an application set's reconciliation in seconds.",
    ["namespace", "name"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60),
)
HOST_REQUESTS = Counter(
    "flotilla_host_requests_total", "Requests of generators to hosts.", ["server", "code"]
)
SYNC = Counter(
    "argocd_app_sync_total", "Operations that ended.", ["project", "phase", "dest_server"]
)
LIVE_CLOSED = Counter("flotilla_live_closed_total", "Live pages that the hub closed.", ["reason"])
QUEUE_DEPTH = Gauge("flotilla_queue_depth", "Tasks that wait in this process.")
QUEUE_LAG = Histogram(
    "flotilla_queue_lag_seconds",
    "Seconds that a task waited.",
    buckets=(0.005, 0.05, 0.25, 1, 5, 30, 120),
)
WATCH_EVENTS = Counter("argocd_cluster_events_total", "Watch events received.", ["server"])
WATCH_LAG = Histogram(
    "flotilla_watch_lag_seconds",
    "Seconds from an event to its row.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
KUBE_REQUESTS = Counter(
    "argocd_app_k8s_request_total", "Requests to clusters.", ["server", "verb", "response_code"]
)
DRY_RUNS = Counter(
    "flotilla_dry_runs_total",
    "Dry runs of comparisons and syncs on API servers.",
    ["server", "reason"],
)
DRY_RUN_CACHE = Counter(
    "flotilla_dry_run_answers_total",
    "Dry runs that an earlier answer spared.",
    ["server", "reason"],
)
RENDER_CACHE = Counter("flotilla_render_cache_total", "Look-ups of rendered manifests.", ["result"])
RENDERS = Counter("flotilla_renders_total", "Manifests rendered.", ["tool"])
RENDERERS_BUSY = Gauge("flotilla_renderers_busy", "Renders and jq paths that run in this process.")
RENDER_WAIT = Histogram(
    "flotilla_render_wait_seconds",
    "Seconds that a render waited for its turn.",
    buckets=(0.005, 0.05, 0.25, 1, 5, 30),
)
RENDER_REFUSED = Counter(
    "flotilla_render_refused_total", "Renders refused by the fair queue.", ["reason"]
)
RENDERER_LAYERS = Gauge(
    "flotilla_renderer_layer", "1 if the confinement layer is active.", ["layer"]
)
GIT_REQUESTS = Counter("argocd_git_request_total", "Requests to Git servers.", ["request_type"])
GIT_FAILURES = Counter(
    "argocd_git_fetch_fail_total", "Failed requests to Git servers.", ["request_type"]
)
CLUSTER_STATUS = Gauge(
    "argocd_cluster_connection_status", "1 when the cluster answers.", ["server"]
)
