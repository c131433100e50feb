"""A hub that answers over HTTP, an identity provider, and a browser: for tests of what people
see.
"""

import contextlib
import fcntl
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import httpx
import uvicorn
from asgiref.sync import SyncToAsync
from django.db import connections

from hub.embedded import LIMITS
from support.ports import free_port

IDP = Path(__file__).parents[1] / "idp"


class Web:
    """The hub's ASGI application in a thread."""

    def __init__(self, certificate=""):
        """Serve; with a file of key and certificate by TLS."""
        self.port = free_port()
        self.url = f"http{'s' if certificate else ''}://localhost:{self.port}"
        secure = {"ssl_certfile": certificate, "ssl_keyfile": certificate} if certificate else {}
        config = uvicorn.Config(
            "hub.asgi:application",
            host="127.0.0.1",
            port=self.port,
            log_level="error",
            lifespan="off",
            **LIMITS,
            **secure,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)
        # The thread that asks the database for pages outlives the server, and its connection the
        # tests.
        SyncToAsync.single_thread_executor.submit(connections.close_all).result(10)


def install_provider():
    """Install the provider's package once, also when several test processes ask at the same
    time.
    """
    with (IDP / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((IDP / "node_modules" / p).is_dir() for p in ("oidc-provider", "axe-core")):
            subprocess.run(
                [
                    shutil.which("npm"),
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--no-package-lock",
                    "--loglevel=error",
                ],
                cwd=IDP,
                check=True,
                capture_output=True,
                timeout=300,
            )


class IdentityProvider:
    """A genuine OpenID Connect provider whose people a test sets."""

    def __init__(self, callbacks):
        install_provider()
        self.port = free_port()
        self.issuer = f"http://localhost:{self.port}"
        command = [shutil.which("node"), str(IDP / "server.mjs"), str(self.port), *callbacks]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if line.startswith("ready"):
                break

    def people(self, **claims):
        httpx.post(f"{self.issuer}/test/people", content=json.dumps(claims)).raise_for_status()

    def config(self, **changes):
        return {
            "issuer": self.issuer,
            "clientID": "hub",
            "clientSecret": "CANARY-client-secret",
            **changes,
        }

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)


def chromium():
    return (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )


def axe(page):
    """Return what axe-core finds serious on a page, one line each."""
    install_provider()
    page.evaluate((IDP / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']} ({v['impact']}): {n['html'][:160]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"]
    ]


def jumps(page):
    """Return how far a page moved under its reader since it was opened, by browsers' own measure:
    under 0.1 nobody minds.
    """
    return page.evaluate("""() => new Promise((done) => {
        let sum = 0;
        const add = (list) => { for (const entry of list) if (!entry.hadRecentInput) sum += entry.value; };
        const observer = new PerformanceObserver((list) => add(list.getEntries()));
        observer.observe({ type: "layout-shift", buffered: true });
        requestAnimationFrame(() => setTimeout(() => { add(observer.takeRecords()); done(sum); }, 50));
    })""")


def deployment(replicas):
    labels = {"app": "web"}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]},
    }
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
        }
    )


def sign_in(page, site, name="admin", password="correct horse"):
    page.goto(f"{site.url}/login")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", password)
    page.click("form:has(input[name=password]) button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
