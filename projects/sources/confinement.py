"""Confinement of renderers: plans for `confined.py`, and the folders that they refer to."""

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

NOBODY = 65534
_HERE = Path(__file__).parent
LAUNCHER, WORKER, SETS = _HERE / "confined.py", _HERE / "worker.py", _HERE / "set_parameters.py"
_MODULES = ("helm_python", "_gojsonnet", "jq")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_ZONES = ("/usr/share/zoneinfo", "/etc/localtime")
_LOADERS = (
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
)
_ENVIRONMENT = ("LANG", "LC_ALL", "TZ")
# Go and Python reserve more address space than they use; shared memory only counts here.
_RESERVED_BYTES = 4 * 1024**3

PROTECTIONS = {
    "files": (
        ("landlock-files",),
        (
            "the hub's files are protected only by their modes; "
            "use a kernel with Landlock (5.13 or newer, `landlock` in lsm=)"
        ),
    ),
    "file modes": (
        ("system-calls", "own-user"),
        (
            "renderers could change modes, owners, times and attributes of the hub's files; "
            "allow seccomp filters"
        ),
    ),
    "network": (
        ("network-namespace", "system-calls"),
        (
            "renderers can access the network; "
            "allow unprivileged user namespaces, or seccomp filters"
        ),
    ),
    "processes": (
        ("process-namespace", "landlock-signals", "own-user"),
        (
            "renderers could send signals to the hub; "
            "allow user namespaces, or use Linux 6.12 or newer"
        ),
    ),
    "memory of others": (
        ("landlock-files", "system-calls", "own-user"),
        "renderers could read the hub's memory; allow seccomp filters",
    ),
    "privileges": (
        ("no-new-privileges",),
        "renderers could gain privileges; use Linux 3.5 or newer",
    ),
}
"""The required protections: layers, any of which is sufficient, and advice if all are missing."""


@functools.cache
def root() -> Path:
    """Return the private folder of this process that contains all render folders."""
    folder = Path(tempfile.mkdtemp(prefix="flotilla-render-")).resolve()
    # As root, the hub gives the folders to another user, who must be able to traverse this one.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_folder() -> Path:
    """Create an empty folder below the root."""
    return Path(tempfile.mkdtemp(prefix="", dir=root()))


def remove(folder: Path) -> None:
    """Remove a folder with its content."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """Yield an empty private folder for one render, and remove it afterwards."""
    folder = new_folder()
    try:
        yield folder
    finally:
        remove(folder)


_kept_user: list[bool] = []


@functools.cache
def own_user() -> int | None:
    """Return the user that renderers run as, None if they keep the hub's user.

    Only root can change the user, and only if that user can read Python and its libraries.
    """
    if os.geteuid() != 0 or _kept_user:
        return None
    needed = [
        Path(sys.executable),
        LAUNCHER,
        WORKER,
        SETS,
        *map(Path, _python()),
        *_modules(),
        root(),
    ]
    return NOBODY if all(_readable_by_others(path) for path in needed) else None


def keep_user() -> None:
    """Run renderers as the hub's user from now on."""
    _kept_user.append(True)
    own_user.cache_clear()


def _readable_by_others(path: Path) -> bool:
    path = path.resolve()
    try:
        passable = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
        mode = path.stat().st_mode
    except OSError:
        return False
    return passable and bool(mode & (stat.S_IXOTH if path == root() else stat.S_IROTH))


def hand_over(folder: Path) -> None:
    """Change the owner of a folder and its content to the renderers' user."""
    user = own_user()
    if user is None:
        return
    for place, folders, files, descriptor in os.fwalk(folder):
        del place
        os.chown(descriptor, user, user)
        for name in (*folders, *files):
            os.chown(name, user, user, dir_fd=descriptor, follow_symlinks=False)


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables of a renderer."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    home = {name: str(folder) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    return kept | {"PATH": "/usr/bin:/bin", "GOMAXPROCS": "2"} | home | dict(more or {})


def worker_command(folder: Path, memory: int) -> list[str]:
    """Return the command line of a worker, which may read its own folder but write nothing."""
    plan = _plan(folder, memory) | {
        "read": [
            *_python(),
            *map(str, _modules()),
            *_LIBRARIES,
            *_ZONES,
            str(WORKER),
            str(SETS),
            str(folder),
        ],
        "modules": sorted({str(m.parent) for m in _modules()}),
        "worker": str(WORKER),
    }
    return [*_launcher(), orjson.dumps(plan).decode(), "worker"]


def program_command(
    argv: Sequence[str],
    folder: Path,
    *,
    memory: int,
    seconds: float,
    output: int,
    helpers: Sequence[str] = (),
) -> list[str]:
    """Return the command line of a program that may read its own folder.

    Shapes: `helpers` are programs that it may start; with any, it may also write to the folder.
    """
    programs = [str(Path(argv[0]).resolve()), *(str(Path(h).resolve()) for h in helpers)]
    plan = _plan(folder, memory)
    if not all(_readable_by_others(Path(program)) for program in programs):
        plan["user"] = None
    plan |= {
        "read": [*_LIBRARIES, *_ZONES, str(folder)],
        "write": [str(folder)] if helpers else [],
        "execute": [*programs, *_LOADERS],
        "processes": bool(helpers),
        "limits": plan["limits"] | {"CPU": int(seconds) + 1, "FSIZE": output + 1},
    }
    return [*_launcher(), orjson.dumps(plan).decode(), "--", *argv]


def missing_protections(layers: Sequence[str]) -> dict[str, str]:
    """Return the protections that these layers do not provide, with advice for each."""
    return {
        name: step for name, (enough, step) in PROTECTIONS.items() if not set(enough) & set(layers)
    }


def readable_folder_of(place: Path) -> str:
    """Return the folder that renderers may read and that contains a path, empty if none does."""
    readable = (*_python(), *_LIBRARIES, *map(str, _modules()))
    return next((r for r in readable if place.resolve().is_relative_to(Path(r).resolve())), "")


def _launcher() -> list[str]:
    return [sys.executable, "-I", "-S", str(LAUNCHER)]


def _plan(folder: Path, memory: int) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "user": own_user(),
        "read": [],
        "write": [],
        "execute": [],
        "modules": [],
        "processes": False,
        "limits": {
            "CORE": 0,
            "FSIZE": 0,
            "NOFILE": 256,
            "DATA": memory,
            "AS": memory + _RESERVED_BYTES,
        },
    }


@functools.cache
def _python() -> tuple[str, ...]:
    return (sysconfig.get_paths()["stdlib"], str(Path(sys.base_prefix) / "lib"))


@functools.cache
def _modules() -> tuple[Path, ...]:
    """Return the paths of the worker's libraries: package folders or single files."""
    found = []
    for name in _MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        found.append(origin.parent if origin.stem == "__init__" else origin)
        # Shared libraries of a wheel are next to it.
        found += origin.parent.glob(f"{name.strip('_')}*.libs")
    return tuple(found)
