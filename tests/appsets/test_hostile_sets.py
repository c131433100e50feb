"""Whatever somebody writes into a set: a sentence or a result, never a crash."""

import copy
from types import SimpleNamespace

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sets import manifest

from appsets.generators.base import ClusterFacts
from appsets.generators.errors import GeneratorError
from appsets.generators.generate import generate, merged_template
from appsets.generators.spec_queries import requeue_seconds
from appsets.models import ApplicationSet
from appsets.operations import sets
from appsets.operations.inputs import Inputs
from appsets.operations.plan import App, Existing, Wish, decide
from appsets.operations.rollout_decisions import Requested, Seen, is_rolling, steps_of
from appsets.operations.rollout_decisions import decide as decide_rollout
from appsets.operations.rollouts import without_automated_sync
from appsets.template.render import application_from
from appsets.template.syntax import TemplateError
from hub.engine.errors import EngineError, Invalid
from projects.models import Project
from projects.objects.applications import wanted_from

FILES = {
    "a/one.json": b'{"name": "one", "n": [1, {"x": null}]}',
    "b/two.yaml": b"- name: two\n- name: three\n",
    "c/bad.yaml": b"{{{",
    "d/bytes.yaml": b"\xff\xfe",
}
ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 10**20),
        st.floats(allow_nan=False),
        st.sampled_from(["", "x", "{{.name}}", "{{", "a/*", "*", "10%", "-1", "\u0000", "name"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "path",
                    "matchLabels",
                    "matchExpressions",
                    "key",
                    "operator",
                    "values",
                    "elements",
                    "generators",
                    "x",
                    "spec",
                    "metadata",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


class World:
    """Inputs that answer anything."""

    def __init__(self, answer):
        self.answer = answer

    def clusters(self):
        return [
            ClusterFacts("in-cluster", "https://kubernetes.default.svc"),
            ClusterFacts("east", "https://east", labels={"a": "b"}),
        ]

    def paths(self, url, revision):
        return list(FILES)

    def read(self, url, revision, path):
        return FILES[path]

    def fetch_parameters(self, kind, spec):
        return self.answer


BLOCKS = [
    {
        "list": {"elements": [{"name": "a"}], "elementsYaml": "- name: b"},
        "selector": {
            "matchLabels": {"name": "a"},
            "matchExpressions": [{"key": "name", "operator": "In", "values": ["a"]}],
        },
    },
    {
        "clusters": {
            "selector": {"matchLabels": {"a": "b"}},
            "values": {"v": "{{.name}}"},
            "flatList": False,
        }
    },
    {
        "git": {
            "repoURL": "https://git.example/a",
            "revision": "main",
            "directories": [{"path": "*", "exclude": False}],
            "pathParamPrefix": "p",
            "values": {"v": "x"},
            "requeueAfterSeconds": 5,
        }
    },
    {"git": {"repoURL": "https://git.example/a", "revision": "main", "files": [{"path": "a/*"}]}},
    {"matrix": {"generators": [{"list": {"elements": [{"name": "a"}]}}, {"clusters": {}}]}},
    {
        "merge": {
            "mergeKeys": ["name"],
            "generators": [
                {"list": {"elements": [{"name": "a"}]}},
                {"list": {"elements": [{"name": "a", "x": "1"}]}},
            ],
        }
    },
    {"plugin": {"configMapRef": {"name": "x"}, "input": {"parameters": {}}, "values": {"v": "x"}}},
    {"clusterDecisionResource": {"configMapRef": "x", "name": "y"}},
    {
        "scmProvider": {
            "github": {"organization": "x"},
            "filters": [{"repositoryMatch": "x", "pathsExist": ["a"]}],
            "cloneProtocol": "ssh",
        }
    },
    {
        "pullRequest": {
            "gitlab": {"project": "x", "labels": ["a"]},
            "filters": [{"branchMatch": "x"}],
            "requeueAfterSeconds": 3,
        }
    },
]
MORE = {
    "syncPolicy": {"applicationsSync": "sync", "preserveResourcesOnDeletion": True},
    "strategy": {
        "type": "RollingSync",
        "rollingSync": {
            "steps": [
                {
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
                    "maxUpdate": "50%",
                }
            ]
        },
        "deletionOrder": "Reverse",
    },
    "flotilla": {
        "deletion": {"maxApplications": 3, "maxPercent": 50},
        "rollout": {"soak": "5m", "maxDegraded": "10%", "steps": [{"soak": "1m"}]},
    },
    "preservedFields": {"labels": ["a"], "annotations": ["b"]},
    "ignoreApplicationDifferences": [{"name": "a", "jsonPointers": ["/spec/source"]}],
    "templatePatch": "spec: {}",
    "goTemplateOptions": ["missingkey=error"],
}


def _places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*path, number))


def _changed(value, path, new):
    result = copy.deepcopy(value)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return result


@st.composite
def odd_sets(draw):
    """Return a set that is right but for one to three places."""
    blocks = draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=2))
    body = manifest(
        "s",
        copy.deepcopy(blocks),
        **copy.deepcopy({k: MORE[k] for k in draw(st.sets(st.sampled_from(sorted(MORE))))}),
    )
    body["spec"]["goTemplate"] = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        places = [p for p in _places(body) if p]
        body = _changed(body, draw(st.sampled_from(places)), draw(ODD))
    return body


@given(
    odd_sets(),
    st.lists(
        st.dictionaries(st.sampled_from(["name", "labels", "number"]), ODD, max_size=3), max_size=2
    ),
)
@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
def test_malformed_sets_are_refused_or_work(body, answer):
    try:
        wanted = sets.wanted_from(body)
    except Invalid:
        return
    spec = wanted.spec
    requeue_seconds(spec)
    assert isinstance(wanted.project, str)
    try:
        found = generate(spec, World(answer))
    except GeneratorError:
        return
    apps = []
    for one in found:
        try:
            made = application_from(
                spec, merged_template(spec["template"], one.template), one.params
            )
            app = wanted_from(
                {"metadata": {**made["metadata"], "namespace": "argocd"}, "spec": made["spec"]}
            )
        except (TemplateError, EngineError, Invalid):
            continue
        apps.append(App(app.name, app.spec, app.labels, app.annotations, app.finalizers))
    apps = [without_automated_sync(a) for a in apps] if is_rolling(spec) else apps
    there = {a.name: Existing(a._replace(labels={"x": "y"}), "s") for a in apps[:1]}
    decide("s", spec, Wish(apps), there)
    if is_rolling(spec):
        steps = steps_of(spec)
        decide_rollout(
            steps,
            [Seen(a.name, a.labels, "t") for a in {a.name: a for a in apps}.values()],
            {},
            Requested(),
            {},
            timezone.now(),
        )


def test_files_of_parameters_are_bounded_together(monkeypatch):
    inputs = Inputs(
        Project(name="a", spec={}), timezone.now(), ApplicationSet(namespace="argocd", name="s")
    )
    monkeypatch.setattr(inputs, "_tree", lambda *_: SimpleNamespace(read=lambda _: b"x" * 900_000))

    with pytest.raises(GeneratorError, match="larger than 64,000,000 bytes together"):
        for number in range(100):
            inputs.read("https://git.example/a", "main", f"{number}.yaml")
