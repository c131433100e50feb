"""Run programs on untrusted files, with limits on time, memory and output.

Only this module starts programs. Each one confines itself before it reads input (`confined.py`),
and runs when it is its project's turn in the queue (`render_queue.py`).
"""

import contextlib
import functools
import logging
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
from django.conf import settings

from hub.base.metrics import RENDERER_LAYERS, clock
from hub.base.redaction import redact_text
from hub.engine.errors import Stalled
from projects.sources import confinement
from projects.sources.render_queue import Limits, RenderQueue

log = logging.getLogger(__name__)

START_SECONDS = 30.0
OWN_OUTPUT_BYTES = 64 * 1024**2
LAYERS = (
    "own-user",
    "user-namespace",
    "network-namespace",
    "process-namespace",
    "ipc-namespace",
    "no-new-privileges",
    "landlock-files",
    "landlock-network",
    "landlock-signals",
    "system-calls",
)


class WorkerError(Exception):
    """A library's error about its input."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a program."""

    code: int
    output: bytes
    errors: str


def _limits() -> Limits:
    return Limits(settings.RENDERERS, settings.RENDER_BUDGET.total_seconds(), 600.0)


render_queue = RenderQueue(_limits)
"""The queue of all renders in this process, for every tool."""


def max_output() -> int:
    """Return the output limit of a renderer in bytes: the limit of manifests."""
    return int(settings.MAX_MANIFEST_BYTES) * 4


def run(
    argv: Sequence[str],
    *,
    folder: Path,
    timeout: float,
    owner: str,
    environment: Mapping[str, str] | None = None,
    helpers: Sequence[str] = (),
) -> Finished:
    """Run a confined program on the files of a folder and return its result.

    Shapes: `folder` is one of `working_folder`; `owner` is the project to charge; `helpers` are
        programs that it may start. No shell is involved.
    Units: `timeout` in seconds.
    Raises: Stalled if it times out, writes too much, or is not installed; RetryLater if the render
        queue refuses it.
    """
    if not Path(argv[0]).exists():
        raise Stalled("ToolMissing", f"{argv[0]} is not installed on the hub")
    require_confinement()
    with render_queue.hold(owner):
        confinement.hand_over(folder)
        command = confinement.program_command(
            argv,
            folder,
            memory=settings.RENDER_MEMORY_BYTES,
            seconds=timeout,
            output=max_output(),
            helpers=helpers,
        )
        return _finish(
            command,
            folder,
            confinement.environment(folder, environment),
            timeout,
            Path(argv[0]).name,
        )


def _finish(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float, name: str
) -> Finished:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise Stalled(
                "Timeout", f"{name} took longer than {timeout:.0f} s and was stopped"
            ) from error
        finally:
            _kill(process)
        if code == 128 + signal.SIGKILL:
            raise Stalled("RendererDied", f"{name} used more CPU time or memory than allowed")
        errors.seek(0)
        said = errors.read(100_000)
        return Finished(code, _read(output, name), redact_text(said.decode(errors="replace")))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    _stop(process)
    process.wait()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # The whole process group: the launcher and its child.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(file: IO[bytes], name: str) -> bytes:
    limit = max_output()
    file.seek(0)
    data = file.read(limit + 1)
    if len(data) > limit:
        raise Stalled("OutputTooLarge", f"{name} wrote more than {limit // 1024**2} MiB")
    return data


def run_own(argv: Sequence[str], *, environment: Mapping[str, str], timeout: float) -> Finished:
    """Run a trusted program, such as git, with exactly this environment.

    The hub's own environment contains its secret keys, which no program or helper needs.
    Units: `timeout` in seconds.
    Raises: Stalled if it times out, writes too much, or is not installed.
    """
    name = Path(argv[0]).name
    try:
        process = subprocess.Popen(
            list(argv),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise Stalled("ToolMissing", f"{name} is not installed on the hub") from error
    try:
        output, errors = _read_both(process, name, time.monotonic() + timeout)
        return Finished(process.wait(), output, redact_text(errors.decode(errors="replace")))
    finally:
        _kill(process)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def _read_both(
    process: "subprocess.Popen[bytes]", name: str, deadline: float
) -> tuple[bytes, bytes]:
    """Read a program's output and errors until it closes them, within limits."""
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    said = {stream.fileno(): bytearray() for stream in streams}
    with selectors.DefaultSelector() as open_streams:
        for stream in streams:
            open_streams.register(stream, selectors.EVENT_READ)
        while open_streams.get_map():
            ready = open_streams.select(max(deadline - time.monotonic(), 0))
            if not ready or time.monotonic() > deadline:
                raise Stalled("Timeout", f"{name} took too long and was stopped")
            for key, _events in ready:
                data = os.read(key.fd, 65_536)
                said[key.fd] += data
                if not data:
                    open_streams.unregister(key.fileobj)
                if len(said[key.fd]) > OWN_OUTPUT_BYTES:
                    raise Stalled(
                        "OutputTooLarge",
                        f"{name} wrote more than {OWN_OUTPUT_BYTES // 1024**2} MiB",
                    )
    output, errors = said.values()
    return bytes(output), bytes(errors)


class Worker:
    """A rendering process, reused between requests, for one caller at a time."""

    def __init__(self, memory: int) -> None:
        """Set the memory limit of the process, in bytes."""
        self._memory = memory
        self.folder = confinement.new_folder()
        self._process: subprocess.Popen[bytes] | None = None
        self._served = 0
        self.owner = ""
        self.layers: tuple[str, ...] = ()

    def call(
        self,
        request: Mapping[str, Any],
        *,
        timeout: float,
        limit: int,
        folder: Path | None = None,
        answer: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Return the result of a request; `answer` handles requests of the worker.

        Shapes: `folder` has the files of the request; during the call, it is moved to where only
            this worker can read it.
        Units: `timeout` in seconds, `limit` of the response in bytes.
        Raises: WorkerError with the library's message; Stalled if it times out or the process dies.
        """
        with self._within(START_SECONDS):
            process = self._start()
        with self._within(timeout), self._lent(folder) as lent:
            own, shown = lent
            if folder and "chart" in request:
                request = {**request, "chart": str(request["chart"]).replace(own, shown, 1)}
            try:
                return self._converse(process, request, answer, limit)
            except WorkerError as error:
                raise WorkerError(str(error).replace(shown, own)) from error

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            if self._process is not None:
                _stop(self._process)

        limit = threading.Timer(seconds, stop)
        limit.daemon = True
        limit.start()
        try:
            yield
        except (OSError, ValueError) as error:
            self.close()
            if timed_out.is_set():
                raise Stalled(
                    "Timeout", f"rendering took longer than {seconds:.0f} s and was stopped"
                ) from error
            raise Stalled(
                "RendererDied",
                "the rendering process ended unexpectedly; is the input too large?",
            ) from error
        finally:
            limit.cancel()

    @contextlib.contextmanager
    def _lent(self, folder: Path | None) -> Iterator[tuple[str, str]]:
        if folder is None:
            yield "/", "/"
            return
        confinement.hand_over(folder)
        place = self.folder / folder.name
        folder.rename(place)
        try:
            yield str(folder), str(place)
        finally:
            place.rename(folder)

    def _converse(
        self,
        process: "subprocess.Popen[bytes]",
        request: Mapping[str, Any],
        answer: Callable[[Any], Any] | None,
        limit: int,
    ) -> Any:
        _send(process, request)
        while True:
            reply = _receive(process, limit)
            if "import" in reply and answer is not None:
                _send(process, answer(reply["import"]))
            elif "error" in reply:
                raise WorkerError(str(reply["error"]))
            elif "result" in reply:
                return reply["result"]
            else:
                raise ValueError("the response has an unexpected format")

    def _start(self) -> "subprocess.Popen[bytes]":
        self._served += 1
        if self._process is not None and self._process.poll() is None and self._served % 2000:
            return self._process
        self.close()
        self.folder.mkdir(exist_ok=True)
        confinement.hand_over(self.folder)
        self._process = subprocess.Popen(
            confinement.worker_command(self.folder, self._memory),
            cwd=self.folder,
            env=_worker_environment(self.folder, self._memory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.layers = tuple(map(str, _receive(self._process, 10_000)["layers"]))
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def close(self) -> None:
        """Stop the process; the next call starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            for stream in (process.stdin, process.stdout):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()


def _worker_environment(folder: Path, memory: int) -> dict[str, str]:
    return confinement.environment(folder, {"GOMEMLIMIT": str(memory * 3 // 4)})


def _send(process: "subprocess.Popen[bytes]", message: Any) -> None:
    if process.stdin is None:
        raise OSError("the worker has no input")
    process.stdin.write(orjson.dumps(message) + b"\n")
    process.stdin.flush()


def _receive(process: "subprocess.Popen[bytes]", limit: int) -> dict[str, Any]:
    line = process.stdout.readline(limit) if process.stdout else b""
    if not line.endswith(b"\n"):
        raise OSError("the response is incomplete")
    reply = orjson.loads(line)
    if not isinstance(reply, dict):
        raise ValueError("the response is not an object")  # noqa: TRY004 - caught with OSError
    return reply


class Pool:
    """A pool of workers for several callers, in the order of a render queue.

    A worker serves a single project. At most as many idle workers are kept as the queue has places;
    those that have been idle longest are stopped first.
    """

    def __init__(
        self, queue: RenderQueue, memory: Callable[[], int], idle_seconds: float = 60
    ) -> None:
        """Set the queue, the memory limit of a worker, and how long idle workers are kept."""
        self._queue, self._memory, self._idle_seconds = queue, memory, idle_seconds
        self._lock = threading.Lock()
        self._idle: list[tuple[Worker, float]] = []
        self._timer: threading.Timer | None = None

    def call(
        self,
        request: Mapping[str, Any],
        *,
        timeout: float,
        owner: str,
        folder: Path | None = None,
        answer: Callable[[Any], Any] | None = None,
        limit: int | None = None,
    ) -> Any:
        """Return the result of a request; `answer` handles requests of the worker.

        Shapes: `owner` is the project to charge; `folder`, one of `working_folder`, has the files
            of the request.
        Units: `timeout` in seconds, `limit` of the response in bytes.
        Raises: WorkerError with the library's message; Stalled if it times out or the process dies;
            RetryLater if the render queue refuses it.
        """
        require_confinement()
        with self._queue.hold(owner):
            worker = self._take(owner)
            try:
                return worker.call(
                    request,
                    timeout=timeout,
                    limit=limit or max_output(),
                    folder=folder,
                    answer=answer,
                )
            finally:
                self._keep_idle(worker)

    @property
    def running(self) -> int:
        """The number of idle processes."""
        with self._lock:
            return sum(worker.is_running for worker, _ in self._idle)

    def close(self) -> None:
        """Stop all idle processes."""
        self._end_idle(0)

    def _take(self, owner: str) -> Worker:
        with self._lock:
            # Never reuse another project's worker, which that project might have tampered with.
            place = next((n for n, (w, _) in enumerate(self._idle) if w.owner == owner), None)
            if place is not None:
                return self._idle.pop(place)[0]
        worker = Worker(self._memory())
        worker.owner = owner
        return worker

    def _keep_idle(self, worker: Worker) -> None:
        with self._lock:
            self._idle.append((worker, clock()))
            more = len(self._idle) - self._queue.places
            ended, self._idle = self._idle[: max(0, more)], self._idle[max(0, more) :]
            if self._timer is None:
                self._schedule_check()
        self._end(old for old, _ in ended)

    def _schedule_check(self) -> None:
        self._timer = threading.Timer(self._idle_seconds, self._end_idle, [self._idle_seconds])
        self._timer.daemon = True
        self._timer.start()

    def _end_idle(self, seconds: float) -> None:
        with self._lock:
            late = clock() - seconds
            ended = [worker for worker, since in self._idle if since <= late]
            self._idle = [(worker, since) for worker, since in self._idle if since > late]
            self._timer = None
            if self._idle:
                self._schedule_check()
        self._end(ended)

    @staticmethod
    def _end(workers: Iterable[Worker]) -> None:
        for worker in workers:
            worker.close()
            confinement.remove(worker.folder)


renderer = Pool(render_queue, lambda: settings.RENDER_MEMORY_BYTES)
"""The workers of this process."""


# Active protections ------------------------------------------------------------------------------

_trial_lock = threading.Lock()


def layers() -> tuple[str, ...]:
    """Return the confinement layers that work on this machine; they are tested once."""
    with _trial_lock:
        return _layers()


def require_confinement() -> None:
    """Check that renderers may run here.

    Raises: Stalled if all protections are required and some are missing.
    """
    lost = confinement.missing_protections(layers())
    if lost and settings.RENDER_CONFINEMENT == "required":
        raise Stalled(
            "RendererNotConfined",
            "HUB_RENDER_CONFINEMENT is 'required', but some protections are missing: "
            + "; ".join(lost.values()),
        )


@functools.cache
def _layers() -> tuple[str, ...]:
    found = _trial()
    if not found and confinement.own_user() is not None:
        # The other user cannot read some required file.
        confinement.keep_user()
        found = _trial()
    for name in LAYERS:
        RENDERER_LAYERS.labels(name).set(name in found)
    lost = confinement.missing_protections(found)
    log.info("renderers are confined by %s", ", ".join(found) or "nothing")
    if lost:
        log.warning("renderers are not fully confined: %s", "; ".join(lost.values()))
    return found


def _trial() -> tuple[str, ...]:
    worker = Worker(settings.RENDER_MEMORY_BYTES)
    try:
        worker.call({"op": "ready"}, timeout=START_SECONDS, limit=10_000)
    except (Stalled, WorkerError):
        return ()
    finally:
        worker.close()
        confinement.remove(worker.folder)
    return worker.layers
