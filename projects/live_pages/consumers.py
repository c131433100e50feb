"""`/live`: the WebSocket that publishes changes to open pages.

The session cookie identifies the reader, and is checked again every few seconds. An idle page
receives a heartbeat; without one, the page shows that it is disconnected.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.http import parse_cookie

from hub.access.decisions import Caller, Rights
from hub.auth.live_sessions import VISITORS, SessionState, check_sessions
from hub.auth.signed_tokens import subject_of
from hub.base.concurrency import Gate, Rate, Rates, Turns
from hub.base.metrics import LIVE_CLOSED, clock
from hub.base.request_heads import COOKIE, joined_cookie
from projects.live_pages.page_updates import FEED, Batch, Missed, Subscription, missed_since

BEAT_SECONDS = 15.0
PAUSE_SECONDS = 0.3
"""The minimum time between two messages to a page."""
MAX_WAITING = 200
MAX_PAGES = 50
"""The maximum number of open pages per person and process."""
MAX_MESSAGE_CHARS = 65_536
PAGE_RATE = (60, 4.0)
"""The rate limit for messages of one page: burst, and sustained per second."""
PERSON_RATE = (600, 20.0)
"""The same for all pages of one person in a process."""
# Catching up queries everything that a page shows. It has its own threads, so that requests and
# published changes do not wait for it. Only one page per person catches up at a time, and the
# person's pages then wait for four times as long as it took.
THREADS = 4
WAIT_PER_SECOND = 4.0
_THREADS = ThreadPoolExecutor(THREADS, thread_name_prefix="live")
_CATCHING_UP = Turns()
_MESSAGES = Rates(*PERSON_RATE)
_HANDSHAKES = Gate(8, waiting=500)
UNKNOWN = 4401
FAILED = 1011
UNREADABLE = 1007
TOO_MANY = 4429
TOO_FAST = 4430

log = logging.getLogger(__name__)


def _timed_missed(*args: Any, **kwargs: Any) -> tuple[Missed, float]:
    started = clock()
    return missed_since(*args, **kwargs), clock() - started


def _account(state: SessionState | None) -> Caller | None:
    return state.caller if state and state.caller and state.caller.account else None


class Live(AsyncJsonWebsocketConsumer):
    """One open page."""

    @property
    def rights(self) -> Rights:
        """The rights of the reader."""
        return self.caller.rights

    async def connect(self) -> None:
        """Accept a signed-in reader."""
        self.shown, self.version, self.hidden = Subscription(), 0, frozenset[int]()
        self.has_other_rights = False
        self.waiting: list[Batch] = []
        self.awake = asyncio.Event()
        self.must_catch_up = False
        self.rate, self.person = Rate(*PAGE_RATE), 0
        self.tasks: list[asyncio.Task[None]] = []
        cookies = next(
            (v.decode("latin-1") for k, v in self.scope.get("headers", []) if k == b"cookie"), ""
        )
        self.token = joined_cookie(parse_cookie(cookies)) if COOKIE in cookies else ""
        # A handshake without a valid token costs no database query.
        async with _HANDSHAKES.enter():
            states = (
                await database_sync_to_async(check_sessions)({self.token})
                if subject_of(self.token)
                else {}
            )
        state = states.get(self.token)
        await self.accept()
        caller = _account(state)
        if state is None or caller is None:
            await self.close(code=UNKNOWN)
            return
        self.caller, self.policies, self.bearing = caller, state.policies, state.bearing
        self.person = caller.account.pk if caller.account else 0
        if VISITORS.count(self.person) >= MAX_PAGES:
            await self._refuse(TOO_MANY, f"more than {MAX_PAGES} pages are open: close some")
            return
        FEED.enter(self)
        VISITORS.enter(self)
        self._do(self._publish())
        self._do(self._beat())

    async def _refuse(self, code: int, reason: str) -> None:
        LIVE_CLOSED.labels("pages" if code == TOO_MANY else "messages").inc()
        await self.close(code=code, reason=reason)

    async def disconnect(self, _code: int) -> None:
        """Unsubscribe."""
        FEED.leave(self)
        VISITORS.leave(self)
        for task in self.tasks:
            task.cancel()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(self._close_on_failure(work)))

    async def _close_on_failure(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task of the page; if it fails, close the socket so that the page reconnects."""
        try:
            await work
        except OSError:  # the page closed in the middle of a message
            log.debug("a live page closed", exc_info=True)
        except Exception:
            log.exception("a task of a live page failed")
            with contextlib.suppress(Exception):  # the page may have been closed
                await self.close(code=FAILED)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self.send_json({"beat": BEAT_SECONDS})

    def session_checked(self, state: SessionState | None) -> None:
        """Close the socket when the session ends, and apply changes of the account's rights."""
        caller = _account(state)
        if state is None or caller is None:
            self._do(self.close(code=FAILED if state is None else UNKNOWN))
            return
        is_about_access = "access" in self.shown.also and state.policies != self.policies
        if state.bearing != self.bearing or is_about_access:
            self.has_other_rights = True
        # Policies may refer to cluster labels, so a change of clusters counts as one.
        if state.bearing != self.bearing or state.policies != self.policies:
            self._request_catch_up()
        self.caller, self.policies, self.bearing = caller, state.policies, state.bearing

    def receive_batch(self, batch: Batch) -> None:
        """Queue changes; a page that cannot keep up catches up with all missed changes at once."""
        if len(self.waiting) < MAX_WAITING:
            self.waiting.append(batch)
        else:
            self.must_catch_up = True
        self.awake.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Read a message; an invalid one closes the socket."""
        if not self.person:  # the page was refused, and is closing
            return
        now = clock()
        if not self.rate.take(now) or not _MESSAGES.take(self.person, now):
            await self._refuse(TOO_FAST, "too many messages: send fewer per second")
            return
        if len(text_data or bytes_data or "") > MAX_MESSAGE_CHARS:
            await self.close(code=UNREADABLE)
            return
        try:
            content = json.loads(text_data or bytes_data or "")
        except (ValueError, RecursionError):
            await self.close(code=UNREADABLE)
            return
        await self.receive_json(content)

    async def receive_json(self, content: Any, **_kwargs: Any) -> None:
        """Store what the page shows now, and send what it missed."""
        if not isinstance(content, dict):
            return
        version = content.get("version")
        if isinstance(version, int) and not isinstance(version, bool):
            self.version = version if 0 < version < 2**63 else 0
        self.shown, self.hidden = Subscription.of(content), frozenset()
        self._request_catch_up()

    def _request_catch_up(self) -> None:
        self.must_catch_up = True
        self.awake.set()

    async def _publish(self) -> None:
        while True:
            await self.awake.wait()
            self.awake.clear()
            batches, self.waiting = self.waiting, []
            if self.must_catch_up:
                self.must_catch_up = False
                await self._catch_up()
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                for batch in batches:
                    if batch.version > self.version:
                        await self._send(batch)

    async def _catch_up(self) -> None:
        """Send what the page missed, and which of its rows its reader may not see."""
        async with _CATCHING_UP.enter(self.person) as turn:
            shown = self.shown
            # With their new rights, the reader may no longer see the page itself.
            touched, self.has_other_rights = self.has_other_rights and bool(shown.also), False
            missed = database_sync_to_async(
                _timed_missed, thread_sensitive=False, executor=_THREADS
            )
            found, seconds = await missed(
                self.caller, shown, self.hidden, self.version, touched=touched
            )
            turn.pause_seconds = WAIT_PER_SECOND * seconds
        if self.shown is not shown:  # the page shows something else now, and will catch up again
            return
        self.version, self.hidden = found.version, found.hidden
        if found.message:
            await self.send_json(found.message)

    async def _send(self, batch: Batch) -> None:
        """Send the changes that the reader may see."""
        shown, seen = self.shown, batch.seen_by.get(self.rights)
        mine = [batch.by_row[pk] for pk in (shown.rows - self.hidden) & batch.by_row.keys()]
        is_outdated = seen is None or any(
            c in seen and not c.gone and shown.view not in c.drawn for c in mine
        )
        if seen is None or is_outdated:
            # The rights or the rows of the page changed after the feed read the changes.
            self._request_catch_up()
            return
        gone = {c.pk for c in mine if c.gone or c not in seen}
        rows = {str(c.pk): c.drawn[shown.view] for c in mine if c.pk not in gone}
        others = 0
        if shown.counts_others:
            apps = [c for c in seen if c.resource == "applications"]
            others = sum(c.version > self.version and c.pk not in shown.rows for c in apps)
        touched = any(c.version > self.version and c.keys & shown.also for c in seen)
        news = any("notices" in c.keys and c.version > self.version for c in seen)
        message = shown.message(batch.version, rows, gone, others, touched=touched, news=news)
        self.version, self.hidden = batch.version, self.hidden | gone
        if message:
            await self.send_json(message)
