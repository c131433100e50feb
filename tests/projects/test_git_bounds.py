"""What the author of a repository, or its server, may make the hub read, keep and walk."""

import hashlib
import os
import struct
import subprocess
import time
import zlib

import pytest
from dulwich.errors import NotGitRepository
from support.gitserver import Repository
from support.hostile import Hostile, http

from hub.engine.errors import ManifestError, RetryLater, Stalled
from projects import sources
from projects.sources import commit_history, git, git_remotes, git_trees, local_repositories
from projects.sources.files import MemoryFiles, Recorder
from projects.sources.submodules import with_submodules

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024**2


def stored(repo, kind, data):
    """Write an object as it is, whatever Git thinks of it; return its name."""
    argv = [
        "git",
        "-C",
        str(repo.folder),
        "hash-object",
        "-t",
        kind,
        "-w",
        "--stdin",
        "--literally",
    ]
    return subprocess.run(argv, input=data, check=True, capture_output=True).stdout.decode().strip()


def varint(value, first=0):
    """Return a size as packs and deltas state it."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def entry(kind, data, before=b""):
    head, size = [kind << 4 | len(data) & 15], len(data) >> 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head) + before + zlib.compress(data)


def chain(links, base_size, filler):
    """Return the objects of a pack, each a delta of the one before, and the name of the last one.

    A delta says all of it anew, so that it is as long as what it makes: nothing but zeros,
    which cost nothing.
    """
    content = b"\0" * base_size
    parts = [entry(3, content)]
    for number in range(links):
        made = struct.pack(">I", number) + b"\0" * (filler - 4)
        delta = varint(len(content)) + varint(len(made))
        for at in range(0, len(made), 127):
            piece = made[at : at + 127]
            delta += bytes([len(piece)]) + piece
        back = len(parts[-1])
        distance = bytearray([back & 127])
        while back := (back >> 7):
            back -= 1
            distance.insert(0, back & 127 | 128)
        parts.append(entry(6, delta, bytes(distance)))
        content = made
    return parts, hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def with_pack(repo, parts):
    """Have the hub's copy of a repository hold a pack, as index-pack takes it."""
    body = b"PACK" + struct.pack(">II", 2, len(parts)) + b"".join(parts)
    body += hashlib.sha1(body).digest()
    folder = local_repositories.folder_of(repo.url)
    argv = ["git", "--git-dir", str(folder), "index-pack", "--stdin"]
    subprocess.run(argv, input=body, check=True, capture_output=True)
    local_repositories.close_repositories()
    return len(body)


def test_deltas_are_bounded_together(repo, settings):
    """None of them is beyond the limit; together they were unpacked at once."""
    settings.MAX_FILE_BYTES = 512 * 1024
    git.ensure(repo.url, repo.commit({"c.yaml": "a: 1"}), {})
    parts, name = chain(60, 400 * 1024, 400 * 1024)
    assert with_pack(repo, parts) < settings.MAX_FILE_BYTES

    with pytest.raises(ManifestError, match="HUB_MAX_FILE_BYTES"):
        local_repositories.read_object(repo.url, name, local_repositories.ReadBudget(repo.url))


def test_a_chain_of_deltas_is_read(repo, settings):
    settings.MAX_FILE_BYTES = 2 * MIB
    git.ensure(repo.url, repo.commit({"c.yaml": "a: 1"}), {})
    parts, name = chain(50, 1000, 1000)
    with_pack(repo, parts)

    found = local_repositories.read_object(
        repo.url, name, local_repositories.ReadBudget(repo.url)
    ).as_raw_string()

    assert found == struct.pack(">I", 49) + b"\0" * 996


def test_what_reads_unpack_is_bounded_together(repo, settings):
    """One file of many names: each read unpacks it again."""
    settings.MAX_FILE_BYTES = 64 * 1024
    commit = repo.commit({f"{n}.yaml": "#" * 60_000 for n in range(100)})
    git.ensure(repo.url, commit, {})
    files = git.GitFiles(repo.url, commit)

    with pytest.raises(ManifestError, match="64 times HUB_MAX_FILE_BYTES"):
        for name in files.children(""):
            files.blob(name)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param("commit", b"tree x\n\n", id="a tree that is none"),
        pytest.param("commit", b"\xff\0", id="no commit at all"),
        pytest.param("tag", b"object x\n", id="a tag of nothing"),
        pytest.param("blob", b"words", id="a file"),
    ],
)
def test_an_invalid_commit_is_an_error_message(repo, kind, data):
    git.ensure(repo.url, repo.commit({"c.yaml": "a: 1"}), {})
    name = stored(repo, kind, data)
    argv = [
        "git",
        "--git-dir",
        str(local_repositories.folder_of(repo.url)),
        "hash-object",
        "-t",
        kind,
        "-w",
        "--stdin",
        "--literally",
    ]
    subprocess.run(argv, input=data, check=True, capture_output=True)

    for read in (
        git.GitFiles,
        git.commit_info,
        lambda *place: list(commit_history.commits(*place, 9)),
    ):
        with pytest.raises(Stalled, match=r"or is damaged|is not a commit"):
            read(repo.url, name)


def test_every_commit_of_a_history_has_its_limit(repo):
    """The first one alone was looked at; the others were read whole, and all were held."""
    repo.commit({"c.yaml": "a: 1"}, message="first")
    tree = repo.git("rev-parse", "HEAD^{tree}")
    person = "t <t@localhost> 1700000000 +0000"
    head = f"tree {tree}\nauthor {person}\ncommitter {person}\n\n"
    large = stored(repo, "commit", head.encode() + b"\0" * 8 * MIB)
    last = stored(
        repo, "commit", head.replace("author", f"parent {large}\nauthor", 1).encode() + b"x"
    )
    repo.git("update-ref", "refs/heads/main", last)
    git.ensure_history(repo.url, last, {})

    with pytest.raises(Stalled, match="larger than 1 MiB"):
        list(commit_history.commits(repo.url, last, 100))


def test_a_history_with_commits_left_out_proves_nothing(repo):
    """A server that gives the last commit alone would hide those that are not signed."""
    repo.commit({"c.yaml": "a: 1"})
    last = repo.commit({"c.yaml": "a: 2"})
    git.ensure(repo.url, last, {})

    with pytest.raises(Stalled, match=r"does not provide commit .* an ancestor of"):
        list(commit_history.commits(repo.url, last, 100))

    git.ensure_history(repo.url, last, {})
    assert len(list(commit_history.commits(repo.url, last, 100))) == 2


def test_a_history_ends_at_its_limit(repo):
    for number in range(6):
        commit = repo.commit({"c.yaml": f"a: {number}"})
    git.ensure_history(repo.url, commit, {})

    with pytest.raises(commit_history.TooMany):
        list(commit_history.commits(repo.url, commit, 5))


def tree(*entries):
    return b"".join(mode + b" " + name + b"\0" + b"\1" * 20 for mode, name in entries)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(tree((b"100644", b"..")), "an entry named", id="climbs"),
        pytest.param(tree((b"100644", b"a/b")), "an entry named", id="has a slash"),
        pytest.param(tree((b"100644", b"a"))[:-1], "damaged", id="cut"),
        pytest.param(tree((b"+00644", b"a")), "damaged", id="a mode with a sign"),
        pytest.param(tree((b"100689", b"a")), "damaged", id="a mode that is not octal"),
        pytest.param(tree((b"100644", b"a" * 5000)), "more than 4096 bytes", id="a long name"),
        pytest.param(b"100644", "damaged", id="a mode alone"),
    ],
)
def test_git_trees_that_no_git_writes(data, message):
    with pytest.raises(ManifestError, match=message):
        git_trees.entries_of(data, "the tree")


def test_a_tree_is_counted_while_it_is_read(monkeypatch):
    monkeypatch.setattr(git_trees, "MAX_WALKED_FILES", 1000)
    many = tree(*((b"100644", b"%d" % n) for n in range(200_000)))
    began = time.process_time()

    with pytest.raises(ManifestError, match="more than 1,000 entries"):
        git_trees.entries_of(many, "the tree")
    assert time.process_time() - began < 0.05
    # One name many times is counted as often.
    with pytest.raises(ManifestError, match="more than 1,000 entries"):
        git_trees.entries_of(tree(*[(b"100644", b"a")] * 1001), "the tree")


def test_the_cache_of_trees_is_limited():
    kept = git_trees._TreeCache(100_000)
    for number in range(1000):
        kept.put(("url", str(number)), {str(n): (0o100644, "0" * 40) for n in range(100)})
        assert kept.held_bytes <= 100_000

    assert kept.get(("url", "999")) and kept.get(("url", "0")) is None
    kept.put(("url", "large"), {str(n): (0, "") for n in range(1000)})
    assert kept.get(("url", "large")) is None and kept.get(("url", "999"))


@pytest.mark.parametrize("path", ["a" * 5000, "/".join("a" * 300)], ids=["long", "deep"])
def test_a_path_has_an_end(repo, path):
    commit = repo.commit({"c.yaml": "a: 1"})
    git.ensure(repo.url, commit, {})
    with pytest.raises(ManifestError, match="longer than"):
        git.GitFiles(repo.url, commit).entry(path)


def test_what_a_link_leads_to_has_an_end(repo):
    target = stored(repo, "blob", b"x" * 5000)
    repo.commit({"c.yaml": "a: 1"})
    repo.git("update-index", "--add", "--cacheinfo", f"120000,{target},link")
    repo.git("commit", "-q", "-m", "a link")
    commit = repo.git("rev-parse", "HEAD")
    git.ensure(repo.url, commit, {})

    with pytest.raises(ManifestError, match="a link of more than 4096"):
        Recorder({"": git.GitFiles(repo.url, commit)}).resolve("link/a")


def test_the_place_of_a_path_is_found_without_a_search():
    listed = "".join(
        f'[submodule "{n}"]\n\tpath = m/{n}\n\turl = https://h/{n}\n' for n in range(5000)
    )
    files = MemoryFiles(
        {".gitmodules": listed.encode(), "a/b/c.yaml": b"", **{f"m/{n}": b"" for n in range(10)}}
    )
    found = with_submodules(files, "https://h/a", lambda *_: files)
    began = time.process_time()

    for _ in range(2000):
        assert found.entry("a/b/c.yaml")

    assert time.process_time() - began < 1


def test_a_submodule_is_found_under_its_folder_alone():
    class Linked(MemoryFiles):
        def entry(self, path):
            return (0o160000, "1" * 40) if path == "m/a" else super().entry(path)

    listed = "".join(
        f'[submodule "{n}"]\n\tpath = m/{n}\n\turl = https://h/{n}\n' for n in ("a", "ab", "a/b")
    )
    inner = MemoryFiles({"b/c": b"inner", "d": b"d"})
    files = Linked({".gitmodules": listed.encode(), "m/ab/c": b"outer"})
    found = with_submodules(
        files, "https://h/x", lambda folder, _url, _commit: inner if folder == "m/a" else files
    )

    assert found.blob("m/a/b/c") == b"inner" and found.blob("m/ab/c") == b"outer"
    assert found.children("m/a") == ["b", "d"]


def test_submodules_are_counted_through_all_levels(repo, git_server, settings):
    """A repository with two of itself has two, four, eight: each is a fetch, a folder and a
    tree.
    """
    settings.MAX_SUBMODULES = 6
    git_remotes.forget()
    other = Repository(git_server, f"many-{os.urandom(4).hex()}")
    other.commit({"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}\n"})
    for _ in range(3):
        commit = other.git("rev-parse", "HEAD")
        text = "".join(f'[submodule "{n}"]\n\tpath = {n}\n\turl = {other.url}\n' for n in "ab")
        other.write({".gitmodules": text})
        other.git("add", ".gitmodules")
        for name in "ab":
            other.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{name}")
        other.git("commit", "-q", "-m", "twice")
    source = {
        "repoURL": other.url,
        "targetRevision": "main",
        "path": ".",
        "directory": {"recurse": True},
    }
    context = sources.Context("app", "app", "ns", "default", {"sourceRepos": ["*"]}, no_cache=True)
    revisions = [sources.resolve(source, "default", force=True)]

    with pytest.raises(Stalled, match="HUB_MAX_SUBMODULES"):
        sources.load([source], revisions, context)
    settings.MAX_SUBMODULES = 14
    assert len(sources.load([source], revisions, context).manifests) == 15


SHA = "1" * 40
OTHER = "2" * 40


@pytest.mark.parametrize(
    ("output", "refs"),
    [
        pytest.param(f"{SHA}\trefs/heads/a", {"refs/heads/a": SHA}, id="a branch"),
        pytest.param(
            f"{SHA}\trefs/tags/v\n{OTHER}\trefs/tags/v^{{}}",
            {"refs/tags/v": OTHER},
            id="a tag of a commit",
        ),
        pytest.param(
            f"{SHA}\trefs/heads/v1\u2028x",
            {"refs/heads/v1\u2028x": SHA},
            id="no line ends in a name",
        ),
        pytest.param(
            f"{SHA}\trefs/heads/v1\x85x", {"refs/heads/v1\x85x": SHA}, id="nor by another sign"
        ),
        pytest.param(f"{SHA}\trefs/heads/v1\x0cx", {}, id="a control character"),
        pytest.param(f"{SHA}\trefs/heads/../../x", {}, id="climbs"),
        pytest.param(f"{SHA}\trefs/heads/a.lock", {}, id="a lock"),
        pytest.param(f"{SHA}\trefs/heads/" + "a" * 2000, {}, id="a long name"),
        pytest.param("--upload-pack=x\trefs/heads/a\nab\trefs/tags/b", {}, id="no commits"),
        pytest.param(
            f"{SHA}\trefs/pull/1/head\n{SHA}\tHEAD", {"HEAD": SHA}, id="neither branches nor tags"
        ),
    ],
)
def test_what_a_server_says_of_its_refs(output, refs):
    assert git._refs_of(output, "url").refs == refs


@pytest.mark.parametrize(
    "name", ["main", "-x", "refs/heads/a b", "refs/heads/\x1b[2J", "refs/../x", ""]
)
def test_a_head_that_leads_to_no_ref_is_none(name):
    assert git._refs_of(f"ref: {name}\tHEAD\n{SHA}\tHEAD", "url").head == ""


def test_refs_are_counted(settings):
    settings.MAX_REFS = 10
    with pytest.raises(Stalled, match="HUB_MAX_REFS"):
        git._refs_of("\n".join(f"{SHA}\trefs/heads/{n}" for n in range(11)), "url")


@pytest.mark.parametrize(
    "commit", ["--upload-pack=x", "HEAD", "refs/heads/main", "1" * 39, "G" * 40]
)
def test_what_is_fetched_is_a_commit(repo, commit):
    repo.commit({"c.yaml": "a: 1"})
    with pytest.raises(Stalled, match="is not a commit id"):
        git.ensure(repo.url, commit, {})
    with pytest.raises((KeyError, NotGitRepository)):
        git.GitFiles(repo.url, commit)


def test_what_a_server_says_moves_no_cursor():
    """What it says when it refuses is a condition of applications, and a line of the command
    line.
    """
    server = Hostile(lambda _path: http(b"fatal: a\x1b[2Jb\n", 500, Content_Type="text/plain"))
    with pytest.raises(RetryLater) as found:
        git.fetch_refs(f"{server.url}/a.git", {})
    server.close()
    assert "fatal: a" in found.value.message and found.value.message.isprintable()


def test_a_commit_with_zero_bytes_is_kept_by_any_database(repo):
    tree = repo.git("rev-parse", repo.commit({"c.yaml": "a: 1"}) + "^{tree}")
    text = (
        f"tree {tree}\nauthor t{'x' * 9000}\0 <t@h> 1700000000 +0000\n"
        "committer t <t@h> 1700000000 +0000\n\na\0b\n"
    )
    commit = stored(repo, "commit", text.encode())
    repo.git("update-ref", "refs/heads/main", commit)
    git.ensure(repo.url, commit, {})

    found = git.commit_info(repo.url, commit)

    assert "\0" not in found.author + found.message and len(found.author) <= 1000
    remote = git_remotes.remote_of(repo.url, "default")
    remote.error = found.message
    remote.save()


def test_nothing_is_fetched_while_the_disk_is_full(repo, settings):
    settings.KEEP_FREE_BYTES = 1 << 60
    with pytest.raises(RetryLater, match="HUB_KEEP_FREE_BYTES"):
        git.ensure(repo.url, repo.commit({"c.yaml": "a: 1"}), {})


def test_repacking_leaves_nothing_behind(repo, monkeypatch):
    """A pack that cannot be packed anew left one more file on each try."""
    monkeypatch.setattr(git, "MAX_PACKS", 1)
    git.ensure(repo.url, repo.commit({"c.yaml": "a: 1"}), {})
    packs = local_repositories.folder_of(repo.url) / "objects" / "pack"
    for path in packs.glob("*.pack"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-30])
    (packs / ".tmp-1-pack-left").write_bytes(b"x")
    (packs / "tmp_pack_left").write_bytes(b"x")

    with pytest.raises(Stalled, match="git "):
        git.repack(repo.url)

    assert [path.name for path in packs.iterdir() if "tmp" in path.name] == []


def test_a_server_of_plain_files_is_refused(repo, tmp_path):
    """By the old way each object is a file of its own, which no limit of one file bounds."""
    commit = repo.commit({"c.yaml": "a: 1"})
    repo.git("update-server-info")

    def answer(path):
        place = repo.folder / ".git" / path.partition("?")[0].removeprefix("/a.git/")
        found = place.is_file()
        return http(
            place.read_bytes() if found else b"", 200 if found else 404, Content_Type="text/plain"
        )

    server = Hostile(answer)
    with pytest.raises(RetryLater, match="served as plain files"):
        git.ensure(f"{server.url}/a.git", commit, {})
    server.close()


def test_long_paths_of_a_walk_count_for_several(monkeypatch):
    """Paths are kept while a folder is walked: so many of 4,096 characters are a gigabyte."""
    monkeypatch.setattr("projects.sources.files.MAX_WALKED_FILES", 100)
    long = MemoryFiles({f"{n}/" + "x" * 4000: b"" for n in range(10)})

    with pytest.raises(ManifestError, match="more than 100 files"):
        list(Recorder({"": long}).walk(""))
    assert len(list(Recorder({"": MemoryFiles({f"{n}/x": b"" for n in range(10)})}).walk(""))) == 10
