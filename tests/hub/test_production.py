"""The production shape: web, worker, beat and watcher as processes, on PostgreSQL and Redis, do
the main job.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import pytest
import redis
import yaml
from support.ports import free_port
from support.sets import manifest
from support.wire import Wire
from websockets.sync.client import connect

from hub.settings import _database

ROOT = Path(__file__).resolve().parents[2]
POSTGRES, REDIS = (
    os.environ.get("HUB_TEST_POSTGRES_URL", ""),
    os.environ.get("HUB_TEST_REDIS_URL", ""),
)
# A broker of its own for each test process: workers take whatever is in it.
BROKER = int("".join(filter(str.isdigit, os.environ.get("PYTEST_XDIST_WORKER", ""))) or 0) % 15 + 1
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"


class Production:
    def __init__(self, folder, database=POSTGRES, broker=REDIS):
        import psycopg

        self.redis = redis.Redis.from_url(f"{REDIS.rpartition('/')[0]}/{BROKER}")
        self.redis.flushdb()

        self.folder, self.port = folder, free_port()
        self.database = f"flotilla_{secrets.token_hex(4)}"
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self.database}"')
        self.env = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("HUB_", "DJANGO", "PYTEST", "COV"))
            },
            "HUB_MODE": "production",
            "HUB_SECRET_KEY": secrets.token_hex(32),
            "HUB_ALLOWED_HOSTS": "127.0.0.1",
            "HUB_HTTPS": "false",
            "HUB_DATABASE_URL": database.rpartition("/")[0] + f"/{self.database}",
            "HUB_REDIS_URL": f"{broker.rpartition('/')[0]}/{BROKER}",
            "HUB_DATA_DIR": str(folder),
            "HUB_ALLOW_LOOPBACK": "true",
            "HUB_WAVE_DELAY": "0s",
        }
        self.manage("migrate", "--noinput")
        self.manage("create_admin")
        self.processes = {}
        for name in self.commands():
            self.start(name)
        self._wait(lambda: self.call("GET", "/readyz") == "ok", "the web process")
        self.password = (folder / "initial-admin-password").read_text().strip()
        self.token = self.call(
            "POST", "/api/v1/session", {"username": "admin", "password": self.password}
        )["token"]

    def commands(self):
        """The commands of docker-compose.yml and the Dockerfile, with this machine's port and
        folder.
        """
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        written = (ROOT / "Dockerfile").read_text()
        web = json.loads(re.search(r"^CMD (\[.*\])$", written, re.MULTILINE)[1])
        web[web.index("--host") + 1], web[web.index("--port") + 1] = "127.0.0.1", str(self.port)
        beat = [
            str(self.folder / "beat") if word == "/tmp/beat" else word
            for word in services["beat"]["command"]
        ]
        return {
            "web": web,
            "worker": services["worker"]["command"],
            "beat": beat,
            "watcher": services["watcher"]["command"],
        }

    def start(self, name):
        argv = self.commands()[name]
        argv = (
            [sys.executable, *argv[1:]]
            if argv[0] == "python"
            else [str(Path(sys.executable).parent / argv[0]), *argv[1:]]
        )
        log = (self.folder / f"{name}.log").open("a")
        self.processes[name] = subprocess.Popen(
            argv, env=self.env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def kill(self, name):
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def manage(self, *argv):
        subprocess.run(
            [sys.executable, "manage.py", *argv],
            env=self.env,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )

    def call(self, method, path, body=None):
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {getattr(self, 'token', '')}",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method, data=data, headers=headers
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text.startswith(b"{") else text.decode()

    def _wait(self, check, what, seconds=60):
        deadline, last = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                last = check()
                if last:
                    return last
            except (urllib.error.URLError, ConnectionError) as error:
                last = error
            time.sleep(0.2)
        logs = "\n".join(
            f"--- {n}\n{(self.folder / f'{n}.log').read_text()[-1500:]}" for n in self.commands()
        )
        raise AssertionError(f"{what} not within {seconds} s; last {last!r}\n{logs}")

    def sign_in_by_page(self):
        """Return where a person is led that signs in by its browser."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}") as browser:
            browser.get("/login")
            form = {
                "login": "admin",
                "password": self.password,
                "csrfmiddlewaretoken": browser.cookies["flotilla.csrf"],
            }
            return browser.post("/login", data=form).headers.get("location", "nowhere")

    def register(self, sandbox_server):
        config = {
            "bearerToken": "sandbox-token",
            "tlsClientConfig": {"caData": sandbox_server.certificate},
        }
        cluster = {"server": sandbox_server.url("east"), "name": "east", "config": config}
        self.call("POST", "/api/v1/clusters", cluster)
        return cluster

    def wait_status(self, name, sync, health, revision, seconds=60):
        def check():
            status = self.call("GET", f"/api/v1/applications/{name}")["status"]
            return (
                status["sync"]["status"],
                status["health"]["status"],
                status["sync"].get("revision"),
            ) == (sync, health, revision)

        self._wait(check, f"{name} {sync} {health}", seconds)

    def finish_sweeps(self):
        """Wait until the workers have nothing to do that the beat asked for."""
        self._wait(lambda: self.redis.llen("celery") == 0, "the last sweep", 20)
        time.sleep(1)

    def stop(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def services():
    if not POSTGRES or not REDIS:
        if os.environ.get("CI"):
            pytest.fail("HUB_TEST_POSTGRES_URL and HUB_TEST_REDIS_URL must be set in CI")
        pytest.skip("set HUB_TEST_POSTGRES_URL and HUB_TEST_REDIS_URL to test the production shape")


@pytest.fixture
def production(services, tmp_path):
    running = Production(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def wired(services, tmp_path):
    """The production shape, whose database and broker are reached by wires that can be cut."""
    wires = {"database": Wire(POSTGRES), "redis": Wire(REDIS)}
    running = Production(tmp_path, wires["database"].url, wires["redis"].url)
    running.wires = wires
    yield running
    running.stop()
    for wire in wires.values():
        wire.close()


def delete_and_wait_until_healed(production, server, store, kind):
    # The hub may heal between two looks: a new uid is what shows that the object was gone.
    before = store.get(kind, "prod", "c")["metadata"]["uid"]
    server._loop.call_soon_threadsafe(lambda: store.delete(kind, store.get(kind, "prod", "c")))

    def is_new():
        found = store.get(kind, "prod", "c")
        return found is not None and found["metadata"]["uid"] != before

    production._wait(is_new, "the healed resource", 60)


@pytest.mark.services
@pytest.mark.timeout(240)
def test_the_main_job_and_a_killed_worker(production, sandbox_server, repo):
    first = repo.commit({"c.yaml": CONFIG})
    cluster = production.register(sandbox_server)
    spec = {
        "project": "default",
        "source": {"repoURL": repo.url, "path": ".", "targetRevision": "main"},
        "destination": {"name": "east", "namespace": "prod"},
        "syncPolicy": {
            "automated": {"prune": True, "selfHeal": True},
            "syncOptions": ["CreateNamespace=true"],
        },
    }
    production.call("POST", "/api/v1/applications", {"metadata": {"name": "c"}, "spec": spec})
    production.wait_status("c", "Synced", "Healthy", first)

    production.kill("worker")
    waves = {
        f"{n}.yaml": CONFIG.replace(
            "name: c", f"name: c{n}, annotations: {{argocd.argoproj.io/sync-wave: '{n}'}}"
        )
        for n in range(5)
    }
    second = repo.commit(waves)
    body = {"ref": "refs/heads/main", "after": second, "repository": {"clone_url": repo.url}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{production.port}/api/webhook",
        method="POST",
        data=json.dumps(body).encode(),
        headers={"X-GitHub-Event": "push"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    production.start("worker")
    production.wait_status("c", "Synced", "Healthy", second)

    production.kill("watcher")
    production.start("watcher")
    store = sandbox_server.sandboxes["east"].store
    kind = store.kinds["", "configmaps"]
    time.sleep(1)
    delete_and_wait_until_healed(production, sandbox_server, store, kind)

    wanted = manifest(
        "s",
        [{"clusters": {"selector": {"matchLabels": {"ring": "first"}}}}],
        {**spec, "destination": {"server": "{{.server}}", "namespace": "from-set"}},
        metadata={"name": "set-{{.name}}"},
    )
    production.call("POST", "/api/v1/applicationsets", wanted)
    production.call(
        "PUT",
        "/api/v1/clusters/east?id.type=name&updatedFields=labels",
        {**cluster, "labels": {"ring": "first"}},
    )
    production.wait_status("set-east", "Synced", "Healthy", second)

    # Nobody sweeps: what the web process and the watcher ask for reaches the workers by the broker.
    production.kill("beat")
    production.finish_sweeps()
    third = repo.commit({"c.yaml": CONFIG.replace("'1'", "'3'")})
    production.call("GET", "/api/v1/applications/c?refresh=normal")
    production.wait_status("c", "Synced", "Healthy", third)
    delete_and_wait_until_healed(production, sandbox_server, store, kind)
    page = httpx.get(
        f"http://127.0.0.1:{production.port}/settings/system/checks",
        cookies={"argocd.token": production.token},
    )
    assert "celery@" in page.text
    for name in ("web", "watcher"):
        assert "the broker did not take" not in (production.folder / f"{name}.log").read_text()


@pytest.mark.services
@pytest.mark.timeout(300)
def test_lost_services_come_back(wired, sandbox_server, repo):
    """No process has to be started anew, whether nobody answers or the way falls silent; an open
    page hears again.
    """
    wired.register(sandbox_server)
    spec = {
        "project": "default",
        "source": {"repoURL": repo.url, "path": ".", "targetRevision": "main"},
        "destination": {"name": "east", "namespace": "prod"},
        "syncPolicy": {"automated": {}, "syncOptions": ["CreateNamespace=true"]},
    }
    first = repo.commit({"c.yaml": CONFIG})
    wired.call("POST", "/api/v1/applications", {"metadata": {"name": "c"}, "spec": spec})
    wired.wait_status("c", "Synced", "Healthy", first)
    for number, (how, lost) in enumerate(
        (
            ("refuse", ["redis"]),
            ("cut", ["redis"]),
            ("refuse", ["database"]),
            ("cut", ["database", "redis"]),
        )
    ):
        for name in lost:
            getattr(wired.wires[name], how)()
        revision = repo.commit({"c.yaml": CONFIG.replace("'1'", f"'x{number}'")})
        time.sleep(5)
        if lost == ["redis"]:  # nothing is reconciled, and everything else goes on
            assert wired.sign_in_by_page() == "/"
            wired.call("GET", "/api/v1/applications/c?refresh=normal")
            wired.call(
                "PATCH",
                "/api/v1/applications/c",
                {"patch": json.dumps({"metadata": {"labels": {"n": "1"}}}), "patchType": "merge"},
            )
        for name in lost:
            wired.wires[name].mend()
        wired._wait(lambda: wired.call("GET", "/readyz") == "ok", "the web process", 30)
        wired.call("GET", "/api/v1/applications/c?refresh=normal")
        wired.wait_status("c", "Synced", "Healthy", revision, 60)
        assert [n for n, process in wired.processes.items() if process.poll() is not None] == []

    # A page of the web process hears what a worker's process writes.
    page = connect(
        f"ws://127.0.0.1:{wired.port}/live",
        origin=f"http://127.0.0.1:{wired.port}",
        additional_headers={"Cookie": f"argocd.token={wired.token}"},
    )
    with page as socket:
        socket.send(json.dumps({"page": "fleet", "version": 0, "rows": []}))
        time.sleep(1)
        revision = repo.commit({"c.yaml": CONFIG.replace("'1'", "'last'")})
        wired.call("GET", "/api/v1/applications/c?refresh=normal")
        told = json.loads(socket.recv(timeout=20))
        while "beat" in told:
            told = json.loads(socket.recv(timeout=20))
        assert told["object"] is True
    wired.wait_status("c", "Synced", "Healthy", revision, 60)


def test_the_address_of_the_database_carries_its_options():
    """Who asks for a proven connection gets one, and a server that falls silent is noticed."""
    found = _database(
        "postgresql://u%40x:p%3A@db:6432/hub?sslmode=verify-full&sslrootcert=/ca.pem&"
        "connect_timeout=3"
    )
    assert (found["USER"], found["PASSWORD"], found["NAME"], found["PORT"]) == (
        "u@x",
        "p:",
        "hub",
        "6432",
    )
    options = found["OPTIONS"]
    assert options["sslmode"] == "verify-full" and options["sslrootcert"] == "/ca.pem"
    assert options["connect_timeout"] == "3" and options["keepalives_idle"] <= 30
