"""`/api/webhook`: every host wakes what it names, and only with its own signature."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import config_map
from django.utils import timezone

from hub.base.concurrency import Rate, Rates
from hub.engine.project_restrictions import normal_url
from hub.events.queue import use_pool
from projects.api import webhooks
from projects.models import Application, GitRemote

SECRET = "hook-secret"


def sign(data):
    return hmac.new(SECRET.encode(), data, hashlib.sha256).hexdigest()


def bodies(url):
    commit = "f" * 40
    like_github = {"ref": "refs/heads/main", "after": commit, "repository": {"clone_url": url}}
    return {
        "github": (like_github, {"X-GitHub-Event": "push"}),
        "gitea": (
            like_github,
            {"X-Gitea-Event": "push", "X-GitHub-Event": "push", "X-Gogs-Event": "push"},
        ),
        "gogs": (like_github, {"X-Gogs-Event": "push"}),
        "gitlab": (
            {
                "object_kind": "push",
                "ref": "refs/heads/main",
                "after": commit,
                "project": {"git_http_url": url},
            },
            {"X-Gitlab-Event": "Push Hook"},
        ),
        "bitbucket": (
            {
                "repository": {"full_name": "a/b", "links": {"html": {"href": url}}},
                "push": {"changes": [{"new": {"name": "main", "type": "branch"}}]},
            },
            {"X-Hook-UUID": "{u-1}", "X-Event-Key": "repo:push"},
        ),
        "bitbucket-server": (
            {
                "repository": {"links": {"clone": [{"href": url}]}},
                "changes": [{"refId": "refs/heads/main", "toHash": commit}],
            },
            {"X-Event-Key": "repo:refs_changed"},
        ),
        "azure": (
            {
                "eventType": "git.push",
                "resource": {
                    "repository": {"remoteUrl": url},
                    "refUpdates": [{"name": "refs/heads/main", "newObjectId": commit}],
                },
            },
            {"X-Vss-Activityid": "1"},
        ),
    }


def signed(host, data):
    return {
        "github": {"X-Hub-Signature-256": f"sha256={sign(data)}"},
        "gitea": {"X-Gitea-Signature": sign(data)},
        "gogs": {"X-Gogs-Signature": sign(data)},
        "gitlab": {"X-Gitlab-Token": SECRET},
        "bitbucket": {},
        "bitbucket-server": {"X-Hub-Signature": f"sha256={sign(data)}"},
        "harbor": {"Authorization": SECRET},
        "registry": {"Authorization": SECRET},
        "azure": {"Authorization": "Basic " + base64.b64encode(f"hook:{SECRET}".encode()).decode()},
    }[host]


@pytest.fixture
def secrets(settings):
    for name in (
        "GITHUB_SECRET",
        "GITLAB_SECRET",
        "GITEA_SECRET",
        "BITBUCKET_SERVER_SECRET",
        "AZURE_PASSWORD",
        "HARBOR_SECRET",
        "REGISTRY_SECRET",
    ):
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
        answer = idle_hub.client.post(
            "/api/webhook", data, content_type="application/json", headers={**headers, **more}
        )
        remote.refresh_from_db()
        return answer.status_code, remote.due_at <= timezone.now()

    assert send(signed(host, data)) == (200, True)
    wrong = {
        k: ("Basic eA==" if k == "Authorization" else "sha256=00" if "Signature" in k else "wrong")
        for k in signed(host, data)
    } or {"X-Hook-UUID": "{other}"}
    assert send(wrong) == (400, False)
    if host != "bitbucket":
        assert send({}) == (400, False), "without a signature nothing is taken"


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@ssh.git.example:443/acme/web.git",
        "ssh://git@altssh.git.example:443/acme/web",
        "deploy@git.example:Acme/Web.git",
        "https://git.example:8443/acme/web",
        "https://someone@git.example/Acme/web.git",
    ],
)
def test_a_push_finds_a_repository_by_any_of_its_urls(idle_hub, heard, secrets, url):
    remote = GitRemote.objects.create(
        url=normal_url(url), due_at=timezone.now() + timedelta(hours=1)
    )
    other = GitRemote.objects.create(url="https://git.example/acme/website", due_at=remote.due_at)
    body, headers = bodies("https://git.example/acme/web")["github"]
    data = json.dumps(body).encode()

    more = {**headers, **signed("github", data)}
    answer = idle_hub.client.post(
        "/api/webhook", data, content_type="application/json", headers=more
    )

    assert answer.status_code == 200
    due = dict(GitRemote.objects.values_list("pk", "due_at"))
    assert due[remote.pk] <= timezone.now() < due[other.pk]
    told = [str(task) for task in heard.tasks if "appsets.pushed" in str(task)]
    assert len(told) == 1 and "'git.example/acme/web'" in told[0]


PAYLOADS = sorted((Path(__file__).parents[1] / "support" / "payloads").glob("*.json"))
SIGNERS = {
    "azure-registry-push": "registry",
    "distribution-push": "registry",
    "bitbucket-server": "bitbucket-server",
}


def host_of(name):
    return next(
        (host for start, host in SIGNERS.items() if name.startswith(start)), name.partition("-")[0]
    )


class Heard:
    """Stands for the workers: keeps what they are woken for."""

    def __init__(self):
        self.tasks, self.priorities = [], []

    def put(self, name, args, priority):
        self.tasks.append((name, *args))
        self.priorities.append(priority)


@pytest.fixture
def heard(idle_hub):
    found = Heard()
    use_pool(found)
    yield found
    use_pool(None)


@pytest.mark.parametrize("file", PAYLOADS, ids=lambda f: f.stem)
def test_what_each_host_really_sends(idle_hub, heard, secrets, file):
    given = json.loads(file.read_text())
    expected, data, later = (
        given["expect"],
        json.dumps(given["body"]).encode(),
        timezone.now() + timedelta(hours=1),
    )
    remote = GitRemote.objects.create(
        url=normal_url(expected["push"]) if "push" in expected else "https://x", due_at=later
    )
    other = GitRemote.objects.create(url="https://elsewhere.example/acme/web", due_at=later)
    source = {
        "repoURL": f"oci://{expected.get('image', 'none.example/x')}",
        "path": ".",
        "targetRevision": expected.get("tag", "1.0.0"),
    }
    artifact = Application.objects.create(
        name="oci",
        project="default",
        spec={
            "project": "default",
            "source": source,
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
        },
    )

    def send(signature):
        return idle_hub.client.post(
            "/api/webhook",
            data,
            content_type="application/json",
            headers={**given["headers"], **signature},
        )

    signature = signed(host_of(file.stem), data)
    forged = send(dict.fromkeys(signature, "wrong") or {"X-Hook-UUID": "{other}"})
    assert forged.status_code == (401 if "package" in file.stem else 400) and heard.tasks == []
    assert send(signature).status_code == 200

    remote.refresh_from_db()
    other.refresh_from_db()
    artifact.refresh_from_db()
    assert (remote.due_at < later) == ("push" in expected) and other.due_at == later
    assert (artifact.refresh_kind == "normal") == ("image" in expected)
    names = {t[0] for t in heard.tasks}
    if "pulls" in expected:
        assert ("appsets.pulls_changed", (expected["pulls"],)) in heard.tasks
    if "push" in expected:
        assert ("projects.poll", remote.pk) in heard.tasks
    if "image" in expected:
        assert ("projects.refresh", artifact.pk) in heard.tasks
    if "nothing" in expected:
        assert names == set()


def chart(name, **source):
    spec = {
        "project": "default",
        "source": source,
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
    }
    return Application.objects.create(name=name, project="default", spec=spec)


def test_a_new_chart_wakes_whom_its_version_concerns(idle_hub, heard, secrets):
    base = {"repoURL": "harbor.acme.example/charts", "chart": "web"}
    hit = [
        chart("range", **base, targetRevision="2.x"),
        chart("exact", **base, targetRevision="2.0.1"),
        chart("any", repoURL="oci://Harbor.acme.example/charts/web", path=".", targetRevision=""),
    ]
    miss = [
        chart("older", **base, targetRevision="1.x"),
        chart("other", **{**base, "chart": "webshop"}, targetRevision="2.x"),
        chart(
            "elsewhere", **{**base, "repoURL": "harbor.other.example/charts"}, targetRevision="2.x"
        ),
        chart(
            "git", repoURL="https://harbor.acme.example/charts/web", path=".", targetRevision="2.x"
        ),
    ]
    given = json.loads(next(f for f in PAYLOADS if f.stem == "harbor-push").read_text())
    answer = idle_hub.client.post(
        "/api/webhook",
        json.dumps(given["body"]),
        content_type="application/json",
        headers={"Authorization": SECRET},
    )
    assert answer.status_code == 200
    assert {a.name for a in Application.objects.filter(refresh_kind="normal")} == {
        a.name for a in hit
    }
    assert len(miss) == 4


def test_registries_are_not_believed_without_a_secret(idle_hub, settings):
    for name, word in (
        ("harbor-push", "HUB_WEBHOOK_HARBOR_SECRET"),
        ("distribution-push", "HUB_WEBHOOK_REGISTRY_SECRET"),
    ):
        body = json.loads(next(f for f in PAYLOADS if f.stem == name).read_text())["body"]
        answer = idle_hub.client.post(
            "/api/webhook", json.dumps(body), content_type="application/json"
        )
        assert answer.status_code == 400 and word in answer.json()["message"]


def test_what_is_no_event(idle_hub):
    for headers, data in (
        ({}, b"{}"),
        ({"X-GitHub-Event": "push"}, b"not json"),
        ({"X-GitHub-Event": "push"}, b"[]"),
        ({"X-GitHub-Event": "push"}, b'{"repository": 1}'),
        ({"X-GitHub-Event": "star"}, b"{}"),
        ({"X-Event-Key": "repo:refs_changed"}, b"{}"),
        ({"X-Vss-Activityid": "1"}, b"{}"),
        ({"X-GitHub-Event": "push"}, b'{"a": 1, "a": 2}'),
        ({"X-GitHub-Event": "push"}, b'{"a":' * 300 + b"1" + b"}" * 300),
    ):
        answer = idle_hub.client.post(
            "/api/webhook", data, content_type="application/json", headers=headers
        )
        assert answer.status_code == 400, (headers, data)
        assert answer.json()["message"]
        assert (
            b'"a"' not in data
            or "twice" in answer.json()["message"]
            or "deeper" in answer.json()["message"]
        )
    assert idle_hub.client.get("/api/webhook").status_code == 405


def test_a_new_application_of_a_commit_that_the_hub_has_not_seen(
    hub, sandbox, repo, app, namespace
):
    repo.commit({"old/c.yaml": config_map("old")})
    app(repo, sandbox, namespace, name="first", path="old")
    hub.wait_status("first", "OutOfSync")
    commit = repo.commit({"new/c.yaml": config_map("new")})
    app(repo, sandbox, namespace, name="second", path="new")
    hub.wait_status("second", "OutOfSync", revision=commit, seconds=10)
    assert Application.objects.get(name="second").conditions == []


KNOWN = ("refs/heads/main", "f" * 40)


def moved(host, changes):
    """Return an event of a host with so many changes that the hub knows, and then others."""
    url = "https://git.example/acme/web"
    said = {
        "bitbucket": lambda ref, commit: {
            "new": {"name": ref.rpartition("/")[2], "type": "branch", "target": {"hash": commit}}
        },
        "bitbucket-server": lambda ref, commit: {"refId": ref, "toHash": commit},
        "azure": lambda ref, commit: {"name": ref, "newObjectId": commit},
    }[host]
    body, headers = bodies(url)[host]
    listed = [said(*change) if change else {} for change in changes]
    if host == "azure":
        body["resource"]["refUpdates"] = listed
    elif host == "bitbucket":
        body["push"]["changes"] = listed
    else:
        body["changes"] = listed
    return body, headers


@pytest.mark.parametrize("host", ["bitbucket", "bitbucket-server", "azure"])
@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        pytest.param([KNOWN], False, id="known"),
        pytest.param([KNOWN, ("refs/heads/x", "e" * 40)], True, id="one is new"),
        pytest.param([None] * 50_000, True, id="flood"),
        pytest.param([KNOWN] * 1500, True, id="too many to look at"),
    ],
)
def test_an_event_of_many_branches_is_one_lookup(
    idle_hub, heard, django_assert_max_num_queries, host, changes, asked
):
    later = timezone.now() + timedelta(hours=1)
    remote = GitRemote.objects.create(
        url="https://git.example/acme/web", due_at=later, refs=dict([KNOWN])
    )
    body, headers = moved(host, changes)
    with django_assert_max_num_queries(12):
        answer = idle_hub.client.post(
            "/api/webhook", json.dumps(body), content_type="application/json", headers=headers
        )
    assert answer.status_code == 200
    remote.refresh_from_db()
    assert (remote.due_at < later) == asked
    assert sum(task[0] == "appsets.pushed" for task in heard.tasks) == 1


OF_REFRESH = 5
"""The priority of refreshes; those of the sweep have 6."""


@pytest.fixture
def fresh_rates(monkeypatch):
    monkeypatch.setattr(webhooks, "_UNPROVED", Rate(300, 0.0))
    monkeypatch.setattr(webhooks, "_UNPROVED_OF_ADDRESS", Rates(60, 0.0))


def send(hub, body, headers, address="192.0.2.1"):
    data = json.dumps(body)
    return hub.client.post(
        "/api/webhook",
        data,
        content_type="application/json",
        headers=headers,
        REMOTE_ADDR=address,
    ).status_code


@pytest.mark.parametrize("is_signed", [False, True], ids=["nobody signed", "signed"])
def test_what_nobody_signed_waits_for_what_the_hub_has_to_do(
    idle_hub, heard, fresh_rates, settings, is_signed
):
    """Two requests a second, each naming twenty repositories, held all refreshes and syncs."""
    GitRemote.objects.create(url="https://git.example/acme/web")
    settings.WEBHOOK_GITLAB_SECRET = SECRET if is_signed else ""
    push, headers = bodies("https://git.example/acme/web")["gitlab"]
    pulls = {"object_kind": "merge_request", "project": {"path_with_namespace": "acme/web"}}

    for body in (push, pulls):
        assert send(idle_hub, body, {**headers, "X-Gitlab-Token": SECRET}) == 200

    names = [task[0] for task in heard.tasks]
    assert names == ["appsets.pushed", "projects.poll", "appsets.pulls_changed"]
    assert all((priority < OF_REFRESH) == is_signed for priority in heard.priorities)
    assert all(priority <= 2 or priority > OF_REFRESH + 1 for priority in heard.priorities)


def test_what_nobody_signed_asks_no_server_that_fails(idle_hub, heard, fresh_rates, settings):
    """It would take the time that a server does not answer again and again."""
    url, later = "https://git.example/acme/web", timezone.now() + timedelta(minutes=5)
    remote = GitRemote.objects.create(url=url, error="it does not answer", due_at=later)
    body, headers = bodies(url)["gitlab"]

    assert send(idle_hub, body, headers) == 200
    remote.refresh_from_db()
    assert remote.due_at == later and ("projects.poll", remote.pk) not in heard.tasks

    settings.WEBHOOK_GITLAB_SECRET = SECRET
    assert send(idle_hub, body, {**headers, "X-Gitlab-Token": SECRET}) == 200
    remote.refresh_from_db()
    assert remote.due_at < later and ("projects.poll", remote.pk) in heard.tasks


def test_unsigned_events_are_limited(idle_hub, heard, fresh_rates, settings):
    body, headers = bodies("https://git.example/acme/web")["gitlab"]

    answers = [send(idle_hub, body, headers) for _ in range(65)]

    assert answers == [200] * 60 + [429] * 5
    assert send(idle_hub, body, headers, "192.0.2.2") == 200
    settings.WEBHOOK_GITLAB_SECRET = SECRET
    assert send(idle_hub, body, {**headers, "X-Gitlab-Token": SECRET}) == 200
