import time

import pytest
from support.openapi import type_for

from hub.engine.diff import CompareSettings
from hub.engine.diff import compare as compare_
from hub.engine.field_sets import MANAGER, applied_fields
from hub.engine.ignore_rules import ignore_rules
from hub.engine.preserve_ignored import preserve_ignored
from hub.engine.schema import OBJECT

NOTHING = CompareSettings()


def compare(desired, live, settings, delete_by_jq):
    return compare_(desired, live, settings, delete_by_jq, type_for(desired))


def no_jq(_expression, value):
    raise AssertionError(value)


def deployment(**spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": spec,
    }


def applied(manifest, live, manager=MANAGER, operation="Apply"):
    entry = {
        "manager": manager,
        "operation": operation,
        "fieldsV1": applied_fields(manifest, type_for(manifest) or OBJECT),
    }
    entries = [*live["metadata"].get("managedFields", []), entry]
    return {**live, "metadata": {**live["metadata"], "managedFields": entries}}


def containers(*items):
    return {"template": {"spec": {"containers": list(items)}}}


@pytest.mark.parametrize(
    ("desired", "live", "before", "modified"),
    [
        pytest.param({"replicas": 1}, {"replicas": 1}, None, False, id="equal"),
        pytest.param({"replicas": 1}, {"replicas": 2}, None, True, id="drift"),
        pytest.param(
            {"replicas": 1},
            {"replicas": 1, "paused": True},
            None,
            False,
            id="a field of the cluster's own",
        ),
        pytest.param(
            {"replicas": 1},
            {"replicas": 1, "minReadySeconds": 5},
            {"replicas": 1, "minReadySeconds": 5},
            True,
            id="left git",
        ),
        pytest.param({"paused": False}, {}, None, False, id="a zero value that the server took"),
        pytest.param(
            {"strategy": {}}, {"strategy": {"type": "RollingUpdate"}}, None, False, id="empty block"
        ),
        pytest.param({"selector": None}, {}, None, False, id="null is absent"),
        pytest.param(
            containers({"name": "a", "image": "x"}),
            containers({"name": "a", "image": "x", "imagePullPolicy": "Always"}),
            None,
            False,
            id="defaults in a container",
        ),
        pytest.param(
            containers({"name": "a", "image": "x"}),
            containers({"name": "a", "image": "x"}, {"name": "sidecar", "image": "y"}),
            None,
            False,
            id="injected container",
        ),
        pytest.param(
            containers({"name": "a", "image": "x"}),
            containers({"name": "a", "image": "x"}, {"name": "b", "image": "y"}),
            containers({"name": "a", "image": "x"}, {"name": "b", "image": "y"}),
            True,
            id="container left git",
        ),
        pytest.param(
            containers({"name": "a", "env": [{"name": "E", "value": "1"}]}),
            containers({"name": "a", "env": [{"name": "E", "value": "2"}]}),
            None,
            True,
            id="env drift",
        ),
        pytest.param(
            containers({"name": "a", "env": [{"name": "B"}, {"name": "A"}]}),
            containers({"name": "a", "env": [{"name": "A"}, {"name": "B"}]}),
            None,
            True,
            id="order counts",
        ),
        pytest.param(
            containers({"name": "a", "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}}}),
            containers({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1024Mi"}}}),
            None,
            False,
            id="quantities by value",
        ),
        pytest.param(
            containers({"name": "a", "ports": [{"containerPort": 80}]}),
            containers({"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}),
            None,
            False,
            id="port protocol",
        ),
        pytest.param(
            containers({"name": "a", "args": ["x"]}),
            containers({"name": "a", "args": ["x", "y"]}),
            None,
            True,
            id="a plain list is one value",
        ),
    ],
)
def test_compare(desired, live, before, modified):
    current = deployment(**live)
    current = applied(deployment(**(before or desired)), current)
    assert compare(deployment(**desired), current, NOTHING, no_jq).modified is modified


def test_what_does_not_exist_is_modified():
    found = compare(deployment(replicas=1), None, NOTHING, no_jq)
    assert found.modified
    assert found.live is None


def test_a_field_that_somebody_else_owns_too_stays():
    live = applied(deployment(replicas=3, paused=True), deployment(replicas=3, paused=True))
    live = applied(deployment(replicas=3), live, "hpa", "Update")
    found = compare(deployment(paused=True), live, NOTHING, no_jq)
    assert not found.modified
    assert found.predicted["spec"] == {"replicas": 3, "paused": True}


def test_last_applied_tells_what_left_git():
    text = (
        '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"ns"},'
        '"spec":{"replicas":1,"minReadySeconds":3}}'
    )
    live = deployment(replicas=1, minReadySeconds=3)
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
    found = compare(deployment(replicas=1), live, NOTHING, no_jq)
    assert found.modified
    assert found.predicted["spec"] == {"replicas": 1}


@pytest.mark.parametrize(
    "text", ["no json", "[]", '{"kind": 1}', '{"apiVersion": "v1", "kind": "X", "metadata": {}}']
)
def test_a_malformed_last_applied_annotation_is_ignored(text):
    live = deployment(replicas=1)
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
    assert not compare(deployment(replicas=1), live, NOTHING, no_jq).modified


def test_secrets_compare_by_data():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    live = {**secret, "type": "Opaque", "data": {"a": "eA=="}}
    assert not compare({**secret, "stringData": {"a": "x"}}, live, NOTHING, no_jq).modified
    assert compare({**secret, "stringData": {"a": "y"}}, live, NOTHING, no_jq).modified
    assert not compare(
        {**secret, "data": {"a": "eA==", "b": None}, "stringData": None},
        {**live, "data": {"a": "eA==", "b": ""}},
        NOTHING,
        no_jq,
    ).modified


def test_roles_without_rules_and_aggregated_roles():
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r"},
        "rules": [],
    }
    assert not compare(role, {**role, "rules": None}, NOTHING, no_jq).modified
    opened = {**role, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    assert compare(role, opened, NOTHING, no_jq).modified
    selected = {**role, "aggregationRule": {"clusterRoleSelectors": []}}
    assert not compare(selected, {**selected, "rules": opened["rules"]}, NOTHING, no_jq).modified
    aggregated = {
        **role,
        "aggregationRule": {"clusterRoleSelectors": []},
        "rules": [{"verbs": ["get"]}],
    }
    live = {**aggregated, "rules": [{"verbs": ["list"]}]}
    assert compare(aggregated, live, NOTHING, no_jq).modified
    assert not compare(
        aggregated, live, CompareSettings(ignore_aggregated_roles=True), no_jq
    ).modified


def test_status_counts_only_when_asked():
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x.y"},
        "spec": {},
    }
    assert not compare(crd, {**crd, "status": {"a": 1}}, NOTHING, no_jq).modified
    assert not compare(
        crd, {**crd, "status": {"a": 1}}, CompareSettings(ignore_status="none"), no_jq
    ).modified


def test_custom_resources_without_a_schema_keep_what_others_added_and_lists_are_values():
    widget = {
        "apiVersion": "unknown.example/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"parts": [{"name": "a"}]},
    }
    assert not compare(
        widget, {**widget, "spec": {**widget["spec"], "extra": 1}}, NOTHING, no_jq
    ).modified
    assert compare(
        widget, {**widget, "spec": {"parts": [{"name": "a", "size": 1}]}}, NOTHING, no_jq
    ).modified


def test_finalizers_are_a_set():
    desired = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "finalizers": ["a"]},
    }
    live = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "finalizers": ["b", "a"]},
    }
    assert not compare(desired, live, NOTHING, no_jq).modified
    owned = applied({**desired, "metadata": {"name": "c", "finalizers": ["a", "b"]}}, live)
    assert compare(desired, owned, NOTHING, no_jq).predicted["metadata"]["finalizers"] == ["a"]


def rules(**entry):
    return CompareSettings(
        rules=ignore_rules(
            [{"group": "apps", "kind": "Deployment", **entry}], "spec.ignoreDifferences"
        )
    )


@pytest.mark.parametrize(
    ("settings", "modified"),
    [
        pytest.param(rules(jsonPointers=["/spec/replicas"]), False, id="pointer"),
        pytest.param(rules(jsonPointers=["/spec/paused"]), True, id="other pointer"),
        pytest.param(rules(jqPathExpressions=[".spec.replicas"]), False, id="plain jq"),
        pytest.param(rules(jsonPointers=["/spec/replicas"], name="other"), True, id="other name"),
        pytest.param(rules(jsonPointers=["/spec/replicas"], namespace="ns"), False, id="namespace"),
        pytest.param(rules(managedFieldsManagers=["hpa"]), False, id="manager"),
    ],
)
def test_ignored_fields(settings, modified):
    live = applied(deployment(replicas=5), deployment(replicas=5), "hpa", "Update")
    assert compare(deployment(replicas=1), live, settings, no_jq).modified is modified


def test_respecting_ignored_fields_sends_the_live_value():
    live = applied(
        deployment(replicas=5),
        deployment(replicas=5, template={"spec": {"containers": [{"name": "a", "image": "2"}]}}),
        "hpa",
        "Update",
    )
    desired = deployment(
        replicas=1, template={"spec": {"containers": [{"name": "a", "image": "1"}]}}
    )
    found = rules(
        jsonPointers=["/spec/replicas"],
        jqPathExpressions=[".spec.template.spec.containers[].image"],
    ).rules
    sent = preserve_ignored(desired, live, found, no_jq)
    assert sent["spec"] == {
        "replicas": 5,
        "template": {"spec": {"containers": [{"name": "a", "image": "2"}]}},
    }
    assert preserve_ignored(desired, None, found, no_jq) == desired
    assert preserve_ignored(desired, live, (), no_jq) == desired
    by_manager = rules(managedFieldsManagers=["hpa"]).rules
    assert preserve_ignored(desired, live, by_manager, no_jq)["spec"]["replicas"] == 5


@pytest.mark.parametrize(
    "path",
    [["metadata"], ["metadata", "name"], ["metadata", "namespace"], ["kind"], ["apiVersion"]],
    ids=str,
)
def test_what_is_ignored_never_changes_which_object_is_sent(path):
    """A jq path may look at the object: then what it selects of the desired side differs from the
    live one.
    """
    desired = {**deployment(replicas=1)}
    desired["metadata"] = {**desired["metadata"], "namespace": "own", "annotations": {"mark": "1"}}
    live = {
        **desired,
        "kind": "Role",
        "apiVersion": "x/v1",
        "metadata": {"name": "other", "namespace": "kube-system"},
    }
    ignored = rules(jqPathExpressions=["first(.x)"]).rules

    for one_side in (False, True):
        sent = preserve_ignored(
            desired,
            live,
            ignored,
            lambda _, v, both=not one_side: [path] if both or "mark" in str(v) else [],
        )
        names = {k: sent["metadata"].get(k) for k in ("name", "namespace")}
        assert names == {"name": desired["metadata"]["name"], "namespace": "own"}
        assert (sent["kind"], sent["apiVersion"]) == (desired["kind"], desired["apiVersion"])


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        pytest.param(
            {"kind": "ConfigMap", "metadata": {"finalizers": [f"a{n}" for n in range(20_000)]}},
            {"kind": "ConfigMap", "metadata": {"finalizers": [f"b{n}" for n in range(20_000)]}},
            id="a set",
        ),
        pytest.param(
            *[deployment(**containers(*({"name": f"c{n}"} for n in range(3_000))))] * 2,
            id="elements",
        ),
    ],
)
def test_long_lists_take_little_time(desired, live):
    desired = {"apiVersion": "v1", **desired, "metadata": {**desired["metadata"], "name": "a"}}
    live = applied(
        desired, {"apiVersion": "v1", **live, "metadata": {**live["metadata"], "name": "a"}}
    )
    begun = time.process_time()

    compare(desired, live, CompareSettings(), no_jq)

    assert time.process_time() - begun < 1.5


def test_many_managers_take_little_time():
    entries = [
        {"manager": f"m{n}", "operation": "Update", "fieldsV1": {"f:data": {f"f:k{n}": {}}}}
        for n in range(10_000)
    ]
    named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    live = {**named, "metadata": {"name": "a", "managedFields": entries}, "data": {"k1": "x"}}
    begun = time.process_time()

    compare(named, live, CompareSettings(), no_jq)

    assert time.process_time() - begun < 1.5


@pytest.mark.parametrize(
    "desired",
    [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", "finalizers": [{}, []]},
        },
        deployment(**containers({"name": {"a": 1}}, {"name": ["b"]})),
    ],
    ids=["a set of objects", "an object for a key"],
)
def test_what_no_schema_allows_is_compared(desired):
    assert not compare(desired, applied(desired, desired), CompareSettings(), no_jq).modified


@pytest.mark.parametrize("step", ["²", "1" * 5000])
def test_a_step_that_is_no_index(step):
    ignored = rules(jsonPointers=[f"/spec/{step}"], jqPathExpressions=[f".spec[{step}]"])

    compare(deployment(), deployment(), ignored, lambda _expression, value: value)
