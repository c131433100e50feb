"""Run programs, bounded in time, memory and output; the only place that starts any."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from hub.engine.errors import Stalled
from hub.redaction import redact_text

OUTPUT_BYTES = 64 * 1024**2
_SAFE_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


class WorkerError(Exception):
    """What a library said about the input that it was given."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    code: int
    output: bytes
    errors: str


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """Yield an empty private folder for the files of one render; it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="render-") as text:
        yield Path(text)


def run(
    argv: Sequence[str], *, folder: Path, timeout: float, owner: str, environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> Finished:  # fmt: skip
    """Run a program in a folder with an almost empty environment, and return how it ended.

    Shapes: `folder` is one of `working_folder`; `owner` is the project that the work is for.
    Units: `timeout` in seconds. Nothing passes through a shell.
    Raises: Stalled when it takes too long, writes too much, or is not installed.
    """
    del owner
    env = {name: os.environ[name] for name in _SAFE_ENVIRONMENT if name in os.environ}
    env |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder), **(environment or {})}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(argv), cwd=folder, env=env, stdin=subprocess.PIPE, stdout=output, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Stalled("ToolMissing", f"{argv[0]} is not installed on the hub") from error
        # Go reserves far more addresses than it uses, so memory stays unlimited and written files are bounded.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (OUTPUT_BYTES * 4, OUTPUT_BYTES * 4))
        try:
            process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Stalled(
                "Timeout", f"{Path(argv[0]).name} took longer than {timeout:.0f} s and was stopped"
            ) from error
        return Finished(
            process.returncode,
            _read(output, argv[0]),
            redact_text(_read(errors, argv[0]).decode(errors="replace")),
        )


def _read(file: IO[bytes], name: str) -> bytes:
    file.seek(0)
    data = file.read(OUTPUT_BYTES + 1)
    if len(data) > OUTPUT_BYTES:
        raise Stalled(
            "OutputTooLarge", f"{Path(name).name} wrote more than {OUTPUT_BYTES // 1024**2} MiB"
        )
    return data


class Worker:
    """A rendering process that is kept between requests, and ended when it hangs or idles.

    One request at a time; requests of other threads wait.
    """

    def __init__(self, idle_seconds: float = 60) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle_seconds = idle_seconds
        self._timer: threading.Timer | None = None
        self._served = 0

    def call(
        self,
        request: Mapping[str, Any],
        *,
        timeout: float,
        owner: str,
        folder: Path | None = None,
        answer: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return the result of a request; `answer` replies to what the worker asks back.

        Shapes: `owner` is the project that the work is for; `folder`, one of `working_folder`, holds
            the files that the request names.
        Units: `timeout` in seconds.
        Raises: WorkerError with the library's words; Stalled when it takes too long or the process dies.
        """
        del owner, folder
        with self._lock:
            process = self._start()
            timed_out = threading.Event()

            def stop() -> None:
                timed_out.set()
                process.kill()

            limit = threading.Timer(timeout, stop)
            limit.daemon = True
            limit.start()
            try:
                return self._converse(process, request, answer)
            except (OSError, ValueError) as error:
                self._end()
                if timed_out.is_set():
                    raise Stalled(
                        "Timeout", f"rendering took longer than {timeout:.0f} s and was stopped"
                    ) from error
                raise Stalled(
                    "RendererDied",
                    "the rendering process ended unexpectedly; is the input too large?",
                ) from error
            finally:
                limit.cancel()
                self._idle_later()

    def _converse(
        self,
        process: "subprocess.Popen[bytes]",
        request: Mapping[str, Any],
        answer: Callable[[Any], Any] | None,
    ) -> Any:
        self._send(process, request)
        while True:
            line = process.stdout.readline(OUTPUT_BYTES) if process.stdout else b""
            if not line.endswith(b"\n"):
                raise OSError("the answer is not complete")
            reply = orjson.loads(line)
            if "import" in reply and answer is not None:
                self._send(process, answer(reply["import"]))
            elif "error" in reply:
                raise WorkerError(reply["error"])
            else:
                return reply["result"]

    def _send(self, process: "subprocess.Popen[bytes]", message: Any) -> None:
        if process.stdin is None:
            raise OSError("the worker has no input")
        process.stdin.write(orjson.dumps(message) + b"\n")
        process.stdin.flush()

    def _start(self) -> "subprocess.Popen[bytes]":
        if self._timer:
            self._timer.cancel()
        self._served += 1
        if self._process is not None and self._process.poll() is None and self._served % 2000:
            return self._process
        self._end()
        env = {name: os.environ[name] for name in _SAFE_ENVIRONMENT if name in os.environ}
        env |= {"HOME": tempfile.gettempdir(), "GOMEMLIMIT": "1GiB"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))], env=env, cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        return self._process

    def _idle_later(self) -> None:
        self._timer = threading.Timer(self._idle_seconds, self.close)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """End the process if nobody uses it."""
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


renderer = Worker()
"""The rendering process of this process."""
