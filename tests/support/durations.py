"""Long modules first: workers that take whole modules end together when the last ones are short.

`tests/durations.json` has the seconds of each module, as measured. To measure again, run
`HUB_TEST_DURATIONS=tests/durations.json pytest`; modules that did not run keep their number.
"""

import json
import os
from collections import Counter
from pathlib import Path

FILE = Path(__file__).parents[1] / "durations.json"
UNKNOWN = 0.2
"""Seconds of a test of a module that nobody has measured."""


def sort(items):
    """Put the tests of modules that take long first; within a module the order stays."""
    seconds = json.loads(FILE.read_text())
    for module, count in Counter(_module(item.nodeid) for item in items).items():
        seconds.setdefault(module, count * UNKNOWN)
    items.sort(key=lambda item: (-seconds[_module(item.nodeid)], _module(item.nodeid)))


def _module(nodeid):
    return nodeid.partition("::")[0].removeprefix("tests/")


class Recorder:
    """Adds up set-up, call and teardown of each module, and writes them at the end of a run."""

    def __init__(self, path):
        self._path, self._seconds = Path(path), Counter()

    def pytest_runtest_logreport(self, report):
        self._seconds[_module(report.nodeid)] += report.duration

    def pytest_sessionfinish(self):
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        known |= {module: round(seconds, 1) for module, seconds in self._seconds.items()}
        self._path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def register(config):
    """Measure when HUB_TEST_DURATIONS names a file; the workers of a run leave that to the one
    that started them.
    """
    path = os.environ.get("HUB_TEST_DURATIONS")
    if path and not os.environ.get("PYTEST_XDIST_WORKER"):
        config.pluginmanager.register(Recorder(path))
