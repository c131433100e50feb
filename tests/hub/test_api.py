"""The REST surface: who may call, what goes in and out, and how it refuses."""

import json

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client
from django.utils import timezone
from support.streams import collect

from hub.auth.sessions import issue
from hub.engine.errors import Invalid
from hub.models import Account, AuditEvent, LoginFailure, access_changed, change_setting
from hub.rest.views import project_fields, selector
from projects.models import Application, Project

BODY = {
    "metadata": {"name": "a"},
    "spec": {
        "source": {"repoURL": "https://git.example/x", "path": "."},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
    },
}


def spec(**changes):
    return {**BODY, "spec": {**BODY["spec"], **changes}}


def test_sign_in_and_out(idle_hub):
    token = idle_hub.post(
        "/api/v1/session", {"username": "admin", "password": "correct horse"}, token=""
    )["token"]
    assert idle_hub.get("/api/v1/session/userinfo", token=token) == {
        "loggedIn": True,
        "username": "admin",
        "iss": "argocd",
    }
    assert idle_hub.get("/api/v1/session/userinfo", token="") == {"loggedIn": False}
    cookie = Client()
    cookie.cookies["argocd.token"] = token
    assert cookie.get("/api/v1/applications").status_code == 200
    cookie.cookies["argocd.token"] = f"2:{token[:50]}"
    cookie.cookies["argocd.token-1"] = token[50:]
    assert cookie.get("/api/v1/applications").status_code == 200
    idle_hub.delete("/api/v1/session", token=token)
    assert "revoked" in idle_hub.get("/api/v1/applications", token=token, status=401)["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "no credentials supplied"),
        ({"username": "admin"}, "no credentials supplied"),
        ({"username": "admin", "password": "wrong"}, "Invalid username or password"),
        ({"username": "nobody", "password": "x"}, "Invalid username or password"),
        ({"username": "admin", "password": ["x"]}, "no credentials supplied"),
        ({"token": "x"}, "no longer supported"),
    ],
)
def test_sign_in_refused(idle_hub, body, words):
    assert words in idle_hub.post("/api/v1/session", body, token="", status=401)["message"]
    assert AuditEvent.objects.filter(outcome="refused", verb="login").exists() == (
        "Invalid" in words
    )


def test_guessing_is_stopped_across_restarts(idle_hub):
    for _ in range(5):
        idle_hub.post(
            "/api/v1/session", {"username": "admin", "password": "wrong"}, token="", status=401
        )
    for n in range(50):
        LoginFailure.objects.create(name=f"other{n}", count=1)
    refused = idle_hub.post(
        "/api/v1/session", {"username": "admin", "password": "correct horse"}, token="", status=401
    )
    assert refused["message"] == "Invalid username or password"
    LoginFailure.objects.filter(name__in=["account:admin", "address:127.0.0.1"]).update(
        last_at=timezone.now() - timezone.timedelta(seconds=301)
    )
    assert idle_hub.post(
        "/api/v1/session", {"username": "admin", "password": "correct horse"}, token=""
    )["token"]


def test_a_password_change_ends_all_sessions(idle_hub):
    assert (
        "does not match"
        in idle_hub.put(
            "/api/v1/account/password",
            {"currentPassword": "x", "newPassword": "long enough"},
            status=400,
        )["message"]
    )
    assert (
        "does not match the following expression"
        in idle_hub.put(
            "/api/v1/account/password",
            {"currentPassword": "correct horse", "newPassword": "x"},
            status=400,
        )["message"]
    )
    idle_hub.put(
        "/api/v1/account/password",
        {"currentPassword": "correct horse", "newPassword": "long enough"},
    )
    idle_hub.get("/api/v1/applications", status=401)
    assert idle_hub.post(
        "/api/v1/session", {"username": "admin", "password": "long enough"}, token=""
    )


@pytest.fixture
def stranger(idle_hub):
    account = Account.objects.create(
        name="stranger", password=make_password("x"), capabilities=["login"]
    )
    return issue(account, timezone.now())


def test_absent_and_forbidden_applications_look_the_same(idle_hub, stranger):
    Application.objects.create(name="there", project="default", spec=BODY["spec"])
    absent = idle_hub.get("/api/v1/applications/nope", token=stranger, status=403)
    idle_hub.get("/api/v1/applications/nope", status=403)
    forbidden = idle_hub.get("/api/v1/applications/there", token=stranger, status=403)
    assert absent["message"].startswith("permission denied")
    assert forbidden["message"].startswith("permission denied")
    assert idle_hub.get("/api/v1/applications/nope", project="default", status=404)["code"] == 5
    assert idle_hub.get("/api/v1/applications/there", project="other", status=404)["code"] == 5


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_forged_forms_are_refused(idle_hub, kind):
    for method, path in (
        ("POST", "/api/v1/applications"),
        ("DELETE", "/api/v1/applications/a"),
        ("POST", "/api/v1/session"),
    ):
        answer = idle_hub.client.generic(
            method,
            path,
            data="{}",
            content_type=kind,
            headers={"Authorization": f"Bearer {idle_hub.token}"},
        )
        assert answer.status_code == 415
        assert answer.json()["message"] == "Invalid content type: send application/json"


def test_headers_on_every_answer(idle_hub):
    for path in ("/healthz", "/api/version", "/api/v1/applications", "/api/v1/nope", "/nope"):
        answer = idle_hub.client.get(path)
        assert "frame-ancestors" in answer["Content-Security-Policy"]
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["X-Frame-Options"] == "sameorigin"


def test_the_start_page(idle_hub):
    page = idle_hub.client.get("/")
    assert "flotilla login http://testserver" in page.content.decode()
    assert "<script" not in page.content.decode()
    assert idle_hub.client.get("/static/start.css").status_code == 200
    for path in (
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2f..%2fetc/passwd",
    ):
        assert idle_hub.client.get(path).status_code == 404


def test_metrics_may_ask_for_a_token(idle_hub, settings):
    assert "flotilla_applications" in idle_hub.client.get("/metrics").content.decode()
    assert idle_hub.client.get("/metrics", REMOTE_ADDR="10.1.2.3").status_code == 401
    settings.METRICS_TOKEN = "t"
    assert idle_hub.client.get("/metrics").status_code == 401
    assert idle_hub.client.get("/metrics", headers={"Authorization": "Bearer t"}).status_code == 200


@pytest.mark.parametrize("wanted", ["", "t"], ids=["this machine", "the token"])
def test_an_account_with_the_right_reads_metrics(idle_hub, settings, wanted):
    settings.METRICS_TOKEN = wanted
    scraper = Account.objects.create(name="scraper", password="!", capabilities=["login"])
    bearer = {"Authorization": f"Bearer {issue(scraper, timezone.now())}"}

    def status():
        return idle_hub.client.get("/metrics", headers=bearer, REMOTE_ADDR="10.1.2.3").status_code

    assert status() == 401
    line = "p, scraper, settings, get, metrics, allow"
    idle_hub.put("/api/v1/flotilla/rbac", {"data": {"policy.csv": line}})
    assert status() == 200
    Account.objects.filter(pk=scraper.pk).update(enabled=False)
    assert status() == 401


def test_strangers_learn_only_the_version(idle_hub):
    assert idle_hub.get("/api/version", token="") == {"Version": "v0.1.0"}
    assert "HelmVersion" in idle_hub.get("/api/version")
    assert "passwordPattern" not in idle_hub.get("/api/v1/settings", token="")
    assert idle_hub.get("/api/v1/nope", status=404)["code"] == 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param([], "must be a JSON object", id="list"),
        pytest.param({}, "metadata is required", id="empty"),
        pytest.param({"metadata": {}}, "metadata.name is required", id="no name"),
        pytest.param({"metadata": {"name": "A_b"}}, "metadata.name", id="bad name"),
        pytest.param({**BODY, "kind": "Pod"}, "kind must be Application", id="kind"),
        pytest.param({**BODY, "spec": 5}, "spec must be an object", id="spec"),
        pytest.param(
            spec(source={"repoURL": "https://git.example/x"}),
            "spec.source.path or spec.source.chart are required",
            id="no path",
        ),
        pytest.param(
            spec(source={"repoURL": "https://git.example/x", "path": "/abs"}),
            "app path is absolute",
            id="absolute path",
        ),
        pytest.param(
            spec(source={"repoURL": "https://git.example/x", "path": "../.."}),
            "leads out",
            id="path outside",
        ),
        pytest.param(
            spec(source={"repoURL": "https://git.example/x", "path": ".", "targetRevision": 1.5}),
            "put it in quotes",
            id="number as revision",
        ),
        pytest.param(spec(source={"repoURL": "ext::sh", "path": "."}), "repoURL", id="hostile URL"),
        pytest.param(
            spec(
                source={
                    "repoURL": "https://git.example/x",
                    "path": ".",
                    "helm": {"a": 1},
                    "kustomize": {"b": 1},
                }
            ),
            "multiple application sources defined: Helm,Kustomize",
            id="two tools",
        ),
        pytest.param(
            spec(source={"repoURL": "https://c.example", "chart": "x"}),
            "targetRevision is required",
            id="chart without version",
        ),
        pytest.param(
            spec(destination={"namespace": "x"}), "server or name is required", id="no destination"
        ),
        pytest.param(
            spec(destination={"server": "https://a", "name": "b"}),
            "can't have both name and server",
            id="two destinations",
        ),
        pytest.param(
            spec(destination={"server": "https://unknown", "namespace": "x"}),
            "Unable to get cluster",
            id="unknown cluster",
        ),
        pytest.param(
            spec(project="nope"), "project nope which does not exist", id="unknown project"
        ),
        pytest.param(
            spec(syncPolicy={"automated": True}),
            "syncPolicy.automated must be an object",
            id="automated",
        ),
        pytest.param(
            spec(syncPolicy={"automated": {"prune": "yes"}}),
            "automated.prune must be true or false",
            id="prune",
        ),
        pytest.param(spec(syncPolicy={"syncOptions": ["Prune=maybe"]}), "Prune takes", id="option"),
        pytest.param(
            spec(syncPolicy={"retry": {"backoff": {"duration": "soon"}}}),
            "retry.backoff.duration",
            id="duration",
        ),
        pytest.param(
            spec(ignoreDifferences=[{"group": "x"}]),
            "ignoreDifferences[0].kind is required",
            id="ignore without kind",
        ),
        pytest.param(
            spec(ignoreDifferences=["x"]),
            "ignoreDifferences[0] must be an object",
            id="ignore text",
        ),
        pytest.param(spec(revisionHistoryLimit=-1), "revisionHistoryLimit", id="history"),
        pytest.param(
            {**BODY, "metadata": {"name": "a", "labels": {"x": 1}}}, "metadata.labels", id="labels"
        ),
    ],
)
def test_bad_applications(idle_hub, body, words):
    refused = idle_hub.post("/api/v1/applications", body, status=400)
    assert words in refused["message"]
    assert refused["error"] == refused["message"]
    assert (refused["code"], refused["details"]) == (3, [])
    assert not Application.objects.exists()


def test_bodies_that_are_no_json(idle_hub):
    for data in (b"{", b"\xff\xfe", b"nul"):
        answer = idle_hub.client.generic(
            "POST",
            "/api/v1/applications",
            data=data,
            content_type="application/json",
            headers={"Authorization": f"Bearer {idle_hub.token}"},
        )
        assert answer.status_code == 400
        assert "not valid JSON" in answer.json()["message"]


def test_create_is_idempotent_and_upsert_merges(idle_hub):
    first = idle_hub.post(
        "/api/v1/applications", {**BODY, "metadata": {"name": "a", "labels": {"x": "1"}}}
    )
    assert first["spec"]["project"] == "default"
    again = idle_hub.post(
        "/api/v1/applications", {**BODY, "metadata": {"name": "a", "labels": {"x": "1"}}}
    )
    assert again["metadata"]["uid"] == first["metadata"]["uid"]
    changed = {**spec(revisionHistoryLimit=3), "metadata": {"name": "a", "labels": {"y": "2"}}}
    assert (
        "use upsert flag" in idle_hub.post("/api/v1/applications", changed, status=400)["message"]
    )
    merged = idle_hub.post("/api/v1/applications", changed, upsert="true")
    assert merged["metadata"]["labels"] == {"x": "1", "y": "2"}
    replaced = idle_hub.put("/api/v1/applications/a", changed)
    assert replaced["metadata"]["labels"] == {"y": "2"}
    assert AuditEvent.objects.filter(object="argocd/a").count() == 3


def test_an_operation_in_the_body_starts_nothing(idle_hub):
    created = idle_hub.post(
        "/api/v1/applications", {**BODY, "operation": {"sync": {"manifests": ["x"]}}}
    )
    assert "operation" not in created
    assert Application.objects.get().operation is None


def test_put_patch_and_spec(idle_hub):
    created = idle_hub.post("/api/v1/applications", BODY)
    assert (
        "path says 'a'"
        in idle_hub.put("/api/v1/applications/a", {**BODY, "metadata": {"name": "b"}}, status=400)[
            "message"
        ]
    )
    stale = {**BODY, "metadata": {"name": "a", "resourceVersion": "0"}}
    assert (
        "was changed since"
        in idle_hub.put(
            "/api/v1/applications/a",
            {**stale, "metadata": {"name": "a", "resourceVersion": "9999"}},
            status=409,
        )["message"]
    )
    merged = idle_hub.call(
        "PATCH",
        "/api/v1/applications/a",
        {"patch": json.dumps({"metadata": {"labels": {"a": "b"}}}), "patchType": "merge"},
    )
    assert merged["metadata"]["labels"] == {"a": "b"}
    patched = idle_hub.call(
        "PATCH",
        "/api/v1/applications/a",
        {
            "patch": json.dumps([{"op": "replace", "path": "/spec/source/path", "value": "x"}]),
            "patchType": "json",
        },
    )
    assert patched["spec"]["source"]["path"] == "x"
    for bad in (
        {"patch": "{"},
        {"patch": "[1]", "patchType": "merge"},
        {"patch": "{}", "patchType": "odd"},
        {"patch": '[{"op":"remove","path":"/nope"}]'},
        {},
    ):
        idle_hub.call("PATCH", "/api/v1/applications/a", bad, status=400)
    assert (
        idle_hub.put("/api/v1/applications/a/spec", {**BODY["spec"], "revisionHistoryLimit": 2})[
            "revisionHistoryLimit"
        ]
        == 2
    )
    assert int(idle_hub.application("a")["metadata"]["resourceVersion"]) > int(
        created["metadata"]["resourceVersion"]
    )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"cascade": "maybe"}, "cascade must be true or false"),
        ({"propagationPolicy": "odd"}, "invalid propagation policy: odd"),
        ({"cascade": "false", "propagationPolicy": "foreground"}, "when cascading is disabled"),
    ],
)
def test_bad_deletions(idle_hub, query, words):
    idle_hub.post("/api/v1/applications", BODY)
    assert words in idle_hub.delete("/api/v1/applications/a", status=400, **query)["message"]
    assert Application.objects.get().deletion_requested_at is None


def test_lists_filters_and_fields(idle_hub):
    for name, team in (("a", "x"), ("b", "y"), ("c", "x")):
        idle_hub.post(
            "/api/v1/applications", {**BODY, "metadata": {"name": name, "labels": {"team": team}}}
        )

    def names(**query):
        return [
            a["metadata"]["name"] for a in idle_hub.get("/api/v1/applications", **query)["items"]
        ]

    assert names() == ["a", "b", "c"]
    assert names(name="b") == ["b"]
    assert names(selector="team=x") == ["a", "c"]
    assert names(selector="team in (y, z)") == ["b"]
    assert names(selector="team!=x") == ["b"]
    assert names(repo="https://git.example/x.git") == ["a", "b", "c"]
    assert names(repo="https://git.example/other") == []
    assert names(projects=["default"]) == ["a", "b", "c"]
    assert names(project="other") == []
    assert (
        "cannot be read"
        in idle_hub.get("/api/v1/applications", selector="a b c", status=400)["message"]
    )
    fields = idle_hub.get(
        "/api/v1/applications",
        fields="items.metadata.name,items.status.sync.status,items.status.health",
    )
    assert fields == {
        "items": [
            {
                "metadata": {"name": n},
                "status": {"sync": {"status": "Unknown"}, "health": {"status": "Unknown"}},
            }
            for n in "abc"
        ]
    }
    only = idle_hub.get(
        "/api/v1/applications", fields="items.spec.source.path,metadata.resourceVersion"
    )
    assert only["items"][0] == {"spec": {"source": {"path": "."}}}
    assert "spec" not in idle_hub.get("/api/v1/applications", fields="-items.spec")["items"][0]


def test_list_query_count(idle_hub, django_assert_max_num_queries):
    for n in range(12):
        idle_hub.post("/api/v1/applications", {**BODY, "metadata": {"name": f"a{n}"}})
    access_changed("policy", "rbac", {})
    idle_hub.get("/api/v1/clusters")
    with django_assert_max_num_queries(8):
        idle_hub.get("/api/v1/applications")
    with django_assert_max_num_queries(5):
        idle_hub.get("/api/v1/applications", fields="items.metadata.name,items.status.sync.status")


def test_field_masks():
    data = {"a": {"b": 1, "c": [{"d": 1, "e": 2}]}, "f": 3}
    assert project_fields(data, "") == data
    assert project_fields(data, "a.c.d") == {"a": {"c": [{"d": 1}]}}
    assert project_fields(data, "a,a.b") == {"a": data["a"]}
    assert project_fields(data, "-a.c.d,f") == {"a": {"b": 1, "c": [{"e": 2}]}}
    assert project_fields(data, "nope.x") == {}


def test_selectors():
    assert selector("a,!b,c notin (x)")({"a": "", "c": "y"})
    assert not selector("a==1")({"a": "2"})
    assert not selector("!a")({"a": "2"})
    with pytest.raises(Invalid):
        selector("a in x")


def test_projects(idle_hub):
    project = {
        "metadata": {"name": "team"},
        "spec": {
            "sourceRepos": ["https://git.example/*"],
            "destinations": [{"server": "*", "namespace": "team-*"}],
        },
    }
    idle_hub.post("/api/v1/projects", {"project": project})
    assert [p["metadata"]["name"] for p in idle_hub.get("/api/v1/projects")["items"]] == [
        "default",
        "team",
    ]
    refused = idle_hub.post("/api/v1/applications", spec(project="team"), status=400)
    assert "do not match any of the allowed destinations in project 'team'" in refused["message"]
    refused = idle_hub.post(
        "/api/v1/applications",
        spec(project="team", source={"repoURL": "https://other.example/x", "path": "."}),
        status=400,
        validate="false",
    )
    assert "not permitted in project 'team'" in refused["message"]
    different = {**project, "spec": {**project["spec"], "description": "x"}}
    assert (
        "upsert" in idle_hub.post("/api/v1/projects", {"project": different}, status=400)["message"]
    )
    assert (
        idle_hub.put("/api/v1/projects/team", {"project": different})["spec"]["description"] == "x"
    )
    assert idle_hub.get("/api/v1/projects/team/detailed")["repositories"] == []
    idle_hub.post("/api/v1/applications", BODY)
    assert "reserved" in idle_hub.delete("/api/v1/projects/default", status=400)["message"]
    Application.objects.update(project="team")
    assert (
        "referenced by 1 applications"
        in idle_hub.delete("/api/v1/projects/team", status=400)["message"]
    )
    Application.objects.all().delete()
    idle_hub.delete("/api/v1/projects/team")
    idle_hub.get("/api/v1/projects/team", status=403)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sourceRepos": "x"}, "spec.sourceRepos must be a list"),
        ({"sourceRepos": ["a", "a"]}, "already added"),
        ({"sourceRepos": ["!*"]}, "denies everything"),
        ({"destinations": [{"server": "a"}, {"server": "a"}]}, "already added"),
        ({"destinations": ["x"]}, "must be an object"),
        ({"clusterResourceWhitelist": ["x"]}, "clusterResourceWhitelist[0]"),
        ({"description": "x" * 300}, "255"),
        ({"flotilla": {"deletion": {"maxPercent": -1}}}, "maxPercent"),
        ({"sourceNamespaces": [1]}, "sourceNamespaces[0]"),
    ],
)
def test_bad_projects(idle_hub, changes, words):
    assert (
        words
        in idle_hub.post(
            "/api/v1/projects",
            {"project": {"metadata": {"name": "p"}, "spec": changes}},
            status=400,
        )["message"]
    )


def test_repositories_hide_their_credentials(idle_hub, repo):
    repo.commit(
        {
            "a.txt": "x",
            "chart/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n",
            "chart/values.yaml": "a: 1\n",
            "k/kustomization.yaml": "",
        }
    )
    repo.git("tag", "v1")
    body = {
        "repo": repo.url,
        "username": "git",
        "password": "canary-1",
        "sshPrivateKey": "canary-2",
        "tlsClientCertKey": "canary-3",
    }
    shown = [
        idle_hub.post("/api/v1/repositories", body, credsOnly="true"),
        idle_hub.get("/api/v1/repositories"),
        idle_hub.get(f"/api/v1/repositories/{repo.url.replace('/', '%2F')}"),
    ]
    shown.append(
        idle_hub.post("/api/v1/repocreds", {"url": "https://git.example/", "password": "canary-4"})
    )
    shown += [idle_hub.get("/api/v1/repocreds"), idle_hub.get("/api/v1/projects/default/detailed")]
    assert "canary" not in json.dumps(shown)
    assert "canary" not in json.dumps([e.detail for e in AuditEvent.objects.all()])
    where = f"/api/v1/repositories/{repo.url}"
    assert (
        "upsert"
        in idle_hub.post(
            "/api/v1/repositories", {**body, "password": "other"}, status=400, credsOnly="true"
        )["message"]
    )
    idle_hub.put(where, {"repo": repo.url})
    assert idle_hub.get(f"{where}/refs") == {"branches": ["main"], "tags": ["v1"]}
    assert idle_hub.get(f"{where}/apps")["items"] == [
        {"path": "chart", "type": "Helm"},
        {"path": "k", "type": "Kustomize"},
    ]
    details = idle_hub.post(
        f"{where}/appdetails", {"source": {"repoURL": repo.url, "path": "chart"}}
    )
    assert details == {"type": "Helm", "helm": {"valueFiles": ["values.yaml"], "values": "a: 1\n"}}
    assert (
        "leads out"
        in idle_hub.post(f"{where}/appdetails", {"source": {"path": "../.."}}, status=400)[
            "message"
        ]
    )
    idle_hub.delete(where)
    idle_hub.get(where, status=403)
    assert (
        "not a repository URL"
        in idle_hub.post("/api/v1/repositories", {"repo": "javascript:alert(1)//"}, status=400)[
            "message"
        ]
    )


def test_credentials_in_a_url_stay_out_of_errors(idle_hub, git_server):
    refused = idle_hub.post(
        "/api/v1/repositories",
        {"repo": f"http://user:canary@127.0.0.1:{git_server._server.server_address[1]}/nope"},
        status=400,
    )
    assert "canary" not in json.dumps(refused)


def test_known_hosts(idle_hub):
    import base64

    key = base64.b64encode(b"key-material").decode()
    idle_hub.post(
        "/api/v1/certificates",
        {
            "items": [
                {
                    "serverName": "git.example",
                    "certType": "ssh",
                    "certSubType": "ssh-ed25519",
                    "certData": base64.b64encode(key.encode()).decode(),
                }
            ]
        },
    )
    [item] = idle_hub.get("/api/v1/certificates")["items"]
    assert item["certInfo"].startswith("SHA256:")
    assert (
        "certType"
        in idle_hub.post("/api/v1/certificates", {"items": [{"certType": "ftp"}]}, status=400)[
            "message"
        ]
    )
    idle_hub.delete("/api/v1/certificates", hostNamePattern="git.example")
    assert idle_hub.get("/api/v1/certificates")["items"] == []


HEADER = {"X-GitHub-Event": "push"}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"repository": None},
        {"repository": 5},
        {"repository": {"html_url": 5}},
        [],
        "x",
        None,
        {"repository": {"clone_url": None}},
    ],
)
def test_malformed_webhooks(idle_hub, payload):
    assert (
        idle_hub.client.post(
            "/api/webhook", json.dumps(payload), content_type="application/json", headers=HEADER
        ).status_code
        == 400
    )


def test_webhooks(idle_hub, settings):
    client = idle_hub.client
    push = json.dumps(
        {"ref": "refs/heads/main", "repository": {"html_url": "https://git.example/x"}}
    )
    assert client.get("/api/webhook").status_code == 405
    assert client.post("/api/webhook", push, content_type="application/json").status_code == 400
    assert (
        client.post(
            "/api/webhook", push, content_type="application/json", headers=HEADER
        ).status_code
        == 200
    )
    assert (
        client.post(
            "/api/webhook",
            "{}",
            content_type="application/json",
            headers={"X-GitHub-Event": "ping"},
        ).status_code
        == 200
    )
    settings.MAX_WEBHOOK_BYTES = 10
    assert (
        client.post(
            "/api/webhook", push, content_type="application/json", headers=HEADER
        ).status_code
        == 413
    )
    settings.MAX_WEBHOOK_BYTES = 10_000
    settings.WEBHOOK_GITHUB_SECRET = "s"
    assert (
        client.post(
            "/api/webhook", push, content_type="application/json", headers=HEADER
        ).status_code
        == 400
    )
    import hashlib
    import hmac

    signed = "sha256=" + hmac.new(b"s", push.encode(), hashlib.sha256).hexdigest()
    assert (
        client.post(
            "/api/webhook",
            push,
            content_type="application/json",
            headers={**HEADER, "X-Hub-Signature-256": signed},
        ).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("health", {"a": 5}, "group/Kind"),
        ("health", {"a": "return {"}, "health[a]: script"),
        ("actions", {"a": {"definitions": [{}]}}, "name is required"),
        ("actions", {"a": {"discovery.lua": "nope nope"}}, "discovery.lua"),
        ("ignore_differences", [{"group": "x"}], "kind is required"),
        ("ignore_differences", [{"kind": "X", "jqPathExpressions": ["$ENV"]}], "not available"),
        ("compare_options", {"ignoreResourceStatusField": "x"}, "all, crd or none"),
        ("resource_filters", {"exclusions": ["x"]}, "must have the lists"),
    ],
)
def test_bad_settings(idle_hub, name, value, words):
    assert (
        words
        in idle_hub.put(f"/api/v1/flotilla/settings/{name}", {"value": value}, status=400)[
            "message"
        ]
    )


def test_settings(idle_hub):
    assert idle_hub.get("/api/v1/flotilla/settings/health")["value"] == {}
    idle_hub.put(
        "/api/v1/flotilla/settings/compare_options", {"value": {"ignoreAggregatedRoles": True}}
    )
    assert idle_hub.get("/api/v1/flotilla/settings/compare_options")["value"] == {
        "ignoreAggregatedRoles": True
    }
    assert (
        "there are health" in idle_hub.get("/api/v1/flotilla/settings/nope", status=404)["message"]
    )
    assert (
        "value is required"
        in idle_hub.put("/api/v1/flotilla/settings/health", {}, status=400)["message"]
    )
    assert AuditEvent.objects.filter(verb="update", kind="setting").count() == 1


def test_the_application_stream(idle_hub):
    idle_hub.post("/api/v1/applications", BODY)

    def change():
        idle_hub.put("/api/v1/applications/a/spec", {**BODY["spec"], "revisionHistoryLimit": 2})

    first, second = [
        json.loads(x) for x in collect(idle_hub, "/api/v1/stream/applications", 2, (1, change))
    ]
    assert (first["result"]["type"], second["result"]["type"]) == ("ADDED", "MODIFIED")
    version = second["result"]["application"]["metadata"]["resourceVersion"]

    def make():
        idle_hub.post("/api/v1/applications", {**BODY, "metadata": {"name": "b"}})

    [resumed] = [
        json.loads(x)
        for x in collect(
            idle_hub,
            (
                f"/api/v1/stream/applications?resourceVersion={version}&fields=result.type,"
                "result.application.metadata.name"
            ),
            1,
            (0, make),
        )
    ]
    assert resumed == {"result": {"type": "ADDED", "application": {"metadata": {"name": "b"}}}}
    events = collect(
        idle_hub, "/api/v1/stream/applications?name=a", 1, (9, None), accept="text/event-stream"
    )
    assert events[0].startswith(b"data: {")


def test_a_stream_ends_with_its_session(idle_hub):
    def revoke():
        Account.objects.update(enabled=False)
        from hub.events import changes as hub_changes

        for listener in list(hub_changes._listeners):
            listener()

    idle_hub.post("/api/v1/applications", BODY)
    with pytest.raises(StopAsyncIteration):
        collect(idle_hub, "/api/v1/stream/applications", 2, (1, revoke))


def test_openapi_is_served(idle_hub):
    assert (
        "/api/v1/applications"
        in idle_hub.client.get(
            "/api/schema", headers={"Accept": "application/vnd.oai.openapi+json"}
        ).content.decode()
    )


def test_pages_of_applications(idle_hub):
    Project.objects.update_or_create(name="team", defaults={"spec": {"sourceRepos": ["*"]}})
    spec = {
        "project": "team",
        "source": {"repoURL": "https://git.example/x"},
        "destination": {"name": "in-cluster"},
    }
    for number in range(7):
        Application.objects.create(
            name=f"a{number}", project="team", spec=spec, labels={"odd": str(number % 2)}
        )
    Application.objects.create(name="a3", namespace="other", project="team", spec=spec)
    whole = [
        (i["metadata"]["namespace"], i["metadata"]["name"])
        for i in idle_hub.get("/api/v1/applications")["items"]
    ]

    def pages(**query):
        found, after = [], ""
        while True:
            answer = idle_hub.get(
                "/api/v1/applications", **query, **({"continue": after} if after else {})
            )
            assert len(answer["items"]) <= query["limit"]
            found += [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in answer["items"]]
            after = answer["metadata"].get("continue", "")
            if not after:
                return found

    assert pages(limit=3) == whole and pages(limit=1) == whole and pages(limit=100) == whole
    assert [n for _, n in pages(limit=2, selector="odd=1")] == ["a1", "a3", "a5"]
    assert [
        n
        for _, n in pages(
            limit=2, fields="items.metadata.name,items.metadata.namespace,metadata.continue"
        )
    ] == [n for _, n in whole]
    for bad in ({"limit": -1}, {"limit": "x"}, {"continue": "%%"}, {"continue": "W10"}):
        idle_hub.get("/api/v1/applications", **bad, status=400)


def test_many_at_once_with_an_answer_for_each(idle_hub):
    Project.objects.update_or_create(name="team", defaults={"spec": {"sourceRepos": ["*"]}})
    spec = {
        "project": "team",
        "source": {"repoURL": "https://git.example/x"},
        "destination": {"name": "in-cluster"},
    }
    for name in ("a", "b"):
        Application.objects.create(name=name, project="team", spec=spec, labels={"team": name})
    where = "/api/v1/flotilla/applications/batch"
    found = idle_hub.post(
        where, {"action": "refresh", "applications": ["a", "argocd/b", "absent"]}
    )["items"]
    assert [(i["name"], i["ok"]) for i in found] == [("a", True), ("b", True), ("absent", False)]
    assert found[2]["code"] == 7 and "permission denied" in found[2]["message"]
    assert Application.objects.exclude(refresh_kind="").count() == 2
    found = idle_hub.post(
        where, {"action": "delete", "selector": "team=a", "options": {"cascade": False}}
    )["items"]
    assert [i["name"] for i in found] == ["a"]
    assert list(
        Application.objects.filter(deletion_requested_at=None).values_list("name", flat=True)
    ) == ["b"]
    change_setting(
        "rbac",
        {
            "policy.csv": (
                "p, dev, applications, get, team/*, allow\n"
                "p, dev, applications, sync, team/none, allow"
            )
        },
    )
    access_changed("policy", "rbac", None)
    token = issue(
        Account.objects.create(name="dev", password="!", capabilities=["login"]), timezone.now()
    )
    for action in ("sync", "delete"):
        found = idle_hub.post(where, {"action": action, "applications": ["b"]}, token=token)[
            "items"
        ]
        assert (found[0]["ok"], found[0]["code"]) == (False, 7)
    for bad in (
        {},
        {"action": "burn", "applications": []},
        {"action": "sync"},
        {"action": "sync", "applications": [1]},
        {"action": "sync", "selector": ""},
        {"action": "sync", "applications": ["a"], "options": [1]},
    ):
        idle_hub.post(where, bad, status=400)


def test_what_did_not_change_is_not_sent_again(idle_hub, client):
    headers = {"Authorization": f"Bearer {idle_hub.token}"}
    first = client.get("/api/v1/projects", headers=headers)
    assert first.status_code == 200 and first["ETag"]
    again = client.get("/api/v1/projects", headers={**headers, "If-None-Match": first["ETag"]})
    assert again.status_code == 304 and again.content == b""
    Project.objects.create(name="more", spec={})
    fresh = client.get("/api/v1/projects", headers={**headers, "If-None-Match": first["ETag"]})
    assert fresh.status_code == 200 and b"more" in fresh.content
    # Who may not see it is told nothing by an old tag.
    assert (
        client.get("/api/v1/projects", headers={"If-None-Match": first["ETag"]}).status_code == 401
    )
