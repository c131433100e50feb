"""What a caller may see, as SQL, is what asking rule by rule gives."""

import random
import sqlite3

import pytest
from django.db import connection

from clusters.models import Cluster
from hub.access import decisions
from hub.access.decisions import Caller, decide
from hub.models import ProjectPolicy, access_changed, change_setting
from projects.access.visibility import visible
from projects.models import Application, instance_filter

OBJECTS = [
    "*",
    "*/*",
    "p1/*",
    "p?/*",
    "p1/web",
    "p1/other/web",
    "*/web*",
    "p1/*/web",
    "p[12]/*",
    "{p1,p3}/*",
    "p_/*",
    "P1/*",
    "p1*",
    "*b",
    "p%/*",
    "p1/we[b]",
    "[!p]*/web",
    "**",
    "p1",
    "x.y/*",
    "p1/**",
]
SCOPES = ["", "", "", "clusters where env=prod", "clusters named dev*", "clusters where !env"]


@pytest.fixture
def fleet(db):
    del db
    clusters = [
        None,
        *(
            Cluster.objects.create(server=f"https://{n}", name=n, labels=labels)
            for n, labels in (("prod", {"env": "prod"}), ("dev", {"env": "dev"}), ("dev2", {}))
        ),
    ]
    names = ["web", "web-2", "api", "b", "p1"]
    projects = ["p1", "p2", "p3", "p_", "P1", "x.y", "xzy", "p%"]
    rows = [
        Application(name=name, namespace=n, project=project, spec={}, cluster=clusters[(i + k) % 4])
        for i, project in enumerate(projects)
        for k, name in enumerate(names)
        for n in (f"n{i}", "argocd" if i == k else f"m{i}{k}")
    ]
    Application.objects.bulk_create(rows)
    return list(Application.objects.select_related("cluster"))


def policy(seed):
    choose = random.Random(seed)
    lines = []
    for _ in range(choose.randint(1, 7)):
        effect = choose.choice(["allow", "allow", "deny"])
        scope = choose.choice(SCOPES)
        subject = choose.choice(["bob", "g1", "g2", "role:r"])
        name = choose.choice(OBJECTS)
        lines.append(
            f'p, {subject}, applications, {choose.choice(["get", "*"])}, "{name}", '
            f"{effect}{', ' + scope if scope else ''}"
        )
    return "\n".join([*lines, "g, g1, role:r"])


@pytest.mark.parametrize("start", range(0, 100, 25))
def test_the_query_is_what_rule_by_rule_gives(fleet, start):
    for seed in range(start, start + 25):
        change_setting(
            "rbac", {"policy.csv": policy(seed), "policy.default": "role:d" if seed % 5 else "g2"}
        )
        access_changed("policy", "rbac", None)
        for caller in (
            Caller("bob", None, ("bob", "g1")),
            Caller("x", None, ("g2",)),
            Caller("t", None, ("g1",), project="p1"),
            Caller("nobody", None, ()),
        ):
            seen = set(visible(caller).values_list("pk", flat=True))
            asked = {
                a.pk
                for a in fleet
                if decide(caller, "applications", "get", a.rbac_object, a.where).allowed
            }
            assert seen == asked, (seed, caller, policy(seed))


def test_regular_expressions(fleet):
    text = (
        "p, bob, applications, get, ^p[12]/(web|api)$, allow\np, bob, applications, get, api, deny"
    )
    change_setting("rbac", {"policy.csv": text, "policy.matchMode": "regex"})
    access_changed("policy", "rbac", None)
    caller = Caller("bob", None, ("bob",))
    asked = {
        a.pk for a in fleet if decide(caller, "applications", "get", a.rbac_object, a.where).allowed
    }
    assert asked
    assert set(visible(caller).values_list("pk", flat=True)) == asked


def test_one_query_for_a_list(fleet, django_assert_num_queries):
    del fleet
    text = "\n".join(
        f"p, role:r{n}, applications, get, p{n}/*, allow\ng, g{n}, role:r{n}" for n in range(50)
    )
    change_setting("rbac", {"policy.csv": text})
    access_changed("policy", "rbac", None)
    caller = Caller("x", None, tuple(f"g{n}" for n in range(50)))
    decisions.reload_policies()
    decide(caller, "applications", "get", "p1/web")
    with django_assert_num_queries(1):
        assert {a.project for a in visible(caller)} == {"p1", "p2", "p3"}
    decisions._of_request.set(None)


LINES = {
    "names": lambda n: f"p1/web-{n}",
    "globs": lambda n: f"p1/w*{n}b",
    "sets and choices": lambda n: "p1/{a,w}e[a-c]" + str(n),
    "names on some clusters": lambda n: f"p1/web-{n}, clusters named dev*",
    "clusters of their own": lambda n: f"p1/we?, clusters named {'prod' if n % 2 else 'dev'}|c{n}",
}


def deny_lines(count, shape):
    texts = [LINES[shape](n) for n in range(count)]
    lines = []
    for text in [*texts, "p1/web"]:
        name, _, scope = text.partition(", ")
        lines.append(
            f'p, proj:p1:r, applications, get, "{name}", deny' + (f", {scope}" if scope else "")
        )
    return lines


def store_role(lines, project="p1"):
    # Past the check of what is written: so many lines may be older than the bound.
    role = {"name": "r", "policies": lines, "groups": ["role:readonly"]}
    ProjectPolicy.objects.create(project=project, roles=[role])
    change_setting("rbac", {"policy.csv": "g, bob, role:readonly"})
    access_changed("project", project, None)


@pytest.fixture
def few_parameters(db):
    """The smallest limit that a build of SQLite has had."""
    del db
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        before = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        yield
        connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, before)
    else:
        yield


@pytest.mark.parametrize("shape", LINES)
@pytest.mark.parametrize("count", [1, 1_100, 5_000])
def test_a_role_with_many_lines_breaks_nobodys_list(fleet, few_parameters, count, shape):
    del few_parameters
    store_role(deny_lines(count, shape))
    bob = Caller("bob", None, ("bob",))

    seen = set(visible(bob).values_list("pk", flat=True))

    asked = {
        a.pk for a in fleet if decide(bob, "applications", "get", a.rbac_object, a.where).allowed
    }
    assert seen == asked
    assert 0 < len(seen) < len(fleet)


def test_a_role_with_twenty_thousand_lines_breaks_nobodys_list(fleet, few_parameters):
    del few_parameters
    store_role(deny_lines(20_000, "names"))

    seen = visible(Caller("bob", None, ("bob",)))

    assert seen.count() == len([a for a in fleet if a.rbac_object != "p1/web"])


def test_the_roles_of_many_projects_break_nobodys_list(fleet, few_parameters):
    del few_parameters
    rows = [
        ProjectPolicy(
            project=f"q{n}",
            roles=[
                {
                    "name": "r",
                    "groups": ["role:readonly"],
                    "policies": [f"p, proj:q{n}:r, applications, get, q{n}/a*b, deny"],
                }
            ],
        )
        for n in range(1_100)
    ]
    ProjectPolicy.objects.bulk_create(rows)
    store_role(["p, proj:p1:r, applications, get, p1/w*, deny"])

    seen = visible(Caller("bob", None, ("bob",)))

    assert seen.count() == len([a for a in fleet if not a.rbac_object.startswith("p1/w")])


def test_more_applications_than_a_statement_takes_are_checked_one_by_one(few_parameters):
    del few_parameters
    rows = [
        Application(name=f"a{n}", namespace="argocd", project="p1", spec={}) for n in range(1_100)
    ]
    Application.objects.bulk_create(rows)
    change_setting(
        "rbac", {"policy.csv": "p, bob, applications, get, .*, allow", "policy.matchMode": "regex"}
    )
    access_changed("policy", "rbac", None)

    assert visible(Caller("bob", None, ("bob",))).count() == 1_100


def test_more_instances_than_a_statement_takes_find_their_applications(few_parameters):
    del few_parameters
    Application.objects.bulk_create(
        Application(name=name, namespace=namespace, project="p1", spec={})
        for name, namespace in (("web", "argocd"), ("web", "team"), ("api", "team"))
    )
    # Anybody who may write to a namespace of a cluster may put marks on objects there.
    marks = [f"n{n}_web" for n in range(1_100)]

    found = Application.objects.filter(instance_filter([*marks, "web", "team_api"]))

    assert {(a.namespace, a.name) for a in found} == {("argocd", "web"), ("team", "api")}
