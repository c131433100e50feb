"""`/live`: pages hear of changes. Who asks is known by the session's cookie, checked again every few seconds.

A page hears a beat when nothing else is said: one that hears none knows that it is not live.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.http import parse_cookie

from hub.access import Caller, is_allowed
from hub.rest import COOKIE, joined_cookie
from projects.api.streams import stream_caller
from projects.feed import FEED, Change, as_message, changes_since

CHECK_SECONDS = 3.0
BEAT_SECONDS = 15.0
MOST_ROWS = 500
UNKNOWN = 4401
FAILED = 1011

log = logging.getLogger(__name__)


class Live(AsyncJsonWebsocketConsumer):
    """One page that is open."""

    async def connect(self) -> None:
        """Take who is signed in."""
        cookies = next((v.decode("latin-1") for k, v in self.scope.get("headers", []) if k == b"cookie"), "")  # fmt: skip
        self.token = joined_cookie(parse_cookie(cookies)) if COOKIE in cookies else ""
        self.caller: Caller | None = (
            await sync_to_async(stream_caller)(self.token) if self.token else None
        )
        await self.accept()
        if self.caller is None or self.caller.account is None:
            await self.close(code=UNKNOWN)
            return
        self.watched: set[int] = set()
        self.page, self.view = "", "table"
        self.version, self.is_behind = 0, False
        self.pending: asyncio.Queue[tuple[int, list[Change]]] = asyncio.Queue(maxsize=200)
        FEED.listen(self._hear)
        work = (self._tell(), self._check(), self._beat())
        self.tasks = [asyncio.create_task(self._keep(one)) for one in work]

    async def disconnect(self, code: int) -> None:
        """Hear no more."""
        del code
        FEED.leave(getattr(self, "_hear", lambda *_: None))
        for task in getattr(self, "tasks", []):
            task.cancel()

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

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Take what the page shows now, and tell it at once what it has missed."""
        del kwargs
        if not isinstance(content, dict) or self.caller is None:
            return
        rows = [
            r for r in content.get("rows") or [] if isinstance(r, int) and not isinstance(r, bool)
        ]
        self.watched = set(rows[:MOST_ROWS])
        self.page, self.view = str(content.get("page") or ""), str(content.get("view") or "table")
        version = content.get("version")
        if isinstance(version, int) and not isinstance(version, bool) and version > 0:
            newest, changes = await sync_to_async(changes_since)(version)
            self.version = max(self.version, newest)
            if changes:
                await self._send(newest, changes)

    def _hear(self, version: int, changes: list[Change]) -> None:
        try:
            self.pending.put_nowait((version, changes))
        except asyncio.QueueFull:
            # A page that cannot keep up is told what it missed in one go, once it has read what waits.
            self.is_behind = True

    async def _tell(self) -> None:
        while True:
            version, changes = await self.pending.get()
            if self.is_behind and self.pending.empty():
                self.is_behind = False
                version, changes = await sync_to_async(changes_since)(self.version)
            elif not self.is_behind:
                self.version = version
            if changes:
                await self._send(version, changes)

    async def _send(self, version: int, changes: list[Change]) -> None:
        # Policies may have to be read: that is for a thread, not for the loop.
        told = await sync_to_async(self._told)(version, changes)
        if len(told) > 1:
            await self.send_json(told)

    def _told(self, version: int, changes: list[Change]) -> dict[str, Any]:
        """Return what this page hears of changes: rows that it shows, and how many others."""
        caller = self.caller
        if caller is None:
            return {}
        rows: dict[str, str] = {}
        gone, others = [], 0
        for change in changes:
            if change.gone:
                others += 1
            elif change.pk in self.watched:
                if is_allowed(caller, "applications", "get", change.rbac_object, change.where):
                    rows[str(change.pk)] = change.tile if self.view == "tiles" else change.row
                else:
                    gone.append(change.pk)
            elif self.page in ("applications", "fleet") and is_allowed(caller, "applications", "get", change.rbac_object, change.where):  # fmt: skip
                others += 1
        is_list = self.page == "applications"
        return as_message(version, rows=rows if is_list else {}, gone=gone, others=others if is_list else 0, object=not is_list and bool(rows or others))  # fmt: skip

    async def _check(self) -> None:
        """End with the session, and follow the account's rights."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.caller = await sync_to_async(stream_caller)(self.token)
            if self.caller is None or self.caller.account is None:
                await self.close(code=UNKNOWN)
                return
