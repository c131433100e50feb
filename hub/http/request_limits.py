"""Limits on requests before Django sees them: size, speed, and number at once.

Django's handler reads a whole body, to disk when it is long, before it knows the sender. This runs
before it: a body is refused by its declared length at once, or counted while it arrives, and only
signed-in senders may send more than 64 KiB.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson
from channels.db import database_sync_to_async
from django.conf import settings
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from hub.auth.signed_tokens import subject_of
from hub.auth.throttling import DELAY, MAX_DELAY_SECONDS
from hub.auth.verification import verify
from hub.base.concurrency import Busy, Gate, Queues, Shares
from hub.base.redirects import origin_of
from hub.base.request_heads import address_of, error_body, joined_cookie
from hub.engine.errors import Unauthenticated
from hub.engine.parsing import parse_digits
from hub.http.body_sizes import BEFORE_SIGN_IN, max_bytes, too_large
from hub.http.response_headers import PROTECTION

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WEBHOOK = "/api/webhook"
MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
MAX_COOKIES = 64
MAX_URL_BYTES = 16 * 1024
# The time limit for a body, which grows with the bytes that have arrived.
BODY_SECONDS = 20.0
LEAST_BYTES_A_SECOND = 16 * 1024
LEAST_EVENT_BYTES_A_SECOND = 1024 * 1024
# The unread rest of a refused request is drained: a client that still sends reads no response.
DRAIN_BYTES, DRAIN_SECONDS = 4 * 2**20, 1.0

# Anonymous requests: each takes a thread and a database connection until its response begins.
_STRANGERS = Gate(16, waiting=500)
# Sign-ins and other anonymous writes: hashing a password takes 100 MB.
_SIGN_INS = Gate(6, waiting=500)
_WEBHOOKS = Gate(4, waiting=100)
_LARGE = Gate(8, waiting=40)
# Open requests per address or token; further ones are refused at once.
_SHARES = Shares()
MAX_OF_ADDRESS = 250
# Concurrent sign-ins per address; others wait a moment, as many people may share an address.
MAX_SIGN_INS_OF_ADDRESS = 20
_OF_ADDRESS = Queues(MAX_SIGN_INS_OF_ADDRESS, waiting=200, seconds=5.0)
MAX_WEBHOOKS_OF_ADDRESS = 50
# Requests of one account until they are answered, whatever the number of its sessions and tokens.
_OF_SUBJECT = Queues(32, waiting=1000, seconds=30.0)
MAX_LARGE_OF_TOKEN = 3
MAX_SOCKETS_OF_ADDRESS = 1000


class Refused(Exception):
    """The request is refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(slots=True)
class Request:
    """A request before its body is read."""

    path: str
    method: str
    headers: dict[str, str]
    address: str
    token: str
    subject: str
    """The token's subject, empty if anonymous; whether it is still valid is checked when needed."""
    length: int | None
    """The declared length of the body; None for chunked bodies."""

    @property
    def is_write(self) -> bool:
        """Whether the request may change something."""
        return self.method not in ("GET", "HEAD", "OPTIONS")


WebhookLimit = Callable[[dict[str, str]], int]


class Intake:
    """Wraps an ASGI application."""

    def __init__(self, app: Any, webhook_bytes: WebhookLimit) -> None:
        """Take `webhook_bytes`, which returns the largest body of an event by its headers.

        It raises Refused.
        """
        self.app: App = app
        self.webhook_bytes = webhook_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request if Django is not needed, otherwise pass it on."""
        if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
            await _answer(send, 200, b"ok", b"text/plain")
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._serve(scope, receive, watched)
        except (Refused, Busy) as error:
            if started:
                # The response has begun: it can only be aborted.
                raise
            await _refuse(scope["path"], receive, send, _as_refusal(error))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = read_head(scope)
        is_event = request.path == WEBHOOK
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_share(request))
            body = Body(
                request, receive, stack, self.webhook_bytes(request.headers) if is_event else None
            )
            await body.begin()
            turn = await stack.enter_async_context(_turn(request))
            answer = _Answer(scope, send, turn, functools.partial(_count_answer, request, stack))
            await self.app(scope, body.receive, answer)
        if body.refusal:
            raise body.refusal


def _as_refusal(error: Refused | Busy) -> Refused:
    if isinstance(error, Refused):
        return error
    return Refused(503, "too many requests at once: try again in a few seconds")


def _share(request: Request) -> contextlib.AbstractContextManager[None]:
    if request.path == WEBHOOK:
        return _SHARES.one(f"webhook {request.address}", MAX_WEBHOOKS_OF_ADDRESS)
    if request.subject:
        # Per token, not per account: a revoked token must not use up its owner's limit.
        return _SHARES.one(request.token, settings.MAX_OPEN_REQUESTS)
    return _SHARES.one(f"address {request.address}", MAX_OF_ADDRESS)


@contextlib.asynccontextmanager
async def _turn(request: Request) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Wait for a slot for a request; return a function that frees it when the response begins."""
    gate = _gate_of(request)
    async with contextlib.AsyncExitStack() as stack:
        if request.subject and gate is None:
            await stack.enter_async_context(_OF_SUBJECT.enter(request.subject))
        if gate is _SIGN_INS:
            await stack.enter_async_context(_OF_ADDRESS.enter(request.address))
        if gate is not None:
            await stack.enter_async_context(gate.enter())
        yield stack.aclose


def _gate_of(request: Request) -> Gate | None:
    if request.path == WEBHOOK:
        return _WEBHOOKS
    if request.subject:
        return None
    return _SIGN_INS if request.is_write else _STRANGERS


def _count_answer(request: Request, stack: contextlib.AsyncExitStack, status: int) -> None:
    """Count an open answer, such as a stream, for its account.

    A token that is not valid any more has no such answer, so it takes nothing from its owner.
    Raises: Busy.
    """
    if request.subject and status < 400 and request.path.startswith("/api/v1/"):
        name = f"answers to {request.subject}"
        stack.enter_context(_SHARES.one(name, settings.MAX_OPEN_REQUESTS))


class _Answer:
    """Sends a response: delayed after a wrong guess; a stream does not hold a slot."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        end_turn: Callable[[], Awaitable[None]],
        count: Callable[[int], None],
    ) -> None:
        self._scope, self._send, self._end_turn, self._count = scope, send, end_turn, count

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._end_turn()
            self._count(message["status"])
            if delay := min(self._scope.get(DELAY, 0.0), MAX_DELAY_SECONDS):
                await asyncio.sleep(delay)
        await self._send(message)


class Body:
    """The body of a request as it arrives.

    The size that anyone may send is read before the request gets a slot, so that slow senders hold
    none.
    """

    def __init__(
        self,
        request: Request,
        receive: Receive,
        stack: contextlib.AsyncExitStack,
        event_bytes: int | None,
    ) -> None:
        self._request, self._receive, self._stack = request, receive, stack
        self._is_event, self._is_decided = event_bytes is not None, event_bytes is not None
        self._received, self._is_whole, self._began = 0, False, time.monotonic()
        self._kept: list[Message] = []
        self._is_signed_in = False
        self.maximum = event_bytes or max_bytes(request.path, signed_in=False)
        self.refusal: Refused | Busy | None = None

    async def begin(self) -> None:
        """Receive the beginning, up to the size that anyone may send.

        Raises: Refused; Busy when too many long bodies arrive at once.
        """
        await self._check(self._request.length or 0)
        early = BEFORE_SIGN_IN if self._is_event else self.maximum
        while not self._is_whole and self._received <= early and not self._is_long:
            self._kept.append(await self._next())

    @property
    def _is_long(self) -> bool:
        return (self._request.length or 0) > BEFORE_SIGN_IN and self._is_decided

    async def receive(self) -> Message:
        """Return the next part; a body that is refused ends, and `refusal` says why."""
        if self._kept:
            return self._kept.pop(0)
        if self._is_whole:
            return await self._receive()
        try:
            return await self._next()
        except (Refused, Busy) as error:
            self.refusal = error
            return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        message = await self._in_time()
        self._received += len(message.get("body", b""))
        await self._check(self._received)
        self._is_whole = not message.get("more_body", False)
        return message

    async def _check(self, size: int) -> None:
        """Find the sender's limit once the request exceeds the one for everybody."""
        if size > self.maximum and not self._is_decided and self._request.subject:
            self._is_decided = True
            self._is_signed_in = await database_sync_to_async(_is_signed_in)(self._request.token)
            if self._is_signed_in:
                self.maximum = max_bytes(self._request.path, signed_in=True)
                if size <= self.maximum:
                    await self._take_room()
        if size > self.maximum:
            raise Refused(
                413, too_large(self.maximum, signed_in=self._is_event or self._is_signed_in)
            )

    async def _take_room(self) -> None:
        of_token = _SHARES.one(f"long {self._request.token}", MAX_LARGE_OF_TOKEN)
        self._stack.enter_context(of_token)
        await self._stack.enter_async_context(_LARGE.enter())
        self._began = time.monotonic()

    async def _in_time(self) -> Message:
        least = LEAST_EVENT_BYTES_A_SECOND if self._is_event else LEAST_BYTES_A_SECOND
        left = self._began + BODY_SECONDS + self._received / least - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await self._receive()
        except TimeoutError as error:
            raise Refused(408, "the body did not arrive in time") from error


def _is_signed_in(token: str) -> bool:
    try:
        verify(token)
    except Unauthenticated:
        return False
    return True


def read_head(scope: Scope) -> Request:
    """Return the parsed headers of a request.

    Raises: Refused when they are too long, the body is compressed, or its length is invalid.
    """
    raw: list[tuple[bytes, bytes]] = scope.get("headers", [])
    if len(raw) > MAX_HEADERS or sum(len(k) + len(v) for k, v in raw) > MAX_HEADER_BYTES:
        raise Refused(
            431, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES // 1024} KiB of them"
        )
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > MAX_URL_BYTES:
        raise Refused(414, f"the URL is longer than {MAX_URL_BYTES // 1024} KiB")
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in raw}
    cookie = "; ".join(v.decode("latin-1") for k, v in raw if k.lower() == b"cookie")
    if cookie.count(";") >= MAX_COOKIES:
        raise Refused(431, f"more than {MAX_COOKIES} cookies")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "compressed bodies are not taken: send it as it is")
    token = _token(headers.get("authorization", ""), cookie)
    peer = (scope.get("client") or ("", 0))[0]
    return Request(
        path=scope["path"],
        method=scope.get("method", "GET"),
        headers=headers,
        token=token,
        subject=subject_of(token),
        address=address_of(peer, headers.get("x-forwarded-for", "")),
        length=_length(headers),
    )


def _token(authorization: str, cookie: str) -> str:
    if authorization.lower().startswith("bearer "):
        return authorization[7:].strip()
    return joined_cookie(parse_cookie(cookie)) if cookie else ""


def _length(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length", "")
    if text and "transfer-encoding" in headers:
        raise Refused(
            400, "Content-Length and Transfer-Encoding exclude each other: send one of them"
        )
    if not text:
        return None if "transfer-encoding" in headers else 0
    length = parse_digits(text)
    if length is None:
        raise Refused(400, "Content-Length is not a number")
    return length


async def _refuse(path: str, receive: Receive, send: Send, refusal: Refused) -> None:
    code = {408: 4, 413: 8, 503: 14}.get(refusal.status, 3)
    is_api = path.startswith("/api/")
    body = orjson.dumps(error_body(code, refusal.message)) if is_api else refusal.message.encode()
    kind = b"application/json" if is_api else b"text/plain; charset=utf-8"
    await _answer(send, refusal.status, body, kind, receive)


async def _answer(
    send: Send, status: int, body: bytes, kind: bytes, unread: Receive | None = None
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *PROTECTION]
    if status >= 400:
        headers += [(b"connection", b"close"), *([(b"retry-after", b"5")] if status == 503 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": unread is not None})
    if unread is not None:
        await _drain(unread)
        await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while size < DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


class SameOrigin:
    """Opens WebSockets only for pages of this hub.

    A browser sends its cookie with those of other sites too.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the handshake of a page of another origin, or without an origin."""
        try:
            head = read_head(scope)
            if not is_own_origin(head.headers.get("origin", ""), head.headers.get("host", "")):
                await send({"type": "websocket.close"})
                return
            with _SHARES.one(f"socket {head.address}", MAX_SOCKETS_OF_ADDRESS):
                await self.app(scope, receive, send)
        except (Refused, Busy):
            await send({"type": "websocket.close"})


def is_own_origin(origin: str, host: str) -> bool:
    """Return whether a WebSocket is opened by a page of this hub, by host and port.

    The host is checked too: with a foreign name that resolves to this address, origin and host
    agree.
    """
    if not validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS):
        return False
    scheme, place = origin_of(origin)
    if place and (scheme, place) == origin_of(settings.EXTERNAL_URL):
        return True
    schemes = ("https",) if settings.HTTPS else ("http", "https")
    return scheme in schemes and place == host.lower()
