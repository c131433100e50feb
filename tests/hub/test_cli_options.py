"""Every option of every command does something, says that it changes nothing, or is refused in one
sentence.
"""

import ast
import inspect
import textwrap

import pytest
import typer
from typer.testing import CliRunner

from hub.cli import appspec, main, projectspec, unsupported
from hub.cli.main import build
from hub.cli.problem import Problem


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
    by_name = read_of_locals(COMMANDS[name], tree)

    for option in options:
        assert option not in dropped, f"{name}: {option} is thrown away"
        read = option in loaded or option in by_name
        assert read, f"{name}: {option} is accepted and ignored"


def read_of_locals(callback, tree):
    """Return the names that are read by the functions to which a command hands `locals()`."""
    found = set()
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        if any(isinstance(a, ast.Call) and ast.unparse(a) == "locals()" for a in call.args):
            reader = eval(ast.unparse(call.func), callback.__globals__)
            body = ast.parse(textwrap.dedent(inspect.getsource(reader)))
            found |= {
                n.slice.value
                for n in ast.walk(body)
                if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)
            }
    return found


FROM_TABLES = [
    n for n, c in COMMANDS.items() if c.__name__ == "run" and "call" in c.__code__.co_freevars
]
TABLES = {f.key for f in (*appspec.FLAGS, *appspec.UNSET)}


def test_commands_whose_flags_come_from_tables_are_found():
    assert FROM_TABLES == ["app create", "app set", "app unset", "app add-source"]


@pytest.mark.parametrize("name", FROM_TABLES)
def test_every_option_of_a_table_reaches_its_function_or_the_spec(name):
    call = inspect.getclosurevars(COMMANDS[name]).nonlocals["call"]
    options, tree = own_options(call)
    loaded = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    }

    for option in inspect.signature(COMMANDS[name]).parameters:
        assert option in (loaded if option in options else TABLES), f"{name}: nobody reads {option}"


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


@pytest.mark.parametrize("flag", flags(appspec.UNSET))
def test_every_flag_that_unsets_takes_something_out(flag):
    image = flag.special == "image"
    there = [{"name": "x"}] if flag.special == "by_name" else ["x"] if flag.many else "x"
    *steps, field = flag.to.lstrip(".").split(".") if flag.to else ["helm", "values"]
    place = {field: there}
    for step in reversed(steps):
        place = {step: place}
    spec = {"source": {"repoURL": "u", **place}}
    before = repr(spec)

    after = appspec.unset(spec, {flag.key: ["x:2" if image else "x"] if flag.many else True})

    assert repr(after) != before


@pytest.mark.parametrize("flag", [*main._NOTED, *main._NOTED_VALUED])
def test_a_global_flag_that_changes_nothing_says_so(flag, capsys):
    words = [flag] if flag in main._NOTED else [flag, "x"]

    assert main.take_flags(["app", "list", *words]) == ["app", "list"]

    said = capsys.readouterr().err
    assert said.startswith(f"flotilla: {flag} changes nothing: ")
    assert said.count("\n") == 1


REFUSED = {
    "admin import x --ignore-tracking": "--ignore-tracking is not served",
    "admin import x --override-on-conflict": "--override-on-conflict is not served",
    "repo add u --webhook-manifest-cache-warm-disabled": "is not served",
    "cluster add c --exec-command aws": "leave --exec-command",
    "cluster add c --aws-role-arn x": "leave --exec-command and --aws-",
    "cluster add c --proxy-url x": "leave --proxy-url",
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
