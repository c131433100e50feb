"""`manage.py up`: everything in one process.

It migrates the database, creates the first account, and starts the web server, the workers, the
timer and the watcher (`hub.embedded`); also the sandbox clusters that a demonstration stored.
"""

import fcntl
import os
import socket
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub.base import private_files


class Command(BaseCommand):
    """Migrate, create `admin`, and run web, workers, timer and watcher."""

    help = "Run the whole hub in one process on embedded defaults."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--host", default="127.0.0.1", help="Address to listen on (default 127.0.0.1)."
        )
        parser.add_argument(
            "--port", type=int, default=8000, help="Port to listen on (default 8000)."
        )
        parser.add_argument(
            "--data", help="Folder for database, keys and repositories (default .flotilla)."
        )
        parser.add_argument(
            "--demo", action="store_true", help="Seed two sandbox clusters and four applications."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        del args
        self._use_folder(options)
        if not settings.EMBEDDED:
            raise CommandError(
                "up runs the embedded shape; with HUB_MODE=production start web, worker, beat "
                "and watcher (see docs/running.md)"
            )
        folder = Path(settings.DATA_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        private_files.tighten(folder)
        self._hold(folder)
        self._check_port(str(options["host"]), int(options["port"]))
        call_command("migrate", verbosity=0, interactive=False)
        self._run(folder, str(options["host"]), int(options["port"]), demo=bool(options["demo"]))

    def _use_folder(self, options: dict[str, Any]) -> None:
        # The settings are loaded before the command line: start again with the folder in the
        # environment.
        wanted = options["data"]
        if wanted and Path(wanted).absolute() != Path(settings.DATA_DIR):
            os.environ["HUB_DATA_DIR"] = str(Path(wanted).absolute())
            os.environ["HUB_ALLOWED_HOSTS"] = os.environ.get(
                "HUB_ALLOWED_HOSTS", ",".join(settings.ALLOWED_HOSTS)
            )
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606

    def _hold(self, folder: Path) -> None:
        # The open file holds the lock as long as the process lives.
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(
                f"another hub runs on {folder}: stop it, or name another folder with --data"
            ) from error

    def _check_port(self, host: str, port: int) -> None:
        if not 0 < port < 65536:
            raise CommandError(f"--port must be between 1 and 65535, not {port}")
        try:
            family, _kind, _protocol, _name, address = socket.getaddrinfo(  # noqa: TID251
                host, port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise CommandError(
                f"{host}:{port} is not available ({error.strerror}): "
                "choose another with --host and --port"
            ) from error

    def _run(self, folder: Path, host: str, port: int, *, demo: bool) -> None:
        from hub import demo as demonstration
        from hub.embedded import Embedded
        from projects.objects.specs import default_project, home_cluster

        if host not in ("127.0.0.1", "localhost", "::1"):
            settings.ALLOWED_HOSTS.append(host if host not in ("0.0.0.0", "::") else "*")  # noqa: S104
        home_cluster()
        default_project()
        password = demonstration.make_admin(folder)
        hub = Embedded(host, port)
        hub.start()
        sandboxes = (
            demonstration.make_sandboxes(folder) if demo else demonstration.start_sandboxes(folder)
        )
        if demo:
            demonstration.seed(folder)
            hub.watcher.claim_now()
        hub.on_ready(lambda: self._ready(host, port, password))
        try:
            hub.serve()
        finally:
            hub.stop()
            if sandboxes:
                sandboxes.stop()

    def _ready(self, host: str, port: int, password: Path) -> None:
        shown = host if host != "0.0.0.0" else "127.0.0.1"  # noqa: S104
        self.stdout.write(f"ready http://{shown}:{port}")
        where = (
            f"its password is in {password}"
            if password.exists()
            else "with the password that was set"
        )
        self.stdout.write(f"sign in as admin; {where}")
        self.stdout.flush()
