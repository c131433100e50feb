"""What a jq path may cost, and whom."""

import time

import pytest

from hub.engine.errors import RuleError
from projects.comparison import jq
from projects.comparison.jq import Jq, check_expression

ENDLESS = "until(true == false; [.] + [1])"


@pytest.fixture(autouse=True)
def forgotten():
    jq._strikes.clear()
    yield
    jq._strikes.clear()


@pytest.fixture
def asked(monkeypatch):
    """The expressions that reach a worker."""
    found = []
    call = jq._pool.call

    def noted(request, **more):
        found.append(request["path"])
        return call(request, **more)

    monkeypatch.setattr(jq._pool, "call", noted)
    return found


def live(number):
    return {"kind": "ConfigMap", "metadata": {"name": f"c{number}"}, "data": {"a": "1", "b": "2"}}


def test_an_endless_expression_is_tried_once_for_a_thousand_objects(asked):
    for number in range(1000):
        with pytest.raises(RuleError, match="took longer than 1 s"):
            Jq("hostile", "app").delete(ENDLESS, live(number))

    assert asked == [ENDLESS]
    assert Jq("quiet", "app").delete(".data | .a", live(1))["data"] == {"b": "2"}


def test_an_expression_of_another_project_is_not_blocked_by_it(asked):
    with pytest.raises(RuleError):
        Jq("hostile", "app").delete(ENDLESS, live(1))
    with pytest.raises(RuleError):
        Jq("other", "app").delete(ENDLESS, live(1))

    assert len(asked) == 2


def test_all_expressions_of_a_comparison_have_one_limit(monkeypatch, asked):
    monkeypatch.setattr(jq, "TOTAL_SECONDS", 0.0)
    one = Jq("hostile", "app")
    one.delete(".data | .a", live(20))

    with pytest.raises(RuleError, match="all expressions together"):
        one.delete(".data | .b", live(21))
    with pytest.raises(RuleError, match="all expressions together"):
        Jq("hostile", "app").delete(".data | .b", live(22))
    assert len(asked) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "[range(200000000)] | empty",
        '("x" * 1000000000 | [., .]) | empty',
        ".a) | reduce range(5000) as $i (.; [.]) | ({a: .}",
        ".a) | 1 | (.",
    ],
    ids=["memory", "a long text", "too deep", "no object"],
)
def test_what_an_expression_makes_is_bounded(expression):
    with pytest.raises(RuleError, match="jqPathExpressions"):
        Jq("hostile", "app").delete(expression, {"a": 1})


@pytest.mark.parametrize(
    "expression",
    ["$ENV.PATH", "input", "." + "a" * 5000, ".x["],
    ids=["environment", "input", "length", "syntax"],
)
def test_what_is_not_allowed_is_refused_when_written(expression):
    with pytest.raises(RuleError, match="jqPathExpressions"):
        check_expression(expression)


SECRET = {
    "kind": "Secret",
    "metadata": {"name": "a", "namespace": "own"},
    "data": {"p": "c2VjcmV0"},
}


@pytest.mark.parametrize(
    "path",
    [
        '.zz) | .metadata.namespace = "kube-system" | del(.yy',
        ".zz) | .metadata.annotations.shown = .data.p | del(.yy",
        '.zz) | .kind = "Role" #',
        '.zz) | (.kind = "Role") #\n',
        ".zz)] | [[.data.p] | (.",
        ".a; .b",
    ],
    ids=[
        "namespace",
        "a secret that is shown",
        "comment",
        "comment and line",
        "list",
        "two arguments",
    ],
)
def test_a_path_cannot_close_our_program(path):
    for look in (Jq("", "a").delete, Jq("", "a").paths, lambda p, _: check_expression(p)):
        with pytest.raises(RuleError, match="not a valid jq path"):
            look(path, SECRET)


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (".a | select(. == 1)", {"b": 2}),
        (".a # why\n", {"b": 2}),
        (".a # why", {"b": 2}),
        ('.["a"], (.b)', {}),
        (".a = 3", {"a": 1, "b": 2}),
    ],
)
def test_a_path_deletes(path, left):
    assert Jq("", "a").delete(path, {"a": 1, "b": 2}) == left


def test_checking_an_expression_runs_nothing():
    began = time.monotonic()

    check_expression(ENDLESS)

    assert time.monotonic() - began < jq.TIMEOUT_SECONDS


def test_kept_answers_are_bounded_by_bytes():
    answers = jq._Answers(100)
    for number in range(50):
        answers.keep(b"%d" % number, b"x" * 10)

    assert sum(len(a) for a in answers._cache.values()) <= 100
    assert answers.get(b"49") == b"x" * 10
    assert answers.get(b"0") is None


POD = {
    "metadata": {"annotations": {"example.com/a": "1", "it's": "2", 'say "x"': "3"}},
    "spec": {
        "containers": [
            {
                "name": "app",
                "image": "a:1",
                "env": [{"name": "A", "value": "debug"}, {"name": "B", "value": "x"}],
            },
            {"name": "side", "image": "s:1"},
        ]
    },
}


def pod(*containers, **annotations):
    return {"metadata": {"annotations": annotations}, "spec": {"containers": list(containers)}}


NOTES = POD["metadata"]["annotations"]
APP, SIDE = POD["spec"]["containers"]


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (
            '.spec.containers[0].env[] | select(.name == "A") | .value',
            pod({**APP, "env": [{"name": "A"}, APP["env"][1]]}, SIDE, **NOTES),
        ),
        (
            '.spec.containers[].env[]? | select(.value == "debug")',
            pod({**APP, "env": [APP["env"][1]]}, SIDE, **NOTES),
        ),
        (
            '.metadata.annotations["example.com/a"], .metadata.annotations["it\'s"]',
            pod(APP, SIDE, **{'say "x"': "3"}),
        ),
        (
            r'.metadata.annotations["say \"x\""]',
            pod(APP, SIDE, **{"example.com/a": "1", "it's": "2"}),
        ),
        (
            '.spec.containers[] | select(.name | test("^si")) | .image',
            pod(APP, {"name": "side"}, **NOTES),
        ),
        (
            ".spec.containers[0].name as $first | .spec.containers[] | select(.name != $first)",
            pod(APP, **NOTES),
        ),
        (
            ".spec | if .containers | length > 1 then .containers[1] else .none end",
            pod(APP, **NOTES),
        ),
        (
            "def env: .env; .spec.containers[0] | env",
            pod({"name": "app", "image": "a:1"}, SIDE, **NOTES),
        ),
        (
            ".spec.containers[] | select(reduce (.env // [])[] as $e (0; . + 1) == 0)",
            pod(APP, **NOTES),
        ),
        (".spec.containers[-1]", pod(APP, **NOTES)),
        (".spec.containers[:1]", pod(SIDE, **NOTES)),
        (
            'getpath(["spec", "containers", 0, "env"])',
            pod({"name": "app", "image": "a:1"}, SIDE, **NOTES),
        ),
    ],
    ids=[
        "env by name",
        "the text debug",
        "slash and quote",
        "escaped quotes",
        "test",
        "variable",
        "if",
        "def",
        "reduce",
        "from the end",
        "slice",
        "getpath",
    ],
)
def test_a_path_selects_as_jq_does(path, left):
    assert Jq("", "a").delete(path, POD) == left


@pytest.mark.parametrize("program", ["env.PATH", "$ENV.PATH", '"\\(env.PATH)"'])
def test_the_worker_has_no_environment_even_for_what_is_not_refused(program, monkeypatch):
    monkeypatch.setattr(jq, "check_path", lambda expression: expression)

    assert Jq("", "a").delete(f".a | select({program} | length > 0)", {"a": 1}) == {"a": 1}
