"""Sources: every tool with its whole block, charts from HTTP and OCI, several sources, and a cache
that is exact.
"""

import io
import json
import tarfile

import pytest
import yaml
from support.charts import Charts
from support.corpus import CM
from support.corpus import SIMPLE as CHART
from support.corpus import SMALL as KUSTOMIZE

from hub.engine.errors import ManifestError, RetryLater, Stalled
from projects import sources
from projects.models import RenderedManifests
from projects.sources import charts, git, kustomize
from projects.sources.archives import unpack
from projects.sources.local_repositories import folder_of
from projects.sources.process import renderer
from projects.sources.versions import resolve_git


def context(**fields):
    given = {
        "name": "app",
        "instance": "app",
        "namespace": "ns",
        "project": "default",
        "project_spec": {"sourceRepos": ["*"]},
        "kube_version": "v1.36.3",
    }
    return sources.Context(**{**given, **fields})


def load(repo, *wanted, ctx=None, force=True):
    listed = [
        {"repoURL": repo if isinstance(repo, str) else repo.url, "targetRevision": "main", **s}
        for s in wanted
    ]
    revisions = [sources.resolve(s, "default", force=force) for s in listed]
    return sources.load(listed, revisions, ctx or context())


def data(desired, name="app"):
    return next(
        m["data"]
        for m in desired.manifests
        if m["kind"] == "ConfigMap" and m["metadata"]["name"] == name
    )


pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        pytest.param({}, {"a": "chart", "b": "none", "file": ""}, id="chart values"),
        pytest.param(
            {"valueFiles": ["values-a.yaml", "values-b.yaml"]},
            {"a": "file-b", "b": "file-b", "file": ""},
            id="files in order",
        ),
        pytest.param(
            {"valueFiles": ["values-b.yaml"], "values": "a: inline"},
            {"a": "inline", "b": "file-b", "file": ""},
            id="inline over files",
        ),
        pytest.param(
            {"values": "a: text", "valuesObject": {"a": "object"}},
            {"a": "object", "b": "none", "file": ""},
            id="object over text",
        ),
        pytest.param(
            {"valuesObject": {"a": "object"}, "parameters": [{"name": "a", "value": "p,q"}]},
            {"a": "p,q", "b": "none", "file": ""},
            id="parameters over all",
        ),
        pytest.param(
            {"parameters": [{"name": "a", "value": "01", "forceString": True}]},
            {"a": "01", "b": "none", "file": ""},
            id="forced text",
        ),
        pytest.param(
            {"parameters": [{"name": "a", "value": "$ARGOCD_APP_NAME-${ARGOCD_APP_NAMESPACE}-$$"}]},
            {"a": "app-ns-$", "b": "none", "file": ""},
            id="build variables",
        ),
        pytest.param(
            {"valueFiles": ["/shared/values-c.yaml"]},
            {"a": "shared", "b": "none", "file": ""},
            id="from the repository root",
        ),
        pytest.param(
            {"valueFiles": ["../shared/values-c.yaml"]},
            {"a": "shared", "b": "none", "file": ""},
            id="relative, inside",
        ),
        pytest.param(
            {"valueFiles": ["values-*.yaml"]}, {"a": "file-b", "b": "file-b", "file": ""}, id="glob"
        ),
        pytest.param(
            {"valueFiles": ["values-*.yaml", "values-a.yaml"]},
            {"a": "file-a", "b": "file-b", "file": ""},
            id="explicit keeps its place",
        ),
        pytest.param(
            {"valueFiles": ["nope.yaml"], "ignoreMissingValueFiles": True},
            {"a": "chart", "b": "none", "file": ""},
            id="missing ignored",
        ),
        pytest.param(
            {"fileParameters": [{"name": "file", "path": "../shared/text.txt"}]},
            {"a": "chart", "b": "none", "file": "from, a file"},
            id="file parameter",
        ),
    ],
)
def test_helm_values(repo, block, expected):
    repo.commit(CHART)
    assert data(load(repo, {"path": "chart", "helm": block})) == expected


def test_helm_release_and_parts(repo):
    repo.commit(CHART)
    named = load(
        repo,
        {
            "path": "chart",
            "helm": {
                "releaseName": "mine",
                "namespace": "other",
                "skipCrds": True,
                "skipTests": True,
            },
        },
    )
    assert [
        (m["kind"], m["metadata"]["name"], m["metadata"].get("namespace")) for m in named.manifests
    ] == [("ConfigMap", "mine", "other")]
    assert sorted(m["kind"] for m in load(repo, {"path": "chart"}).manifests) == [
        "ConfigMap",
        "CustomResourceDefinition",
        "Pod",
    ]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        pytest.param({"valueFiles": ["../../etc/passwd"]}, "leads out", id="file outside"),
        pytest.param({"valueFiles": ["file:///etc/passwd"]}, "not allowed", id="file URL"),
        pytest.param({"valueFiles": ["nope*.yaml"]}, "matched no files", id="glob without files"),
        pytest.param({"valueFiles": ["link.yaml"]}, "out-of-bounds", id="link outside"),
        pytest.param(
            {"fileParameters": [{"name": "a", "path": "/../../etc/passwd"}]},
            "leads out",
            id="file parameter outside",
        ),
        pytest.param({"valueFiles": ["$nope/x.yaml"]}, "no source has a 'ref'", id="unknown ref"),
        pytest.param({"releaseName": "Not_Valid"}, "release name", id="release name"),
        pytest.param({"values": "a: ["}, "helm template failed", id="broken values"),
    ],
)
def test_helm_refusals(repo, block, words):
    repo.write(CHART)
    if "link.yaml" in str(block):
        (repo.folder / "chart" / "link.yaml").symlink_to("/etc/passwd")
    repo.commit()
    with pytest.raises(Stalled, match=words) as raised:
        load(repo, {"path": "chart", "helm": block})
    assert "root:" not in str(raised.value)


def test_a_chart_that_never_ends_is_stopped(repo, settings):
    from datetime import timedelta

    settings.EXEC_TIMEOUT = timedelta(seconds=2)
    endless = (
        '{{- define "f" }}{{ range until 100000 }}{{ range until 100000 }}{{ sha256sum "x" }}{{ '
        'end }}{{ end }}{{ end }}{{ include "f" . }}'
    )
    repo.commit({**CHART, "chart/templates/endless.yaml": endless})
    with pytest.raises(Stalled, match="took longer"):
        load(repo, {"path": "chart"})
    repo.commit({"chart/templates/endless.yaml": None})
    assert data(load(repo, {"path": "chart"}))


def test_kube_version_and_missing_dependency(repo):
    repo.commit(
        {
            **CHART,
            "chart/Chart.yaml": (
                "apiVersion: v2\nname: demo\nversion: 1.0.0\nkubeVersion: '>=1.40'\n"
            ),
        }
    )
    with pytest.raises(Stalled, match="kubeVersion"):
        load(repo, {"path": "chart"})
    assert load(repo, {"path": "chart", "helm": {"kubeVersion": "1.41.0"}})


def test_local_dependencies(repo):
    parent = (
        "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
        "dependencies: [{name: demo, version: 1.2.3, repository: 'file://../chart'}]\n"
    )
    repo.commit(
        {**CHART, "parent/Chart.yaml": parent, "parent/values.yaml": "demo: {a: fromparent}\n"}
    )
    assert data(load(repo, {"path": "parent"}))["a"] == "fromparent"
    repo.commit({"parent/Chart.yaml": parent.replace("../chart", "../../../other")})
    with pytest.raises(Stalled, match="leads out"):
        load(repo, {"path": "parent"})


def test_the_whole_kustomize_block(repo):
    repo.commit(KUSTOMIZE)
    block = {
        "namePrefix": "p-",
        "nameSuffix": "-s",
        "namespace": "other",
        "images": ["img=registry/new:2"],
        "replicas": [{"name": "d", "count": 4}],
        "commonLabels": {"team": "$ARGOCD_APP_NAME"},
        "commonAnnotations": {"note": "x"},
        "components": ["../comp", "../missing"],
        "ignoreMissingComponents": True,
        "patches": [
            {
                "target": {"kind": "ConfigMap"},
                "patch": '[{"op": "replace", "path": "/data/a", "value": "2"}]',
            }
        ],
    }
    found = {m["kind"]: m for m in load(repo, {"path": "over", "kustomize": block}).manifests}
    cm, deployment = found["ConfigMap"], found["Deployment"]
    assert cm["metadata"] == {
        "name": "p-c-s",
        "namespace": "other",
        "labels": {"team": "app"},
        "annotations": {"note": "x"},
    }
    assert cm["data"] == {"a": "2", "comp": "1"}
    assert deployment["spec"]["replicas"] == 4
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry/new:2"
    assert deployment["spec"]["selector"]["matchLabels"] == {"x": "y", "team": "app"}


def test_kustomize_refusals(repo):
    repo.commit(
        {
            **KUSTOMIZE,
            "out/kustomization.yaml": "resources: [../../..]\n",
            "loop/kustomization.yaml": "resources: [../loop]\n",
        }
    )
    for path, block, words in (
        ("out", {}, "leads out"),
        ("loop", {}, "kustomize|cycle"),
        ("over", {"version": "v9"}, "not registered"),
        ("over", {"components": ["../nope"]}, "nope"),
    ):
        with pytest.raises(Stalled, match=words):
            load(repo, {"path": path, "kustomize": block} if block else {"path": path})


@pytest.mark.parametrize(
    ("images", "existing", "expected"),
    [
        (["a:2"], [], [{"name": "a", "newTag": "2"}]),
        (["a=b:2"], [], [{"name": "a", "newName": "b", "newTag": "2"}]),
        (["a@sha256:x"], [], [{"name": "a", "digest": "sha256:x"}]),
        (["host:5000/a:1"], [], [{"name": "host:5000/a", "newTag": "1"}]),
        (["=a:1"], [], [{"name": "a", "newTag": "1"}]),
        (["a="], [{"name": "a", "newTag": "1"}], [{"name": "a"}]),
        (
            ["host:5000/a=host:5000/b:1"],
            [],
            [{"name": "host:5000/a", "newName": "host:5000/b", "newTag": "1"}],
        ),
        (["a:v2@sha256:x"], [], [{"name": "a", "newTag": "v2", "digest": "sha256:x"}]),
        (
            ["a=localhost:5000/a@sha256:x"],
            [],
            [{"name": "a", "newName": "localhost:5000/a", "digest": "sha256:x"}],
        ),
        (
            ["a=localhost:5000/a:1@sha256:x"],
            [],
            [{"name": "a", "newName": "localhost:5000/a", "newTag": "1", "digest": "sha256:x"}],
        ),
        (
            ["a=*:v3"],
            [{"name": "a", "newName": "r/a", "newTag": "v2"}],
            [{"name": "a", "newName": "r/a", "newTag": "v3"}],
        ),
        (["a=*:v3"], [], [{"name": "a", "newTag": "v3"}]),
        (
            ["a=r/a:*"],
            [{"name": "a", "newTag": "v2"}],
            [{"name": "a", "newName": "r/a", "newTag": "v2"}],
        ),
        (
            ["a=*@*"],
            [{"name": "a", "newName": "r/a", "digest": "sha256:d"}],
            [{"name": "a", "newName": "r/a", "digest": "sha256:d"}],
        ),
        (
            ["a:v3"],
            [{"name": "a", "newName": "r/a", "newTag": "v2"}],
            [{"name": "a", "newTag": "v3"}],
        ),
        (["a:v3"], [{"name": "a", "digest": "sha256:d"}], [{"name": "a", "newTag": "v3"}]),
        (
            ["b:1", "a:1", "b:2"],
            [{"name": "c", "newTag": "0"}],
            [
                {"name": "a", "newTag": "1"},
                {"name": "b", "newTag": "2"},
                {"name": "c", "newTag": "0"},
            ],
        ),
    ],
)
def test_kustomize_images(images, existing, expected):
    assert kustomize.edit({"images": existing}, {"images": images}, {})["images"] == expected


@pytest.mark.parametrize("image", ["app", "host:5000/app", "", ":1", "@sha256:x", "=", "$TAG"])
def test_an_image_that_sets_nothing_is_refused(image):
    with pytest.raises(
        ManifestError, match=r"^kustomize\.images: .* sets no image: write NAME=NEW"
    ):
        kustomize.edit({}, {"images": ["a:1", image]}, {})


def test_jsonnet(repo):
    repo.commit(
        {
            "j/a.jsonnet": (
                "local l = import 'l.libsonnet'; local m = import 'm.libsonnet'; function(n, c) "
                "[{apiVersion: 'v1', kind: 'ConfigMap', metadata: {name: l.name}, data: {n: n, c: "
                "std.toString(c), e: std.extVar('e'), m: m}}]"
            ),
            "lib1/l.libsonnet": "{name: 'one'}",
            "lib2/l.libsonnet": "{name: 'two'}",
            "j/m.libsonnet": "'own'",
            "lib2/m.libsonnet": "'lib'",
        }
    )
    block = {
        "jsonnet": {
            "libs": ["lib1", "lib2"],
            "tlas": [
                {"name": "n", "value": "$ARGOCD_APP_NAME"},
                {"name": "c", "value": "1+1", "code": True},
            ],
            "extVars": [{"name": "e", "value": "x"}],
        }
    }
    [manifest] = load(repo, {"path": "j", "directory": block}).manifests
    assert manifest["metadata"]["name"] == "two"
    assert manifest["data"] == {"n": "app", "c": "2", "e": "x", "m": "own"}


@pytest.mark.parametrize(
    "code",
    [
        "import '/etc/passwd'",
        "importstr '/etc/hostname'",
        "importstr '../../../../etc/hostname'",
        "(function(x) x(x))(function(x) x(x))",
    ],
)
def test_jsonnet_is_confined(repo, code):
    repo.commit({"j/a.jsonnet": code})
    with pytest.raises(Stalled) as raised:
        load(repo, {"path": "j"})
    assert "root:" not in str(raised.value)


def test_directories(repo):
    repo.commit(
        {
            "d/a.yaml": CM.format(name="a", a=1),
            "d/b.json": json.dumps(yaml.safe_load(CM.format(name="b", a=1))),
            "d/sub/c.yml": CM.format(name="c", a=1),
            "d/x.txt": CM.format(name="x", a=1),
            "d/skip.yaml": "# +argocd:skip-file-rendering\n" + CM.format(name="s", a=1),
            "d/values.yaml": "just: values\n",
            "d/broken.yaml": "{{ not yaml",
        }
    )

    def names(**block):
        return sorted(
            m["metadata"]["name"]
            for m in load(repo, {"path": "d", **({"directory": block} if block else {})}).manifests
        )

    assert names() == ["a", "b"]
    assert names(recurse=True) == ["a", "b", "c"]
    assert names(recurse=True, exclude="sub/*") == ["a", "b"]
    assert names(recurse=True, include="{a.yaml,sub/*}") == ["a", "c"]
    assert names(disableExtensionFilter=True) == ["a", "b", "x"]


def test_links_inside_the_repository_work(repo):
    repo.write({"real/a.yaml": CM.format(name="a", a=1)})
    (repo.folder / "d").mkdir()
    (repo.folder / "d" / "a.yaml").symlink_to("../real/a.yaml")
    repo.commit()
    assert load(repo, {"path": "d"}).manifests
    repo.commit({"real/a.yaml": CM.format(name="b", a=1)})
    assert load(repo, {"path": "d"}).manifests[0]["metadata"]["name"] == "b"


def test_overrides_and_several_sources(repo):
    repo.commit(
        {
            **CHART,
            "chart/.argocd-source.yaml": "helm: {parameters: [{name: a, value: all}]}\n",
            "chart/.argocd-source-app.yaml": "helm: {values: 'b: mine'}\npath: /etc\n",
            "plain/p.yaml": CM.format(name="p", a=1),
        }
    )
    assert data(load(repo, {"path": "chart"})) == {"a": "all", "b": "mine", "file": ""}
    both = load(
        repo,
        {"path": "chart", "helm": {"valueFiles": ["$vals/shared/values-c.yaml"]}},
        {"ref": "vals"},
        {"path": "plain"},
    )
    assert both.source_types == ["Helm", "", "Directory"]
    assert {m["metadata"]["name"] for m in both.manifests if m["kind"] == "ConfigMap"} == {
        "app",
        "p",
    }


def test_the_manifests_of_all_sources_are_bounded_together(repo, settings):
    settings.MAX_MANIFEST_BYTES = 20_000
    large = CM.format(name="p", a="x" * 15_000)
    repo.commit({"plain/p.yaml": large})

    assert len(load(repo, *[{"path": "plain"}] * 5).manifests) == 5
    with pytest.raises(Stalled, match="of all sources are larger than"):
        load(repo, *[{"path": "plain"}] * 6)
    many = [{"repoURL": repo.url, "path": "plain"}] * 101
    assert sources.check_sources(many, multi=True) == [
        "spec.sources has 101 entries: at most 100 are allowed"
    ]


@pytest.fixture
def chart_server():
    server = Charts()
    charts.forget()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.parametrize(
    ("target", "version"),
    [("1.0.0", "1.0.0"), ("1.x", "1.1.0"), ("*", "2.0.0"), (">=1.0.0 <2", "1.1.0")],
)
def test_charts_over_http(chart_server, target, version):
    found = load(chart_server.url, {"chart": "demo", "targetRevision": target})
    assert found.revisions == [version]
    assert data(found) == {"v": version, "a": "x"}


def test_charts_from_an_oci_registry(chart_server, admin_repository):
    admin_repository(
        f"oci://{chart_server.host}/charts/demo", kind="oci", options={"insecureOCIForceHttp": True}
    )
    admin_repository(
        f"{chart_server.host}/charts",
        kind="helm",
        options={"insecureOCIForceHttp": True, "enableOCI": True},
    )
    pulled = load(
        f"oci://{chart_server.host}/charts/demo", {"path": ".", "targetRevision": "1.1.0"}
    )
    assert pulled.revisions[0].startswith("sha256:")
    assert data(pulled) == {"v": "1.1.0", "a": "x"}
    legacy = load(f"{chart_server.host}/charts", {"chart": "demo", "targetRevision": "1.*"})
    assert data(legacy) == {"v": "1.1.0", "a": "x"}


def test_a_registry_that_lists_its_tags_in_pages(chart_server, admin_repository):
    place = f"oci://{chart_server.host}/charts/demo"
    admin_repository(place, kind="oci", options={"insecureOCIForceHttp": True})
    chart_server.page = 1
    newest = load(place, {"path": ".", "targetRevision": "*"}, ctx=context(no_cache=True))
    assert data(newest)["v"] == "2.0.0"

    chart_server.elsewhere = "http://127.0.0.1:1"
    with pytest.raises(Stalled, match="on another server"):
        load(place, {"path": ".", "targetRevision": "*"}, ctx=context(no_cache=True))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("/manifests/sha256", "the response does not match"),
        ("/blobs/", "the response does not match"),
        ("/tags/", "not return a JSON object"),
    ],
)
def test_a_registry_that_sends_something_else(chart_server, admin_repository, where, words):
    place = f"oci://{chart_server.host}/charts/demo"
    admin_repository(place, kind="oci", options={"insecureOCIForceHttp": True})
    chart_server.corrupt = where
    with pytest.raises(Stalled, match=words):
        load(place, {"path": ".", "targetRevision": "1.x"}, ctx=context(no_cache=True))


def test_an_index_is_kept_for_those_who_may_read_it(chart_server, admin_repository):
    chart_server.password = "canary"
    admin_repository(chart_server.url, "helm", credentials={"username": "u", "password": "canary"})
    load(chart_server.url, {"chart": "demo", "targetRevision": "*"}, ctx=context(no_cache=True))
    with pytest.raises(RetryLater, match="rejected"):
        charts.versions(chart_server.url, "demo", {})


@pytest.fixture
def admin_repository():
    from projects.models import Repository

    def create(url, kind, options=None, credentials=None):
        return Repository.objects.create(
            url=url, kind=kind, options=options or {}, credentials=credentials or {}
        )

    return create


def test_chart_credentials(chart_server, admin_repository):
    chart_server.password = "canary"
    with pytest.raises(RetryLater, match="rejected"):
        load(chart_server.url, {"chart": "demo", "targetRevision": "1.0.0"})
    admin_repository(chart_server.url, "helm", credentials={"username": "u", "password": "canary"})
    assert load(
        chart_server.url, {"chart": "demo", "targetRevision": "1.0.0"}, ctx=context(no_cache=True)
    ).manifests


@pytest.fixture
def other_chart_server():
    server = Charts()
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_an_application_does_not_hand_a_templates_credentials_on(
    chart_server, other_chart_server, admin_repository
):
    from projects.models import CredentialTemplate

    chart_server.password = other_chart_server.password = "canary"
    chart_server.archives_at = f"{other_chart_server.url}/"
    source = {"chart": "demo", "targetRevision": "1.0.0", "helm": {"passCredentials": True}}
    who = {"username": "u", "password": "canary"}
    CredentialTemplate.objects.create(url=chart_server.url, credentials=who)

    with pytest.raises(RetryLater, match="rejected"):
        load(chart_server.url, source, ctx=context(no_cache=True))

    admin_repository(chart_server.url, "helm", credentials=who)
    assert load(chart_server.url, source, ctx=context(no_cache=True)).manifests


@pytest.mark.parametrize("place", ["/", "/pay/../"])
def test_an_index_reads_no_other_repository_of_its_server_with_a_templates_credentials(
    chart_server, admin_repository, place
):
    """The project permits one repository; the template's credentials read the whole server."""
    from projects.models import CredentialTemplate

    chart_server.password = "canary"
    url, who = f"{chart_server.url}/pay", {"username": "u", "password": "canary"}
    source = {"chart": "demo", "targetRevision": "1.0.0"}
    CredentialTemplate.objects.create(url=chart_server.url, credentials=who)

    chart_server.archives_at = f"{chart_server.url}{place}"
    with pytest.raises(RetryLater, match="rejected"):
        load(url, source, ctx=context(no_cache=True))

    admin_repository(url, "helm", credentials=who)
    chart_server.archives_at = f"{chart_server.url}/"
    assert load(url, source, ctx=context(no_cache=True)).manifests


def test_hostile_chart_servers(chart_server, settings):
    settings.MAX_INDEX_BYTES = 100_000
    chart_server.endless = True
    with pytest.raises(Stalled, match="larger than"):
        load(chart_server.url, {"chart": "demo", "targetRevision": "*"})
    chart_server.endless = False
    from hub.engine.errors import Invalid

    with pytest.raises(Invalid, match="does not connect"):
        load(chart_server.url + "/redirect", {"chart": "demo", "targetRevision": "*"})
    with pytest.raises(Stalled, match="no version of chart"):
        load(chart_server.url, {"chart": "demo", "targetRevision": "9.x"})
    with pytest.raises(Stalled, match="not found"):
        load(chart_server.url, {"chart": "other", "targetRevision": "*"})


def test_hostile_archives(settings):
    from hub.engine.errors import ManifestError

    def archive(name, size=1, kind=tarfile.REGTYPE, link=""):
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w:gz") as tar:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = (
                (size if kind == tarfile.REGTYPE else 0),
                kind,
                link,
            )
            tar.addfile(info, io.BytesIO(b"0" * info.size))
        return body.getvalue()

    for name in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(ManifestError, match="leads out"):
            unpack(archive(name), strip=False)
    settings.MAX_CHART_BYTES = 10_000
    with pytest.raises(ManifestError, match="limit"):
        unpack(archive("big", 20_000), strip=False)
    assert (
        unpack(archive("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), strip=False).children("")
        == []
    )
    with pytest.raises(ManifestError, match="cannot be read"):
        unpack(b"no archive", strip=False)


def test_a_dependency_from_a_repository_must_be_permitted(repo, chart_server):
    parent = (
        "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
        f"dependencies: [{{name: demo, version: 1.x, repository: '{chart_server.url}'}}]\n"
    )
    repo.commit({"parent/Chart.yaml": parent})
    assert data(load(repo, {"path": "parent"}))["v"] == "1.1.0"
    with pytest.raises(Stalled, match="not permitted in project"):
        load(repo, {"path": "parent"}, ctx=context(project_spec={"sourceRepos": [repo.url]}))


def renders():
    return RenderedManifests.objects.count()


def test_the_cache_is_exact(repo):
    """A commit renders only what read the files that changed."""
    repo.commit(
        {
            **CHART,
            **KUSTOMIZE,
            "plain/p.yaml": CM.format(name="p", a=1),
            "j/a.jsonnet": "import '../lib/l.libsonnet'",
            "lib/l.libsonnet": json.dumps(yaml.safe_load(CM.format(name="j", a=1))),
        }
    )
    wanted = {
        "helm": {"path": "chart", "helm": {"valueFiles": ["/shared/values-c.yaml"]}},
        "kustomize": {"path": "over"},
        "plain": {"path": "plain"},
        "jsonnet": {"path": "j"},
    }

    def rendered():
        before = {name: renders() for name in ("all",)}["all"]
        changed = []
        for name, source in wanted.items():
            load(repo, source)
            if renders() > before:
                changed.append(name)
                before = renders()
        return changed

    assert rendered() == ["helm", "kustomize", "plain", "jsonnet"]
    assert rendered() == []
    repo.commit({"elsewhere/x.yaml": "a: 1"})
    assert rendered() == []
    repo.commit({"shared/values-c.yaml": "a: changed\n"})
    assert rendered() == ["helm"]
    repo.commit({"base/cm.yaml": CM.format(name="c", a=9)})
    assert rendered() == ["kustomize"]
    repo.commit({"lib/l.libsonnet": json.dumps(yaml.safe_load(CM.format(name="jj", a=1)))})
    assert rendered() == ["jsonnet"]
    repo.commit(
        {
            "plain/Chart.yaml": "apiVersion: v2\nname: x\nversion: 1.0.0\n",
            "plain/templates/p.yaml": CM.format(name="p", a=1),
        }
    )
    assert rendered() == ["plain"]
    repo.commit({"chart/.argocd-source-app.yaml": "helm: {values: 'b: 1'}\n"})
    assert rendered() == ["helm"]


def test_policies_are_part_of_the_key(repo, settings):
    repo.commit(CHART)
    load(repo, {"path": "chart"})
    before = renders()
    settings.HELM_VALUES_SCHEMES = ["https"]
    load(repo, {"path": "chart"})
    assert renders() == before + 1


def test_revision_variables_render_each_commit(repo):
    repo.commit(CHART)
    wanted = {
        "path": "chart",
        # A commit may be of digits alone, which Helm would take for a number.
        "helm": {
            "parameters": [
                {"name": "a", "value": "$ARGOCD_APP_REVISION_SHORT", "forceString": True}
            ]
        },
    }
    first = data(load(repo, wanted))["a"]
    revision = repo.commit({"other.txt": "x"})
    assert data(load(repo, wanted))["a"] == revision[:7] != first


def test_failures_are_remembered_until_the_next_revision(repo):
    repo.commit({"d/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\n"})
    asked = len(repo.server.requests)
    for _ in range(3):
        with pytest.raises(Stalled, match=r"d/a\.yaml"):
            load(repo, {"path": "d"}, force=False)
    assert len(repo.server.requests) - asked <= 6
    repo.commit({"d/a.yaml": CM.format(name="a", a=1)})
    assert load(repo, {"path": "d"}).manifests


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "--upload-pack=x",
        "file:///etc",
        "-oProxyCommand=x",
        "ssh://-oProxyCommand=x/y",
        "fd::17",
        "javascript:alert(1)//",
        "http://169.254.169.254/x",
        "https://a b/c",
        "",
    ],
)
def test_hostile_repository_urls(url):
    from hub.engine.errors import Invalid

    with pytest.raises((Invalid, Stalled, RetryLater)):
        load(url, {"path": "."})


@pytest.mark.parametrize("target", ["--output=/tmp/x", "-x", "nope", "refs/heads/../../x"])
def test_hostile_revisions(repo, target):
    repo.commit(CHART)
    with pytest.raises(Stalled, match="unable to resolve"):
        load(repo, {"path": "chart", "targetRevision": target})


def test_revisions(repo):
    first = repo.commit(CHART)
    repo.git("tag", "v1.0.0")
    repo.git("tag", "-am", "annotated", "app-1.5.0")
    second = repo.commit({"x": "1"})
    repo.git("tag", "v1.1.0")
    repo.git("branch", "release")
    third = repo.commit({"x": "2"})

    def at(target, **more):
        return sources.resolve(
            {"repoURL": repo.url, "targetRevision": target, **more}, "default", force=True
        )

    assert at("") == at("HEAD") == at("main") == at("refs/heads/main") == third
    assert at("release") == at("v1.1.0") == at("1.x") == at(second) == second
    assert at("v1.0.0") == at("~1.0") == first
    assert at("1.x", tagPrefix="app-") == first
    assert at(third[:8]) == third


def test_one_commit_is_fetched_once_for_many(repo):
    repo.commit({f"a{n}/c.yaml": CM.format(name="c", a=n) for n in range(5)})
    asked = len(repo.server.requests)
    for n in range(5):
        load(repo, {"path": f"a{n}"}, force=False)
    packs = [r for r in repo.server.requests[asked:] if r.endswith("git-upload-pack")]
    assert len(packs) <= 5


def test_the_renderer_ends_when_idle():
    renderer.close()
    assert renderer.running == 0


def test_many_fetches_are_packed_and_nothing_is_lost(repo, monkeypatch):
    from projects import tasks
    from projects.models import GitRemote
    from projects.sources import git

    revisions = []
    for n in range(4):
        revisions.append(repo.commit({"d/a.yaml": CM.format(name="a", a=n)}))
        load(repo, {"path": "d"})
    monkeypatch.setattr(git, "MAX_PACKS", 0)
    assert GitRemote.objects.filter(url=repo.url).exists()

    tasks.clean_up.run()

    asked = len(repo.server.requests)
    for n, revision in enumerate(revisions):
        assert data(load(repo, {"path": "d", "targetRevision": revision}), "a") == {"a": str(n)}
    assert len(repo.server.requests) == asked


def test_a_commit_appears_with_all_that_it_holds(repo):
    commit = repo.commit({"a/c.yaml": CM.format(name="c", a=1)})
    git.ensure(repo.url, commit, {})
    loose = list((folder_of(repo.url) / "objects").glob("[0-9a-f][0-9a-f]/*"))
    assert loose == [] and git.has_commit(repo.url, commit)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("77049079", "77049079" + "a" * 32),
        ("1234567", "1234567" + "b" * 33),
        ("7704", ""),
        ("12345678", ""),
        ("1.x", "c" * 40),
    ],
)
def test_an_abbreviated_commit_of_digits_alone(target, found):
    refs = {
        "refs/heads/a": "77049079" + "a" * 32,
        "refs/heads/b": "1234567" + "b" * 33,
        "refs/tags/v1.2.0": "c" * 40,
    }
    if found:
        assert resolve_git(target, refs, "refs/heads/a") == found
    else:
        with pytest.raises(Stalled, match="unable to resolve"):
            resolve_git(target, refs, "refs/heads/a")
