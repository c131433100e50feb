"""What a kustomization names by URL: recognised in every spelling and field, fetched by the hub,
or refused.
"""

import json

import pytest
from support.charts import Charts
from support.gitserver import Repository
from support.local import Local

from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from hub.engine.project_restrictions import permits_source
from projects import sources
from projects.models import GitRemote, RenderedManifests
from projects.sources import charts, git_remotes
from projects.sources.files import MemoryFiles, Recorder
from projects.sources.kustomization import Assembly
from projects.sources.local_repositories import folder_of
from projects.sources.remote_urls import parse

pytestmark = pytest.mark.django_db
_numbers = iter(range(1000))
REFUSALS = (Invalid, Stalled, RetryLater)


def config(name, value="1"):
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n"


@pytest.fixture
def base(git_server):
    git_remotes.forget()
    found = Repository(git_server, f"base-{next(_numbers)}")
    found.commit(
        {
            "k/kustomization.yaml": "resources: [c.yaml, ../more]\n",
            "k/c.yaml": config("base"),
            "more/kustomization.yaml": "resources: [m.yaml]\n",
            "more/m.yaml": config("more"),
        }
    )
    return found


@pytest.fixture
def pages():
    """A server of plain files; `files` is what it has, `asked` what it was asked for."""
    server = Local()
    server.files, server.asked = {}, []

    def answer(handler, _body):
        server.asked.append(handler.path)
        data = server.files.get(handler.path, "").encode()
        handler.send_response(200 if data else 404)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    server.answer = answer
    yield server
    server.close()


def context(permitted=("*",), **fields):
    return sources.Context(
        "app", "app", "ns", "default", {"sourceRepos": list(permitted)}, "v1.36.3", **fields
    )


def load(repo, path=".", ctx=None, **block):
    source = {"repoURL": repo.url, "targetRevision": "main", "path": path, **block}
    revisions = [sources.resolve(source, "default", force=True)]
    return sources.load([source], revisions, ctx or context())


def render(document, **files):
    """Render files that no repository holds, which is much faster."""
    tree = {"kustomization.yaml": json.dumps(document), **files}
    content = MemoryFiles({name: text.encode() for name, text in tree.items()})
    return sources.load_local({"path": "."}, content, [], 0, context())


def names(found):
    return sorted(m["metadata"]["name"] for m in found.manifests)


def kustomize(repo, document, **files):
    repo.commit({"kustomization.yaml": json.dumps(document), **files})


def shown(remote):
    if remote is None:
        return "local"
    folder = remote.folder
    spelled = f"{folder.url} [{folder.path}] @{folder.ref or 'HEAD'}" if folder else ""
    return f"page or {spelled}" if remote.page and folder else "page" if remote.page else spelled


SPELLINGS = [
    ("../base", "local"),
    ("c.yaml", "local"),
    ("a@b.yaml", "local"),
    ("org/repo", "local"),
    ("https://host/org/repo//path?ref=v1", "https://host/org/repo [path] @v1"),
    ("https://host/org/repo//path/?version=v1", "https://host/org/repo [path] @v1"),
    ("https://host/org/repo.git/path?ref=v1", "https://host/org/repo.git [path] @v1"),
    ("https://host/org/repo.git", "https://host/org/repo.git [] @HEAD"),
    ("https://host:8443/a/b/c/repo//x/y", "https://host:8443/a/b/c/repo [x/y] @HEAD"),
    ("http://host/org/repo//path", "http://host/org/repo [path] @HEAD"),
    ("HTTPS://host/org/repo//path", "https://host/org/repo [path] @HEAD"),
    ("git::https://host/org/repo//p", "https://host/org/repo [p] @HEAD"),
    ("git::https://host/org/repo/p?ref=a/b", "https://host/org/repo [p] @a/b"),
    ("git::ssh://git@host/org/repo//p", "ssh://git@host/org/repo [p] @HEAD"),
    ("git::git@host:org/repo.git//p", "git@host:org/repo.git [p] @HEAD"),
    ("ssh://git@host:2222/org/repo.git//p?ref=v1", "ssh://git@host:2222/org/repo.git [p] @v1"),
    ("git@host:org/repo.git//x", "git@host:org/repo.git [x] @HEAD"),
    ("git@host:org/repo/x?ref=main", "git@host:org/repo [x] @main"),
    ("github.com/org/repo", "https://github.com/org/repo [] @HEAD"),
    ("github.com/org/repo/path/in?ref=v1", "https://github.com/org/repo [path/in] @v1"),
    ("GitHub.com/org/repo//p", "https://github.com/org/repo [p] @HEAD"),
    ("git@github.com:org/repo//p", "git@github.com:org/repo [p] @HEAD"),
    ("git@github.com/org/repo//p", "git@github.com:org/repo [p] @HEAD"),
    ("https://github.com/org/repo/path?ref=v1", "https://github.com/org/repo [path] @v1"),
    (
        "https://me@dev.azure.com/org/p/_git/repo/x",
        "https://dev.azure.com/org/p/_git/repo [x] @HEAD",
    ),
    ("https://host/org/repo/x.yaml", "page"),
    ("https://raw.host/o/o.github.io/x.yaml", "page"),
    ("https://github.com/o/r/releases/download/v1/install.yaml", "page"),
    ("https://host/x.json?token=1", "page"),
    ("https://host/x", "page"),
    ("https://host//x", "page"),
    ("git@host/org/repo", "local"),
    ("https://host/org/repo", "page or https://host/org/repo [] @HEAD"),
    ("https://host/org/repo/p?ref=v1", "page or https://host/org/repo [p] @v1"),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS, ids=[t for t, _ in SPELLINGS])
def test_spellings_that_kustomize_takes(text, expected):
    assert shown(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "file:///srv/git/repo//path?ref=main",
        "FILE:///srv/git/repo",
        "file://host/repo",
        "file:/srv/repo",
        "git::file:///srv/git/repo//p",
        "git::git::https://host/org/repo",
        "git::/srv/repo",
        "git::../other",
        "git://host/org/repo",
        "ext::sh -c whoami",
        "ext::sh",
        "s3::https://bucket/x",
        "s3://bucket/x",
        "hg::https://host/x",
        "oci://host/x",
        "ftp://host/x.yaml",
        "gh:org/repo",
        "https://",
        "https:///org/repo//x",
        "https://user:secret@host/org/repo//x",
        "https://user:secret@host/x.yaml",
        "https://user@host/x.yaml",
        "https://host/allowed/../other/repo//x",
        "https://host/allowed/%2e%2e/other/repo//x",
        "https://host/allowed/%252e%252e/other/x.yaml",
        "https://host/allowed/..%2fother/x.yaml",
        "https://host/org/repo//../x",
        "https://host/org/repo//a?ref=--upload-pack=x",
        "https://host/org/repo//a?ref=a%20b",
        "https://host/org/repo//a?ref=a..b",
        "https://host/org/re po//a",
        "https://host\\@other/org/repo//a",
        "https://host:port/org/repo//a",
        "git@-oProxyCommand=x:org/repo",
        "ssh://git:secret@host/org/repo//x",
    ],
)
def test_spellings_that_are_refused(text):
    with pytest.raises(ManifestError) as raised:
        parse(text)

    assert "secret" not in str(raised.value)


def test_another_projects_copy_is_not_read_from_the_disk(repo, base):
    load(base, "k")
    commit = base.git("rev-parse", "HEAD")
    base.server.password = "other"
    for spelled in (
        f"file://{folder_of(base.url)}//k?ref={commit}",
        f"{folder_of(base.url)}//k",
    ):
        kustomize(repo, {"resources": [spelled]})
        base.server.password = ""
        with pytest.raises(REFUSALS, match=r"is not supported|is not a path|neither a path"):
            load(repo)


FIELDS = [
    lambda u: {"resources": [u]},
    lambda u: {"bases": [u]},
    lambda u: {"components": [u]},
    lambda u: {"crds": [u]},
    lambda u: {"configurations": [u]},
    lambda u: {"openapi": {"path": u}},
    lambda u: {"patches": [{"path": u}]},
    lambda u: {"patchesJson6902": [{"path": u, "target": {"kind": "ConfigMap", "name": "c"}}]},
    lambda u: {"patchesStrategicMerge": [u]},
    lambda u: {"replacements": [{"path": u}]},
    lambda u: {"generators": [u]},
    lambda u: {"transformers": [u]},
    lambda u: {"validators": [u]},
    lambda u: {"configMapGenerator": [{"name": "g", "files": [u]}]},
    lambda u: {"configMapGenerator": [{"name": "g", "files": [f"k={u}"]}]},
    lambda u: {"secretGenerator": [{"name": "g", "envs": [u]}]},
    lambda u: {"configMapGenerator": [{"name": "g", "env": u}]},
    lambda u: plugin("ConfigMapGenerator", "generators", files=[u]),
    lambda u: plugin("SecretGenerator", "generators", envs=[u]),
    lambda u: plugin("PatchTransformer", "transformers", path=u),
    lambda u: plugin("PatchJson6902Transformer", "transformers", path=u),
    lambda u: plugin("PatchStrategicMergeTransformer", "transformers", paths=[u]),
    lambda u: plugin("ReplacementTransformer", "transformers", replacements=[{"path": u}]),
    lambda u: {"helmCharts": [{"name": "x", "repo": u, "version": "1.0.0"}]},
    lambda u: {"helmCharts": [{"name": "x", "valuesFile": u}]},
    lambda u: {"helmGlobals": {"chartHome": u}, "helmCharts": [{"name": "x"}]},
    lambda u: {"helmChartInflationGenerator": [{"chartName": "x", "chartRepoUrl": u}]},
    # Kustomize reads keys in any case.
    lambda u: {"Resources": [u]},
    lambda u: {"reſources": [u]},
    lambda u: {"patches": [{"Path": u}]},
    lambda u: {"openapi": {"Path": u}},
    lambda u: plugin("PatchTransformer", "transformers", PATH=u),
    lambda u: plugin("ConfigMapGenerator", "generators", Files=[u]),
]


def plugin(kind, field, **spec):
    document = {"apiVersion": "builtin", "kind": kind, "metadata": {"name": "p"}, **spec}
    return {field: [json.dumps(document)]}


@pytest.mark.parametrize("field", FIELDS, ids=range(len(FIELDS)))
@pytest.mark.parametrize("where", ["kustomization", "base", "folder of plugins"])
def test_no_field_reaches_what_is_refused(pages, tmp_path, settings, field, where):
    """With the tool's own guards off: what holds is that nothing is left for it to open."""
    settings.KUSTOMIZE_OPTIONS = ["--load-restrictor=LoadRestrictionsNone"]
    (tmp_path / "secret.yaml").write_text(config("stolen", "CANARY"))
    port = pages.url.rpartition(":")[2]
    for url in (
        f"http://0.0.0.0:{port}/x.yaml",
        f"{'../' * 12}{tmp_path}/secret.yaml",
        f"{tmp_path}/secret.yaml",
    ):
        files = placed(where, field(url))
        if not files:
            continue
        with pytest.raises(REFUSALS) as raised:
            render({}, **files)
        assert "CANARY" not in str(raised.value)
    assert pages.asked == []


def placed(where, found):
    """Return the files of a kustomization that has a field itself, in a base, or in a folder of
    plugins.
    """
    document = {"resources": ["c.yaml"]}
    document |= {k: [*document[k], *v] if k in document else v for k, v in found.items()}
    if where == "kustomization":
        return {"kustomization.yaml": json.dumps(document), "c.yaml": config("c")}
    if where == "base":
        return {
            "kustomization.yaml": "resources: [in]\n",
            "in/kustomization.yaml": json.dumps(document),
            "in/c.yaml": config("c"),
        }
    if "generators" not in found and "transformers" not in found:
        return {}
    name, (entry,) = next(iter(found.items()))
    inside = {"p/kustomization.yaml": "resources: [p.yaml]\n", "p/p.yaml": entry}
    return {"kustomization.yaml": json.dumps({name: ["p"]}), **inside}


def test_a_kustomization_that_is_named_as_a_file_is_none_for_the_tool(pages):
    """It must not come back as it was written where the tool looks for one."""
    port = pages.url.rpartition(":")[2]
    hostile = json.dumps({"resources": [f"http://0.0.0.0:{port}/x.yaml"]})
    with pytest.raises(REFUSALS, match="several kustomization files"):
        render(
            {"resources": ["in"]}, **{"in/kustomization.yaml": "{}", "in/Kustomization": hostile}
        )

    made = [{"name": "g", "files": ["in/kustomization.yaml", "other/Kustomization"]}]
    files = {
        "in/kustomization.yaml": "namePrefix: x-\nresources: [c.yaml]\n",
        "in/c.yaml": config("c"),
        "other/Kustomization": hostile,
    }
    found = render({"resources": ["in"], "configMapGenerator": made}, **files)

    assert [n.partition("-")[0] for n in names(found)] == ["g", "x"]
    assert hostile in [m["data"].get("Kustomization") for m in found.manifests]
    assert pages.asked == []


def test_folders_of_plugins_change_nothing_in_them(pages):
    """What another plugin would make of a plugin is not seen here, so there is none."""
    inner = {
        "resources": ["p.yaml"],
        "patches": [
            {
                "target": {"kind": "ConfigMapGenerator"},
                "patch": f"- op: add\n  path: /files\n  value: ['{pages.url}/x']\n",
            }
        ],
    }
    document = json.loads(plugin("ConfigMapGenerator", "generators")["generators"][0])

    with pytest.raises(Invalid, match="may only have resources, not patches"):
        render(
            {"generators": ["p"]},
            **{"p/p.yaml": json.dumps(document), "p/kustomization.yaml": json.dumps(inner)},
        )


def test_folders_of_plugins_that_multiply_are_bounded():
    folders = {
        f"p{n}/kustomization.yaml": json.dumps({"resources": [f"../p{n + 1}"] * 40})
        for n in range(8)
    }
    with pytest.raises(Invalid, match="more than 1,000 plugins"):
        render({"generators": ["p0"]}, **folders, **{"p8/kustomization.yaml": "resources: []\n"})


def test_bases_of_another_repository_are_fetched_by_the_hub(repo, base):
    tagged = base.git("rev-parse", "HEAD")
    base.git("tag", "v1")
    base.commit({"k/c.yaml": config("later")})
    refs = {"": "later", "?ref=main": "later", "?ref=v1": "base", f"?ref={tagged}": "base"}
    for forced, (ref, first) in zip(("", "git::", "", "git::"), refs.items(), strict=True):
        document = {"resources": [f"{forced}{base.url}//k{ref}", "c.yaml"], "namePrefix": "x-"}
        assert names(render(document, **{"c.yaml": config("own")})) == sorted(
            ["x-more", "x-own", f"x-{first}"]
        )


def test_a_remote_base_may_name_another(repo, base, git_server):
    middle = Repository(git_server, f"middle-{next(_numbers)}")
    kustomize(middle, {"resources": [f"{base.url}//k"], "nameSuffix": "-m"})
    kustomize(repo, {"resources": [f"{middle.url}//."[:-1]]})

    assert names(load(repo)) == ["base-m", "more-m"]


def test_a_folder_that_looks_like_a_repository_stays_a_folder():
    files = {
        "github.com/org/repo/kustomization.yaml": "resources: [c.yaml]\n",
        "github.com/org/repo/c.yaml": config("own"),
        "git@host/r": config("other"),
    }

    assert names(render({"resources": ["./github.com/org/repo", "./git@host/r"]}, **files)) == [
        "other",
        "own",
    ]


def test_what_kustomizations_are_made_of_works():
    """One of every field that names a file or folder, as repositories have them."""
    patch = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {%s: '1'}\n"
    options = {"disableNameSuffixHash": True}
    label = {
        "apiVersion": "builtin",
        "kind": "LabelTransformer",
        "metadata": {"name": "l"},
        "labels": {"l": "1"},
        "fieldSpecs": [{"path": "metadata/labels", "create": True}],
    }
    document = {
        "resources": ["c.yaml", "base"],
        "components": ["comp"],
        "patches": [{"path": "p.yaml"}, {"patch": patch % "inline"}],
        "patchesStrategicMerge": ["s.yaml", patch % "merged"],
        "patchesJson6902": [
            {"path": "j.json", "target": {"version": "v1", "kind": "ConfigMap", "name": "c"}}
        ],
        "replacements": [{"path": "r.yaml"}],
        "configMapGenerator": [
            {"name": "g", "files": ["f.txt", "k=f.txt"], "envs": ["e.env"], "options": options}
        ],
        "transformers": [
            "plugins",
            "label.yaml",
            json.dumps({**label, "metadata": {"name": "m"}, "labels": {"m": "1"}}),
        ],
        "crds": ["crd.json"],
        "configurations": ["conf.yaml"],
    }
    replaced = [
        {
            "source": {"kind": "ConfigMap", "name": "c", "fieldPath": "data.a"},
            "targets": [
                {
                    "select": {"kind": "ConfigMap", "name": "c"},
                    "fieldPaths": ["data.r"],
                    "options": {"create": True},
                }
            ],
        }
    ]
    found = render(
        document,
        **{
            "c.yaml": config("c"),
            "base/kustomization.yaml": "patches: [old.yaml]\nresources: [b.yaml]\n",
            "base/b.yaml": config("b"),
        },
        **{
            "base/old.yaml": (patch % "old").replace("name: c", "name: b"),
            "p.yaml": patch % "file",
            "s.yaml": patch % "strategic",
        },
        **{
            "j.json": '[{"op": "add", "path": "/data/json", "value": "1"}]',
            "r.yaml": json.dumps(replaced),
            "f.txt": "text",
            "e.env": "E=1\n",
        },
        **{
            "plugins/kustomization.yaml": "resources: [l.yaml]\n",
            "plugins/l.yaml": json.dumps(label),
            "crd.json": "{}",
            "conf.yaml": "{}",
        },
        **{
            "label.yaml": json.dumps({**label, "metadata": {"name": "n"}, "labels": {"n": "1"}}),
            "comp/kustomization.yaml": (
                "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nnamePrefix: x-\n"
            ),
        },
    )

    by_name = {m["metadata"]["name"]: m for m in found.manifests}
    assert set(by_name) == {"x-b", "x-c", "x-g"}
    assert {k: str(v) for k, v in by_name["x-c"]["data"].items()} == dict.fromkeys(
        ["a", "inline", "file", "strategic", "merged", "json", "r"], "1"
    )
    assert by_name["x-b"]["data"] == {"a": "1", "old": "1"}
    assert by_name["x-c"]["metadata"]["labels"] == {"l": "1", "m": "1", "n": "1"}


def test_components_of_another_repository(repo, base):
    kind = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamePrefix: c-\n"
    base.commit({"comp/kustomization.yaml": kind})
    kustomize(repo, {"resources": ["c.yaml"]}, **{"c.yaml": config("own")})

    found = load(repo, kustomize={"components": [f"{base.url}//comp"]})

    assert names(found) == ["c-own"]


def test_files_of_servers_are_fetched_by_the_hub(repo, pages):
    pages.files = {
        "/m.yaml": config("page"),
        "/patch.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: page}\ndata: {p: '2'}\n",
        "/settings.txt": "text",
        "/gen.yaml": json.dumps(
            {
                "apiVersion": "builtin",
                "kind": "ConfigMapGenerator",
                "metadata": {"name": "made"},
                "files": ["local.txt"],
                "options": {"disableNameSuffixHash": True},
            }
        ),
    }
    options = {"disableNameSuffixHash": True}
    document = {
        "resources": [f"{pages.url}/m.yaml"],
        "patches": [{"path": f"{pages.url}/patch.yaml"}],
        "configMapGenerator": [
            {
                "name": "g",
                "files": [f"{pages.url}/settings.txt", f"k={pages.url}/settings.txt"],
                "options": options,
            }
        ],
        "generators": [f"{pages.url}/gen.yaml"],
    }
    kustomize(repo, document, **{"local.txt": "mine"})

    found = {m["metadata"]["name"]: m["data"] for m in load(repo).manifests}

    assert found["page"] == {"a": "1", "p": "2"}
    assert found["g"] == {"settings.txt": "text", "k": "text"}
    assert found["made"] == {"local.txt": "mine"}


def test_the_project_says_what_is_fetched(repo, base, pages):
    pages.files = {"/m.yaml": config("page")}
    for url, other in ((f"{base.url}//k", base.url), (f"{pages.url}/m.yaml", f"{pages.url}/*")):
        kustomize(repo, {"resources": [url]})
        base.server.requests.clear()

        with pytest.raises(Stalled, match="not permitted in project"):
            load(repo, ctx=context([repo.url]))
        assert not [r for r in base.server.requests if base.name in r]
        assert pages.asked == []
        assert load(repo, ctx=context([repo.url, other])).manifests
        # What was rendered for others is not given to a project that may not read it.
        with pytest.raises(REFUSALS, match="not permitted in project"):
            load(repo, ctx=context([repo.url]))
        pages.asked.clear()


@pytest.mark.parametrize(
    "url",
    [
        "{server}/allowed/../{name}",
        "{server}/allowed/./../{name}",
        "{server}/allowed/%2e%2e/{name}",
        "{server}/allowed/..%2f{name}",
        "{server}/allowed/%252e%252e/{name}",
    ],
)
def test_a_url_with_dot_segments_is_never_permitted(base, url):
    source = {"repoURL": url.format(server=base.server.url, name=base.name), "path": "k"}

    assert not permits_source({"sourceRepos": [f"{base.server.url}/allowed/**"]}, source["repoURL"])
    assert not permits_source({"sourceRepos": ["*"]}, source["repoURL"])


@pytest.mark.parametrize(
    ("chart", "version"),
    [
        ("../private/x", "1.0.0"),
        ("a/%2e%2e/x", "1.0.0"),
        ("a?x", "1.0.0"),
        ("x", "../../private/manifests/1"),
        ("x", "1?n=1"),
    ],
)
def test_a_chart_is_of_the_registry_folder_that_is_permitted(pages, chart, version):
    source = {
        "repoURL": f"oci://{pages.url[7:]}/allowed",
        "chart": chart,
        "targetRevision": version,
    }

    with pytest.raises(REFUSALS, match=r"is not a valid repository path|is not a valid tag"):
        sources.load([source], [version], context())
    assert pages.asked == []


def test_charts_of_kustomizations_are_there_before_helm_starts(settings):
    """Helm's program gets a folder, and no repository that it could ask."""
    settings.KUSTOMIZE_OPTIONS = ["--enable-helm"]
    server = Charts()
    document = {
        "helmGlobals": {"chartHome": "mine", "configHome": "/srv"},
        "helmCharts": [
            {"name": "demo", "repo": server.url, "version": "1.x", "valuesFile": "v.yaml"},
            {"name": "own", "releaseName": "r"},
        ],
    }
    about = {
        "name": "own",
        "version": "1.0.0",
        "dependencies": [{"name": "b", "repository": "file://../../b"}],
    }
    files = {
        "kustomization.yaml": json.dumps(document),
        "v.yaml": "a: 1",
        "mine/own/Chart.yaml": json.dumps(about),
        "b/Chart.yaml": '{"name": "b", "version": "1.0.0"}',
    }
    content = assembled(files)

    plugins = [
        json.loads(p) for p in json.loads(content["repository/kustomization.yaml"])["generators"]
    ]
    homes = [f"repository/{p['chartHome']}/{p['name']}" for p in plugins]
    assert not any({"repo", "configHome"} & p.keys() for p in plugins)
    assert b"1.1.0" in content[f"{homes[0]}/Chart.yaml"]
    assert f"{homes[1]}/charts/b/Chart.yaml" in content
    assert set(json.loads(content["repository/kustomization.yaml"])) == {"generators"}
    for home, name in (
        ("../../../srv", "own"),
        ("/srv", "own"),
        ("mine", "../b"),
        ("mine", "none"),
    ):
        hostile = {"helmGlobals": {"chartHome": home}, "helmCharts": [{"name": name}]}
        with pytest.raises(ManifestError):
            assembled({**files, "kustomization.yaml": json.dumps(hostile)})
    with pytest.raises(Stalled, match="not permitted in project"):
        assembled(files, permitted=("https://other/*",))
    server.server.shutdown()
    server.server.server_close()
    charts.forget()


def assembled(files, permitted=("*",)):
    tree = MemoryFiles({name: text.encode() for name, text in files.items()})
    assembly = Assembly(Recorder({"": tree}), context(permitted).remote_inputs())
    assembly.assemble("", dict)
    return assembly.content


def test_addresses_that_are_refused_stay_so(pages, settings):
    settings.ALLOW_LOOPBACK = False
    port = pages.url.rpartition(":")[2]
    for host in ("0.0.0.0", "127.0.0.1", "[::1]", "[::]", "169.254.169.254", "0", "0x7f.1"):
        for url in (f"http://{host}:{port}/x.yaml", f"http://{host}:{port}/org/repo.git//x"):
            with pytest.raises(
                REFUSALS, match=r"does not connect|this machine|resolve|write the address"
            ):
                render({"resources": [url]})
    assert pages.asked == []


def renders():
    return RenderedManifests.objects.count()


def test_a_branch_that_moves_gives_another_render(repo, base, pages, settings):
    pages.files = {"/m.yaml": config("page")}
    kustomize(repo, {"resources": [f"{base.url}//k?ref=main", f"{pages.url}/m.yaml"]})
    assert names(load(repo)) == ["base", "more", "page"]
    before = renders()

    load(repo)
    base.commit({"unrelated.yaml": "1"})
    git_remotes.current_refs(base.url, "default", force=True)
    load(repo)
    assert renders() == before

    base.commit({"k/c.yaml": config("moved")})
    load(repo)
    assert renders() == before  # what was polled is still new enough
    git_remotes.current_refs(base.url, "default", force=True)
    assert names(load(repo)) == ["more", "moved", "page"]

    pages.files = {"/m.yaml": config("other")}
    settings.POLL_INTERVAL = settings.POLL_INTERVAL * 0
    assert names(load(repo)) == ["more", "moved", "other"]
    assert renders() == before + 2


def test_a_push_to_a_base_refreshes_what_uses_it(hub, sandbox, repo, base, app, namespace):
    kustomize(repo, {"resources": [f"{base.url}//k?ref=main"]})
    name = app(repo, sandbox, namespace)
    hub.wait_status(name, sync="OutOfSync")
    hub.wait(GitRemote.objects.get(url=base.url).applications.exists, "the binding")

    hub.push(base, {"k/c.yaml": config("pushed")})

    def found():
        listed = hub.get(f"/api/v1/applications/{name}/manifests")["manifests"]
        return any('"pushed"' in text for text in listed)

    assert hub.wait(found, "the manifests of the new commit")


def test_what_a_base_broke_it_can_mend(repo, base):
    kustomize(repo, {"resources": [f"{base.url}//k?ref=main"]})
    base.commit({"k/c.yaml": "a: ["})
    with pytest.raises(RetryLater):
        load(repo)

    base.commit({"k/c.yaml": config("mended")})
    git_remotes.current_refs(base.url, "default", force=True)
    assert names(load(repo, ctx=context(no_cache=True))) == ["mended", "more"]


def test_errors_quote_no_file():
    with pytest.raises(Invalid) as raised:
        render({"patches": [{"path": "p.yaml"}]}, **{"p.yaml": "CANARY: [x\n"})
    assert "CANARY" not in str(raised.value)
