"""REST calls to a hub."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from hub.cli import config
from hub.cli.output import table
from hub.cli.problem import Problem

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["Client", "login", "path", "remember", "table"]

TIMEOUT = (5.0, 60.0, 60.0, 60.0)
"""Seconds to connect, to read, to write and to wait for a connection."""
_TRIES = 3
_PAUSE_SECONDS = 0.5


def path(*parts: str, **query: Any) -> str:
    """Return a path below /api/v1 with its query, without None and empty parameters."""
    pairs = []
    for name, value in query.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one not in (None, "", False):
                pairs.append((name.rstrip("_"), "true" if one is True else str(one)))
    text = "/api/v1/" + "/".join(quote(p, safe="") for p in parts)
    return text + (f"?{urlencode(pairs)}" if pairs else "")


def trust(*, insecure: bool, authority: str = "") -> ssl.SSLContext:
    """Return the TLS settings for a hub's certificate.

    Raises: Problem when the authority cannot be read.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError) as error:
        raise Problem(f"{authority} is not a certificate authority (PEM): {error}") from error
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = config.FLAGS.certificate, config.FLAGS.key
    if certificate:
        try:
            context.load_cert_chain(certificate, key or None)
        except (OSError, ssl.SSLError) as error:
            raise Problem(
                f"--client-crt {certificate} cannot be used with its key "
                f"(--client-crt-key): {error}"
            ) from error
    elif key:
        raise Problem("--client-crt-key needs --client-crt, the certificate of the key")
    return context


def login(
    server: str, username: str, password: str, *, insecure: bool, code: str = "", name: str = ""
) -> None:
    """Sign in, and store the session.

    Raises: Problem when the hub is unreachable or refuses.
    """
    client = Client(server, "", insecure=insecure, authority=config.FLAGS.authority)
    body = {"username": username, "password": password, **({"otp": code} if code else {})}
    remember(server, client.post("/api/v1/session", body)["token"], insecure=insecure, name=name)


def remember(server: str, token: str, *, insecure: bool, name: str = "") -> None:
    """Store a session as the current context, by default named like its hub."""
    url = config.server_url(server, plaintext=config.FLAGS.plaintext)
    config.remember(
        name or url.partition("://")[2],
        url,
        token,
        insecure=insecure,
        authority=config.FLAGS.authority,
    )


def _tries() -> int:
    text = config.FLAGS.retries
    if not text or text == "0":
        return _TRIES
    if not text.isdigit() or len(text) > 2:
        raise Problem(f"--http-retry-max {text}: a whole number below 100")
    return int(text) + 1


class Client:
    """Calls to one hub."""

    def __init__(
        self, server: str, token: str, *, insecure: bool = False, authority: str = ""
    ) -> None:
        self.server = config.server_url(server, plaintext=config.FLAGS.plaintext)
        self._token = token
        self.verify = trust(insecure=insecure, authority=authority)
        self._http: httpx.Client | None = None

    @classmethod
    def from_disk(cls) -> Client:
        """Return a client for the hub in the flags, the environment or the current context."""
        found = config.current()
        return cls(found.server, found.token, insecure=found.insecure, authority=found.authority)

    def get(self, path: str) -> Any:
        """Send a GET and return the response."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Send a POST and return the response."""
        return self._call("POST", path, body)

    def post_lines(self, path: str, lines: Iterable[bytes]) -> Any:
        """Send a POST of JSON values, one per line, and return the response."""
        return self._read(self._answer("POST", path, content=b"".join(lines)))

    def put(self, path: str, body: Any) -> Any:
        """Send a PUT and return the response."""
        return self._call("PUT", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Send a PATCH and return the response."""
        return self._call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """Send a DELETE and return the response."""
        return self._call("DELETE", path, None)

    def lines(self, path: str, *, idle_seconds: float | None = None) -> Iterator[Any]:
        """Yield the objects of a stream until it ends, or sends nothing for a while.

        Raises: Problem when the hub refuses, or the stream ends with an error.
        """
        import httpx

        try:
            with self._session().stream(
                "GET",
                self.server + path,
                headers=self._headers(),
                timeout=httpx.Timeout(idle_seconds, connect=5),
            ) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise self._refusal(answer)
                for line in answer.iter_lines():
                    if not line.strip():
                        continue
                    entry = json.loads(line)
                    if "error" in entry:
                        raise Problem(str(entry["error"].get("message") or "the stream ended"))
                    yield entry.get("result", entry)
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError as error:
            raise self._silence(error) from error
        except ValueError as error:
            raise Problem(f"{self.server} answers no stream of JSON; is this a hub?") from error

    def download(self, path: str, target: Path) -> int:
        """Download a response to a file; return its size in bytes.

        Raises: Problem when the hub refuses or is unreachable.
        """
        import httpx

        size = 0
        try:
            with self._session().stream(
                "GET", self.server + path, headers=self._headers()
            ) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise self._refusal(answer)
                with target.open("wb") as file:
                    for chunk in answer.iter_bytes():
                        size += file.write(chunk)
        except httpx.HTTPError as error:
            raise self._silence(error) from error
        return size

    def _session(self) -> httpx.Client:
        if self._http is None:
            import httpx

            self._http = httpx.Client(verify=self.verify, timeout=TIMEOUT)
        return self._http

    def wait_at_most(self, seconds: int) -> None:
        """Limit the seconds to wait for a response; 0 means the usual minute."""
        if seconds > 0:
            self._session().timeout = (5.0, seconds, seconds, seconds)

    def _headers(self) -> dict[str, str]:
        own = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return {"Content-Type": "application/json", **own, **config.FLAGS.headers}

    def _call(self, method: str, path: str, body: Any) -> Any:
        return self._read(self._answer(method, path, json=body))

    def _read(self, answer: httpx.Response) -> Any:
        try:
            data = answer.json() if answer.content else {}
        except ValueError as error:
            raise Problem(
                f"{self.server} answers {answer.status_code} and no JSON; is this a hub?"
            ) from error
        if answer.status_code >= 400:
            raise self._refusal(answer)
        return data

    def _answer(self, method: str, path: str, **body: Any) -> httpx.Response:
        import httpx

        headers = self._headers()
        if method != "GET":
            # After a broken connection it is unknown whether the change was made: the key makes it
            # safe to repeat.
            headers["Idempotency-Key"] = str(uuid.uuid4())
        tries = _tries()
        for attempt in range(tries):
            try:
                return self._session().request(method, self.server + path, headers=headers, **body)
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError) as error:
                if attempt + 1 == tries or "CERTIFICATE" in str(error):
                    raise self._silence(error) from error
                time.sleep(_PAUSE_SECONDS * attempt)
            except httpx.HTTPError as error:
                raise self._silence(error) from error
        raise AssertionError(tries)

    def _silence(self, error: httpx.HTTPError) -> Problem:
        if "CERTIFICATE" in str(error):
            return Problem(
                f"{self.server} has a certificate that is not trusted: "
                "give --server-crt with its authority, or --insecure"
            )
        return Problem(
            f"{self.server} does not answer ({type(error).__name__}); is the hub running?"
        )

    def _refusal(self, answer: httpx.Response) -> Problem:
        try:
            found = answer.json()
        except ValueError:
            found = {}
        message = found.get("message") if isinstance(found, Mapping) else ""
        hint = "; run flotilla relogin" if answer.status_code == 401 and self._token else ""
        if message == "permission denied":
            hint = ": it is not there, or you have no right to it"
        problem = Problem(f"{message or f'the hub answers {answer.status_code}'}{hint}")
        problem.status = answer.status_code
        return problem
