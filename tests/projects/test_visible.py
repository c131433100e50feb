"""What a caller may see, as SQL, is what asking rule by rule gives."""

import random

import pytest

from clusters.models import Cluster
from hub import access
from hub.access import Caller, decide
from hub.models import access_changed, change_setting
from projects.models import Application
from projects.visible import visible

OBJECTS = [
    "*", "*/*", "p1/*", "p?/*", "p1/web", "p1/other/web", "*/web*", "p1/*/web", "p[12]/*", "{p1,p3}/*", "p_/*", "P1/*", "p1*", "*b", "p%/*",
    "p1/we[b]", "[!p]*/web", "**", "p1", "x.y/*", "p1/**",
]  # fmt: skip
SCOPES = ["", "", "", "clusters where env=prod", "clusters named dev*", "clusters where !env"]


@pytest.fixture
def fleet(db):
    del db
    clusters = [
        None, *(Cluster.objects.create(server=f"https://{n}", name=n, labels=labels) for n, labels in
        (("prod", {"env": "prod"}), ("dev", {"env": "dev"}), ("dev2", {}))),
    ]  # fmt: skip
    names = ["web", "web-2", "api", "b", "p1"]
    projects = ["p1", "p2", "p3", "p_", "P1", "x.y", "xzy", "p%"]
    rows = [
        Application(name=name, namespace=n, project=project, spec={}, cluster=clusters[(i + k) % 4])
        for i, project in enumerate(projects) for k, name in enumerate(names) for n in (f"n{i}", "argocd" if i == k else f"m{i}{k}")
    ]  # fmt: skip
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
        lines.append(f'p, {subject}, applications, {choose.choice(["get", "*"])}, "{name}", {effect}{", " + scope if scope else ""}')  # fmt: skip
    return "\n".join([*lines, "g, g1, role:r"])


@pytest.mark.parametrize("start", range(0, 100, 25))
def test_the_query_is_what_rule_by_rule_gives(fleet, start):
    for seed in range(start, start + 25):
        change_setting(
            "rbac", {"policy.csv": policy(seed), "policy.default": "role:d" if seed % 5 else "g2"}
        )
        access_changed("policy", "rbac", None)
        for caller in (
            Caller("bob", None, ("bob", "g1")), Caller("x", None, ("g2",)), Caller("t", None, ("g1",), project="p1"),
            Caller("nobody", None, ()),
        ):  # fmt: skip
            seen = set(visible(caller).values_list("pk", flat=True))
            asked = {a.pk for a in fleet if decide(caller, "applications", "get", a.rbac_object, a.where).allowed}  # fmt: skip
            assert seen == asked, (seed, caller, policy(seed))


def test_regular_expressions(fleet):
    text = (
        "p, bob, applications, get, ^p[12]/(web|api)$, allow\np, bob, applications, get, api, deny"
    )
    change_setting("rbac", {"policy.csv": text, "policy.matchMode": "regex"})
    access_changed("policy", "rbac", None)
    caller = Caller("bob", None, ("bob",))
    asked = {a.pk for a in fleet if decide(caller, "applications", "get", a.rbac_object, a.where).allowed}  # fmt: skip
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
    access.look_again()
    decide(caller, "applications", "get", "p1/web")
    with django_assert_num_queries(1):
        assert {a.project for a in visible(caller)} == {"p1", "p2", "p3"}
    access._of_request.set(None)
