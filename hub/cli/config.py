"""Contexts of the command line: hubs and their sessions, in the format of Argo CD's file.

The file is readable only by its owner (0600). A token is kept in the system's keyring when the
package `keyring` is installed and has a backend, else in the file.
"""

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.cli.problem import Problem

_SERVICE = "flotilla"
_IN_KEYRING = "keyring:"


@dataclass
class Flags:
    """Global flags and environment variables."""

    server: str = ""
    token: str = ""
    context: str = ""
    config: str = ""
    insecure: bool = False
    plaintext: bool = False
    authority: str = ""
    """File of a certificate authority to trust."""
    certificate: str = ""
    """File of the client certificate for the hub's proxy."""
    key: str = ""
    retries: str = ""
    headers: dict[str, str] = field(default_factory=dict)


FLAGS = Flags()


def path() -> Path:
    """Return the path of the file of contexts."""
    if FLAGS.config:
        return Path(FLAGS.config)
    folder = os.environ.get("FLOTILLA_CONFIG_DIR") or os.environ.get("ARGOCD_CONFIG_DIR")
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "flotilla"
    return (Path(folder) if folder else base) / "config"


def load() -> dict[str, Any]:
    """Load the contexts.

    Raises: Problem when the file cannot be read, or others could read the tokens in it.
    """
    import yaml

    file = path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {"contexts": [], "servers": [], "users": []}
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}") from error
    if os.name == "posix" and file.stat().st_mode & 0o077:
        raise Problem(f"{file} holds tokens and others may read it: run chmod 600 {file}")
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise Problem(f"{file} is no YAML: remove it and run flotilla login again") from error
    if not isinstance(found, dict) or not all(
        isinstance(found.get(k) or [], list) for k in ("contexts", "servers", "users")
    ):
        raise Problem(f"{file} is not a list of contexts: remove it and run flotilla login again")
    return {**found, **{k: list(found.get(k) or []) for k in ("contexts", "servers", "users")}}


def save(document: dict[str, Any]) -> None:
    """Write the contexts, readable only by their owner."""
    import yaml

    file = path()
    if not file.parent.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o700)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        yaml.safe_dump(document, out, sort_keys=False)
    fresh.replace(file)


def server_url(text: str, *, plaintext: bool = False) -> str:
    """Return the URL of a hub, from a URL or host:port."""
    if text.startswith(("http://", "https://")):
        return text.rstrip("/")
    return ("http://" if plaintext else "https://") + text.rstrip("/")


def remember(name: str, server: str, token: str, *, insecure: bool, authority: str = "") -> None:
    """Store a session under a context, and make it the current one."""
    document = load()
    entry: dict[str, Any] = {"server": server, "insecure": insecure}
    if authority:
        entry["certificate-authority"] = str(Path(authority).resolve())
    _put(document["servers"], "server", server, entry)
    _put(document["users"], "name", name, {"name": name, "auth-token": _sealed(name, token)})
    _put(document["contexts"], "name", name, {"name": name, "server": server, "user": name})
    document["current-context"] = name
    save(document)


def _put(entries: list[Any], key: str, value: str, entry: dict[str, Any]) -> None:
    entries[:] = [e for e in entries if not (isinstance(e, dict) and e.get(key) == value)]
    entries.append(entry)


def _keyring() -> Any:
    if os.environ.get("FLOTILLA_KEYRING") == "off" or importlib.util.find_spec("keyring") is None:
        return None
    import keyring

    # A backend that cannot store anything has priority 0 or below.
    return keyring if getattr(keyring.get_keyring(), "priority", 0) > 0 else None


def _sealed(name: str, token: str) -> str:
    ring = _keyring()
    if ring is None:
        return token
    try:
        ring.set_password(_SERVICE, name, token)
    except Exception:  # a locked or broken keyring: the file is as safe as before
        return token
    return _IN_KEYRING + name


def token_of(kept: str) -> str:
    """Return the token in the file, or in the keyring under a name.

    Raises: Problem when it is not in the keyring.
    """
    if not kept.startswith(_IN_KEYRING):
        return kept
    ring = _keyring()
    found = ring.get_password(_SERVICE, kept.removeprefix(_IN_KEYRING)) if ring else None
    if not found:
        raise Problem("the keyring does not give the token: run flotilla relogin")
    return str(found)


@dataclass(frozen=True, slots=True)
class Session:
    """The hub, token and options of a command."""

    name: str
    server: str
    token: str
    insecure: bool
    authority: str


def current() -> Session:
    """Return the session from flags, the environment or the current context.

    Raises: Problem without a session, or for an unknown context.
    """
    token = (
        FLAGS.token
        or os.environ.get("FLOTILLA_TOKEN")
        or os.environ.get("FLOTILLA_AUTH_TOKEN")
        or os.environ.get("ARGOCD_AUTH_TOKEN")
        or ""
    )
    server = (
        FLAGS.server or os.environ.get("FLOTILLA_SERVER") or os.environ.get("ARGOCD_SERVER") or ""
    )
    if server and token:
        return Session(
            "",
            server_url(server, plaintext=FLAGS.plaintext),
            token,
            FLAGS.insecure,
            FLAGS.authority,
        )
    document = load()
    name = FLAGS.context or str(document.get("current-context") or "")
    if server:
        wanted = server_url(server, plaintext=FLAGS.plaintext)
        name = next((c["name"] for c in document["contexts"] if c.get("server") == wanted), "")
        if not name:
            return Session("", wanted, token, FLAGS.insecure, FLAGS.authority)
    found = next((c for c in document["contexts"] if c.get("name") == name), None)
    if found is None:
        if FLAGS.context:
            raise Problem(f"there is no context {name!r}: flotilla context lists them")
        raise Problem("you are not signed in: run flotilla login HUB first")
    place: dict[str, Any] = next(
        (s for s in document["servers"] if s.get("server") == found["server"]), {}
    )
    user: dict[str, Any] = next(
        (u for u in document["users"] if u.get("name") == found.get("user")), {}
    )
    return Session(
        name,
        str(found["server"]),
        token or token_of(str(user.get("auth-token") or "")),
        FLAGS.insecure or bool(place.get("insecure")),
        FLAGS.authority or str(place.get("certificate-authority") or ""),
    )


def forget(name: str, *, whole: bool) -> bool:
    """Delete the token of a context, or the `whole` context; return whether it existed."""
    document = load()
    there = any(c.get("name") == name for c in document["contexts"])
    users = [u for u in document["users"] if u.get("name") == name]
    for user in users:
        if str(user.get("auth-token") or "").startswith(_IN_KEYRING):
            ring = _keyring()
            if ring:
                ring.delete_password(_SERVICE, name)
    document["users"] = [u for u in document["users"] if u.get("name") != name]
    if whole:
        document["contexts"] = [c for c in document["contexts"] if c.get("name") != name]
        if document.get("current-context") == name:
            document.pop("current-context")
    save(document)
    return there
