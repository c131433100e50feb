"""REST calls to the hub, and where the session is kept."""

import json
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from hub.cli.problem import Problem

TIMEOUT = httpx.Timeout(60, connect=5)


def config_path() -> Path:
    """Return the file that remembers the session."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get("FLOTILLA_CONFIG_DIR") or base / "flotilla") / "session.json"


def login(server: str, username: str, password: str, *, insecure: bool, code: str = "") -> None:
    """Sign in, and remember the token in a file that only the owner reads.

    Raises: Problem when the hub does not answer or refuses.
    """
    client = Client(server.rstrip("/"), "", insecure=insecure)
    body = {"username": username, "password": password, **({"otp": code} if code else {})}
    remember(server, client.post("/api/v1/session", body)["token"], insecure=insecure)


def remember(server: str, token: str, *, insecure: bool) -> None:
    """Keep a session in a file that only the owner reads."""
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"server": server.rstrip("/"), "token": token, "insecure": insecure}, file)


class Client:
    """Calls to one hub."""

    def __init__(self, server: str, token: str, *, insecure: bool = False) -> None:
        self._server, self._token = server, token
        self.verify: ssl.SSLContext | bool = False if insecure else ssl.create_default_context()

    @classmethod
    def from_disk(cls) -> "Client":
        """Return a client with the remembered session, or with FLOTILLA_SERVER and FLOTILLA_TOKEN."""
        if os.environ.get("FLOTILLA_SERVER"):
            return cls(
                os.environ["FLOTILLA_SERVER"].rstrip("/"), os.environ.get("FLOTILLA_TOKEN", "")
            )
        try:
            kept = json.loads(config_path().read_text())
        except (OSError, ValueError) as error:
            raise Problem("nobody is signed in: run flotilla login URL first") from error
        return cls(kept["server"], kept["token"], insecure=kept.get("insecure", False))

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Return the answer to a POST."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        """Return the answer to a DELETE."""
        return self._call("DELETE", path, None)

    def download(self, path: str, target: Path) -> int:
        """Write the answer to a GET to a file; return how many bytes there were.

        Raises: Problem when the hub refuses or does not answer.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        size = 0
        try:
            with httpx.stream(
                "GET", self._server + path, headers=headers, timeout=TIMEOUT, verify=self.verify
            ) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise Problem(str(answer.json().get("message", answer.status_code)))
                with target.open("wb") as file:
                    for chunk in answer.iter_bytes():
                        size += file.write(chunk)
        except httpx.HTTPError as error:
            raise Problem(
                f"{self._server} does not answer ({type(error).__name__}); is the hub running?"
            ) from error
        return size

    def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {self._token}"} if self._token else {}),
        }
        try:
            answer = httpx.request(
                method,
                self._server + path,
                json=body,
                headers=headers,
                timeout=TIMEOUT,
                verify=self.verify,
            )
        except httpx.HTTPError as error:
            raise Problem(
                f"{self._server} does not answer ({type(error).__name__}); is the hub running?"
            ) from error
        try:
            data = answer.json()
        except ValueError as error:
            raise Problem(
                f"{self._server} answers {answer.status_code} and no JSON; is this a hub?"
            ) from error
        if answer.status_code >= 400:
            hint = "; run flotilla login again" if answer.status_code == 401 and self._token else ""
            raise Problem(f"{data.get('message', answer.status_code)}{hint}")
        return data


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in columns."""
    lines = [[str(c) for c in row] for row in [head, *rows]]
    widths = [max(len(row[n]) for row in lines) for n in range(len(head))]
    for row in lines:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
