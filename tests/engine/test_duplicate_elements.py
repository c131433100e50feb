"""Elements that a manifest names twice."""

import pytest
from support.openapi import type_for

from hub.engine.duplicate_elements import without_duplicates
from hub.engine.errors import ManifestError


def manifest(kind, spec, api="apps/v1"):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "web"}, "spec": spec}


def pods(*containers):
    return manifest("Deployment", {"template": {"spec": {"containers": list(containers)}}})


def once(value):
    found, repeats = without_duplicates(value, type_for(value))
    return found, [str(repeat) for repeat in repeats]


def test_the_last_of_a_variable_and_of_a_port_counts():
    env = [
        {"name": "A", "value": "1"},
        {"name": "B"},
        {"name": "A", "value": "2"},
        {"name": "A", "value": "3"},
    ]
    ports = [
        {"containerPort": 80, "name": "x"},
        {"containerPort": 80, "protocol": "TCP"},
        {"containerPort": 80, "protocol": "UDP"},
    ]

    found, repeats = once(pods({"name": "a", "env": env, "ports": ports}))

    at = "spec.template.spec.containers[name 'a']"
    assert repeats == [
        f"{at}.env has name 'A' twice",
        f"{at}.ports has containerPort 80, protocol 'TCP' twice",
    ]
    assert found == pods({"name": "a", "env": [env[1], env[3]], "ports": ports[1:]})


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        pytest.param(["one", "two"], ("one",), id="another name counts"),
        pytest.param(["one", None], ("one",), id="no name counts"),
        pytest.param(["one", "one"], (), id="the same name"),
        pytest.param([None, "two"], (), id="no name is left out"),
        pytest.param(["one", "two", "one", "three"], ("one", "two"), id="several"),
    ],
)
def test_lost_names_of_ports_are_reported(names, lost):
    ports = [{"containerPort": 80} | ({"name": n} if n else {}) for n in names]
    value = pods({"name": "a", "ports": ports})

    [found] = without_duplicates(value, type_for(value))[1]

    assert found.lost == lost


def test_nothing_twice_stays_as_it_is():
    value = pods({"name": "a", "env": [{"name": "A"}], "args": ["x", "x"]}, {"name": "b"}, "odd")
    found, repeats = once(value)

    assert found is value
    assert repeats == []


def test_members_of_a_set():
    found, repeats = once(manifest("Widget", {"words": ["a", "b", "a"]}, "example.com/v1"))

    assert found["spec"]["words"] == ["b", "a"]
    assert repeats == ["spec.words has 'a' twice"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            pods({"name": "a"}, {"name": "a"}),
            "Deployment/web: spec.template.spec.containers has name 'a' twice",
        ),
        (
            manifest(
                "Widget", {"parts": [{"id": "a"}, {"id": "a", "zone": "home"}]}, "example.com/v1"
            ),
            "spec.parts has id 'a', zone 'home' twice",
        ),
    ],
)
def test_what_kubernetes_takes_only_once_is_refused(value, words):
    with pytest.raises(ManifestError, match="accepts it only once: remove one") as error:
        once(value)

    assert words in str(error.value)
