"""The `flotilla` command. It imports no Django, and loads modules only for the command that runs.

Exit codes: 0 success; 1 a difference, or No; 2 a wrong flag, or a failed diff; 20 any other error,
with one sentence on standard error; 130 interrupted.
"""

import importlib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from types import ModuleType

import typer

from hub.cli import config, unsupported
from hub.cli.problem import FAILED, Problem
from hub.cli.secrets import take_secrets
from hub.engine.errors import EngineError
from hub.engine.printable import printable

GROUPS = {
    "account": "Accounts, tokens and what you may do.",
    "admin": "Files and whole installations.",
    "app": "Applications.",
    "appset": "Application sets.",
    "audit": "The audit trail.",
    "cert": "Known hosts.",
    "cluster": "Clusters of the hub.",
    "gpg": "Keys that sign commits.",
    "proj": "Projects, their roles and windows.",
    "repo": "Repositories.",
    "repocreds": "Credentials for many repositories.",
}
_VALUED = {
    "--server": "server",
    "--auth-token": "token",
    "--argocd-context": "context",
    "--config": "config",
    "--server-crt": "authority",
    "--client-crt": "certificate",
    "--client-crt-key": "key",
    "--http-retry-max": "retries",
}
_SWITCHES = {"--insecure": "insecure", "--plaintext": "plaintext"}
_NO_PARTS = "the hub is reached by its address, whatever its parts are called"
_NOTED = {"--grpc-web": "the command speaks REST"}
"""Switches of Argo CD's command that change nothing, and why."""
_NOTED_VALUED = {
    "--loglevel": "errors are one sentence, FLOTILLA_DEBUG=1 shows more",
    "--logformat": "errors are one sentence on standard error",
    "--grpc-web-root-path": "give the path with --server",
    "--kube-context": "the hub's contexts are those of --argocd-context",
    "--controller-name": _NO_PARTS,
    "--redis-name": _NO_PARTS,
    "--redis-haproxy-name": _NO_PARTS,
    "--repo-server-name": _NO_PARTS,
    "--server-name": _NO_PARTS,
    "--redis-compress": _NO_PARTS,
}
"""Flags with a value that change nothing, and why."""
_REFUSED = ("--core", "--port-forward", "--port-forward-namespace")
_POSITIVE = (
    "--validate",
    "--cascade",
    "--exit-code",
    "--sso-launch-browser",
    "--use-builtin-policy",
    "--diff",
    "--auto-prune",
    "--self-heal",
    "--allow-empty",
    "--orphaned-resources",
    "--orphaned-resources-warn",
)
"""Flags for which =false has an effect. For all others it is the default."""
_UNUSED = {"httpx._main": (), "rich.markdown": ("Markdown",), "rich.traceback": ("Traceback",)}
"""Modules that httpx and Typer import but no command uses: a CLI, Markdown, tracebacks."""
_OWN_SERVER = ("appset", "set-secret")


def take_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the global flags, which are stored.

    Raises: Problem for a flag of another program, or one without its value.
    """
    left: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*left, word, *queue]
        name, equals, value = word.partition("=")
        if name in _REFUSED:
            raise Problem(f"{name} is not served: give --server with the hub's address")
        if name in _NOTED:
            unsupported.note(name, value.lower() != "false", _NOTED[name])
            continue
        if name in _SWITCHES and equals:
            setattr(config.FLAGS, _SWITCHES[name], value.lower() != "false")
            continue
        if name in _SWITCHES:
            setattr(config.FLAGS, _SWITCHES[name], True)
            continue
        if word.startswith("--") and value in ("true", "false") and name not in _VALUED:
            left += _switched(name, on=value == "true")
            continue
        own = name == "--server" and tuple(left[:2]) == _OWN_SERVER
        if own or not (name in _VALUED or name in _NOTED_VALUED or name in ("--header", "-H")):
            left.append(word)
            continue
        if not equals:
            if not queue:
                raise Problem(f"{name} needs a value")
            value = queue.pop(0)
        _remember(name, value)
    return left


def _switched(name: str, *, on: bool) -> list[str]:
    """Return a switch from a form with a value, as other tools accept it: --prune=true."""
    if on:
        return [name]
    is_positive = name in _POSITIVE or name.startswith(
        ("--helm-", "--kustomize-", "--directory-", "--ignore-missing-", "--sync-retry-refresh")
    )
    return [f"--no-{name[2:]}"] if is_positive else []


def _remember(name: str, value: str) -> None:
    if name in _VALUED:
        setattr(config.FLAGS, _VALUED[name], value)
    elif name in _NOTED_VALUED:
        unsupported.note(name, value, _NOTED_VALUED[name])
    elif name in ("--header", "-H"):
        header, colon, text = value.partition(":")
        if not colon:
            raise Problem(f"{name} {value}: write Name: value")
        config.FLAGS.headers[header.strip()] = text.strip()


def build(wanted: str = "") -> typer.Typer:
    """Return the command with one group loaded, or with all of them (`*`) for completion."""
    from hub.cli.commands import root

    for name, text in GROUPS.items():
        if wanted in (name, "*"):
            root.app.add_typer(importlib.import_module(f"hub.cli.commands.{name}").app, name=name)
        else:
            # Only its name and help are needed: nothing of it is loaded.
            empty = typer.Typer(help=text, no_args_is_help=True)
            empty.callback()(_nothing)
            root.app.add_typer(empty, name=name, help=text)
    return root.app


def _plugin(name: str, arguments: Sequence[str]) -> None:
    """Run the plugin flotilla-NAME from the PATH, if there is no such command."""
    from hub.cli.commands import root

    own = {c.name or getattr(c.callback, "__name__", "") for c in root.app.registered_commands}
    if not name or name in GROUPS or name in own or not name.replace("-", "").isalnum():
        return
    program = shutil.which(f"flotilla-{name}")
    if program:
        os.execv(program, [program, *arguments[list(arguments).index(name) + 1 :]])  # noqa: S606 - what a person put into the own PATH


def _leave_out_unused() -> None:
    """Replace unused imports by empty modules, which saves two fifths of the start-up time."""
    for name, parts in _UNUSED.items():
        module = ModuleType(name)
        for part in parts:
            setattr(module, part, type(part, (), {}))
        sys.modules.setdefault(name, module)


def _nothing() -> None:
    """Stands for a group that is not loaded."""


def run() -> None:
    """Run the command; a problem is printed as one sentence, with its exit code."""
    _leave_out_unused()
    try:
        options = os.environ.get("FLOTILLA_OPTS") or os.environ.get("ARGOCD_OPTS") or ""
        arguments = take_flags(take_secrets([*shlex.split(options), *sys.argv[1:]]))
        first = next((a for a in arguments if not a.startswith("-")), "")
        completes = "_FLOTILLA_COMPLETE" in os.environ
        if completes:
            from typer._completion_classes import completion_init

            completion_init()
        if not completes:
            _plugin(first, arguments)
        build("*" if completes else first)(arguments, prog_name="flotilla")
    except Problem as problem:
        sys.stderr.write(printable(f"flotilla: {problem}", "\n\t") + "\n")
        sys.exit(problem.code)
    except EngineError as error:
        # An invalid rule or script in a file.
        sys.stderr.write(printable(f"flotilla: {error}", "\n\t") + "\n")
        sys.exit(FAILED)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # An unexpected response: from a proxy, or from a hub of another version.
        if os.environ.get("FLOTILLA_DEBUG"):
            raise
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        sys.stderr.write(
            f"flotilla: the server's answer has an unexpected form ({detail}); "
            "is this a hub? Compare flotilla version; FLOTILLA_DEBUG=1 shows where\n"
        )
        sys.exit(FAILED)
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
