"""Every option of every command does something, says that it changes nothing, or is refused in one
sentence.
"""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import hub.cli
from hub.cli import appspec, projectspec, unsupported
from hub.cli.main import build
from hub.cli.problem import Problem

SOURCES = [p.read_text() for p in Path(hub.cli.__file__).parent.rglob("*.py")]


def commands(app, path=()):
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        yield (*path, name), command.callback
    for group in app.registered_groups:
        yield from commands(group.typer_instance, (*path, group.name or ""))


COMMANDS = {" ".join(path): callback for path, callback in commands(build("*"))}


def own_options(callback):
    """Return the parameters that stand in the source of a command, and its tree."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(callback))).body[0]
    return [a.arg for a in (*tree.args.args, *tree.args.kwonlyargs)], tree


def test_there_are_as_many_commands_as_anybody_expects():
    assert len(COMMANDS) > 100


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_used_by_its_function(name):
    options, tree = own_options(COMMANDS[name])
    loaded = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    }
    dropped = {
        t.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Delete)
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    by_name = "locals" in loaded

    for option in options:
        assert option not in dropped, f"{name}: {option} is thrown away"
        if option not in loaded and by_name:
            # It is read by its name where all are handed on.
            read = sum(s.count(f'"{option}"') + s.count(f"'{option}'") for s in SOURCES)
            assert read, f"{name}: nobody reads {option}"
        else:
            assert option in loaded, f"{name}: {option} is accepted and ignored"


def flags(given):
    return [pytest.param(f, id=f.names[0]) for f in given]


SAMPLES = {
    "option": ["Prune=false"],
    "helm": ["a=b"],
    "helm_string": ["a=b"],
    "helm_file": ["a=b"],
    "image": ["a=b:c"],
    "replica": ["a=2"],
    "map": ["a=b"],
    "jsonnet": ["a=b"],
    "jsonnet_code": ["a=b"],
    "env": ["a=b"],
    "policy": "automated",
    "literal": "file",
}


@pytest.mark.parametrize("flag", flags(appspec.FLAGS))
def test_every_flag_of_a_spec_changes_the_spec_or_says_that_it_does_not(flag, capsys):
    value = SAMPLES.get(flag.special, True if flag.switch else 3 if flag.number else "x")
    value = [value] if flag.many and not isinstance(value, list) else value
    spec = {"source": {"repoURL": "u"}, "destination": {"server": "s"}}
    if ".automated." in flag.to:
        spec["syncPolicy"] = {"automated": {}}
    before = repr(spec)

    appspec.apply(spec, {flag.key: value}, read=lambda _path: "a: 1")

    said = capsys.readouterr().err
    assert (repr(spec) != before) != ("changes nothing" in said)


REFUSED = {
    "admin import x --ignore-tracking": "--ignore-tracking is not served",
    "admin import x --override-on-conflict": "--override-on-conflict is not served",
    "repo add u --webhook-manifest-cache-warm-disabled": "is not served",
    "cluster add c --shard 1": "--shard is not served",
    "cluster add c --disable-compression": "--disable-compression is not served",
    "app diff web --server-side-generate": "--server-side-generate goes with --local",
    "app diff web --server-side-diff --local .": "leave --local out",
    "account bcrypt --password x": "the hub hashes passwords itself",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_served_is_refused_in_one_sentence(line):
    found = CliRunner().invoke(build("*"), line.split())

    assert isinstance(found.exception, Problem), found.output
    assert REFUSED[line] in str(found.exception)
    assert "\n" not in str(found.exception)


def test_a_note_is_one_line_and_only_where_the_option_was_given(capsys):
    unsupported.note("--x", None, "it is so anyway")
    unsupported.note("--y", 1, "it is so anyway")

    assert capsys.readouterr().err == "flotilla: --y changes nothing: it is so anyway\n"


KINDS = [
    ("apps/Deployment", {"group": "apps", "kind": "Deployment"}),
    ("Secret", {"group": "", "kind": "Secret"}),
    ("/Namespace/team-a", {"group": "", "kind": "Namespace", "name": "team-a"}),
    ("*/*", {"group": "*", "kind": "*"}),
]


@pytest.mark.parametrize(("text", "entry"), KINDS, ids=[k for k, _ in KINDS])
def test_kinds_of_a_project_are_what_flags_name(text, entry):
    spec = {}
    kinds = projectspec.kinds_of([text], [text], [text], [text])

    projectspec.fields(spec, given(kinds))

    assert spec == {
        "clusterResourceWhitelist": [entry],
        "clusterResourceBlacklist": [entry],
        "namespaceResourceWhitelist": [entry],
        "namespaceResourceBlacklist": [entry],
    }


def given(kinds, accounts=None):
    return projectspec.Given(None, None, "", None, None, None, None, kinds, accounts)


def test_service_accounts_of_a_project_are_what_flags_name():
    spec = {}

    projectspec.fields(spec, given({}, ["https://c,ns,deployer"]))

    assert spec["destinationServiceAccounts"] == [
        {"server": "https://c", "namespace": "ns", "defaultServiceAccount": "deployer"}
    ]


@pytest.mark.parametrize(
    ("kinds", "accounts"),
    [
        ({"clusterResourceWhitelist": ["a/b/c/d"]}, None),
        ({"clusterResourceWhitelist": ["a/"]}, None),
        ({}, ["x,y"]),
    ],
    ids=["too many parts", "no kind", "no account"],
)
def test_flags_of_a_project_that_cannot_be_read_are_refused(kinds, accounts):
    with pytest.raises(Problem, match="write"):
        projectspec.fields({}, given(kinds, accounts))


def test_the_commands_have_the_flags_of_projects():
    for command in ("proj create", "proj set"):
        names = {
            n
            for p in inspect.signature(COMMANDS[command]).parameters.values()
            for d in getattr(p.annotation, "__metadata__", ())
            if isinstance(d, typer.models.OptionInfo)
            for n in (d.default, *(d.param_decls or ()))
        }
        assert {
            "--allow-cluster-resource",
            "--deny-namespaced-resource",
            "--dest-service-accounts",
        } <= names
