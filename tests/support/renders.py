"""A project whose renders never end, beside one with small ones: what the second one waits."""

import threading
import time
from contextlib import contextmanager

from django.db import connections

from hub.engine.errors import RetryLater, Stalled
from projects import sources
from projects.sources import process
from projects.sources.render_queue import Limits, RenderQueue

ENDLESS = (
    "local go(n) = std.foldl(function(a, x) std.foldl(function(b, y) b + y % 7, std.range(1, "
    "n), a), std.range(1, n), 0);\n"
    "{apiVersion: 'v1', kind: 'ConfigMap', metadata: {name: 'x'}, data: {a: '' + go(1000000)}}\n"
)
SMALL = (
    "{{apiVersion: 'v1', kind: 'ConfigMap', metadata: {{name: 'quiet-{n}'}},"
    " data: {{['k' + x]: std.md5('' + x) for x in std.range(1, 20)}}}}\n"
)


def files(small, endless):
    """Return a repository of folders with small renders, and of such that never end."""
    found = {f"quiet/{n}/a.jsonnet": SMALL.format(n=n) for n in range(small)}
    return found | {f"hostile/{n}/a.jsonnet": f"// {n}\n{ENDLESS}" for n in range(endless)}


class Waits:
    """How long each place was waited for, by project."""

    def __init__(self):
        self.found = {}

    def __call__(self, owner, waited):
        self.found.setdefault(owner, []).append(waited)


def pool(told, clock=time.monotonic, limits=process._limits):
    """Return rendering processes of their own, with the hub's limits."""
    return process.Pool(RenderQueue(limits, clock, told), lambda: 1024**3)


def limits_of(places, budget=300.0):
    return lambda: Limits(places, budget, 600.0)


def load(url, path, project, revision):
    """Render one folder as the hub does."""
    source = {"repoURL": url, "targetRevision": "main", "path": path}
    context = sources.Context(
        name="app",
        instance=path,
        namespace="ns",
        project=project,
        project_spec={"sourceRepos": ["*"]},
        kube_version="v1.36.3",
    )
    return sources.load([source], [revision], context)


def revision_of(url, project):
    """Return the commit that a project sees; it is fetched."""
    source = {"repoURL": url, "targetRevision": "main", "path": "."}
    return sources.resolve(source, project, force=True)


def walls(url, project, revision, paths, pause=0.0):
    """Return the seconds that each render took, one after the other, with a pause between them."""
    found = []
    for path in paths:
        time.sleep(pause)
        began = time.perf_counter()
        load(url, path, project, revision)
        found.append(time.perf_counter() - began)
    return found


@contextmanager
def hostile(url, revision, paths, threads=6):
    """Render what never ends, many at once, while the block runs; yields how each ended."""
    ended, paths, over = [], iter(paths), threading.Event()
    lock = threading.Lock()

    def go_on():
        try:
            while not over.is_set():
                with lock:
                    path = next(paths)
                try:
                    load(url, path, "hostile", revision)
                except (Stalled, RetryLater) as error:
                    ended.append(error.reason)
                    over.wait(0.2)
        finally:
            connections.close_all()

    running = [threading.Thread(target=go_on) for _ in range(threads)]
    [t.start() for t in running]
    try:
        yield ended
    finally:
        over.set()
        [t.join(60) for t in running]


def part(values, share):
    """Return the value below which a share of all is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
