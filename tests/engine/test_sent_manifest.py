"""What is sent to an API server, by a comparison and a sync alike."""

import pytest
from support.openapi import type_for

from hub.engine.errors import ManifestError
from hub.engine.ignore_rules import ignore_rules
from hub.engine.sent_manifest import Preserved, manifest_to_send

VALUE = "/spec/template/spec/containers/0/env/0/value"


def deployment(*variables, **container):
    env = [{"name": name, "value": value} for name, value in variables]
    pods = {"containers": [{"name": "a", "env": env, **container}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": pods}},
    }


def preserved(*pointers, kind="Deployment"):
    rule = {"group": "apps", "kind": kind, "jsonPointers": list(pointers)}
    return Preserved(ignore_rules([rule], "spec.ignoreDifferences"), lambda _path, _value: [])


def variables(manifest):
    env = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    return [(variable["name"], variable["value"]) for variable in env]


def test_a_repeated_element_goes_before_live_values_are_taken():
    stated = deployment(("A", "old"), ("A", "new"), ("B", "1"))
    live = deployment(("A", "tuned"), ("B", "1"))

    sent, repeated = manifest_to_send(stated, live, type_for(stated), preserved(VALUE))

    assert variables(sent) == [("A", "tuned"), ("B", "1")]
    assert [repeat.name for repeat in repeated] == ["name 'A'"]


@pytest.mark.parametrize(
    ("live", "keeps"),
    [
        pytest.param(None, preserved(VALUE), id="a new resource"),
        pytest.param(deployment(("A", "tuned")), None, id="without the option"),
        pytest.param(
            deployment(("A", "tuned")),
            preserved(VALUE, kind="StatefulSet"),
            id="a rule for another kind",
        ),
    ],
)
def test_git_counts_where_nothing_is_preserved(live, keeps):
    stated = deployment(("A", "1"))

    sent, repeated = manifest_to_send(stated, live, type_for(stated), keeps)

    assert (variables(sent), repeated) == ([("A", "1")], [])


@pytest.mark.parametrize("type_of", [type_for, lambda _: None], ids=["schema", "no schema"])
def test_preparing_a_second_time_changes_nothing(type_of):
    stated = deployment(("A", "1"), ("B", "2"), status={"a": None})
    live, keeps = deployment(("A", "tuned"), ("B", "2")), preserved(VALUE)
    type_ = type_of(stated)

    once = manifest_to_send(stated, live, type_, keeps)[0]

    assert manifest_to_send(once, live, type_, keeps)[0] == once


def test_an_element_that_api_servers_accept_once_is_an_error():
    pods = {"containers": [{"name": "a"}, {"name": "a"}]}
    stated = deployment() | {"spec": {"template": {"spec": pods}}}

    with pytest.raises(ManifestError, match="has name 'a' twice"):
        manifest_to_send(stated, None, type_for(stated))


def test_a_type_that_is_not_known_leaves_lists_as_they_are():
    stated = deployment(("A", "1"), ("A", "2"))

    assert variables(manifest_to_send(stated, None, None)[0]) == [("A", "1"), ("A", "2")]


ROLE = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}}
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "p"},
}
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}


@pytest.mark.parametrize(
    ("stated", "sent"),
    [
        pytest.param(ROLE | {"rules": None}, ROLE | {"rules": []}, id="an atomic list"),
        pytest.param(
            POLICY | {"spec": {"ingress": None}}, POLICY | {"spec": {"ingress": []}}, id="a list"
        ),
        pytest.param(
            POLICY | {"spec": {"ingress": [{"from": None}, {"from": [{"podSelector": None}]}]}},
            POLICY | {"spec": {"ingress": [{}, {"from": [{}]}]}},
            id="inside an atomic value",
        ),
        pytest.param(
            deployment(env=None, ports=[{"containerPort": 1, "protocol": None, "name": None}]),
            deployment(env=[], ports=[{"containerPort": 1, "name": None}]),
            id="in elements, but not what identifies them",
        ),
        pytest.param(
            deployment(resources={"limits": None}, securityContext=None),
            deployment(resources={"limits": {}}, securityContext=None),
            id="a map and a struct of an element",
        ),
        pytest.param(
            WIDGET | {"spec": {"words": None, "size": None}},
            WIDGET | {"spec": {}},
            id="a custom kind",
        ),
        pytest.param(
            WIDGET | {"spec": {"maybe": None, "refs": [{"name": None}], "free": {"a": [None]}}},
            WIDGET | {"spec": {"maybe": None, "refs": [{}], "free": {"a": [None]}}},
            id="a custom kind with nullable and free fields",
        ),
        pytest.param(MAP | {"data": None}, MAP | {"data": {}}, id="a map of texts"),
        pytest.param(MAP | {"data": {"a": None}}, MAP | {"data": {"a": ""}}, id="a text"),
        pytest.param(MAP | {"immutable": None}, MAP | {"immutable": None}, id="a scalar"),
        pytest.param(MAP | {"other": None}, MAP, id="an unknown field"),
        pytest.param(
            MAP | {"metadata": {"name": "c", "creationTimestamp": None}}, MAP, id="a server's field"
        ),
    ],
)
def test_a_null_states_what_it_does_to_an_api_server(stated, sent):
    assert manifest_to_send(stated, None, type_for(stated))[0] == sent
