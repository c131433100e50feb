"""Cost of the page of applications with many of them, and of live rows with many open sockets.

Run: python tests/bench/pages.py [applications] [sockets] [changes]. Prints CPU seconds and sizes; SQLite in a temporary folder.
With HUB_MODE=production and an empty database the web server is a process of its own, and the changes come from another.
"""

import asyncio
import collections
import contextlib
import gzip
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
os.environ["HUB_DATA_DIR"] = tempfile.mkdtemp()
sys.path.insert(0, os.getcwd())

import django

django.setup()

import uvicorn
import websockets
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusters.models import Cluster
from hub.access.decisions import SETTING
from hub.embedded import LIMITS
from hub.models import Account, Counter, access_changed, change_setting, next_version
from hub.auth.sessions import issue
from hub.events.changes import publish
from projects.models import Application
from projects.objects.specs import default_project, home_cluster

HEALTH = (
    ["Healthy"] * 90 + ["Degraded"] * 3 + ["Progressing"] * 4 + ["Missing", "Suspended", "Unknown"]
)


def fill(count):
    choose = random.Random(1)
    clusters = [
        Cluster.objects.create(server=f"https://c{n}", name=f"cluster-{n:02}", is_synced=True)
        for n in range(40)
    ]
    rows = []
    for n in range(count):
        project = f"team-{n % 30:02}"
        spec = {
            "project": project,
            "source": {
                "repoURL": "https://git.example/deploy",
                "path": f"apps/{n}",
                "targetRevision": "main",
            },
            "destination": {"name": "x", "namespace": f"ns-{n}"},
            **({"syncPolicy": {"automated": {"prune": True}}} if n % 3 else {}),
        }
        rows.append(
            Application(
                name=f"app-{n:05}",
                project=project,
                spec=spec,
                cluster=clusters[n % 40],
                dest_namespace=f"ns-{n}",
                health_status=choose.choice(HEALTH),
                sync_status=choose.choice(["Synced"] * 20 + ["OutOfSync"]),
                revisions=["c" * 40],
                resource_version=n + 1,
                reconciled_at=timezone.now(),
                health_changed_at=timezone.now(),
                resources=[
                    {
                        "kind": "Deployment",
                        "name": "web",
                        "status": "Synced",
                        "health": {"status": "Healthy"},
                    }
                ]
                * 12,
                labels={"tier": choose.choice(["a", "b"])},
            )
        )
    Application.objects.bulk_create(rows, batch_size=500)


def pages(token):
    client = Client(SERVER_NAME="localhost")
    client.cookies["argocd.token"] = token
    for path in (
        "/applications",
        "/applications?health=Degraded&cluster=cluster-03",
        "/applications?q=app-0123",
        "/applications?view=tiles",
        "/applications?page=100",
    ):
        client.get(path)
        with CaptureQueriesContext(connection) as seen:
            start = time.process_time()
            answer = client.get(path)
            spent = time.process_time() - start
        size = len(gzip.compress(answer.content))
        print(
            (
                f"{path}: {answer.status_code}, {spent:.3f} s CPU, {len(seen)} queries, "
                f"{size / 1000:.0f} kB compressed"
            )
        )


async def watch(port, tokens, count, keys):
    """Open sockets that each watch 50 rows, say so, and print when each row arrived: the clients'
    own process.
    """
    arrived = []
    opened = []

    async def one(number):
        watched = [keys[(number * 37 + n) % len(keys)] for n in range(50)]
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/live",
            additional_headers={"Cookie": f"argocd.token={tokens[number % len(tokens)]}"},
            origin=f"http://127.0.0.1:{port}",
            max_size=2**24,
            open_timeout=60,
        ) as socket:
            await socket.send(json.dumps({"page": "applications", "version": 0, "rows": watched}))
            opened.append(1)
            if len(opened) == count:
                print("open", flush=True)
            while True:
                text = await socket.recv()
                now = time.monotonic()
                arrived.append((number, now, text))

    tasks = [asyncio.create_task(one(n)) for n in range(count)]
    await asyncio.to_thread(sys.stdin.readline)
    for task in tasks:
        task.cancel()
    ended = {
        repr(e)[:200]
        for e in await asyncio.gather(*tasks, return_exceptions=True)
        if not isinstance(e, asyncio.CancelledError)
    }
    said = []
    for number, now, text in arrived:
        message = json.loads(text)
        if "version" in message:
            said.append(
                (number, now, message["version"], [int(k) for k in message.get("rows", {})])
            )
    print(json.dumps({"said": said, "ended": sorted(ended), "cpu": time.process_time()}))


def sockets(port, tokens, count, changes, keys):
    """Change rows in batches of 50, twice a second, while sockets are open; print how long each
    took to arrive.
    """
    clients = subprocess.Popen(
        [sys.executable, __file__, "--watch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(json.dumps([port, tokens, count, keys]), file=clients.stdin, flush=True)
    assert clients.stdout.readline().strip() == "open", "the clients did not start"
    time.sleep(3)
    choose = random.Random(2)
    told = collections.defaultdict(list)
    start = time.process_time()
    for _ in range(changes // 50):
        batch = choose.sample(keys, 50)
        with transaction.atomic():
            version = next_version()
            Application.objects.filter(pk__in=batch).update(
                resource_version=version, health_status=choose.choice(HEALTH)
            )
            publish()
        now = time.monotonic()
        for key in batch:
            told[key].append((version, now))
        time.sleep(0.5)
    time.sleep(4)
    spent = time.process_time() - start
    print("done", file=clients.stdin, flush=True)
    said = json.loads(clients.stdout.readline())
    clients.wait(10)
    if said["ended"]:
        print("sockets that ended by themselves:", said["ended"])
    known, late = collections.defaultdict(int), []
    for number, now, version, keys in said["said"]:
        # A message may tell of several changes of a row at once: the first of them waited longest.
        late += [
            now - min(at for v, at in told[key] if known[number] < v <= version) for key in keys
        ]
        known[number] = version
    late.sort()
    print(
        f"{count} sockets of {len(tokens)} people, {changes} changes in batches of 50: "
        f"{len(late):,} rows told, "
        f"median {statistics.median(late):.2f} s, p95 {late[int(len(late) * 0.95)]:.2f} s, "
        f"most {late[-1]:.2f} s; "
        f"CPU: server and changes {spent:.1f} s, clients {said['cpu']:.1f} s with their start"
    )


def people(count):
    """Return the tokens of people of 25 teams, each with rules of its own that let it see
    everything.
    """
    lines = [
        f"p, team-{n:02}, applications, get, {kind}, allow"
        for n in range(25)
        for kind in (f"team-{n:02}/*", "*/*")
    ]
    value = {"policy.csv": "\n".join(lines)}
    change_setting(SETTING, value)
    access_changed("rbac", "rbac", value)
    accounts = [
        Account.objects.create(
            name=f"person-{n}",
            issuer="https://sso.example",
            subject=f"s{n}",
            groups=[f"team-{n % 25:02}"],
            password="!",
            capabilities=["login"],
        )
        for n in range(count)
    ]
    return [issue(account, timezone.now()) for account in accounts]


def main(count, open_sockets, changes):
    call_command("migrate", verbosity=0)
    home_cluster()
    default_project()
    account = Account.objects.create(name="admin", password="!", capabilities=["login"])
    token = issue(account, timezone.now())
    fill(count)
    next_version()
    Counter.objects.update(value=count + 1)
    pages(token)
    keys = list(Application.objects.order_by("pk").values_list("pk", flat=True)[:1000])
    with served(18777) as server:
        sockets(18777, people(open_sockets), open_sockets, changes, keys)
        if server:
            print(f"CPU of the web process with its start: {cpu_of(server.pid):.1f} s")


@contextlib.contextmanager
def served(port):
    """Serve in a thread as the embedded shape does; in production as a process of its own, which
    is then returned.
    """
    config = uvicorn.Config(
        "hub.asgi:application",
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="off",
        **LIMITS,
    )
    if settings.EMBEDDED:
        server = uvicorn.Server(config)
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.05)
        yield None
        server.should_exit = True
        return
    argv = [
        sys.executable,
        "-m",
        "uvicorn",
        config.app,
        "--port",
        str(port),
        "--log-level",
        "error",
        "--lifespan",
        "off",
    ]
    process = subprocess.Popen(argv)
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.1)
    yield process
    process.terminate()
    process.wait(20)


def cpu_of(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if sys.argv[1:] == ["--watch"]:
    asyncio.run(watch(*json.loads(sys.stdin.readline())))
else:
    given = [int(a) for a in sys.argv[1:]]
    main(*(given + [10_000, 500, 1000][len(given) :]))
