"""Serve sandbox clusters over HTTP, for the hub and kubectl, as any cluster."""

import asyncio
import contextlib
import logging
import ssl
import tempfile
import threading
from pathlib import Path

from aiohttp import web

from clusters.sandbox.certificate import make_certificate
from clusters.sandbox.requests import Sandbox, failure_response
from clusters.sandbox.store import Failure

log = logging.getLogger(__name__)


class SandboxServer:
    """Several sandboxes behind one listener on loopback, in a thread of their own."""

    def __init__(self, port: int = 0, folder: Path | None = None, pair: str = "") -> None:
        self.port, self.folder, self._pair = port, folder, pair or make_certificate()
        self.certificate = self._pair[self._pair.index("-----BEGIN CERTIFICATE") :]
        self.sandboxes: dict[str, Sandbox] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._wanted: dict[str, str] = {}

    def add(self, name: str, token: str) -> None:
        """Add a sandbox with this name; call before `start`."""
        self._wanted[name] = token

    def url(self, name: str) -> str:
        """Return the server URL of a sandbox."""
        return f"https://127.0.0.1:{self.port}/clusters/{name}"

    def start(self) -> None:
        """Start serving; returns when the port is open.

        Raises: OSError when the port is taken.
        """
        ready = threading.Event()
        failure: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._main(ready))
            except BaseException as error:
                failure.append(error)
                ready.set()

        self._thread = threading.Thread(target=run, name="sandbox", daemon=True)
        self._thread.start()
        ready.wait(20)
        if failure:
            raise failure[0]

    def stop(self) -> None:
        """Save and end."""
        if self._loop and self._stop and self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(8)

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks = []
        for name, token in self._wanted.items():
            path = self.folder / f"sandbox-{name}.json" if self.folder else None
            sandbox = self.sandboxes[name] = Sandbox(name, token, path)
            tasks.append(asyncio.create_task(sandbox.controllers.run()))
        tasks.append(asyncio.create_task(self._keep_saving()))
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/clusters/{name}/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls())
        await site.start()
        sockets = site._server.sockets if site._server else []
        self.port = sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await runner.cleanup()
        self._save()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self._pair)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        sandbox = self.sandboxes.get(request.match_info["name"])
        if sandbox is None:
            return failure_response(Failure(404, "NotFound", "no such sandbox"))
        with contextlib.suppress(ConnectionResetError):
            return await sandbox.handle(request, request.match_info["path"])
        return web.Response(status=499)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._save()

    def _save(self) -> None:
        for sandbox in self.sandboxes.values():
            try:
                sandbox.store.save()
            except OSError:
                log.exception("the state of sandbox %s could not be saved", sandbox.name)
