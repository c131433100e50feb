"""A repository that one project may read: what the hub has of it already is not given to
another.
"""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.utils import timezone
from support.gitserver import GitServer
from support.gitserver import Repository as GitRepository
from support.proxy import Proxy

from hub.engine.errors import RetryLater, Stalled
from projects.models import Application, GitRemote, Repository
from projects.refreshing.triggers import poll_remote, push_received
from projects.sources import git_remotes
from projects.sources.credentials import credentials_for
from projects.sources.remote_inputs import git_files

KEY = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1'}\n"
AUTO = {"automated": {}}


@pytest.fixture
def teams(hub, repo):
    """Two projects that permit everything, of which `mine` has the credentials of a private
    repository.
    """
    git_remotes.forget()
    for name in ("mine", "theirs"):
        spec = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
        hub.post("/api/v1/projects", {"project": {"metadata": {"name": name}, "spec": spec}})
    repo.server.password = "canary"
    credentials = {"repo": repo.url, "username": "git", "password": "canary", "project": "mine"}
    hub.post("/api/v1/repositories", credentials)
    return repo


@pytest.mark.django_db
def test_repositories_that_differ_in_case_are_two(git_server):
    git_remotes.forget()
    lower, upper = (GitRepository(git_server, f"{name}/app") for name in ("cased", "Cased"))
    commits = [r.commit({"a": r.url}) for r in (lower, upper)]

    for repository, commit in zip((lower, upper), commits, strict=True):
        found = git_remotes.current_refs(repository.url, "", force=True)
        assert found.refs["refs/heads/main"] == commit
        assert git_files(repository.url, commit, "", None).blob("a").decode() == repository.url
    assert {r.url for r in GitRemote.objects.all()} == {lower.url, upper.url}
    with pytest.raises(Stalled):
        git_files(upper.url, commits[0], "", None)
    # Hosts without case name a repository in events as they like.
    assert push_received([upper.url.upper()], []) == 2


@pytest.mark.django_db
def test_credentials_are_those_of_the_very_repository_first():
    for url, user in (("https://h/team/app", "lower"), ("https://h/Team/app", "upper")):
        Repository.objects.create(url=url, credentials={"username": user})

    found = {u: credentials_for(f"https://H/{u}/app.git")["username"] for u in ("team", "Team")}

    assert found == {"team": "lower", "Team": "upper"}
    assert credentials_for("https://h/TEAM/app")["username"] in ("lower", "upper")


def refused(hub, name):
    condition = hub.condition(name, "ComparisonError")
    status = hub.application(name)["status"]
    assert "credentials" in condition["message"]
    assert not status.get("resources") and status["sync"]["status"] == "Unknown"


@pytest.mark.parametrize("order", [["mine", "theirs"], ["theirs", "mine"]], ids="-".join)
def test_the_copy_of_a_private_repository_is_for_those_who_may_read_it(
    hub, sandbox, teams, app, namespace, order
):
    commit = teams.commit({"c.yaml": CONFIG})
    names = {
        p: app(teams, sandbox, f"{namespace}-{p}", project=p, policy=AUTO, validate=p == "mine")
        for p in order
    }
    hub.wait_status(names["mine"], "Synced", "Healthy")
    source = {"targetRevision": commit}
    pinned = app(teams, sandbox, namespace, project="theirs", source=source, validate=False)

    refused(hub, names["theirs"])
    refused(hub, pinned)
    for path, query in (
        (f"/api/v1/applications/{pinned}/revisions/{commit}/metadata", {}),
        (f"/api/v1/applications/{pinned}/manifests", {"revision": commit}),
        (f"/api/v1/repositories/{teams.url}/refs", {"appProject": "theirs"}),
        (f"/api/v1/repositories/{teams.url}/apps", {"appProject": "theirs", "revision": commit}),
    ):
        answer = hub.get(path, status=None, **query)
        assert answer.get("code"), path
        assert "credentials" in answer["message"], path
    refs = hub.get(f"/api/v1/repositories/{teams.url}/refs", appProject="mine")
    assert refs["branches"] == ["main"]

    # Whoever else fails to read it: those who may follow it as before.
    newer = teams.commit({"c.yaml": CONFIG.replace("'1'", "'2'")})
    GitRemote.objects.update(due_at=timezone.now())
    hub.wait_status(names["mine"], "Synced", "Healthy", newer)
    assert GitRemote.objects.get().error == ""

    own = {"repo": teams.url, "username": "git", "password": "canary", "project": "theirs"}
    hub.post("/api/v1/repositories", own)
    hub.wait_status(names["theirs"], "Synced", seconds=60)


def test_a_server_that_is_away_takes_nothing_from_those_it_let_in(
    hub, sandbox, teams, app, namespace
):
    commit = teams.commit({"c.yaml": CONFIG})
    name = app(
        teams, sandbox, namespace, project="mine", policy=AUTO, source={"targetRevision": commit}
    )
    hub.wait_status(name, "Synced", "Healthy")
    row = GitRemote.objects.get()
    [(who, entry)] = row.readers.items()
    assert "canary" not in str(row.readers)
    entry["at"] = (timezone.now() - timedelta(hours=2)).isoformat()
    GitRemote.objects.update(readers={who: entry})
    git_remotes.forget()
    teams.server.down = True

    sandbox.patch("", "ConfigMap", namespace, "c", {"data": {"a": "2"}})

    hub.wait_status(name, "OutOfSync")


def test_credentials_that_are_taken_back_read_no_more(hub, sandbox, teams, app, namespace):
    commit = teams.commit({"c.yaml": CONFIG})
    name = app(teams, sandbox, namespace, project="mine", source={"targetRevision": commit})
    hub.wait_status(name, "OutOfSync")
    teams.server.password = "another"
    for row in GitRemote.objects.all():
        old = {w: {"at": (timezone.now() - timedelta(hours=2)).isoformat()} for w in row.readers}
        GitRemote.objects.filter(pk=row.pk).update(readers=old)
    git_remotes.forget()

    Application.objects.filter(name=name).update(refresh_at=timezone.now(), comparison_digest="")

    refused_now = hub.condition(name, "ComparisonError")
    assert "credentials" in refused_now["message"]


@pytest.fixture
def liar(repo, tmp_path):
    """A proxy of one project that answers for the server of the private repository with another
    one.
    """
    other = GitServer(tmp_path)
    proxy = Proxy(**{"127.0.0.1": other.url})
    yield proxy, other
    proxy.close()
    other.close()


def test_a_projects_own_proxy_affects_no_others_and_proves_nothing(idle_hub, repo, liar):
    proxy, other = liar
    git_remotes.forget()
    commit = repo.commit({"c.yaml": CONFIG})
    planted = GitRepository(other, repo.name).commit({"c.yaml": CONFIG.replace("'1'", "'theirs'")})
    repo.server.password = "canary"
    mine = {"username": "git", "password": "canary"}
    Repository.objects.create(url=repo.url, project="mine", credentials=mine)
    Repository.objects.create(
        url=repo.url, project="theirs", credentials={"username": "x"}, options={"proxy": proxy.url}
    )
    assert git_files(repo.url, commit, "mine", None).blob("c.yaml") == CONFIG.encode()

    asked = timezone.now()
    said = git_remotes.current_refs(repo.url, "theirs", force=True, since=asked)

    assert said.refs["refs/heads/main"] == planted
    assert git_remotes.current_refs(repo.url, "mine").refs["refs/heads/main"] == commit
    with pytest.raises((RetryLater, Stalled)):
        git_files(repo.url, commit, "theirs", None)
    # Through its own proxy the project has what that gives, and others have not.
    assert b"theirs" in git_files(repo.url, planted, "theirs", None).blob("c.yaml")
    with pytest.raises((RetryLater, Stalled)):
        git_files(repo.url, planted, "mine", None)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"username": "x", "password": "wrong"}, id="refused"),
        pytest.param(
            {"githubAppPrivateKey": KEY, "githubAppID": "1", "githubAppInstallationID": "1"},
            id="no token",
        ),
        pytest.param(
            {"tlsClientCertData": "none", "tlsClientCertKey": "none"}, id="no certificate"
        ),
    ],
)
def test_credentials_that_do_not_work_take_nothing_from_other_readers(idle_hub, repo, bad):
    git_remotes.forget()
    commit = repo.commit({"c.yaml": CONFIG})
    repo.server.password = "canary"
    mine = {"username": "git", "password": "canary"}
    Repository.objects.create(url=repo.url, project="mine", credentials=mine)
    base = {"githubAppEnterpriseBaseUrl": "http://127.0.0.1:9"}
    Repository.objects.create(url=repo.url, project="theirs", credentials=bad, options=base)
    git_remotes.current_refs(repo.url, "mine", force=True)
    due = timezone.now()
    GitRemote.objects.update(due_at=due)

    for _ in range(3):
        with pytest.raises((RetryLater, Stalled)):
            git_remotes.current_refs(repo.url, "theirs", force=True)

    row = GitRemote.objects.get()
    assert (row.error, row.failures, row.due_at) == ("", 0, due)
    assert git_remotes.current_refs(repo.url, "mine").refs["refs/heads/main"] == commit


def test_an_application_uses_the_current_connection_of_its_project(idle_hub, repo, liar):
    """A repository that names a proxy may come after the application: the row that it follows
    changes.
    """
    proxy, _ = liar
    git_remotes.forget()
    repo.commit({"c.yaml": CONFIG})
    source = {"repoURL": repo.url, "path": ".", "targetRevision": "main"}
    spec = {
        "project": "default",
        "source": source,
        "destination": {"name": "in-cluster", "namespace": "n"},
    }
    idle_hub.post(
        "/api/v1/applications", {"metadata": {"name": "a"}, "spec": spec}, validate="false"
    )
    application = Application.objects.get(name="a")
    plain = application.remotes.get()
    Repository.objects.create(
        url=repo.url, project="default", credentials={"username": "x"}, options={"proxy": proxy.url}
    )
    git_remotes.forget()
    GitRemote.objects.update(due_at=timezone.now())
    poll_remote(plain.pk)

    followed = application.remotes.get()
    assert followed.pk != plain.pk and followed.url.startswith(plain.url + " ")
    assert push_received([repo.url], []) == 2
