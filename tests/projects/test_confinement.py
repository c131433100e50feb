"""What a program that people's files have taken over can still do: each probe attacks from
inside.
"""

import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from support import renders

from hub.base.metrics import RENDERERS_BUSY
from hub.engine.errors import ManifestError, RetryLater, Stalled
from projects.sources import confined, confinement, process
from projects.sources.render_queue import Limits, RenderQueue, queue_owner

PYTHON = Path(sys.base_prefix) / "bin" / "python3"
SECRET = secrets.token_hex(16)


@pytest.fixture(autouse=True)
def holds(request):
    """Skip what this kernel cannot do, outside CI only: there everything must hold."""
    marker = request.node.get_closest_marker("needs")
    lost = confinement.missing_protections(process.layers())
    if marker and set(marker.args) & set(lost) and not os.environ.get("CI"):
        pytest.skip("; ".join(lost[name] for name in marker.args if name in lost))


def command_of(code, *arguments, folder, memory=1024**3, seconds=20, output=1024**2, helpers=()):
    """Return the command that runs a piece of Python where kustomize would run."""
    command = confinement.program_command(
        [str(PYTHON), "-I", "-S", "-c", textwrap.dedent(code), *map(str, arguments)],
        folder,
        memory=memory,
        seconds=seconds,
        output=output,
        helpers=helpers,
    )
    # The probe itself needs Python's library, which kustomize does not.
    place = next(n for n, word in enumerate(command) if word.startswith("{"))
    plan = json.loads(command[place])
    plan["read"] += confinement._python()
    command[place] = json.dumps(plan)
    confinement.hand_over(folder)
    return command


def inside(code, *arguments, **limits):
    """Run a piece of Python where kustomize would run, and return how it ended."""
    with confinement.working_folder() as folder:
        return subprocess.run(
            command_of(code, *arguments, folder=folder, **limits),
            cwd=folder,
            env=confinement.environment(folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            start_new_session=True,
        )


def finish(code, *, timeout, **limits):
    """Run a piece of Python as the hub runs kustomize."""
    with confinement.working_folder() as folder:
        command = command_of(code, folder=folder, **limits)
        return process._finish(command, folder, confinement.environment(folder), timeout, "probe")


@pytest.fixture
def data_folder(settings):
    """The hub's data folder, with a secret in it."""
    folder = Path(settings.DATA_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "secret-key"
    before = path.read_bytes() if path.exists() else None
    path.write_text(SECRET)
    path.chmod(0o644)
    yield folder
    path.unlink() if before is None else path.write_bytes(before)


READ = """
    import sys
    try:
        print(open(sys.argv[1], "rb").read(200))
    except OSError as error:
        print("refused:", type(error).__name__)
"""


@pytest.mark.needs("files")
@pytest.mark.parametrize(
    "place",
    ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/environ", "/root", "/tmp"],
)
def test_files_of_the_host_cannot_be_read(place):
    finished = inside(READ, place)

    assert finished.stdout.startswith("refused:"), finished


@pytest.mark.needs("files")
def test_the_hubs_own_files_cannot_be_read(data_folder):
    for place in (data_folder, data_folder / "secret-key", f"/proc/{os.getpid()}/environ"):
        finished = inside(READ, place)
        assert finished.stdout.startswith("refused:"), (place, finished)
        assert SECRET not in finished.stdout


@pytest.mark.needs("files")
def test_the_folder_of_another_render_cannot_be_read():
    with confinement.working_folder() as other:
        (other / "values.yaml").write_text(SECRET)
        confinement.hand_over(other)

        finished = inside(READ, other / "values.yaml")

    assert finished.stdout.startswith("refused:"), finished


def test_the_environment_holds_nothing_of_the_hub(monkeypatch):
    monkeypatch.setenv("HUB_SECRET_KEY", SECRET)

    finished = inside("import os; print(dict(os.environ))")

    assert "HOME" in finished.stdout
    assert SECRET not in finished.stdout
    assert "HUB_" not in finished.stdout


@pytest.mark.needs("network")
@pytest.mark.parametrize(
    "family",
    [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK],
    ids=["IPv4", "IPv6", "local", "netlink"],
)
def test_no_server_can_be_reached(family):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        code = """
            import socket, sys
            try:
                s = socket.socket(int(sys.argv[1]))
                s.settimeout(2)
                s.connect(("127.0.0.1", int(sys.argv[2])))
                print("connected")
            except OSError as error:
                print("refused:", error)
        """

        finished = inside(code, int(family), server.getsockname()[1])

        assert finished.stdout.startswith("refused:"), finished
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.needs("processes", "memory of others")
def test_other_processes_are_out_of_reach():
    code = """
        import ctypes, os, sys
        hub, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
        try:
            os.kill(hub, 0)
            print("signalled")
        except OSError:
            pass
        buffer = ctypes.create_string_buffer(16)
        if libc.ptrace(16, hub, None, None) == 0:
            print("attached")
        if libc.syscall(434, hub, 0) >= 0:
            print("opened")
        try:
            print("read", open(f"/proc/{hub}/mem", "rb"))
        except OSError:
            pass
        print("end")
    """

    assert inside(code, os.getpid()).stdout == "end\n"


@pytest.mark.needs("processes")
def test_it_starts_no_other_process():
    code = """
        import os
        for attempt in (os.fork, lambda: os.execv("/bin/sh", ["sh", "-c", "echo ran"])):
            try:
                attempt()
                print("started")
            except OSError:
                print("refused")
    """

    assert inside(code).stdout == "refused\nrefused\n"


@pytest.mark.needs("processes")
def test_nothing_is_left_when_its_time_is_up():
    name = f"probe-{secrets.token_hex(8)}"
    code = f"import os, time; os.setsid(); time.sleep(60)  # {name}"

    with pytest.raises(Stalled, match="took longer"):
        finish(code, timeout=1)

    listed = ["ps", "-eo", "args"]
    left = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    assert name not in left


@pytest.mark.needs("files")
def test_nothing_can_be_written():
    code = """
        import os, sys
        for place in (".", "/tmp", "/dev/shm", "/var/tmp", sys.argv[1]):
            try:
                open(os.path.join(place, "x"), "w")
                print("wrote", place)
            except OSError:
                pass
        print("end")
    """

    assert inside(code, Path.home()).stdout == "end\n"


def test_output_is_bounded(settings):
    settings.MAX_MANIFEST_BYTES = 1024**2
    code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"

    with pytest.raises(Stalled, match="wrote more than 4 MiB"):
        finish(code, timeout=20, output=process.max_output())


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(10 * 1024**3)",
        "import mmap; x = mmap.mmap(-1, 10 * 1024**3)",
        "x = []\nwhile True: x.append(bytearray(1024**2))",
    ],
    ids=["at once", "shared", "little by little"],
)
def test_memory_is_bounded(code):
    finished = inside(code)

    assert finished.returncode != 0
    assert "MemoryError" in finished.stderr or "Cannot allocate" in finished.stderr


def test_processor_time_is_bounded():
    assert inside("while True: pass", seconds=1).returncode == 137


@pytest.mark.needs("privileges")
def test_it_has_no_capability_and_gains_none():
    finished = inside("""
        import ctypes
        libc = ctypes.CDLL(None)
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        print(libc.capget(header, data), list(data), libc.prctl(39, 0, 0, 0, 0))
    """)

    assert finished.stdout == "0 [0, 0, 0, 0, 0, 0] 1\n"


def test_what_is_missing_is_named_with_the_next_step():
    lost = confinement.missing_protections(["no-new-privileges", "system-calls"])

    assert set(lost) == {"files", "processes"}
    assert "Landlock" in lost["files"]


def test_the_doctor_says_what_holds():
    from projects.diagnostics import CHECKS

    check = dict(CHECKS)["renderers"]

    assert bool(check()) == bool(confinement.missing_protections(process.layers()))


def test_required_and_not_held_renders_nothing(settings, monkeypatch):
    monkeypatch.setattr(process, "_layers", lambda: ("no-new-privileges",))
    settings.RENDER_CONFINEMENT = "required"

    with pytest.raises(Stalled, match="Landlock"):
        process.require_confinement()


# Answers ----------------------------------------------------------------------------------------

NESTED = "{apiVersion: 'v1', kind: 'ConfigMap', metadata: {name: 'x'}, data: nested(%d)}"
NEST = "local nested(n) = if n == 0 then {} else {a: nested(n - 1)};\n"


@pytest.mark.parametrize(
    "files",
    [
        {"a.jsonnet": NEST + NESTED % 150},
        {"a.jsonnet": NEST + NESTED % 300},
        {"a.jsonnet": NEST.replace("{a: nested(n - 1)}", "[nested(n - 1)]") + NESTED % 300},
        {
            "a.json": (
                '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": '
            )
            + "[" * 300
            + "]" * 300
            + "}"
        },
    ],
    ids=["more than 100", "more than the hub writes", "lists", "JSON"],
)
def test_answers_are_bounded_in_depth(transactional_db, repo, files):
    repo.commit(files)

    with pytest.raises(Stalled, match="nested deeper than 100 levels"):
        renders.load(repo.url, ".", "team", renders.revision_of(repo.url, "team"))


# Turns ------------------------------------------------------------------------------------------


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def shares_of(places=2, budget=1000.0, clock=None, wait=30.0, admitted=None, work=time.thread_time):
    found = Limits(places, budget, 600.0, wait)
    return RenderQueue(lambda: found, clock or time.monotonic, admitted, work)


def test_one_project_never_holds_all_places():
    clock = Clock()
    shares = shares_of(clock=clock)
    with shares.hold("hostile"):
        clock.now += 3

        with pytest.raises(RetryLater, match="slow renders of project 'hostile'"):
            shares.hold("hostile").__enter__()
        with shares.hold("quiet"):
            pass


def test_a_person_never_holds_all_places_by_asking_of_many_projects():
    clock = Clock()
    shares = shares_of(budget=60.0, clock=clock, wait=0.0)
    with shares.hold(queue_owner("one", "reader")):
        with pytest.raises(RetryLater, match="no renderer became free"):
            shares.hold(queue_owner("two", "reader")).__enter__()
        with shares.hold("two"):
            clock.now += 90

    # What somebody has used up is neither the project's nor anybody else's.
    with pytest.raises(RetryLater, match="user reader in project 'one' has used its 60 s"):
        shares.hold(queue_owner("one", "reader")).__enter__()
    for owner in ("one", queue_owner("one", "other")):
        with shares.hold(owner):
            pass


def test_waiting_projects_are_served_in_turn():
    order, waiting = [], ["a"] * 4 + ["b"] * 2
    shares = shares_of(admitted=lambda owner, _waited: order.append(owner))

    def wait_for(number):
        until = time.monotonic() + 10
        while sum(len(o.turns) for o in shares._owners.values()) < number:
            assert time.monotonic() < until
            time.sleep(0.001)

    def render(owner):
        with shares.hold(owner):
            pass

    threads = [threading.Thread(target=render, args=(owner,)) for owner in waiting]
    # One place stays taken, so that those who wait come through the other one by one.
    with shares.hold("x"):
        with shares.hold("y"):
            for number, thread in enumerate(threads, 1):
                thread.start()
                wait_for(number)
        [t.join(10) for t in threads]

    # All of `a` came first, and `b` waited for one of them only.
    assert order == ["x", "y", "a", "b", "a", "b", "a", "a"]


def test_what_the_hub_does_itself_counts_too():
    clock, work = Clock(), Clock()
    shares = shares_of(budget=60.0, clock=clock, work=work)
    with pytest.raises(ManifestError), shares.charge("hostile"):
        work.now += 90
        raise ManifestError("too many values")

    for entry in (shares.charge, shares.hold):
        with pytest.raises(RetryLater, match="used its 60 s"):
            entry("hostile").__enter__()
        with entry("quiet"):
            pass
    clock.now += 600
    with shares.charge("hostile"):
        pass


def test_used_up_time_comes_back():
    clock = Clock()
    shares = shares_of(budget=60.0, clock=clock)
    with shares.hold("hostile"):
        clock.now += 90

    with pytest.raises(RetryLater) as raised:
        shares.hold("hostile").__enter__()
    assert raised.value.reason == "RenderTimeUsed"
    assert "HUB_RENDER_BUDGET" in raised.value.message
    assert timedelta(seconds=200) < raised.value.delay < timedelta(minutes=10)
    with shares.hold("quiet"):
        clock.now += 1
    clock.now += 400
    with shares.hold("hostile"):
        pass


def test_who_waits_too_long_is_told_so():
    clock = Clock()
    shares = shares_of(clock=clock, wait=0.0)
    with (
        shares.hold("a"),
        shares.hold("b"),
        pytest.raises(RetryLater, match="no renderer became free"),
    ):
        shares.hold("c").__enter__()
    assert sum(len(o.turns) for o in shares._owners.values()) == 0


def test_a_kept_process_serves_one_project():
    """What a project has done to the process it rendered in must not meet another's files."""
    pool, served = renders.pool(None, limits=renders.limits_of(2)), {}
    try:
        for owner in ("a", "b", "a", "c", "a", "b", "c"):
            pool.call({"op": "jq", "path": ".x", "value": {"x": 1}}, timeout=20, owner=owner)
            kept = {worker._process.pid: worker.owner for worker, _ in pool._idle}
            assert owner in kept.values() and len(kept) <= 2, (
                "and no more wait than there are places"
            )
            for pid, whose in kept.items():
                assert served.setdefault(pid, whose) == whose
        assert sum(whose == "a" for whose in served.values()) == 1, "its own again"
    finally:
        pool.close()


def test_busy_places_of_all_pools_are_counted_together():
    busy = RENDERERS_BUSY._value.get
    before = busy()
    with shares_of().hold("a"), shares_of().hold("a"):
        assert busy() == before + 2
    assert busy() == before


# Calls that Landlock does not ask about -----------------------------------------------------------

ATTEMPTS = """
    import ctypes, errno, json, os, resource, fcntl, sys, time
    victim, beside, hub, calls = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name, *arguments):
        if libc.syscall(calls[name], *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    path, here, hub_limit = victim.encode(), os.open(".", os.O_RDONLY), resource.RLIMIT_NOFILE
    readable = os.open(os.__file__, os.O_RDONLY)
    ready, _ = os.pipe()
    attempts = {
        "chmod": lambda: os.chmod(victim, 0o777),
        "fchmod": lambda: os.fchmod(readable, 0o644),
        "fchmodat2": lambda: call("fchmodat2", -100, path, 0o777, 0),
        "chown": lambda: os.chown(victim, os.getuid(), os.getgid()),
        "lchown": lambda: os.lchown(victim, os.getuid(), os.getgid()),
        "fchown": lambda: os.fchown(readable, os.getuid(), os.getgid()),
        "fchownat": lambda: os.chown(os.path.basename(victim), -1, -1, dir_fd=here),
        "utime": lambda: os.utime(victim, (1, 1)),
        "futimens": lambda: os.utime(readable),
        "setxattr": lambda: os.setxattr(victim, "user.x", b"1"),
        "getxattr": lambda: os.getxattr(victim, "user.x"),
        "listxattr": lambda: os.listxattr(victim),
        "removexattr": lambda: os.removexattr(victim, "user.x"),
        "file_setattr": lambda: call("file_setattr", -100, path, 0, 0, 0),
        "truncate": lambda: os.truncate(victim, 0),
        "a file cut by opening it to read": lambda: os.open(victim, os.O_RDONLY | os.O_TRUNC),
        "a file cut by opening it for nothing": lambda: os.open(victim, 3 | os.O_TRUNC),
        "a file opened for nothing": lambda: os.open(victim, 3),
        "link": lambda: os.link(victim, beside),
        "symlink": lambda: os.symlink(victim, beside),
        "rename": lambda: os.rename(victim, beside),
        "unlink": lambda: os.unlink(victim),
        "mkdir": lambda: os.mkdir(beside),
        "mknod": lambda: os.mknod(beside),
        "fifo": lambda: os.mkfifo(beside),
        "inotify": lambda: call("inotify_init1", 0),
        "fanotify": lambda: call("fanotify_init", 0, 0),
        "mount": lambda: call("mount", 0, path, 0, 0, 0),
        "unshare": lambda: call("unshare", 0x10000000),
        "setns": lambda: call("setns", here, 0),
        "chroot": lambda: os.chroot("."),
        "open_tree": lambda: call("open_tree", -100, path, 0),
        "listmount": lambda: call("listmount", 0, 0, 0, 0),
        "name_to_handle_at": lambda: call("name_to_handle_at", -100, path, 0, 0, 0),
        "open_by_handle_at": lambda: call("open_by_handle_at", here, 0, 0),
        "io_uring": lambda: call("io_uring_setup", 1, 0),
        "bpf": lambda: call("bpf", 0, 0, 0),
        "perf": lambda: call("perf_event_open", 0, 0, -1, -1, 0),
        "userfaultfd": lambda: call("userfaultfd", 1),
        "keyctl": lambda: call("keyctl", 0, -3, 0),
        "add_key": lambda: call("add_key", 0, 0, 0, 0, -3),
        "memfd": lambda: os.memfd_create("x"),
        "shared memory": lambda: call("shmget", 0, 4096, 0o1600),
        "shared memory by number": lambda: call("shmat", 0, 0, 0),
        "messages": lambda: call("msgget", 0, 0o1600),
        "messages by number": lambda: call("msgctl", 0, 0, 0),
        "semaphores by number": lambda: call("semctl", 0, 0, 0),
        "socket": lambda: call("socket", 1, 1, 0),
        "kill": lambda: os.kill(hub, 0),
        "kill a group": lambda: os.killpg(hub, 0),
        "tgkill": lambda: call("tgkill", hub, hub, 0),
        "tkill": lambda: call("tkill", hub, 0),
        "rt_sigqueueinfo": lambda: call("rt_sigqueueinfo", hub, 0, 0),
        "a signal by a pipe": lambda: fcntl.fcntl(ready, fcntl.F_SETOWN, hub),
        "which signal": lambda: fcntl.fcntl(ready, fcntl.F_SETSIG, 9),
        "a signal by ioctl": lambda: fcntl.ioctl(ready, 0x8901, hub.to_bytes(4, "little")),
        "a lease": lambda: fcntl.fcntl(readable, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "flags of a file": lambda: fcntl.ioctl(readable, 0x40086602, (0).to_bytes(8, "little")),
        "ptrace": lambda: call("ptrace", 16, hub, 0, 0),
        "process_vm_readv": lambda: call("process_vm_readv", hub, 0, 0, 0, 0, 0),
        "process_vm_writev": lambda: call("process_vm_writev", hub, 0, 0, 0, 0, 0),
        "pidfd_open": lambda: call("pidfd_open", hub, 0),
        "pidfd_getfd": lambda: call("pidfd_getfd", here, 0, 0),
        "limits of the hub": lambda: resource.prlimit(hub, hub_limit),
        "processors of the hub": lambda: os.sched_setaffinity(hub, {0}),
        "order of the hub": lambda: os.setpriority(os.PRIO_PROCESS, hub, 19),
        "order of reading": lambda: call("ioprio_set", 1, hub, 0),
        "sched_setattr": lambda: call("sched_setattr", hub, 0, 0),
        "kcmp": lambda: call("kcmp", hub, hub, 0, 0, 0),
        "sync": lambda: call("sync"),
        "reboot": lambda: call("reboot", 0, 0, 0, 0),
    }
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            found[name] = "done"
        except OSError as error:
            found[name] = errno.errorcode[error.errno]
    print(json.dumps(found))
"""
NAMES = [line.split('"')[1] for line in ATTEMPTS.splitlines() if ": lambda:" in line]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory):
    """What each call answered that a renderer tried, and whether a file of the hub stayed as it
    was.
    """
    folder = tmp_path_factory.mktemp("hub")
    victim = folder / "victim"
    victim.write_text("as it was")
    before = victim.stat()
    column = list(confined._ARCHITECTURES).index(platform.machine())
    tables = [t for t in vars(confined).values() if isinstance(t, dict) and "rename" not in t]
    named = {n: v[column] for t in tables for n, v in t.items() if isinstance(v, tuple)}

    finished = inside(ATTEMPTS, victim, folder / "beside", os.getpid(), json.dumps(named))

    assert finished.stdout, finished.stderr
    after = victim.stat()
    kept = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_atime_ns", "st_ctime_ns", "st_size")
    changed = [name for name in kept if getattr(before, name) != getattr(after, name)]
    changed += [path.name for path in folder.iterdir() if path != victim]
    return json.loads(finished.stdout), changed


@pytest.mark.needs("file modes", "processes", "memory of others")
@pytest.mark.parametrize("name", NAMES)
def test_what_landlock_does_not_ask_about_is_refused(attempts, name):
    answers, _changed = attempts

    # Landlock itself answers with EACCES: this one needs no version of it.
    assert answers[name] == "EPERM"


@pytest.mark.needs("file modes")
def test_files_of_the_hub_stay_as_they_were(attempts):
    assert attempts[1] == []


@pytest.mark.needs("processes")
def test_what_renderers_need_still_works():
    finished = inside("""
        import fcntl, os, resource, signal, threading
        thread = threading.Thread(target=os.getpid)
        thread.start(), thread.join()
        signal.signal(signal.SIGUSR1, lambda *_: print("own signal"))
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        print(os.isatty(0), resource.getrlimit(resource.RLIMIT_CPU)[0])
        r, w = os.pipe()
        os.set_blocking(r, False), os.set_inheritable(r, True), os.dup(r), os.fstat(r)
        fcntl.lockf(os.open("/dev/null", os.O_WRONLY | os.O_TRUNC), fcntl.LOCK_EX)
        print(len(os.sched_getaffinity(0)) > 0, os.path.exists(os.__file__), os.listdir("."))
    """)

    assert finished.stdout == "own signal\nown signal\nFalse 21\nTrue True []\n", finished.stderr


@pytest.mark.needs("processes")
def test_a_program_with_helpers_writes_starts_and_ends_them():
    finished = inside(
        """
        import os, pathlib, signal, sys, tempfile
        folder = pathlib.Path(tempfile.mkdtemp(dir="."))
        (folder / "a").write_text("1")
        (folder / "a").write_text("2")
        (folder / "a").rename(folder / "b")
        print((folder / "b").read_text())
        try:
            (folder / "b").chmod(0o777)
        except PermissionError:
            print("refused")
        (folder / "b").unlink(), folder.rmdir()
        child = os.fork()
        if child == 0:
            signal.pause()
        os.kill(child, signal.SIGKILL)
        print(os.waitpid(child, 0)[1])
    """,
        helpers=[str(PYTHON)],
    )

    assert finished.stdout == "2\nrefused\n9\n", finished.stderr
