"""The launcher that confines itself, then runs the worker or executes a renderer.

It runs as `python -I -S confined.py PLAN worker` or `… PLAN -- program arguments`, and imports only
the standard library. It runs untrusted programs, so before reading any input it gives up all
privileges: its user, the network, other processes, and all but a few files. Each layer is
attempted; `confine` returns the names of those that are active.

System calls are made directly: a Landlock package would cover less than half of them, and this
file must start in milliseconds without other packages on its path.
Source: https://docs.kernel.org/userspace-api/landlock.html, seccomp(2), user_namespaces(7),
capabilities(7).
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import runpy
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)

_NEWUSER, _NEWPID, _NEWNET, _NEWIPC, _NEWUTS = (
    0x10000000,
    0x20000000,
    0x40000000,
    0x08000000,
    0x04000000,
)
_NAMESPACES = {
    "network-namespace": _NEWNET,
    "process-namespace": _NEWPID,
    "ipc-namespace": _NEWIPC | _NEWUTS,
}

_PDEATHSIG, _DUMPABLE, _SECCOMP, _DROP_BOUNDING, _SECUREBITS, _NO_NEW_PRIVS, _AMBIENT = (
    1,
    4,
    22,
    24,
    28,
    38,
    47,
)
_LAST_CAPABILITY = 40
_NO_ROOT_NO_RAISE = 0b101011
"""User 0 has no privileges, a change of user keeps none, and these settings are locked."""


def main() -> NoReturn:
    """Confine this process according to the plan, then run the worker or a program."""
    plan = json.loads(sys.argv[1])
    layers = confine(plan)
    os.chdir(plan["folder"])
    if sys.argv[2] == "worker":
        sys.path[:] = [*sys.path[:1], *plan["modules"], *sys.path[1:]]
        worker = runpy.run_path(plan["worker"])
        worker["main"](layers)
        sys.exit(0)
    try:
        os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606
    except OSError as error:
        sys.exit(f"{sys.argv[3]}: {error.strerror}")


def confine(plan: dict[str, Any]) -> list[str]:
    """Confine this process and return the names of the active layers.

    Shapes: `plan` has `user` (a number, or null), `read`, `write` and `execute` (paths), `modules`
        (folders that may only be listed), `limits` (by the name of the resource), and `processes`
        (whether it may start others). All other access is dropped.
    """
    os.umask(0o077)
    held: list[str] = []
    was_root = os.geteuid() == 0
    if was_root:
        held += _namespaces()
    held += _own_user(plan["user"])
    if not held or held == ["own-user"]:
        held += _user_namespace()
    for name, value in plan["limits"].items():
        _limit(name, value)
    if "user-namespace" in held:
        _limit("NPROC", 1024)
    if "process-namespace" in held:
        _into_process_namespace()
    _without_capabilities()
    if _prctl(_NO_NEW_PRIVS, 1):
        held.append("no-new-privileges")
    held += _landlock(plan)
    if _seccomp(plan, held):
        held.append("system-calls")
    return held


def _prctl(option: int, *values: int) -> bool:
    arguments = [ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4]]
    return bool(_libc.prctl(option, *arguments) == 0)


def _syscall(number: int, *arguments: Any) -> int:
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def _limit(name: str, value: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _namespaces() -> list[str]:
    return [name for name, flags in _NAMESPACES.items() if _libc.unshare(flags) == 0]


def _user_namespace() -> list[str]:
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NEWUSER) != 0:
        return []
    with contextlib.suppress(OSError):
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {user} 1"),
            ("gid_map", f"{NOBODY} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)
    return ["user-namespace", *_namespaces()]


def _own_user(user: int | None) -> list[str]:
    if user is None or os.geteuid() != 0:
        return []
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:
        return []
    # Changing the user makes /proc/self inaccessible, but the id maps must still be written there.
    _prctl(_DUMPABLE, 1)
    return ["own-user"]


def _into_process_namespace() -> None:
    """Continue in a child, which is process 1 of the new namespace; the parent waits for it."""
    child = os.fork()
    if child == 0:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        return
    null = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _without_capabilities() -> None:
    _prctl(_AMBIENT, 4)
    for number in range(_LAST_CAPABILITY + 1):
        _prctl(_DROP_BOUNDING, number)
    _prctl(_SECUREBITS, _NO_ROOT_NO_RAISE)
    header = struct.pack("=Ii", 0x20080522, 0)
    _libc.capset(header, struct.pack("=6I", *[0] * 6))


# Landlock ----------------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _LIST = 1 << 0, 1 << 3
_READ = _LIST | 1 << 2
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_CHANGE = _WRITE_FILE | _TRUNCATE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | 1 << 2 | _TRUNCATE
_RIGHTS_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}


def _landlock(plan: dict[str, Any]) -> list[str]:
    try:
        version = _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
        handled = _RIGHTS_BY_VERSION[max(v for v in _RIGHTS_BY_VERSION if v <= version)]
        fields = [handled, *([0b11] if version >= 4 else []), *([0b11] if version >= 6 else [])]
        attributes = struct.pack(f"={len(fields)}Q", *fields)
        rules = _syscall(
            _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
        )
        for path, rights in _allowed(plan):
            _allow(rules, path, rights & handled)
        _syscall(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
        os.close(rules)
    except OSError:
        return []
    return [
        "landlock-files",
        *(["landlock-network"] if version >= 4 else []),
        *(["landlock-signals"] if version >= 6 else []),
    ]


def _allowed(plan: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield from ((path, _LIST) for path in plan["modules"])
    yield from ((path, _READ) for path in plan["read"])
    yield from ((path, _READ | _CHANGE) for path in plan["write"])
    yield from ((path, _READ | _EXECUTE) for path in plan["execute"])
    yield from (
        ("/dev/null", 1 << 2 | _WRITE_FILE),
        ("/dev/urandom", 1 << 2),
        ("/dev/zero", 1 << 2),
    )


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a path that does not exist needs no rule
    try:
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, place)
        _syscall(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint(0))
    finally:
        os.close(place)


# System calls ------------------------------------------------------------------------------------

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def _numbers(table: str) -> dict[str, tuple[int | None, int | None]]:
    """Parse a table of `name X86_64-NUMBER AARCH64-NUMBER`, with "-" for a missing call."""
    rows = [row.split() for row in table.replace("\n", ",").split(",") if row.strip()]
    return {
        name: (None if x86 == "-" else int(x86), None if arm == "-" else int(arm))
        for name, x86, arm in rows
    }


# Not covered by (all versions of) Landlock: modes, owners, times, attributes and lengths of files,
# by path or by a descriptor opened for reading; notifications about changes by others.
_ATTRIBUTES = _numbers("""
    chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452
    chown 92 -, lchown 94 -, fchown 93 55, fchownat 260 54
    utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88
    setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463
    getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, getxattrat 464 464
    listxattr 194 11, llistxattr 195 12, flistxattr 196 13, listxattrat 465 465
    removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466
    file_getattr 468 468, file_setattr 469 469, truncate 76 45, quotactl 179 60, quotactl_fd 443 443
    inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27
    fanotify_init 300 262, fanotify_mark 301 263
    name_to_handle_at 303 264, open_by_handle_at 304 265, sync 162 81, syncfs 306 267
""")
# Network, memory and messages shared with other processes; memory files, which bypass limits.
_OUTSIDE = _numbers("""
    socket 41 198, connect 42 203, mq_open 240 180, mq_unlink 241 181
    shmget 29 194, shmat 30 196, shmctl 31 195
    semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192
    msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187
    memfd_create 319 279, memfd_secret 447 447, add_key 248 217, request_key 249 218, keyctl 250 219
""")
# Other processes: their memory, files, priority and limits.
_PROCESSES = _numbers("""
    ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272
    pidfd_open 434 434, pidfd_send_signal 424 424, pidfd_getfd 438 438
    process_madvise 440 440, process_mrelease 448 448, migrate_pages 256 238, move_pages 279 239
    get_robust_list 274 100, setpriority 141 140, ioprio_set 251 30
    sched_setaffinity 203 122, sched_setscheduler 144 119, sched_setparam 142 118
    sched_setattr 314 274
""")
# The kernel and the machine.
_KERNEL = _numbers("""
    mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51
    open_tree 428 428, move_mount 429 429
    fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442
    statmount 457 457, listmount 458 458, open_tree_attr 467 467, unshare 272 97, setns 308 268
    io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427
    bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, modify_ldt 154 -, personality 135 92
    syslog 103 116, acct 163 89, swapon 167 224, swapoff 168 225, reboot 169 142, vhangup 153 58
    sethostname 170 161, setdomainname 171 162, iopl 172 -, ioperm 173 -
    settimeofday 164 170, clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266
    init_module 175 105, finit_module 313 273, delete_module 176 106
    kexec_load 246 104, kexec_file_load 320 294, lookup_dcookie 212 18, nfsservctl 180 42
    uselib 134 -, ustat 136 -, sysfs 139 -
""")
# Only needed for writing; Landlock then restricts the paths.
_CHANGING = _numbers("""
    creat 85 -, mkdir 83 -, mkdirat 258 34, mknod 133 -, mknodat 259 33, rmdir 84 -
    unlink 87 -, unlinkat 263 35, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36
    rename 82 -, renameat 264 38, renameat2 316 276
""")
_NEW_PROCESS = _numbers("fork 57 -, vfork 58 -")
_NEW_PROGRAM = _numbers("execve 59 221, execveat 322 281")
_SIGNALS = _numbers("tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240")
# In a process group of its own, a process would survive when the renderer's group is killed.
_NEW_GROUP = _numbers("setpgid 109 154, setsid 112 157")
_KNOWN_BY_ARGUMENT = _numbers("""
    kill 62 129, tgkill 234 131, prlimit64 302 261, ioctl 16 29, fcntl 72 25, open 2 -
    openat 257 56, openat2 437 437, clone 56 220, clone3 435 435
""")
# TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Others change files, send
# signals or control devices.
_IOCTLS = (0x5401, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Descriptors, flags, locks, pipe size. No leases, notifications or signals (F_SETOWN, F_SETSIG).
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
_ACCESS_MODE, _TRUNCATING = 0x3, 0x200
_CLONE_THREAD, _CLONE_NAMESPACES = 0x00010000, 0x7E020080
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06


def _seccomp(plan: dict[str, Any], held: list[str]) -> bool:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    program = b"".join(_filter(machine, plan, held))
    code = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HL", len(program) // 8, ctypes.addressof(code))
    return bool(_libc.prctl(_SECCOMP, ctypes.c_ulong(2), pointer, 0, 0) == 0)


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _filter(machine: str, plan: dict[str, Any], held: list[str]) -> list[bytes]:
    """Return the filter program, which refuses calls that affect anything outside the process."""
    column = list(_ARCHITECTURES).index(machine)
    processes = bool(plan["processes"])
    # A process that may start children may signal them, if its signals cannot reach others.
    signals = processes and bool({"process-namespace", "landlock-signals"} & set(held))
    calls = _ATTRIBUTES | _OUTSIDE | _PROCESSES | _KERNEL
    calls |= {} if plan["write"] else _CHANGING
    calls |= {} if processes else _NEW_PROCESS
    calls |= {} if plan["execute"] else _NEW_PROGRAM
    calls |= {} if signals else _SIGNALS
    calls |= {} if "process-namespace" in held else _NEW_GROUP
    refused = [found for numbers in calls.values() if (found := numbers[column]) is not None]
    body = [
        _step(_LOAD, 4),
        _step(_EQUAL, _ARCHITECTURES[machine], 1),
        _step(_RETURN, _KILL),
        _step(_LOAD, 0),
        # The x32 ABI of x86_64 uses other call numbers and would bypass the list.
        _step(_AT_LEAST, 0x40000000, 0, 1),
        _step(_RETURN, _KILL),
    ]
    for name, decided in _by_argument(processes=processes, signals=signals).items():
        number = _KNOWN_BY_ARGUMENT[name][column]
        body += [] if number is None else [_step(_EQUAL, number, 0, len(decided)), *decided]
    body += [_step(_EQUAL, number, len(refused) - place) for place, number in enumerate(refused)]
    return [*body, _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]


def _by_argument(*, processes: bool, signals: bool) -> dict[str, list[bytes]]:
    """Return the filter steps for calls that are only allowed with certain arguments."""
    itself = [] if signals else [os.getpid()]
    found = {
        "kill": _only(0, itself),
        "tgkill": _only(0, itself),
        # Only this process's own limits, not the hub's.
        "prlimit64": _only(0, [0]),
        "ioctl": _only(1, _IOCTLS),
        "fcntl": _only(1, _FCNTLS),
        "open": _opened(1),
        "openat": _opened(2),
        # A filter cannot read arguments passed in memory; libraries fall back to the older calls.
        "openat2": [_step(_RETURN, _UNKNOWN)],
        "clone3": [_step(_RETURN, _UNKNOWN)],
        "clone": _cloned(processes=processes),
    }
    return {name: steps for name, steps in found.items() if steps}


def _argument(number: int) -> bytes:
    return _step(_LOAD, 16 + 8 * number)


def _only(argument: int, values: Sequence[int]) -> list[bytes]:
    """Return the steps that allow a call only with certain values, none if any is allowed."""
    if not values:
        return []
    passed = [_step(_EQUAL, value, len(values) - place) for place, value in enumerate(values)]
    return [_argument(argument), *passed, _step(_RETURN, _REFUSE), _step(_RETURN, _ALLOW)]


def _opened(argument: int) -> list[bytes]:
    # Landlock checks the access mode, but ignores mode 3, and before version 3 it does not check
    # truncation of a file opened for reading.
    return [
        _argument(argument),
        _step(_AND, _ACCESS_MODE | _TRUNCATING),
        _step(_EQUAL, _TRUNCATING, 3),
        _step(_AND, _ACCESS_MODE),
        _step(_EQUAL, _ACCESS_MODE, 1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    ]


def _cloned(*, processes: bool) -> list[bytes]:
    if processes:
        decided = _step(_ANY_OF, _CLONE_NAMESPACES, 0, 1)
    else:
        decided = _step(_ANY_OF, _CLONE_THREAD, 1)
    return [_argument(0), decided, _step(_RETURN, _REFUSE), _step(_RETURN, _ALLOW)]


if __name__ == "__main__":
    main()
