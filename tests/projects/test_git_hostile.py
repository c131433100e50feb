"""Git servers that lie: names that move, redirects into the network, repositories that are
bombs.
"""

import itertools
import os
import socket
import subprocess
import time

import pytest
from support.gitserver import GitServer, Repository
from support.hostile import Hostile, http
from support.local import Local

from hub.engine.errors import Invalid, ManifestError, RetryLater, Stalled
from projects.live_pages.application_rows import may_read, subject_of
from projects.models import Project
from projects.sources import abbreviated_commits, git, git_transport
from projects.sources.local_repositories import folder_of

pytestmark = pytest.mark.django_db

CONFIG = "kind: ConfigMap"


@pytest.fixture(autouse=True)
def _no_moves():
    git._moves.clear()


@pytest.fixture
def hostile():
    found = Hostile()
    yield found
    found.close()


@pytest.fixture
def elsewhere(tmp_path):
    server = GitServer(tmp_path)
    yield server
    server.close()


class Listener(Local):
    """Counts who comes."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def answer(self, handler, body):
        self.seen.append(handler.path)
        handler.send_error(404)


def test_git_asks_no_server_for_what_a_copy_of_commits_lacks(tmp_path):
    # As a server leaves it that gives a tag, and not what the tag is of, to who asks for no files.
    listener, folder = Listener(), tmp_path / "commits"
    git.run_local("init", "-q", "--bare", str(folder))
    url = f"{listener.url}/a.git"
    for name, value in (
        (f"remote.{url}.promisor", "true"),
        ("extensions.partialClone", url),
        ("core.repositoryFormatVersion", "1"),
    ):
        git.run_local("--git-dir", str(folder), "config", name, value)
    tag = f"object {'1' * 40}\ntype tree\ntag t\ntagger a <a@example.com> 1 +0000\n\nt\n"
    (tmp_path / "tag").write_text(tag)
    write = ("hash-object", "-t", "tag", "-w", "--literally", str(tmp_path / "tag"))
    found = git.run_local("--git-dir", str(folder), *write)

    assert abbreviated_commits._parsed(folder, found[:12]) == ""

    listener.close()
    assert listener.seen == []


class Mover(Local):
    """Redirects everything to the same path below another URL."""

    def __init__(self, target):
        super().__init__()
        self.target, self.seen = target, []

    def answer(self, handler, body):
        self.seen.append(handler.headers.get("Authorization"))
        handler.send_response(301)
        handler.send_header("Location", self.target + handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://[",
        "http://0.0.0.0:1",
        "ftp://127.0.0.1",
        "file:///etc",
    ],
)
def test_a_redirect_into_the_network(target):
    mover = Mover(target)
    with pytest.raises((Invalid, RetryLater, Stalled), match=r"refused|does not connect|no URL"):
        git.fetch_refs(f"{mover.url}/a.git", {})
    mover.close()


def test_a_repository_that_moved_is_followed_without_its_credentials(elsewhere):
    moved = Repository(elsewhere, "moved")
    revision = moved.commit({"c.yaml": CONFIG})
    mover = Mover(elsewhere.url)
    url = f"{mover.url}/moved"
    given = {"username": "u", "password": "CANARY"}

    assert git.fetch_refs(url, given).refs["refs/heads/main"] == revision
    git.ensure(url, revision, given)

    assert git.GitFiles(url, revision).blob("c.yaml") == CONFIG.encode()
    assert any(mover.seen)
    assert not any("CANARY" in str(request) for request in elsewhere.requests)
    mover.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "https://[::1/a.git",
        "ssh://[x/a",
        "https://user:CANARY/x@[::1/a",
        "https://h:port/a",
    ],
)
def test_what_is_no_url_is_refused_with_its_field(url):
    with pytest.raises(Invalid, match=r"^repo: ") as found:
        git.check_git_url(url, "repo")
    assert "CANARY" not in str(found.value)


def test_a_redirect_loop(hostile):
    hostile.answer = lambda path: http(
        b"", 302, Location=f"{hostile.url}/a.git/info/refs?service=git-upload-pack"
    )
    with pytest.raises((RetryLater, Stalled)):
        git.fetch_refs(f"{hostile.url}/a.git", {})


def test_git_connects_to_the_checked_address(repo, monkeypatch):
    """Only the hub knows this name: Git could not find the server by itself."""
    revision = repo.commit({"c.yaml": CONFIG})
    real, places = (
        socket.getaddrinfo,
        itertools.chain(["127.0.0.1"], itertools.repeat("169.254.1.1")),
    )

    def resolve(host, *more, **named):
        return real(next(places) if host == "rebind.test" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = repo.url.replace("127.0.0.1", "rebind.test")

    assert git.fetch_refs(url, {}).refs["refs/heads/main"] == revision
    with pytest.raises(Invalid, match="does not connect"):
        git.fetch_refs(url, {})


@pytest.mark.parametrize(
    "url",
    [
        "http://2852039166/a",
        "http://0xa9fea9fe/a",
        "ssh://git@[64:ff9b::a9fe:a9fe]/a",
        "git@169.254.43518:a",
        "git@2852039166:a",
        "https://x@[fd00:ec2::254]:8443/a",
    ],
)
def test_git_goes_to_no_refused_address(url):
    with pytest.raises((Invalid, RetryLater), match=r"does not connect|four decimal numbers"):
        git.fetch_refs(url, {})


def test_ssh_receives_the_address_and_the_expected_host_key():
    way = git_transport.Transport("ssh", "git.example", 2222, ("10.0.0.1", "10.0.0.2"))
    with git_transport.environment(way, {}, "10.0.0.1") as env:
        command = env["GIT_SSH_COMMAND"]
    assert "HostName=10.0.0.1" in command
    assert "'HostKeyAlias=[git.example]:2222'" in command


@pytest.mark.parametrize("said", ["git version 2.36.9", "git version 1.8", "hg 6"])
def test_a_git_that_would_ask_again_is_not_used(said):
    with pytest.raises(Stalled, match=r"2\.37"):
        git_transport.require_version(said)


def test_a_repository_does_not_grow_beyond_its_limit(repo, settings):
    settings.MAX_REPOSITORY_BYTES = 300_000
    revision = repo.commit({"big": os.urandom(900_000).hex()})

    with pytest.raises(Stalled, match="HUB_MAX_REPOSITORY_BYTES"):
        git.ensure(repo.url, revision, {})

    kept = sum(p.stat().st_size for p in folder_of(repo.url).rglob("*") if p.is_file())
    assert kept < 400_000


def test_refs_without_an_end(hostile, settings):
    settings.MAX_INDEX_BYTES, settings.GIT_TIMEOUT = 100_000, settings.GIT_TIMEOUT / 20
    line = b"003f" + b"a" * 40 + b" refs/heads/branch-000000\n"
    first = b"001e# service=git-upload-pack\n0000"
    hostile.answer = lambda path: itertools.chain(
        [
            http(
                first,
                Content_Length=None,
                Content_Type="application/x-git-upload-pack-advertisement",
            )
        ],
        itertools.repeat(line * 500),
    )
    began = time.monotonic()
    with pytest.raises((RetryLater, Stalled)):
        git.fetch_refs(f"{hostile.url}/a.git", {})
    assert time.monotonic() - began < 20


def bomb(repo, size):
    """Commit a file of zeros, whose pack is a thousandth of it."""

    def run(*argv, **more):
        argv = ["git", "-C", str(repo.folder), *argv]
        return subprocess.run(argv, check=True, capture_output=True, **more).stdout.strip().decode()

    blob = run("hash-object", "-w", "--stdin", input=b"\0" * size)
    tree = run("mktree", input=f"100644 blob {blob}\tbig.yaml\n".encode())
    env = {
        **os.environ,
        **{
            f"GIT_{who}_{what}": "a@b"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    commit = run("commit-tree", tree, "-m", "x", env=env)
    run("update-ref", "refs/heads/main", commit)
    return commit


def test_a_small_pack_with_a_large_file(repo, settings):
    repo.commit({"c.yaml": CONFIG})
    settings.MAX_FILE_BYTES = 1024 * 1024
    commit = bomb(repo, 8 * 1024 * 1024)
    git.ensure(repo.url, commit, {})
    with pytest.raises(ManifestError, match="HUB_MAX_FILE_BYTES"):
        git.GitFiles(repo.url, commit).blob("big.yaml")


def test_a_delta_that_makes_a_large_file(repo, settings):
    """Two versions of a file: the second is stored as what changed."""
    settings.MAX_FILE_BYTES = 1024 * 1024
    lines = "\n".join(os.urandom(32).hex() for _ in range(3000))
    repo.commit({"c.yaml": lines})
    revision = repo.commit({"c.yaml": lines + "\nmore"})
    git.ensure(repo.url, revision, {})
    git.ensure_history(repo.url, revision, {})
    assert git.GitFiles(repo.url, revision).blob("c.yaml").endswith(b"more")
    settings.MAX_FILE_BYTES = 100_000
    with pytest.raises(ManifestError, match="HUB_MAX_FILE_BYTES"):
        git.GitFiles(repo.url, revision).blob("c.yaml")


@pytest.mark.parametrize(
    "author",
    [
        pytest.param(
            "author t <t@localhost> 99999999999999 +0000\n", id="a time that no calendar has"
        ),
        pytest.param("author t <t@localhost> 1700000000 +9999\n", id="a zone that no clock has"),
        pytest.param("author t <t@localhost> soon +0000\n", id="no time"),
        pytest.param("", id="no author"),
    ],
)
def test_a_commit_that_cannot_be_read_is_an_error_of_its_own(repo, author):
    tree = repo.git("rev-parse", repo.commit({"c.yaml": CONFIG}) + "^{tree}")
    text = f"tree {tree}\n{author}committer t <t@localhost> 1700000000 +0000\n\nwords\n"
    argv = [
        "git",
        "-C",
        str(repo.folder),
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--stdin",
        "--literally",
    ]
    made = subprocess.run(argv, input=text.encode(), check=True, capture_output=True)
    commit = made.stdout.decode().strip()
    repo.git("update-ref", "refs/heads/main", commit)
    git.ensure(repo.url, commit, {})

    with pytest.raises(Stalled, match="author or date"):
        git.commit_info(repo.url, commit)
    Project.objects.create(name="permits", spec={"sourceRepos": ["*"]})
    assert may_read("permits", repo.url)
    assert subject_of("permits", repo.url, commit) == ""
