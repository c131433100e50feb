"""What a checkout has and a tree must have too: links inside the repository, one chart by two
aliases, named repositories.
"""

import pytest
from support.charts import Charts
from support.corpus import CM

from hub.engine.errors import Stalled
from projects import sources
from projects.models import Repository

pytestmark = pytest.mark.django_db(transaction=True)
SUB = (
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: '{name}-{{{{ .Chart.Name }}}}'}}\n"
    "data: {{v: '{{{{ .Chart.Version }}}}', a: {{{{ .Values.a | quote }}}}}}\n"
)


def context(**fields):
    given = {"project": "default", "project_spec": {"sourceRepos": ["*"]}, **fields}
    return sources.Context("app", "app", "ns", kube_version="v1.36.3", **given)


def chart(name, version, folder):
    return {
        f"{folder}/Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n",
        f"{folder}/values.yaml": "a: own\n",
        f"{folder}/templates/cm.yaml": SUB.format(name=name),
    }


def parent(*dependencies):
    listed = "".join(f"  - {entry}\n" for entry in dependencies)
    text = f"apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n{listed}"
    return {"parent/Chart.yaml": text, "parent/values.yaml": "old: {a: of-old}\nnew: {a: of-new}\n"}


def rendered(repo, path, **source):
    wanted = {"repoURL": repo.url, "targetRevision": "main", "path": path, **source}
    revision = sources.resolve(wanted, "default", force=True)
    found = sources.load([wanted], [revision], context()).manifests
    return {m["metadata"]["name"]: m["data"] for m in found if m["kind"] == "ConfigMap"}


BOTH = {
    "demo-old": {"v": "1.0.0", "a": "of-old"},
    "demo-new": {"v": "2.0.0", "a": "of-new"},
}


def test_one_chart_by_two_aliases_and_versions(repo):
    repo.commit(
        {
            **chart("demo", "1.0.0", "one"),
            **chart("demo", "2.0.0", "two"),
            **parent(
                "{name: demo, alias: old, version: 1.x, repository: 'file://../one'}",
                "{name: demo, alias: new, version: '>=2', repository: 'file://../two'}",
            ),
        }
    )
    assert rendered(repo, "parent") == BOTH


LOCK = (
    "dependencies:\n- {name: demo, repository: 'URL', version: 1.0.0}\n"
    "- {name: demo, repository: 'URL', version: 2.0.0}\ndigest: x\n"
)


@pytest.mark.parametrize("lock", [{}, {"parent/Chart.lock": LOCK}], ids=["without", "locked"])
def test_one_chart_of_a_repository_by_two_aliases_and_versions(repo, lock):
    server = Charts()
    repo.commit(
        {
            **parent(
                f"{{name: demo, alias: old, version: ~1.0, repository: '{server.url}'}}",
                f"{{name: demo, alias: new, version: 2.x, repository: '{server.url}'}}",
            ),
            **{name: text.replace("URL", server.url) for name, text in lock.items()},
        }
    )
    wanted = {"repoURL": repo.url, "targetRevision": "main", "path": "parent"}
    revision = sources.resolve(wanted, "default", force=True)
    found = sources.load([wanted], [revision], context()).manifests
    assert sorted((m["data"]["v"], m["data"]["a"]) for m in found) == [
        ("1.0.0", "of-old"),
        ("2.0.0", "of-new"),
    ]


def test_a_local_dependency_is_of_the_version_that_is_asked_for(repo):
    repo.commit(
        {
            **chart("demo", "1.0.0", "one"),
            **parent("{name: demo, version: '>=2', repository: 'file://../one'}"),
        }
    )
    with pytest.raises(Stalled, match=r"version 1\.0\.0, not >=2"):
        rendered(repo, "parent")


@pytest.mark.parametrize("form", ["@stable", "alias:stable"])
def test_a_repository_is_found_by_its_name(repo, form):
    server = Charts()
    Repository.objects.create(url=server.url, kind="helm", name="stable")
    repo.commit(parent(f"{{name: demo, version: 2.0.0, repository: '{form}'}}"))
    assert rendered(repo, "parent")["app"]["v"] == "2.0.0"


def test_an_unregistered_name_is_reported(repo):
    repo.commit(parent("{name: demo, version: 2.0.0, repository: '@nobody'}"))
    with pytest.raises(Stalled, match=r"'nobody'.*repo add"):
        rendered(repo, "parent")


def test_a_named_repository_must_be_permitted(repo):
    server = Charts()
    Repository.objects.create(url=server.url, kind="helm", name="stable")
    repo.commit(parent("{name: demo, version: 2.0.0, repository: '@stable'}"))
    wanted = {"repoURL": repo.url, "targetRevision": "main", "path": "parent"}
    revision = sources.resolve(wanted, "default", force=True)
    with pytest.raises(Stalled, match=r"helm repos .* not permitted"):
        sources.load([wanted], [revision], context(project_spec={"sourceRepos": [repo.url]}))


def linked(repo, files, links):
    repo.write(files)
    for name, target in links.items():
        place = repo.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    repo.commit()


CHART = chart("demo", "1.0.0", "real/charts/demo")


@pytest.mark.parametrize(
    ("files", "links", "source", "expected"),
    [
        pytest.param(
            CHART,
            {"apps/demo": "../real/charts/demo"},
            {"path": "apps/demo"},
            {"demo-demo": {"v": "1.0.0", "a": "own"}},
            id="a chart",
        ),
        pytest.param(
            CHART,
            {"apps": "real/charts"},
            {"path": "apps/demo"},
            {"demo-demo": {"v": "1.0.0", "a": "own"}},
            id="a folder of charts",
        ),
        pytest.param(
            {**CHART, "env/p.yaml": "a: of-file\n"},
            {"values": "env"},
            {"path": "real/charts/demo", "helm": {"valueFiles": ["/values/p.yaml"]}},
            {"demo-demo": {"v": "1.0.0", "a": "of-file"}},
            id="a file of values",
        ),
        pytest.param(
            {**CHART, "env/p.yaml": "a: of-glob\n"},
            {"values": "env"},
            {"path": "real/charts/demo", "helm": {"valueFiles": ["/values/*.yaml"]}},
            {"demo-demo": {"v": "1.0.0", "a": "of-glob"}},
            id="a glob of values",
        ),
        pytest.param(
            {**CHART, "env/eu/p.yaml": "a: deep\n"},
            {"values/here": "../env"},
            {"path": "real/charts/demo", "helm": {"valueFiles": ["/values/**/p.yaml"]}},
            {"demo-demo": {"v": "1.0.0", "a": "deep"}},
            id="a glob through a link",
        ),
        pytest.param(
            {**CHART, "parent/Chart.yaml": "apiVersion: v2\nname: parent\nversion: 1.0.0\n"},
            {"parent/charts/demo": "../../real/charts/demo"},
            {"path": "parent"},
            {"demo-demo": {"v": "1.0.0", "a": "own"}},
            id="a dependency in charts",
        ),
        pytest.param(
            {
                **CHART,
                "parent/Chart.yaml": (
                    "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
                    "dependencies: [{name: demo, version: '*', repository: "
                    "'file://../beside/demo'}]\n"
                ),
            },
            {"beside": "real/charts"},
            {"path": "parent"},
            {"demo-demo": {"v": "1.0.0", "a": "own"}},
            id="a dependency beside",
        ),
        pytest.param(
            {
                **CHART,
                "real/parent/Chart.yaml": (
                    "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
                    "dependencies: [{name: demo, version: '*', repository: "
                    "'file://../charts/demo'}]\n"
                ),
            },
            {"apps/deep/parent": "../../real/parent"},
            {"path": "apps/deep/parent"},
            {"demo-demo": {"v": "1.0.0", "a": "own"}},
            id="what is beside the chart, not the link",
        ),
        pytest.param(
            {
                **CHART,
                "real/parent/Chart.yaml": (
                    "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
                    "dependencies: [{name: demo, version: '*', repository: 'file://../lib'}]\n"
                ),
            },
            {"apps/parent": "../real/parent", "apps/lib": "../real/charts/demo"},
            {"path": "apps/parent"},
            {"demo-demo": {"v": "1.0.0", "a": "own"}},
            id="what is beside the link alone",
        ),
        pytest.param(
            {"real/a.yaml": CM.format(name="a", a=1), "real/b.yaml": CM.format(name="b", a=1)},
            {"app": "real"},
            {"path": "app", "directory": {"exclude": "b.yaml"}},
            {"a": {"a": "1"}},
            id="a folder, one file excluded",
        ),
        pytest.param(
            {
                "real/x/a.yaml": CM.format(name="a", a=1),
                "real/x/b.yaml": CM.format(name="b", a=1),
                "app/c.yaml": CM.format(name="c", a=1),
            },
            {"app/sub": "../real/x"},
            {"path": "app", "directory": {"recurse": True, "include": "{sub/a.yaml,c.yaml}"}},
            {"a": {"a": "1"}, "c": {"a": "1"}},
            id="a folder in a folder, by its name there",
        ),
        pytest.param(
            {
                "real/a.jsonnet": "import 'l.libsonnet'",
                "real/l.libsonnet": (
                    "{apiVersion: 'v1', kind: 'ConfigMap', metadata: {name: 'j'}, data: {a: 'x'}}"
                ),
            },
            {"app": "real"},
            {"path": "app"},
            {"j": {"a": "x"}},
            id="Jsonnet",
        ),
        pytest.param(
            {
                "real/base/kustomization.yaml": "resources: [a.yaml]\n",
                "real/base/a.yaml": CM.format(name="a", a=1),
                "over/kustomization.yaml": "resources: [../linked/base]\n",
            },
            {"linked": "real"},
            {"path": "over"},
            {"a": {"a": "1"}},
            id="a base",
        ),
        pytest.param(
            {
                "real/base/kustomization.yaml": "resources: [a.yaml]\n",
                "real/base/a.yaml": CM.format(name="a", a=1),
                "real/over/kustomization.yaml": "resources: [../base]\n",
            },
            {"apps/over": "../real/over"},
            {"path": "apps/over"},
            {"a": {"a": "1"}},
            id="an overlay",
        ),
    ],
)
def test_links_inside_the_repository(repo, files, links, source, expected):
    linked(repo, files, links)
    assert rendered(repo, **source) == expected
