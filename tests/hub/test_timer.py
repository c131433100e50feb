"""The timer of the embedded shape goes on whatever happens to one of its sweeps."""

import threading

import pytest
from django.db import InterfaceError, OperationalError

from hub import embedded


@pytest.mark.parametrize("wrong", [OperationalError, InterfaceError, RuntimeError])
def test_a_sweep_that_fails_is_not_the_last(monkeypatch, wrong):
    asked, enough = [], threading.Event()

    def wake(name, **_):
        asked.append(name)
        if len(asked) == 1:
            raise wrong("the database is away")
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
