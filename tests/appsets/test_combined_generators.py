"""Matrix and merge: what is stated wins, and `values` are of the own element first."""

import pytest

from appsets.generators.base import ClusterFacts
from appsets.generators.generate import generate

FILES = {
    "apps/config.json": b'{"at": "apps"}',
    "apps/old-config.json": b'{"at": "old"}',
    "apps/web/config.json": b'{"at": "web"}',
    "apps/web/old-config.json": b'{"at": "old web"}',
    "apps/web/deep/config.json": b'{"at": "deep"}',
    "apps/.hidden/config.json": b'{"at": "hidden"}',
    "webapps/config.json": b'{"at": "beside"}',
    "apps/test/config.json": b'{"at": "test"}',
    "apps/test/deep/config.json": b'{"at": "test deep"}',
}


class World:
    def __init__(self, files=None):
        self.files = FILES if files is None else files

    def clusters(self):
        return [
            ClusterFacts("blue", "https://blue", labels={"env": "prod", "zone": "eu"}),
            ClusterFacts("green", "https://green", labels={"env": "dev"}),
        ]

    def paths(self, url, revision):
        return list(self.files)

    def read(self, url, revision, path):
        return self.files[path]

    def fetch_parameters(self, kind, spec):
        return []


def params(generator, *, go=True, files=None, **spec):
    given = {"goTemplate": go, "generators": [generator], **spec}
    return [found.params for found in generate(given, World(files))]


def listed(*elements):
    return {"list": {"elements": list(elements)}}


STATED = [False, 0, "", [], 0.0]


@pytest.mark.parametrize("value", STATED, ids=repr)
def test_later_generators_of_a_merge_win(value):
    base = listed({"name": "prod", "prune": True, "sync": {"prune": True, "heal": True}})
    over = listed({"name": "prod", "prune": value, "sync": {"prune": value}})

    (found,) = params({"merge": {"mergeKeys": ["name"], "generators": [base, over]}})

    assert found["prune"] == value and type(found["prune"]) is type(value)
    assert found["sync"] == {"prune": value, "heal": True}


@pytest.mark.parametrize("value", STATED, ids=repr)
def test_the_first_generator_of_a_matrix_wins(value):
    first = listed({"prune": value, "sync": {"prune": value}})
    second = listed({"prune": True, "sync": {"prune": True, "heal": True}})

    (found,) = params({"matrix": {"generators": [first, second]}})

    assert found["prune"] == value and found["sync"] == {"prune": value, "heal": True}


def test_null_states_nothing():
    both = [listed({"name": "a", "x": 1}), listed({"name": "a", "x": None})]
    assert params({"merge": {"mergeKeys": ["name"], "generators": both}}) == [{"name": "a", "x": 1}]


def test_three_generators_override_one_after_the_other():
    each = [listed({"n": "a", "on": True}), listed({"n": "a", "on": False}), listed({"n": "a"})]
    assert params({"merge": {"mergeKeys": ["n"], "generators": each}}) == [{"n": "a", "on": False}]


@pytest.mark.parametrize("go", [True, False])
def test_values_of_clusters_by_clusters_are_of_the_own_element(go):
    text = "{{.name}}" if go else "{{name}}"
    inner = {"clusters": {"values": {"to": text}}}
    outer = {"clusters": {"values": {"from": text}}}

    found = params({"matrix": {"generators": [outer, inner]}}, go=go) if go else None
    if go:
        # Names that both have are the first one's, as of all in a matrix; values were made before.
        made = [(p["name"], p["values"]["from"], p["values"]["to"]) for p in found]
        assert made == [
            ("blue", "blue", "blue"),
            ("blue", "blue", "green"),
            ("green", "green", "blue"),
            ("green", "green", "green"),
        ]
        return
    other = {"clusters": {"selector": {"matchLabels": {"env": "prod"}}, "values": {"to": text}}}
    renamed = {"list": {"elements": [{"name": "blue"}]}}
    (one,) = params({"matrix": {"generators": [renamed, other]}}, go=False)
    assert one["values.to"] == "blue"


@pytest.mark.parametrize("go", [True, False])
def test_values_fall_back_to_the_other_element(go):
    own, other = ("{{.name}}", "{{.team}}") if go else ("{{name}}", "{{team}}")
    inner = {"clusters": {"values": {"both": f"{own}-{other}"}}}

    found = params({"matrix": {"generators": [listed({"team": "a"}), inner]}}, go=go)

    made = [p["values"]["both"] if go else p["values.both"] for p in found]
    assert made == ["blue-a", "green-a"]


def test_values_of_git_by_git_are_of_the_own_path():
    files = {"a/one.json": b"{}", "b/two.json": b"{}"}

    def folder(name):
        block = {"repoURL": "https://git.example/x", "files": [{"path": f"{name}/*.json"}]}
        return {"git": {**block, "values": {name: "{{.path.basename}}/{{.path.filename}}"}}}

    (found,) = params({"matrix": {"generators": [folder("a"), folder("b")]}}, files=files)

    assert found["values"] == {"a": "a/one.json", "b": "b/two.json"}


def test_values_in_a_matrix_in_a_matrix():
    text = {"values": {"all": "{{.name}} {{.team}} {{.tier}}"}}
    nested = {"matrix": {"generators": [listed({"tier": "web"}), {"clusters": text}]}}

    found = params({"matrix": {"generators": [listed({"team": "a", "name": "no"}), nested]}})

    assert [p["values"]["all"] for p in found] == ["blue a web", "green a web"]


def test_a_child_is_asked_with_the_parameters_before_it():
    chosen = {"clusters": {"selector": {"matchLabels": {"env": "{{.env}}"}}}}
    after = {
        **listed({"n": "x", "env2": "{{.env}}"}),
        "selector": {"matchLabels": {"env2": "{{.env}}"}},
    }

    assert [
        p["name"] for p in params({"matrix": {"generators": [listed({"env": "dev"}), chosen]}})
    ] == ["green"]
    assert len(params({"matrix": {"generators": [listed({"env": "dev"}), after]}})) == 1


def files(*entries):
    block = {"repoURL": "https://git.example/x", "files": list(entries)}
    return [p["at"] for p in params({"git": block})]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [{"path": "apps/**/config.json"}],
            ["hidden", "apps", "test", "test deep", "web", "deep"],
            id="any number of folders, none included",
        ),
        pytest.param([{"path": "apps/*/config.json"}], ["hidden", "test", "web"], id="one folder"),
        pytest.param([{"path": "apps/*.json"}], ["apps", "old"], id="a star stops at a slash"),
        pytest.param(
            [{"path": "**/config.json"}],
            ["hidden", "apps", "test", "test deep", "web", "deep", "beside"],
            id="from the root",
        ),
        pytest.param([{"path": "/apps/config.json"}], ["apps"], id="a leading slash"),
        pytest.param([{"path": "./apps/config.json"}], ["apps"], id="a leading dot"),
        pytest.param(
            [{"path": "apps/**/*-config.json"}], ["old", "old web"], id="a star within a name"
        ),
        pytest.param([{"path": "apps/{web,test}/config.json"}], ["test", "web"], id="braces"),
        pytest.param(
            [{"path": "apps/{web/deep,test}/config.json"}],
            ["test", "deep"],
            id="braces with a slash",
        ),
        pytest.param([{"path": "apps/we?/config.json"}], ["web"], id="question mark"),
        pytest.param([{"path": "apps/[a-w]*/config.json"}], ["test", "web"], id="set"),
        pytest.param(
            [{"path": "apps/**/config.json"}, {"path": "apps/**/deep/*", "exclude": True}],
            ["hidden", "apps", "test", "web"],
            id="exclude with two stars",
        ),
        pytest.param(
            [{"path": "**/config.json"}, {"path": "apps/**", "exclude": True}],
            ["beside"],
            id="exclude all below",
        ),
        pytest.param(
            [{"path": "apps/**/config.json"}, {"path": "apps/test/**", "exclude": True}],
            ["hidden", "apps", "web", "deep"],
            id="exclude a folder",
        ),
        pytest.param(
            [{"path": "apps/**/config.json"}, {"path": "apps/test", "exclude": True}],
            ["hidden", "apps", "web", "deep"],
            id="exclude a folder by its name",
        ),
        pytest.param(
            [{"path": "apps/**/config.json"}, {"path": "apps/test/*", "exclude": True}],
            ["hidden", "apps", "test deep", "web", "deep"],
            id="exclude the files of a folder",
        ),
        pytest.param(
            [{"path": "**/config.json"}, {"path": "**/test/**/config.json", "exclude": True}],
            ["hidden", "apps", "web", "deep", "beside"],
            id="exclude with stars twice",
        ),
        pytest.param([{"path": "apps/web"}], ["web", "deep", "old web"], id="a folder by its name"),
        pytest.param(
            [{"path": "apps/**.json"}], ["apps", "old"], id="two stars within a name are one"
        ),
        pytest.param([{"path": "pps/**/config.json"}], [], id="not the end of a name"),
    ],
)
def test_files_are_chosen_by_the_segments_of_their_paths(entries, expected):
    assert files(*entries) == expected
