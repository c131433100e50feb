"""`/api/webhook`: every host wakes what it names, and only with its own signature."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta

import pytest
from conftest import config_map
from django.utils import timezone

from projects.models import Application, GitRemote

SECRET = "hook-secret"


def sign(data):
    return hmac.new(SECRET.encode(), data, hashlib.sha256).hexdigest()


def bodies(url):
    commit = "f" * 40
    like_github = {"ref": "refs/heads/main", "after": commit, "repository": {"clone_url": url}}
    return {
        "github": (like_github, {"X-GitHub-Event": "push"}), "gitea": (like_github, {"X-Gitea-Event": "push", "X-GitHub-Event": "push", "X-Gogs-Event": "push"}),
        "gogs": (like_github, {"X-Gogs-Event": "push"}),
        "gitlab": ({"object_kind": "push", "ref": "refs/heads/main", "after": commit, "project": {"git_http_url": url}}, {"X-Gitlab-Event": "Push Hook"}),
        "bitbucket": ({"repository": {"full_name": "a/b", "links": {"html": {"href": url}}}, "push": {"changes": [{"new": {"name": "main", "type": "branch"}}]}}, {"X-Hook-UUID": "{u-1}", "X-Event-Key": "repo:push"}),
        "bitbucket-server": ({"repository": {"links": {"clone": [{"href": url}]}}, "changes": [{"refId": "refs/heads/main", "toHash": commit}]}, {"X-Event-Key": "repo:refs_changed"}),
        "azure": ({"eventType": "git.push", "resource": {"repository": {"remoteUrl": url}, "refUpdates": [{"name": "refs/heads/main", "newObjectId": commit}]}}, {"X-Vss-Activityid": "1"}),
    }  # fmt: skip


def signed(host, data):
    return {
        "github": {"X-Hub-Signature-256": f"sha256={sign(data)}"}, "gitea": {"X-Gitea-Signature": sign(data)}, "gogs": {"X-Gogs-Signature": sign(data)},
        "gitlab": {"X-Gitlab-Token": SECRET}, "bitbucket": {}, "bitbucket-server": {"X-Hub-Signature": f"sha256={sign(data)}"},
        "azure": {"Authorization": "Basic " + base64.b64encode(f"hook:{SECRET}".encode()).decode()},
    }[host]  # fmt: skip


@pytest.fixture
def secrets(settings):
    for name in ("GITHUB_SECRET", "GITLAB_SECRET", "GITEA_SECRET", "BITBUCKET_SERVER_SECRET", "AZURE_PASSWORD"):  # fmt: skip
        setattr(settings, f"WEBHOOK_{name}", SECRET)
    settings.WEBHOOK_AZURE_USERNAME, settings.WEBHOOK_BITBUCKET_UUID = "hook", "{u-1}"


HOSTS = ["github", "gitea", "gogs", "gitlab", "bitbucket", "bitbucket-server", "azure"]


@pytest.mark.parametrize("host", HOSTS)
def test_each_host_wakes_its_repository(idle_hub, secrets, host):
    url = "https://git.example/acme/web.git"
    remote = GitRemote.objects.create(url="https://git.example/acme/web")
    later = timezone.now() + timedelta(hours=1)
    body, headers = bodies(url)[host]
    data = json.dumps(body).encode()

    def send(more):
        GitRemote.objects.update(due_at=later)
        answer = idle_hub.client.post("/api/webhook", data, content_type="application/json", headers={**headers, **more})  # fmt: skip
        remote.refresh_from_db()
        return answer.status_code, remote.due_at <= timezone.now()

    assert send(signed(host, data)) == (200, True)
    wrong = {k: ("Basic eA==" if k == "Authorization" else "sha256=00" if "Signature" in k else "wrong") for k in signed(host, data)} or {"X-Hook-UUID": "{other}"}  # fmt: skip
    assert send(wrong) == (400, False)
    if host != "bitbucket":
        assert send({}) == (400, False), "without a signature nothing is taken"


def test_what_is_no_event(idle_hub):
    for headers, data in (
        ({}, b"{}"), ({"X-GitHub-Event": "push"}, b"not json"), ({"X-GitHub-Event": "push"}, b"[]"), ({"X-GitHub-Event": "push"}, b'{"repository": 1}'),
        ({"X-GitHub-Event": "star"}, b"{}"), ({"X-Event-Key": "repo:refs_changed"}, b"{}"), ({"X-Vss-Activityid": "1"}, b"{}"),
    ):  # fmt: skip
        answer = idle_hub.client.post("/api/webhook", data, content_type="application/json", headers=headers)  # fmt: skip
        assert answer.status_code == 400, (headers, data)
        assert answer.json()["message"]
    assert idle_hub.client.get("/api/webhook").status_code == 405


def test_a_new_application_of_a_commit_that_the_hub_has_not_seen(hub, sandbox, repo, app, namespace):  # fmt: skip
    repo.commit({"old/c.yaml": config_map("old")})
    app(repo, sandbox, namespace, name="first", path="old")
    hub.wait_status("first", "OutOfSync")
    commit = repo.commit({"new/c.yaml": config_map("new")})
    app(repo, sandbox, namespace, name="second", path="new")
    hub.wait_status("second", "OutOfSync", revision=commit, seconds=10)
    assert Application.objects.get(name="second").conditions == []
