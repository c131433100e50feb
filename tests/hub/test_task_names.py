"""Tasks are asked for by constants: a name that no worker knows is never run."""

import ast
from pathlib import Path

from celery import current_app

from hub.events.task_names import TaskName

ROOT = Path(__file__).parents[2]
PACKAGES = ("hub", "clusters", "projects", "appsets")
REGISTRY = ROOT / "hub/events/task_names.py"


def test_each_name_is_a_task_that_workers_know_and_each_task_has_a_name():
    current_app.loader.import_default_modules()
    known = {name for name in current_app.tasks if not name.startswith("celery.")}
    assert known == {name.value for name in TaskName}


def test_no_name_of_a_task_stands_in_the_code_as_text():
    names = {name.value for name in TaskName}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != REGISTRY
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_a_message_to_a_worker_carries_the_name_as_plain_text(monkeypatch):
    from hub.events import queue

    sent = []
    monkeypatch.setattr(queue, "_pool", None)
    monkeypatch.setattr(queue.settings, "EMBEDDED", False, raising=False)
    monkeypatch.setattr(queue.current_app, "send_task", lambda name, *_, **__: sent.append(name))
    monkeypatch.setattr(queue.transaction, "on_commit", lambda send: send())
    monkeypatch.setattr(queue, "_broker_unavailable_until", 0.0)
    queue.wake(TaskName.PROJECTS_SYNC, 1)
    assert sent == ["projects.sync"]
    assert type(sent[0]) is str
