"""The program that shuts itself in, and then is or becomes a renderer.

It runs apart from the hub as `python -I -S confined.py PLAN worker` or `… PLAN -- program arguments`, and
imports the standard library only. What it runs is somebody else's program, so before the first word of input
is read it gives up everything that it could lose: its user, the network, other processes, all files but a few.
Each layer is tried; the names of those that hold are what `confine` returns.

The system calls are made here and not by a package: what exists for Landlock alone would be the smaller half,
and this file must start in milliseconds, with nothing else on its path.
Source: https://docs.kernel.org/userspace-api/landlock.html, seccomp(2), user_namespaces(7), capabilities(7).
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
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)

_NEWUSER, _NEWPID, _NEWNET, _NEWIPC, _NEWUTS = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x04000000  # fmt: skip
_NAMESPACES = {
    "network-namespace": _NEWNET,
    "process-namespace": _NEWPID,
    "ipc-namespace": _NEWIPC | _NEWUTS,
}

_PDEATHSIG, _DUMPABLE, _SECCOMP, _DROP_BOUNDING, _SECUREBITS, _NO_NEW_PRIVS, _AMBIENT = 1, 4, 22, 24, 28, 38, 47  # fmt: skip
_LAST_CAPABILITY = 40
_NO_ROOT_NO_RAISE = 0b101011
"""No privileges for the user 0, none kept over a change of user, and no way back."""


def main() -> NoReturn:
    """Shut this process in as the plan says, and run the worker or a program."""
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
    """Shut this process in and return the names of the layers that hold.

    Shapes: `plan` has `user` (a number, or null), `read`, `write` and `execute` (paths), `modules` (folders of
        which only the names may be read), `limits` (by the name of the resource), `processes` (whether it may
        start others). All other access is given up.
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
    if _seccomp(processes=plan["processes"], programs=bool(plan["execute"])):
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
            ("setgroups", "deny"), ("uid_map", f"{NOBODY} {user} 1"), ("gid_map", f"{NOBODY} {group} 1"),
        ):  # fmt: skip
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
    # The change of user hides /proc/self from its owner, who still has to write its maps there.
    _prctl(_DUMPABLE, 1)
    return ["own-user"]


def _into_process_namespace() -> None:
    """Go on in a child, the first of the namespace: with it all others end. The parent only waits."""
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
    return ["landlock-files", *(["landlock-network"] if version >= 4 else []), *(["landlock-signals"] if version >= 6 else [])]  # fmt: skip


def _allowed(plan: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield from ((path, _LIST) for path in plan["modules"])
    yield from ((path, _READ) for path in plan["read"])
    yield from ((path, _READ | _CHANGE) for path in plan["write"])
    yield from ((path, _READ | _EXECUTE) for path in plan["execute"])
    yield from (("/dev/null", 1 << 2 | _WRITE_FILE), ("/dev/urandom", 1 << 2), ("/dev/zero", 1 << 2))  # fmt: skip


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no leave
    try:
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, place)
        _syscall(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint(0))
    finally:
        os.close(place)


# System calls ------------------------------------------------------------------------------------

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS = {
    # name: (number on x86_64, number on aarch64); None where there is no such call
    "socket": (41, 198), "connect": (42, 203), "ptrace": (101, 117), "syslog": (103, 116),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "pivot_root": (155, 41), "chroot": (161, 51), "acct": (163, 89), "settimeofday": (164, 170),
    "mount": (165, 40), "umount2": (166, 39), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "sethostname": (170, 161), "iopl": (172, None), "ioperm": (173, None),
    "init_module": (175, 105), "delete_module": (176, 106), "clock_settime": (227, 112),
    "kexec_load": (246, 104), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "unshare": (272, 97), "perf_event_open": (298, 241), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "setns": (308, 268), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "finit_module": (313, 273),
    "kexec_file_load": (320, 294), "bpf": (321, 280), "userfaultfd": (323, 282),
    "pidfd_send_signal": (424, 424), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
}  # fmt: skip
_NEW_PROCESS = {"fork": (57, None), "vfork": (58, None)}
_NEW_PROGRAM = {"execve": (59, 221), "execveat": (322, 281)}
_CLONE, _CLONE3 = (56, 220), 435
_CLONE_THREAD, _CLONE_NAMESPACES = 0x00010000, 0x7E020080
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _seccomp(*, processes: bool, programs: bool) -> bool:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    program = b"".join(_filter(machine, processes=processes, programs=programs))
    code = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HL", len(program) // 8, ctypes.addressof(code))
    return bool(_libc.prctl(_SECCOMP, ctypes.c_ulong(2), pointer, 0, 0) == 0)


def _filter(machine: str, *, processes: bool, programs: bool) -> list[bytes]:
    """Return the filter's program: it lets every call pass but those that reach out of the process."""
    column = list(_ARCHITECTURES).index(machine)
    calls = _CALLS | ({} if processes else _NEW_PROCESS) | ({} if programs else _NEW_PROGRAM)
    refused = [found for numbers in calls.values() if (found := numbers[column]) is not None]
    step: Callable[[int, int, int, int], bytes] = lambda code, yes, no, value: struct.pack("HBBI", code, yes, no, value)  # noqa: E731  # fmt: skip
    flags = step(_ANY_OF, 0, 1, _CLONE_NAMESPACES) if processes else step(_ANY_OF, 1, 0, _CLONE_THREAD)  # fmt: skip
    body = [
        step(_LOAD, 0, 0, 4), step(_EQUAL, 1, 0, _ARCHITECTURES[machine]), step(_RETURN, 0, 0, _KILL),
        step(_LOAD, 0, 0, 0),
        # The second numbering of x86_64 would walk past the list.
        step(_AT_LEAST, 0, 1, 0x40000000), step(_RETURN, 0, 0, _KILL),
        step(_EQUAL, 0, 1, _CLONE3), step(_RETURN, 0, 0, _UNKNOWN),
        step(_EQUAL, 0, 4, _CLONE[column]), step(_LOAD, 0, 0, 16),
        flags, step(_RETURN, 0, 0, _REFUSE), step(_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    body += [step(_EQUAL, len(refused) - place, 0, number) for place, number in enumerate(refused)]
    return [*body, step(_RETURN, 0, 0, _ALLOW), step(_RETURN, 0, 0, _REFUSE)]


if __name__ == "__main__":
    main()
