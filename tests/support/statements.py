"""Which tests need not run on PostgreSQL, because they send the database nothing of their own.

Most tests write and read ordinary rows, with the statements that hundreds of others send too. On
another database they find the same again. So a run on PostgreSQL records the shapes of the
statements of each test (a statement without its values, and the error that it ended in), and a
small set of tests is chosen that sends them all. `tests/postgresql.json` lists the tests that this
leaves out. A test that is not listed runs, so a new one runs until somebody records again:

    make postgresql-tests
"""

import json
import os
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from django.db.backends.signals import connection_created

TESTS = f"{Path(__file__).parents[1]}/"
ROOT = f"{Path(__file__).parents[2]}/"
LEFT_OUT = Path(TESTS, "postgresql.json")
"""By file and function: the parameter sets that do run, as ids. None runs where the list is empty.
"""

ABOUT_THE_DATABASE = re.compile(
    r"test_(locks|lost_updates|read_once|lists_and_watches|trail|installations|visible)\.py"
    r"|lock|meanwhile|at_the_same_time|two_.*at_once|race|leases|unique|claim|transaction|deadlock"
    r"|migrat|postgres|database|chain|searche|worker_(that_)?d|hostile|poisoned|printable|odd_|wrong_types"
)
"""Tests with such a word in the name of file or function run whatever they send: they are about the
database, or have it store texts of others, of which PostgreSQL refuses some.
"""

THE_SAME = [
    "hub/test_cli.py",
    "hub/test_cli_edge_cases.py",
    "hub/test_cli_options.py",
    "hub/test_cli_rbac.py",
    "hub/test_outbound.py",
    "hub/test_redirects.py",
    "hub/test_timer.py",
    "projects/test_against_the_tools.py",
    "projects/test_app_tokens.py",
    "projects/test_certificates.py",
    "projects/test_confinement.py",
    "projects/test_helm_values.py",
    "projects/test_links_and_aliases.py",
    "projects/test_local.py",
    "projects/test_paths.py",
    "projects/test_process_lists.py",
    "projects/test_proxies.py",
    "projects/test_remotes.py",
    "projects/test_render_turns.py",
    "projects/test_signatures.py",
    "projects/test_sources.py",
    "projects/test_ssh.py",
    "projects/test_submodules.py",
    "appsets/test_artifacts.py",
    "appsets/test_cli.py",
    "appsets/test_hosts.py",
    "appsets/test_template_oracle.py",
]
"""Files about how manifests are rendered, where the hub connects or what the command line prints:
all that they write are ordinary rows.
"""

_NUMBERS_OR_STRINGS = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_LISTS = re.compile(r"(?:%s(?:::\w+)?|\?)(?:, (?:%s(?:::\w+)?|\?))+")
_ROWS = re.compile(r"(\(\?\))(?:, \(\?\))+")
_TABLES = re.compile(r"CREATE|ALTER|DROP")
_UPDATES = re.compile(r"(UPDATE \S+) SET (.*?)( WHERE .*|$)", re.DOTALL)
_COLUMNS = re.compile(r", (?=\"\w+\" = )")
_SAVEPOINTS = re.compile(r'"s\d+_x\d+"')


def shapes(sql, error=""):
    """Return a statement without its values, the number of values and the names of savepoints; of
    an update one shape for each column, whichever are written together. Tables are created before
    the first test of every run, and give none.
    """
    if _TABLES.match(sql := str(sql)):
        return set()
    text = _SAVEPOINTS.sub('"s"', sql)
    text = _LISTS.sub("?", _NUMBERS_OR_STRINGS.sub("?", text).replace("%s", "?"))
    text = _ROWS.sub(r"(?)", text)
    if update := _UPDATES.match(text):
        table, columns, where = update.groups()
        found = {f"{table} SET {column}" for column in _COLUMNS.split(columns)}
        return {f"{s} {error}".strip() for s in found | {f"{table}{where}"}}
    return {f"{text} {error}".strip()}


def _is_sent_by_test(frame):
    """Whether the innermost code of the repository is a test: what it asks proves nothing."""
    while frame and (frame.f_code.co_filename == __file__ or not _is_ours(frame)):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(TESTS)


def _is_ours(frame):
    return (
        frame.f_code.co_filename.startswith(ROOT)
        and "site-packages" not in frame.f_code.co_filename
    )


class Recorder:
    """Notes the shapes of each test of this process, and writes them at the end of the run."""

    def __init__(self, folder, name):
        self._file, self._test = Path(folder) / f"{name}.json", ""
        self._shapes, self._seconds = defaultdict(set), {}
        connection_created.connect(self._follow)

    def _follow(self, connection, **_):
        if self._note not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._note)

    def _note(self, execute, sql, params, many, context):
        test, error = self._test, ""
        try:
            return execute(sql, params, many, context)
        except Exception as caught:
            error = type(caught).__name__
            raise
        finally:
            if not _is_sent_by_test(sys._getframe()):
                self._shapes[test] |= shapes(sql, error)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self._test, started = item.nodeid, time.monotonic()
        yield
        self._seconds[item.nodeid] = round(time.monotonic() - started, 2)

    def pytest_sessionfinish(self):
        tests = {
            test: {"seconds": seconds, "shapes": sorted(self._shapes[test])}
            for test, seconds in self._seconds.items()
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(tests))


def register(config):
    """Record when HUB_TEST_STATEMENTS names a folder, in each worker of the run."""
    folder = os.environ.get("HUB_TEST_STATEMENTS")
    if folder:
        name = os.environ.get("PYTEST_XDIST_WORKER", "main")
        config.pluginmanager.register(Recorder(folder, name))


def choose(tests):
    """Return the tests that together send every shape, the cheapest first.

    Shapes: `tests` is {id: {"seconds", "shapes"}}.
    """
    chosen = {test for test in tests if ABOUT_THE_DATABASE.search(test.partition("[")[0])}
    missing = {s for t in tests.values() for s in t["shapes"]}
    missing -= {s for test in chosen for s in tests[test]["shapes"]}
    left = {t: set(v["shapes"]) for t, v in sorted(tests.items()) if t not in chosen}
    while missing:
        best = max(left, key=lambda t: len(left[t] & missing) / (tests[t]["seconds"] + 0.05))
        chosen.add(best)
        missing -= left.pop(best)
    return chosen


def left_out(tests, chosen):
    """Return what `tests/postgresql.json` keeps: {file: {function: [ids that do run]}}."""
    functions = defaultdict(dict)
    for test in sorted(tests):
        functions[test.partition("[")[0]][test.partition("[")[2].removesuffix("]")] = test
    found = defaultdict(dict)
    for function, ids in functions.items():
        running = [i for i, test in ids.items() if test in chosen]
        if len(running) < len(ids):
            file, _, name = function.partition("::")
            found[file.removeprefix("tests/")][name] = running
    return found


def is_left_out(nodeid, known):
    """Whether a test sends PostgreSQL nothing that no other test sends."""
    file, _, test = nodeid.removeprefix("tests/").partition("::")
    function, _, case = test.partition("[")
    running = known.get(file, {}).get(function)
    return file in THE_SAME or (running is not None and case.removesuffix("]") not in running)


def without_renamed(known, nodeids):
    """Return what is left out, without functions of which a case that should run is not there: all
    cases of these run.
    """
    there = {nodeid.removeprefix("tests/") for nodeid in nodeids}
    return {
        file: {
            name: ids
            for name, ids in functions.items()
            if all(f"{file}::{name}[{case}]" in there for case in ids)
        }
        for file, functions in known.items()
    }


def load_left_out():
    return json.loads(LEFT_OUT.read_text()) if LEFT_OUT.exists() else {}


def main(folder):
    """Write `tests/postgresql.json` from the recordings in a folder."""
    tests = {}
    for file in sorted(Path(folder).glob("*.json")):
        tests |= json.loads(file.read_text())
    chosen = choose(tests)
    text = json.dumps(left_out(tests, chosen), indent=1, ensure_ascii=False)
    LEFT_OUT.write_text(text + "\n")
    seconds = [sum(tests[t]["seconds"] for t in some) for some in (chosen, tests)]
    print(
        f"{len(chosen)} of {len(tests)} tests run on PostgreSQL: "
        f"{seconds[0]:.0f} of {seconds[1]:.0f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1])
