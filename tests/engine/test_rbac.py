import random

import pytest

from hub.engine.project_restrictions import matches
from hub.engine.rbac import Enforcer, builtin, parse, unknown_roles

POLICY = """
# teams
p, role:team-a, applications, get, team-a/*, allow
p, role:team-a, applications, sync, team-a/*, allow
p, role:team-a, applications, action/apps/Deployment/restart, team-a/*, allow
p, role:team-a, logs, get, team-a/*, allow
p, role:careful, applications, sync, team-a/prod-*, deny
p, alice, clusters, get, "https://a,b", allow
g, group-a, role:team-a
g, auditors, role:readonly
g, careful-ones, role:careful
g, role:lead, role:team-a
g, bob, role:lead
"""


def enforcer(text=POLICY, **options):
    return Enforcer(builtin() + parse(text), **options)


@pytest.mark.parametrize(
    ("subjects", "resource", "action", "name", "allowed"),
    [
        pytest.param(["admin"], "applications", "delete", "any/app", True, id="admin"),
        pytest.param(
            ["admin"], "applications", "get", "any/app", True, id="admin reads by inheritance"
        ),
        pytest.param(
            ["admin"], "extensions", "invoke", "x", False, id="admin invokes no extension"
        ),
        pytest.param(["x", "auditors"], "clusters", "get", "https://a", True, id="read only"),
        pytest.param(
            ["x", "auditors"], "clusters", "update", "https://a", False, id="read only, no more"
        ),
        pytest.param(
            ["x", "auditors"], "exec", "create", "a/b", False, id="read only opens no shell"
        ),
        pytest.param(["x", "group-a"], "applications", "sync", "team-a/web", True, id="by group"),
        pytest.param(
            ["x", "group-a"],
            "applications",
            "sync",
            "team-a/ns/web",
            True,
            id="a star crosses slashes",
        ),
        pytest.param(
            ["x", "group-a"], "applications", "sync", "team-b/web", False, id="another project"
        ),
        pytest.param(
            ["x", "group-a"],
            "applications",
            "action/apps/Deployment/restart",
            "team-a/web",
            True,
            id="action",
        ),
        pytest.param(
            ["x", "group-a"],
            "applications",
            "action/apps/Deployment/scale",
            "team-a/web",
            False,
            id="other action",
        ),
        pytest.param(
            ["x", "group-a", "careful-ones"],
            "applications",
            "sync",
            "team-a/prod-web",
            False,
            id="a deny of another group wins",
        ),
        pytest.param(
            ["x", "careful-ones", "group-a"],
            "applications",
            "sync",
            "team-a/dev-web",
            True,
            id="where it does not reach",
        ),
        pytest.param(["bob"], "applications", "get", "team-a/web", True, id="inherited twice"),
        pytest.param(["alice"], "clusters", "get", "https://a,b", True, id="quoted"),
        pytest.param([""], "applications", "get", "team-a/web", False, id="nobody"),
        pytest.param([], "applications", "get", "team-a/web", False, id="no subject"),
    ],
)
def test_decisions(subjects, resource, action, name, allowed):
    assert enforcer().decide(subjects, resource, action, name).allowed is allowed


def test_the_default_role_is_everybodys_and_can_be_denied():
    found = enforcer(POLICY + "p, mallory, projects, get, *, deny\n", default_role="role:readonly")
    assert found.decide(["anybody"], "projects", "get", "p").allowed
    assert not found.decide(["mallory"], "projects", "get", "p").allowed


def test_a_decision_says_why():
    found = enforcer()
    assert (
        found.decide(["bob"], "logs", "get", "team-a/x").why
        == "allowed by policy.csv:6: p, role:team-a, logs, get, team-a/*, allow"
    )
    assert found.decide(["careful-ones"], "applications", "sync", "team-a/prod-x").why.startswith(
        "denied by policy.csv:7"
    )
    assert found.decide(["bob"], "logs", "get", "other/x").why == "no rule allows it"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("p, a, applications, get, */*", "a line must be p with"),
        ("p, a, applications, get, */*, maybe", "allow or deny"),
        ("p, a, aplications, get, */*, allow", "unknown resource"),
        ("g, a", "a line must be p with"),
        ("x, a, b", "a line must be p with"),
        ('p, "a, b', "invalid RBAC policy"),
        ("p, , applications, get, *, allow", "a line must be p with"),
    ],
)
def test_a_bad_line_disables_nothing_else(line, words):
    found = parse(f"p, a, projects, get, *, allow\n{line}\np, b, projects, get, *, allow\n")
    assert [r.subject for r in found.rules] == ["a", "b"]
    [problem] = found.problems
    assert problem.origin == "policy.csv:2"
    assert words in problem.message


def test_regular_expressions():
    policy = parse(
        "p, a, applications, ^(get|sync)$, ^team-[ab]/.*$, allow\np, a, clusters, [, x, allow\n",
        mode="regex",
    )
    assert len(policy.problems) == 1
    found = Enforcer(policy, mode="regex")
    assert found.decide(["a"], "applications", "sync", "team-b/x").allowed
    assert not found.decide(["a"], "applications", "delete", "team-b/x").allowed
    assert not found.decide(["a"], "applications", "sync", "xteam-b/x").allowed


def test_roles_that_nobody_defined():
    assert unknown_roles(
        parse(
            "g, a, role:nope\ng, b, role:c\ng, role:c, role:d\np, role:d, projects, get, *, allow\n"
        )
    ) == ["role:nope"]


def test_circles_of_roles_end():
    found = Enforcer(parse("g, a, b\ng, b, c\ng, c, a\np, c, projects, get, *, allow\n"))
    assert set(found.roles_of("a")) == {"a", "b", "c"}
    assert found.decide(["a"], "projects", "get", "x").allowed


def test_the_compiled_policy_equals_rule_by_rule_evaluation():
    choice = random.Random(7)
    names = [f"s{n}" for n in range(8)]
    for _ in range(60):
        lines = [
            (
                f"p, {choice.choice(names)}, {choice.choice(['applications', 'logs', '*'])}, "
                f"{choice.choice(['get', 'sync', '*', 'action/*'])}, "
                f"{choice.choice(['a/*', 'a/x', '*/*', 'b/?'])}, "
                f"{choice.choice(['allow', 'allow', 'deny'])}"
            )
            for _ in range(12)
        ] + [f"g, {choice.choice(names)}, {choice.choice(names)}" for _ in range(6)]
        policy = parse("\n".join(lines))
        found = Enforcer(policy)
        subjects = choice.sample(names, 2)
        reach = set(subjects)
        while True:
            more = {role for subject, role in policy.links if subject in reach} - reach
            if not more:
                break
            reach |= more
        for resource in ("applications", "logs"):
            for action in ("get", "sync", "action/apps/Deployment/restart"):
                for name in ("a/x", "b/y", "c/z/w"):
                    fitting = [
                        r.effect
                        for r in policy.rules
                        if r.subject in reach
                        and matches(r.resource, resource)
                        and matches(r.action, action)
                        and matches(r.object, name)
                    ]
                    assert found.decide(subjects, resource, action, name).allowed == (
                        "allow" in fitting and "deny" not in fitting
                    )


def test_names_that_no_policy_speaks_of_change_nothing():
    """Who differs only in those has the same rights, and is asked about once."""
    found = Enforcer(
        parse(
            "g, team, reader\ng, reader, base\np, base, logs, get, a/*, allow\n"
            "p, x, logs, get, b/*, allow"
        ),
        default_role="x",
    )
    assert found.relevant(["sub-1", "team", "", "base", "role:none"]) == ("team", "base")
    for subjects in (["sub-1", "team"], ["team", "sub-2", "other"], ["team"]):
        assert found.relevant(subjects) == ("team",)
        assert found.decide(subjects, "logs", "get", "a/x").allowed
        assert not found.decide(subjects, "logs", "get", "c/x").allowed
    assert found.decide(["sub-1"], "logs", "get", "b/x").allowed
    assert not found.decide(["sub-1"], "logs", "get", "a/x").allowed


def test_decisions_rest_on_the_rules_that_reach_a_subject():
    lines = [
        "p, team, applications, get, a/*, allow",
        "g, ann, team",
        "g, team, base",
        "p, base, applications, sync, a/*, allow",
    ]

    def bearing(*more, mode="glob", default="", subject="ann"):
        return Enforcer(parse("\n".join([*lines, *more]), "t", mode), mode, default).bearing(
            [subject]
        )

    before = bearing()
    assert {rule.subject for rule in before[1]} == {"team", "base"}
    # Of others, and in another order.
    assert bearing("p, other, applications, get, *, allow", "g, bob, base") == before
    lines.reverse()
    assert bearing() == before
    for now in (
        bearing("p, ann, applications, get, b/*, allow"),
        bearing("p, base, applications, get, a/x, deny"),
        bearing("g, base, other", "p, other, applications, get, *, allow"),
        bearing("p, anybody, applications, get, *, allow", default="anybody"),
        bearing(mode="regex"),
        bearing(subject="team-2"),
    ):
        assert now != before
