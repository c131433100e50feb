"""Sign in with a browser, here or on another machine: the hub is the OpenID provider."""

import base64
import hashlib
import hmac
import html
import http.server
import secrets
import sys
import time
import webbrowser
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from hub.cli import config
from hub.cli.client import TIMEOUT, Client, remember
from hub.cli.problem import Problem

PORTS = (8085, 8086, 8087, 8088, 8089)
_WAIT_SECONDS = 300.0


class Hub:
    """The endpoints and TLS settings of a hub for a sign-in."""

    def __init__(self, server: str, *, insecure: bool, name: str = "") -> None:
        self.server, self.insecure, self.name = server.rstrip("/"), insecure, name
        self.client = Client(self.server, "", insecure=insecure, authority=config.FLAGS.authority)
        found = self.client.get("/api/v1/settings").get("oidcConfig") or {}
        if not found.get("issuer"):
            raise Problem(f"{self.server} offers no sign-in by the browser")
        self.client_id = str(found["clientID"])
        self.endpoints = self.client.get("/.well-known/openid-configuration")

    def post(self, url: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and response of a form that is posted to the provider."""
        try:
            answer = httpx.post(url, data=form, timeout=TIMEOUT, verify=self.client.verify)
            return answer.status_code, answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Problem(f"{self.server} does not answer ({type(error).__name__})") from error

    def finish(self, access_token: str) -> str:
        """Exchange an access token for a session, store it, and return the account's name."""
        body = {"access_token": access_token}
        token = self.client.post("/api/v1/flotilla/session/exchange", body)["token"]
        remember(self.server, token, insecure=self.insecure, name=self.name)
        own = Client(self.server, token, insecure=self.insecure, authority=config.FLAGS.authority)
        return str(own.get("/api/v1/session/userinfo")["username"])


class _Callback(http.server.BaseHTTPRequestHandler):
    answer: dict[str, list[str]]

    def do_GET(self) -> None:
        """Take the code from the redirect, and show a page."""
        parts = urlsplit(self.path)
        if parts.path != "/auth/callback":
            self.send_error(404)
            return
        self.server.answer = parse_qs(parts.query)  # type: ignore[attr-defined]
        failed = self.server.answer.get("error")  # type: ignore[attr-defined]
        text = "Sign-in failed: " + html.escape(failed[0]) if failed else "You are signed in."
        text += " You can close this page and go back to the command line."
        body = f"<!doctype html><meta charset=utf-8><title>Flotilla</title><p>{text}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


def _listener(port: int) -> http.server.HTTPServer:
    for candidate in (port,) if port else PORTS:
        try:
            return http.server.HTTPServer(("127.0.0.1", candidate), _Callback)
        except OSError:
            continue
    raise Problem(
        f"no port for the answer of the browser is free: tried {port or PORTS}; use --device"
    )


def by_browser(
    server: str,
    *,
    insecure: bool,
    port: int = 0,
    launch: bool = True,
    show: Callable[[str], None] | None = None,
    name: str = "",
) -> str:
    """Sign in with the browser of this machine, and return the account's name.

    It uses the authorization code flow with PKCE on loopback.
    Raises: Problem when it is refused or takes longer than five minutes.
    """
    hub = Hub(server, insecure=insecure, name=name)
    listener = _listener(port)
    verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
    challenge = (
        base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    )
    redirect = f"http://127.0.0.1:{listener.server_port}/auth/callback"
    url = (
        hub.endpoints["authorization_endpoint"]
        + "?"
        + urlencode(
            {
                "client_id": hub.client_id,
                "response_type": "code",
                "redirect_uri": redirect,
                "scope": "openid profile",
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
    )
    (show or _print_url)(url)
    if launch:
        webbrowser.open(url)
    answer = _wait(listener)
    if not hmac.compare_digest((answer.get("state") or [""])[0], state):
        raise Problem("the answer of the browser does not belong to this sign-in: try again")
    if "code" not in answer:
        raise Problem(f"the sign-in was refused: {(answer.get('error') or ['no code'])[0]}")
    status, tokens = hub.post(
        hub.endpoints["token_endpoint"],
        {
            "grant_type": "authorization_code",
            "code": answer["code"][0],
            "redirect_uri": redirect,
            "client_id": hub.client_id,
            "code_verifier": verifier,
        },
    )
    if status != httpx.codes.OK:
        raise Problem(f"the hub refuses the sign-in: {tokens.get('error', status)}")
    return hub.finish(str(tokens["access_token"]))


def _print_url(url: str) -> None:
    sys.stdout.write(f"Sign in at {url}\n")
    sys.stdout.flush()


def _wait(listener: http.server.HTTPServer) -> dict[str, list[str]]:
    deadline = time.monotonic() + _WAIT_SECONDS
    listener.timeout = 1.0
    try:
        while time.monotonic() < deadline:
            listener.handle_request()
            answer: dict[str, list[str]] | None = getattr(listener, "answer", None)
            if answer is not None:
                return answer
    finally:
        listener.server_close()
    raise Problem("the sign-in was not completed within five minutes: try again")


def by_device(
    server: str, *, insecure: bool, show: Callable[[str, str], None] | None = None, name: str = ""
) -> str:
    """Sign in with a browser elsewhere, with a code (RFC 8628), and return the account's name.

    Raises: Problem when it is denied or takes too long.
    """
    hub = Hub(server, insecure=insecure, name=name)
    status, started = hub.post(
        hub.endpoints["device_authorization_endpoint"],
        {"client_id": hub.client_id, "scope": "openid profile"},
    )
    if status != httpx.codes.OK:
        raise Problem(f"the hub starts no sign-in by a device: {started.get('error', status)}")
    url = str(started.get("verification_uri_complete") or started["verification_uri"])
    (show or _print_code)(url, str(started["user_code"]))
    interval, deadline = (
        float(started.get("interval", 5)),
        time.monotonic() + float(started.get("expires_in", 300)),
    )
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": str(started["device_code"]),
        "client_id": hub.client_id,
    }
    while time.monotonic() < deadline:
        time.sleep(interval)
        status, tokens = hub.post(hub.endpoints["token_endpoint"], form)
        if status == httpx.codes.OK:
            return hub.finish(str(tokens["access_token"]))
        error = tokens.get("error")
        if error == "slow_down":
            interval += 5
        elif error != "authorization_pending":
            raise Problem(f"the sign-in was refused: {error}")
    raise Problem("the code was not entered in time: try again")


def _print_code(url: str, code: str) -> None:
    sys.stdout.write(f"Open {url} and compare the code: {code}\n")
    sys.stdout.flush()
