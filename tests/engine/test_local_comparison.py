"""The first look of a comparison: the same, different, or for the server to say."""

import pytest
from support.openapi import type_for

from hub.engine.apply_merge import Ownership, Uncertain, merge_for_apply
from hub.engine.diff import CompareSettings, compare_locally
from hub.engine.field_sets import MANAGER, applied_fields
from hub.engine.ignore_rules import ignore_rules
from hub.engine.normalize import normalize_desired

SAME, UNSURE, DIFFERENT = "same", "unsure", "different"


def no_jq(_expression, value):
    raise AssertionError(value)


def manifest(kind, spec, api="apps/v1", **metadata):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "web", **metadata}, "spec": spec}


def owned(live, before, manager=MANAGER, operation="Apply", **more):
    entry = {
        "manager": manager,
        "operation": operation,
        "fieldsV1": applied_fields(before, type_for(before)),
        **more,
    }
    entries = [*live["metadata"].get("managedFields", []), entry]
    return {**live, "metadata": {**live["metadata"], "managedFields": entries}}


def verdict(desired, live, settings=None):
    found = compare_locally(
        normalize_desired(desired), live, settings or CompareSettings(), no_jq, type_for(desired)
    )
    if found.is_same:
        return SAME
    return DIFFERENT if any(doubt.is_sure for doubt in found.doubts) else UNSURE


def pods(*items, **more):
    return {"template": {"spec": {"containers": list(items), **more}}}


def one(**container):
    return pods({"name": "a", "image": "x", **container})


def spec_case(desired, live, before, expected, case):
    return pytest.param("Deployment", "apps/v1", desired, live, before, expected, id=case)


def widget(desired, live, before, expected, case):
    return pytest.param("Widget", "example.com/v1", desired, live, before, expected, id=case)


def policy(*peers):
    return {"ingress": [{"from": list(peers)}]}


def closed(desired, live, before, expected, case):
    return pytest.param(
        "NetworkPolicy", "networking.k8s.io/v1", desired, live, before, expected, id=case
    )


POD, SPACE = {"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {}}
TABLE = [
    spec_case({"replicas": 1}, {"replicas": 1}, None, SAME, "equal"),
    spec_case({"replicas": 1}, {"replicas": 2}, None, DIFFERENT, "drift"),
    spec_case({"replicas": 0}, {"replicas": 1}, None, DIFFERENT, "a zero beside another value"),
    spec_case({"replicas": 0}, {"replicas": 0}, None, SAME, "a zero that is there"),
    spec_case({"paused": False}, {"paused": 0}, None, DIFFERENT, "false is not a number"),
    spec_case({"replicas": None}, {"replicas": 1}, None, SAME, "null is not stated"),
    spec_case(
        {"paused": False}, {}, {"paused": False}, SAME, "a zero that the server took and dropped"
    ),
    spec_case({"paused": False}, {}, {"replicas": 1}, UNSURE, "a zero that we have not applied"),
    spec_case({"extra": ""}, {}, {"replicas": 1}, UNSURE, "an empty text that we have not applied"),
    spec_case(
        {"strategy": {"rollingUpdate": {}}},
        {},
        {"strategy": {}},
        UNSURE,
        "an empty object that is new",
    ),
    spec_case(
        {"strategy": {}},
        {"strategy": {"type": "x"}},
        {"replicas": 1},
        SAME,
        "an empty object states nothing of what is in it",
    ),
    spec_case({"strategy": {"type": "x"}}, {}, None, DIFFERENT, "an object that is not there"),
    spec_case({}, {"minReadySeconds": 5}, {"minReadySeconds": 5}, DIFFERENT, "left Git"),
    spec_case(
        {},
        {"strategy": {"type": "x", "rollingUpdate": {"maxSurge": 1}}},
        {"strategy": {"type": "x"}},
        DIFFERENT,
        "a part left Git",
    ),
    spec_case({}, {}, {"minReadySeconds": 5}, SAME, "left both"),
    spec_case({}, {"paused": True}, {"replicas": 1}, SAME, "a field of the cluster's own"),
    spec_case(
        {"selector": {"matchLabels": {"a": "b"}}},
        {"selector": {"matchLabels": {"a": "b", "c": "d"}}},
        None,
        UNSURE,
        "more in an atomic map",
    ),
    spec_case(
        {"selector": {"matchLabels": {"a": "b"}}},
        {"selector": {"matchLabels": {"a": "b", "c": ""}}},
        None,
        UNSURE,
        "an empty text more in an atomic map",
    ),
    spec_case(
        {"selector": {}},
        {"selector": {"matchLabels": {"a": "b"}}},
        None,
        UNSURE,
        "an empty atomic map",
    ),
    spec_case(
        {"strategy": {"rollingUpdate": {"maxSurge": 1}}},
        {"strategy": {"rollingUpdate": {"maxSurge": "1"}}},
        None,
        DIFFERENT,
        "a number is not text",
    ),
    spec_case(one(), one(imagePullPolicy="Always"), None, SAME, "a default in a container"),
    spec_case(
        one(),
        pods({"name": "s"}, *one()["template"]["spec"]["containers"]),
        None,
        SAME,
        "a container of somebody else",
    ),
    spec_case(
        pods({"name": "a"}),
        pods({"name": "a"}, {"name": "b"}),
        pods({"name": "a"}, {"name": "b"}),
        DIFFERENT,
        "a container left Git",
    ),
    spec_case(
        pods({"name": "b"}, {"name": "a"}),
        pods({"name": "a"}, {"name": "b"}),
        None,
        DIFFERENT,
        "the order of what is stated",
    ),
    spec_case(
        pods({"name": "a"}, {"name": "b"}), pods({"name": "a"}), None, DIFFERENT, "a new container"
    ),
    spec_case(
        one(env=[{"name": "A", "value": ""}]),
        one(env=[{"name": "A"}]),
        one(env=[{"name": "A", "value": ""}]),
        SAME,
        "an empty variable that we applied",
    ),
    spec_case(
        one(env=[{"name": "A", "value": ""}]),
        one(env=[{"name": "A"}]),
        one(env=[{"name": "A"}]),
        UNSURE,
        "an empty variable that is new",
    ),
    spec_case(
        one(env=[{"name": "A", "value": "1"}]),
        one(env=[{"name": "A", "value": "2"}]),
        None,
        DIFFERENT,
        "a variable",
    ),
    spec_case(
        one(ports=[{"containerPort": 80}]),
        one(ports=[{"containerPort": 80, "protocol": "TCP"}]),
        None,
        SAME,
        "the key has a default",
    ),
    spec_case(
        one(ports=[{"containerPort": 80, "protocol": "UDP"}]),
        one(ports=[{"containerPort": 80, "protocol": "TCP"}]),
        None,
        DIFFERENT,
        "another protocol",
    ),
    spec_case(
        one(ports=[{"containerPort": 80}]),
        one(ports=[{"containerPort": 80, "protocol": "TCP"}] * 2),
        None,
        DIFFERENT,
        "twice in the cluster",
    ),
    spec_case(
        one(resources={"limits": {"cpu": "1000m", "memory": "1Gi"}}),
        one(resources={"limits": {"cpu": "1", "memory": "1024Mi"}}),
        None,
        SAME,
        "quantities",
    ),
    spec_case(
        one(resources={"limits": {"cpu": 2}}),
        one(resources={"limits": {"cpu": "2"}}),
        None,
        SAME,
        "a quantity as a number",
    ),
    spec_case(
        one(resources={"limits": {"cpu": "2"}}),
        one(resources={"limits": {"cpu": "3"}}),
        None,
        DIFFERENT,
        "another quantity",
    ),
    spec_case(one(args=["a"]), one(args=["a", "b"]), None, DIFFERENT, "an atomic list"),
    spec_case(one(securityContext={"runAsUser": 0}), one(), one(), UNSURE, "a user that is root"),
    spec_case(
        pods(tolerations=[{"key": "a"}]),
        pods(tolerations=[{"key": "a", "operator": "Equal"}]),
        None,
        UNSURE,
        "more in an element of an atomic list",
    ),
    spec_case(
        pods(tolerations=[{"key": "a", "tolerationSeconds": 0}]),
        pods(tolerations=[{"key": "a"}]),
        pods(tolerations=[{"key": "a"}]),
        UNSURE,
        "a zero in an atomic list",
    ),
    spec_case(
        pods(tolerations=[{"key": "a"}]),
        pods(tolerations=[{"key": "b"}]),
        None,
        DIFFERENT,
        "another element",
    ),
    spec_case(
        one(env=[{"name": "A", "valueFrom": {"resource": "cpu"}}]),
        one(env=[{"name": "A", "valueFrom": {"resource": "cpu", "divisor": "0"}}]),
        None,
        UNSURE,
        "a default that nobody publishes",
    ),
    spec_case(pods("odd"), pods("odd"), None, SAME, "what no schema allows"),
    spec_case(
        pods({"name": {"a": 1}}), pods({"name": {"a": 1}}), None, SAME, "an object for a key"
    ),
    closed(
        policy({**POD, **SPACE}),
        policy(POD),
        policy(POD),
        UNSURE,
        "an empty selector beside another comes",
    ),
    closed(policy(POD), policy({**POD, **SPACE}), policy({**POD, **SPACE}), UNSURE, "and goes"),
    closed(policy({**POD, **SPACE}), policy({**POD, **SPACE}), None, SAME, "and stays"),
    widget({"size": 0}, {"size": 3}, None, DIFFERENT, "a zero beside a default"),
    widget({"on": False}, {}, {"size": 1}, UNSURE, "a zero of a custom kind that is not there"),
    widget(
        {"refs": [{"name": "a"}]},
        {"refs": [{"name": "a", "weight": 1, "mode": {"kind": "plain", "level": 7}}]},
        None,
        SAME,
        "defaults of the schema in elements",
    ),
    widget(
        {"refs": [{"name": "a"}]},
        {"refs": [{"name": "a", "weight": 5}]},
        None,
        DIFFERENT,
        "no default",
    ),
    widget(
        {"refs": [{"name": "a"}]},
        {"refs": [{"name": "a", "weight": 1, "mode": {"kind": "plain", "level": 8}}]},
        None,
        DIFFERENT,
        "no default in a default",
    ),
    widget(
        {"refs": [{"name": "a", "weight": 1}]},
        {"refs": [{"name": "a", "weight": True}]},
        None,
        DIFFERENT,
        "true is not a number",
    ),
    widget(
        {"parts": [{"id": "a"}]},
        {"parts": [{"id": "b", "zone": "home"}, {"id": "a", "zone": "home", "size": 1}]},
        None,
        SAME,
        "keys with a default",
    ),
    widget(
        {"parts": [{"id": "a", "zone": "x"}]},
        {"parts": [{"id": "a", "zone": "home"}]},
        None,
        DIFFERENT,
        "another key",
    ),
    widget({"words": ["a"]}, {"words": ["b", "a"]}, None, SAME, "a set has more"),
    widget(
        {"words": ["a"]},
        {"words": ["b", "a"]},
        {"words": ["a", "b"]},
        DIFFERENT,
        "a member left Git",
    ),
    widget({"words": ["a", "c"]}, {"words": ["b", "a"]}, None, DIFFERENT, "a new member"),
    widget(
        {"fixed": {}},
        {"fixed": {"a": "1"}},
        None,
        DIFFERENT,
        "more in an atomic map of a custom kind",
    ),
    widget({"either": 80}, {"either": "80"}, None, DIFFERENT, "a number or a text"),
    widget(
        {"free": {"a": {"b": 1}}},
        {"free": {"a": {"b": 1, "c": 2}}},
        None,
        SAME,
        "a map without a schema",
    ),
    widget(
        {"free": {"a": [{"b": 1}]}},
        {"free": {"a": [{"b": 1, "c": 2}]}},
        None,
        UNSURE,
        "a list without a schema",
    ),
    pytest.param("Secret", "v1", {}, {}, None, SAME, id="nothing"),
]


@pytest.mark.parametrize(("kind", "api", "desired", "live", "before", "expected"), TABLE)
def test_a_look(kind, api, desired, live, before, expected):
    wanted = manifest(kind, desired, api)
    current = owned(
        manifest(kind, live, api), manifest(kind, before or normalize_desired(wanted)["spec"], api)
    )

    assert verdict(wanted, current) == expected


@pytest.mark.parametrize(
    ("desired", "live", "expected"),
    [
        ("eA==", "eA==", SAME),
        ("eA\n==", "eA==", SAME),
        ("eA==", "eQ==", DIFFERENT),
        ("no base64!", "eA==", DIFFERENT),
        (5, "eA==", DIFFERENT),
    ],
)
def test_bytes_compare_decoded(desired, live, expected):
    def secret(value):
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "data": {"a": value},
        }

    assert verdict(secret(desired), owned(secret(live), secret(desired))) == expected


def test_a_schema_that_names_itself():
    def crd(properties):
        versions = [{"schema": {"properties": properties}}]
        return manifest(
            "CustomResourceDefinition", {"versions": versions}, "apiextensions.k8s.io/v1"
        )

    deep = {"a": {"properties": {"b": {"properties": {}}}}}
    stated = {"a": {"properties": {"b": {"minimum": 0, "properties": {}}}}}

    assert verdict(crd(deep), owned(crd(deep), crd(deep))) == SAME
    assert verdict(crd(stated), owned(crd(deep), crd(deep))) == UNSURE


def test_lists_of_older_servers():
    def old(**spec):
        return manifest("Old", spec, "old.example/v1")

    live = old(named=[{"name": "b"}, {"name": "a"}], words=["y", "x"], plain=["a"])
    assert verdict(old(named=[{"name": "a"}], words=["x"]), live) == SAME
    assert verdict(old(plain=[]), live) == DIFFERENT


def test_what_others_have_too_stays():
    before = manifest("Deployment", {"replicas": 3, "paused": True})
    live = owned(owned(before, before), manifest("Deployment", {"replicas": 3}), "hpa", "Update")

    assert verdict(manifest("Deployment", {"paused": True}), live) == SAME
    assert verdict(manifest("Deployment", {"replicas": 3}), live) == DIFFERENT


def test_elements_that_others_have_too_lose_what_was_only_ours():
    ours = manifest("Deployment", pods({"name": "a"}, {"name": "b", "image": "x", "args": ["1"]}))
    theirs = manifest("Deployment", pods({"name": "b", "image": "x"}))
    live = owned(owned(ours, ours), theirs, "other", "Update")
    wanted = manifest("Deployment", pods({"name": "a"}))

    found = compare_locally(wanted, live, CompareSettings(), no_jq, type_for(wanted)).as_changed()

    assert found.predicted["spec"] == pods({"name": "a"}, {"name": "b", "image": "x"})
    same = owned(live, ours, "third", "Update")
    assert verdict(wanted, same) == SAME


def test_rules_settle_a_doubt():
    live = owned(manifest("Deployment", {"replicas": 5}), manifest("Deployment", {}))
    wanted = manifest("Deployment", {"replicas": 3, "paused": False})
    rules = [
        {"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas", "/spec/paused"]}
    ]

    assert verdict(wanted, live) == DIFFERENT
    assert verdict(wanted, live, CompareSettings(ignore_rules(rules, "x"))) == SAME


@pytest.mark.parametrize(
    ("kind", "api", "desired", "live", "before", "modified"),
    [
        ("Deployment", "apps/v1", {"paused": False}, {}, None, False),
        ("Deployment", "apps/v1", {"paused": False}, {}, {"replicas": 1}, True),
        (
            "Deployment",
            "apps/v1",
            pods(tolerations=[{"key": "a"}]),
            pods(tolerations=[{"key": "a", "effect": ""}]),
            {},
            False,
        ),
        (
            "Deployment",
            "apps/v1",
            pods(tolerations=[{"key": "a"}]),
            pods(tolerations=[{"key": "a", "value": "b"}]),
            {},
            True,
        ),
        (
            "Deployment",
            "apps/v1",
            pods(tolerations=[{"key": "a", "tolerationSeconds": 0}]),
            pods(tolerations=[{"key": "a"}]),
            {},
            True,
        ),
        ("Widget", "example.com/v1", {"on": False}, {}, None, True),
    ],
)
def test_without_asking_what_is_likely_counts(kind, api, desired, live, before, modified):
    """A difference that is none goes with the next sync; a difference that is not shown stays for
    ever.
    """
    wanted, current = manifest(kind, desired, api), manifest(kind, live, api)
    if before is not None:
        current = owned(current, manifest(kind, before, api))

    found = compare_locally(
        wanted, current, CompareSettings(), no_jq, type_for(wanted)
    ).best_guess()

    assert found.modified is modified


def test_what_is_in_doubt_can_be_kept():
    wanted, live = manifest("Deployment", {"paused": False}), manifest("Deployment", {})

    kept, doubts = merge_for_apply(
        wanted, live, type_for(wanted), Ownership({}, dict), Uncertain.KEPT
    )

    assert kept is live
    assert len(doubts) == 1


def test_an_answer_holds_while_the_doubtful_places_stay():
    wanted = manifest("Deployment", {"paused": False, "extra": "a"})

    def place(**live):
        current = owned(manifest("Deployment", live), manifest("Deployment", {}))
        return compare_locally(
            wanted, current, CompareSettings(), no_jq, type_for(wanted)
        ).doubts_digest

    assert place(extra="b", replicas=1) == place(extra="b", replicas=2)
    assert place(extra="b") != place(extra="c")
    assert place(extra="a") != place(extra="a", paused=True)


MUTATED = [
    pytest.param(
        {"replicas": 1},
        {"replicas": 1},
        {"replicas": 1, "extra": "hook"},
        {},
        False,
        id="a webhook adds a field",
    ),
    pytest.param(
        {"replicas": 1},
        {"replicas": 1, "extra": "1"},
        {"replicas": 1, "extra": "2"},
        {},
        False,
        id="a webhook changes a field of nobody's",
    ),
    pytest.param(
        {"extra": "a"},
        {"extra": "hook"},
        {"extra": "hook"},
        {},
        False,
        id="a webhook changes what is stated, as before",
    ),
    pytest.param(
        {"extra": "a"},
        {"extra": "b"},
        {"extra": "hook"},
        {},
        True,
        id="a webhook changes what is stated anew",
    ),
    pytest.param(
        one(),
        one(),
        pods({"name": "a", "image": "x"}, {"name": "side"}),
        {},
        False,
        id="a webhook adds a container",
    ),
    pytest.param(
        one(),
        pods({"name": "side"}, {"name": "a", "image": "y"}),
        pods({"name": "side"}, {"name": "a", "image": "x"}),
        {},
        True,
        id="an image beside an added container",
    ),
    pytest.param(
        one(),
        pods({"name": "side"}, {"name": "a", "image": "x"}),
        one(),
        {},
        False,
        id="an added container is left out",
    ),
    pytest.param(
        {},
        {"minReadySeconds": 5},
        {"minReadySeconds": 1},
        {"minReadySeconds": 5},
        True,
        id="what left Git gets a default",
    ),
    pytest.param(
        {},
        {"minReadySeconds": 5},
        {"minReadySeconds": 5},
        {"minReadySeconds": 5},
        False,
        id="what left Git is the default",
    ),
    pytest.param(
        pods({"name": "a"}),
        pods({"name": "a"}, {"name": "b"}),
        pods({"name": "a"}),
        pods({"name": "b"}),
        True,
        id="an element left Git",
    ),
]


@pytest.mark.parametrize(("desired", "live", "answer", "before", "modified"), MUTATED)
def test_an_answer_counts_where_we_state_or_have_applied(desired, live, answer, before, modified):
    wanted = manifest("Deployment", desired)
    current = owned(manifest("Deployment", live), manifest("Deployment", before))
    found = compare_locally(wanted, current, CompareSettings(), no_jq, type_for(wanted))

    assert found.with_dry_run(manifest("Deployment", answer)).modified is modified
    assert found.is_unchanged_by(manifest("Deployment", answer)) is not modified


def test_mutations_count_when_asked_for():
    wanted = manifest("Deployment", {"replicas": 1})
    found = compare_locally(wanted, wanted, CompareSettings(), no_jq, type_for(wanted))
    answer = manifest("Deployment", {"replicas": 1, "extra": "hook"})

    assert found.with_dry_run(answer, mutations=True).modified
    assert found.with_dry_run(answer, mutations=True).predicted["spec"]["extra"] == "hook"
    assert not found.with_dry_run(answer).modified
    assert not found.is_unchanged_by(answer, mutations=True)


def test_sets_in_answers():
    def of(*words):
        return manifest("Widget", {"words": list(words)}, "example.com/v1")

    found = compare_locally(
        of("a"), owned(of("b", "c", "a"), of("c")), CompareSettings(), no_jq, type_for(of())
    )

    assert found.without_mutations(of("hook", "a"))["spec"]["words"] == ["b", "a"]


def test_a_dry_run_does_not_show_what_only_an_annotation_tells():
    text = (
        '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},'
        '"spec":{"minReadySeconds":5,"template":{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}'
        "}}"
    )
    live = manifest(
        "Deployment", {"replicas": 1, "minReadySeconds": 5, **pods({"name": "a"}, {"name": "b"})}
    )
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
    wanted = manifest("Deployment", {"replicas": 1, **pods({"name": "a"})})

    found = compare_locally(wanted, live, CompareSettings(), no_jq, type_for(wanted)).with_dry_run(
        live
    )

    assert found.modified
    assert found.predicted["spec"] == {"replicas": 1, **pods({"name": "a"})}
