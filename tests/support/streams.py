"""Read streams as a client does."""

import asyncio

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.test import AsyncClient


def collect(hub, path, count, act, accept="application/json"):
    """Read `count` items of a stream; `act` runs after the first read."""

    async def read():
        answer = await AsyncClient().get(
            path, headers={"Authorization": f"Bearer {hub.token}", "Accept": accept}
        )
        found = []
        iterator = answer.streaming_content.__aiter__()
        for number in range(count):
            if number == act[0]:
                await asyncio.to_thread(act[1])
            found.append(await asyncio.wait_for(iterator.__anext__(), 15))
        await iterator.aclose()
        await sync_to_async(connections.close_all)()
        return found

    return async_to_sync(read)()
