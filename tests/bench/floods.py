"""Health checks of a running hub while strangers send it large bodies.

Run: python tests/bench/floods.py http://127.0.0.1:8000 [PID]. Sends 200 bodies of 36 MB to the sign-in, 50 at
once, declared and in chunks, and asks /healthz meanwhile. Prints milliseconds; with the hub's PID, its largest
memory too. A hub that is not on this machine is refused.
"""

import asyncio
import ipaddress
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

REQUESTS, AT_ONCE, BODY = 200, 50, 36_000_000
HEAD = (
    "POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    "{length}\r\n\r\n"
)
PIECE = b"x" * 65_536


async def send_body(host, port, *, chunked):
    """Return the status that a large body gets, "closed" when the connection ends without one."""
    reader, writer = await asyncio.open_connection(host, port)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BODY}"
    writer.write(HEAD.format(host=f"{host}:{port}", length=length).encode())
    framed = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    try:
        for _ in range(BODY // len(PIECE)):
            writer.write(framed)
            await asyncio.wait_for(writer.drain(), 30)
    except OSError:
        pass  # It was refused before all was sent.
    try:
        line = await asyncio.wait_for(reader.readline(), 30)
    except OSError:
        line = b""
    writer.close()
    return line.split()[1].decode() if line else "closed"


async def health(host, port):
    """Return how many milliseconds a health check takes."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    if b" 200 " not in answer[:20]:
        raise SystemExit(f"/healthz answered {answer[:60]!r}")
    return (time.perf_counter() - began) * 1000


async def check_until(done, host, port):
    """Return the milliseconds of health checks until something is done, at least 20 of them."""
    found = []
    while len(found) < 20 or not done():
        found.append(await health(host, port))
        await asyncio.sleep(0.02)
    return found


async def flood(host, port, *, chunked):
    """Return what the bodies got, and the milliseconds of the health checks meanwhile."""
    gate, statuses = asyncio.Semaphore(AT_ONCE), []

    async def one():
        async with gate:
            statuses.append(await send_body(host, port, chunked=chunked))

    senders = asyncio.gather(*(one() for _ in range(REQUESTS)))
    found = await check_until(senders.done, host, port)
    await senders
    return statuses, found


def memory(pid):
    """Return the largest memory of a process so far, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def show(what, found, more=""):
    """Print one line of figures."""
    ordered = sorted(found)
    p95 = ordered[int(len(ordered) * 0.95)]
    print(
        (
            f"{what:<22} p50 {statistics.median(ordered):7.1f}  p95 {p95:7.1f}  max "
            f"{ordered[-1]:7.1f} ms  {more}"
        )
    )


async def main():
    """Measure idle and beside two floods."""
    place = urlsplit(sys.argv[1])
    host, port = place.hostname or "", place.port or 80
    if not ipaddress.ip_address(host).is_loopback:
        raise SystemExit("only a hub on this machine is flooded: name it by 127.0.0.1")
    pid = sys.argv[2] if len(sys.argv) > 2 else ""
    show("idle", await check_until(lambda: True, host, port), f"{memory(pid)} MiB" if pid else "")
    for what, chunked in (("declared length", False), ("in chunks", True)):
        statuses, found = await flood(host, port, chunked=chunked)
        counts = {s: statuses.count(s) for s in sorted(set(statuses))}
        show(f"{REQUESTS} bodies, {what}", found, f"{counts} {memory(pid) if pid else ''}")


asyncio.run(main())
