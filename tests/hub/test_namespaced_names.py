"""Names with a namespace: every command and every route acts on the object of that namespace, or
on none.
"""

import io
import json

import pytest
import typer
from support.routes import a_url, routes

from appsets.models import ApplicationSet
from hub.cli import apps, client
from hub.cli.main import build
from hub.cli.names import qualified
from hub.cli.problem import Problem
from projects.models import Application

HELD = {
    "status": {},
    "spec": {"source": {"repoURL": "https://git.example/r", "path": "."}},
    "metadata": {"name": "x", "namespace": "team"},
}
VALUES = {
    "kind": "Pod",
    "patch_": "[]",
    "patch": "[]",
    "action": "restart",
    "revision_id": "1",
    "id_": "1",
    "source_position": "1",
    "server": "https://git.example",
    "key_": "k",
    "resource_name": "p",
}


class Recorder:
    """A hub that answers everything with an object, and remembers what it was asked."""

    server = "https://hub.example"

    def wait_at_most(self, seconds):
        """Wait for nothing: every answer is here at once."""

    def __init__(self):
        self.paths = []

    def _asked(self, path, body=None):
        self.paths.append((path, body))
        return json.loads(json.dumps(HELD))

    get = delete = post = put = patch = _asked

    def lines(self, path, **_how):
        self.paths.append((path, None))
        return iter(())


GROUP = typer.main.get_command(build("*"))


def commands():
    """Yield (words, command) of each command that takes the name of an application or a set."""
    todo = [((), GROUP)]
    while todo:
        words, command = todo.pop()
        if hasattr(command, "commands"):
            todo += [((*words, name), found) for name, found in command.commands.items()]
        elif words[0] in ("app", "appset") and any(
            p.name in ("name", "names") for p in command.params
        ):
            yield words, command


COMMANDS = sorted(commands(), key=lambda c: c[0])
LISTS = {("app", "list"), ("appset", "list")}


def arguments(words, command, name, *more):
    """Return what is typed for a command: its required parts, its name, and more."""
    given, last = [], []
    for param in command.params:
        if param.name in ("name", "names"):
            last.insert(0, name)
        elif param.param_type_name == "argument" and param.required:
            last.append(VALUES[param.name])
        elif param.required or (param.name in ("kind", "patch_", "source_position")):
            given += [param.opts[0], VALUES[param.name]]
        elif param.name in ("yes", "assume_yes"):
            given.append(param.opts[0])
    given += {"wait": ["--delete"], "set": ["--path", "p"], "unset": ["--ref"]}.get(words[1], [])
    return [*words, *given, *more, *last]


@pytest.fixture
def asked(monkeypatch):
    hub = Recorder()
    monkeypatch.setattr(client.Client, "from_disk", classmethod(lambda _cls: hub))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr("typer.prompt", lambda *_a, **_k: "v")
    monkeypatch.setattr(
        "hub.cli.apps.watch_application",
        lambda hub, name, namespace, _t: iter(
            [hub.get(apps.application_path(name, at=namespace))] * 2
        ),
    )

    def run(argv):
        hub.paths.clear()
        problem = None
        try:
            GROUP.main(args=argv, standalone_mode=False)
        except (Problem, typer.Exit, SystemExit) as error:
            problem = error
        except (KeyError, TypeError, AttributeError, AssertionError, IndexError):
            pass  # the recorder's answer is of no use to it
        return [p for p, _ in hub.paths], problem

    run.hub = hub
    return run


def where(words):
    return "appNamespace" if words[0] == "app" else "appsetNamespace"


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(w) for w, _ in COMMANDS])
def test_every_command_takes_the_namespace_by_name_and_by_flag(asked, words, command, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("v"))
    assert any("-N" in p.opts for p in command.params), "a command without its namespace"

    for argv in (
        arguments(words, command, "team/x"),
        arguments(words, command, "x", "-N", "team"),
        arguments(words, command, "team/x", "-N", "team"),
    ):
        paths, problem = asked(argv)
        assert paths, (argv, problem)
        for path, body in asked.hub.paths:
            named = path.partition("?")[0].rstrip("/").endswith(("/applications", "/secrets"))
            placed = (body or {}).get("namespace") or (body or {}).get("metadata", {}).get(
                "namespace"
            )
            assert placed == "team" if named else f"{where(words)}=team" in path, (argv, path, body)

    for wrong in ("team/x/y", "/x", "team/"):
        paths, problem = asked(arguments(words, command, wrong))
        assert not paths and isinstance(problem, Problem) and problem.code in (2, 20), wrong
    paths, problem = asked(arguments(words, command, "team/x", "-N", "other"))
    assert not paths and isinstance(problem, Problem)
    assert "'team'" in str(problem) and "'other'" in str(problem)


def test_a_name_without_a_namespace_is_the_hubs_own():
    assert qualified("x") == ("", "x")
    assert qualified("") == ("", "")


TARGETS = [
    (f"/{path}", view)
    for path, view in routes()
    if view and "<str:name>" in path and ("/applications/" in path or "/applicationsets/" in path)
]
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture
def twins(idle_hub):
    """An application and a set in the hub's namespace whose name is also asked for in another."""
    spec = {
        "project": "default",
        "source": {"repoURL": "https://git.example/r", "path": "."},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "d"},
    }
    Application.objects.create(namespace="argocd", name="x", project="default", spec=spec)
    ApplicationSet.objects.create(
        namespace="argocd",
        name="x",
        project="default",
        spec={"generators": [], "template": {"metadata": {}, "spec": spec}},
    )
    return idle_hub


@pytest.mark.parametrize("way", ["query", "body"])
def test_no_route_falls_back_to_the_hubs_namespace(twins, way):
    before = [list(m.objects.values()) for m in (Application, ApplicationSet)]
    tried = 0
    for path, view in TARGETS:
        for method in METHODS:
            if not hasattr(view, method) or (way == "body" and method in ("get", "delete")):
                continue
            url = a_url(path.strip("/"))
            names = {"appNamespace": "team", "appsetNamespace": "team"}
            query, body = (names, {}) if way == "query" else ({}, names)
            answer = twins.call(method.upper(), url, body, status=None, **query)
            assert isinstance(answer, dict) and answer.get("message") == "permission denied", (
                method,
                url,
                answer,
            )
            tried += 1
    assert tried > (30 if way == "query" else 8)
    assert [list(m.objects.values()) for m in (Application, ApplicationSet)] == before


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("POST", "/api/v1/applications/x/sync?appNamespace=argocd", {"appNamespace": "team"}),
        (
            "PUT",
            "/api/v1/applications/x?appNamespace=argocd",
            {"metadata": {"name": "x", "namespace": "team"}},
        ),
        ("DELETE", "/api/v1/applications/x?appNamespace=argocd&appNamespace=team", None),
        ("DELETE", "/api/v1/applicationsets/x?appsetNamespace=argocd&appsetNamespace=team", None),
        (
            "POST",
            "/api/v1/applications?appNamespace=argocd",
            {"metadata": {"name": "x", "namespace": "team"}, "spec": {}},
        ),
        (
            "POST",
            "/api/v1/applicationsets?appsetNamespace=argocd",
            {"metadata": {"name": "x", "namespace": "team"}, "spec": {}},
        ),
    ],
    ids=["sync", "replace", "delete", "delete set", "create", "create set"],
)
def test_two_namespaces_in_one_request_are_an_error(twins, method, url, body):
    answer = twins.call(method, url, body, status=400)

    assert "'argocd' and as 'team'" in answer["message"]
    assert Application.objects.count() == ApplicationSet.objects.count() == 1


def test_a_replacement_is_of_the_namespace_in_its_manifest(twins):
    """The path has no namespace: without this the hub's own application was replaced."""
    twins.put(
        "/api/v1/applications/x",
        {"metadata": {"name": "x", "namespace": "team"}, "spec": {}},
        status=403,
    )


@pytest.mark.parametrize("name", ["/x", "team/x/y", "team/"])
def test_names_of_many_at_once(twins, name):
    body = {"action": "delete", "applications": [name]}

    answer = twins.post("/api/v1/flotilla/applications/batch", body, status=400)

    assert name in answer["message"]
    assert Application.objects.filter(deletion_requested_at=None).count() == 1
