"""Paths that authors of repositories write: each is resolved once, in its own tree, and nothing
else is ever opened.
"""

import io
import json
import subprocess
import tarfile

import pytest
from support.charts import Charts
from support.local import Local

from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from projects import sources
from projects.sources import charts, files
from projects.sources import helm as helm_tool
from projects.sources.files import MemoryFiles
from projects.sources.safe_write import write_beneath

pytestmark = pytest.mark.django_db

SECRET = "CANARY-of-the-host"
CM = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: '%s'}\n"


def chart(name, *needs, **files):
    """Return the files of a chart that needs others: (name, repository)."""
    listed = [{"name": n, "version": "1.0.0", "repository": r} for n, r in needs]
    about = {"apiVersion": "v2", "name": name, "version": "1.0.0", "dependencies": listed}
    return {"Chart.yaml": json.dumps(about), "templates/cm.yaml": CM % (name, "ok"), **files}


def at(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


def context(**spec):
    given = {"sourceRepos": ["*"], **spec}
    return sources.Context("app", "app", "ns", "default", given, "v1.36.3")


def load(repo, path="chart", ctx=None, **block):
    source = {"repoURL": repo.url, "targetRevision": "main", "path": path, **block}
    revisions = [sources.resolve(source, "default", force=True)]
    return sources.load([source], revisions, ctx or context())


def render(files, path="chart"):
    """Render files that no repository holds, which is much faster."""
    tree = {n: t.encode() if isinstance(t, str) else t for n, t in files.items()}
    return sources.load_local({"path": path}, MemoryFiles(tree), [], 0, context())


def names(found):
    return sorted(m["metadata"]["name"] for m in found.manifests)


def archive(members):
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            text = "" if isinstance(content, tuple) else content
            if isinstance(content, tuple):
                info.type, info.linkname = content
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return body.getvalue()


def put(repo, data):
    place = repo.folder / "chart/charts/b-1.0.0.tgz"
    place.parent.mkdir()
    place.write_bytes(data)


@pytest.fixture
def host(tmp_path):
    """A folder of the hub's machine that looks like a chart."""
    place = tmp_path / "host"
    for name, text in chart("host", **{"templates/secret.yaml": CM % ("stolen", SECRET)}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "schema.json").write_text(json.dumps({"const": SECRET}))
    return place


def test_a_dependency_of_a_dependency_is_found_where_it_was_named(repo, host):
    decoy = str(host).lstrip("/")
    inner = chart("inner", ("host", f"file://{'../' * 8}{decoy}"))
    repo.commit(
        at("chart", chart("outer", ("inner", "file://../1/2/3/4/5/6/7")))
        | at("1/2/3/4/5/6/7/x", {"y": ""})
        | at("1/2/3/4/5/6/7", inner)
        | at(decoy, chart("host"))
    )

    with pytest.raises(Stalled, match="leads out"):
        load(repo)

    repo.commit({"1/2/3/4/5/6/7/Chart.yaml": inner["Chart.yaml"].replace("../" * 8, "../" * 7)})
    found = load(repo)
    assert names(found) == ["host", "inner", "outer"]
    assert SECRET not in json.dumps(found.manifests)


def test_a_decoy_in_the_repository_stands_for_no_folder_of_the_host(repo, host):
    decoy = str(host).lstrip("/")
    deep = "/".join(f"d{number}" for number in range(8))
    repo.commit(
        at("chart", chart("outer", ("inner", f"file://../{deep}")))
        | at(deep, chart("inner", ("host", f"file://{'../' * 8}{decoy}")))
        | at(decoy, chart("host"))
    )

    found = load(repo)

    assert names(found) == ["host", "inner", "outer"]
    assert SECRET not in json.dumps(found.manifests)


@pytest.mark.parametrize(
    "link",
    [
        "Chart.lock",
        "Chart.yaml",
        "requirements.yaml",
        "values.yaml",
        "templates/more.yaml",
        "charts/host",
        "crds",
        "files/text",
    ],
)
def test_a_link_of_a_chart_leads_nowhere_outside(repo, host, link):
    target = host / "templates/secret.yaml" if "." in link else host
    for place in (str(target), f"../../../../../../../..{target}"):
        repo.write(at("chart", chart("outer")))
        path = repo.folder / "chart" / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(place)
        repo.commit()

        with pytest.raises(Stalled, match="out-of-bounds symlinks") as raised:
            load(repo)
        assert SECRET not in str(raised.value)


def test_links_inside_the_repository_are_followed(repo):
    repo.write(at("chart", chart("outer")) | at("more", {"b.yaml": CM % ("b", "1")}))
    (repo.folder / "chart/templates/more").symlink_to("../../more")
    (repo.folder / "chart/templates/one.yaml").symlink_to("../../more/b.yaml")
    repo.commit()

    assert names(load(repo)) == ["b", "b", "outer"]


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".", "", "/etc", "a\0b", ".hidden", "x" * 300]
)
def test_a_dependency_is_named_by_a_name(name):
    with pytest.raises(Invalid, match="not a valid dependency name"):
        render(at("chart", chart("outer", (name, "file://../b"))) | at("b", chart("b")))


@pytest.mark.parametrize("alias", ["../../x", "/etc/x", "a/b"])
def test_an_alias_is_no_path(repo, alias):
    about = json.loads(chart("outer", ("b", "file://../b"))["Chart.yaml"])
    about["dependencies"][0]["alias"] = alias
    repo.commit(
        at("chart", chart("outer", **{"Chart.yaml": json.dumps(about)})) | at("b", chart("b"))
    )

    with pytest.raises(Stalled, match="alias"):
        load(repo)


def test_two_dependencies_of_one_name_are_both_there(repo):
    about = json.loads(chart("outer", ("b", "file://../b"), ("b", "file://../c"))["Chart.yaml"])
    about["dependencies"][1] |= {"alias": "c", "version": "2.0.0"}
    other = chart("b", **{"templates/cm.yaml": CM % ("c", "1")})
    other["Chart.yaml"] = other["Chart.yaml"].replace("1.0.0", "2.0.0")
    repo.commit(
        at("chart", chart("outer", **{"Chart.yaml": json.dumps(about)}))
        | at("b", chart("b"))
        | at("c", other)
    )

    assert names(load(repo)) == ["b", "c", "outer"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param(
            at("chart", chart("a", ("b", "file://../b")))
            | at("b", chart("b", ("a", "file://../chart"))),
            "cycle: chart → b → chart",
            id="circle",
        ),
        pytest.param(at("chart", chart("a", ("a", "file://."))), "cycle", id="itself"),
        pytest.param(
            {
                name: text
                for n in range(12)
                for name, text in at(
                    "chart" if n == 0 else f"c{n}",
                    chart(f"c{n}", (f"c{n + 1}", f"file://../c{n + 1}")),
                ).items()
            }
            | at("c12", chart("c12")),
            "nested more than 10",
            id="depth",
        ),
        pytest.param(
            at("chart", chart("a", *[(f"x{n}", "file://../c1") for n in range(5)]))
            | {
                name: text
                for d in range(1, 5)
                for name, text in at(
                    f"c{d}", chart(f"c{d}", *[(f"x{n}", f"file://../c{d + 1}") for n in range(5)])
                ).items()
            }
            | at("c5", chart("c5")),
            "more than 100 dependencies",
            id="fan-out",
        ),
    ],
)
def test_dependencies_end(files, words):
    with pytest.raises(Invalid, match=words):
        render(files)


def test_all_dependencies_together_are_bounded(repo, settings):
    settings.MAX_CHART_BYTES = 1024**2
    needs = [(f"b{n}", "file://../b") for n in range(5)]
    repo.commit(at("chart", chart("a", *needs)) | at("b", chart("b", blob="x" * 300_000)))

    with pytest.raises(Stalled, match="more than 1 MiB"):
        load(repo)


@pytest.mark.parametrize("path", ["chart", "yaml"])
def test_folders_without_end_are_bounded(path):
    deep = "/".join(["d"] * 2000)
    files = at("chart", chart("a")) | {f"{path}/{deep}/x.yaml": ""}
    block = {"directory": {"recurse": True}} if path == "yaml" else {}
    with pytest.raises((Invalid, ManifestError), match="folders deep"):
        sources.load_local(
            {"path": path, **block}, charts.unpack(archive(files), strip=False), [], 0, context()
        )
    with pytest.raises(Invalid, match=r"folders deep|does not exist"):
        render(files, f"chart/{deep}")


def test_links_to_folders_that_multiply_are_bounded(repo):
    repo.write(at("chart", chart("a")) | {"l0/x": ""})
    for depth in range(1, 8):
        for number in range(8):
            place = repo.folder / f"l{depth}" / str(number)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(f"../l{depth - 1}")
    (repo.folder / "chart/files").symlink_to("../l7")
    repo.commit()

    with pytest.raises(Stalled, match="more than 20,000 files"):
        load(repo)


@pytest.mark.parametrize("path", ["chart", "yaml", "kustomize", "jsonnet"])
def test_a_tree_with_entries_that_climb_is_refused(repo, path):
    """Git itself writes no such tree; a hostile server can send one."""
    repo.commit(
        at("chart", chart("a"))
        | {"yaml/a.yaml": CM % ("a", "1"), "kustomize/kustomization.yaml": "resources: [a.yaml]\n"}
        | {"kustomize/a.yaml": CM % ("a", "1"), "jsonnet/a.jsonnet": "{}"}
    )
    blob = repo.git("hash-object", "-w", f"{repo.folder}/yaml/a.yaml")

    def tree(*entries):
        body = b"".join(
            f"{mode} {name}\0".encode() + bytes.fromhex(sha) for mode, name, sha in entries
        )
        argv = [
            "git",
            "-C",
            str(repo.folder),
            "hash-object",
            "-w",
            "-t",
            "tree",
            "--literally",
            "--stdin",
        ]
        return (
            subprocess.run(argv, input=body, check=True, capture_output=True)
            .stdout.decode()
            .strip()
        )

    inner = repo.git("rev-parse", f"HEAD:{path}")
    listed = [line.split(None, 3) for line in repo.git("ls-tree", inner).splitlines()]
    climbing = tree(
        ("40000", "..", tree(("100644", "written.yaml", blob))),
        *[(m.lstrip("0"), n, s) for m, _, s, n in listed],
    )
    top = tree(("40000", path, climbing))
    commit = repo.git("commit-tree", "-m", "x", top)
    repo.git("update-ref", "refs/heads/main", commit)

    with pytest.raises(Stalled, match=r"an entry named '\.\.'"):
        load(
            repo, path, **({"directory": {"recurse": True}} if path in ("yaml", "jsonnet") else {})
        )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        pytest.param({"b/../../x": "1"}, "leads out", id="parent"),
        pytest.param({"/etc/x": "1"}, "leads out", id="absolute"),
        pytest.param(
            {"b/link": (tarfile.SYMTYPE, "/tmp"), "b/link/x": "1"},
            "Chart.yaml",
            id="link, then write",
        ),
        pytest.param({"b/hard": (tarfile.LNKTYPE, "/etc/passwd")}, "no files", id="hard link"),
    ],
)
def test_an_archive_in_charts_leads_nowhere(members, words):
    vendored = {"chart/charts/b-1.0.0.tgz": archive(members)}

    with pytest.raises(Invalid, match=words):
        render(at("chart", chart("outer", ("b", ""))) | vendored)


def test_archives_in_charts_are_used(repo):
    inner = archive(at("c", chart("c")))
    middle = at("b", chart("b")) | {"b/charts/c-1.0.0.tgz": ""}
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, text in middle.items():
            content = inner if name.endswith("tgz") else text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    repo.write(at("chart", chart("outer", ("b", ""))))
    put(repo, body.getvalue())
    repo.commit()

    assert names(load(repo)) == ["b", "c", "outer"]


SCHEMAS = [
    pytest.param(lambda h: {"properties": {"a": {"$ref": f"file://{h}/schema.json"}}}, id="file"),
    pytest.param(
        lambda h: {"properties": {"a": {"$ref": f"FILE://{h}/schema.json"}}}, id="capitals"
    ),
    pytest.param(
        lambda h: {"$id": f"file://{h}/", "properties": {"a": {"$ref": "schema.json"}}}, id="base"
    ),
    pytest.param(lambda h: {"properties": {"a": {"$ref": f"{h}/schema.json"}}}, id="path"),
    pytest.param(lambda h: {"$schema": f"file://{h}/schema.json"}, id="draft"),
    pytest.param(lambda _: {"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}, id="server"),
    pytest.param(lambda _: {"allOf": [{"$dynamicRef": "http://0.0.0.0/x"}]}, id="in a list"),
]


@pytest.mark.parametrize("place", ["values.schema.json", "charts/b/values.schema.json", "tgz"])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_of_values_opens_no_file_and_no_page(host, schema, place):
    text = json.dumps(schema(host))
    inner = at("b", chart("b", **{"values.yaml": "a: x"}))
    files = at("chart", chart("outer", ("b", ""), **{"values.yaml": "a: x"}))
    if place == "tgz":
        files["chart/charts/b-1.0.0.tgz"] = archive(inner | {"b/values.schema.json": text})
    else:
        files |= at("chart/charts", inner) | {f"chart/{place}": text}

    words = r"values\.schema\.json|does not connect|does not respond"
    with pytest.raises((Stalled, RetryLater, Invalid), match=words) as raised:
        render(files)
    assert SECRET not in str(raised.value)


def test_schemas_that_the_project_permits_are_fetched_by_the_hub(repo):
    server = Local()
    types = {"text": {"type": "string"}, "n": {"$ref": "more.json#/number"}}
    pages = {
        "/a/types.json": types | {"$id": "https://elsewhere/"},
        "/a/more.json": {"number": {"type": "integer"}},
    }

    def answer(handler, _body):
        data = json.dumps(pages[handler.path]).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    server.answer = answer
    schema = {"properties": {"a": {"$ref": f"{server.url}/a/types.json#/n"}}}
    files = chart("outer", **{"values.yaml": "a: x", "values.schema.json": json.dumps(schema)})
    repo.commit(at("chart", files))

    with pytest.raises(RetryLater, match="integer"):
        load(repo)
    assert names(load(repo, helm={"values": "a: 1"})) == ["outer"]
    with pytest.raises(Stalled, match="not permitted"):
        load(repo, ctx=context(sourceRepos=[repo.url]), helm={"values": "a: 2"})
    server.close()


def test_values_by_url_are_of_a_place_that_the_project_permits(repo):
    repo.commit(at("chart", chart("outer")))

    with pytest.raises(Stalled, match="not permitted in project"):
        load(
            repo,
            ctx=context(sourceRepos=[repo.url]),
            helm={"valueFiles": ["http://127.0.0.1:1/values.yaml"]},
        )


def test_schemas_that_are_whole_are_checked_or_skipped(repo):
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"type": "integer"}},
        "properties": {"a": {"$ref": "#/definitions/n"}},
    }
    files = chart("outer", **{"values.yaml": "a: x", "values.schema.json": json.dumps(schema)})
    repo.commit(at("chart", files))

    with pytest.raises(Stalled, match="integer"):
        load(repo)
    assert names(load(repo, helm={"skipSchemaValidation": True})) == ["outer"]
    assert names(load(repo, helm={"values": "a: 1"})) == ["outer"]


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        pytest.param("file://../../../../../../etc", "leads out", id="outside"),
        pytest.param("file:///etc", "not in the repository", id="absolute"),
        pytest.param("file://charts/../b", "not in the repository", id="not there"),
    ],
)
def test_a_published_chart_resolves_paths_in_its_own_archive(repository, words):
    server = Charts()
    server.archives["1.0.0"] = archive(at("demo", chart("demo", ("b", repository))))
    source = {"repoURL": server.url, "chart": "demo", "targetRevision": "1.0.0"}

    with pytest.raises(Stalled, match=words):
        sources.load([source], ["1.0.0"], context())
    server.server.shutdown()
    server.server.server_close()
    charts.forget()


def test_uploaded_files_resolve_in_themselves(host):
    decoy = str(host).lstrip("/")
    deep = "/".join(f"d{number}" for number in range(8))
    files = (
        at("chart", chart("outer", ("inner", f"file://../{deep}")))
        | at(deep, chart("inner", ("host", f"file://{'../' * 8}{decoy}")))
        | at(decoy, chart("host"))
    )

    found = render(files)

    assert names(found) == ["host", "inner", "outer"]
    assert SECRET not in json.dumps(found.manifests)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", "", "a/./b", "a\0b"])
def test_an_export_folder_takes_plain_paths(tmp_path, path):
    with pytest.raises(ManifestError, match="below its folder"):
        write_beneath(tmp_path, {path: b"1"})


def test_an_export_folder_follows_no_link(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "away").symlink_to(outside)
    (folder / "file").symlink_to(outside / "target")
    write_beneath(folder, {"a/b": b"1"})

    for path in ("away/x", "away/a/x", "file", "a", "a/b", "a/b/c", "x" * 300):
        with pytest.raises(ManifestError, match="cannot be written"):
            write_beneath(folder, {path: b"1"})

    assert list(outside.iterdir()) == []


class Bomb:
    """A few trees that name each other: what a walk sees has no end."""

    def entry(self, path):
        return 0o40000, "0" * 40

    def children(self, path):
        return [f"d{number}" for number in range(10)] if path.count("/") < 20 else []

    def blob(self, path):
        raise AssertionError


def test_a_walk_of_trees_that_multiply_ends(monkeypatch):
    monkeypatch.setattr(files, "MAX_WALKED_FILES", 1000)
    with pytest.raises(ManifestError, match="more than 1,000 files"):
        list(files.Recorder({"": Bomb()}).walk(""))


def test_variables_multiply_nothing():
    deep = "/".join("d" * 200 for _ in range(5))
    given = {"helm": {"parameters": [{"name": "a", "value": "$ARGOCD_APP_SOURCE_PATH" * 1000}]}}
    with pytest.raises(Invalid, match="more than 16,384 characters"):
        render(at(deep, chart("a", **{".argocd-source.yaml": json.dumps(given)})), deep)


class OneFile:
    """A tree whose many names are all one file, which costs its author nothing."""

    def __init__(self, content):
        self.content = content

    def entry(self, path):
        return (
            (0o40000, "1" * 40)
            if path == "many"
            else self.content.entry(path) or (0o100644, "2" * 40)
        )

    def children(self, path):
        return [f"{n}.yaml" for n in range(1000)] if path == "many" else self.content.children(path)

    def blob(self, path):
        return self.content.blob(path) if self.content.entry(path) else b"a: " + b"x" * 100_000


@pytest.mark.parametrize(
    ("helm", "words"),
    [
        ({"valueFiles": ["/many/*.yaml"]}, "the files of values: more than"),
        (
            {"valueFiles": [f"{'./' * n}values.yaml" for n in range(100)]},
            "the files of values: more than",
        ),
        (
            {"fileParameters": [{"name": "a", "path": "/many/1.yaml"}] * 1000},
            "the files of values: more than",
        ),
        (
            {"valueFiles": [f"/many/{n}*" for n in range(100, 110)]},
            "the globs of helm.valueFiles: more than",
        ),
        (
            {"valueFiles": ["/many/" + "**/*a*/" * 95 + "{a,b,c,d}"]},
            "the globs of helm.valueFiles: more than",
        ),
    ],
    ids=["a glob", "spellings of one file", "parameters", "globs", "a glob of many segments"],
)
def test_files_of_values_are_bounded_together(helm, words, settings, monkeypatch):
    settings.MAX_MANIFEST_BYTES = 1024**2
    monkeypatch.setattr(helm_tool, "MAX_WALKED_FILES", 5000, raising=False)
    given = at("chart", chart("a", **{"values.yaml": "a: " + "x" * 100_000}))
    tree = OneFile(MemoryFiles({n: t.encode() for n, t in given.items()}))

    with pytest.raises(Invalid, match=words):
        sources.load_local({"path": "chart", "helm": helm}, tree, [], 0, context())


MANY_VALUES = '{"x": [' + "[]," * 150_000 + "[]]}"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (
            at(
                "chart",
                {
                    **chart("a", **{"values.schema.json": MANY_VALUES}),
                    **at("charts/b", chart("b", **{"values.schema.json": MANY_VALUES})),
                },
            ),
            "the schemas of the chart have more than 500,000 values",
        ),
        (
            at(
                "chart",
                chart("a", **{"values.schema.json": '{"x": [' + "[]," * 1_400_000 + "[]]}"}),
            ),
            "a schema is larger than 4 MiB",
        ),
        (
            {"chart/a.jsonnet": "{x: std.makeArray(1100000, function(n) [])}"},
            "have more than 1,000,000 values",
        ),
    ],
    ids=["schemas together", "schema", "jsonnet"],
)
def test_millions_of_values_are_refused_before_they_are_built(tree, words):
    with pytest.raises(Invalid, match=words):
        render(tree)
