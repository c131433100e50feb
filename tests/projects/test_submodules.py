"""Repositories whose folders are other repositories."""

import pytest
from support.gitserver import Repository

from hub.engine.errors import ManifestError, Stalled
from projects import sources
from projects.sources import git_remotes
from projects.sources.submodules import MAX_NESTED, absolute

pytestmark = pytest.mark.django_db(transaction=True)
_numbers = iter(range(1000))


def config(name, value="1"):
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n"


@pytest.fixture
def other(git_server):
    git_remotes.forget()
    return Repository(git_server, f"other-{next(_numbers)}")


def include(parent, child, folder="sub", url=None, commit=None):
    """Put a repository into a folder of another, as git submodule add does; return the parent's
    commit.
    """
    address = url or child.url
    with (parent.folder / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{folder}"]\n\tpath = {folder}\n\turl = {address}\n')
    parent.git("add", ".gitmodules")
    commit = commit or child.git("rev-parse", "HEAD")
    parent.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{folder}")
    parent.git("commit", "-q", "-m", "a submodule")
    return parent.git("rev-parse", "HEAD")


def load(repo, path=".", permitted=("*",), **block):
    source = {"repoURL": repo.url, "targetRevision": "main", "path": path, **block}
    spec = {"sourceRepos": list(permitted)}
    context = sources.Context("app", "app", "ns", "default", spec, "v1.36.3")
    revisions = [sources.resolve(source, "default", force=True)]
    return sources.load([source], revisions, context)


def names(found):
    return sorted(m["metadata"]["name"] for m in found.manifests)


RECURSE = {"directory": {"recurse": True}}


def test_files_of_a_submodule_are_in_their_place(repo, other):
    repo.commit({"own/c.yaml": config("own")})
    other.commit({"deep/c.yaml": config("inner"), "c.yaml": config("top")})
    include(repo, other)

    assert names(load(repo, "sub")) == ["top"]
    assert names(load(repo, "sub/deep")) == ["inner"]
    assert names(load(repo, ".", **RECURSE)) == ["inner", "own", "top"]


def test_a_kustomization_uses_a_base_in_a_submodule(repo, other):
    other.commit({"base/kustomization.yaml": "resources: [c.yaml]\n", "base/c.yaml": config("c")})
    repo.commit({"over/kustomization.yaml": "namePrefix: x-\nresources: [../sub/base]\n"})
    include(repo, other, url=f"../{other.name}")

    assert names(load(repo, "over")) == ["x-c"]


def test_a_submodule_that_is_not_read_is_not_fetched(repo, other):
    repo.commit({"own/c.yaml": config("own"), "c.yaml": config("root")})
    other.commit({"c.yaml": config("sub")})
    include(repo, other, url="https://127.0.0.1:1/away.git")
    include(repo, other, folder="odd", url="ext::sh -c whoami")

    assert names(load(repo, "own")) == ["own"]
    assert names(load(repo, ".")) == ["root"]
    with pytest.raises(Stalled, match="is not a repository URL"):
        load(repo, "odd")


def test_the_project_says_which_submodules_are_read(repo, other):
    repo.commit({"own/c.yaml": config("own")})
    other.commit({"c.yaml": config("secret")})
    include(repo, other)

    with pytest.raises(Stalled, match=r"submodule sub: repository .* is not permitted in project"):
        load(repo, "sub", permitted=[repo.url])
    assert names(load(repo, "sub", permitted=[repo.url, other.url])) == ["secret"]


def test_submodules_in_submodules_end(repo, other):
    repo.commit({"c.yaml": config("c")})
    include(repo, repo)
    for _ in range(MAX_NESTED + 2):
        include(repo, repo, folder="sub")
    with pytest.raises(Stalled, match="nested more than"):
        load(repo, "/".join(["sub"] * (MAX_NESTED + 2)))


def test_another_commit_of_a_submodule_is_another_input(repo, other):
    repo.commit({"own/c.yaml": config("own")})
    other.commit({"c.yaml": config("c", "1"), "unread/x.txt": "x"})
    include(repo, other)
    first = load(repo, "sub")
    other.commit({"unread/x.txt": "y"})
    include(repo, other)
    same = load(repo, "sub")
    other.commit({"c.yaml": config("c", "2")})
    include(repo, other)
    changed = load(repo, "sub")

    assert same.digest == first.digest and same.inputs == first.inputs
    assert changed.digest != first.digest
    assert changed.manifests[0]["data"] == {"a": "2"}


def test_they_can_be_switched_off(repo, other, settings):
    settings.GIT_SUBMODULES = False
    repo.commit({"own/c.yaml": config("own")})
    other.commit({"c.yaml": config("c")})
    include(repo, other)
    assert names(load(repo, ".", **RECURSE)) == ["own"]


def test_a_list_that_cannot_be_read_is_reported(repo):
    repo.commit({"c.yaml": config("c"), ".gitmodules": "[submodule\n"})
    with pytest.raises(Stalled, match=r"\.gitmodules is invalid"):
        load(repo)


@pytest.mark.parametrize(
    "section",
    [pytest.param("include", id="include"), pytest.param('includeIf "onbranch:**"', id="if")],
)
def test_a_list_includes_no_file_of_the_host(repo, tmp_path, section):
    """What it read there named submodules, or was repeated in the error."""
    secret = tmp_path / "secret"
    secret.write_text("CANARY of the host\n")
    repo.commit({"c.yaml": config("c"), ".gitmodules": f"[{section}]\n\tpath = {secret}\n"})

    assert names(load(repo)) == ["c"]


@pytest.mark.parametrize(
    ("url", "parent", "found"),
    [
        ("../b.git", "https://h/o/a.git", "https://h/o/b.git"),
        ("../../x/b.git", "https://h:1/o/a.git/", "https://h:1/x/b.git"),
        ("./b", "ssh://git@h/o/a", "ssh://git@h/o/a/b"),
        ("../b", "git@h:o/a.git", "git@h:o/b"),
        ("../../b", "git@h:o/a.git", "git@h:b"),
        ("https://z/q", "https://h/a", "https://z/q"),
    ],
)
def test_relative_urls(url, parent, found):
    assert absolute(url, parent) == found


@pytest.mark.parametrize(
    "url", ["../../../b", "file:///etc", "/etc", "--upload-pack=x", "git://h/a"]
)
def test_urls_that_are_not_read(url):
    with pytest.raises(ManifestError):
        absolute(url, "https://h/o/a.git")


def test_a_manifest_in_lfs_is_reported(repo):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    repo.commit({"a/c.yaml": pointer, "b/c.yaml": config("c"), "b/picture.png": pointer})
    assert names(load(repo, "b")) == ["c"]
    with pytest.raises(Stalled, match=r"a/c.yaml is stored in Git LFS"):
        load(repo, "a")
