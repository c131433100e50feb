"""What access decisions and the trail cost: prints figures, asserts nothing.

Usage: python tests/bench/access.py [--database postgresql://...]
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
parser = argparse.ArgumentParser()
parser.add_argument("--database", default="")
parser.add_argument("--applications", type=int, default=10_000)
arguments = parser.parse_args()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
os.environ["HUB_DATA_DIR"] = tempfile.mkdtemp(prefix="flotilla-bench-")
if arguments.database:
    os.environ["HUB_DATABASE_URL"] = arguments.database
subprocess.run(
    [sys.executable, "manage.py", "migrate", "-v0"], check=True, cwd=Path(__file__).parents[2]
)
import django  # noqa: E402

django.setup()
from django.db import connection, connections, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from hub.access import decisions
from hub.audit import chain
from hub.audit import trail  # noqa: E402
from hub.engine.rbac import Enforcer, builtin, parse  # noqa: E402
from hub.models import Account, AuditEvent, access_changed, change_setting  # noqa: E402
from hub.auth.sessions import issue  # noqa: E402
from projects.models import Application  # noqa: E402


def cpu(label, call, repeat=1):
    start, wall = time.process_time(), time.perf_counter()
    for _ in range(repeat):
        found = call()
    print(
        (
            f"{label}: {(time.process_time() - start) / repeat:.4f} CPU s, "
            f"{(time.perf_counter() - wall) / repeat:.4f} s"
        )
    )
    return found


choose = random.Random(1)
lines = [
    (
        f"p, role:r{n % 300}, applications, {choose.choice(['get', 'sync', 'action/*', '*'])}, "
        f"team-{n % 200}/{choose.choice(['*', 'web-*', 'api'])}, "
        f"{'deny' if n % 50 == 0 else 'allow'}"
    )
    for n in range(1700)
]
lines += [f"g, group-{n}, role:r{n}" for n in range(300)]
text = "\n".join(lines)
enforcer = cpu(f"parse and compile {len(lines)} lines", lambda: Enforcer(builtin() + parse(text)))
groups = [f"group-{n}" for n in range(50)]
questions = [
    (
        f"team-{choose.randrange(250)}/web-{choose.randrange(100)}",
        choose.choice(["get", "sync", "delete"]),
    )
    for _ in range(10_000)
]
for label in ("cold", "warm"):
    cpu(
        f"10,000 checks, {label}",
        lambda: [
            enforcer.decide(["dev", *groups], "applications", action, name).allowed
            for name, action in questions
        ],
    )

if Application.objects.count() < arguments.applications:
    rows = [
        Application(
            name=f"app-{n}",
            project=f"team-{n % 200}",
            spec={
                "project": f"team-{n % 200}",
                "source": {"repoURL": "https://git.example/x", "path": "."},
                "destination": {"name": "east", "namespace": "x"},
            },
        )
        for n in range(arguments.applications)
    ]
    Application.objects.bulk_create(rows, batch_size=1000)
change_setting("rbac", {"policy.csv": text})
access_changed("policy", "rbac", None)
account, _ = Account.objects.get_or_create(
    name="oidc:dev",
    defaults={
        "issuer": "https://idp",
        "subject": "dev",
        "groups": groups,
        "capabilities": ["login"],
    },
)
token = issue(account, timezone.now())
client = Client(HTTP_HOST="localhost", headers={"Authorization": f"Bearer {token}"})
client.get("/api/v1/session/userinfo")
fields = (
    "items.metadata.name,items.metadata.namespace,items.status.sync.status,"
    "items.status.health.status"
)
from projects.access.visibility import visible  # noqa: E402

caller = decisions.caller_of(account)
cpu(
    "predicate and query of the names alone",
    lambda: len(list(visible(caller).values_list("pk"))),
    3,
)
found = cpu(
    f"list of {arguments.applications} for 50 groups, narrow fields",
    lambda: client.get("/api/v1/applications", {"fields": fields}),
    3,
)
print("  shown:", len(found.json()["items"]), "of", arguments.applications)

with transaction.atomic():
    cpu(
        "1,000 audit events, one writer",
        lambda: [
            trail.record("bench", "update", "thing", str(n), before={"a": n}, after={"a": n + 1})
            for n in range(1000)
        ],
    )


def write(count):
    for n in range(count):
        trail.record("bench", "update", "thing", str(n), before={"a": n}, after={"a": n + 1})
    connections.close_all()


for writers in (1, 4, 8) if connection.vendor == "postgresql" else (1,):
    before, start = AuditEvent.objects.count(), time.perf_counter()
    threads = [threading.Thread(target=write, args=(500,)) for _ in range(writers)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    spent = time.perf_counter() - start
    print(
        (
            f"{writers} writers, each event its own transaction: "
            f"{(AuditEvent.objects.count() - before) / spent:.0f} events/s"
        )
    )
count = cpu("seal everything", chain.seal)
print("  sealed:", count)
cpu("check the whole trail", chain.check)
