"""`manage.py up`: one command, from nothing to a working hub, and again after a stop."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support.ports import free_port

from hub.base.private_files import tighten
from hub.cli import config
from projects import diagnostics

ROOT = Path(__file__).resolve().parents[2]


class Process:
    def __init__(self, folder, port, *options):
        env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("HUB_", "DJANGO", "PYTEST", "COV"))
        }
        self.port, self.folder = port, folder
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "manage.py"),
                "up",
                "--port",
                str(port),
                "--data",
                str(folder),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=ROOT,
        )
        self.lines = [self.process.stdout.readline(), self.process.stdout.readline()]

    def call(self, method, path, body=None, token=""):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text.startswith(b"{") else text.decode()

    def sign_in(self):
        password = (self.folder / "initial-admin-password").read_text().strip()
        return self.call("POST", "/api/v1/session", {"username": "admin", "password": password})[
            "token"
        ]

    def applications(self, token):
        items = self.call("GET", "/api/v1/applications", token=token)["items"]
        return {
            a["metadata"]["name"]: (a["status"]["sync"]["status"], a["status"]["health"]["status"])
            for a in items
        }

    def stop(self):
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _out, errors = self.process.communicate(timeout=15)
        return time.monotonic() - started, errors


@pytest.mark.timeout(180)
def test_demo_is_synced_within_a_minute_and_survives_a_restart(tmp_path):
    folder, port = tmp_path / "data", free_port()
    first = Process(folder, port, "--demo")
    try:
        assert first.lines[0] == f"ready http://127.0.0.1:{port}\n"
        assert str(folder / "initial-admin-password") in first.lines[1]
        assert stat.S_IMODE((folder / "initial-admin-password").stat().st_mode) == 0o600
        token = first.sign_in()
        deadline = time.monotonic() + 60
        while set(first.applications(token).values()) != {("Synced", "Healthy")}:
            assert time.monotonic() < deadline, first.applications(token)
            time.sleep(0.3)
        assert set(first.applications(token)) == {"nginx", "shop", "billing", "search"}
        assert first.call("GET", "/healthz") == "ok"
        assert first.call("GET", "/readyz") == "ok"
        metrics = first.call("GET", "/metrics")
        for name in (
            "argocd_app_reconcile",
            "argocd_app_sync_total",
            "flotilla_queue_depth",
            "flotilla_watch_lag",
            "flotilla_render_cache",
            "argocd_app_k8s_request_total",
            "flotilla_applications{",
        ):
            assert name in metrics
    finally:
        seconds, errors = first.stop()
    assert seconds < 10
    assert "Traceback" not in errors

    loosen(folder)
    second = Process(folder, port)
    try:
        # A folder of an older install was open to everybody on the machine.
        assert [p for p in (folder, *folder.iterdir()) if p.lstat().st_mode & 0o077] == []
        token = second.sign_in()
        path = folder / "demo" / "repository" / "nginx" / "all.yaml"
        path.write_text(path.read_text().replace("replicas: 2", "replicas: 3"))
        subprocess.run(
            [
                "git",
                "-C",
                str(path.parent),
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@localhost",
                "commit",
                "-qam",
                "Three",
            ],
            check=True,
        )
        head = subprocess.run(
            ["git", "-C", str(path.parent), "rev-parse", "HEAD"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        second.call("GET", "/api/v1/applications/nginx?refresh=normal", token=token)
        deadline = time.monotonic() + 60
        while True:
            status = second.call("GET", "/api/v1/applications/nginx", token=token)["status"]
            if (
                status["sync"].get("revision"),
                status["sync"]["status"],
                status["health"]["status"],
            ) == (head, "Synced", "Healthy"):
                break
            assert time.monotonic() < deadline, status
            time.sleep(0.3)
    finally:
        seconds, errors = second.stop()
    assert seconds < 10
    assert "Traceback" not in errors


def loosen(folder):
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "db.sqlite3-wal").touch(0o644)
    (folder / "hub.log").touch(0o644)


def test_doctor_names_what_is_open_to_others(tmp_path, settings):
    settings.DATA_DIR = tmp_path
    tmp_path.chmod(0o700)
    assert diagnostics._folder() == ""
    (tmp_path / "secret-key").touch()
    (tmp_path / "secret-key").chmod(0o640)
    (tmp_path / "link").symlink_to("/etc/passwd")

    assert "secret-key" in diagnostics._folder() and "chmod -R go=" in diagnostics._folder()
    tighten(tmp_path)
    assert diagnostics._folder() == ""


def test_doctor_names_metrics_behind_a_proxy(settings):
    settings.PROXY_HOPS, settings.METRICS_TOKEN = 1, ""
    assert "HUB_METRICS_TOKEN" in diagnostics._metrics()
    settings.METRICS_TOKEN = "token"
    assert diagnostics._metrics() == ""


def test_the_configuration_of_the_command_line_is_its_owners(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOTILLA_CONFIG_DIR", str(tmp_path / "new"))
    before = os.umask(0)
    try:
        config.save({"contexts": []})
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "config").stat().st_mode) == 0o600


def test_without_demo_it_starts_empty(tmp_path):
    process = Process(tmp_path / "data", free_port())
    try:
        assert process.applications(process.sign_in()) == {}
        again = refused(tmp_path / "data", free_port())
        assert "another hub runs on" in again.stderr
        taken = refused(tmp_path / "other", process.port)
        assert "choose another with --host and --port" in taken.stderr
        assert "Traceback" not in again.stderr + taken.stderr
    finally:
        process.stop()


def refused(folder, port):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HUB_")}
    argv = [
        sys.executable,
        str(ROOT / "manage.py"),
        "up",
        "--port",
        str(port),
        "--data",
        str(folder),
    ]
    result = subprocess.run(
        argv, capture_output=True, text=True, env=env, cwd=ROOT, check=False, timeout=60
    )
    assert result.returncode == 1
    return result


def test_doctor_names_what_is_wrong(tmp_path):
    folder = tmp_path / "data"
    env = {k: v for k, v in os.environ.items() if not k.startswith("HUB_")} | {
        "HUB_DATA_DIR": str(folder)
    }
    result = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "doctor"],
        capture_output=True,
        text=True,
        env=env,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 1
    assert "FAIL  database" in result.stdout
    assert "manage.py migrate" in result.stdout
