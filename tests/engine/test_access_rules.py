"""Rules with a scope, roles of projects, the reverse question, and masks of what changed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.engine.cluster_scopes import Where, parse_scope
from hub.engine.errors import RuleError
from hub.engine.project_restrictions import (
    check_service_accounts,
    matches_label_selector,
    service_account_for,
    with_global_projects,
)
from hub.engine.project_roles import check_project_roles, project_policy
from hub.engine.rbac import Enforcer, Policy, builtin, parse
from hub.engine.secret_masking import HIDDEN, change_between, digest_of

PROD = Where("https://prod", "prod-1", {"env": "prod", "region": "eu"})
DEV = Where("https://dev", "dev-1", {"env": "dev"})


@pytest.mark.parametrize(
    ("text", "prod", "dev"),
    [
        ("clusters where env=prod", True, False),
        ("clusters where env!=prod", False, True),
        ("clusters named prod-*", True, False),
        ("clusters named https://dev", False, True),
        ("clusters named prod-*|dev-?", True, True),
        ("clusters where env in (prod, test)", True, False),
        ("clusters where env notin (prod)", False, True),
        ("clusters where region", True, False),
        ("clusters where !region", False, True),
        ("clusters named *-1 where env==dev,!region", False, True),
        ("clusters where nothing!=x", True, True),
    ],
)
def test_scopes(text, prod, dev):
    scope = parse_scope(text)
    assert (scope.covers(PROD), scope.covers(DEV), scope.covers(None)) == (prod, dev, False)
    assert parse_scope(scope.text) == scope


@pytest.mark.parametrize(
    "text",
    [
        "prod",
        "clusters",
        "clusters where",
        "clusters where a=(b)",
        "clusters where !a=b",
        "clusters where a in b",
    ],
)
def test_scopes_that_cannot_be_read(text):
    with pytest.raises(RuleError):
        parse_scope(text)


def test_a_line_with_a_scope_is_written_and_read_again():
    line = 'p, role:x, applications, delete*, */*, deny, "clusters where env in (prod,live),!test"'
    rule = parse(line).rules[0]
    assert str(rule) == line and parse(str(rule)).rules[0] == rule._replace(origin="policy.csv:1")
    assert parse("p, a, applications, get, *, allow, nowhere").problems


def test_rules_of_a_project_reach_nothing_else():
    policy = project_policy(
        "pay",
        [
            {
                "name": "r",
                "groups": ["g"],
                "policies": [
                    "p, proj:pay:r, applications, *, pay/*, allow",
                    "p, proj:pay:r, applications, *, other/*, allow",
                    "p, proj:pay:x, logs, get, pay/*, allow",
                    "p, proj:pay:r, accounts, get, pay/*, allow",
                    "g, proj:pay:r, role:admin",
                ],
            }
        ],
    )
    enforcer = Enforcer(builtin() + policy)
    assert len(policy.problems) == 3
    assert enforcer.decide(["g"], "applications", "delete", "pay/a").allowed
    assert enforcer.decide(["g"], "projects", "get", "pay").allowed
    for resource, name in (
        ("applications", "other/a"),
        ("projects", "payments"),
        ("clusters", "x"),
    ):
        assert not enforcer.decide(["g"], resource, "get", name).allowed
    regex = Enforcer(
        project_policy(
            "pay",
            [{"name": "r", "policies": ["p, proj:pay:r, applications, get, pay/.*, allow"]}],
            "regex",
        ),
        "regex",
    )
    assert not regex.decide(["proj:pay:r"], "applications", "get", "other/pay/x").allowed
    with pytest.raises(RuleError):
        check_project_roles("pay", ["x"])


WORDS = st.sampled_from(["a", "b", "c", "role:x", "role:y", "g1", "g2"])
OBJECTS = st.sampled_from(["*", "*/*", "p/*", "p/a", "q/*", "*/a", "p/n/*", "[pq]/a", "{p,q}/b"])
SCOPES = st.sampled_from(["", "", "clusters where env=prod", "clusters named dev-*"])
LINES = st.tuples(
    WORDS,
    st.sampled_from(["applications", "*", "logs"]),
    st.sampled_from(["get", "*", "sync"]),
    OBJECTS,
    st.sampled_from(["allow", "allow", "deny"]),
    SCOPES,
)


def policy_of(lines, links):
    text = "\n".join(
        (
            f"p, {s}, {r}, {a}, {o if ',' not in o else chr(34) + o + chr(34)}, "
            f"{e}{', ' + w if w else ''}"
        )
        for s, r, a, o, e, w in lines
    )
    return parse(text + "\n" + "\n".join(f"g, {a}, {b}" for a, b in links))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(LINES, max_size=8),
    st.lists(st.tuples(WORDS, WORDS), max_size=6),
    st.sampled_from(["p/a", "q/a", "p/n/a", "q/b"]),
    st.sampled_from([None, PROD, DEV]),
)
def test_who_can_is_what_asking_everybody_gives(lines, links, name, where):
    enforcer = Enforcer(policy_of(lines, links))
    allowed, denied = enforcer.who("applications", "sync", name, where)
    for subjects in (["a"], ["b", "g1"], ["c", "g1", "g2"], ["role:x"], ["nobody"]):
        asked = enforcer.decide(subjects, "applications", "sync", name, where).allowed
        assert asked == (bool(allowed & set(subjects)) and not denied & set(subjects))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(LINES, max_size=8),
    st.lists(st.tuples(WORDS, WORDS), max_size=6),
    st.sampled_from([None, PROD, DEV]),
)
def test_a_deny_wins_over_any_group(lines, links, where):
    enforcer = Enforcer(policy_of(lines, links))
    together = enforcer.decide(["a", "g1", "g2"], "applications", "get", "p/a", where)
    alone = [enforcer.decide([s], "applications", "get", "p/a", where) for s in ("a", "g1", "g2")]
    if any(d.rule and not d.allowed for d in alone):
        assert not together.allowed
    else:
        assert together.allowed == any(d.allowed for d in alone)


def test_service_accounts():
    spec = {
        "destinationServiceAccounts": [
            {"server": "https://prod", "namespace": "pay-*", "defaultServiceAccount": "deployer"},
            {"server": "*", "namespace": "*", "defaultServiceAccount": "robots:any"},
        ]
    }
    assert (
        service_account_for(spec, "https://prod", "pay-a", "argocd")
        == "system:serviceaccount:pay-a:deployer"
    )
    assert (
        service_account_for(spec, "https://dev", "x", "argocd")
        == "system:serviceaccount:robots:any"
    )
    assert service_account_for({}, "https://dev", "x", "argocd") is None
    for entry in (
        {"server": "!x"},
        "x",
        {"server": "*", "namespace": "*", "defaultServiceAccount": ""},
        {"server": "*", "namespace": "*", "defaultServiceAccount": "a*"},
    ):
        with pytest.raises(RuleError):
            check_service_accounts([entry])


def test_global_projects_add_limits_and_no_roles():
    spec = with_global_projects(
        {"sourceRepos": ["a"], "roles": [1]},
        [{"sourceRepos": ["b"], "roles": [2], "syncWindows": [3], "orphanedResources": {}}],
    )
    assert spec == {"sourceRepos": ["a", "b"], "roles": [1], "syncWindows": [3]}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_selectors(selector, fits):
    assert matches_label_selector(selector, {"a": "1"}) is fits


def test_what_changed_without_any_secret():
    before = {
        "repoURL": "https://u:CANARY@h/x",
        "helm": {"parameters": [{"name": "x", "value": "CANARY"}], "values": "CANARY"},
        "password": "CANARY",
        "replicas": 1,
    }
    after = {
        **before,
        "repoURL": "https://h/x",
        "helm": {"values": "CANARY2"},
        "password": "CANARY3",
        "replicas": 2,
        "list": ["a"],
    }
    found = change_between(before, after)
    assert "CANARY" not in str(found)
    assert {c["path"] for c in found["changes"]} == {
        "helm.parameters",
        "helm.values",
        "password",
        "replicas",
        "list",
    }
    assert {"path": "password", "before": HIDDEN, "after": HIDDEN} in found["changes"]
    assert found["before"] != found["after"]
    assert change_between(None, None) == {}
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert "before" not in change_between(None, {"a": "x" * 500})
    many = change_between({}, {str(n): n for n in range(300)})
    assert len(many["changes"]) == 200 and many["truncated"] == 100


def test_labels_are_shown_whatever_their_keys_are_named():
    labels = {"env": "production", "config": "a", "token": "x"}
    after = {"metadata": {"labels": labels}, "env": {"labels": {"a": "b"}}}

    found = change_between({"metadata": {"labels": {}}}, after)

    assert {c["path"]: c["after"] for c in found["changes"]} == {
        "metadata.labels.env": "production",
        "metadata.labels.config": "a",
        "metadata.labels.token": "x",
        "env": HIDDEN,
    }


def test_policies_add_up():
    assert (Policy() + builtin()).rules == builtin().rules


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ([{"name": "a b"}], "invalid role name"),
        ([{"name": "a"}, {"name": "a"}], "already exists"),
        ([{"name": "a", "policies": "p"}], "must be a list"),
        ([{"name": "a", "policies": [" "]}], "is not a valid policy"),
        ([{"name": "a", "groups": ["x\ty"]}], "is not a valid group"),
        ([{"name": "a", "groups": ["x", "x"]}], "already exists for role"),
        (
            [{"name": "a", "policies": ["p, proj:pay:b, applications, get, pay/*, allow"]}],
            "policy subject must be",
        ),
        ([{"name": "a", "policies": ["p, nope"]}], "invalid RBAC policy"),
    ],
)
def test_roles_of_a_project_that_cannot_be(roles, words):
    with pytest.raises(RuleError, match=words):
        check_project_roles("pay", roles)


def test_roles_of_a_project_that_can():
    check_project_roles(
        "pay",
        [
            {
                "name": "a",
                "policies": ["p, proj:pay:a, applications, get, pay/*, allow"],
                "groups": ["g"],
            },
            {"name": "b"},
        ],
    )
    check_project_roles("pay", None)


def test_what_some_subjects_reach():
    enforcer = Enforcer(
        parse(
            "p, a, applications, get, p/*, allow\np, a, applications, get, p/x, deny\n"
            "p, b, applications, get, *, allow"
        )
    )
    found = enforcer.reach(["a"], "applications", "get")
    assert [r.object for r in found.allow] == ["p/*"]
    assert [r.object for r in found.deny] == ["p/x"]
