import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from coverage import Coverage
from django.conf import settings as django_settings
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from support import durations, statements
from support.gitserver import GitServer, Repository
from support.harness import Hub, running
from support.tools import Tools
from support.web import IdentityProvider, Web, chromium
from whitenoise.middleware import WhiteNoiseMiddleware

from clusters import kube
from clusters.models import Cluster, LiveResource
from clusters.sandbox.certificate import make_certificate
from clusters.sandbox.server import SandboxServer
from hub.auth.sessions import issue
from hub.models import Account
from projects.objects.specs import default_project, home_cluster

IN_CI = bool(os.environ.get("CI"))
_numbers = itertools.count()


def skip_or_fail(reason: str) -> None:
    if IN_CI:
        pytest.fail(f"in CI this must be there: {reason}")
    pytest.skip(reason)


def depends_on_database(item, left_out):
    """Whether a test may find something else on another database."""
    return not statements.is_left_out(item.nodeid, left_out) and bool(
        item.get_closest_marker("django_db")
        # Asked for by name only while the test runs: whatever `cluster` is has a hub.
        or {"db", "transactional_db", "cluster"} & set(item.fixturenames)
    )


def pytest_xdist_auto_num_workers(config):
    """Tests wait more than they compute, so more of them run than there are cores. Tests of the
    engine compute, and each worker with clusters starts a control plane of 0.7 GB.
    """
    cores, files = os.cpu_count() or 1, {arg.partition("::")[0] for arg in config.args}
    if all("engine" in Path(file).parts for file in files):
        workers = cores
    elif "not controlplane" in config.option.markexpr:
        workers = min(2 * cores, 12)
    else:
        workers = min(cores + 1, 8)
    return min(workers, len(files)) if all(f.endswith(".py") for f in files) else workers


def pytest_configure(config):
    durations.register(config)
    statements.register(config)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        # Coverage follows the run into its workers. Programs that a test starts are not measured:
        # they would start slower than a test about starting allows.
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
        os.environ.pop("COVERAGE_PROCESS_START", None)


def pytest_terminal_summary(terminalreporter):
    """Print what property and differential tests counted, also after a run that passed."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "counts":
                terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if os.environ.get("HUB_TEST_DATABASE_ONLY"):
        known = {} if os.environ.get("HUB_TEST_STATEMENTS") else statements.load_left_out()
        known = statements.without_renamed(known, [item.nodeid for item in items])
        running = [item for item in items if depends_on_database(item, known)]
        config.hook.pytest_deselected(items=[item for item in items if item not in running])
        items[:] = running
    if os.environ.get("PYTEST_XDIST_WORKER"):
        durations.sort(items)


@pytest.fixture(scope="session", autouse=True)
def _data_folder():
    folder = Path(tempfile.mkdtemp(prefix="flotilla-test-"))
    django_settings.DATA_DIR = folder
    django_settings.LOCAL_REPOSITORIES = str(folder / "demo")
    django_settings.WAVE_DELAY = django_settings.WAVE_DELAY * 0
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _static_files():
    """Every client of a test has middleware of its own, and it would read all static files again:
    half the time of a short request.
    """
    read, files = WhiteNoiseMiddleware.add_files_from_finders, {}

    def add_files(self):
        if not files:
            read(self)
            files.update(self.files)
        self.files.update(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files)
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings):
    """A database of tests need not survive a power cut: SQLite waits for no disk."""
    options = django_settings.DATABASES["default"].get("OPTIONS", {})
    if "init_command" in options:
        options["init_command"] += "PRAGMA synchronous=OFF;"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """The tables are emptied between tests, which the guards of the trail would refuse: a test
    that is about them installs them.
    """
    from django.db import connection
    from support import tables

    from hub.audit.append_only import remove

    with django_db_blocker.unblock():
        remove(connection)
    tables.use_instead_of_flush()


_CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time"}


@pytest.fixture(autouse=True)
def _unmeasured(request):
    """Coverage slows Python down: outside the engine, a test that reads a clock runs without it."""
    code = getattr(request.function, "__code__", None)
    reads_a_clock = code is not None and _CLOCKS & set(code.co_names)
    measured = Coverage.current() if reads_a_clock else None
    if measured is None or request.node.nodeid.startswith("tests/engine/"):
        yield
        return
    measured.stop()
    yield
    measured.start()


@pytest.fixture(autouse=True)
def _fresh_policies():
    """Requests of one test must not leave the policies of their beginning to the next."""
    from hub.access import decisions

    decisions._of_request.set(None)


@pytest.fixture(autouse=True)
def _sources_of_reserved_names(monkeypatch):
    """Names that never exist (RFC 2606) stand for sources that the test is not about: nobody reads
    them when one is saved.
    """
    from projects.api import applications
    from projects.refreshing import validation

    def require(draft):
        hosts = {urlsplit(str(s.get("repoURL") or "")).hostname or "" for s in draft.sources}
        if not any(h.endswith((".example", ".invalid", ".example.com")) for h in hosts):
            validation.require_manifests(draft)

    monkeypatch.setattr(applications, "require_manifests", require)


@pytest.fixture(scope="session")
def git_server(tmp_path_factory):
    server = GitServer(tmp_path_factory.mktemp("git"))
    yield server
    server.close()


@pytest.fixture
def repo(git_server):
    git_server.password, git_server.down = "", False
    yield Repository(git_server, f"repo-{next(_numbers)}")
    git_server.password, git_server.down = "", False


@pytest.fixture
def hub(transactional_db):
    del transactional_db
    hub = Hub()
    account = Account.objects.create(
        name="admin", password=make_password("correct horse"), capabilities=["login"]
    )
    hub.token = issue(account, timezone.now())
    home_cluster()
    default_project()
    hub.start()
    yield hub
    hub.stop()
    kube._connection.cache_clear()


@pytest.fixture
def idle_hub(transactional_db):
    """A hub whose workers are not running."""
    del transactional_db
    hub = Hub()
    account = Account.objects.create(
        name="admin", password=make_password("correct horse"), capabilities=["login"]
    )
    hub.token = issue(account, timezone.now())
    home_cluster()
    default_project()
    yield hub
    hub.stop()
    kube._connection.cache_clear()


@pytest.fixture(scope="session")
def certificate():
    return make_certificate()


@pytest.fixture
def sandbox_server(certificate):
    server = SandboxServer(0, None, certificate)
    server.add("east", "sandbox-token")
    server.add("west", "sandbox-token")
    server.start()
    yield server
    # Those who watch and their watches end first: a server waits a second for them.
    for hub in list(running):
        hub.stop()
    for sandbox in server.sandboxes.values():
        sandbox.down = True
        for waiter in list(sandbox.store.waiters):
            server._loop.call_soon_threadsafe(waiter.set)
    server.stop()


class Place:
    """A registered cluster under test, and a way to look into it past the hub."""

    def __init__(self, hub, name, server, config):
        self.hub, self.name, self.server, self.config = hub, name, server, config
        self.connection = kube.Connection(server, name, config)

    def register(self, **extra):
        body = {"server": self.server, "name": self.name, "config": self.config, **extra}
        return self.hub.post("/api/v1/clusters", body, upsert="true")

    def wait_synced(self, seconds=40):
        self.hub.wait(
            lambda: Cluster.objects.filter(server=self.server, is_synced=True).exists(),
            f"live store of {self.name}",
            seconds,
        )
        return self

    def kind(self, group, kind):
        return self.connection.kind(group, kind)

    def get(self, group, kind, namespace, name):
        return self.connection.get(self.connection.kind(group, kind), namespace, name)

    def apply(self, manifest, manager="kubectl"):
        return self.connection.apply(
            kube.kind_of(self.connection, manifest), manifest, manager=manager
        )

    def patch(self, group, kind, namespace, name, patch):
        return self.connection.patch(self.connection.kind(group, kind), namespace, name, patch)

    def delete(self, group, kind, namespace, name, **options):
        return self.connection.delete(self.connection.kind(group, kind), namespace, name, **options)

    def clear(self):
        """Delete what applications left: one of the same name in a later test would manage it."""
        rows = LiveResource.objects.filter(cluster__server=self.server, owner_uid="")
        # Definitions stay: the next test would find a kind that is still going away.
        for row in rows.exclude(instance="").exclude(kind="CustomResourceDefinition"):
            if kind := self.connection.kind(row.group, row.kind):
                self.connection.delete(
                    kind, row.namespace, row.name, propagation="Background", uid=row.uid
                )


def place_in(hub, sandbox_server, name):
    """Return a sandbox cluster of the server, not registered yet."""
    config = {
        "bearerToken": "sandbox-token",
        "tlsClientConfig": {"caData": sandbox_server.certificate},
    }
    place = Place(hub, name, sandbox_server.url(name), config)
    place.sandbox = sandbox_server.sandboxes[name]
    return place


@pytest.fixture
def sandbox(hub, sandbox_server):
    place = place_in(hub, sandbox_server, "east")
    place.register()
    return place.wait_synced()


def _control_plane(folder):
    if shutil.which("go") is None and not IN_CI:
        pytest.skip("Go is not installed: the genuine control plane cannot be built")
    build = Path(__file__).parent / "controlplane" / "build"
    built = subprocess.run([str(build)], capture_output=True, text=True, check=False)
    if built.returncode:
        skip_or_fail(f"the control plane cannot be built: {built.stderr[-500:]}")
    process = subprocess.Popen(
        [built.stdout.strip(), "up", "-dir", str(folder / "c")], stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    if not line.startswith("ready "):
        process.kill()
        skip_or_fail("the control plane did not start")
    yield {
        "server": line.split()[1],
        "ca": (folder / "c" / "ca.crt").read_text(),
        "kubeconfig": folder / "c" / "kubeconfig",
    }
    process.send_signal(signal.SIGTERM)
    process.wait(20)


@pytest.fixture(scope="session")
def tools():
    """The real helm 3, helm 4 and kustomize."""
    if shutil.which("go") is None and not IN_CI:
        pytest.skip("Go is not installed: helm and kustomize cannot be built to compare with")
    build = Path(__file__).parent / "tools" / "build"
    built = subprocess.run([str(build)], capture_output=True, text=True, check=False)
    if built.returncode:
        skip_or_fail(f"helm and kustomize cannot be built: {built.stderr[-500:]}")
    return Tools(Path(built.stdout.strip()))


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory):
    """A genuine Kubernetes control plane, one for each test process."""
    yield from _control_plane(tmp_path_factory.mktemp("controlplane"))


@pytest.fixture(scope="module")
def second_control_plane(tmp_path_factory):
    """Another one, for tests of a fleet."""
    yield from _control_plane(tmp_path_factory.mktemp("controlplane"))


@pytest.fixture
def genuine(hub, control_plane):
    config = {"bearerToken": "admin-token", "tlsClientConfig": {"caData": control_plane["ca"]}}
    place = Place(hub, "genuine", control_plane["server"], config)
    place.register()
    yield place.wait_synced()
    hub.stop()
    place.clear()


@pytest.fixture
def second_genuine(hub, second_control_plane):
    config = {
        "bearerToken": "admin-token",
        "tlsClientConfig": {"caData": second_control_plane["ca"]},
    }
    place = Place(hub, "second", second_control_plane["server"], config)
    place.register()
    return place.wait_synced()


@pytest.fixture(params=["sandbox", pytest.param("genuine", marks=pytest.mark.controlplane)])
def cluster(request):
    """Each test that asks for it runs against a sandbox and against a genuine control plane."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def namespace():
    return f"ns-{os.getpid()}-{next(_numbers)}"


def config_map(name="settings", data=None, **metadata):
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, **metadata},
            "data": data or {"a": "1"},
        }
    )


@pytest.fixture
def app(hub):
    """Create an application by REST and return its name."""

    def create(
        repo,
        place,
        namespace,
        *,
        name=None,
        path=".",
        policy=None,
        source=None,
        status=200,
        project="default",
        validate=True,
        **spec,
    ):
        name = name or f"app-{next(_numbers)}"
        body = {
            "metadata": {"name": name},
            "spec": {
                "project": project,
                "source": {
                    "repoURL": repo if isinstance(repo, str) else repo.url,
                    "targetRevision": "main",
                    "path": path,
                    **(source or {}),
                },
                "destination": {
                    "server": place if isinstance(place, str) else place.server,
                    "namespace": namespace,
                },
                "syncPolicy": {"syncOptions": ["CreateNamespace=true"], **(policy or {})},
                **spec,
            },
        }
        hub.post("/api/v1/applications", body, status=status, validate=str(validate).lower())
        return name

    return create


@pytest.fixture
def web(idle_hub):
    """The hub over HTTP."""
    server = Web()
    server.hub = idle_hub
    yield server
    server.close()


@pytest.fixture
def site(hub):
    """A hub that works, over HTTP and WebSockets."""
    server = Web()
    server.hub = hub
    yield server
    server.close()


def _provider(server):
    if (shutil.which("node") is None or shutil.which("npm") is None) and not IN_CI:
        pytest.skip("Node.js is not installed: the identity provider of the tests cannot run")
    try:
        provider = IdentityProvider(
            [f"{server.url}/sso/{slug}/callback" for slug in ("company", "second")]
        )
    except (subprocess.SubprocessError, OSError, TypeError) as error:
        skip_or_fail(f"the identity provider cannot be installed: {error}")
    body = {"name": "Company account", "type": "oidc", "config": provider.config()}
    server.hub.put("/api/v1/flotilla/sso/providers/company", body)
    yield provider
    provider.close()


@pytest.fixture
def idp(web):
    """A genuine OpenID Connect provider that knows this hub, registered as `company`."""
    yield from _provider(web)


@pytest.fixture
def company(site):
    """The same for a hub that works."""
    yield from _provider(site)


@pytest.fixture(scope="module")
def browser():
    """A Chromium for all tests of a module: Playwright's loop in this thread would be in the way
    of others.
    """
    if chromium() is None:
        skip_or_fail("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page of a browser that nobody has used: no cookies, no storage, no cache of another
    test.
    """
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()
