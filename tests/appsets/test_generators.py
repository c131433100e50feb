"""Generators of application sets: the examples of Argo CD's documentation and what goes wrong."""

import json
import time

import pytest

from appsets.generators import base
from appsets.generators.base import ClusterFacts
from appsets.generators.errors import GeneratorError
from appsets.generators.generate import generate, has_templated_project, merged_template
from appsets.generators.spec_queries import blocks, requeue_seconds, uses
from appsets.template import limits
from appsets.template.render import application_from
from appsets.template.syntax import TemplateError

FLEET = [
    ClusterFacts("in-cluster", "https://kubernetes.default.svc"),
    ClusterFacts("Prod_1", "https://p1", "pay", {"env": "prod", "region": "eu"}, {"team": "a"}),
    ClusterFacts("dev", "https://d1", "", {"env": "dev"}),
]
FILES = {
    "apps/web/x.yaml": b"",
    "apps/api/deep/y.yaml": b"",
    "apps/.hidden/z.yaml": b"",
    "apps/old/k.yaml": b"",
    "cluster-config/prod/config.json": b'{"cluster": {"owner": "a", "tags": ["x", 1]}, "n": 3}',
    "cluster-config/dev/config.json": b'{"cluster": {"owner": "b"}}',
    "lists/all.yaml": b"- {name: one}\n- {name: two}\n",
    "empty.yaml": b"",
    "bad.yaml": b"just text",
    "README.md": b"x",
}


class World:
    def __init__(self, asked=None):
        self.asked = asked or []

    def clusters(self):
        return FLEET

    def paths(self, url, revision):
        del url, revision
        return list(FILES)

    def read(self, url, revision, path):
        del url, revision
        return FILES[path]

    def fetch_parameters(self, kind, spec):
        del kind, spec
        return self.asked


def params(*generators, go=True, world=None, **spec):
    return [
        g.params
        for g in generate(
            {"goTemplate": go, "generators": list(generators), **spec}, world or World()
        )
    ]


def names(found, key="name"):
    return [p[key] for p in found]


LIST = {"list": {"elements": [{"cluster": "a", "n": 1}, {"cluster": "b", "n": 2}]}}
GIT = {"repoURL": "https://git.example/x", "revision": "HEAD"}


def test_list():
    assert params(LIST) == [{"cluster": "a", "n": 1}, {"cluster": "b", "n": 2}]
    assert params({"list": {"elements": [{"c": "a", "values": {"x": 1}}]}}, go=False) == [
        {"c": "a", "values.x": "1"}
    ]
    assert params({"list": {"elements": [], "elementsYaml": "[{a: 1}]"}}) == [{"a": 1}]
    assert params({"list": {"elements": []}}) == []


def test_clusters():
    assert names(params({"clusters": {}})) == ["Prod_1", "dev", "in-cluster"]
    (prod,) = params(
        {
            "clusters": {
                "selector": {"matchLabels": {"env": "prod"}},
                "values": {"zone": "{{.metadata.labels.region}}-1"},
            }
        }
    )
    assert prod == {
        "name": "Prod_1",
        "nameNormalized": "prod-1",
        "server": "https://p1",
        "project": "pay",
        "metadata": {"labels": {"env": "prod", "region": "eu"}, "annotations": {"team": "a"}},
        "values": {"zone": "eu-1"},
    }
    (dev,) = params(
        {
            "clusters": {
                "selector": {
                    "matchExpressions": [{"key": "env", "operator": "In", "values": ["dev"]}]
                }
            }
        },
        go=False,
    )
    assert dev["metadata.labels.env"] == "dev" and dev["server"] == "https://d1"
    (flat,) = params({"clusters": {"flatList": True}})
    assert len(flat["clusters"]) == 3
    assert (
        names(
            params(
                {
                    "clusters": {
                        "selector": {
                            "matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]
                        }
                    }
                }
            )
        )
        == []
    )


def test_git_directories():
    found = params(
        {"git": {**GIT, "directories": [{"path": "apps/*"}, {"path": "apps/old", "exclude": True}]}}
    )
    assert [p["path"]["path"] for p in found] == ["apps/api", "apps/web"]
    assert found[0]["path"] == {
        "path": "apps/api",
        "basename": "api",
        "basenameNormalized": "api",
        "segments": ["apps", "api"],
    }
    (plain,) = params(
        {
            "git": {
                **GIT,
                "directories": [{"path": "apps/w*"}],
                "values": {"x": "{{path.basename}}"},
            }
        },
        go=False,
    )
    assert plain == {
        "path": "apps/web",
        "path.basename": "web",
        "path.basenameNormalized": "web",
        "path[0]": "apps",
        "path[1]": "web",
        "values.x": "web",
    }
    (prefixed,) = params(
        {"git": {**GIT, "directories": [{"path": "apps/web"}], "pathParamPrefix": "my"}}
    )
    assert prefixed == {
        "my": {
            "path": {
                "path": "apps/web",
                "basename": "web",
                "basenameNormalized": "web",
                "segments": ["apps", "web"],
            }
        }
    }


def test_git_files():
    found = params({"git": {**GIT, "files": [{"path": "cluster-config/**/config.json"}]}})
    assert [p["cluster"]["owner"] for p in found] == ["b", "a"]
    assert (
        found[1]["path"]["filename"] == "config.json"
        and found[1]["path"]["basename"] == "prod"
        and found[1]["n"] == 3
    )
    plain = params({"git": {**GIT, "files": [{"path": "cluster-config/prod/*"}]}}, go=False)
    assert (
        plain[0]["cluster.owner"] == "a"
        and plain[0]["cluster.tags.1"] == "1"
        and plain[0]["path[1]"] == "prod"
    )
    assert names(params({"git": {**GIT, "files": [{"path": "lists/all.yaml"}]}})) == ["one", "two"]
    assert len(params({"git": {**GIT, "files": [{"path": "empty.yaml"}]}})) == 1
    assert (
        params(
            {
                "git": {
                    **GIT,
                    "files": [
                        {"path": "cluster-config/*"},
                        {"path": "cluster-config/dev/*", "exclude": True},
                    ],
                }
            }
        )[0]["n"]
        == 3
    )


@pytest.mark.parametrize(
    ("text", "go", "expected"),
    [
        pytest.param("n: y", True, {"false": True}, id="booleans"),
        pytest.param("n: y", False, {"false": "true"}, id="booleans in the plain form"),
        pytest.param("1: {on: off}", True, {"1": {"true": False}}, id="an integer over a boolean"),
        pytest.param("1: {on: off}", False, {"1.true": "false"}, id="the same in the plain form"),
        pytest.param("2001-01-01: 2001-01-02", True, {"2001-01-01": "2001-01-02"}, id="dates"),
    ],
)
def test_keys_of_files_are_texts_as_in_json(text, go, expected, monkeypatch):
    monkeypatch.setitem(FILES, "odd.yaml", text.encode())

    for generator in (
        {"git": {"repoURL": "r", "revision": "main", "files": [{"path": "odd.yaml"}]}},
        {"list": {"elementsYaml": f"- {{{text}}}"}} if go else None,
    ):
        if generator:
            [found] = params(generator, go=go)
            assert expected.items() <= found.items()


def test_matrix_of_any_width_and_depth():
    found = params(
        {
            "matrix": {
                "generators": [
                    {"git": {**GIT, "directories": [{"path": "apps/web"}]}},
                    {"clusters": {"selector": {"matchLabels": {"env": "prod"}}}},
                ]
            }
        }
    )
    assert [(p["path"]["basename"], p["name"]) for p in found] == [("web", "Prod_1")]
    three = {
        "matrix": {
            "generators": [
                {"list": {"elements": [{"a": 1}, {"a": 2}]}},
                {"list": {"elements": [{"b": 1}]}},
                {
                    "matrix": {
                        "generators": [
                            {"list": {"elements": [{"c": 1}]}},
                            {"list": {"elements": [{"d": "{{.a}}"}, {"d": "x"}]}},
                        ]
                    }
                },
            ]
        }
    }
    assert params(three) == [
        {"a": 1, "b": 1, "c": 1, "d": "1"},
        {"a": 1, "b": 1, "c": 1, "d": "x"},
        {"a": 2, "b": 1, "c": 1, "d": "2"},
        {"a": 2, "b": 1, "c": 1, "d": "x"},
    ]
    explode = {
        "matrix": {
            "generators": [
                {"list": {"elements": [{"apps": "[{app: one}, {app: two}]"}]}},
                {"list": {"elements": [], "elementsYaml": "{{.apps}}"}},
            ]
        }
    }
    assert names(params(explode), "app") == ["one", "two"]
    with pytest.raises(GeneratorError, match="duplicate key"):
        params(
            {
                "matrix": {
                    "generators": [
                        {"list": {"elements": [{"a": "1"}]}},
                        {"list": {"elements": [{"a": "2"}]}},
                    ]
                }
            },
            go=False,
        )
    selector = {
        "matrix": {"generators": [{"clusters": {}}, {"list": {"elements": [{"v": "{{.name}}"}]}}]},
        "selector": {"matchLabels": {"v": "dev"}},
    }
    assert names(params(selector)) == ["dev"]
    late = {
        "matrix": {
            "generators": [
                {"list": {"elements": [{"env": "prod"}]}},
                {
                    "clusters": {
                        "selector": {"matchLabels": {"env": "{{.env}}"}},
                        "values": {"own": "{{.name}}", "first": "{{.env}}"},
                    }
                },
            ]
        }
    }
    assert params(late)[0]["values"] == {"own": "Prod_1", "first": "prod"}


def test_merge():
    found = params(
        {
            "merge": {
                "mergeKeys": ["server"],
                "generators": [
                    {"clusters": {"values": {"kafka": "true"}}},
                    {
                        "clusters": {
                            "selector": {"matchLabels": {"env": "prod"}},
                            "values": {"kafka": "false"},
                        }
                    },
                    {
                        "list": {
                            "elements": [
                                {"server": "https://d1", "extra": "x"},
                                {"server": "https://gone", "extra": "y"},
                            ]
                        }
                    },
                ],
            }
        }
    )
    by = {p["name"]: p for p in found}
    assert (
        by["Prod_1"]["values"]["kafka"] == "false"
        and by["dev"]["values"]["kafka"] == "true"
        and by["dev"]["extra"] == "x"
    )
    assert len(found) == 3 and "extra" not in by["in-cluster"]
    plain = params(
        {
            "merge": {
                "mergeKeys": ["a"],
                "generators": [
                    {"list": {"elements": [{"a": "1", "b": "x"}]}},
                    {"list": {"elements": [{"a": "1", "b": ""}]}},
                ],
            }
        },
        go=False,
    )
    assert plain == [{"a": "1", "b": ""}]
    with pytest.raises(GeneratorError, match="not unique"):
        params({"merge": {"mergeKeys": ["x"], "generators": [LIST, LIST]}})
    with pytest.raises(GeneratorError, match="no merge keys"):
        params({"merge": {"generators": [LIST, LIST]}})


def test_products_have_a_limit_that_names_them():
    many = {"list": {"elements": [{f"k{n}": n} for n in range(50)]}}
    spec = {"goTemplate": True, "generators": [{"matrix": {"generators": [many, many]}}]}
    with pytest.raises(
        GeneratorError,
        match=r"generators\[0\].matrix: the product with .*generators\[1\].list makes 101 sets",
    ):
        generate(spec, World(), maximum=100)
    with pytest.raises(GeneratorError, match="more than 1"):
        generate({"goTemplate": True, "generators": [LIST]}, World(), maximum=1)


@pytest.mark.parametrize(
    "odd",
    [None, 7, "x", [1], {"a": None}, {"a": [1, {"b": None}]}, {"": 1}, {"a": {"b": {"c": []}}}],
)
def test_unexpected_types_in_answers(odd):
    for go in (True, False):
        try:
            params(
                {"plugin": {}}, go=go, world=World([odd] if isinstance(odd, dict) else [{"v": odd}])
            )
        except GeneratorError:
            continue


@pytest.mark.parametrize(
    ("generator", "words"),
    [
        ({}, "no generator that is known"),
        ({"nope": {}}, "no generator"),
        ({"list": []}, "must be an object"),
        ({"list": {"elements": [1]}}, "must be an object"),
        ({"list": {"elementsYaml": "a: ["}}, "elementsYaml"),
        ({"list": {"elementsYaml": "a: 1"}}, "must be a YAML list"),
        ({"git": {}}, "repoURL is required"),
        ({"git": GIT}, "directories or files"),
        ({"git": {**GIT, "files": [{"path": "bad.yaml"}]}}, "bad.yaml"),
        ({"matrix": {"generators": [LIST]}}, "less than two"),
        ({"matrix": {"generators": [{**LIST, "clusters": {}}, LIST]}}, "more than one generator"),
        ({"matrix": {}}, "must be a list"),
        (
            {**LIST, "selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}},
            "operator",
        ),
        ({**LIST, "selector": 1}, "selector"),
        ({"clusters": {"values": {"x": '{{fail "no"}}'}}}, "no"),
        ({"clusters": {"values": [1]}}, "values must be an object"),
        (
            {"matrix": {"generators": [LIST, {"list": {"elements": [{"x": '{{fail "no"}}'}]}}]}},
            "no",
        ),
    ],
)
def test_generators_that_cannot_be(generator, words):
    with pytest.raises(GeneratorError) as error:
        params(generator)
    assert words in str(error.value)


def test_values_that_are_no_texts_in_the_plain_form():
    with pytest.raises(GeneratorError, match="error parsing value as string"):
        params(LIST, go=False)
    with pytest.raises(GeneratorError, match="goTemplateOptions"):
        params(LIST, goTemplateOptions=["missingkey=maybe"])


def test_the_generators_that_a_set_uses():
    nested = {
        "generators": [
            {
                "matrix": {
                    "generators": [
                        LIST,
                        {
                            "merge": {
                                "mergeKeys": ["a"],
                                "generators": [
                                    {"clusters": {}},
                                    {"git": {**GIT, "requeueAfterSeconds": 60}},
                                ],
                            }
                        },
                    ]
                }
            },
            {"pullRequest": {}},
        ]
    }
    assert uses(nested, "clusters") and uses(nested, "git") and not uses(nested, "plugin")
    assert requeue_seconds(nested) == 60 and requeue_seconds({"generators": [LIST]}) == 0
    assert next(blocks(nested, "git"))["repoURL"] == GIT["repoURL"]
    assert has_templated_project(
        {"template": {"spec": {"project": "{{.x}}"}}}
    ) and not has_templated_project({"template": {"spec": {"project": "x"}}})


def test_the_template_of_a_generator_is_laid_over():
    base = {
        "metadata": {"name": "a", "labels": {"x": "1"}},
        "spec": {"project": "p", "sources": [1]},
    }
    over = {"metadata": {"labels": {"y": "2"}}, "spec": {"project": "", "sources": [2]}}
    assert merged_template(base, over) == {
        "metadata": {"name": "a", "labels": {"x": "1", "y": "2"}},
        "spec": {"project": "p", "sources": [2]},
    }


TEMPLATE = {
    "metadata": {"name": "{{.cluster}}-app", "labels": {"{{.cluster}}": "n{{.n}}"}},
    "spec": {
        "project": "default",
        "destination": {"server": "https://x", "namespace": "{{.cluster}}"},
        "revisionHistoryLimit": 3,
    },
}


def test_an_application_from_a_template():
    spec = {"goTemplate": True, "goTemplateOptions": ["missingkey=error"]}
    made = application_from(spec, TEMPLATE, {"cluster": "a", "n": 1})
    assert made == {
        "metadata": {
            "name": "a-app",
            "labels": {"a": "n1"},
            "finalizers": ["resources-finalizer.argocd.argoproj.io"],
        },
        "spec": {
            "project": "default",
            "destination": {"server": "https://x", "namespace": "a"},
            "revisionHistoryLimit": 3,
        },
    }
    kept = application_from(
        {**spec, "syncPolicy": {"preserveResourcesOnDeletion": True}},
        TEMPLATE,
        {"cluster": "a", "n": 1},
    )
    assert "finalizers" not in kept["metadata"]
    with pytest.raises(TemplateError, match="metadata"):
        application_from(spec, TEMPLATE, {"n": 1})
    plain = application_from(
        {}, {"metadata": {"name": "{{ cluster }}-{{other}}"}, "spec": {}}, {"cluster": "a"}
    )
    assert plain["metadata"]["name"] == "a-{{other}}"


def test_a_patch_of_the_template():
    patch = (
        "spec:\n  project: evil\n  revisionHistoryLimit: {{.n}}\n{{- if .auto }}\n"
        "  syncPolicy: {automated: {prune: true}}\n{{- end }}\n  destination: null\n"
    )
    made = application_from(
        {"goTemplate": True, "templatePatch": patch},
        TEMPLATE,
        {"cluster": "a", "n": 7, "auto": True},
    )
    assert made["spec"] == {
        "project": "default",
        "revisionHistoryLimit": 7,
        "syncPolicy": {"automated": {"prune": True}},
    }
    for bad in ("a: [", "- 1", "{{.x"):
        with pytest.raises(TemplateError, match="invalid templatePatch"):
            application_from(
                {"goTemplate": True, "templatePatch": bad}, TEMPLATE, {"cluster": "a", "n": 1}
            )
    with pytest.raises(TemplateError, match="must be text"):
        application_from({"templatePatch": {"a": 1}}, TEMPLATE, {"cluster": "a"})


SLOW = "{{ range until 35000 }}{{ if . }}{{ end }}{{ end }}"
MANY = [{"name": f"a{n}"} for n in range(10_000)]
WHOLE_SETS = {
    "templates": {
        "generators": [{"list": {"elements": MANY}}],
        "template": {"metadata": {"name": SLOW}},
    },
    "values": {
        "generators": [
            {
                "git": {
                    "repoURL": "x",
                    "directories": [{"path": "*"}],
                    "values": {f"v{n}": SLOW for n in range(1000)},
                }
            }
        ]
    },
    "children": {
        "generators": [
            {
                "matrix": {
                    "generators": [
                        {"list": {"elements": MANY}},
                        {"list": {"elements": [{"x": SLOW}]}},
                    ]
                }
            }
        ]
    },
    "globs": {
        "generators": [
            {"git": {"repoURL": "x", "directories": [{"path": f"*{n}/x*y"} for n in range(2000)]}}
        ]
    },
    "selectors": {
        "generators": [
            {
                "list": {"elements": [{"a": {f"k{m}": m for m in range(500)}}] * 9999},
                "selector": {"matchLabels": {"x": "y"}},
            }
        ]
    },
}


class Wide(World):
    def paths(self, url, revision):
        return [f"d{n}/e{m}/file" for n in range(500) for m in range(50)]


@pytest.mark.parametrize("name", WHOLE_SETS)
def test_a_whole_set_takes_no_longer_than_it_may(name):
    spec = {"goTemplate": True, **WHOLE_SETS[name]}
    begun = time.process_time()

    with limits.bounded(0.3, time.thread_time), pytest.raises(limits.OutOfTime, match="more than"):
        for made in generate(spec, Wide()):
            application_from(spec, spec.get("template", {}), made.params)

    assert time.process_time() - begun < 3


FIELDS = {f"k{n}": n for n in range(20_000)}
LARGE_SETS = {
    "a product": {
        "matrix": {
            "generators": [
                {"list": {"elements": [FIELDS]}},
                {"list": {"elements": [{"x": str(n)} for n in range(9_000)]}},
            ]
        }
    },
    "files": {"git": {"repoURL": "x", "files": [{"path": "*"}], "values": {"a": "b"}}},
}


class OneLargeFile(World):
    """A tree whose many names are one file."""

    def paths(self, url, revision):
        return [f"{n}.yaml" for n in range(10_000)]

    def read(self, url, revision, path):
        return json.dumps(FIELDS).encode()


@pytest.mark.parametrize("go", [True, False])
@pytest.mark.parametrize("name", LARGE_SETS)
def test_the_parameters_of_a_set_are_bounded_together(name, go, monkeypatch):
    monkeypatch.setattr(base, "MAX_VALUES", 300_000)
    monkeypatch.setattr(base, "MAX_FILE_VALUES", 60_000)
    spec = json.loads(json.dumps(LARGE_SETS[name]), parse_int=str)

    with (
        limits.bounded(20, time.thread_time),
        pytest.raises(GeneratorError, match=r"more than 300,000 fields|more than 60,000 values"),
    ):
        generate({"goTemplate": go, "generators": [spec]}, OneLargeFile())


class OneLongKey(World):
    def read(self, url, revision, path):
        leaves = ",".join(f"k{n}: 1" for n in range(600))
        return f"? {'x' * 200_000}\n: {{{leaves}}}\n".encode()


MANY = {"list": {"elements": [{"a": "x" * 100_000}]}}
LONG_SETS = {
    "one text at many places": ([MANY], {"name": "{{ a }}" * 11}, "writes more than 1000000"),
    "many texts": ([MANY], {f"k{n}": "{{ a }}" for n in range(1_001)}, "are more than 100,000,000"),
    "many texts of Go": (
        [MANY],
        {f"k{n}": "{{ .a }}" for n in range(1_001)},
        "are more than 100,000,000",
    ),
    "many values of a generator": (
        [
            {"list": MANY["list"]},
            {
                "git": {
                    **GIT,
                    "directories": [{"path": "*"}],
                    "values": {f"k{n}": "{{ a }}" for n in range(600)},
                }
            },
        ],
        {},
        "are more than 100,000,000",
    ),
    "a long key that each name repeats": (
        [{"git": {**GIT, "files": [{"path": "empty.yaml"}]}}],
        {},
        "are more than 100,000,000",
    ),
}


@pytest.mark.parametrize("case", LONG_SETS)
def test_the_output_of_the_templates_of_a_set_is_bounded_together(case):
    generators, annotations, words = LONG_SETS[case]
    spec = {"goTemplate": case.endswith("Go"), "generators": [generators[0]]}
    if len(generators) > 1:
        spec["generators"] = [{"matrix": {"generators": generators}}]
    template = {"metadata": {"name": "a", "annotations": annotations}, "spec": {}}

    with (
        limits.bounded(20, time.thread_time),
        pytest.raises((limits.OutOfTime, TemplateError), match=words),
    ):
        for made in generate(spec, OneLongKey()):
            application_from(spec, template, made.params)
