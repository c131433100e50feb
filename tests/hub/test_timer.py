"""The timer of the embedded shape goes on whatever happens to one of its sweeps."""

import threading

from django.db import OperationalError

from hub import embedded


def test_a_sweep_that_fails_is_not_the_last(monkeypatch):
    asked, enough = [], threading.Event()

    def wake(name, **_):
        asked.append(name)
        if len(asked) == 1:
            raise OperationalError("the database is away")
        if name == "projects.clean_up":
            enough.set()

    monkeypatch.setattr(embedded, "wake", wake)
    monkeypatch.setattr(embedded, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(embedded, "CLEAN_SECONDS", 0.0)
    timer = embedded.Timer()
    timer.start()
    try:
        assert enough.wait(10)
    finally:
        timer.stop()
    timer.join(5)
    assert not timer.is_alive()
    assert {"projects.sweep", "appsets.sweep", "projects.clean_up"} <= set(asked)
