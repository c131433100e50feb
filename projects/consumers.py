"""`/live`: pages hear of changes. Who asks is known by the session's cookie, checked again every few seconds.

A page hears a beat when nothing else is said: one that hears none knows that it is not live.
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
from hub.auth.live_sessions import VISITORS, Look, look_at
from hub.auth.signed_tokens import subject_of
from hub.base.concurrency import Gate, Rate, Rates, Turns
from hub.base.metrics import LIVE_CLOSED, clock
from hub.base.request_heads import COOKIE, joined_cookie
from projects.page_updates import FEED, Anew, Batch, Shown, look_anew

BEAT_SECONDS = 15.0
# A page that asks without end is answered as often as this.
PAUSE_SECONDS = 0.3
MOST_WAITING = 200
# Of one person in one process: more is a script that forgets to close.
MOST_PAGES = 50
MOST_MESSAGE = 65_536
# Messages of one page, and of all pages of a person in one process: at once, and a second after that.
PAGE_RATE = (60, 4.0)
PERSON_RATE = (600, 20.0)
# Catching up asks the database for all that a page shows. It has threads of its own, so that requests
# and what is told to everybody do not wait for it; of one person one page catches up at a time, and
# for each second of it that person's pages wait four.
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


def _timed_look(*args: Any, **kwargs: Any) -> tuple[Anew, float]:
    started = clock()
    return look_anew(*args, **kwargs), clock() - started


def _account(look: Look | None) -> Caller | None:
    return look.caller if look and look.caller and look.caller.account else None


class Live(AsyncJsonWebsocketConsumer):
    """One page that is open."""

    @property
    def rights(self) -> Rights:
        """The rights of who looks."""
        return self.caller.rights

    async def connect(self) -> None:
        """Take who is signed in."""
        self.shown, self.version, self.hidden = Shown(), 0, frozenset[int]()
        self.has_other_rights = False
        self.waiting: list[Batch] = []
        self.awake = asyncio.Event()
        self.must_look_anew = False
        self.rate, self.person = Rate(*PAGE_RATE), 0
        self.tasks: list[asyncio.Task[None]] = []
        cookies = next(
            (v.decode("latin-1") for k, v in self.scope.get("headers", []) if k == b"cookie"), ""
        )
        self.token = joined_cookie(parse_cookie(cookies)) if COOKIE in cookies else ""
        # A handshake of nobody costs no look into the database.
        async with _HANDSHAKES.enter():
            looks = (
                await database_sync_to_async(look_at)({self.token})
                if subject_of(self.token)
                else {}
            )
        look = looks.get(self.token)
        await self.accept()
        caller = _account(look)
        if look is None or caller is None:
            await self.close(code=UNKNOWN)
            return
        self.caller, self.policies, self.bearing = caller, look.policies, look.bearing
        self.person = caller.account.pk if caller.account else 0
        if VISITORS.count(self.person) >= MOST_PAGES:
            await self._refuse(TOO_MANY, f"more than {MOST_PAGES} pages are open: close some")
            return
        FEED.enter(self)
        VISITORS.enter(self)
        self._do(self._tell())
        self._do(self._beat())

    async def _refuse(self, code: int, reason: str) -> None:
        LIVE_CLOSED.labels("pages" if code == TOO_MANY else "messages").inc()
        await self.close(code=code, reason=reason)

    async def disconnect(self, code: int) -> None:
        """Hear no more."""
        del code
        FEED.leave(self)
        VISITORS.leave(self)
        for task in self.tasks:
            task.cancel()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(self._keep(work)))

    async def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what a page needs as long as it is open; where it fails the page asks anew, rather than being told no more."""
        try:
            await work
        except OSError:  # the page has gone in the middle of a message
            log.debug("a live page went away", exc_info=True)
        except Exception:
            log.exception("a live page is told no more")
            with contextlib.suppress(Exception):  # the page has gone meanwhile
                await self.close(code=FAILED)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self.send_json({"beat": BEAT_SECONDS})

    def found(self, look: Look | None) -> None:
        """End with the session, and follow the account's rights."""
        caller = _account(look)
        if look is None or caller is None:
            self._do(self.close(code=FAILED if look is None else UNKNOWN))
            return
        is_about_access = "access" in self.shown.also and look.policies != self.policies
        if look.bearing != self.bearing or is_about_access:
            self.has_other_rights = True
        # Clusters count too: with a label of one, rules that say nothing else may be about other applications.
        if look.bearing != self.bearing or look.policies != self.policies:
            self._look_anew()
        self.caller, self.policies, self.bearing = caller, look.policies, look.bearing

    def hear(self, batch: Batch) -> None:
        """Keep what changed until it is told; a page that cannot keep up is told in one go what it missed."""
        if len(self.waiting) < MOST_WAITING:
            self.waiting.append(batch)
        else:
            self.must_look_anew = True
        self.awake.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take a message; what is none of a page ends the socket."""
        if not self.person:  # it is refused, and ends
            return
        now = clock()
        if not self.rate.take(now) or not _MESSAGES.take(self.person, now):
            await self._refuse(TOO_FAST, "more messages than pages send: send fewer a second")
            return
        if len(text_data or bytes_data or "") > MOST_MESSAGE:
            await self.close(code=UNREADABLE)
            return
        try:
            content = json.loads(text_data or bytes_data or "")
        except (ValueError, RecursionError):
            await self.close(code=UNREADABLE)
            return
        await self.receive_json(content)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Take what the page shows now; it is told at once what it has missed."""
        del kwargs
        if not isinstance(content, dict):
            return
        version = content.get("version")
        if isinstance(version, int) and not isinstance(version, bool):
            self.version = version if 0 < version < 2**63 else 0
        self.shown, self.hidden = Shown.of(content), frozenset()
        self._look_anew()

    def _look_anew(self) -> None:
        self.must_look_anew = True
        self.awake.set()

    async def _tell(self) -> None:
        while True:
            await self.awake.wait()
            self.awake.clear()
            batches, self.waiting = self.waiting, []
            if self.must_look_anew:
                self.must_look_anew = False
                await self._catch_up()
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                for batch in batches:
                    if batch.version > self.version:
                        await self._send(batch)

    async def _catch_up(self) -> None:
        """Say what was missed, and which of its rows the page may not show."""
        async with _CATCHING_UP.enter(self.person) as turn:
            shown = self.shown
            # With other rights the page itself may not be for this person any more.
            touched, self.has_other_rights = self.has_other_rights and bool(shown.also), False
            look = database_sync_to_async(_timed_look, thread_sensitive=False, executor=_THREADS)
            anew, seconds = await look(
                self.caller, shown, self.hidden, self.version, touched=touched
            )
            turn.pause_seconds = WAIT_PER_SECOND * seconds
        if self.shown is not shown:  # it shows something else meanwhile, and is looked at anew
            return
        self.version, self.hidden = anew.version, anew.hidden
        if anew.told:
            await self.send_json(anew.told)

    async def _send(self, batch: Batch) -> None:
        """Say what changed, as far as the page may hear of it."""
        shown, seen = self.shown, batch.seen_by.get(self.rights)
        mine = [batch.by_row[pk] for pk in (shown.rows - self.hidden) & batch.by_row.keys()]
        if seen is None or any(
            c in seen and not c.gone and shown.view not in c.drawn for c in mine
        ):
            # Its rights or its rows are others than when the feed asked.
            self._look_anew()
            return
        gone = {c.pk for c in mine if c.gone or c not in seen}
        rows = {str(c.pk): c.drawn[shown.view] for c in mine if c.pk not in gone}
        others = 0
        if shown.counts_others:
            apps = [c for c in seen if c.resource == "applications"]
            others = sum(c.version > self.version and c.pk not in shown.rows for c in apps)
        touched = any(c.version > self.version and c.keys & shown.also for c in seen)
        news = any("notices" in c.keys and c.version > self.version for c in seen)
        told = shown.message(batch.version, rows, gone, others, touched=touched, news=news)
        self.version, self.hidden = batch.version, self.hidden | gone
        if told:
            await self.send_json(told)
